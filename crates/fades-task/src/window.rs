//! Windows of a function that stays.
//!
//! A persistent function rests in its machine and is woken for each *window* of time:
//! it gets the readings of that window, answers for it, and hands over a checkpoint.
//! Each window is a run of its task with a result of its own, as the times of a
//! [`Schedule`] are. A window is over when readings of its time have had time to
//! arrive; what it holds is what the node's sources have of that time then.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::mtw::Retrieve;
use crate::quantity::Duration;
use crate::schedule::{CatchUp, Schedule, ScheduleError};
use crate::time::Time;

/// When windows end, and how long they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Window {
    /// A window ends at all multiples of it since 1970 UTC.
    pub every: Duration,
    /// How long each is; without it as long as `every`, so that they follow each
    /// other. Longer ones overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Duration>,
    /// Readings of a window have this long after its end to arrive.
    #[serde(default = "grace", skip_serializing_if = "is_grace")]
    pub grace: Duration,
    /// What to do about windows that were over while the node was down, or while an
    /// earlier one was not done.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub catch_up: CatchUp,
}

const GRACE: Duration = Duration::from_secs(2);

const fn grace() -> Duration {
    GRACE
}

fn is_grace(grace: &Duration) -> bool {
    *grace == GRACE
}

const fn all() -> CatchUp {
    CatchUp::All
}

fn is_all(catch_up: &CatchUp) -> bool {
    *catch_up == CatchUp::All
}

/// What is wrong with a task whose function stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Windows of a function that does not stay.
    #[error(
        "window: it is for a function that stays: say function.lifetime = \"persistent\", or remove it"
    )]
    Ephemeral,
    /// A function that stays, for nothing.
    #[error(
        "function.lifetime is \"persistent\": say in [window] when it answers, such as every = \"1m\""
    )]
    Missing,
    /// Two ways to run again.
    #[error("schedule: a function that stays has windows instead: remove one of them")]
    Both,
    /// Too often or too seldom.
    #[error("window.every is \"{0}\": write at least \"1s\" and at most \"366d\"")]
    Every(Duration),
    /// Windows with time between them, or that overlap too much.
    #[error(
        "window.length is \"{length}\": write at least window.every (\"{every}\"), and at most {max} times that", max = Window::OVERLAP_MAX
    )]
    Length {
        /// How long.
        length: Duration,
        /// How often.
        every: Duration,
    },
    /// Too patient.
    #[error("window.grace is \"{0}\": write at most \"1h\"")]
    Grace(Duration),
    /// Nothing to get.
    #[error("retrieve: a function that stays needs data: say what its windows hold")]
    Nothing,
    /// A DTO that has a range of its own.
    #[error(
        "retrieve {0}: a window is what is asked for: remove \"from\", \"to\", \"last\", \"now\", \"collect\" and \"result\""
    )]
    Range(Name),
    /// As with a schedule.
    #[error(transparent)]
    Id(#[from] ScheduleError),
}

impl Window {
    /// So many windows may hold the same reading.
    pub const OVERLAP_MAX: u64 = 1_000;

    /// Windows that follow each other.
    #[must_use]
    pub const fn every(every: Duration) -> Self {
        Self {
            every,
            length: None,
            grace: GRACE,
            catch_up: CatchUp::All,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, id: &Name, retrieve: &[Retrieve]) -> Result<(), WindowError> {
        let schedule = self.schedule();
        match schedule.check(id) {
            Err(ScheduleError::Every(every)) => return Err(WindowError::Every(every)),
            other => other?,
        }
        let (every, length) = (self.every, self.length());
        if length < every || length.0 / Self::OVERLAP_MAX > every.0 {
            return Err(WindowError::Length { length, every });
        }
        if self.grace > Duration::from_secs(3_600) {
            return Err(WindowError::Grace(self.grace));
        }
        if retrieve.is_empty() {
            return Err(WindowError::Nothing);
        }
        let ranged = |r: &&Retrieve| {
            let range = r.from.is_some() || r.to.is_some() || r.last.is_some();
            range || r.now || r.collect.is_some() || r.result.is_some()
        };
        match retrieve.iter().find(ranged) {
            Some(r) => Err(WindowError::Range(r.name.clone())),
            None => Ok(()),
        }
    }

    /// How long a window is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length.unwrap_or(self.every)
    }

