//! What services use, beside what the operator lets them.
//!
//! *Runs* count until their tender is clean again or gone. What a day's tasks
//! used is added up when they end, so a service gets past what it may use in a
//! day by what runs at that moment uses, and no further: nothing more of it is
//! started until the day ends. A *rate* is counted by when the next task would
//! come if all came evenly: a service may be ahead of that by as many as come in
//! the rate's time.

use std::collections::{HashMap, HashSet};

use fades_task::allowance::{Allowance, Allowances, Rate};
use fades_task::identity::Name;
use fades_task::quantity::{Duration, Size};
use fades_task::time::{Time, Zone};

use super::{Now, Tick};

/// What the tasks of a service used in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Processor time of its functions.
    pub cpu: Duration,
    /// Bytes that they answered, readings included.
    pub bytes: Size,
}

impl Used {
    pub(super) const NOTHING: Self = Self {
        cpu: Duration(0),
        bytes: Size(0),
    };

    /// Whether it is anything.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            cpu: Duration(self.cpu.0.saturating_add(other.cpu.0)),
            bytes: Size(self.bytes.0.saturating_add(other.bytes.0)),
        }
    }
}

/// Something used, and the day to which it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// First moment of the day.
    pub day: Time,
    /// How much.
    pub used: Used,
}

/// Why a service may hand in nothing more for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// Too many tasks in a short time.
    #[error(
        "{service} may hand in {rate} tasks: try again in {wait}, or let the node's operator raise limits.{service}.rate"
    )]
    Rate {
        /// The service.
        service: Name,
        /// Its rate.
        rate: Rate,
        /// When there is room for one more.
        wait: Duration,
    },
    /// The day's processor time is used up.
    #[error(
        "{service} has used {used} of the {most} of processor time that it has for the day: try again in {wait}, or let the node's operator raise limits.{service}.cpu"
    )]
    Cpu {
        /// The service.
        service: Name,
        /// What it used.
        used: Duration,
        /// What it has.
        most: Duration,
        /// When the day ends.
        wait: Duration,
    },
    /// The day's bytes are used up.
    #[error(
        "answers to {service} had {used} of the {most} that it has for the day: try again in {wait}, or let the node's operator raise limits.{service}.bytes"
    )]
    Bytes {
        /// The service.
        service: Name,
        /// What it used.
        used: Size,
        /// What it has.
        most: Size,
        /// When the day ends.
        wait: Duration,
    },
}

impl OverLimit {
    /// After which it is worth trying again.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        match self {
            Self::Rate { wait, .. } | Self::Cpu { wait, .. } | Self::Bytes { wait, .. } => *wait,
        }
    }
}

/// What services may use, and use.
#[derive(Debug)]
pub(super) struct Quota {
    allowances: Allowances,
    zone: Zone,
    /// The day, as far as it is known: its first moment, and the next day's.
    day: (Time, Time),
    used: HashMap<Name, Used>,
    runs: HashMap<Name, usize>,
    /// When the next task of a service would come if all came evenly.
    next: HashMap<Name, Tick>,
    /// When somebody is woken for the day's end.
    pub(super) woken_at: Option<Tick>,
}

/// What is left of a length of time, in whole seconds, for people to read.
fn whole_seconds(ns: i64) -> Duration {
    Duration::from_secs(
        u64::try_from(ns)
            .unwrap_or(0)
            .div_ceil(1_000_000_000)
            .max(1),
    )
}

impl Quota {
    pub(super) fn new(allowances: Allowances, zone: Zone) -> Self {
        Self {
            allowances,
            zone,
            day: (Time(0), Time(0)),
            used: HashMap::new(),
            runs: HashMap::new(),
            next: HashMap::new(),
            woken_at: None,
        }
    }

    pub(super) fn allow(&mut self, allowances: Allowances) {
        self.allowances = allowances;
    }

    pub(super) fn allowance(&self, service: &Name) -> Allowance {
        self.allowances.of(service)
    }

