//! A tender's process: what it is handed, and what it says.

use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::{Refused, Start, TenderReport};
use fades_task::mtw::{Dto, Mtw};
use fades_task::quantity::Duration as Span;
use fades_task::time::Time;
use fades_wire::Channel;
use fades_wire::spawn::{Child, Program};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::Input;
use crate::admission;
use crate::api::types::{LogLine, TenderInfo};
use crate::config::NodeConfig;
use crate::core::{Event, RunId, TenderEvent};
use crate::store::{Store, StoreError};

/// A killed process is gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Calendar that a function gets beyond the acceptance of an open-ended task.
const CALENDAR_AHEAD: Span = Span::from_secs(366 * 86_400);

/// What to start.
pub(super) struct Plan<'a> {
    pub(super) run: RunId,
    pub(super) mtw: &'a Mtw,
    pub(super) accepted: Time,
    pub(super) isolation: Isolation,
}

#[derive(Debug)]
pub(super) struct TenderProcess {
    child: Child,
    task: Name,
    log_limit: u64,
    dtos: Vec<Dto>,
    /// The broker's end of the data channel, until the broker has it.
    data: Option<Channel>,
}

/// Why there is no tender.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// The image is not what it should be, or not there.
    Image(StoreError),
    /// The system has no descriptors, memory or processes left, or the
    /// program cannot be executed.
    System(io::Error),
}

impl From<io::Error> for StartFailure {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl StartFailure {
    /// What the core is told instead of what a tender would have said.
    pub(super) fn into_events(self) -> Vec<TenderEvent> {
        let reason = match &self {
            Self::Image(e) => crate::api::problem::chain(e),
            Self::System(e) => crate::api::problem::chain(e),
        };
        let gone = TenderEvent::Gone {
            reason: reason.clone(),
        };
        match self {
            Self::Image(_) => vec![TenderEvent::Refused(Refused::Image { reason }), gone],
            Self::System(_) => vec![gone],
        }
    }
}

/// The bytes in memory that nobody can change any more, so that what was
/// checked is what is run.
fn sealed(image: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create("image", flags)?);
    file.write_all(image)?;
    file.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

impl TenderProcess {
    pub(super) fn start(
        plan: &Plan<'_>,
        config: &NodeConfig,
        store: &Store,
        inputs: &Sender<Input>,
    ) -> Result<Self, StartFailure> {
        let function = &plan.mtw.function;
        // Admission refuses a task without digest.
        let digest = function
            .image
            .digest
            .unwrap_or(fades_task::identity::Digest([0; 32]));
        let image = store.images().read(digest).map_err(StartFailure::Image)?;
        let image = sealed(&image)?;
        let (here, there) = Channel::pair()?;
        let (data, broker_end) = Channel::pair()?;
        let child = Program::new(&config.tender)
            .descriptor(there.as_fd())
            .descriptor(data.as_fd())
            .descriptor(image.as_fd())
            .spawn()?;
        let dtos = resolve(plan);
        let start = Start {
            isolation: plan.isolation,
            simd: config.simd,
            limits: function.limits,
            zone: plan.mtw.task.zone.name().to_owned(),
            offsets: calendar(plan, &dtos),
            dtos: dtos.iter().map(|d| d.name.clone()).collect(),
            symbols: store.images().symbols(digest),
        };
        let params = admission::params(plan.mtw);
        let (run, inputs) = (plan.run, inputs.clone());
        std::thread::Builder::new()
            .name(format!("tender {}", run.0))
            .spawn(move || converse(&here, (&start, &params), run, &inputs))?;
        Ok(Self {
            child,
            task: plan.mtw.task.id.clone(),
            log_limit: function.limits.log.0,
            dtos,
            data: Some(broker_end),
        })
    }

    pub(super) fn info(&self) -> TenderInfo {
        TenderInfo {
            pid: self.child.id(),
            task: self.task.clone(),
        }
    }

    pub(super) fn log_limit(&self) -> (&Name, u64) {
        (&self.task, self.log_limit)
    }

    /// What the broker shall fetch, and where it shall send it; once.
    pub(super) fn for_broker(&mut self) -> (Vec<Dto>, Option<Channel>) {
        (std::mem::take(&mut self.dtos), self.data.take())
    }

    pub(super) fn kill(&self) {
        self.child.kill();
    }

    /// Makes sure that it is gone, and says how it ended.
    pub(super) fn end(mut self, said: String) -> String {
        how_it_ended(&mut self.child, GONE_WITHIN, said)
    }
}

/// Waits a moment for a process whose channel has ended, then kills it.
pub(super) fn how_it_ended(child: &mut Child, within: Duration, said: String) -> String {
    let ended = match child.wait(Some(Instant::now() + within)) {
        Ok(Some(status)) => status.to_string(),
        Ok(None) => "it closed its channel and stayed, so it was killed".to_owned(),
        Err(e) => format!("how is not known: {e}"),
    };
    child.kill();
    match said.is_empty() {
        true => ended,
        false => format!("{said} ({ended})"),
    }
}

fn resolve(plan: &Plan<'_>) -> Vec<Dto> {
    let retrieve = plan.mtw.retrieve.iter();
    retrieve.map(|r| r.resolve(plan.accepted)).collect()
}

/// The zone's offsets over the ranges of all DTOs. An open range begins in
/// 1970 and ends a year after acceptance.
fn calendar(plan: &Plan<'_>, dtos: &[Dto]) -> Vec<(i64, i32)> {
    let from = dtos.iter().map(|d| d.from).min();
    let to = dtos.iter().map(|d| d.to).max();
    let ahead = plan.accepted.after(CALENDAR_AHEAD);
    let from = from.unwrap_or(plan.accepted).max(Time(0));
    let to = match to {
        Some(Time(i64::MAX)) | None => ahead,
        Some(to) => to,
    };
    plan.mtw.task.zone.offsets(from, to)
}

/// Tells the tender what to do, then passes on what it says.
fn converse(
    channel: &Channel,
    (start, params): (&Start, &[u8]),
    run: RunId,
    inputs: &Sender<Input>,
) {
    let sent = channel.send(start, params, &[]);
    let said = match sent {
        Err(e) => crate::api::problem::chain(&e),
        Ok(()) => listen(channel, run, inputs),
    };
    // Nobody listens when the node ends.
    let _ = inputs.send(Input::TenderLeft { run, said });
}

/// Gives the reason for the end, which is empty when the tender just went.
fn listen(channel: &Channel, run: RunId, inputs: &Sender<Input>) -> String {
    loop {
        let frame = match channel.receive::<TenderReport>(None) {
            Ok(Some(frame)) => frame,
            Ok(None) => return String::new(),
            Err(e) => return crate::api::problem::chain(&e),
        };
        let event = match frame.message {
            TenderReport::Ready { isolation, .. } => TenderEvent::Ready { isolation },
            TenderReport::Ended(ended) => TenderEvent::Ended {
                ended,
                blob: frame.blob,
            },
            TenderReport::Refused(refused) => TenderEvent::Refused(refused),
            TenderReport::Log { level, text } => {
                let line = LogLine { level, text };
                if inputs.send(Input::Log { run, line }).is_err() {
                    return String::new();
                }
                continue;
            }
        };
        let event = Event::Tender { run, event };
        if inputs.send(Input::Event(event)).is_err() {
            return String::new();
        }
    }
}
