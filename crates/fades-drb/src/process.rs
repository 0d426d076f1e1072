//! The broker as a process: requests in, reports out.
//!
//! ```text
//! control ──► loop ──┬─► DTOs of a run ──► data channel ──► tender ─┐
//!               ▲    ├─► inspection (resources, test, preview)      │ release
//!               │    └─► pong, at once                              │
//!               └───────────────────────────────────────────────────┘
//! ```
//! The loop waits for the orchestrator and all tenders together and never for a
//! source, so that a ping is answered whatever the sources do. Nothing is kept on
//! disk: the process may be killed at any moment, and ends when its control
//! channel does.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fades_outside::confine::own_user_namespace;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::result::RetrievalFailure;
use fades_wire::{Arrival, Channel, Frame, Inbox, MAX_JSON, WireError};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::answers::Earlier;
use crate::hands::Hands;
use crate::readings::Readings;
use crate::retrieve::{Demands, Engine};

mod configure;
mod held;
mod run;

use configure::{Refusal, configured};
use run::{Run, Wanted};

/// Why the broker ended, when it was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The control channel failed.
    #[error("the broker lost the orchestrator")]
    Control(#[from] WireError),
    /// The first message was none of the kind that configures the broker.
    #[error("the orchestrator did not begin by configuring the broker")]
    NotConfigured,
    /// The configuration cannot be used; the orchestrator was told.
    #[error("the broker cannot work as configured: {0}")]
    Misconfigured(String),
}

/// Sends reports; threads take turns.
#[derive(Clone)]
struct Reporter(Arc<Mutex<Channel>>);

impl Reporter {
    fn send(&self, report: &BrokerReport) -> Result<(), WireError> {
        let channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(report, &[], &[])
    }

    /// Sends what a thread found out. When the orchestrator is gone, the loop
    /// sees it too and ends.
    fn tell(&self, report: &BrokerReport) {
        if let Err(e) = self.send(report) {
            tracing::debug!("a report was not sent: {e}");
        }
    }
}

/// Serves `control` until the orchestrator closes it.
///
/// As a process of its own, call this before any other thread exists: a broker
/// that is not root can get huge pages only then. Everything else works in a
/// thread as well, with the other end of a [`Channel::pair`].
///
/// # Errors
/// When the broker ends for another reason than that the channel was closed.
pub fn run(control: Channel) -> Result<(), ProcessError> {
    serve(control, false)
}

/// As [`run()`], confined for good before anything of a source is read: for a
/// process that is a broker and nothing else, before any other thread exists.
/// What the host does not offer is left out; the report says so.
///
/// # Errors
/// When the broker ends for another reason than that the channel was closed.
pub fn run_confined(control: Channel) -> Result<(), ProcessError> {
    serve(control, true)
}

fn serve(control: Channel, confined: bool) -> Result<(), ProcessError> {
    prepare();
    let reporter = Reporter(Arc::new(Mutex::new(
        control.try_clone().map_err(WireError::from)?,
    )));
    let Some(first) = control.receive::<BrokerRequest>(None)? else {
        return Ok(());
    };
    let hands = Hands::default();
    let configured = match configured(first, &hands, confined, &control) {
        Ok(configured) => configured,
        Err(Refusal::NotConfigured) => return Err(ProcessError::NotConfigured),
        Err(Refusal::Misconfigured(reason)) => {
            let report = BrokerReport::Misconfigured {
                reason: reason.clone(),
            };
            reporter.send(&report)?;
            return Err(ProcessError::Misconfigured(reason));
        }
    };
    let mut broker = Broker {
        engine: Arc::new(configured.engine),
        readings: configured.readings,
        reporter,
        hands,
        poll: epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| WireError::from(io::Error::from(e)))?,
        spare: Spare::default(),
        closing: Arc::default(),
        runs: HashMap::new(),
        next: CONTROL,
    };
    // Before anybody can ask for anything, and for descriptors.
    broker.watch(&control, CONTROL)?;
    broker.spare.take(&control);
    let place = broker.engine.batches().place();
    broker.reporter.send(&BrokerReport::Ready {
        batches: place.words().to_owned(),
        huge: place.is_huge(),
        advice: place.advice(),
        confinement: configured.confinement,
    })?;
    let served = broker.serve(&control);
    // First of all: what hangs in a source must not cost what was recorded, and
    // those who hear devices may hold on to the store for longer.
    broker.engine.end_recording();
    broker.end();
    if let Some(runtime) = configured.runtime {
        // What waits for devices need not be waited for.
        runtime.shutdown_background();
    }
    served
}

