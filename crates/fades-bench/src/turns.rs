//! Taking turns: what is measured, then what it is compared with, and again.
//!
//! A host that gets slower or faster meanwhile does so for both.

use std::time::{Duration, Instant};

use crate::samples::Samples;

/// How often, and for how long at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounds {
    /// Rounds that are not counted, so that caches and pools are warm.
    pub(crate) warm_up: usize,
    /// Rounds that are wanted.
    pub(crate) wanted: usize,
    /// From this time on no more rounds than [`Rounds::LEAST`] are made.
    pub(crate) within: Duration,
}

impl Rounds {
    /// Rounds that are made however long they take.
    pub(crate) const LEAST: usize = 3;

    /// Does `round` as often as wanted; it is told whether it counts.
    pub(crate) fn each<E>(self, mut round: impl FnMut(bool) -> Result<(), E>) -> Result<(), E> {
        for _ in 0..self.warm_up {
            round(false)?;
        }
        let begun = Instant::now();
        for done in 0..self.wanted {
            if done >= Self::LEAST && begun.elapsed() >= self.within {
                break;
            }
            round(true)?;
        }
        Ok(())
    }
}

/// Measures `ours` and `theirs` in turns.
pub(crate) fn in_turns<E>(
    rounds: Rounds,
    mut ours: impl FnMut() -> Result<f64, E>,
    mut theirs: impl FnMut() -> Result<f64, E>,
) -> Result<(Samples, Samples), E> {
    let (mut a, mut b) = (Samples::default(), Samples::default());
    rounds.each(|counts| {
        let (one, other) = (ours()?, theirs()?);
        if counts {
            a.push(one);
            b.push(other);
        }
        Ok(())
    })?;
    Ok((a, b))
}

/// What `work` took, in microseconds, and what it gave.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let done = work();
    (microseconds(begun.elapsed()), done)
}

/// A duration in microseconds.
pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn rounds(warm_up: usize, wanted: usize, within: Duration) -> Rounds {
        Rounds {
            warm_up,
            wanted,
            within,
        }
    }

    #[test]
    fn the_two_sides_take_turns_and_warming_up_does_not_count() {
        let order = RefCell::new(String::new());
        let say = |letter, value| {
            order.borrow_mut().push(letter);
            Ok::<_, ()>(value)
        };
        let long = Duration::from_secs(3600);
        let (ours, theirs) =
            in_turns(rounds(1, 3, long), || say('a', 1.0), || say('b', 2.0)).unwrap();
        assert_eq!(*order.borrow(), "abababab");
        let (ours, theirs) = (ours.summary().unwrap(), theirs.summary().unwrap());
        assert_eq!((ours.n, theirs.n, theirs.median), (3, 3, 2.0));
    }

    #[test]
    fn when_the_time_is_over_a_few_rounds_are_made_all_the_same() {
        let mut made = 0;
        let over = rounds(0, 100, Duration::ZERO).each(|_| {
            made += 1;
            Ok::<_, ()>(())
        });
        assert_eq!((over, made), (Ok(()), Rounds::LEAST));
    }

    #[test]
    fn the_first_failure_ends_it() {
        let failed = rounds(0, 5, Duration::from_secs(3600)).each(|_| Err::<(), _>("lost"));
        assert_eq!(failed, Err("lost"));
    }
}
