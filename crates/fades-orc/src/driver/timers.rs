//! What the core wants to be reminded of.

use std::collections::BTreeMap;

use crate::core::{Tick, Timer};

/// So many timers are never looked through.
const FEW: usize = 1_024;

/// Timers in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Tick, u64), Timer>,
    set: u64,
    /// How many were of interest when they were last looked through.
    kept: usize,
}

impl Timers {
    pub(super) fn set(&mut self, at: Tick, timer: Timer) {
        self.queue.insert((at, self.set), timer);
        self.set += 1;
    }

    /// Microseconds until the next one; 0 when it is due.
    pub(super) fn next(&self, now: Tick) -> Option<u64> {
        let ((at, _), _) = self.queue.first_key_value()?;
        Some(at.micros_since(now))
    }

    /// Takes the next one if it is due.
    pub(super) fn due(&mut self, now: Tick) -> Option<Timer> {
        self.next(now).filter(|left| *left == 0)?;
        self.queue.pop_first().map(|(_, timer)| timer)
    }

    /// Drops those that came to nothing, once they are most of all. Each run
    /// sets some that are due long after its usual end, so that a busy node
    /// would have a million of them.
    pub(super) fn tidy(&mut self, is_of_interest: impl Fn(&Timer) -> bool) {
        if self.queue.len() < FEW.max(2 * self.kept) {
            return;
        }
        self.queue.retain(|_, timer| is_of_interest(timer));
        self.kept = self.queue.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, Timers};
    use crate::core::{Part, RunId, Tick, Timer};

    #[test]
    fn timers_come_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        timers.set(Tick(5_000), Timer::Retry);
        timers.set(Tick(2_000), Timer::Restart(Part::Broker));
        timers.set(Tick(5_000), Timer::PartReady(Part::Broker, 1));
        assert_eq!(timers.next(Tick(0)), Some(2));
        assert_eq!(timers.due(Tick(0)), None);
        assert_eq!(timers.due(Tick(9_000)), Some(Timer::Restart(Part::Broker)));
        assert_eq!(timers.due(Tick(9_000)), Some(Timer::Retry));
        assert_eq!(
            timers.due(Tick(9_000)),
            Some(Timer::PartReady(Part::Broker, 1))
        );
        assert_eq!(timers.next(Tick(9_000)), None);
    }

    #[test]
    fn timers_of_runs_that_ended_do_not_pile_up() {
        let mut timers = Timers::default();
        for run in 0..100_000 {
            timers.set(Tick(run), Timer::Stuck(RunId(run as u64)));
            let open = run as u64 - run as u64 % 10;
            timers.tidy(|t| matches!(t, Timer::Stuck(run) if run.0 >= open));
            assert!(timers.queue.len() <= FEW);
        }
        timers.tidy(|_| true);
        assert!(timers.next(Tick(0)).is_some());
    }
}
