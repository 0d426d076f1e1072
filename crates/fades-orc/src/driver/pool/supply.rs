//! What is made, kept and given up.

use std::time::{Duration, Instant};

use fades_task::message::Refused;
use tracing::{debug, warn};

use super::demand::Kind;
use super::templates::Key;
use super::workers::{Order, TemplateError};
use super::{Heard, Member, Pool, ShellId};
use crate::driver::tender::Job;
use crate::shell::{Shell, ShellError, Template};

/// Pause after the system was first found short of something, and the longest.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
const SHORTAGE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pause before a spare is tried again that could not be made, and the longest.
const BARREN_PAUSE: Duration = Duration::from_millis(100);
const BARREN_PAUSE_MAX: Duration = Duration::from_secs(300);

/// So many attempts in a row that came to nothing are told to people.
const FAILING: u32 = 5;

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
    /// What became of the last one.
    reason: String,
    /// No spare is tried until then; later, as soon as there is a reason to.
    until: Option<Instant>,
}

impl Pool {
    pub(super) fn order_template(&mut self, job: &Job) {
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
                    self.refuse(&job, Refused::Image { reason }, heard);
                }
                TemplateError::Shell(ShellError::Refused(refused)) => {
                    self.refuse(&job, refused.clone(), heard);
                }
                TemplateError::Shell(_) => {
                    job.lost += 1;
                    self.wait_again(job, reason.clone(), heard);
                }
            }
        }
    }

    /// Orders the shells that waiting runs need, then spares.
    pub(super) fn order_shells(&mut self) {
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
        self.is_barren(kind, reason.clone());
        let first = self.waiting.values().find(|job| job.kind == Some(kind));
        let Some(mut job) = first.map(|j| j.run).and_then(|r| self.waiting.remove(&r)) else {
            return;
        };
        if let ShellError::Refused(refused) = error {
            self.refuse(&job, refused, heard);
        } else {
            job.lost += 1;
            self.wait_again(job, reason, heard);
        }
    }

    /// Why shells cannot be made, when that is more than bad luck.
    pub(super) fn failing(&self) -> Option<String> {
        let worst = self
            .barren
            .iter()
            .max_by_key(|(_, barren)| barren.failures)?;
        let (
            kind,
            Barren {
                failures, reason, ..
            },
        ) = worst;
        let isolation = kind.isolation;
        (*failures >= FAILING).then(|| format!("{isolation}, {failures} in a row: {reason}"))
    }

    /// A shell of this kind came to nothing: spares are made after a pause.
    pub(super) fn is_barren(&mut self, kind: Kind, reason: String) {
        let failures = self.barren.get(&kind).map_or(0, |b| b.failures);
        let pause = super::pause(BARREN_PAUSE, failures, BARREN_PAUSE_MAX);
        let barren = Barren {
            failures: failures + 1,
            reason,
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
    pub(super) fn keep_to_budget(&mut self) {
        while self.idle_cost() > self.budget {
            let idle = self.members.iter().filter(|(_, m)| m.work.is_none());
            let oldest = idle.min_by_key(|(_, m)| m.idle_since).map(|(id, _)| *id);
            let Some(oldest) = oldest else {
                return;
            };
            self.dismiss(oldest);
        }
    }

    pub(super) fn dismiss(&mut self, id: ShellId) {
        if let Some(member) = self.members.remove(&id) {
            debug!(
                pid = member.shell.child().id(),
                "a shell is not needed any more"
            );
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

    pub(super) fn is_short(&mut self, error: &ShellError) {
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

    pub(super) fn has_plenty(&mut self) {
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