/// Gives up what a broker does not need, and takes what it may have.
fn prepare() {
    // Programs that the broker would start gain nothing; it starts none.
    if let Err(e) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!("no_new_privs is not to be had: {e}");
    }
    if let Err(e) = own_user_namespace() {
        tracing::debug!("no user namespace: {e}");
    }
    // Each run and each file that is read takes descriptors.
    let resource = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(resource);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(e) = rustix::process::setrlimit(resource, raised) {
        tracing::debug!("the limit of open files stays: {e}");
    }
}

struct Broker {
    engine: Arc<Engine>,
    readings: Option<Arc<Readings>>,
    reporter: Reporter,
    hands: Hands,
    poll: OwnedFd,
    spare: Spare,
    /// Tells inspections to stop.
    closing: Arc<AtomicBool>,
    /// By the key under which their channels are polled.
    runs: HashMap<u64, Run>,
    next: u64,
}

/// Descriptors that are kept for what the orchestrator sends: when all others are
/// in use, a run can still be refused, and the rest goes on.
#[derive(Default)]
struct Spare(Vec<OwnedFd>);

impl Spare {
    const WHOLE: usize = 2;

    fn give(&mut self) {
        self.0.clear();
    }

    fn take(&mut self, any: &Channel) {
        while self.0.len() < Self::WHOLE
            && let Ok(spare) = rustix::io::fcntl_dupfd_cloexec(any, 0)
        {
            self.0.push(spare);
        }
    }

    const fn is_whole(&self) -> bool {
        self.0.len() == Self::WHOLE
    }
}

/// The key of the control channel.
const CONTROL: u64 = 0;

/// How often kept files are looked through, while there are any.
const TIDY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

impl Broker {
    fn serve(&mut self, control: &Channel) -> Result<(), ProcessError> {
        let mut inbox = Inbox::default();
        let mut events = Vec::with_capacity(64);
        let mut tidied = Instant::now();
        let mut untidy = false;
        loop {
            // Nothing wakes a broker at rest.
            let timeout = untidy.then_some(&TIDY);
            events.clear();
            match epoll::wait(&self.poll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(WireError::from(io::Error::from(e)).into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    CONTROL => loop {
                        self.spare.give();
                        let arrival = inbox.take(control)?;
                        self.spare.take(control);
                        match arrival {
                            Arrival::Frame(frame) => self.handle(frame)?,
                            Arrival::Nothing => break,
                            Arrival::End { .. } => return Ok(()),
                        }
                        untidy = true;
                    },
                    key => self.hear(key),
                }
            }
            if untidy && tidied.elapsed() >= Duration::from_millis(500) {
                tidied = Instant::now();
                untidy = self.tidy();
            }
        }
    }

