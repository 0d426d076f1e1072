//! The clock by which the age of readings is judged.
//!
//! A wall clock that jumps far ahead would make every reading too old. So its steps
//! are compared with those of a clock that only runs while the host does and is never
//! set. When the two part, age is judged by whichever says less, until the wall clock
//! is back or has been so for [`HOLD`]: an operator has that long to set it right.
//!
//! ```text
//!            more than JUMP apart              so for HOLD
//! trusted ───────────────────────────► held ───────────────► trusted
//!    ▲                                   │
//!    └───────────────────────────────────┘ together again
//! ```
//! What is trusted is kept in `readings/.clock.json`, so that a host that was off, or a
//! broker that starts with a wrong clock, is noticed too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fades_task::quantity::Duration;
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::segment::DAY;

/// Ahead or behind by more than this is a jump; removing is by whole days anyway.
const JUMP: i64 = DAY;

/// So long, while the broker runs, a clock that jumped is not believed.
pub(super) const HOLD: i64 = 3 * DAY;

/// It is written so often.
const SAVE: i64 = DAY / 24;

/// What is believed of the wall clock.
#[derive(Debug)]
pub(super) struct Clock {
    path: PathBuf,
    state: Option<State>,
    /// The clock that is never set, when `state` was made, and when it was saved.
    up: i64,
    saved: Option<i64>,
}

/// ns; `time` since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The time, as far as it is believed.
    time: i64,
    /// How long the wall clock has been saying something else.
    held: i64,
}

/// By which time age is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Age {
    /// ns since 1970 UTC.
    pub(super) now: i64,
    /// Why it is not the wall clock's, in words.
    pub(super) held: Option<String>,
}

impl Clock {
    /// What was believed when the broker ended. What cannot be read is as if it was
    /// not there.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(".clock.json");
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self {
            state: serde_json::from_str(&text).ok(),
            path,
            up: up(),
            saved: None,
        }
    }

    /// Judges what the wall clock says. `arrived`: when the newest reading that is
    /// kept arrived, which counts when nothing else is known.
    pub(super) fn look(&mut self, now: i64, up: i64, arrived: Option<i64>) -> Age {
        let since = up.saturating_sub(self.up).max(0);
        self.up = up;
        let state = self.state.get_or_insert(State {
            time: arrived.unwrap_or(now),
            held: 0,
        });
        let expected = state.time.saturating_add(since);
        let held = state.held.saturating_add(since);
        let apart = now.saturating_sub(expected);
        if apart.saturating_abs() <= JUMP || held >= HOLD {
            *state = State { time: now, held: 0 };
            return Age { now, held: None };
        }
        *state = State {
            time: expected,
            held,
        };
        Age {
            now: now.min(expected),
            held: Some(words(apart, now, HOLD - held)),
        }
    }

    /// Writes what is believed, now and then.
    pub(super) fn save(&mut self, disk: &Arc<Disk>) {
        let is_due = self.saved.is_none_or(|saved| self.up - saved >= SAVE);
        let Some(state) = self.state.filter(|_| is_due) else {
            return;
        };
        self.saved = Some(self.up);
        let text = serde_json::to_string(&state).unwrap_or_default();
        if let Err(e) = disk.replace(&self.path, &text) {
            // The newest arrivals are there instead.
            tracing::debug!("{}: {e}", self.path.display());
        }
    }
}

/// ns of a clock that nobody sets, and that goes on while the host sleeps.
pub(super) fn up() -> i64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = up.tv_sec.saturating_mul(1_000_000_000);
    seconds.saturating_add(up.tv_nsec)
}

fn words(apart: i64, now: i64, left: i64) -> String {
    const HOUR: u64 = DAY.unsigned_abs() / 24;
    let by = Duration(apart.unsigned_abs() / HOUR * HOUR);
    let left = Duration(left.unsigned_abs().div_ceil(HOUR) * HOUR);
    let way = if apart > 0 { "ahead" } else { "back" };
    let now = Time(now);
    format!(
        "the node's clock says {now}, {by} {way} of what was expected: readings are not removed \
         by that age for another {left}; set the clock right, or leave it if it is"
    )
}

