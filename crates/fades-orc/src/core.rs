//! Decides everything and does nothing.
//!
//! [`Core::step`] takes what happened and says what shall be done, in order.
//! It reads no clock, file or socket. A state is in an effect before anything
//! that builds on it, so that a driver that performs the effects strictly in
//! order can die between any two and lose nothing.
//!
//! ```text
//!              Accepted            slot, memory, broker up
//!  (submitted) ────────▶ queued ─────────────────────────▶ running
//!                         ▲  │                              │   │
//!                         │  │ cancel, finish-within        │   │ answer, failure,
//!                         │  └──────────────┐               │   │ cancel, finish-within
//!                         │                 ▼               │   ▼
//!                         │         failed, cancelled       │  done, failed, cancelled
//!                         └─────────────────────────────────┘
//!                           a part of the node died: again, at most ATTEMPTS_MAX times
//! ```
//! A *run* is one attempt. It keeps its slot and its memory until its tender
//! is gone, also after its task has ended.

mod broker;
mod outcome;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::{Ended, Refused};
use fades_task::mtw::Mtw;
use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, RetrievalFailure, TaskResult};
use fades_task::time::Time;

use self::broker::Broker;
use self::outcome::Outcome;
use self::run::{Run, Settled};

/// A task is started at most as often as this.
pub const ATTEMPTS_MAX: u32 = 5;

/// A tender has `limits.time` and this long to end a function itself.
pub const STUCK_GRACE: Duration = Duration::from_secs(10);

/// A tender has `limits.time` and this long until its function asks for data.
pub const START_GRACE: Duration = Duration::from_secs(30);

/// A broker has this long to end a retrieval that nobody needs any more.
pub const RETRIEVE_GRACE: Duration = Duration::from_secs(10);

/// A tender has this long to leave after its last message.
pub const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// Pause before the second attempt of a task; doubled for each further one.
pub const RETRY_PAUSE: Duration = Duration(50_000_000);

/// A point of a monotonic clock, nanoseconds; may be before the clock's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub i64);

impl Tick {
    /// `self + d`.
    #[must_use]
    pub const fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(d.0))
    }

    /// Microseconds from `earlier` to here; 0 when it is later.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0) / 1000
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What people and tasks mean by time; may be set back.
    pub time: Time,
    /// What waiting is measured by.
    pub tick: Tick,
}

/// Number of a run, unique in the life of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// A task as the core needs it.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// What was signed.
    pub mtw: Arc<Mtw>,
    /// When it was accepted.
    pub accepted: Time,
    /// How often it was started already.
    pub attempts: u32,
    /// Isolations that it accepts and this node has, strongest first.
    pub isolations: Vec<Isolation>,
}

impl Task {
    fn id(&self) -> &Name {
        &self.mtw.task.id
    }

