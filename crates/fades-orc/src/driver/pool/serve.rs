//! Who gets which shell.

use std::cmp::Reverse;
use std::io;
use std::time::Instant;

use fades_task::message::Refused;
use fades_wire::WireError;
use tracing::{debug, info, warn};

use super::demand::Kind;
use super::{Heard, Phase, Pool, ShellId, Work};
use crate::api::types::TenderInfo;
use crate::core::TenderEvent;
use crate::driver::tender::Job;
use crate::shell::{ShellError, Template};

/// A run has another shell made when so many were lost before it began; then
/// the attempt counts.
const LOST_MAX: u32 = 3;

/// What became of a run that wants a shell.
enum Placed {
    /// It has one.
    Given,
    /// It has none yet.
    Waits(Box<Job>),
    /// It cannot be run; it has been told.
    Over,
}

impl Pool {
    /// Gives waiting runs what there is, and orders what is missing.
    pub(super) fn settle(&mut self, heard: &mut Vec<Heard>) {
        if self.ending {
            return;
        }
        let runs: Vec<_> = self.waiting.keys().copied().collect();
        for run in runs {
            let Some(job) = self.waiting.remove(&run) else {
                continue;
            };
            match self.place(job, heard) {
                Placed::Waits(job) => {
                    self.waiting.insert(run, job);
                }
                Placed::Given | Placed::Over => {}
            }
        }
        self.order_shells();
        self.keep_to_budget();
        if self.period_ends.is_none() && !self.demand.is_calm() {
            self.period_ends = Some(Instant::now() + self.config.spare_for);
        }
        self.show();
    }

    fn place(&mut self, mut job: Box<Job>, heard: &mut Vec<Heard>) -> Placed {
        if let Err(error) = job.open() {
            self.is_short(&error.into());
            return Placed::Waits(job);
        }
        if job.retrieval_due {
            heard.push(Heard::Retrieve(job.run));
        }
        let Some(template) = self.templates.take(&job.key) else {
            self.order_template(&job);
            return Placed::Waits(job);
        };
        let kind = match job.kind {
            Some(kind) => kind,
            None => match template.class(self.config.broker.chunk) {
                Ok(class) => self.demand.kind(job.key.isolation, class),
                Err(error) => {
                    match error {
                        ShellError::Refused(refused) => self.refuse(&job, refused, heard),
                        error => self.give_up(&job, crate::api::problem::chain(&error), heard),
                    }
                    return Placed::Over;
                }
            },
        };
        if job.kind.replace(kind).is_none() {
            self.demand.begins(kind);
        }
        for id in self.fitting(kind, template.number()) {
            match self.give(id, job, &template, heard) {
                Placed::Waits(back) => job = back,
                placed => return placed,
            }
        }
        Placed::Waits(job)
    }

    /// The idle shells that will do, those that suit best first: that have
    /// the template already, that are small, that worked last.
    fn fitting(&self, kind: Kind, template: u64) -> Vec<ShellId> {
        let idle = self.members.iter().filter(|(_, m)| m.work.is_none());
        let mut fitting: Vec<_> = idle.filter(|(_, m)| m.kind.holds(kind)).collect();
        fitting.sort_by_key(|(_, m)| {
            let worked_last = Reverse(m.idle_since);
            (m.template != template, m.kind.cost(), worked_last)
        });
        fitting.into_iter().map(|(id, _)| *id).collect()
    }

    /// Has a shell work on a run, if both are fit for it.
    fn give(
        &mut self,
        id: ShellId,
        mut job: Box<Job>,
        template: &Template,
        heard: &mut Vec<Heard>,
    ) -> Placed {
        job.start.template = template.number();
        let (Some(member), Some(data)) = (self.members.get_mut(&id), job.tenders_end()) else {
            return Placed::Waits(job);
        };
        if let Err(error) = member.shell.bound(&job.start.limits) {
            return self.not_bounded(id, job, error, heard);
        }
        match (member.shell).start(&job.start, &job.params, data, template) {
            Ok(()) => {}
            Err(error @ WireError::Io(_)) => {
                debug!(reason = %error, "an idle tender was gone");
                self.dismiss(id);
                return Placed::Waits(job);
            }
            Err(error) => {
                // It would be the same with any other.
                self.dismiss(id);
                self.give_up(&job, crate::api::problem::chain(&error), heard);
                return Placed::Over;
            }
        }
        let run = job.run;
        let tender = TenderInfo {
            pid: member.shell.child().id(),
            task: job.task.clone(),
        };
        info!(task = %tender.task, pid = tender.pid, "started");
        member.template = template.number();
        member.work = Some(Work {
            job,
            phase: Phase::Told,
            killed: false,
        });
        self.places.insert(run, id);
        self.shared.live().tenders.insert(run, tender);
        self.has_plenty();
        let event = TenderEvent::Given;
        heard.push(Heard::Tender { run, event });
        Placed::Given
    }

    /// A shell that cannot be bounded is not used.
    fn not_bounded(
        &mut self,
        id: ShellId,
        mut job: Box<Job>,
        error: io::Error,
        heard: &mut Vec<Heard>,
    ) -> Placed {
        if crate::shell::is_shortage(&error) {
            self.is_short(&error.into());
            return Placed::Waits(job);
        }
        let reason = format!("the tender's control group cannot be bounded: {error}");
        warn!(%reason);
        self.dismiss(id);
        job.lost += 1;
        if job.lost <= LOST_MAX {
            return Placed::Waits(job);
        }
        self.give_up(&job, reason, heard);
        Placed::Over
    }

    pub(super) fn refuse(&mut self, job: &Job, refused: Refused, heard: &mut Vec<Heard>) {
        let reason = refused.reason().to_owned();
        let event = TenderEvent::Refused(refused);
        heard.push(Heard::Tender {
            run: job.run,
            event,
        });
        self.give_up(job, reason, heard);
    }

    /// Ends an attempt that has no shell.
    fn give_up(&mut self, job: &Job, reason: String, heard: &mut Vec<Heard>) {
        self.over(job);
        let event = TenderEvent::Gone { reason };
        heard.push(Heard::Tender {
            run: job.run,
            event,
        });
    }

    /// Queues a run whose shell was lost, unless that happened too often.
    pub(super) fn wait_again(&mut self, job: Box<Job>, reason: String, heard: &mut Vec<Heard>) {
        if self.ending || job.lost > LOST_MAX {
            self.give_up(&job, reason, heard);
        } else {
            self.waiting.insert(job.run, job);
        }
    }
}