#[cfg(test)]
mod tests {
    use super::{Age, Clock, DAY, HOLD, JUMP, State, up};

    const NOON: i64 = 20_000 * DAY + DAY / 2;
    const YEAR: i64 = 365 * DAY;

    /// What it says of (wall clock, clock that is never set), one after the other.
    fn ages(folder: &std::path::Path, looks: &[(i64, i64)]) -> Vec<(i64, bool)> {
        let mut clock = Clock::open(folder);
        clock.up = 0;
        let look = |&(wall, up): &(i64, i64)| {
            let Age { now, held } = clock.look(wall, up, Some(NOON));
            clock.save(&std::sync::Arc::default());
            (now, held.is_some())
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_clock_that_goes_as_it_should_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let looks = [
            (NOON, 0),
            (NOON + DAY, DAY),
            // Up to a day is nothing, also many times.
            (NOON + 3 * DAY, 2 * DAY),
            (NOON + 2 * DAY, 2 * DAY),
        ];
        let said = ages(folder.path(), &looks);
        let expected: Vec<_> = looks.iter().map(|l| (l.0, false)).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn a_jump_is_held_until_it_is_undone_or_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let far = NOON + 10 * YEAR;
        let looks = [
            (NOON, 0),
            (far, 1),
            (far + DAY, DAY),
            (NOON + DAY + 5, DAY + 5),
            (far, DAY + 6),
            (far + HOLD - 7, DAY + HOLD - 2),
            (far + HOLD, DAY + HOLD + 5),
            (far + HOLD + 9, DAY + HOLD + 9),
        ];
        let expected = [
            (NOON, false),
            (NOON + 1, true),
            (NOON + DAY, true),
            (NOON + DAY + 5, false),
            (NOON + DAY + 6, true),
            (NOON + DAY + HOLD - 2, true),
            (far + HOLD, false),
            (far + HOLD + 9, false),
        ];
        assert_eq!(ages(folder.path(), &looks), expected);
    }

    #[test]
    fn a_clock_that_is_wrong_from_the_start_is_seen_and_one_that_went_back_removes_less() {
        let folder = tempfile::tempdir().unwrap();
        // Nothing but the newest arrival is known.
        let first = ages(folder.path(), &[(NOON + YEAR, 0), (NOON + YEAR + DAY, DAY)]);
        assert_eq!(first, [(NOON, true), (NOON + DAY, true)]);
        // The next broker knows how long it has been so, and is not impressed by
        // readings that arrived meanwhile.
        let looks = [
            (NOON + YEAR + DAY, 0),
            (5, 1),
            (NOON + YEAR + HOLD, HOLD - DAY),
        ];
        let second = ages(folder.path(), &looks);
        assert_eq!(second[0], (NOON + DAY, true));
        assert_eq!(second[1], (5, true));
        assert_eq!(second[2], (NOON + YEAR + HOLD, false));
    }

    #[test]
    fn a_day_is_the_bound_and_the_words_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at_bound = [(NOON + JUMP, 0)];
        assert_eq!(ages(folder.path(), &at_bound), [(NOON + JUMP, false)]);
        let mut clock = Clock::open(folder.path());
        (clock.up, clock.state) = (0, None);
        let held = clock.look(NOON + JUMP + 1, 0, Some(NOON)).held.unwrap();
        assert!(
            held.contains("24h ahead") || held.contains("1d ahead"),
            "{held}"
        );
        assert!(held.contains("for another 3d"), "{held}");
        clock.state = Some(State {
            time: NOON,
            held: 0,
        });
        let held = clock.look(0, 0, None).held.unwrap();
        assert!(held.contains(" back of"), "{held}");
        assert!(up() > 0);
    }

    #[test]
    fn what_was_written_and_cannot_be_read_is_as_if_it_was_not_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".clock.json"), "{\"time\":").unwrap();
        let said = ages(folder.path(), &[(NOON + YEAR, 0)]);
        assert_eq!(said, [(NOON, true)]);
    }
}
