//! The metadata task wrapper (MTW): what a submitter signs.
//!
//! [`Mtw`] is the one form of a task: JSON on the wire (and below the
//! signature), TOML in files. Unknown fields are refused. At acceptance the
//! node turns each [`Retrieve`] into a [`Dto`] whose times are absolute.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grant::Granted;
use crate::identity::{ImageRef, Name};
use crate::limits::{Isolation, Limits};
use crate::quantity::{Distance, Duration, Share};
use crate::replace::{Replace, ReplaceError};
use crate::schedule::{Schedule, ScheduleError, is_run_id};
use crate::time::{Time, Zone};
use crate::window::{Window, WindowError};

/// A task as it is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mtw {
    /// Who asks, for whom, until when.
    pub task: Credentials,
    /// The data, one entry for each data retrieval operation (DTO).
    #[serde(default)]
    pub retrieve: Vec<Retrieve>,
    /// The function and its limits.
    pub function: Function,
    /// When it runs again; without it, it runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// When a function that stays is woken, and for which readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Of which task that runs again it takes the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// Where the answer goes besides being kept for whoever may read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliver: Vec<Deliver>,
}

/// The `task` part: MTW credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credentials {
    /// Unique id that the submitter chose; the same id is the same task.
    pub id: Name,
    /// A name for people.
    pub name: Name,
    /// The service that asks; must be one that the signing key speaks for.
    pub service: Name,
    /// Audience: names or labels of nodes.
    pub r#for: Vec<Name>,
    /// After this time no node accepts the task.
    pub expires: Time,
    /// Higher runs earlier where the node's policy looks at it.
    #[serde(default)]
    pub priority: i32,
    /// A run that is not done this long after acceptance fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within: Option<Duration>,
    /// What a "day" is; times are UTC all the same.
    #[serde(default)]
    pub zone: Zone,
}

/// One text, or several of which any matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Patterns {
    /// One glob.
    One(String),
    /// Globs of which any matches.
    Any(Vec<String>),
}

impl Patterns {
    /// The globs.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(p) => std::slice::from_ref(p),
            Self::Any(p) => p,
        }
    }
}

/// One `retrieve` entry: a DTO as the submitter writes it.
///
/// `from` and `to` are absolute, `last` is relative to acceptance; without any
/// of them all readings are meant. `now` asks for the newest reading of each
/// device instead, `collect` for those that arrive from acceptance on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retrieve {
    /// Name of the DTO, unique in the task.
    pub name: Name,
    /// Kinds of readings, globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Patterns>,
    /// Locations, globs; `*` does not cross `/`, `**` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Patterns>,
    /// Devices, globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Patterns>,
    /// Only this source of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Name>,
    /// Start of the range, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// End of the range, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// The time before acceptance; excludes `from` and `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Duration>,
    /// Labels that the operator gave devices, by name: globs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Patterns>,
    /// Only devices near a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    /// UCUM code of the unit that readings are converted to; those of a unit that
    /// cannot be are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// One reading of each device: the newest, asked for when the task runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// The readings that arrive from acceptance on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<Collect>,
    /// What the source shall make of the readings itself, instead of raw rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// The readings that runs of the task of this name answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Name>,
    /// Share of the devices matched that must answer; without it, one at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Share>,
    /// Share of the rows read that may be bad; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_rows: Option<Share>,
}

/// A place, and how far around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Near {
    /// Latitude and longitude, degrees (WGS 84).
    pub at: [f64; 2],
    /// Devices at most so far away.
    pub within: Distance,
}

/// When live readings are enough: after a time, after a number of them, or
/// after what comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// Time from acceptance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Duration>,
    /// Readings of all devices together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// An aggregate that a source makes: one reading for each series and step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// What to make of the readings of a step.
    pub of: AggregateKind,
    /// Length of a step; steps begin at multiples of it since 1970 UTC, which
    /// is the time of their reading.
    pub every: Duration,
}

/// What an aggregate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AggregateKind {
    /// Arithmetic mean.
    Mean,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Sum.
    Sum,
    /// Number of readings.
    Count,
    /// The first reading's value.
    First,
    /// The last reading's value.
    Last,
}

