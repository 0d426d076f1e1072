//! Performs what the core decides.
//!
//! One thread owns the core, the timers, the processes and the order of
//! effects; everything that happens reaches it as an [`Input`] on one queue.
//! Other threads hear what processes say. Inputs are taken turn by turn
//! ([`turn`]); when the store cannot be written, the driver stops there and
//! tries again: what builds on a state never happens before it is stored.

mod broker;
mod courier;
mod earlier;
mod mail;
mod parts;
mod pool;
mod revoke;
mod tender;
mod timers;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use fades_task::courier::{CourierReport, Verdict};
use fades_task::identity::Name;
use fades_task::logging::LogLevel;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Mtw};
use fades_task::time::Time;
use fades_trust::grant::Allowed;
use fades_wire::spawn::Program;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use self::broker::BrokerProcess;
use self::courier::CourierProcess;
use self::earlier::Earlier;
use self::pool::{Heard, News, Pool};
use self::timers::Timers;
use self::turn::{Arrival, Turn};
pub(crate) use self::turn::{NotTaken, ReplyTo, Submission};
use crate::api::types::Scheduling;
use crate::config::NodeConfig;
use crate::core::outbox::{Mail, StoredParcel};
use crate::core::standing::Spawn;
use crate::core::{Core, Effect, Event, Now, Part, Place, RunId, Task, TenderEvent, Tick, Timer};
use crate::shared::Shared;
use crate::store::{Store, StoreError};
use crate::trust::Trust;

/// First pause before a store that failed is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause before a store that failed is tried again.
const STORE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A clock that is not set is looked at as often as this.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Processes that were killed have this long to be gone.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Something that reached the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the core.
    Event(Event),
    /// A task was handed in.
    Submit(Box<Submission>),
    /// For the pool of tenders.
    Pool(News),
    /// There is a data channel for this run now.
    Retrieve(RunId),
    /// The broker said something.
    Broker(BrokerReport),
    /// The broker's channel has ended; the last input of that broker.
    BrokerLeft { said: String },
    /// The courier said something.
    Courier(CourierReport),
    /// The courier's channel has ended; the last input of that courier.
    CourierLeft { said: String },
    /// What became of a letter of the courier that has this number.
    Verdict {
        life: u32,
        letter: u64,
        verdict: Verdict,
    },
    /// Somebody wants to know who waits, and what services use.
    Describe(oneshot::Sender<Scheduling>),
    /// The parts shall log at this level.
    Log(LogLevel),
    /// The configuration was read anew.
    Reload(Arc<NodeConfig>),
    /// Whom the node trusts has changed: what revoked keys signed ends.
    Revoke {
        /// How often that was done already.
        pass: u8,
    },
    /// The API wants the broker to answer something.
    Ask { ask: Ask, reply: Reply },
    /// Start nothing any more, and tell when nothing runs.
    Drain,
    /// End; the queue's last input of interest.
    Shutdown,
}

/// A question to the broker.
#[derive(Debug)]
pub(crate) enum Ask {
    Resources,
    /// How much there is, in numbers.
    Gauge,
    TestSource(Name),
    /// What a service would get.
    Preview {
        service: Option<Name>,
        dtos: Vec<Dto>,
    },
}

/// Where the broker's answer goes. Dropped when the broker is not there.
pub(crate) type Reply = oneshot::Sender<BrokerReport>;

/// What the driver knows of a task that has not ended.
#[derive(Debug)]
struct Open {
    mtw: Arc<Mtw>,
    accepted: Time,
    /// What times like `last` are relative to.
    at: Time,
    inbox: Option<Name>,
    /// Whose run it is.
    parent: Option<Name>,
}

/// The driver, before and while it runs.
#[derive(Debug)]
pub(crate) struct Driver {
    core: Core,
    config: Arc<NodeConfig>,
    store: Arc<Store>,
    shared: Arc<Shared>,
    started: Instant,
    inputs: Receiver<Input>,
    sender: Sender<Input>,
    /// Arrived before what is still in `inputs`.
    arrivals: VecDeque<Arrival>,
    turn: Turn,
    timers: Timers,
    open: HashMap<Name, Open>,
    pool: Pool,
    broker: Option<BrokerProcess>,
    courier: Option<CourierProcess>,
    /// Couriers that were started.
    couriers: u32,
    trust: Arc<Trust>,
    asks: HashMap<u64, Reply>,
    next_ask: u64,
    /// Told once whether the first broker took its configuration.
    first: Option<Sender<Result<(), String>>>,
    /// The system's clock can be right.
    clock_set: bool,
    draining: bool,
    ending: bool,
}

