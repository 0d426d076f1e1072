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
//! is clean again or gone, also after its task has ended.

mod effect;
mod event;
pub mod outbox;
mod outcome;
mod part;
mod queue;
mod quota;
mod resident;
mod room;
mod run;
pub mod standing;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use fades_task::allowance::Allowances;
use fades_task::identity::Name;
use fades_task::mtw::Mtw;
use fades_task::policy::Order;
use fades_task::quantity::Duration;
use fades_task::result::Failure;
use fades_task::time::{Time, Zone};
use fades_trust::grant::{Allowed, Grants};

use crate::api::types::{Scheduling, ServiceUse};

pub use self::effect::{Change, Commit, Effect};
pub use self::event::{Event, Now, Part, Place, RunId, Task, TenderEvent, Tick, Timer};
use self::outbox::{LineReport, Mail, Outbox};
use self::outcome::Outcome;
pub(crate) use self::outcome::over as end_outside;
use self::part::Supervised;
pub use self::part::{DEATHS_MAX, LOOP_WITHIN};
use self::queue::{Fit, Queue};
pub use self::queue::{PASSED_FOR, WINDOW};
use self::quota::Quota;
pub use self::quota::{Charge, OverLimit, Used};
use self::resident::Resting;
use self::room::Room;
pub use self::room::{Capacity, Need};
use self::run::{Rest, Run, Settled};
use self::standing::Standings;

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

#[derive(Debug)]
struct Waiting {
    task: Task,
    /// The same moment as `task.accepted`.
    accepted: Tick,
    not_before: Tick,
    /// Which of the task's isolations is next.
    isolation: usize,
}

/// What an operator decided; may change while tasks wait and run.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What may run at once.
    pub capacity: Capacity,
    /// The order of tasks that wait.
    pub order: Order,
    /// What each service may use.
    pub allowances: Allowances,
    /// What each service may ask for.
    pub grants: Grants,
}

/// All tasks that have not ended, and what works on them.
#[derive(Debug)]
pub struct Core {
    room: Room,
    queue: Queue,
    quota: Quota,
    grants: Grants,
    runs: BTreeMap<RunId, Run>,
    /// Functions that stay and have nothing to do.
    resting: Resting,
    next_run: u64,
    broker: Supervised,
    courier: Supervised,
    outbox: Outbox,
    standings: Standings,
    /// The broker was killed for what a task did that was tried before.
    broker_blamed: bool,
    /// Nothing is started any more.
    draining: bool,
    ending: bool,
}

impl Core {
    /// Nothing accepted, nothing started. `zone`: what a day is. Without `mail`
    /// there is no courier.
    #[must_use]
    pub fn new(rules: Rules, zone: Zone, mail: Option<Mail>) -> Self {
        Self {
            room: Room::new(rules.capacity),
            queue: Queue::new(rules.order),
            quota: Quota::new(rules.allowances, zone),
            grants: rules.grants,
            runs: BTreeMap::new(),
            resting: Resting::new(),
            next_run: 1,
            broker: Supervised::new(Part::Broker),
            courier: Supervised::new(Part::Courier),
            outbox: Outbox::new(mail),
            standings: Standings::default(),
            broker_blamed: false,
            draining: false,
            ending: false,
        }
    }

    /// What a run that is not over may do.
    #[must_use]
    pub fn allowed(&self, run: RunId) -> Option<&Allowed> {
        let run = self.runs.get(&run).filter(|run| !run.over);
        run.map(|run| &run.allowed)
    }

    /// Runs whose tender is neither clean again nor gone.
    #[must_use]
    pub fn running(&self) -> usize {
        self.runs.len()
    }