impl AggregateKind {
    /// Its name in tasks, and in the languages of databases.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// The `function` part: DMF metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Function {
    /// The function and its digest.
    pub image: ImageRef,
    /// How long it lives.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Isolations that the submitter accepts; the node uses the strongest that
    /// it has.
    #[serde(default = "any_isolation")]
    pub isolation: Vec<Isolation>,
    /// Parameters; become deterministic CBOR.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Limits of the run.
    #[serde(default)]
    pub limits: Limits,
}

fn any_isolation() -> Vec<Isolation> {
    vec![Isolation::Microvm, Isolation::Process]
}

/// How long a function lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// One run.
    #[default]
    Ephemeral,
    /// It stays in its machine, keeps its state, and answers for each window.
    Persistent,
}

/// A destination of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Name of a destination that the operator configured.
    pub to: Name,
}

/// A DTO as the broker gets it: a [`Retrieve`] with absolute times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dto {
    /// Name of the DTO.
    pub name: Name,
    /// Kinds; empty means all.
    pub kind: Vec<String>,
    /// Locations; empty means all.
    pub location: Vec<String>,
    /// Devices; empty means all.
    pub device: Vec<String>,
    /// Only this source.
    pub source: Option<Name>,
    /// Start of the range, inclusive.
    pub from: Time,
    /// End of the range, exclusive.
    pub to: Time,
    /// Share of the devices matched that must answer.
    pub need: Option<Share>,
    /// Share of the rows read that may be bad.
    pub bad_rows: Option<Share>,
    /// Which readings of the range.
    #[serde(default)]
    pub take: Take,
    /// Labels of devices, globs by name.
    #[serde(default)]
    pub labels: BTreeMap<String, Vec<String>>,
    /// Only devices near a place.
    #[serde(default)]
    pub near: Option<Near>,
    /// Unit that readings are converted to, a UCUM code.
    #[serde(default)]
    pub unit: Option<String>,
    /// An aggregate that the source makes.
    #[serde(default)]
    pub aggregate: Option<Aggregate>,
    /// Answers of this task instead of a source.
    #[serde(default)]
    pub result: Option<Name>,
    /// What of all that may be looked at; none: the operator asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
}

impl Dto {
    /// A DTO that asks for everything.
    #[must_use]
    pub const fn all(name: Name) -> Self {
        Self {
            name,
            kind: Vec::new(),
            location: Vec::new(),
            device: Vec::new(),
            source: None,
            from: Time(i64::MIN),
            to: Time(i64::MAX),
            need: None,
            bad_rows: None,
            take: Take::Range,
            labels: BTreeMap::new(),
            near: None,
            unit: None,
            aggregate: None,
            result: None,
            granted: None,
        }
    }
}

/// Which readings of its range a DTO asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Take {
    /// All that are there.
    #[default]
    Range,
    /// The newest of each series, as it is now.
    Now,
    /// Those that arrive, until the range ends or there are enough.
    Live {
        /// Readings of all series together; none: as many as arrive.
        count: Option<u64>,
    },
}

