//! Random orders of events, and what must hold in all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fades_task::allowance::Allowances;
use fades_task::coverage::Coverage;
use fades_task::exit::Exit;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::Refused;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::{Duration, Size};
use fades_task::time::{Time, Zone};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use crate::core::{
    Capacity, Change, Core, Effect, Event, Need, Now, PASSED_FOR, Part, Rules, RunId, Task,
    TenderEvent, Tick, Timer, Used,
};
use crate::samples::{ended, mtw_with, name, now};

const PARALLEL: usize = 3;
const MEMORY: u64 = 4 << 20;
const BATCH: u64 = 2 << 20;
/// Processor time of a service whose day is short, us; each run uses 5.
const CPU: u64 = 12;
/// Two runs that retrieve something at a time.
const INPUT: u64 = 9 << 20;

#[derive(Debug, Clone, Copy)]
enum Op {
    Accept(Asked),
    Cancel(usize),
    Tender(usize, Word),
    Retrieved(usize, bool),
    BrokerUp,
    BrokerLost,
    Timer,
    Restart,
    Pass(u64),
}

/// What a task says of itself.
#[derive(Debug, Clone, Copy)]
struct Asked {
    service: u8,
    memory: u64,
    priority: i64,
    /// `finish-within`, ms.
    within: Option<u64>,
    retrieves: bool,
}

