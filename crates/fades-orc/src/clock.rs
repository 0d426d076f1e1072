//! The time by which tasks are judged, and whether it can be right.
//!
//! A board without a battery begins in 1970 until somebody tells it the time. A
//! clock that is behind what the store has seen is *not set*: the node goes by
//! the newest time that it knows, and lets that pass, until the clock is past it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fades_task::time::Time;

/// 2025-01-01: no node ever ran before.
const EARLIEST: Time = Time(1_735_689_600_000_000_000);

/// What a node takes for the time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// It cannot be earlier, ns since 1970 UTC.
    known: AtomicI64,
    since: Instant,
}

/// The time of the system's clock.
pub(crate) fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is wrong; the epoch is the least surprising answer.
    let nanos = since.map_or(0, |d| d.as_nanos());
    Time(i64::try_from(nanos).unwrap_or(i64::MAX))
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            known: AtomicI64::new(EARLIEST.0),
            since: Instant::now(),
        }
    }
}

impl Clock {
    /// Something happened at `time`.
    pub(crate) fn knows(&self, time: Time) {
        self.known.fetch_max(time.0, Ordering::Relaxed);
    }

    /// The operator says that the system's clock is right.
    pub(crate) fn accept(&self) {
        self.known.store(i64::MIN, Ordering::Relaxed);
    }

    /// The time; when the clock is not set, one that is not too late.
    pub(crate) fn now(&self) -> Time {
        self.at(system(), self.since.elapsed())
    }

    /// Why the system's clock is not gone by.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble_at(system())
    }

    fn at(&self, system: Time, elapsed: std::time::Duration) -> Time {
        let known = self.known.load(Ordering::Relaxed);
        if system.0 >= known {
            return system;
        }
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Time(known.saturating_add_unsigned(elapsed))
    }

    fn trouble_at(&self, system: Time) -> Option<String> {
        let known = Time(self.known.load(Ordering::Relaxed));
        (system < known).then(|| {
            format!(
                "the clock says {system}, which is before {known}: it is not set. Tasks are taken \
                 and judged by the later time, schedules wait; set the clock, or, if it is right, \
                 fades config reload"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fades_task::time::Time;

    use super::{Clock, EARLIEST};

    const YEAR: i64 = 365 * 86_400 * 1_000_000_000;

    #[test]
    fn a_clock_that_is_behind_what_is_known_is_not_gone_by_until_it_is_set() {
        let clock = Clock::default();
        let (hour, then) = (Duration::from_secs(3_600), Time(EARLIEST.0 + YEAR));
        clock.knows(then);
        clock.knows(EARLIEST);
        for system in [Time(0), EARLIEST, Time(then.0 - 1)] {
            assert_eq!(clock.at(system, hour), Time(then.0 + 3_600_000_000_000));
            let trouble = clock.trouble_at(system).unwrap();
            assert!(trouble.contains("it is not set"), "{trouble}");
        }
        for system in [then, Time(then.0 + 5 * YEAR)] {
            assert_eq!(clock.at(system, hour), system);
            assert_eq!(clock.trouble_at(system), None);
        }
    }

    #[test]
    fn a_clock_before_any_node_is_not_set_even_when_nothing_is_known() {
        let clock = Clock::default();
        assert!(clock.trouble_at(Time(0)).is_some());
        assert!(clock.trouble().is_none(), "this host's clock is set");
    }

    #[test]
    fn the_operator_may_say_that_it_is_right() {
        let clock = Clock::default();
        clock.knows(Time(EARLIEST.0 + YEAR));
        clock.accept();
        assert_eq!(clock.trouble_at(EARLIEST), None);
        assert_eq!(clock.at(Time(5), Duration::ZERO), Time(5));
    }
}