/// What is wrong with a task although its syntax is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MtwError {
    /// `last` beside `from` or `to`.
    #[error("retrieve {0}: \"last\" excludes \"from\" and \"to\": remove one of them")]
    TwoRanges(Name),
    /// More than one of a range, `now` and `collect`.
    #[error(
        "retrieve {0}: a range (\"from\", \"to\", \"last\"), \"now\" and \"collect\" exclude each other: keep one"
    )]
    TwoWays(Name),
    /// `collect` without an end.
    #[error("retrieve {0}: collect needs an end: give it \"for\" (at most 24h), \"count\" or both")]
    NoEnd(Name),
    /// `near` that is no place.
    #[error("retrieve {0}: near.at is no place: write [latitude, longitude] in degrees")]
    NoPlace(Name),
    /// `aggregate` with what cannot be aggregated.
    #[error(
        "retrieve {0}: an aggregate needs a step (\"every\") of at least 1ms, and a range instead of \"now\" or \"collect\""
    )]
    NoStep(Name),
    /// `result` beside `source`.
    #[error(
        "retrieve {0}: \"result\" excludes \"source\", \"now\", \"collect\", \"near\", \"labels\" and \"aggregate\": remove them"
    )]
    ResultAlone(Name),
    /// `from` not before `to`.
    #[error("retrieve {0}: \"from\" ({1}) is not before \"to\" ({2})")]
    EmptyRange(Name, Time, Time),
    /// A name used twice.
    #[error("retrieve {0}: the name is used twice: give each entry its own")]
    SameName(Name),
    /// More entries than a task may have.
    #[error("a task has at most {max} retrieve entries, this one has {have}")]
    TooMany {
        /// How many there are.
        have: usize,
        /// How many there may be.
        max: usize,
    },
    /// No audience.
    #[error("task.for is empty: name the node that shall run the task")]
    NoAudience,
    /// A schedule that makes no sense.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A function that stays, and windows that make no sense.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// A replacement that makes no sense.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// An id that is a run's.
    #[error("task.id: {0} is the id of a run of a task with a schedule: choose another")]
    RunId(Name),
    /// No isolation.
    #[error("function.isolation is empty: accept \"microvm\", \"process\" or both")]
    NoIsolation,
    /// A pattern that is no glob or empty.
    #[error("retrieve {name}: {pattern:?} in {field} is no pattern: {reason}")]
    Pattern {
        /// Name of the entry.
        name: Name,
        /// Field of the entry.
        field: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Mtw {
    /// Most `retrieve` entries of a task.
    pub const RETRIEVE_MAX: usize = 32;

    /// Longest parameters as deterministic CBOR, bytes; what a function's
    /// address space has room for.
    pub const PARAMS_MAX: usize = 64 * 1024;

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), MtwError> {
        if self.task.r#for.is_empty() {
            return Err(MtwError::NoAudience);
        }
        if self.function.isolation.is_empty() {
            return Err(MtwError::NoIsolation);
        }
        if self.retrieve.len() > Self::RETRIEVE_MAX {
            return Err(MtwError::TooMany {
                have: self.retrieve.len(),
                max: Self::RETRIEVE_MAX,
            });
        }
        if is_run_id(&self.task.id) {
            return Err(MtwError::RunId(self.task.id.clone()));
        }
        if let Some(schedule) = &self.schedule {
            schedule.check(&self.task.id)?;
        }
        self.check_window()?;
        if let Some(replace) = &self.replace {
            replace.check(self.stands())?;
        }
        for (i, r) in self.retrieve.iter().enumerate() {
            r.check()?;
            if self.retrieve[..i].iter().any(|other| other.name == r.name) {
                return Err(MtwError::SameName(r.name.clone()));
            }
        }
        Ok(())
    }
}

impl Mtw {
    fn check_window(&self) -> Result<(), MtwError> {
        let stays = self.function.lifetime == Lifetime::Persistent;
        let window = match (&self.window, stays) {
            (None, false) => return Ok(()),
            (None, true) => return Err(WindowError::Missing.into()),
            (Some(_), false) => return Err(WindowError::Ephemeral.into()),
            (Some(window), true) => window,
        };
        if self.schedule.is_some() {
            return Err(WindowError::Both.into());
        }
        Ok(window.check(&self.task.id, &self.retrieve)?)
    }

    /// Whether it runs again and again.
    #[must_use]
    pub const fn stands(&self) -> bool {
        self.schedule.is_some() || self.window.is_some()
    }

    /// The times at which it runs again.
    #[must_use]
    pub fn times(&self) -> Option<Cow<'_, Schedule>> {
        let schedule = self.schedule.as_ref().map(Cow::Borrowed);
        schedule.or_else(|| self.window.map(|w| Cow::Owned(w.schedule())))
    }

    /// What it asks for in a run accepted at `accepted`; `at`: what times like `last`
    /// are relative to, and where a window ends. What arrives can only be collected
    /// from acceptance on. An empty window is an answer like any other.
    #[must_use]
    pub fn dtos(&self, accepted: Time, at: Time) -> Vec<Dto> {
        let resolved = self.retrieve.iter().map(|entry| {
            let Some(window) = self.window else {
                let collects = entry.collect.is_some();
                return entry.resolve(if collects { accepted } else { at });
            };
            let mut dto = entry.resolve(at);
            (dto.from, dto.to) = (window.ending(at).1, at);
            dto.need = dto.need.or(Some(Share::NONE));
            dto
        });
        resolved.collect()
    }
}