    fn memory(&self) -> u64 {
        self.mtw.function.limits.memory.0
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The node is ready to begin.
    Start,
    /// A task was stored, just now or in an earlier life of the node.
    Accepted(Task),
    /// Somebody wants a task to end.
    Cancel {
        /// The task.
        id: Name,
        /// Who asks.
        by: String,
    },
    /// A tender has something to say.
    Tender {
        /// Its run.
        run: RunId,
        /// What.
        event: TenderEvent,
    },
    /// The broker is done with a run.
    RetrieveEnded {
        /// The run.
        run: RunId,
        /// One entry for each DTO, as far as it came.
        coverage: Vec<Coverage>,
        /// Why there is no more, when it failed.
        failure: Option<RetrievalFailure>,
    },
    /// The broker is ready.
    BrokerUp,
    /// The broker answered a ping.
    BrokerPong,
    /// The broker is gone, or could not be started.
    BrokerLost {
        /// How it ended.
        reason: String,
    },
    /// A timer that an effect set.
    Timer(Timer),
    /// End in an orderly way: what runs is queued again.
    Shutdown,
}

/// What a tender has to say.
#[derive(Debug)]
pub enum TenderEvent {
    /// The function asked for its first event.
    Ready {
        /// Isolation in use.
        isolation: Isolation,
    },
    /// The function ended.
    Ended {
        /// How.
        ended: Box<Ended>,
        /// The answer as CBOR, then readings.
        blob: Vec<u8>,
    },
    /// The image could not be run at all.
    Refused(Refused),
    /// The process is gone (or never was); always the last event of a run.
    Gone {
        /// How it ended.
        reason: String,
    },
}

/// Something to be reminded of. A timer that is no longer of interest comes to
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timer {
    /// A task's `finish-within` has passed.
    TooLate(Name),
    /// A task may be tried again.
    Retry,
    /// A run's function should have asked for data.
    Start(RunId),
    /// A run's tender should have ended its function.
    Stuck(RunId),
    /// A run's retrieval should have ended.
    Retrieval(RunId),
    /// A run's tender should have gone.
    Leave(RunId),
    /// The broker may be started again.
    BrokerRestart,
    /// The broker, as it was started the nth time, should have become ready.
    BrokerReady(u32),
    /// The broker, as it was started the nth time, is due for a ping.
    BrokerPing(u32),
}

/// What shall be done. Effects are performed strictly in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Store a state that is not final.
    Persist {
        /// The task.
        id: Name,
        /// Its state.
        change: Change,
    },
    /// Store the one final state, and what belongs to it.
    Commit(Box<Commit>),
    /// Start a tender; its end comes as [`TenderEvent::Gone`] in any case.
    StartTender {
        /// The run.
        run: RunId,
        /// Its task.
        id: Name,
        /// The isolation to use.
        isolation: Isolation,
    },
    /// Kill a tender; [`TenderEvent::Gone`] follows.
    KillTender {
        /// The run.
        run: RunId,
    },
    /// Let the broker fetch for a run whose tender was just started.
    Retrieve {
        /// The run.
        run: RunId,
    },
    /// Let the broker stop fetching.
    CancelRetrieve {
        /// The run.
        run: RunId,
    },
    /// Be reminded.
    SetTimer {
        /// When.
        at: Tick,
        /// Of what.
        timer: Timer,
    },
    /// Start the broker; [`Event::BrokerUp`] or [`Event::BrokerLost`] follow.
    StartBroker,
    /// Ask the broker whether it is there.
    PingBroker,
    /// Kill the broker; [`Event::BrokerLost`] follows.
    KillBroker,
}

/// A state that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A run begins.
    Running {
        /// Which attempt this is, from 1.
        attempts: u32,
        /// When.
        at: Time,
    },
    /// A run ended without an outcome.
    Queued {
        /// Attempts that count.
        attempts: u32,
    },
}

/// A final state, and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The run, when there was one.
    pub run: Option<RunId>,
    /// The result.
    pub result: TaskResult,
    /// The answer as CBOR; empty without one.
    pub answer: Vec<u8>,
    /// Readings in batch layout; empty without any.
    pub readings: Vec<u8>,
}

/// What may run at once.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Most runs.
    pub parallel: usize,
    /// Most memory of all functions together.
    pub memory: Size,
}

#[derive(Debug)]
struct Waiting {
    task: Task,
    /// The same moment as `task.accepted`.
    accepted: Tick,
    not_before: Tick,
    /// Which of the task's isolations is next.
    isolation: usize,
}

/// All tasks that have not ended, and what works on them.
#[derive(Debug)]
pub struct Core {
    capacity: Capacity,
    queue: BTreeMap<i64, Waiting>,
    runs: BTreeMap<RunId, Run>,
    next_run: u64,
    broker: Broker,
    ending: bool,
}

