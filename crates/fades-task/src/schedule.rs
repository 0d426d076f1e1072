//! When a task runs, if not once.
//!
//! A task with a [`Schedule`] stays with the node and has a *run* for each time that
//! is *due*, each a task of its own with a result of its own. Times like
//! `last = "5m"` in what it retrieves are relative to the time that is due, not to
//! when the run really begins: runs that follow each other see ranges that follow
//! each other.

use std::fmt;
use std::str::FromStr;

use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::quantity::Duration;
use crate::time::{Time, Zone};

/// When a task runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Schedule {
    /// At all multiples of it since 1970 UTC: `"5m"` means five past, ten past, and
    /// so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// At the times of a cron pattern, in the task's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// What to do about times that passed while the node was down, or while an
    /// earlier run was not done.
    #[serde(default, skip_serializing_if = "CatchUp::is_default")]
    pub catch_up: CatchUp,
}

/// What becomes of times that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The newest of them is made up for, the others are left out.
    #[default]
    Latest,
    /// All are made up for, the oldest first: the newest [`Schedule::MISSED_MAX`] of
    /// them.
    All,
}

impl CatchUp {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A cron pattern: minute, hour, day of the month, month, day of the week; before
/// them, seconds, if there are six.
#[derive(Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither or both.
    #[error("schedule: give it either \"every\" or \"cron\"")]
    OneOf,
    /// Too often or too seldom.
    #[error("schedule.every is \"{0}\": write at least \"1s\" and at most \"366d\"")]
    Every(Duration),
    /// No pattern.
    #[error(
        "schedule.cron: {pattern:?} is no cron pattern: {reason}; write minute, hour, day of month, month, day of week, such as \"30 6 * * MON-FRI\""
    )]
    Cron {
        /// What was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern that never matches.
    #[error("schedule.cron: {0:?} is never due")]
    Never(String),
    /// The id has no room for that of a run.
    #[error(
        "task.id has {have} characters: that of a task with a schedule has at most {max}, because the time of a run is added to it"
    )]
    Id {
        /// How many.
        have: usize,
        /// How many it may have.
        max: usize,
    },
}

/// The next time that is due, and how many before it are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time.
    pub at: Time,
    /// Times that passed and are not made up for; of cron patterns, at most
    /// [`Schedule::MISSED_MAX`] are counted.
    pub skipped: u64,
}

impl Schedule {
    /// Most times that are made up for.
    pub const MISSED_MAX: u64 = 1_000;

