//! When an inbox is asked again. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

use fades_outside::breaker::{Breaker, Rule};

/// What came of asking an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Letters, some of which are finished with.
    Letters,
    /// Letters, all of which are still there.
    Stuck,
    /// Nothing.
    Nothing,
}

/// How an inbox was, and how long it is left alone.
#[derive(Debug)]
pub(crate) struct Pace {
    errors: Breaker,
    idle: Breaker,
}

/// After an error.
const ERRORS: Rule = Rule {
    breaks_at: 1,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(300),
};

/// After an answer that changes nothing: an inbox that does not wait for letters is
/// not asked without a break.
const IDLE: Rule = Rule {
    breaks_at: 1,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};

/// Longest time for which an inbox can ask to be left alone.
const LONGEST: Duration = Duration::from_secs(3600);

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            errors: Breaker::new(ERRORS),
            idle: Breaker::new(IDLE),
        }
    }

    /// How long to wait after the inbox was asked from `begun` to `now`, and answered.
    pub(crate) fn after(
        &mut self,
        found: Found,
        begun: Instant,
        now: Instant,
        chance: u64,
    ) -> Duration {
        self.errors.worked();
        match found {
            Found::Letters => {
                self.idle.worked();
                Duration::ZERO
            }
            Found::Stuck => self.idle(now, now, chance),
            // What the inbox itself waited counts.
            Found::Nothing => self.idle(begun, now, chance),
        }
    }

    /// How long to wait after an error; `asked`: for how long the inbox wants to be
    /// left alone.
    pub(crate) fn after_error(
        &mut self,
        asked: Option<Duration>,
        now: Instant,
        chance: u64,
    ) -> Duration {
        self.errors.failed(now, chance);
        let wait = until(&self.errors, now);
        wait.max(asked.unwrap_or_default().min(LONGEST))
    }

    fn idle(&mut self, since: Instant, now: Instant, chance: u64) -> Duration {
        self.idle.failed(since, chance);
        until(&self.idle, now)
    }
}

fn until(breaker: &Breaker, now: Instant) -> Duration {
    let until = breaker.until().unwrap_or(now);
    until.saturating_duration_since(now)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Found, Pace};

    /// Of the shares by which waits differ, the middle.
    const EVEN: u64 = 250;

    #[test]
    fn errors_are_waited_after_longer_and_longer_and_at_least_as_asked() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let mut wait = |asked| pace.after_error(asked, now, EVEN).as_secs();
        assert_eq!([0; 5].map(|_| wait(None)), [1, 2, 4, 8, 16]);
        assert_eq!(wait(Some(Duration::from_secs(1))), 32);
        assert_eq!(wait(Some(Duration::from_secs(100))), 100);
        assert_eq!(wait(Some(Duration::from_secs(1 << 40))), 3600);
        assert_eq!([0; 3].map(|_| wait(None)), [256, 300, 300]);
        let begun = now;
        assert_eq!(pace.after(Found::Letters, begun, now, EVEN), Duration::ZERO);
        assert_eq!(pace.after_error(None, now, EVEN).as_secs(), 1);
    }

    #[test]
    fn an_inbox_that_answers_at_once_with_nothing_is_not_hammered() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let mut wait = |found| pace.after(found, now, now, EVEN).as_secs();
        let waits = [0; 7].map(|_| wait(Found::Nothing));
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(wait(Found::Letters), 0);
        assert_eq!([0; 3].map(|_| wait(Found::Stuck)), [1, 2, 4]);
    }

    #[test]
    fn an_inbox_that_waits_itself_is_asked_again_at_once() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..10 {
            let begun = now - Duration::from_secs(50);
            let wait = pace.after(Found::Nothing, begun, now, EVEN);
            assert_eq!(wait, Duration::ZERO);
        }
        // Letters that stay are not waited for by the inbox.
        let begun = now - Duration::from_secs(50);
        assert!(pace.after(Found::Stuck, begun, now, EVEN) >= Duration::from_secs(20));
    }
}