    /// Runs whose tasks have not ended, and end of themselves.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.runs.values().filter(|run| !run.over).count()
    }

    /// Tasks with a schedule.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.standings.len()
    }

    /// Tasks that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Which task is next, and what services use.
    #[must_use]
    pub fn scheduling(&self) -> Scheduling {
        let mut services = self.quota.services();
        services.extend(self.queue.services().cloned());
        let mut services: Vec<_> = services.into_iter().map(|s| self.service_use(s)).collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let (day, day_ends) = self.day();
        Scheduling {
            order: self.queue.order(),
            day,
            day_ends,
            services,
        }
    }

    fn service_use(&self, service: Name) -> ServiceUse {
        let used = self.quota.used(&service);
        ServiceUse {
            allowance: self.quota.allowance(&service),
            runs: self.quota.runs(&service),
            waiting: self.queue.ready_of(&service),
            cpu: used.cpu,
            bytes: used.bytes,
            spent: self.quota.is_spent(&service),
            service,
        }
    }

    /// Whether a timer may still come to something.
    #[must_use]
    pub fn awaits(&self, timer: &Timer) -> bool {
        match timer {
            Timer::Start(run) | Timer::Stuck(run) | Timer::Retrieval(run) | Timer::Leave(run) => {
                self.runs.contains_key(run)
            }
            Timer::TooLate(_)
            | Timer::Retry
            | Timer::Day
            | Timer::Restart(_)
            | Timer::PartReady(..)
            | Timer::PartPing(..)
            | Timer::Schedule
            | Timer::Resend => true,
            Timer::Overdue(parcel) => self.outbox.is_under_way(*parcel),
        }
    }

    /// How many of these tasks would be started at once if they were accepted
    /// now, in this order: the first so many, and perhaps more when others wait.
    #[must_use]
    pub fn starts_at_once<'a>(&self, now: Now, tasks: impl Iterator<Item = &'a Mtw>) -> usize {
        if self.queue.has_ready(now.tick) || self.draining || !self.broker.is_up() {
            return 0;
        }
        let (mut room, mut more) = (self.room, HashMap::new());
        tasks
            .take_while(|mtw| {
                let need = room.capacity.need(mtw);
                let more = more.entry(&mtw.task.service).or_insert(0);
                *more += 1;
                let fits = room.fits(need) == Fit::Now
                    && self.quota.has_room_for(&mtw.task.service, *more);
                if fits {
                    room.take(need);
                }
                fits
            })
            .count()
    }

    /// Whether a service may hand in one more task now. If so, the task counts.
    ///
    /// # Errors
    /// Why not, and when again.
    pub fn admit(&mut self, now: Now, service: &Name) -> Result<(), OverLimit> {
        self.quota.admit(now, service)
    }

    /// Whether there is anything of which a service may hand in or use only so
    /// much.
    #[must_use]
    pub fn is_bounded(&self, service: &Name) -> bool {
        let allowance = self.quota.allowance(service);
        allowance.rate.is_some() || allowance.cpu.is_some() || allowance.bytes.is_some()
    }

    /// Tells what services used today, before this core was made.
    pub fn recall(&mut self, now: Now, used: impl IntoIterator<Item = (Name, Used)>) {
        self.quota.recall(now.time, used);
        self.open_lanes();
    }

    /// The day to which what ends now is counted: its first moment, and the
    /// next day's.
    #[must_use]
    pub const fn day(&self) -> (Time, Time) {
        self.quota.day()
    }

    /// What shall be done now that `event` happened.
    #[must_use]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.quota.turn(now.time) {
            self.open_lanes();
        }
        match event {
            Event::Start => {
                effects.extend(self.broker.start(now.tick));
                if self.outbox.is_used() {
                    effects.extend(self.courier.start(now.tick));
                }
            }
            Event::Accepted(task) if task.stands() => self.stand(now, task, &mut effects),
            Event::Accepted(task) => self.accept(now, task, &mut effects),
            Event::LeftOut { task } => self.standings.left_out(now, &task),
            Event::Cancel { id, by } => {
                self.end(now, &id, &Failure::Cancelled { by }, &mut effects);
            }
            Event::Revoke { id, by } => {
                self.revoke(now, &id, &Failure::Cancelled { by }, &mut effects);
            }
            Event::Tender { run, event } => self.tender(now, run, event, &mut effects),
            Event::RetrieveEnded {
                run,
                coverage,
                failure,
            } => self.with_run(now, run, &mut effects, |run| {
                run.retrieved(coverage, failure)
            }),
            Event::Up(part) => {
                effects.extend(self.part(part).up(now.tick));
                self.outbox.courier(self.courier.is_up());
            }
            Event::Pong(part) => self.part(part).pong(),
            Event::Lost { part, reason } => self.part_lost(now, part, &reason, &mut effects),
            Event::Outbox(parcels) => self.outbox.load(parcels),
            Event::Delivered { parcel } => effects.extend(self.outbox.delivered(now, parcel)),
            Event::NotDelivered { parcel, why } => {
                effects.extend(self.outbox.not_delivered(now, parcel, why));
            }
            Event::Timer(timer) => self.timer(now, timer, &mut effects),
            Event::Rules(rules) => self.go_by(rules),
            Event::Revive => {
                effects.extend(self.broker.revive(now.tick));
                effects.extend(self.courier.revive(now.tick));
            }
            Event::Clock { set } => self.standings.go_by_clock(set),
            Event::Drain => self.draining = true,
            Event::Shutdown => self.shut_down(&mut effects),
        }
        if !self.ending {
            self.schedule(now, &mut effects);
        }
        let mut failing = Vec::new();
        for effect in &mut effects {
            if let Effect::Commit(commit) = effect {
                self.outbox.add(commit);
                failing.extend(self.standings.ended(now, &commit.result));
            }
        }
        for task in failing {
            self.let_go(&task, &mut effects);
            self.standings.give_back(now, &task, None, &mut effects);
        }
        if !self.ending {
            let over = self.standings.schedule(now, &mut effects);
            for task in &over {
                self.let_go(task.id(), &mut effects);
                let before = self.standings.previous(task.id());
                let ended = before.iter().chain([task]);
                effects.extend(ended.map(|task| outcome::over(task, now, None)));
            }
            self.outbox.schedule(now, &mut effects);
        }
        effects
    }

    /// How the receivers of answers are, if anything changed since this was asked
    /// last.
    pub fn outbox_news(&mut self) -> Option<Vec<LineReport>> {
        self.outbox.news()
    }

    const fn part(&mut self, part: Part) -> &mut Supervised {
        match part {
            Part::Broker => &mut self.broker,
            Part::Courier => &mut self.courier,
        }
    }

    /// From now on. What runs, runs on.
    fn go_by(&mut self, rules: Rules) {
        self.room.capacity = rules.capacity;
        self.queue.reorder(rules.order);
        self.queue.reconsider();
        self.quota.allow(rules.allowances);
        self.grants = rules.grants;
        self.open_lanes();
    }

    /// Looks at all services anew.
    fn open_lanes(&mut self) {
        let mut services = self.quota.services();
        services.extend(self.queue.services().cloned());
        services.extend(self.queue.closed().cloned());
        for service in services {
            self.open_lane(&service);
        }
    }

    /// Lets tasks of a service be started, or not, as its allowance says.
    fn open_lane(&mut self, service: &Name) {
        let open = self.quota.has_room_for(service, 1);
        self.queue.close(service, !open);
    }

    /// Takes a task that runs again.
    fn stand(&mut self, now: Now, task: Task, effects: &mut Vec<Effect>) {
        let over = if task.place.held_by.is_some() {
            self.standings.hold(task)
        } else {
            let (id, replaces) = (task.id().clone(), task.place.replaces.clone());
            self.standings.stand(now, task);
            replaces.and_then(|before| {
                self.let_go(&before, effects);
                self.standings.replaced(&before, &id)
            })
        };
        effects.extend(over.map(|task| outcome::over(&task, now, None)));
    }

    fn accept(&mut self, now: Now, task: Task, effects: &mut Vec<Effect>) {
        self.standings.opened(&task);
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
        self.queue.insert(waiting);
    }

    /// Ends a task from outside, whatever its state.
    fn end(&mut self, now: Now, id: &Name, failure: &Failure, effects: &mut Vec<Effect>) {
        if let Some(task) = self.standings.remove_held(id) {
            effects.push(outcome::over(&task, now, Some(failure.clone())));
            return;
        }
        if let Some((task, run)) = self.standings.remove(id) {
            self.let_go(id, effects);
            // Nothing is to stand again.
            let before = self.standings.previous(id);
            let ended = before.iter().chain([&task]);
            effects.extend(ended.map(|task| outcome::over(task, now, Some(failure.clone()))));
            if let Some(run) = run {
                self.end(now, &run, failure, effects);
            }
            return;
        }
        if let Some(waiting) = self.queue.remove(id) {
            effects.push(waiting.fail(now, failure.clone()));
            return;
        }
        let running = self.runs.values().find(|r| !r.over && r.task.id() == id);
        if let Some(run) = running.map(|r| r.id) {
            self.with_run(now, run, effects, |_| Settled::Failed(failure.clone()));
        }
    }

    /// Ends a task; the one whose place it had taken did nothing wrong.
    fn revoke(&mut self, now: Now, id: &Name, failure: &Failure, effects: &mut Vec<Effect>) {
        if !self.standings.has_previous(id) {
            return self.end(now, id, failure, effects);
        }
        let run = self.standings.run_of(id).cloned();
        self.let_go(id, effects);
        self.standings.give_back(now, id, Some(failure), effects);
        if let Some(run) = run {
            self.end(now, &run, failure, effects);
        }
    }

    fn tender(&mut self, now: Now, run: RunId, event: TenderEvent, effects: &mut Vec<Effect>) {
        match event {
            TenderEvent::Gone { reason } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.gone = true;
                }
                self.with_run(now, run, effects, |run| run.gone(reason));
                if self.runs.get(&run).is_some_and(|run| run.over) {
                    self.clear(run);
                }
            }
            TenderEvent::Given => self.with_run(now, run, effects, |run| run.given()),
            TenderEvent::Ready { isolation } => {
                self.with_run(now, run, effects, |run| run.ready(now.tick, isolation))
            }
            TenderEvent::Ended { ended, blob } => {
                let said = (blob, None);
                self.with_run(now, run, effects, |run| run.ended(now.tick, ended, said));
            }
            TenderEvent::Window {
                ended,
                blob,
                checkpoint,
            } => {
                let said = (blob, Some(checkpoint));
                self.with_run(now, run, effects, |run| run.ended(now.tick, ended, said));
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
            Settled::Answered(answer) => {
                let today = self.quota.used(run.task.service()).bytes;
                run.may_leave(answer, today)
            }
            settled => settled,
        };
        match settled {
            Settled::Not(_) => {}
            Settled::Answered(answer) => {
                let stays = answer.checkpoint.is_some() && !run.gone;
                effects.push(run.commit(now, Outcome::Answered(answer), &mut self.quota));
                if stays {
                    return self.rest(now, id, effects);
                }
            }
            Settled::Failed(failure) => {
                effects.push(run.commit(now, Outcome::Failed(failure), &mut self.quota));
            }
            Settled::Again { reason } if run.task.attempts >= ATTEMPTS_MAX => {
                let failure = Failure::Attempts {
                    attempts: run.task.attempts,
                    last: reason,
                };
                effects.push(run.commit(now, Outcome::Failed(failure), &mut self.quota));
            }
            Settled::Again { .. } => {
                let pause = Duration(RETRY_PAUSE.0 << (run.task.attempts.max(1) - 1));
                let waiting = run.again(now.tick.after(pause), run.isolation_index);
                effects.push(waiting.persist());
                effects.push(Effect::SetTimer {
                    at: waiting.not_before,
                    timer: Timer::Retry,
                });
                self.queue.insert(waiting);
            }
            Settled::NextIsolation => {
                let waiting = run.again(now.tick, run.isolation_index + 1);
                effects.push(waiting.persist());
                self.queue.insert(waiting);
            }
        }
        run.release(now.tick, effects);
        let (service, gone) = (run.task.service().clone(), run.gone);
        if gone {
            self.clear(id);
        } else {
            self.open_lane(&service);
        }
    }

    /// Forgets a run whose tender is gone and whose task needs it no more.
    fn clear(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else {
            return;
        };
        if run.rest != Rest::Not {
            self.room.leave(run.need);
            self.resting.retain(|_, resting| *resting != run.id);
            return;
        }
        self.room.give_back(run.need);
        self.quota.left(run.task.service());
        self.open_lane(run.task.service());
    }

    fn part_lost(&mut self, now: Now, part: Part, reason: &str, effects: &mut Vec<Effect>) {
        let blamed = part == Part::Broker
            && (std::mem::take(&mut self.broker_blamed) || self.is_known_trouble());
        if !self.ending {
            effects.extend(self.part(part).lost(now.tick, blamed));
        }
        if part == Part::Courier {
            self.outbox.courier(false);
            return;
        }
        // The broker had their channels.
        self.let_all_go(effects);
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        for id in ids {
            self.with_run(now, id, effects, |run| run.broker_lost(reason));
        }
    }

    /// Whether the broker fetched only for tasks that were tried before: one that
    /// takes the broker with it each time runs out of attempts, and must not
    /// have the broker given up for everybody else.
    fn is_known_trouble(&self) -> bool {
        let mut fetching = self
            .runs
            .values()
            .filter(|run| run.is_fetching())
            .peekable();
        fetching.peek().is_some() && fetching.all(|run| run.task.attempts > 1)
    }

    fn timer(&mut self, now: Now, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::TooLate(id) => self.end(now, &id, &Failure::TooLate, effects),
            // Scheduling follows every step.
            Timer::Retry | Timer::Day => {}
            Timer::Start(run) => self.with_run(now, run, effects, Run::start_overdue),
            Timer::Stuck(run) => self.with_run(now, run, effects, |run| run.stuck(now.tick)),
            Timer::Retrieval(run) => {
                let awaits = |run: &&Run| run.awaits_retrieval(now.tick);
                if let Some(of) = self.runs.get(&run).filter(awaits) {
                    self.broker_blamed = of.task.attempts > 1;
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
            Timer::Restart(part) if !self.ending => {
                effects.extend(self.part(part).start(now.tick));
            }
            Timer::PartReady(part, start) => effects.extend(self.part(part).ready_overdue(start)),
            Timer::PartPing(part, start) => effects.extend(self.part(part).ping(start, now.tick)),
            Timer::Overdue(parcel) => {
                if self.outbox.is_under_way(parcel) {
                    effects.extend(self.courier.kill());
                }
            }
            Timer::Schedule => self.standings.looked(),
            // Sending follows every step.
            Timer::Restart(_) | Timer::Resend => {}
        }
    }

    fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        (self.draining, self.ending) = (true, true);
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
        let gone = self.runs.values().filter(|run| run.gone).map(|run| run.id);
        for id in gone.collect::<Vec<_>>() {
            self.clear(id);
        }
        effects.extend(self.broker.end());
        effects.extend(self.courier.end());
    }

    /// Starts what can be started, in the order of the queue.
    fn schedule(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.queue.wake(now.tick);
        while self.broker.is_up() && !self.draining && self.room.has_slot() {
            let (room, resting) = (self.room, &self.resting);
            let in_the_way = Cell::new(false);
            let fits = |task: &Task| {
                let (fit, asleep) = resident::fits(&room, resident::need(task, &room, resting));
                in_the_way.set(in_the_way.get() | asleep);
                fit
            };
            if let Some(waiting) = self.queue.next(now.tick, fits) {
                self.begin(now, waiting, effects);
                continue;
            }
            if in_the_way.get() {
                self.make_room(effects);
            }
            break;
        }
        self.await_day(now, effects);
    }

    /// Has somebody wake this core when the day ends for which a service has
    /// used up what it may use.
    fn await_day(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let woken = self.quota.woken_at.is_some_and(|at| at > now.tick);
        let waits = |service| self.queue.ready_of(service) > 0 && self.quota.is_spent(service);
        if woken || !self.queue.closed().any(waits) {
            return;
        }
        let left = self.quota.day().1.0.saturating_sub(now.time.0);
        let at = now.tick.after(Duration(left.max(0) as u64));
        self.quota.woken_at = Some(at);
        let timer = Timer::Day;
        effects.push(Effect::SetTimer { at, timer });
    }

    fn begin(&mut self, now: Now, mut waiting: Waiting, effects: &mut Vec<Effect>) {
        // What was granted when the task was accepted may have been withdrawn since.
        let allowed = match self.grants.decide(waiting.task.request()) {
            Ok(allowed) => allowed,
            Err(missing) => {
                let reason = missing.to_string();
                effects.push(waiting.fail(now, Failure::NotGranted { reason }));
                return;
            }
        };
        let rest = waiting.task.isolations.iter().skip(waiting.isolation);
        waiting.isolation += rest.take_while(|i| !allowed.permits(**i)).count();
        let Some(&isolation) = waiting.task.isolations.get(waiting.isolation) else {
            let failure = Failure::Isolation {
                accepted: waiting.task.mtw.function.isolation.clone(),
                reason: "this node has none of them any more; see `fades doctor`".to_owned(),
            };
            effects.push(waiting.fail(now, failure));
            return;
        };
        waiting.task.attempts += 1;
        let id = waiting.task.id().clone();
        let change = Change::Running {
            attempts: waiting.task.attempts,
            at: now.time,
        };
        effects.push(Effect::Persist {
            id: id.clone(),
            change,
        });
        if let Some(run) = self.at_rest(now, &waiting, isolation, effects) {
            effects.extend([Effect::GoOn { run, id }, Effect::Retrieve { run }]);
            return self.go_on(now, run, (waiting, allowed), effects);
        }
        let run = RunId(self.next_run);
        self.next_run += 1;
        effects.extend([
            Effect::StartTender { run, id, isolation },
            Effect::Retrieve { run },
        ]);
        let run = Run::new(run, (waiting, allowed), now, &self.room.capacity);
        self.room.take(run.need);
        self.quota.began(run.task.service());
        self.open_lane(run.task.service());
        self.runs.insert(run.id, run);
    }
}

#[cfg(test)]
mod tests;
