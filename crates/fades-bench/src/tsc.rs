//! The processor's time-stamp counter, which host and microVM can both read.
#![expect(unsafe_code, reason = "an instruction that is an intrinsic")]

use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::turns::microseconds;

/// Long against what it takes to read both clocks.
const CALIBRATION: Duration = Duration::from_millis(100);

/// The counter, compared with the system's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counter {
    ticks_per_us: f64,
}

impl Counter {
    /// Compares the counter with the monotonic clock for a moment.
    pub(crate) fn calibrate() -> Self {
        let (clock, ticks) = (Instant::now(), now());
        std::thread::sleep(CALIBRATION);
        let (spent, passed) = (clock.elapsed(), now().wrapping_sub(ticks));
        Self {
            ticks_per_us: passed as f64 / microseconds(spent),
        }
    }

    /// Microseconds from `before` to `seen`, which another machine read between
    /// `before` and `after`. Fails when it cannot have been this counter.
    pub(crate) fn until(self, before: u64, seen: u64, after: u64) -> Result<f64, Fault> {
        if (before..=after).contains(&seen) {
            return Ok((seen - before) as f64 / self.ticks_per_us);
        }
        Err(Fault::Meaningless(format!(
            "the function's time-stamp counter is not the host's: {seen} is not between {before} and {after}"
        )))
    }
}

/// The counter now.
pub(crate) fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_passes_as_the_clock_does() {
        let counter = Counter::calibrate();
        let (clock, before) = (Instant::now(), now());
        std::thread::sleep(Duration::from_millis(20));
        let (spent, after) = (microseconds(clock.elapsed()), now());
        let counted = counter.until(before, after, after).unwrap();
        assert!((counted / spent - 1.0).abs() < 0.1, "{counted} of {spent}");
    }

    #[test]
    fn a_counter_with_an_offset_is_refused() {
        let counter = Counter { ticks_per_us: 1.0 };
        assert_eq!(counter.until(10, 15, 20).unwrap(), 5.0);
        assert!(counter.until(10, 9, 20).is_err());
        assert!(counter.until(10, 21, 20).is_err());
    }
}