impl Core {
    /// Nothing accepted, nothing started.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            queue: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_run: 1,
            broker: Broker::new(),
            ending: false,
        }
    }

    /// Runs whose tender is not gone yet.
    #[must_use]
    pub fn running(&self) -> usize {
        self.runs.len()
    }

    /// What shall be done now that `event` happened.
    #[must_use]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => effects.extend(self.broker.start(now.tick)),
            Event::Accepted(task) => self.accept(now, task, &mut effects),
            Event::Cancel { id, by } => {
                self.end(now, &id, &Failure::Cancelled { by }, &mut effects);
            }
            Event::Tender { run, event } => self.tender(now, run, event, &mut effects),
            Event::RetrieveEnded {
                run,
                coverage,
                failure,
            } => self.with_run(now, run, &mut effects, |run| {
                run.retrieved(coverage, failure)
            }),
            Event::BrokerUp => effects.extend(self.broker.up(now.tick)),
            Event::BrokerPong => self.broker.pong(),
            Event::BrokerLost { reason } => self.broker_lost(now, &reason, &mut effects),
            Event::Timer(timer) => self.timer(now, timer, &mut effects),
            Event::Shutdown => self.shut_down(&mut effects),
        }
        if !self.ending {
            self.schedule(now, &mut effects);
        }
        effects
    }

    fn accept(&mut self, now: Now, task: Task, effects: &mut Vec<Effect>) {
        let age = now.time.0.saturating_sub(task.accepted.0).max(0);
        let accepted = Tick(now.tick.0.saturating_sub(age));
        let waiting = Waiting {
            accepted,
            not_before: now.tick,
            isolation: 0,
            task,
        };
        if waiting.task.attempts >= ATTEMPTS_MAX {
            let last = "the node ended while the task ran".to_owned();
            let attempts = waiting.task.attempts;
            let failure = Failure::Attempts { attempts, last };
            effects.push(waiting.fail(now, failure));
            return;
        }
        if let Some(within) = waiting.task.mtw.task.finish_within {
            let at = accepted.after(within);
            if at <= now.tick {
                effects.push(waiting.fail(now, Failure::TooLate));
                return;
            }
            let timer = Timer::TooLate(waiting.task.id().clone());
            effects.push(Effect::SetTimer { at, timer });
        }
        self.queue.insert(waiting.task.seq, waiting);
    }

    /// Ends a task from outside, whatever its state.
    fn end(&mut self, now: Now, id: &Name, failure: &Failure, effects: &mut Vec<Effect>) {
        let queued = self.queue.values().find(|w| w.task.id() == id);
        if let Some(seq) = queued.map(|w| w.task.seq) {
            if let Some(waiting) = self.queue.remove(&seq) {
                effects.push(waiting.fail(now, failure.clone()));
            }
            return;
        }
        let running = self.runs.values().find(|r| !r.over && r.task.id() == id);
        if let Some(run) = running.map(|r| r.id) {
            self.with_run(now, run, effects, |_| Settled::Failed(failure.clone()));
        }
    }

    fn tender(&mut self, now: Now, run: RunId, event: TenderEvent, effects: &mut Vec<Effect>) {
        match event {
            TenderEvent::Gone { reason } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.gone = true;
                }
                self.with_run(now, run, effects, |run| run.gone(reason));
                self.runs.retain(|_, run| !(run.gone && run.over));
            }
            TenderEvent::Ready { isolation } => {
                self.with_run(now, run, effects, |run| run.ready(now.tick, isolation))
            }
            TenderEvent::Ended { ended, blob } => {
                self.with_run(now, run, effects, |run| run.ended(ended, blob));
            }
            TenderEvent::Refused(refused) => {
                self.with_run(now, run, effects, |run| run.refused(refused));
            }
        }
    }

    /// Lets a run that is not over change, and does what follows from it.
    fn with_run(
        &mut self,
        now: Now,
        id: RunId,
        effects: &mut Vec<Effect>,
        change: impl FnOnce(&mut Run) -> Settled,
    ) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| !run.over) else {
            return;
        };
        let settled = match change(run) {
            Settled::Not(more) => {
                effects.extend(more.into_iter().map(|m| m.at(now.tick, run)));
                return;
            }
            settled => settled,
        };
        match settled {
            Settled::Not(_) => {}
            Settled::Answered(answer) => {
                effects.push(run.commit(now, Outcome::Answered(answer)));
            }
            Settled::Failed(failure) => {
                effects.push(run.commit(now, Outcome::Failed(failure)));
            }
            Settled::Again { reason } if run.task.attempts >= ATTEMPTS_MAX => {
                let failure = Failure::Attempts {
                    attempts: run.task.attempts,
                    last: reason,
                };
                effects.push(run.commit(now, Outcome::Failed(failure)));
            }
            Settled::Again { .. } => {
                let pause = Duration(RETRY_PAUSE.0 << (run.task.attempts.max(1) - 1));
                let waiting = run.again(now.tick.after(pause), run.isolation_index);
                effects.push(waiting.persist());
                effects.push(Effect::SetTimer {
                    at: waiting.not_before,
                    timer: Timer::Retry,
                });
                self.queue.insert(waiting.task.seq, waiting);
            }
            Settled::NextIsolation => {
                let waiting = run.again(now.tick, run.isolation_index + 1);
                effects.push(waiting.persist());
                self.queue.insert(waiting.task.seq, waiting);
            }
        }
        run.release(now.tick, effects);
        if run.gone {
            self.runs.remove(&id);
        }
    }

    fn broker_lost(&mut self, now: Now, reason: &str, effects: &mut Vec<Effect>) {
        if !self.ending {
            effects.extend(self.broker.lost(now.tick));
        }
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        for id in ids {
            self.with_run(now, id, effects, |run| run.broker_lost(reason));
        }
    }

    fn timer(&mut self, now: Now, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::TooLate(id) => self.end(now, &id, &Failure::TooLate, effects),
            // Scheduling follows every step.
            Timer::Retry => {}
            Timer::Start(run) => self.with_run(now, run, effects, Run::start_overdue),
            Timer::Stuck(run) => self.with_run(now, run, effects, Run::stuck),
            Timer::Retrieval(run) => {
                if self.runs.get(&run).is_some_and(Run::awaits_retrieval) {
                    effects.extend(self.broker.kill());
                    let reason = "the broker did not end the retrieval";
                    self.with_run(now, run, effects, |run| run.broker_lost(reason));
                }
            }
            Timer::Leave(run) => {
                if self.runs.get(&run).is_some_and(|run| !run.gone) {
                    effects.push(Effect::KillTender { run });
                }
            }
            Timer::BrokerRestart if !self.ending => effects.extend(self.broker.start(now.tick)),
            Timer::BrokerReady(start) => effects.extend(self.broker.ready_overdue(start)),
            Timer::BrokerPing(start) => effects.extend(self.broker.ping(start, now.tick)),
            Timer::BrokerRestart => {}
        }
    }

    fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        self.ending = true;
        for run in self.runs.values_mut().filter(|run| !run.over) {
            // An attempt that nothing but the operator ended does not count.
            run.task.attempts -= 1;
            run.over = true;
            effects.push(Effect::Persist {
                id: run.task.id().clone(),
                change: Change::Queued {
                    attempts: run.task.attempts,
                },
            });
        }
        let there = self.runs.values().filter(|run| !run.gone);
        effects.extend(there.map(|run| Effect::KillTender { run: run.id }));
        self.runs.retain(|_, run| !run.gone);
        effects.extend(self.broker.kill());
    }

    /// Starts what can be started: in the order of acceptance, and nothing
    /// overtakes a task that waits for memory.
    fn schedule(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.broker.is_up() && self.runs.len() < self.capacity.parallel {
            let due = self.queue.values().find(|w| w.not_before <= now.tick);
            let used: u64 = self.runs.values().map(|r| r.task.memory()).sum();
            let next =
                due.filter(|w| used.saturating_add(w.task.memory()) <= self.capacity.memory.0);
            let Some(waiting) = next.map(|w| w.task.seq).and_then(|s| self.queue.remove(&s)) else {
                return;
            };
            self.begin(now, waiting, effects);
        }
    }

    fn begin(&mut self, now: Now, mut waiting: Waiting, effects: &mut Vec<Effect>) {
        let Some(&isolation) = waiting.task.isolations.get(waiting.isolation) else {
            let failure = Failure::Isolation {
                accepted: waiting.task.mtw.function.isolation.clone(),
                reason: "this node has none of them any more; see `fades doctor`".to_owned(),
            };
            effects.push(waiting.fail(now, failure));
            return;
        };
        waiting.task.attempts += 1;
        let run = RunId(self.next_run);
        self.next_run += 1;
        let id = waiting.task.id().clone();
        let change = Change::Running {
            attempts: waiting.task.attempts,
            at: now.time,
        };
        let overdue = Duration(
            waiting
                .task
                .mtw
                .function
                .limits
                .time
                .0
                .saturating_add(START_GRACE.0),
        );
        effects.extend([
            Effect::Persist {
                id: id.clone(),
                change,
            },
            Effect::StartTender { run, id, isolation },
            Effect::Retrieve { run },
            Effect::SetTimer {
                at: now.tick.after(overdue),
                timer: Timer::Start(run),
            },
        ]);
        self.runs.insert(run, Run::new(run, waiting, now));
    }
}

#[cfg(test)]
mod tests;
