//! What a run wants of a tender.

use std::io;

use fades_task::identity::{Digest, Name};
use fades_task::limits::Isolation;
use fades_task::message::{Resident, Span as Window, Start, TemplateRequest};
use fades_task::mtw::{Dto, Mtw};
use fades_task::quantity::Duration as Span;
use fades_task::time::Time;
use fades_wire::Channel;

use super::pool::{Key, Kind};
use crate::admission;
use crate::core::RunId;

/// Calendar that a function gets beyond the acceptance of an open-ended task.
const CALENDAR_AHEAD: Span = Span::from_secs(366 * 86_400);

/// What to run.
pub(super) struct Plan<'a> {
    pub(super) run: RunId,
    pub(super) mtw: &'a Mtw,
    pub(super) accepted: Time,
    /// What times like `last` are relative to: when it was accepted, or due.
    pub(super) at: Time,
    pub(super) isolation: Isolation,
    /// Highest SIMD level that the function may be told.
    pub(super) simd: u32,
}

/// A run, as far as tender and broker have to do with it. It is kept until the
/// tender has said something about it, so that another can have it otherwise.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) run: RunId,
    pub(super) task: Name,
    /// The template that it wants.
    pub(super) key: Key,
    /// What a tender is told, but for the template's number.
    pub(super) start: Start,
    /// The parameters, then the checkpoint with which a function goes on.
    pub(super) params: Vec<u8>,
    dtos: Vec<Dto>,
    /// The window that they are, of a function that stays.
    of: Option<Window>,
    /// When the run must have ended, if the task says so.
    service: Name,
    finish_by: Option<Time>,
    /// Ends of its data channel that nobody has yet.
    data: Option<Data>,
    /// The kind of shell that it needs, once its template has said so.
    pub(super) kind: Option<Kind>,
    /// How often a shell was lost that it should have had.
    pub(super) lost: u32,
    /// The broker was to have its end before there was one.
    pub(super) retrieval_due: bool,
    /// The broker has its end, and is to fetch another window.
    goes_on: bool,
}

/// What the broker shall fetch.
#[derive(Debug)]
pub(super) struct Retrieval {
    pub(super) dtos: Vec<Dto>,
    /// The service that asks.
    pub(super) service: Name,
    /// When the run must have ended, if the task says so.
    pub(super) finish_by: Option<Time>,
    /// The window that it is.
    pub(super) of: Option<Window>,
    /// Where the broker shall send it; none: where it sent the window before.
    pub(super) end: Option<Channel>,
}

#[derive(Debug)]
struct Data {
    tender: Option<Channel>,
    broker: Option<Channel>,
}

impl Job {
    /// `resident`: with which checkpoint a function that stays goes on, if it has one.
    pub(super) fn new(plan: &Plan<'_>, resident: Option<Option<Vec<u8>>>) -> Self {
        let function = &plan.mtw.function;
        let dtos = plan.mtw.dtos(plan.accepted, plan.at);
        let checkpoint = resident.as_ref().and_then(Option::as_deref);
        let restore = checkpoint.map(|c| c.len() as u64);
        let params = admission::params(plan.mtw);
        let params = [&params, checkpoint.unwrap_or_default()].concat();
        let start = Start {
            template: 0,
            simd: plan.simd,
            limits: function.limits,
            resident: resident.is_some().then_some(Resident {
                checkpoints: true,
                restore,
            }),
            zone: plan.mtw.task.zone.name().to_owned(),
            offsets: calendar(plan, &dtos),
            dtos: dtos.iter().map(|d| d.name.clone()).collect(),
        };
        Self {
            run: plan.run,
            task: plan.mtw.task.id.clone(),
            key: Key {
                // Admission refuses a task without digest.
                image: function.image.digest.unwrap_or(Digest([0; 32])),
                isolation: plan.isolation,
                memory: function.limits.memory,
                output: function.limits.output,
                context: start.context_bytes(),
            },
            start,
            params,
            dtos,
            of: window(plan.mtw, plan.at),
            service: plan.mtw.task.service.clone(),
            finish_by: plan.mtw.task.finish_within.map(|w| plan.accepted.after(w)),
            data: None,
            kind: None,
            lost: 0,
            retrieval_due: false,
            goes_on: false,
        }
    }

    /// What a template of its key depends on.
    pub(super) fn template_request(&self) -> TemplateRequest {
        TemplateRequest {
            isolation: self.key.isolation,
            limits: self.start.limits,
            context: self.key.context,
        }
    }

    /// Makes its data channel, when there is none as yet.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.data.is_none() {
            let (tender, broker) = Channel::pair()?;
            self.data = Some(Data {
                tender: Some(tender),
                broker: Some(broker),
            });
        }
        Ok(())
    }

    /// Another window of its function.
    pub(super) fn go_on(&mut self, mtw: &Mtw, accepted: Time, at: Time) {
        self.task = mtw.task.id.clone();
        self.dtos = mtw.dtos(accepted, at);
        self.of = window(mtw, at);
        self.finish_by = mtw.task.finish_within.map(|w| accepted.after(w));
        self.goes_on = true;
    }

    /// The tender's end of its data channel.
    pub(super) fn tenders_end(&self) -> Option<&Channel> {
        self.data.as_ref()?.tender.as_ref()
    }

    /// A tender works on it: what was kept for another is not needed any more.
    pub(super) fn is_begun(&mut self) {
        if let Some(data) = &mut self.data {
            data.tender = None;
        }
        self.params = Vec::new();
    }

    /// What the broker shall fetch, and where it shall send it; once.
    pub(super) fn for_broker(&mut self) -> Option<Retrieval> {
        let Some(data) = &mut self.data else {
            self.retrieval_due = true;
            return None;
        };
        self.retrieval_due = false;
        let end = data.broker.take();
        if end.is_none() && !self.goes_on {
            return None;
        }
        self.goes_on = false;
        Some(Retrieval {
            dtos: std::mem::take(&mut self.dtos),
            of: self.of,
            service: self.service.clone(),
            finish_by: self.finish_by,
            end,
        })
    }
}

/// The window of a function that stays that ends at `at`.
fn window(mtw: &Mtw, at: Time) -> Option<Window> {
    let (id, from) = mtw.window?.ending(at);
    Some(Window { id, from, to: at })
}

/// The zone's offsets over the ranges of all DTOs. An open range begins in
/// 1970 and ends a year after acceptance; so do the windows of a function that stays.
fn calendar(plan: &Plan<'_>, dtos: &[Dto]) -> Vec<(i64, i32)> {
    let from = dtos.iter().map(|d| d.from).min();
    let to = dtos.iter().map(|d| d.to).max();
    let ahead = plan.accepted.after(CALENDAR_AHEAD);
    let from = from.unwrap_or(plan.accepted).max(Time(0));
    let to = match to {
        _ if plan.mtw.window.is_some() => ahead,
        Some(Time(i64::MAX)) | None => ahead,
        Some(to) => to,
    };
    plan.mtw.task.zone.offsets(from, to)
}
