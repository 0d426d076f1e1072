//! A tender's process: what it is handed, and what it says.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::{Refused, Start, TemplateRequest, TenderReport};
use fades_task::mtw::{Dto, Mtw};
use fades_task::quantity::Duration as Span;
use fades_task::time::Time;
use fades_wire::{Channel, WireError};

use super::Input;
use crate::admission;
use crate::api::types::{LogLine, TenderInfo};
use crate::config::NodeConfig;
use crate::core::{Event, RunId, TenderEvent};
use crate::shell::{Shell, ShellError, Template};
use crate::store::{Store, StoreError};

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
    shell: Shell,
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
    /// There is no template or no shell.
    Shell(ShellError),
}

impl From<io::Error> for StartFailure {
    fn from(e: io::Error) -> Self {
        Self::Shell(e.into())
    }
}

impl From<ShellError> for StartFailure {
    fn from(e: ShellError) -> Self {
        Self::Shell(e)
    }
}

impl From<WireError> for StartFailure {
    fn from(e: WireError) -> Self {
        Self::Shell(e.into())
    }
}

impl StartFailure {
    /// What the core is told instead of what a tender would have said.
    pub(super) fn into_events(self) -> Vec<TenderEvent> {
        let reason = match &self {
            Self::Image(e) => crate::api::problem::chain(e),
            Self::Shell(e) => crate::api::problem::chain(e),
        };
        let gone = TenderEvent::Gone {
            reason: reason.clone(),
        };
        match self {
            Self::Image(_) => vec![TenderEvent::Refused(Refused::Image { reason }), gone],
            Self::Shell(ShellError::Refused(refused)) => {
                vec![TenderEvent::Refused(refused), gone]
            }
            Self::Shell(_) => vec![gone],
        }
    }
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
        let dtos = resolve(plan);
        let start = Start {
            template: plan.run.0,
            simd: config.simd,
            limits: function.limits,
            resident: false,
            zone: plan.mtw.task.zone.name().to_owned(),
            offsets: calendar(plan, &dtos),
            dtos: dtos.iter().map(|d| d.name.clone()).collect(),
        };
        let request = TemplateRequest {
            isolation: plan.isolation,
            limits: function.limits,
            context: start.context_bytes(),
        };
        let symbols = store.images().symbols(digest);
        let program = &config.tender;
        let template = Template::make(
            program,
            &image,
            symbols.as_deref(),
            &request,
            start.template,
        )?;
        let class = template.class(config.broker.chunk)?;
        let shell = Shell::make(program, plan.isolation, class, config.simd)?;
        let (data, broker_end) = Channel::pair()?;
        let params = admission::params(plan.mtw);
        let (run, inputs) = (plan.run, inputs.clone());
        let here = Arc::clone(shell.control());
        shell.start(&start, &params, &data, &template)?;
        std::thread::Builder::new()
            .name(format!("tender {}", run.0))
            .spawn(move || converse(&here, run, &inputs))?;
        Ok(Self {
            shell,
            task: plan.mtw.task.id.clone(),
            log_limit: function.limits.log.0,
            dtos,
            data: Some(broker_end),
        })
    }

    pub(super) fn info(&self) -> TenderInfo {
        TenderInfo {
            pid: self.shell.child().id(),
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
        self.shell.child().kill();
    }

    /// Makes sure that it is gone, and says how it ended.
    pub(super) fn end(self, said: String) -> String {
        self.shell.end(said)
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

/// Passes on what a tender says.
fn converse(channel: &Channel, run: RunId, inputs: &Sender<Input>) {
    let said = listen(channel, run, inputs);
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
            // It can be used again; nobody does yet.
            TenderReport::Clean { .. } => return String::new(),
            TenderReport::Template { .. } | TenderReport::Shell { .. } => {
                return "it said what nobody asked".to_owned();
            }
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
