//! Who gets which shell, and what is made next.

use std::time::{Duration, Instant};

use fades_task::message::Refused;
use tracing::{debug, info, warn};

use super::demand::Kind;
use super::templates::Key;
use super::workers::{Order, TemplateError};
use super::{Heard, Member, Phase, Pool, ShellId, Work};
use crate::api::types::TenderInfo;
use crate::core::TenderEvent;
use crate::driver::tender::Job;
use crate::shell::{Shell, ShellError, Template};

/// A run has another shell made when so many were lost before it began; then
/// the attempt counts.
const LOST_MAX: u32 = 3;

/// Pause after the system was first found short of something, and the longest.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
const SHORTAGE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pause before a spare is tried again that could not be made, and the longest.
const BARREN_PAUSE: Duration = Duration::from_millis(100);
const BARREN_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The system has no descriptors, memory or processes left.
#[derive(Debug)]
pub(super) struct Shortage {
    pub(super) reason: String,
    failures: u32,
    until: Instant,
    /// Everything waits until then.
    active: bool,
}

/// A kind of which no spare could be made.
#[derive(Debug)]
pub(super) struct Barren {
    failures: u32,
    /// No spare is tried until then; later, as soon as there is a reason to.
    until: Option<Instant>,
}

/// What became of a run that wants a shell.
enum Placed {
    Given,
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
                Err(ShellError::Refused(refused)) => return self.refuse(&job, refused, heard),
                Err(error) => return self.give_up(&job, crate::api::problem::chain(&error), heard),
            },
        };
        if job.kind.replace(kind).is_none() {
            self.demand.begins(kind);
        }
        while let Some(id) = self.best(kind, template.number()) {
            match self.give(id, job, &template, heard) {
                Ok(()) => return Placed::Given,
                Err(back) => job = back,
            }
        }
        if job.lost > LOST_MAX {
            let reason = "no tender's group can be bounded".to_owned();
            return self.give_up(&job, reason, heard);
        }
        Placed::Waits(job)
    }

    /// The idle shell that suits best: one that has the template already,
    /// else the smallest, else the one that worked last.
    fn best(&self, kind: Kind, template: u64) -> Option<ShellId> {
        let idle = self.members.iter().filter(|(_, m)| m.work.is_none());
        let fitting = idle.filter(|(_, m)| m.kind.holds(kind));
        let best = fitting.max_by_key(|(_, m)| {
            let small = std::cmp::Reverse(m.kind.cost());
            (m.template == template, small, m.idle_since)
        });
        best.map(|(id, _)| *id)
    }

    /// Has a shell work on a run; gives the run back when the shell is gone.
    fn give(
        &mut self,
        id: ShellId,
        mut job: Box<Job>,
        template: &Template,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Box<Job>> {
        let Some(member) = self.members.get_mut(&id) else {
            return Err(job);
        };
        job.start.template = template.number();
        if let Err(error) = member.shell.bound(&job.start.limits) {
            warn!(reason = %error, "a tender's group cannot be bounded");
            job.lost += 1;
            self.dismiss(id);
            return Err(job);
        }
        let Some(data) = job.tenders_end() else {
            return Err(job);
        };
        let sent = member.shell.start(&job.start, &job.params, data, template);
        if let Err(error) = sent {
            debug!(reason = %error, "an idle tender was gone");
            member.shell.child().kill();
            // Its channel's end follows, or has arrived already.
            if let Some(member) = self.members.remove(&id) {
                self.see_off(id, member.shell, error.to_string(), None);
            }
            return Err(job);
        }
        let run = job.run;
        let tender = TenderInfo {
            pid: member.shell.child().id(),
            task: job.task.clone(),
        };
        member.template = template.number();
        member.work = Some(Work {
            job,
            phase: Phase::Told,
            killed: false,
        });
        self.places.insert(run, id);
        info!(task = %tender.task, pid = tender.pid, "started");
        self.shared.live().tenders.insert(run, tender);
        self.has_plenty();
        let event = TenderEvent::Given;
        heard.push(Heard::Tender { run, event });
        Ok(())
    }

    fn refuse(&mut self, job: &Job, refused: Refused, heard: &mut Vec<Heard>) -> Placed {
        let reason = refused.reason().to_owned();
        let event = TenderEvent::Refused(refused);
        heard.push(Heard::Tender {
            run: job.run,
            event,
        });
        self.give_up(job, reason, heard)
    }

    /// Ends an attempt that has no shell.
    fn give_up(&mut self, job: &Job, reason: String, heard: &mut Vec<Heard>) -> Placed {
        self.over(job);
        let event = TenderEvent::Gone { reason };
        heard.push(Heard::Tender {
            run: job.run,
            event,
        });
        Placed::Over
    }

    /// Queues a run whose shell was lost, unless that happened too often.
    pub(super) fn wait_again(&mut self, job: Box<Job>, reason: String, heard: &mut Vec<Heard>) {
        if self.ending || job.lost > LOST_MAX {
            let _ = self.give_up(&job, reason, heard);
        } else {
            self.waiting.insert(job.run, job);
        }
    }

    fn order_template(&mut self, job: &Job) {
        if self.is_pausing() {
            return;
        }
        if let Some(number) = self.templates.order(&job.key) {
            self.workers.order(Order::Template {
                key: job.key.clone(),
                request: job.template_request(),
                number,
            });
        }
    }

    pub(super) fn template_made(
        &mut self,
        key: Key,
        made: Result<Template, TemplateError>,
        heard: &mut Vec<Heard>,
    ) {
        let error = match made {
            Ok(template) => {
                self.has_plenty();
                return self.templates.made(key, Some(template));
            }
            Err(error) => error,
        };
        self.templates.made(key.clone(), None);
        let reason = crate::api::problem::chain(&error);
        if error.is_shortage() {
            return self.is_short_of(reason);
        }
        warn!(%reason, image = %key.image, "no template");
        let of_key = self.waiting.values().filter(|job| job.key == key);
        let runs: Vec<_> = of_key.map(|job| job.run).collect();
        for run in runs {
            let Some(mut job) = self.waiting.remove(&run) else {
                continue;
            };
            match &error {
                TemplateError::Image(_) => {
                    let reason = reason.clone();
                    let _ = self.refuse(&job, Refused::Image { reason }, heard);
                }
                TemplateError::Shell(ShellError::Refused(refused)) => {
                    let _ = self.refuse(&job, refused.clone(), heard);
                }
                TemplateError::Shell(_) => {
                    job.lost += 1;
                    self.wait_again(job, reason.clone(), heard);
                }
            }
        }
    }

    /// Orders the shells that waiting runs need, then spares.
    fn order_shells(&mut self) {
        if self.is_pausing() {
            return;
        }
        let kinds = self.demand.kinds();
        for &kind in &kinds {
            while self.making(kind) < self.wanted(kind) {
                self.order_shell(kind);
            }
        }
        for kind in kinds {
            let barren = self.barren.get(&kind).is_some_and(|b| b.until.is_some());
            while !barren && self.has_too_few(kind) {
                self.order_shell(kind);
            }
        }
    }

    fn order_shell(&mut self, kind: Kind) {
        *self.making.entry(kind).or_default() += 1;
        self.workers.order(Order::Shell(kind));
    }

    fn making(&self, kind: Kind) -> usize {
        self.making.get(&kind).copied().unwrap_or(0)
    }

    /// Runs that wait for a shell of this kind.
    fn wanted(&self, kind: Kind) -> usize {
        let waiting = self.waiting.values();
        waiting.filter(|job| job.kind == Some(kind)).count()
    }

    /// Whether another spare of this kind is wanted, and there is memory for it.
    fn has_too_few(&self, kind: Kind) -> bool {
        let idle = self.idle_of(kind).count();
        let spare = |kind| self.making(kind).saturating_sub(self.wanted(kind));
        let making: u64 = (self.making.keys())
            .map(|&kind| kind.cost() * spare(kind) as u64)
            .sum();
        let few = idle + spare(kind) < self.demand.spares(kind);
        few && self.idle_cost() + making + kind.cost() <= self.budget
    }

    fn idle_of(&self, kind: Kind) -> impl Iterator<Item = (ShellId, &Member)> {
        let members = self.members.iter().map(|(id, member)| (*id, member));
        members.filter(move |(_, m)| m.work.is_none() && m.kind == kind)
    }

    fn idle_cost(&self) -> u64 {
        let idle = self.members.values().filter(|m| m.work.is_none());
        idle.map(|m| m.kind.cost()).sum()
    }

    pub(super) fn shell_made(
        &mut self,
        kind: Kind,
        made: Result<Shell, ShellError>,
        heard: &mut Vec<Heard>,
    ) {
        if let Some(making) = self.making.get_mut(&kind) {
            *making = making.saturating_sub(1);
        }
        let error = match made.and_then(|shell| self.admit(kind, shell)) {
            Ok(()) => return self.has_plenty(),
            Err(error) => error,
        };
        let reason = crate::api::problem::chain(&error);
        if error.is_shortage() {
            return self.is_short_of(reason);
        }
        warn!(%reason, isolation = %kind.isolation, "no shell");
        self.is_barren(kind);
        let first = self.waiting.values().find(|job| job.kind == Some(kind));
        let Some(mut job) = first.map(|j| j.run).and_then(|r| self.waiting.remove(&r)) else {
            return;
        };
        if let ShellError::Refused(refused) = error {
            let _ = self.refuse(&job, refused, heard);
        } else {
            job.lost += 1;
            self.wait_again(job, reason, heard);
        }
    }

    /// A shell of this kind came to nothing: spares are made after a pause.
    pub(super) fn is_barren(&mut self, kind: Kind) {
        let failures = self.barren.get(&kind).map_or(0, |b| b.failures);
        let pause = super::pause(BARREN_PAUSE, failures, BARREN_PAUSE_MAX);
        let barren = Barren {
            failures: failures + 1,
            until: Some(Instant::now() + pause),
        };
        self.barren.insert(kind, barren);
    }

    /// A run ended in a shell of this kind.
    pub(super) fn is_fertile(&mut self, kind: Kind) {
        self.barren.remove(&kind);
    }

    fn admit(&mut self, kind: Kind, shell: Shell) -> Result<(), ShellError> {
        let id = ShellId(self.next_shell);
        self.next_shell += 1;
        let heard = self.listener.add(id, shell.control());
        if heard.is_err() || self.ending {
            self.see_off(id, shell, String::new(), None);
            return Ok(heard?);
        }
        debug!(
            pid = shell.child().id(),
            us = shell.made_us(),
            "a shell was made"
        );
        let member = Member {
            shell,
            kind,
            template: 0,
            idle_since: 0,
            work: None,
        };
        self.members.insert(id, member);
        self.idle(id);
        Ok(())
    }

    /// Ends the shells that have waited longest, as far as there are more than
    /// there is memory for.
    fn keep_to_budget(&mut self) {
        while self.idle_cost() > self.budget {
            let idle = self.members.iter().filter(|(_, m)| m.work.is_none());
            let oldest = idle.min_by_key(|(_, m)| m.idle_since).map(|(id, _)| *id);
            let Some(oldest) = oldest else {
                return;
            };
            self.dismiss(oldest);
        }
    }

    fn dismiss(&mut self, id: ShellId) {
        if let Some(member) = self.members.remove(&id) {
            debug!(pid = member.shell.child().id(), "one shell too many");
            self.see_off(id, member.shell, String::new(), None);
        }
    }

    /// Ends the shells for which there was no use for a while.
    fn shrink(&mut self) {
        self.demand.forget();
        let mut kinds: Vec<Kind> = self.members.values().map(|m| m.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let mut idle: Vec<_> = self
                .idle_of(kind)
                .map(|(id, m)| (m.idle_since, id))
                .collect();
            idle.sort_unstable();
            let many = idle.len().saturating_sub(self.demand.spares(kind));
            for (_, id) in idle.into_iter().take(many) {
                self.dismiss(id);
            }
        }
    }

    fn is_short(&mut self, error: &ShellError) {
        self.is_short_of(crate::api::problem::chain(error));
    }

    /// The system is short of something: nothing is made for a while.
    fn is_short_of(&mut self, reason: String) {
        if self.is_pausing() {
            return;
        }
        warn!(%reason, "runs wait until there is enough again");
        let failures = self.shortage.as_ref().map_or(0, |s| s.failures);
        self.shortage = Some(Shortage {
            reason,
            failures: failures + 1,
            until: Instant::now() + super::pause(SHORTAGE_PAUSE, failures, SHORTAGE_PAUSE_MAX),
            active: true,
        });
    }

    fn is_pausing(&self) -> bool {
        self.shortage.as_ref().is_some_and(|s| s.active)
    }

    fn has_plenty(&mut self) {
        self.shortage = None;
    }

    /// When [`Self::due`] should be called next, if nothing happens before.
    pub(in crate::driver) fn next_due(&self) -> Option<Instant> {
        let short = self.shortage.as_ref().filter(|s| s.active).map(|s| s.until);
        let barren = self.barren.values().filter_map(|b| b.until).min();
        [short, barren, self.period_ends]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub(in crate::driver) fn due(&mut self) -> Vec<Heard> {
        let now = Instant::now();
        if let Some(shortage) = self.shortage.as_mut().filter(|s| s.until <= now) {
            shortage.active = false;
        }
        for barren in self.barren.values_mut() {
            barren.until = barren.until.filter(|until| *until > now);
        }
        if self.period_ends.is_some_and(|end| end <= now) {
            self.period_ends = None;
            self.shrink();
        }
        let mut heard = Vec::new();
        self.settle(&mut heard);
        heard
    }
}