    /// A run that begins so long after its time was not missed.
    pub const GRACE: Duration = Duration::from_secs(5);

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, id: &Name) -> Result<(), ScheduleError> {
        const LONGEST: u64 = 366 * 86_400;
        match (self.every, &self.cron) {
            (Some(every), None) => {
                if every < Duration::from_secs(1) || every > Duration::from_secs(LONGEST) {
                    return Err(ScheduleError::Every(every));
                }
            }
            (None, Some(cron)) => {
                if cron.after(Time(0), &Zone::default()).is_none() {
                    return Err(ScheduleError::Never(cron.text.clone()));
                }
            }
            _ => return Err(ScheduleError::OneOf),
        }
        let (have, max) = (id.as_str().len(), Name::MAX - RUN_SUFFIX);
        if have > max {
            return Err(ScheduleError::Id { have, max });
        }
        Ok(())
    }

    /// The first time after `time`; none: there is none.
    #[must_use]
    pub fn after(&self, time: Time, zone: &Zone) -> Option<Time> {
        match (self.every, &self.cron) {
            (Some(every), _) => {
                let every = i64::try_from(every.0).ok().filter(|e| *e > 0)?;
                let next = time.0.div_euclid(every).checked_add(1)?;
                next.checked_mul(every).map(Time)
            }
            (None, Some(cron)) => cron.after(time, zone),
            (None, None) => None,
        }
    }

    /// What is to be run next by a schedule that has run what was due until
    /// `done`; its time may be over or still to come.
    #[must_use]
    pub fn next(&self, done: Time, now: Time, zone: &Zone) -> Option<Due> {
        let first = self.after(done, zone)?;
        let newest = self.newest(now, zone).filter(|newest| *newest > first);
        let at = match (self.catch_up, newest) {
            (CatchUp::All, Some(newest)) => first.max(self.back(newest, zone)),
            (CatchUp::None | CatchUp::Latest, Some(newest)) => newest,
            (_, None) => first,
        };
        let missed = self.catch_up == CatchUp::None && at.after(Self::GRACE) < now;
        let at = if missed { self.after(now, zone)? } else { at };
        let skipped = self.between(first, at, zone);
        Some(Due { at, skipped })
    }

    /// The last time that is not after `now`.
    fn newest(&self, now: Time, zone: &Zone) -> Option<Time> {
        match (self.every, &self.cron) {
            (Some(every), _) => {
                let every = i64::try_from(every.0).ok().filter(|e| *e > 0)?;
                now.0.div_euclid(every).checked_mul(every).map(Time)
            }
            (None, Some(cron)) => cron.newest(now, zone),
            (None, None) => None,
        }
    }

    /// The oldest time that is made up for when `newest` is the newest.
    fn back(&self, newest: Time, zone: &Zone) -> Time {
        let further = Self::MISSED_MAX - 1;
        if let Some(every) = self.every {
            return newest.before(Duration(every.0.saturating_mul(further)));
        }
        let mut oldest = newest;
        for _ in 0..further {
            match self.newest(oldest.before(Duration(1)), zone) {
                Some(time) => oldest = time,
                None => break,
            }
        }
        oldest
    }

    /// How many times are due from `first` on and before `at`.
    fn between(&self, first: Time, at: Time, zone: &Zone) -> u64 {
        if let Some(every) = self.every {
            return (at.0.abs_diff(first.0)) / every.0.max(1);
        }
        let later = |time: &Time| self.after(*time, zone);
        let times = std::iter::successors(Some(first), later);
        let times = times.take_while(|time| *time < at);
        times.take(Self::MISSED_MAX as usize).count() as u64
    }
}

/// Characters that a run's time takes in its id.
const RUN_SUFFIX: usize = ".20261123T170000Z".len();

/// The id of the run of `task` that was due at `due`, to the second.
#[must_use]
pub fn run_id(task: &Name, due: Time) -> Option<Name> {
    let at = Timestamp::from_nanosecond(due.0.into()).ok()?;
    let at = at.strftime("%Y%m%dT%H%M%SZ");
    format!("{task}.{at}").parse().ok()
}

/// The task whose run has this id; of any other id, itself.
#[must_use]
pub fn task_of(id: &Name) -> Name {
    let task = id.as_str().rsplit_once('.').map(|(task, _)| task);
    let task = task.filter(|_| is_run_id(id)).and_then(|t| t.parse().ok());
    task.unwrap_or_else(|| id.clone())
}

/// Whether an id is one that runs of schedules have.
#[must_use]
pub fn is_run_id(id: &Name) -> bool {
    let Some((task, time)) = id.as_str().rsplit_once('.') else {
        return false;
    };
    let digits = |range: std::ops::Range<usize>| {
        let digits = time.as_bytes().get(range);
        digits.is_some_and(|d| d.iter().all(u8::is_ascii_digit))
    };
    let signs = (time.as_bytes().get(8), time.as_bytes().get(15));
    !task.is_empty()
        && time.len() == RUN_SUFFIX - 1
        && digits(0..8)
        && digits(9..15)
        && signs == (Some(&b'T'), Some(&b'Z'))
}

impl Cron {
    fn after(&self, time: Time, zone: &Zone) -> Option<Time> {
        // A zone that was checked when it was parsed is found again.
        let zone = TimeZone::get(zone.name()).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_nanosecond(time.0.into()).ok()?;
        let next = self.pattern.find_next_occurrence(&at.to_zoned(zone), false);
        let next = next.ok()?.timestamp().as_nanosecond();
        i64::try_from(next).ok().map(Time)
    }
}