impl Retrieve {
    /// An entry that asks for everything.
    #[must_use]
    pub const fn all(name: Name) -> Self {
        Self {
            name,
            kind: None,
            location: None,
            device: None,
            source: None,
            from: None,
            to: None,
            last: None,
            labels: BTreeMap::new(),
            near: None,
            unit: None,
            now: false,
            collect: None,
            aggregate: None,
            result: None,
            need: None,
            bad_rows: None,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), MtwError> {
        if self.last.is_some() && (self.from.is_some() || self.to.is_some()) {
            return Err(MtwError::TwoRanges(self.name.clone()));
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(MtwError::EmptyRange(self.name.clone(), from, to));
        }
        self.check_way()?;
        let labels = self.labels.values();
        let labels = labels.map(|patterns| ("labels", Some(patterns)));
        let fields = [
            ("kind", &self.kind),
            ("location", &self.location),
            ("device", &self.device),
        ];
        let fields = fields.map(|(field, patterns)| (field, patterns.as_ref()));
        for (field, patterns) in fields.into_iter().chain(labels) {
            for pattern in patterns.iter().flat_map(|p| p.as_slice()) {
                let reason = match pattern.len() {
                    0 => "it is empty",
                    257.. => "it is longer than 256 bytes",
                    _ => continue,
                };
                let (name, pattern) = (self.name.clone(), pattern.clone());
                return Err(MtwError::Pattern {
                    name,
                    field,
                    pattern,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Whether the ways to ask fit together.
    fn check_way(&self) -> Result<(), MtwError> {
        let name = || self.name.clone();
        let range = self.from.is_some() || self.to.is_some() || self.last.is_some();
        let ways = [range, self.now, self.collect.is_some()];
        if ways.into_iter().filter(|w| *w).count() > 1 {
            return Err(MtwError::TwoWays(name()));
        }
        if let Some(collect) = self.collect {
            let long = collect.r#for.is_some_and(|d| d > Collect::LONGEST);
            if long || collect.r#for.is_none() && collect.count.is_none() {
                return Err(MtwError::NoEnd(name()));
            }
        }
        if let Some(Near { at: [lat, lon], .. }) = self.near
            && !(lat.abs() <= 90.0 && lon.abs() <= 180.0)
        {
            return Err(MtwError::NoPlace(name()));
        }
        if let Some(aggregate) = self.aggregate
            && (aggregate.every.0 < 1_000_000 || self.now || self.collect.is_some())
        {
            return Err(MtwError::NoStep(name()));
        }
        let ways = self.source.is_some() || self.now || self.collect.is_some();
        let devices = self.near.is_some() || !self.labels.is_empty();
        if self.result.is_some() && (ways || devices || self.aggregate.is_some()) {
            return Err(MtwError::ResultAlone(name()));
        }
        Ok(())
    }

    /// The DTO that this entry means for a task accepted at `accepted`.
    #[must_use]
    pub fn resolve(&self, accepted: Time) -> Dto {
        let globs = |p: &Option<Patterns>| p.as_ref().map_or(vec![], |p| p.as_slice().to_vec());
        let (from, to) = match (self.last, self.collect) {
            (Some(last), _) => (accepted.before(last), accepted),
            (None, Some(collect)) => {
                let longest = collect.r#for.unwrap_or(Collect::LONGEST);
                (accepted, accepted.after(longest))
            }
            (None, None) => (
                self.from.unwrap_or(Time(i64::MIN)),
                self.to.unwrap_or(Time(i64::MAX)),
            ),
        };
        let take = match self.collect {
            Some(collect) => Take::Live {
                count: collect.count,
            },
            None if self.now => Take::Now,
            None => Take::Range,
        };
        let labels = self.labels.iter();
        Dto {
            name: self.name.clone(),
            kind: globs(&self.kind),
            location: globs(&self.location),
            device: globs(&self.device),
            source: self.source.clone(),
            from,
            to,
            need: self.need,
            bad_rows: self.bad_rows,
            take,
            labels: labels
                .map(|(name, globs)| (name.clone(), globs.as_slice().to_vec()))
                .collect(),
            near: self.near,
            unit: self.unit.clone(),
            aggregate: self.aggregate,
            result: self.result.clone(),
            granted: None,
        }
    }
}

impl Collect {
    /// Live readings are collected for this long at most.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
}

#[cfg(test)]
mod tests {
    use super::{Mtw, MtwError, Take};
    use crate::time::Time;

    const GOOD: &str = r#"{
        "task": {"id": "1", "name": "air", "service": "city", "for": ["harbour-07"],
                 "expires": "2026-12-01T00:00:00Z"},
        "retrieve": [{"name": "pm", "kind": ["pm10", "pm2.5"], "last": "24h"}],
        "function": {"image": "summary"}
    }"#;

    #[test]
    fn a_range_now_and_collect_exclude_each_other() {
        let error = |entry: &str| {
            let text = GOOD.replace(r#""last": "24h""#, entry);
            let mtw: Mtw = serde_json::from_str(&text).unwrap();
            mtw.check().map_err(|e| e.to_string())
        };
        error(r#""now": true"#).unwrap();
        error(r#""collect": {"for": "10s"}"#).unwrap();
        error(r#""near": {"at": [57.1, -2.1], "within": "2km"}, "labels": {"floor": "3"}"#)
            .unwrap();
        let cases = [
            (r#""now": true, "last": "1h""#, "exclude each other"),
            (
                r#""now": true, "collect": {"count": 1}"#,
                "exclude each other",
            ),
            (r#""collect": {}"#, "needs an end"),
            (r#""collect": {"for": "25h"}"#, "needs an end"),
            (r#""near": {"at": [91, 0], "within": "2km"}"#, "no place"),
            (
                r#""aggregate": {"of": "mean", "every": "1us"}"#,
                "needs a step",
            ),
            (
                r#""now": true, "aggregate": {"of": "mean", "every": "1h"}"#,
                "needs a step",
            ),
            (r#""result": "hourly", "source": "hall""#, "excludes"),
            (r#""labels": {"floor": ""}"#, "it is empty"),
        ];
        for (entry, words) in cases {
            let said = error(entry).unwrap_err();
            assert!(said.contains(words), "{entry}: {said}");
        }
    }

    #[test]
    fn a_collection_begins_with_acceptance() {
        let text = GOOD.replace(
            r#""last": "24h""#,
            r#""collect": {"for": "10s", "count": 5}"#,
        );
        let mtw: Mtw = serde_json::from_str(&text).unwrap();
        let dto = mtw.retrieve[0].resolve(Time(7));
        assert_eq!((dto.from, dto.to), (Time(7), Time(10_000_000_007)));
        assert_eq!(dto.take, Take::Live { count: Some(5) });
    }

    fn changed(from: &str, to: &str) -> Result<Mtw, serde_json::Error> {
        assert!(GOOD.contains(from));
        serde_json::from_str(&GOOD.replace(from, to))
    }

    #[test]
    fn a_task_has_safe_defaults_and_survives_the_way_to_json_and_back() {
        let mtw: Mtw = serde_json::from_str(GOOD).unwrap();
        assert_eq!(mtw.check(), Ok(()));
        assert_eq!(mtw.function.limits, crate::limits::Limits::default());
        let again = serde_json::to_string(&mtw).unwrap();
        assert_eq!(serde_json::from_str::<Mtw>(&again).unwrap(), mtw);
    }

    #[test]
    fn unknown_missing_and_wrong_fields_are_named() {
        let cases = [
            (
                r#""service": "city""#,
                r#""service": "city", "colour": 1"#,
                "colour",
            ),
            (r#""service": "city","#, "", "service"),
            (r#""last": "24h""#, r#""last": 24"#, "string"),
            (r#""last": "24h""#, r#""last": "24 hours""#, "no duration"),
            (
                r#""image": "summary""#,
                r#""image": "summary", "lifetime": "eternal""#,
                "eternal",
            ),
        ];
        for (from, to, named) in cases {
            let error = changed(from, to).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |from, to| changed(from, to).unwrap().check().unwrap_err();
        let both = r#""last": "24h", "from": "2018-01-01""#;
        assert!(matches!(
            check(r#""last": "24h""#, both),
            MtwError::TwoRanges(_)
        ));
        let empty = r#""from": "2018-01-02", "to": "2018-01-01""#;
        assert!(matches!(
            check(r#""last": "24h""#, empty),
            MtwError::EmptyRange(..)
        ));
        assert!(matches!(
            check(r#"["harbour-07"]"#, "[]"),
            MtwError::NoAudience
        ));
        assert!(matches!(
            check(r#""pm10""#, r#""""#),
            MtwError::Pattern { .. }
        ));
    }

    #[test]
    fn a_relative_range_counts_back_from_acceptance() {
        let mtw: Mtw = serde_json::from_str(GOOD).unwrap();
        let accepted: Time = "2026-11-02T12:00:00Z".parse().unwrap();
        let dto = mtw.retrieve[0].resolve(accepted);
        assert_eq!(dto.from.to_string(), "2026-11-01T12:00:00Z");
        assert_eq!(dto.to, accepted);
    }
}