    /// Notices that another day has begun; whether one has.
    pub(super) fn turn(&mut self, now: Time) -> bool {
        if (self.day.0..self.day.1).contains(&now) {
            return false;
        }
        self.day = self.zone.day(now);
        self.used.clear();
        true
    }

    /// What was used today, before this core was made.
    pub(super) fn recall(&mut self, now: Time, used: impl IntoIterator<Item = (Name, Used)>) {
        self.turn(now);
        self.used.extend(used);
    }

    pub(super) const fn day(&self) -> (Time, Time) {
        self.day
    }

    pub(super) fn used(&self, service: &Name) -> Used {
        self.used.get(service).copied().unwrap_or(Used::NOTHING)
    }

    pub(super) fn runs(&self, service: &Name) -> usize {
        self.runs.get(service).copied().unwrap_or(0)
    }

    /// Adds what a task used; the day to which it counts.
    pub(super) fn spend(&mut self, service: &Name, used: Used) -> Charge {
        if !used.is_nothing() {
            let sum = self.used(service).and(used);
            self.used.insert(service.clone(), sum);
        }
        let day = self.day.0;
        Charge { day, used }
    }

    pub(super) fn began(&mut self, service: &Name) {
        *self.runs.entry(service.clone()).or_default() += 1;
    }

    pub(super) fn left(&mut self, service: &Name) {
        if let Some(runs) = self.runs.get_mut(service) {
            *runs -= 1;
            if *runs == 0 {
                self.runs.remove(service);
            }
        }
    }

    /// Whether `more` runs of a service could begin now as far as its allowance goes.
    pub(super) fn has_room_for(&self, service: &Name, more: usize) -> bool {
        let allowance = self.allowance(service);
        let runs = allowance
            .runs
            .map_or(usize::MAX, |most| most.get() as usize);
        self.runs(service) + more <= runs && !self.is_spent(service)
    }

    /// Whether a service has used up what it may use in a day.
    pub(super) fn is_spent(&self, service: &Name) -> bool {
        let (used, allowance) = (self.used(service), self.allowance(service));
        allowance.cpu.is_some_and(|most| used.cpu >= most)
            || allowance.bytes.is_some_and(|most| used.bytes >= most)
    }

    /// Whether a service may hand in one more task now, which is counted then.
    pub(super) fn admit(&mut self, now: Now, service: &Name) -> Result<(), OverLimit> {
        self.turn(now.time);
        let (used, allowance) = (self.used(service), self.allowance(service));
        let (wait, service) = (whole_seconds(self.day.1.0 - now.time.0), service.clone());
        if let Some(most) = allowance.cpu.filter(|most| used.cpu >= *most) {
            let used = used.cpu;
            return Err(OverLimit::Cpu {
                service,
                used,
                most,
                wait,
            });
        }
        if let Some(most) = allowance.bytes.filter(|most| used.bytes >= *most) {
            let used = used.bytes;
            return Err(OverLimit::Bytes {
                service,
                used,
                most,
                wait,
            });
        }
        let Some(rate) = allowance.rate else {
            return Ok(());
        };
        let next = self
            .next
            .get(&service)
            .map_or(now.tick, |next| (*next).max(now.tick));
        let ahead = rate.interval().0.saturating_mul((rate.count() - 1).into());
        let early = next.0.saturating_sub(now.tick.after(Duration(ahead)).0);
        if early > 0 {
            let wait = whole_seconds(early);
            return Err(OverLimit::Rate {
                service,
                rate,
                wait,
            });
        }
        self.next.insert(service, next.after(rate.interval()));
        Ok(())
    }

    /// Services of which something is known.
    pub(super) fn services(&self) -> HashSet<Name> {
        let named = self
            .allowances
            .0
            .keys()
            .filter(|name| name.as_str() != Allowances::DEFAULT);
        let counted = self.runs.keys().chain(self.used.keys());
        named.chain(counted).cloned().collect()
    }
}