    /// The times at which windows end, as a schedule has them.
    #[must_use]
    pub const fn schedule(&self) -> Schedule {
        Schedule {
            every: Some(self.every),
            cron: None,
            catch_up: self.catch_up,
        }
    }

    /// The window that ends at `end`: its number, how many came before it since
    /// 1970; and where it begins.
    #[must_use]
    pub fn ending(&self, end: Time) -> (u64, Time) {
        let every = i64::try_from(self.every.0).unwrap_or(i64::MAX).max(1);
        let id = u64::try_from(end.0 / every).unwrap_or(0);
        (id, end.before(self.length()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            None => write!(f, "of {}", self.every),
            Some(length) => write!(f, "of {length}, every {}", self.every),
        }?;
        match self.catch_up {
            CatchUp::All => Ok(()),
            CatchUp::None => f.write_str("; those that were missed are left out"),
            CatchUp::Latest => f.write_str("; of those that were missed, the latest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::mtw::Mtw;
    use crate::time::Time;

    const GOOD: &str = r#"{
        "task": {"id": "1", "name": "air", "service": "city", "for": ["harbour-07"],
                 "expires": "2026-12-01T00:00:00Z"},
        "retrieve": [{"name": "pm", "kind": ["pm10"]}],
        "window": {"every": "1m"},
        "function": {"image": "cusum", "lifetime": "persistent"}
    }"#;

    fn checked(from: &str, to: &str) -> Result<Mtw, String> {
        assert!(GOOD.contains(from));
        let mtw: Mtw = serde_json::from_str(&GOOD.replace(from, to)).unwrap();
        mtw.check().map_err(|e| e.to_string())?;
        Ok(mtw)
    }

    #[test]
    fn windows_follow_each_other_or_overlap() {
        let mtw = checked("", "").unwrap();
        let window = mtw.window.unwrap();
        let minute = 60_000_000_000;
        assert_eq!(window.ending(Time(7 * minute)), (7, Time(6 * minute)));
        let again = serde_json::to_string(&mtw).unwrap();
        assert!(again.contains(r#""window":{"every":"1m"}"#), "{again}");
        assert_eq!(serde_json::from_str::<Mtw>(&again).unwrap(), mtw);
        let mtw = checked(r#""1m""#, r#""1m", "length": "10m""#).unwrap();
        let window = mtw.window.unwrap();
        assert_eq!(window.ending(Time(12 * minute)), (12, Time(2 * minute)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        let cases = [
            (r#""window": {"every": "1m"},"#, "", "say in [window]"),
            (r#", "lifetime": "persistent""#, "", "function that stays"),
            (
                r#""window""#,
                r#""schedule": {"every": "1m"}, "window""#,
                "remove one",
            ),
            (r#""1m""#, r#""10ms""#, "window.every"),
            (r#""1m""#, r#""1m", "length": "59s""#, "window.length"),
            (r#""1m""#, r#""1m", "length": "1001m""#, "window.length"),
            (r#""1m""#, r#""1m", "grace": "61m""#, "window.grace"),
            (r#"{"name": "pm", "kind": ["pm10"]}"#, "", "needs data"),
            (
                r#"["pm10"]"#,
                r#"["pm10"], "last": "1h""#,
                "a window is what",
            ),
            (
                r#"["pm10"]"#,
                r#"["pm10"], "now": true"#,
                "a window is what",
            ),
            (
                r#""id": "1""#,
                r#""id": "01234567890123456789012345678901234567890123456789""#,
                "task.id",
            ),
        ];
        for (from, to, words) in cases {
            let said = checked(from, to).unwrap_err();
            assert!(said.contains(words), "{to}: {said}");
        }
    }
}
