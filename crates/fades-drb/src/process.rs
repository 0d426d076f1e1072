//! The broker as a process: requests in, reports out.
//!
//! ```text
//! control ──► loop ──┬─► feeder of a run ──► data channel ──► tender
//!                    ├─► inspection (resources, test, preview)
//!                    └─► pong, at once
//! ```
//! The loop only starts and stops threads, so that a ping is answered whatever
//! the sources do. Nothing is kept on disk: the process may be killed at any
//! moment, and ends when its control channel does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::RetrievalFailure;
use fades_wire::{Channel, Frame, MAX_JSON, WireError};

use crate::batches::{Batches, own_user_namespace};
use crate::config::Sources;
use crate::pool::Pool;
use crate::retrieve::Engine;

mod memory;
mod run;

use run::Run;

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
    confine();
    let reporter = Reporter(Arc::new(Mutex::new(
        control.try_clone().map_err(WireError::from)?,
    )));
    let Some(first) = control.receive::<BrokerRequest>(None)? else {
        return Ok(());
    };
    let engine = match configured(first) {
        Ok(engine) => Arc::new(engine),
        Err(Refusal::NotConfigured) => return Err(ProcessError::NotConfigured),
        Err(Refusal::Misconfigured(reason)) => {
            let report = BrokerReport::Misconfigured {
                reason: reason.clone(),
            };
            reporter.send(&report)?;
            return Err(ProcessError::Misconfigured(reason));
        }
    };
    let place = engine.batches().place();
    reporter.send(&BrokerReport::Ready {
        batches: place.words().to_owned(),
        huge: place.is_huge(),
        advice: place.advice(),
    })?;
    let mut broker = Broker {
        engine,
        reporter,
        closing: Arc::default(),
        runs: HashMap::new(),
        inspections: Vec::new(),
    };
    let served = broker.serve(&control);
    broker.end();
    served
}

/// Gives up what a broker does not need, and takes what it may have.
fn confine() {
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

enum Refusal {
    NotConfigured,
    Misconfigured(String),
}

fn configured(frame: Frame<BrokerRequest>) -> Result<Engine, Refusal> {
    let BrokerRequest::Configure {
        folder,
        budget,
        chunk,
        base,
    } = frame.message
    else {
        return Err(Refusal::NotConfigured);
    };
    let wrong = |e: &dyn std::error::Error| Refusal::Misconfigured(e.to_string());
    let sources: Sources = serde_json::from_slice(&frame.blob).map_err(|e| wrong(&e))?;
    sources.check().map_err(|e| wrong(&e))?;
    let batches = Batches::new(Path::new(&folder), budget.0, chunk.0).map_err(|e| wrong(&e))?;
    let pool = Pool::new().map_err(|e| wrong(&e))?;
    Engine::new(&sources, &PathBuf::from(base), pool, batches).map_err(|e| wrong(&e))
}

struct Broker {
    engine: Arc<Engine>,
    reporter: Reporter,
    /// Tells inspections to stop.
    closing: Arc<AtomicBool>,
    runs: HashMap<u64, Run>,
    inspections: Vec<thread::JoinHandle<()>>,
}

impl Broker {
    fn serve(&mut self, control: &Channel) -> Result<(), ProcessError> {
        while let Some(frame) = control.receive::<BrokerRequest>(None)? {
            self.reap();
            self.handle(frame)?;
        }
        Ok(())
    }

    fn handle(&mut self, frame: Frame<BrokerRequest>) -> Result<(), ProcessError> {
        match frame.message {
            BrokerRequest::Configure { .. } => return Err(ProcessError::NotConfigured),
            BrokerRequest::Ping { id } => self.reporter.send(&BrokerReport::Pong { id })?,
            BrokerRequest::Retrieve { run, dtos, window } => {
                self.retrieve(run, dtos, window, frame.descriptors)?;
            }
            BrokerRequest::Cancel { run } => {
                if let Some(run) = self.runs.get(&run) {
                    run.stop(&self.engine);
                }
            }
            BrokerRequest::Resources { id } => self.inspect(move |engine, stop| {
                let devices = fitting(engine.resources(stop));
                BrokerReport::Resources { id, devices }
            }),
            BrokerRequest::TestSource { id, source } => self.inspect(move |engine, stop| {
                let report = engine.test(&source, stop).map(|mut report| {
                    report.devices = fitting(report.devices);
                    Box::new(report)
                });
                BrokerReport::Tested { id, report }
            }),
            BrokerRequest::Preview { id, dtos } => self.inspect(move |engine, stop| {
                let previews = engine.preview(&dtos, stop);
                BrokerReport::Previewed { id, previews }
            }),
        }
        Ok(())
    }

    fn retrieve(
        &mut self,
        run: u64,
        dtos: Vec<Dto>,
        window: Size,
        descriptors: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(), ProcessError> {
        let Ok([data]) = <[_; 1]>::try_from(descriptors) else {
            return Err(WireError::Frame("a run without its data channel").into());
        };
        let started = Run::start(
            run,
            dtos,
            window,
            Channel::from(data),
            Arc::clone(&self.engine),
            self.reporter.clone(),
        );
        match started {
            Ok(started) => {
                self.runs.insert(run, started);
            }
            Err((dto, e)) => self.reporter.send(&BrokerReport::RetrieveEnded {
                run,
                coverage: Vec::new(),
                stopped: dto.is_none(),
                failure: dto.map(|dto| RetrievalFailure::NoRoom {
                    dto,
                    reason: format!(
                        "a run needs threads and descriptors: {e}; raise their limits \
                         (LimitNOFILE, ulimit -n, TasksMax)"
                    ),
                }),
            })?,
        }
        Ok(())
    }

    fn inspect(
        &mut self,
        look: impl FnOnce(&Engine, &Arc<AtomicBool>) -> BrokerReport + Send + 'static,
    ) {
        let (engine, reporter) = (Arc::clone(&self.engine), self.reporter.clone());
        let stop = Arc::clone(&self.closing);
        let started = thread::Builder::new()
            .name("inspect".to_owned())
            .spawn(move || reporter.tell(&look(&engine, &stop)));
        match started {
            Ok(thread) => self.inspections.push(thread),
            Err(e) => tracing::error!("no thread for an inspection: {e}"),
        }
    }

    /// Forgets what has ended.
    fn reap(&mut self) {
        self.runs.retain(|_, run| !run.is_over());
        self.inspections.retain(|thread| !thread.is_finished());
    }

    /// Stops everything and waits for it.
    fn end(self) {
        self.closing.store(true, Ordering::Relaxed);
        for run in self.runs.values() {
            run.stop(&self.engine);
        }
        for (_, run) in self.runs {
            run.join();
        }
        for thread in self.inspections {
            // A panic was printed where it happened; there is nobody to tell.
            let _ = thread.join();
        }
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
