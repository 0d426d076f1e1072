//! Whether something that failed is asked again. Pure: time and chance are
//! arguments.
//!
//! ```text
//! well ── fails ──► failing ── fails again and again ──► broken ⟲ (waits twice as long)
//!   ▲──────────────── works ────┴──────────── works ───────┘
//! ```

use std::time::{Duration, Instant};

/// How something does that can fail.
#[derive(Debug)]
pub struct Breaker {
    rule: Rule,
    failures: u32,
    /// When it may be asked again.
    until: Option<Instant>,
}

/// When it counts as broken, and how long it is left alone then.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Failures one after the other.
    pub breaks_at: u32,
    /// How long it is left alone at first.
    pub first: Duration,
    /// How long at the most.
    pub longest: Duration,
}

impl Breaker {
    /// Nothing failed yet.
    #[must_use]
    pub const fn new(rule: Rule) -> Self {
        Self {
            rule,
            failures: 0,
            until: None,
        }
    }

    /// Whether it failed so often that it is left alone.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.failures >= self.rule.breaks_at
    }

    /// When it may be asked, if that is not always.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it may be asked.
    #[must_use]
    pub fn may_ask(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// It did not fail.
    pub const fn worked(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// It failed. `chance`: any number, so that not all wait equally long.
    pub fn failed(&mut self, now: Instant, chance: u64) {
        self.failures = self.failures.saturating_add(1);
        if !self.is_broken() {
            return;
        }
        let doubled = (self.failures - self.rule.breaks_at).min(20);
        let wait = (self.rule.first * (1 << doubled)).min(self.rule.longest);
        // Between three and five quarters of it.
        let part = 750 + (chance % 501) as u32;
        self.until = Some(now + wait / 1000 * part);
    }
}

/// A number that cannot be foreseen.
#[must_use]
pub fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Breaker, Rule};

    const RULE: Rule = Rule {
        breaks_at: 3,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(300),
    };

    #[test]
    fn it_breaks_waits_longer_and_longer_and_heals_at_once() {
        let mut breaker = Breaker::new(RULE);
        let now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..40 {
            breaker.failed(now, 250);
            let until = breaker.until().map_or(0, |u| (u - now).as_secs());
            assert_eq!(breaker.may_ask(now), until == 0);
            waits.push(until);
        }
        assert_eq!(waits[..7], [0, 0, 1, 2, 4, 8, 16]);
        assert_eq!(waits[39], 300);
        assert!(breaker.is_broken());
        assert!(breaker.may_ask(now + Duration::from_secs(301)));
        breaker.worked();
        assert!(!breaker.is_broken() && breaker.may_ask(now));
    }

    #[test]
    fn not_all_wait_equally_long() {
        let now = Instant::now();
        let wait = |chance| {
            let mut breaker = Breaker::new(Rule {
                breaks_at: 1,
                ..RULE
            });
            breaker.failed(now, chance);
            breaker.until().unwrap() - now
        };
        assert_eq!(wait(0), Duration::from_millis(750));
        assert_eq!(wait(500), Duration::from_millis(1250));
        assert_eq!(wait(u64::MAX), Duration::from_millis(750 + u64::MAX % 501));
    }
}