impl Cron {
    fn newest(&self, now: Time, zone: &Zone) -> Option<Time> {
        let zone = TimeZone::get(zone.name()).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_nanosecond(now.0.into()).ok()?;
        let last = self
            .pattern
            .find_previous_occurrence(&at.to_zoned(zone), true);
        let last = last.ok()?.timestamp().as_nanosecond();
        i64::try_from(last).ok().map(Time)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.every, &self.cron) {
            (Some(every), _) => write!(f, "every {every}")?,
            (None, Some(cron)) => write!(f, "cron {cron}")?,
            (None, None) => {}
        }
        f.write_str(match self.catch_up {
            CatchUp::None => ", what was missed is left out",
            CatchUp::Latest => ", the newest of what was missed is made up for",
            CatchUp::All => ", what was missed is made up for",
        })
    }
}

impl FromStr for Cron {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |reason: String| ScheduleError::Cron {
            pattern: text.to_owned(),
            reason,
        };
        // It is compiled for each field; no pattern that anybody means is longer.
        const LONGEST: usize = 256;
        if text.len() > LONGEST {
            return Err(wrong(format!("it is longer than {LONGEST} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        let pattern = parser.parse(text).map_err(|e| wrong(e.to_string()))?;
        let text = text.to_owned();
        Ok(Self { text, pattern })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Serialize for Cron {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Cron {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cron".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a cron pattern of five fields (minute, hour, day of month, month, day of week), or six with seconds first"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{CatchUp, Due, Schedule, ScheduleError, is_run_id, run_id};
    use crate::identity::Name;
    use crate::quantity::Duration;
    use crate::time::{Time, Zone};

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn every(text: &str, catch_up: CatchUp) -> Schedule {
        Schedule {
            every: Some(text.parse().unwrap()),
            cron: None,
            catch_up,
        }
    }

    fn cron(text: &str) -> Schedule {
        Schedule {
            every: None,
            cron: Some(text.parse().unwrap()),
            catch_up: CatchUp::default(),
        }
    }

    /// The first so many times after one.
    fn times(schedule: &Schedule, zone: &str, from: &str, count: usize) -> Vec<String> {
        let zone: Zone = zone.parse().unwrap();
        let mut at = time(from);
        let next = || {
            at = schedule.after(at, &zone)?;
            Some(at.to_string())
        };
        std::iter::from_fn(next).take(count).collect()
    }

    fn id(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_begin_at_their_multiples() {
        let schedule = every("5m", CatchUp::Latest);
        assert_eq!(
            times(&schedule, "UTC", "2026-11-23T17:02:03Z", 2),
            ["2026-11-23T17:05:00Z", "2026-11-23T17:10:00Z"]
        );
        let before_1970 = times(&schedule, "UTC", "1969-12-31T23:56:00Z", 1);
        assert_eq!(before_1970, ["1970-01-01T00:00:00Z"]);
    }

    #[test]
    fn patterns_are_of_the_tasks_zone_and_its_changes_of_the_clock() {
        let morning = cron("30 6 * * MON-FRI");
        assert_eq!(
            times(&morning, "Europe/London", "2026-10-23T12:00:00Z", 2),
            ["2026-10-26T06:30:00Z", "2026-10-27T06:30:00Z"],
            "winter time began between"
        );
        assert_eq!(
            times(&morning, "Europe/London", "2026-10-22T12:00:00Z", 1),
            ["2026-10-23T05:30:00Z"]
        );
        // An hour that comes twice: an hourly task runs in both.
        assert_eq!(
            times(
                &cron("0 * * * *"),
                "Europe/London",
                "2026-10-25T00:00:00Z",
                2
            ),
            ["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
        );
        // A time that is left out is made up for when the clock goes on.
        assert_eq!(
            times(
                &cron("30 1 * * *"),
                "Europe/London",
                "2026-03-28T12:00:00Z",
                2
            ),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times(&cron("*/20 * * * * *"), "UTC", "2026-01-01T00:00:00Z", 2),
            ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z"]
        );
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_schedule_says() {
        let utc = Zone::default();
        let (done, now) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T01:01:00Z"));
        let next = |catch_up| every("10m", catch_up).next(done, now, &utc).unwrap();
        let due = |text: &str, skipped| Due {
            at: time(text),
            skipped,
        };
        assert_eq!(next(CatchUp::All), due("2026-01-01T00:10:00Z", 0));
        assert_eq!(next(CatchUp::Latest), due("2026-01-01T01:00:00Z", 5));
        assert_eq!(next(CatchUp::None), due("2026-01-01T01:10:00Z", 6));
        // On time is not missed.
        let now = time("2026-01-01T00:10:04Z");
        for catch_up in [CatchUp::All, CatchUp::Latest, CatchUp::None] {
            let next = every("10m", catch_up).next(done, now, &utc).unwrap();
            assert_eq!(next, due("2026-01-01T00:10:00Z", 0), "{catch_up:?}");
        }
    }

    #[test]
    fn a_long_absence_costs_no_long_search() {
        let utc = Zone::default();
        let (done, now) = (time("1970-01-02"), time("2026-01-01T00:00:00.5Z"));
        for catch_up in [CatchUp::None, CatchUp::Latest, CatchUp::All] {
            let due = every("1s", catch_up).next(done, now, &utc).unwrap();
            assert!(
                due.at >= now.before(Duration::from_secs(1_001)),
                "{catch_up:?}: {due:?}"
            );
            assert!(due.at <= now.after(Duration::from_secs(1)));
            let seconds = (due.at.0 - done.0) as u64 / 1_000_000_000;
            assert_eq!(due.skipped, seconds - 1, "{catch_up:?}");
            let due = Schedule {
                catch_up,
                ..cron("* * * * * *")
            };
            let due = due.next(done, now, &utc).unwrap();
            assert!(due.at <= now.after(Duration::from_secs(1)), "{due:?}");
            assert_eq!(due.skipped, Schedule::MISSED_MAX);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        let both = Schedule {
            cron: cron("* * * * *").cron,
            ..every("5m", CatchUp::None)
        };
        assert_eq!(both.check(&id("a")), Err(ScheduleError::OneOf));
        let neither = Schedule {
            cron: None,
            ..cron("* * * * *")
        };
        assert_eq!(neither.check(&id("a")), Err(ScheduleError::OneOf));
        for wrong in ["500ms", "400d"] {
            let checked = every(wrong, CatchUp::None).check(&id("a"));
            assert!(matches!(checked, Err(ScheduleError::Every(_))), "{wrong}");
        }
        for wrong in ["", "* * *", "61 * * * *", "at noon", &"*,".repeat(200)] {
            let parsed = wrong.parse::<super::Cron>();
            assert!(parsed.is_err(), "{wrong}");
        }
        let never = cron("0 0 31 2 *").check(&id("a"));
        assert!(matches!(never, Err(ScheduleError::Never(_))), "{never:?}");
        let long = id(&"x".repeat(48));
        let refused = every("5m", CatchUp::None).check(&long);
        assert_eq!(refused, Err(ScheduleError::Id { have: 48, max: 47 }));
    }

    #[test]
    fn runs_are_called_by_the_time_that_was_due() {
        let run = run_id(&id("air-7"), time("2026-11-23T17:00:00Z")).unwrap();
        assert_eq!(run.as_str(), "air-7.20261123T170000Z");
        assert!(is_run_id(&run));
        assert_eq!(super::task_of(&run), id("air-7"));
        assert_eq!(super::task_of(&id("air.7")), id("air.7"));
        let longest = id(&"x".repeat(47));
        assert!(run_id(&longest, time("2026-11-23")).is_some());
        for other in [
            "air-7",
            "a.20261123T170000",
            "a.20261123t170000Z",
            "20261123T170000Z",
        ] {
            assert!(!is_run_id(&id(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_next_is_after_what_is_done(done in any::<i32>(), passed in 0..100_000_u32, seconds in 1..5_000_u64, which in 0..3_u8) {
            let catch_up = [CatchUp::None, CatchUp::Latest, CatchUp::All][usize::from(which)];
            let schedule = Schedule {
                every: Some(Duration::from_secs(seconds)),
                cron: None,
                catch_up,
            };
            let done = Time(i64::from(done) * 1_000_000_000);
            let now = done.after(Duration::from_secs(passed.into()));
            let zone = Zone::default();
            let due = schedule.next(done, now, &zone).unwrap();
            assert!(due.at > done);
            assert!(due.at <= now.after(Duration::from_secs(seconds)));
            // Each time is either run or left out.
            let mut between = 0;
            let mut at = done;
            while let Some(next) = schedule.after(at, &zone).filter(|next| *next < due.at) {
                between += 1;
                at = next;
            }
            assert_eq!(due.skipped, between);
        }
    }
}