/// A program of the node's, with its arguments.
fn program<'a>(path: &'a Path, arguments: &'a [OsString]) -> Program<'a> {
    let program = Program::new(path);
    arguments.iter().fold(program, |p, a| p.argument(a))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Driver {
    pub(crate) fn new(
        config: Arc<NodeConfig>,
        store: Arc<Store>,
        shared: Arc<Shared>,
        trust: Arc<Trust>,
        (sender, inputs): (Sender<Input>, Receiver<Input>),
        first: Sender<Result<(), String>>,
    ) -> std::io::Result<Self> {
        let mail = config.courier.as_ref().map(|courier| Mail {
            node: config.name.clone(),
            at_most: courier.outbox,
        });
        Ok(Self {
            core: Core::new(config.rules(), config.zone.clone(), mail),
            pool: Pool::start(&config, &store, &shared, &sender)?,
            config,
            store,
            shared,
            started: Instant::now(),
            inputs,
            sender,
            arrivals: VecDeque::new(),
            turn: Turn::default(),
            timers: Timers::default(),
            open: HashMap::new(),
            broker: None,
            courier: None,
            couriers: 0,
            trust,
            asks: HashMap::new(),
            next_ask: 0,
            first: Some(first),
            clock_set: true,
            draining: false,
            ending: false,
        })
    }

    /// Takes up the tasks that an earlier life of the node left, then works
    /// until it is told to end.
    pub(crate) fn run(mut self, unfinished: Vec<Task>, outbox: Vec<StoredParcel>) {
        self.look_at_clock();
        self.recall();
        self.expect_courier();
        self.step(Event::Outbox(outbox));
        self.step(Event::Start);
        self.pool.open();
        if !unfinished.is_empty() {
            info!(tasks = unfinished.len(), "taking up unfinished tasks");
        }
        // Runs first, so that no task with a schedule has a second one.
        let (mut standing, others): (Vec<Task>, Vec<Task>) =
            unfinished.into_iter().partition(Task::stands);
        // Who has a place comes before who may get it back.
        standing.sort_by_key(|task| task.place.held_by.is_some());
        for task in others.into_iter().chain(standing) {
            self.step(Event::Accepted(task));
        }
        self.settle();
        // A crash may have come between storing a list and doing what it says.
        self.revoke(0);
        self.settle();
        while !self.ending {
            self.tell_health();
            self.turn();
            if self.draining && self.core.unfinished() == 0 {
                self.shared.has_drained();
            }
        }
        self.leave();
    }

    /// What services used before this life of the node counts as well.
    fn recall(&mut self) {
        let now = self.now();
        let (day, _) = self.config.zone.day(now.time);
        match self.store.used(day) {
            Ok(used) => self.core.recall(now, used),
            Err(e) => warn!(reason = %e, "what services used today cannot be read"),
        }
    }

    fn now(&self) -> Now {
        Now {
            time: self.shared.clock().now(),
            tick: self.tick(Instant::now()),
        }
    }

    fn tick(&self, at: Instant) -> Tick {
        let elapsed = at.saturating_duration_since(self.started).as_nanos();
        Tick(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    /// Waits for the next arrival, or until something is due.
    fn next_arrival(&mut self) -> Option<Arrival> {
        if let Some(arrival) = self.arrivals.pop_front() {
            return Some(arrival);
        }
        let now = self.now().tick;
        let pool = self.pool.next_due().map(|at| self.tick(at));
        let pool = pool.map(|at| at.micros_since(now));
        let watchdog = self.config.notify.as_ref().and_then(|n| n.left());
        let watchdog = watchdog.map(|left| left.as_micros() as u64);
        let clock = (!self.clock_set).then_some(CLOCK_EVERY.as_micros() as u64);
        let due = self.timers.next(now).into_iter();
        // The driver holds a sender of its own, so the queue has no end.
        match due.chain(pool).chain(watchdog).chain(clock).min() {
            None => self.inputs.recv().ok(),
            Some(0) => None,
            Some(left) => self.inputs.recv_timeout(Duration::from_micros(left)).ok(),
        }
        .map(Arrival::Input)
    }

    fn what_is_due(&mut self) {
        if self.pool.next_due().is_some_and(|at| at <= Instant::now()) {
            let heard = self.pool.due();
            self.heard(heard);
        }
        while let Some(timer) = self.timers.due(self.now().tick) {
            self.step(Event::Timer(timer));
        }
        let (core, open) = (&self.core, &self.open);
        self.timers.tidy(|timer| match timer {
            Timer::TooLate(id) => open.contains_key(id),
            timer => core.awaits(timer),
        });
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.step(event),
            Input::Submit(submission) => self.submitted(*submission),
            Input::Pool(news) => {
                let heard = self.pool.take(news);
                self.heard(heard);
            }
            Input::Retrieve(run) => self.retrieve(run),
            Input::Broker(report) => self.broker_report(report),
            Input::BrokerLeft { said } => self.broker_left(said),
            Input::Courier(report) => self.courier_report(report),
            Input::CourierLeft { said } => self.courier_left(said),
            Input::Verdict {
                life,
                letter,
                verdict,
            } => self.verdict(life, letter, verdict),
            Input::Ask { ask, reply } => self.ask(ask, reply),
            // Whoever asked may have gone.
            Input::Describe(reply) => drop(reply.send(self.core.scheduling())),
            Input::Log(level) => self.log(level),
            Input::Reload(config) => self.reload(config),
            Input::Revoke { pass } => self.revoke(pass),
            Input::Drain => {
                self.draining = true;
                self.shared.live().draining = true;
                self.step(Event::Drain);
            }
            Input::Shutdown => {
                self.ending = true;
                self.step(Event::Shutdown);
            }
        }
    }

    /// Goes by what may change while the node runs.
    fn reload(&mut self, config: Arc<NodeConfig>) {
        self.step(Event::Rules(config.rules()));
        self.step(Event::Revive);
        self.pool.reload(&config);
        self.config = config;
    }

    fn heard(&mut self, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
                Heard::Tender { run, event } => self.step(Event::Tender { run, event }),
                Heard::Retrieve(run) => self.retrieve(run),
            }
        }
    }

    fn step_at(&mut self, now: Now, event: Event) -> Vec<Effect> {
        if let Event::Accepted(task) = &event {
            let open = Open {
                mtw: Arc::clone(&task.mtw),
                accepted: task.accepted,
                at: task.due.unwrap_or(task.accepted),
                inbox: task.inbox.clone(),
                parent: task.parent.clone(),
            };
            self.open.insert(task.mtw.task.id.clone(), open);
        }
        debug!(?event, "event");
        self.core.step(now, event)
    }

    /// Performs an effect; what it wants stored is stored.
    fn perform(&mut self, effect: Effect) {
        debug!(?effect, "effect");
        match effect {
            Effect::Persist { .. } => {}
            Effect::Return { task, .. } => info!(%task, "stands again"),
            Effect::Spawn(spawn) => self.spawned(&spawn),
            Effect::Dispatched { parcel, outcome } => self.dispatched(parcel, &outcome),
            Effect::Deliver { parcel } => self.deliver(parcel),
            Effect::Start(_) | Effect::Ping(_) | Effect::Kill(_) | Effect::End(_) => {
                self.attend(&effect);
            }
            Effect::GiveUp(part) => self.give_up(part),
            Effect::Commit(commit) => {
                let id = &commit.result.id;
                info!(task = %id, state = %commit.result.state, "ended");
                self.open.remove(id);
                self.shared.live().clear_log(id);
                self.shared.metrics.ended(&commit.result);
            }
            Effect::StartTender { run, id, isolation } => self.start_tender(run, &id, isolation),
            Effect::GoOn { run, id } => self.go_on(run, &id),
            Effect::KillTender { run } => self.pool.kill(run),
            Effect::Retrieve { run } => self.retrieve(run),
            Effect::CancelRetrieve { run } => {
                self.tell_broker(&BrokerRequest::Cancel { run: run.0 })
            }
            Effect::SetTimer { at, timer } => self.timers.set(at, timer),
        }
    }

    /// Hands the core a run that is stored.
    fn spawned(&mut self, spawn: &Spawn) {
        let task = spawn.task.clone();
        let place = self.store.place(&spawn.run);
        let (Ok(Some((seq, accepted))), Some(open)) = (place, self.open.get(&task)) else {
            warn!(%task, run = %spawn.run, "the run's id is taken; its time is left out");
            return self.step(Event::LeftOut { task });
        };
        if spawn.skipped > 0 {
            warn!(%task, times = spawn.skipped, "times that were due are left out");
        }
        let mut mtw = Mtw::clone(&open.mtw);
        mtw.task.id = spawn.run.clone();
        let isolations = crate::admission::isolations(&mtw.function.isolation, &self.config);
        let run = Task {
            seq,
            accepted,
            attempts: 0,
            // What the node no longer has makes the run fail.
            isolations: isolations.unwrap_or_default(),
            inbox: open.inbox.clone(),
            parent: Some(task),
            due: Some(spawn.due),
            place: Place::default(),
            mtw: Arc::new(mtw),
        };
        self.step(Event::Accepted(run));
    }

    fn start_tender(&mut self, run: RunId, id: &Name, isolation: fades_task::limits::Isolation) {
        let Some(open) = self.open.get(id) else {
            return;
        };
        self.begin_log(run, id);
        let resident = match self.resident(open) {
            Ok(resident) => resident,
            Err(e) => {
                // Without what it knew, it would answer something else.
                let reason = crate::api::problem::chain(&e);
                let event = TenderEvent::Gone { reason };
                return self.send(Input::Event(Event::Tender { run, event }));
            }
        };
        let plan = tender::Plan {
            run,
            mtw: &open.mtw,
            accepted: open.accepted,
            at: open.at,
            isolation,
            simd: self.config.simd,
        };
        self.pool.begin(&plan, resident);
    }

    /// How the function of a task stays, if it does: with its last checkpoint, or
    /// none.
    fn resident(&self, open: &Open) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        match (&open.mtw.window, &open.parent) {
            (Some(_), Some(task)) => self.store.checkpoint(task).map(Some),
            _ => Ok(None),
        }
    }

    /// Has a function that stays go on with another window.
    fn go_on(&mut self, run: RunId, id: &Name) {
        let Some(open) = self.open.get(id) else {
            return;
        };
        self.begin_log(run, id);
        self.pool.go_on(run, &open.mtw, open.accepted, open.at);
    }

    fn begin_log(&self, run: RunId, id: &Name) {
        let allowed = self.core.allowed(run);
        let open = |allowed: &Allowed| allowed.export().is_none_or(|export| export.logs);
        let mute = !allowed.is_some_and(open);
        // It was stored as started just now.
        let attempt = self.store.summary(id).ok().flatten();
        let attempt = attempt.map_or(0, |summary| summary.attempts);
        self.shared.live().begin_log(id, attempt, mute);
    }

    fn retrieve(&mut self, run: RunId) {
        let Some(mut retrieval) = self.pool.for_broker(run) else {
            return;
        };
        // Of a run that is over nobody needs anything.
        let Some(allowed) = self.core.allowed(run) else {
            return;
        };
        for dto in &mut retrieval.dtos {
            dto.granted = Some(allowed.for_dto(dto));
        }
        if let Some(broker) = &self.broker {
            let now = self.shared.clock().now();
            // What is left after that is for the function.
            let left = |by: Time| by.0.saturating_sub(now.0).max(0) as u64 / 5 * 4;
            let within = retrieval
                .finish_by
                .map(left)
                .map(fades_task::quantity::Duration);
            let earlier = Earlier::of(&self.store, Some(&retrieval.service), &retrieval.dtos);
            let window = self.config.broker.chunk;
            broker.retrieve(run.0, &retrieval, earlier, window, within);
        }
    }

    fn tell_health(&self) {
        let health = self.shared.live().health();
        self.store.feed().node(health);
    }

    fn tell_broker(&self, request: &BrokerRequest) {
        if let Some(broker) = &self.broker {
            broker.tell(request);
        }
    }

    fn start_broker(&mut self) {
        match BrokerProcess::start(&self.config.broker, &self.config.log, &self.sender) {
            Ok(broker) => {
                info!(pid = broker.pid(), "broker started");
                self.shared.live().broker.pid = Some(broker.pid());
                self.broker = Some(broker);
                self.log_as_now();
            }
            Err(e) => {
                let said = format!("the broker cannot be started: {e}");
                self.send(Input::BrokerLeft { said });
            }
        }
    }

    /// Parts log as the node does.
    fn log(&self, level: LogLevel) {
        if let Some(broker) = &self.broker {
            broker.tell(&BrokerRequest::Log { level });
        }
        if let Some(courier) = &self.courier {
            courier.log(level);
        }
    }

    /// Those that were just started do so as at the node's start.
    pub(crate) fn log_as_now(&self) {
        let level = self.shared.log_info().level;
        if level != self.config.log.level {
            self.log(level);
        }
    }

    fn broker_report(&mut self, report: BrokerReport) {
        match report {
            BrokerReport::Ready {
                batches,
                huge,
                advice,
                confinement,
            } => {
                for (name, layer) in confinement
                    .layers()
                    .into_iter()
                    .filter(|(_, l)| !l.enforced)
                {
                    warn!(layer = name, reason = %layer.detail, "not enforced for the broker");
                }
                self.shared.live().broker.confinement = confinement;
                self.broker_ready(batches, huge, advice);
            }
            BrokerReport::Misconfigured { reason } => {
                if let Some(broker) = &mut self.broker {
                    broker.note(reason);
                }
            }
            BrokerReport::RetrieveEnded {
                run,
                coverage,
                failure,
                stopped,
            } => {
                debug!(run, stopped, "retrieval ended");
                let run = RunId(run);
                self.step(Event::RetrieveEnded {
                    run,
                    coverage,
                    failure,
                });
            }
            BrokerReport::Pong { .. } => self.step(Event::Pong(Part::Broker)),
            BrokerReport::Resources { id, .. }
            | BrokerReport::Gauged { id, .. }
            | BrokerReport::Tested { id, .. }
            | BrokerReport::Previewed { id, .. } => {
                if let Some(reply) = self.asks.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = reply.send(report);
                }
            }
        }
    }

    fn broker_ready(&mut self, batches: String, huge: bool, advice: Option<String>) {
        info!(%batches, huge, "broker ready");
        {
            let mut live = self.shared.live();
            live.broker.up = true;
            live.broker.batches = batches;
            live.broker.huge = huge;
            live.broker.advice = advice;
        }
        if let Some(first) = self.first.take() {
            // Whoever started the node may have given up.
            let _ = first.send(Ok(()));
        }
        self.step(Event::Up(Part::Broker));
    }

    fn broker_left(&mut self, said: String) {
        let reason = match self.broker.take() {
            Some(broker) => broker.end(said),
            None => said,
        };
        {
            let mut live = self.shared.live();
            live.broker.up = false;
            live.broker.pid = None;
            live.broker.restarts += u32::from(!self.ending);
            live.broker.last_end = Some(reason.clone());
        }
        // Dropping the senders tells whoever waits.
        self.asks.clear();
        if !self.ending {
            warn!(%reason, "broker ended");
        }
        if let Some(first) = self.first.take() {
            // As above.
            let _ = first.send(Err(reason.clone()));
        }
        self.step(Event::Lost {
            part: Part::Broker,
            reason,
        });
    }

    fn ask(&mut self, ask: Ask, reply: Reply) {
        let up = self.shared.live().broker.up;
        let Some(broker) = self.broker.as_ref().filter(|_| up) else {
            return;
        };
        self.next_ask += 1;
        let id = self.next_ask;
        let mut blob = Vec::new();
        let request = match ask {
            Ask::Resources => BrokerRequest::Resources { id },
            Ask::Gauge => BrokerRequest::Gauge { id },
            Ask::TestSource(source) => BrokerRequest::TestSource { id, source },
            Ask::Preview { service, dtos } => {
                let earlier = Earlier::of(&self.store, service.as_ref(), &dtos);
                blob = earlier.blob;
                BrokerRequest::Preview {
                    id,
                    dtos,
                    answers: earlier.answers,
                }
            }
        };
        broker.tell_with(&request, &blob);
        self.asks.retain(|_, reply| !reply.is_closed());
        self.asks.insert(id, reply);
    }

    /// The driver holds the queue's other end, so this cannot fail.
    fn send(&self, input: Input) {
        let _ = self.sender.send(input);
    }

    /// Waits, for a bounded time, until all processes are gone.
    fn leave(mut self) {
        let deadline = Instant::now() + END_WITHIN;
        self.pool.close();
        while !self.pool.is_empty() || self.broker.is_some() || self.courier.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(left) {
                Ok(Input::Pool(news)) => drop(self.pool.take(news)),
                Ok(Input::BrokerLeft { said }) => self.broker_left(said),
                Ok(Input::CourierLeft { said }) => self.courier_left(said),
                Ok(_) => {}
                // Dropping the children kills whatever is left.
                Err(_) => return,
            }
        }
    }
}