    fn watch(&self, channel: &Channel, key: u64) -> Result<(), WireError> {
        let data = epoll::EventData::new_u64(key);
        epoll::add(&self.poll, channel, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        Ok(())
    }

    /// Takes what the tender of a run says.
    fn hear(&mut self, key: u64) {
        if self.runs.get_mut(&key).is_some_and(|run| !run.hear())
            && let Some(run) = self.runs.remove(&key)
            && let Err(e) = epoll::delete(&self.poll, run.channel())
        {
            tracing::debug!("a channel was not watched: {e}");
        }
    }

    /// Gives back what is not needed any more. Whether there may be more soon.
    fn tidy(&self) -> bool {
        let kept = self.engine.expire();
        let at_rest = self.runs.values().all(Run::is_at_rest);
        if !kept && at_rest {
            self.engine.trim();
        }
        kept || !at_rest
    }

    fn handle(&mut self, frame: Frame<BrokerRequest>) -> Result<(), ProcessError> {
        match frame.message {
            BrokerRequest::Configure { .. } => return Err(ProcessError::NotConfigured),
            BrokerRequest::Ping { id } => self.reporter.send(&BrokerReport::Pong { id })?,
            BrokerRequest::Retrieve {
                run,
                dtos,
                of,
                window,
                within,
                answers,
            } => {
                let deadline = within.and_then(|w| Instant::now().checked_add(w.as_std()));
                let earlier = Earlier::part(&answers, &frame.blob, dtos.len());
                let demands = earlier.into_iter();
                let demands = demands.map(|earlier| Demands { deadline, earlier });
                let wanted = Wanted {
                    run,
                    demands: demands.collect(),
                    dtos,
                    of,
                    window,
                };
                self.retrieve(wanted, frame.descriptors)?;
            }
            BrokerRequest::Cancel { run } => {
                for run in self.runs.values().filter(|r| r.number() == run) {
                    run.stop();
                }
            }
            BrokerRequest::Resources { id } => {
                let readings = self.readings.clone();
                self.inspect(move |engine, stop| BrokerReport::Resources {
                    id,
                    devices: fitting(engine.resources(stop)),
                    recording: readings.map_or_else(BTreeMap::new, |r| r.reports(MAX_JSON / 4)),
                });
            }
            BrokerRequest::Log { level } => {
                fades_outside::logging::set(level);
                tracing::info!(%level, "the broker logs at another level");
            }
            BrokerRequest::Gauge { id } => {
                self.inspect(move |engine, _| BrokerReport::Gauged {
                    id,
                    gauges: engine.gauges(),
                });
            }
            BrokerRequest::TestSource { id, source } => self.inspect(move |engine, stop| {
                let report = engine.test(&source, stop).map(|mut report| {
                    report.devices = fitting(report.devices);
                    Box::new(report)
                });
                BrokerReport::Tested { id, report }
            }),
            BrokerRequest::Preview { id, dtos, answers } => {
                let earlier = Earlier::part(&answers, &frame.blob, dtos.len());
                self.inspect(move |engine, stop| {
                    let previews = engine.preview(&dtos, earlier, stop);
                    BrokerReport::Previewed { id, previews }
                });
            }
        }
        Ok(())
    }

    fn retrieve(&mut self, wanted: Wanted, descriptors: Vec<OwnedFd>) -> Result<(), ProcessError> {
        if wanted.of.is_some() && descriptors.is_empty() {
            return self.next_window(wanted);
        }
        let Ok([data]) = <[_; 1]>::try_from(descriptors) else {
            return Err(WireError::Frame("a run without its data channel").into());
        };
        self.next += 1;
        let data = Channel::from(data);
        let watched = if self.spare.is_whole() {
            self.watch(&data, self.next).map_err(|e| {
                format!("the data channel cannot be watched: {e}; raise fs.epoll.max_user_watches")
            })
        } else {
            Err(
                "no file descriptors are left: raise the limit (LimitNOFILE, ulimit -n), or run \
                 fewer tasks at a time"
                    .to_owned(),
            )
        };
        if let Err(reason) = watched {
            // Whatever else holds this end, the tender shall see that it is over.
            data.shut_down();
            let dto = wanted.dtos.first().map(|d| d.name.clone());
            let failure = dto.map(|dto| RetrievalFailure::NoRoom { dto, reason });
            return Ok(self.reporter.send(&BrokerReport::RetrieveEnded {
                run: wanted.run,
                coverage: Vec::new(),
                stopped: failure.is_none(),
                failure,
            })?);
        }
        let (engine, reporter) = (&self.engine, &self.reporter);
        let run = Run::start(wanted, data, engine, reporter, &self.hands);
        self.runs.insert(self.next, run);
        Ok(())
    }

    /// Goes on with a run at rest. One whose tender has gone is over.
    fn next_window(&mut self, wanted: Wanted) -> Result<(), ProcessError> {
        let number = wanted.run;
        let run = self.runs.values_mut().find(|r| r.number() == number);
        let goes_on = match run {
            Some(run) => run.next(wanted, &self.hands),
            None => Ok(false),
        };
        match goes_on {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) => tracing::warn!("a window cannot begin: {e}"),
        }
        Ok(self.reporter.send(&BrokerReport::RetrieveEnded {
            run: number,
            coverage: Vec::new(),
            failure: None,
            stopped: true,
        })?)
    }

    fn inspect(
        &mut self,
        look: impl FnOnce(&Arc<Engine>, &Arc<AtomicBool>) -> BrokerReport + Send + 'static,
    ) {
        let (engine, reporter) = (Arc::clone(&self.engine), self.reporter.clone());
        let stop = Arc::clone(&self.closing);
        let started = self
            .hands
            .start(move || reporter.tell(&look(&engine, &stop)));
        if let Err(e) = started {
            tracing::error!("no thread for an inspection: {e}");
        }
    }

    /// Stops everything and waits for it.
    fn end(self) {
        self.closing.store(true, Ordering::Relaxed);
        for run in self.runs.values() {
            run.stop();
        }
        self.hands.close();
    }
}

/// As many devices as a message can carry.
fn fitting(mut devices: Vec<fades_task::resource::Device>) -> Vec<fades_task::resource::Device> {
    let fits = |d: &[fades_task::resource::Device]| {
        serde_json::to_vec(d).is_ok_and(|json| json.len() < MAX_JSON / 2)
    };
    while !fits(&devices) {
        tracing::warn!("only the first half of {} devices is shown", devices.len());
        devices.truncate(devices.len() / 2);
    }
    devices
}