/// One service has one run at a time, one little time of the processor.
fn allowances() -> Allowances {
    let text = format!(r#"{{"s0": {{"runs": 1}}, "s1": {{"cpu": "{CPU}us"}}}}"#);
    serde_json::from_str(&text).unwrap()
}

fn asked() -> impl Strategy<Value = Asked> {
    let within = prop_oneof![
        6 => Just(None),
        3 => (1..10_000_000_u64).prop_map(Some),
        1 => Just(Some(20)),
    ];
    let numbers = (1..5_u64, -200..200_i64, within, 0..12_u8);
    numbers.prop_map(|(memory, priority, within, rest)| Asked {
        service: rest / 4,
        memory,
        priority,
        within,
        retrieves: rest % 4 > 0,
    })
}

/// What a tender may do next.
#[derive(Debug, Clone, Copy)]
enum Word {
    Ready,
    Done,
    Panicked,
    Killed,
    NoIsolation,
    NoImage,
    Gone,
}

fn op() -> impl Strategy<Value = Op> {
    let numbers = (0..15_u8, any::<usize>(), 0..7_u8, any::<bool>());
    (numbers, asked()).prop_map(|((op, pick, word, flag), asked)| match op {
        0..=3 if op < 3 || flag => Op::Accept(asked),
        3 => Op::Cancel(pick),
        4..=7 => Op::Tender(
            pick,
            match word {
                0 => Word::Ready,
                1 => Word::Done,
                2 => Word::Panicked,
                3 => Word::Killed,
                4 => Word::NoIsolation,
                5 => Word::NoImage,
                _ => Word::Gone,
            },
        ),
        8..=9 => Op::Retrieved(pick, flag && word == 0),
        10 => Op::BrokerUp,
        11 if flag => Op::BrokerLost,
        11 if word == 0 => Op::Restart,
        12 => Op::Pass(pick as u64 % 3_000),
        _ => Op::Timer,
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Queued(u32),
    Running(u32),
    Final,
}

/// The world around a core: what is stored, what runs, which timers are set.
struct World {
    order: Order,
    core: Core,
    now: Now,
    tasks: Vec<(Task, Stored)>,
    /// Tenders that are not gone: task, isolation, memory, whether they spoke
    /// their last word.
    tenders: BTreeMap<RunId, (Name, Isolation, u64, bool)>,
    retrievals: BTreeSet<RunId>,
    /// What runs take until their tender is gone and their task needs them no
    /// more: task, need, gone, over.
    holds: BTreeMap<RunId, (Name, Need, bool, bool)>,
    /// Tasks that are not to be started before a time.
    paused: BTreeMap<Name, Tick>,
    /// When a task was first passed by a later one.
    passed: BTreeMap<Name, Tick>,
    /// Processor time by day and service, us.
    used: BTreeMap<(Time, Name), u64>,
    timers: BTreeMap<(Tick, usize), Timer>,
    timers_set: usize,
    broker: bool,
    given_up: bool,
    broker_dies: bool,
}

impl World {
    fn new(order: Order) -> Self {
        let mut world = Self {
            order,
            core: World::core(order),
            now: Now {
                time: now(),
                tick: Tick(0),
            },
            tasks: Vec::new(),
            tenders: BTreeMap::new(),
            retrievals: BTreeSet::new(),
            holds: BTreeMap::new(),
            paused: BTreeMap::new(),
            passed: BTreeMap::new(),
            used: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            broker: false,
            given_up: false,
            broker_dies: false,
        };
        world.step(Event::Start);
        world
    }

    fn core(order: Order) -> Core {
        let capacity = Capacity {
            parallel: PARALLEL,
            memory: Size(MEMORY),
            input: Size(INPUT),
            batch: Size(BATCH),
        };
        let rules = Rules {
            capacity,
            order,
            allowances: allowances(),
            grants: crate::samples::grants(),
        };
        Core::new(rules, Zone::default(), None)
    }

    fn task(&self, id: &Name) -> &(Task, Stored) {
        let task = self.tasks.iter().find(|t| t.0.mtw.task.id == *id);
        task.unwrap()
    }

    /// Where a task stands, in plain words of the policy.
    fn place(&self, task: &Task) -> (i128, String, i64) {
        let said = &task.mtw.task;
        let accepted = i128::from(task.accepted.0);
        let hour = 3_600_000_000_000;
        let (number, text) = match self.order.policy {
            Policy::Fifo => (0, String::new()),
            Policy::Priority => {
                let minutes = i128::from(said.priority.clamp(-100, 100));
                (accepted - minutes * 60_000_000_000, String::new())
            }
            Policy::Deadline => {
                let within = said.finish_within.map_or(hour, |d| d.0);
                (accepted + i128::from(within), String::new())
            }
            Policy::Id => (0, said.id.as_str().to_owned()),
        };
        (number, text, task.seq)
    }

    fn need(task: &Task) -> Need {
        let input = if task.mtw.retrieve.is_empty() {
            0
        } else {
            2 * BATCH
        };
        Need {
            memory: task.mtw.function.limits.memory,
            input: Size(input),
        }
    }

    fn day(&self) -> Time {
        Zone::default().day(self.now.time).0
    }

    /// Whether a service may have one more run.
    fn allows(&self, service: &Name) -> bool {
        let used = self.used.get(&(self.day(), service.clone())).copied();
        let runs = self
            .holds
            .values()
            .filter(|h| self.task(&h.0).0.service() == service);
        match service.as_str() {
            "s0" => runs.count() == 0,
            "s1" => used.unwrap_or(0) < CPU,
            _ => true,
        }
    }

    /// A task is started now: nothing before it could have been, and nothing
    /// before it was passed for too long.
    fn check_turn(&mut self, id: &Name) {
        let place = self.place(&self.task(id).0);
        let service = self.task(id).0.service();
        assert!(self.allows(service), "{service} may not have {id} started");
        let used = |of: fn(&Need) -> u64| self.holds.values().map(|h| of(&h.1)).sum::<u64>();
        let (memory, input) = (used(|n| n.memory.0), used(|n| n.input.0));
        let now = self.now.tick;
        let earlier: Vec<Name> = self
            .tasks
            .iter()
            .filter(|(task, stored)| {
                let paused = self
                    .paused
                    .get(&task.mtw.task.id)
                    .is_some_and(|at| *at > now);
                matches!(stored, Stored::Queued(_))
                    && !paused
                    && self.place(task) < place
                    && self.allows(task.service())
            })
            .map(|(task, _)| {
                let need = Self::need(task);
                let fits = memory + need.memory.0 <= MEMORY && input + need.input.0 <= INPUT;
                assert!(!fits, "{id} was started before {}", task.mtw.task.id);
                task.mtw.task.id.clone()
            })
            .collect();
        for earlier in earlier {
            let since = *self.passed.entry(earlier.clone()).or_insert(now);
            assert!(
                now < since.after(PASSED_FOR),
                "{earlier} is passed since {since:?}"
            );
        }
    }

    /// A task needs its run no more.
    fn over(&mut self, id: &Name) {
        for hold in self.holds.values_mut().filter(|h| h.0 == *id) {
            hold.3 = true;
        }
        self.passed.remove(id);
        self.let_go();
    }

    fn let_go(&mut self) {
        self.holds.retain(|_, (_, _, gone, over)| !(*gone && *over));
    }

    fn stored(&mut self, id: &Name) -> &mut Stored {
        let task = self.tasks.iter_mut().find(|t| t.0.mtw.task.id == *id);
        &mut task.unwrap().1
    }

    fn step(&mut self, event: Event) {
        let effects = self.core.step(self.now, event);
        for effect in effects {
            self.check(effect);
        }
        let memory: u64 = self.tenders.values().map(|t| t.2).sum();
        assert!(self.tenders.len() <= PARALLEL, "runs are bounded");
        assert!(memory <= MEMORY, "their memory is bounded");
        let input: u64 = self.holds.values().map(|h| h.1.input.0).sum();
        assert!(input <= INPUT, "room for their input is bounded");
        if self.broker_dies {
            self.lose_broker();
        }
    }

    fn check(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { id, change } => {
                if matches!(change, Change::Queued { .. }) {
                    self.over(&id);
                    self.paused.insert(id.clone(), self.now.tick);
                }
                let stored = self.stored(&id);
                assert_ne!(*stored, Stored::Final, "{id} had ended");
                *stored = match change {
                    Change::Running { attempts, .. } => Stored::Running(attempts),
                    Change::Queued { attempts } => Stored::Queued(attempts),
                };
            }
            Effect::Commit(commit) => {
                let id = &commit.result.id;
                let parts = commit.result.breakdown;
                let finished = commit.result.finished.unwrap();
                let total = (finished.0 - commit.result.accepted.0) as u64 / 1000;
                let sum = parts.queue_us
                    + parts.boot_us
                    + parts.retrieve_us
                    + parts.transfer_us
                    + parts.compute_us;
                assert_eq!(sum, total, "the breakdown adds up");
                assert_eq!(
                    commit.result.failure.is_none(),
                    commit.result.state == fades_task::result::TaskState::Done
                );
                let day = self.day();
                let charge = commit.charge;
                if !charge.used.is_nothing() {
                    assert_eq!(
                        (charge.day, charge.used.cpu.0),
                        (day, commit.result.cpu_us * 1000)
                    );
                    let service = commit.result.service.clone();
                    *self.used.entry((day, service)).or_default() += commit.result.cpu_us;
                }
                self.over(id);
                let stored = self.stored(id);
                assert_ne!(*stored, Stored::Final, "{id} ended twice");
                *stored = Stored::Final;
            }
            Effect::StartTender { run, id, isolation } => {
                assert!(
                    matches!(self.stored(&id), Stored::Running(_)),
                    "{id} was started before that was stored"
                );
                assert!(self.broker, "{id} was started without a broker");
                self.check_turn(&id);
                let need = Self::need(&self.task(&id).0);
                let memory = need.memory.0;
                self.holds.insert(run, (id.clone(), need, false, false));
                assert!(
                    self.tenders
                        .insert(run, (id, isolation, memory, false))
                        .is_none()
                );
            }
            Effect::KillTender { run } => {
                assert!(self.tenders.contains_key(&run), "{run:?} is gone");
            }
            Effect::Retrieve { run } => {
                assert!(self.tenders.contains_key(&run) && self.retrievals.insert(run));
            }
            Effect::CancelRetrieve { run } => {
                assert!(self.retrievals.contains(&run), "{run:?} fetches nothing");
            }
            Effect::SetTimer { at, timer } => {
                if timer == Timer::Retry {
                    // It follows the state that it is about.
                    let newest = self.paused.values_mut().filter(|t| **t == self.now.tick);
                    newest.for_each(|t| *t = at);
                }
                self.timers_set += 1;
                self.timers.insert((at, self.timers_set), timer);
            }
            Effect::Spawn(_)
            | Effect::GoOn { .. }
            | Effect::Return { .. }
            | Effect::Deliver { .. }
            | Effect::Dispatched { .. }
            | Effect::Start(Part::Courier)
            | Effect::Ping(Part::Courier)
            | Effect::Kill(Part::Courier)
            | Effect::GiveUp(Part::Courier)
            | Effect::End(_) => panic!("there is no mail, and no end"),
            Effect::GiveUp(Part::Broker) => {
                assert!(!self.given_up);
                self.given_up = true;
            }
            Effect::Start(Part::Broker) => assert!(!self.broker && !self.given_up),
            Effect::Ping(Part::Broker) => assert!(self.broker),
            Effect::Kill(Part::Broker) => self.broker_dies = true,
        }
    }

    fn lose_broker(&mut self) {
        self.broker = false;
        self.broker_dies = false;
        self.retrievals.clear();
        let reason = "killed".to_owned();
        self.step(Event::Lost {
            part: Part::Broker,
            reason,
        });
    }

    fn act(&mut self, op: Op) {
        self.now.tick = self.now.tick.after(Duration(1_000_000));
        self.now.time = self.now.time.after(Duration(1_000_000));
        match op {
            Op::Accept(asked) => self.accept(asked),
            Op::Pass(ms) => {
                let span = Duration(ms * 1_000_000);
                self.now.tick = self.now.tick.after(span);
                self.now.time = self.now.time.after(span);
                self.step(Event::Pong(Part::Broker));
            }
            Op::Cancel(pick) if !self.tasks.is_empty() => {
                let id = self.tasks[pick % self.tasks.len()].0.mtw.task.id.clone();
                let by = "somebody".to_owned();
                self.step(Event::Cancel { id, by });
            }
            Op::Tender(pick, word) if !self.tenders.is_empty() => {
                let nth = pick % self.tenders.len();
                let run = *self.tenders.keys().nth(nth).unwrap();
                self.say(run, word);
            }
            Op::Retrieved(pick, fails) if !self.retrievals.is_empty() => {
                let nth = pick % self.retrievals.len();
                let run = *self.retrievals.iter().nth(nth).unwrap();
                self.retrieved(run, fails);
            }
            Op::BrokerUp if !self.broker => {
                if std::mem::take(&mut self.given_up) {
                    self.step(Event::Revive);
                }
                // Only one that is being started can come up.
                self.fire(|t| *t == Timer::Restart(Part::Broker));
                self.broker = true;
                self.step(Event::Up(Part::Broker));
            }
            Op::BrokerLost if self.broker => self.lose_broker(),
            Op::Timer => self.fire(|_| true),
            Op::Restart => self.restart(),
            _ => {}
        }
    }

    fn accept(&mut self, asked: Asked) {
        let seq = self.tasks.len() as i64 + 1;
        let id = format!("{}-{seq}", ["c", "a", "b"][seq as usize % 3]);
        let mtw = mtw_with(&id, |t| {
            t["function"]["limits"]["memory"] = format!("{}MiB", asked.memory).into();
            t["task"]["priority"] = asked.priority.into();
            t["task"]["service"] = format!("s{}", asked.service).into();
            if let Some(within) = asked.within {
                t["task"]["finish-within"] = format!("{within}ms").into();
            }
            if !asked.retrieves {
                t["retrieve"] = serde_json::json!([]);
            }
        });
        let task = Task {
            seq,
            mtw: Arc::new(mtw),
            accepted: self.now.time,
            attempts: 0,
            isolations: vec![Isolation::Microvm, Isolation::Process],
            inbox: None,
            parent: None,
            due: None,
            place: crate::core::Place::default(),
        };
        self.tasks.push((task.clone(), Stored::Queued(0)));
        let foreseen = self.core.starts_at_once(self.now, [&*task.mtw].into_iter());
        self.step(Event::Accepted(task));
        let started = *self.stored(&name(&id)) == Stored::Running(1);
        let alone = self
            .tasks
            .iter()
            .filter(|t| matches!(t.1, Stored::Queued(_)))
            .count()
            == 0;
        assert!(started || foreseen == 0, "{id}");
        assert!(!(started && alone) || foreseen == 1, "{id}");
    }

    fn say(&mut self, run: RunId, word: Word) {
        let (_, isolation, _, silent) = self.tenders.get_mut(&run).unwrap();
        let isolation = *isolation;
        let ends = |exit| TenderEvent::Ended {
            ended: Box::new(ended(exit, isolation, 1)),
            blob: vec![1],
        };
        let text = || "why".to_owned();
        let event = match word {
            Word::Gone => {
                self.tenders.remove(&run);
                self.holds.get_mut(&run).unwrap().2 = true;
                self.let_go();
                TenderEvent::Gone { reason: text() }
            }
            _ if *silent => return,
            Word::Ready => TenderEvent::Ready { isolation },
            last => {
                *silent = true;
                match last {
                    Word::Done => ends(Exit::Done),
                    Word::Panicked => ends(Exit::Panicked { message: text() }),
                    Word::Killed => ends(Exit::Killed { reason: text() }),
                    Word::NoIsolation => {
                        TenderEvent::Refused(Refused::Isolation { reason: text() })
                    }
                    _ => TenderEvent::Refused(Refused::Image { reason: text() }),
                }
            }
        };
        self.step(Event::Tender { run, event });
    }

    fn retrieved(&mut self, run: RunId, fails: bool) {
        self.retrievals.remove(&run);
        let failure = fails.then(super::no_room);
        self.step(Event::RetrieveEnded {
            run,
            coverage: vec![Coverage::new(name("pm"))],
            failure,
        });
    }

    /// The next timer of a kind, at its time.
    fn fire(&mut self, which: impl Fn(&Timer) -> bool) {
        let next = self.timers.iter().find(|(_, t)| which(t));
        let Some(key) = next.map(|(key, _)| *key) else {
            return;
        };
        let timer = self.timers.remove(&key).unwrap();
        if key.0 > self.now.tick {
            let ahead = Duration((key.0.0 - self.now.tick.0) as u64);
            self.now.tick = self.now.tick.after(ahead);
            self.now.time = self.now.time.after(ahead);
        }
        if self.core.awaits(&timer) {
            return self.step(Event::Timer(timer));
        }
        // The driver may have dropped it: nothing but what was due may follow.
        for effect in self.core.step(self.now, Event::Timer(timer)) {
            let starts = matches!(
                effect,
                Effect::Persist { .. } | Effect::StartTender { .. } | Effect::Retrieve { .. }
            );
            assert!(starts, "{effect:?}");
            self.check(effect);
        }
    }

    /// The node dies and comes back: only what was stored is left.
    fn restart(&mut self) {
        self.core = World::core(self.order);
        self.tenders.clear();
        self.holds.clear();
        self.paused.clear();
        self.passed.clear();
        self.retrievals.clear();
        self.timers.clear();
        self.broker = false;
        self.given_up = false;
        self.broker_dies = false;
        let day = self.day();
        let today = self.used.iter().filter(|((of, _), _)| *of == day);
        let today = today.map(|((_, service), us)| {
            let used = Used {
                cpu: Duration(us * 1000),
                bytes: Size(0),
            };
            (service.clone(), used)
        });
        self.core.recall(self.now, today.collect::<Vec<_>>());
        self.step(Event::Start);
        let open: Vec<Task> = self
            .tasks
            .iter()
            .filter_map(|(task, stored)| match stored {
                Stored::Queued(attempts) | Stored::Running(attempts) => Some(Task {
                    attempts: *attempts,
                    ..task.clone()
                }),
                Stored::Final => None,
            })
            .collect();
        for task in open {
            self.step(Event::Accepted(task));
        }
    }

    /// Everything works from now on.
    fn finish(&mut self) {
        for _ in 0..2000 {
            if !self.broker {
                self.act(Op::BrokerUp);
            }
            let runs: Vec<RunId> = self.tenders.keys().copied().collect();
            for run in runs {
                self.say(run, Word::Done);
                self.say(run, Word::Gone);
            }
            let retrievals: Vec<RunId> = self.retrievals.iter().copied().collect();
            for run in retrievals {
                self.retrieved(run, false);
            }
            if self.tasks.iter().all(|t| t.1 == Stored::Final) && self.core.running() == 0 {
                return;
            }
            self.fire(|t| {
                !matches!(
                    t,
                    Timer::PartPing(Part::Broker, _) | Timer::PartReady(Part::Broker, _)
                )
            });
        }
        panic!("some tasks never end: {:?}", self.tasks);
    }
}

proptest! {
    #[test]
    fn whatever_happens_every_accepted_task_ends_exactly_once(
        policy in prop::sample::select(&[Policy::Fifo, Policy::Priority, Policy::Deadline, Policy::Id][..]),
        ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut world = World::new(Order { policy, ..Order::default() });
        for op in ops {
            world.act(op);
        }
        world.finish();
    }
}
