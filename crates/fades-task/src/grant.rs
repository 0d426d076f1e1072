//! What the operator of a node grants to services.
//!
//! A [`Grant`] is what is written in `node.toml`; whether one allows a task is
//! decided in `fades-trust`. A [`Granted`] is what goes to the broker with each
//! retrieval, so that it looks at nothing else whatever a task asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::export::Export;
use crate::identity::Name;
use crate::limits::{Isolation, Limits};
use crate::quantity::{Duration, Size};
use crate::time::Time;

/// Grants by their names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Grants(pub BTreeMap<Name, Grant>);

/// Who may have which functions work on which data, and what for.
///
/// Lists of data narrow: one that is missing does not narrow. Everything else is
/// given: what is missing is not given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    /// Services, globs.
    pub services: Vec<String>,
    /// Functions: globs of names, or one image such as "summary@sha256:…".
    pub functions: Vec<String>,
    /// Kinds of readings, globs; all when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Locations, globs; `*` does not cross `/`, `**` does. All when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<Vec<String>>,
    /// Devices, globs; all when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<String>>,
    /// Sources of the node, globs; all when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// How long ago a range of readings may begin, such as "30d", or "any"; no
    /// ranges when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// `now` and `collect`.
    #[serde(default)]
    pub live: bool,
    /// The first readings themselves may be shown: `fades read`.
    #[serde(default)]
    pub previews: bool,
    /// Isolations that are good enough; all when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Vec<Isolation>>,
    /// The most that a task may ask for; that of the node where nothing is said.
    #[serde(default, skip_serializing_if = "Ceiling::is_empty")]
    pub limits: Ceiling,
    /// Destinations, globs; none when missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// What has to stand behind an answer, and what may leave the node; no bounds
    /// when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
}

/// The most that a task may ask for, as far as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ceiling {
    /// Memory that the function can write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Wall time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// Processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// The answer, readings included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
    /// Log lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Size>,
}

impl Ceiling {
    /// Nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As limits; where nothing is said, the largest that there are.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            memory: self.memory.unwrap_or(Limits::MAX.memory),
            time: self.time.unwrap_or(Limits::MAX.time),
            cpu: self.cpu.unwrap_or(Limits::MAX.cpu),
            output: self.output.unwrap_or(Limits::MAX.output),
            log: self.log.unwrap_or(Limits::MAX.log),
        }
    }
}

/// How long ago a range may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum History {
    /// Whenever.
    Any,
    /// So long before the task was accepted, or its run was due.
    Last(Duration),
}

impl History {
    /// The earliest start of a range that was asked for at `at`.
    #[must_use]
    pub fn since(self, at: Time) -> Time {
        match self {
            Self::Any => Time(i64::MIN),
            Self::Last(last) => at.before(last),
        }
    }
}

/// Why a text is no depth of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no depth of time: write such as \"30d\", or \"any\"; leave it out for no ranges")]
pub struct HistoryError(String);

impl FromStr for History {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, HistoryError> {
        match text {
            "any" => Ok(Self::Any),
            text => match text.parse() {
                Ok(last) => Ok(Self::Last(last)),
                Err(_) => Err(HistoryError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Last(last) => write!(f, "{last}"),
        }
    }
}

impl TryFrom<String> for History {
    type Error = HistoryError;

    fn try_from(text: String) -> Result<Self, HistoryError> {
        text.parse()
    }
}

impl From<History> for String {
    fn from(history: History) -> Self {
        history.to_string()
    }
}

impl JsonSchema for History {
    fn schema_name() -> Cow<'static, str> {
        "History".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What a broker may look at for one DTO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// Name of the grant.
    pub grant: Name,
    /// Kinds, globs; empty means all.
    pub kinds: Vec<String>,
    /// Locations; empty means all.
    pub locations: Vec<String>,
    /// Devices; empty means all.
    pub devices: Vec<String>,
    /// Sources; empty means all.
    pub sources: Vec<String>,
    /// Earliest start of a range; none: no ranges.
    pub since: Option<Time>,
    /// `now` and `collect`.
    pub live: bool,
    /// What has to be there before a function is given anything.
    #[serde(default)]
    pub least: Least,
}

/// What a DTO has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// Readings.
    pub readings: u64,
    /// Devices that they are of.
    pub devices: u64,
}

#[cfg(test)]
mod tests {
    use super::{Grants, History};
    use crate::quantity::Duration;
    use crate::time::Time;

    #[test]
    fn what_is_not_said_is_not_given_but_data_is_not_narrowed() {
        let text = r#"{"a": {"services": ["s"], "functions": ["*"]}}"#;
        let grants: Grants = serde_json::from_str(text).unwrap();
        let grant = &grants.0["a"];
        assert_eq!((&grant.kinds, &grant.sources), (&None, &None));
        assert_eq!(
            (grant.history, grant.live, grant.previews),
            (None, false, false)
        );
        assert!(grant.destinations.is_empty());
        let again = serde_json::to_string(&grants).unwrap();
        assert_eq!(serde_json::from_str::<Grants>(&again).unwrap(), grants);
    }

    #[test]
    fn a_depth_of_time_is_a_duration_or_any() {
        for text in ["any", "1d", "12h"] {
            assert_eq!(text.parse::<History>().unwrap().to_string(), text);
        }
        for bad in ["", "all", "30", "ANY"] {
            assert!(bad.parse::<History>().is_err(), "{bad}");
        }
        let at = Time(10_000_000_000);
        assert_eq!(
            History::Last(Duration::from_secs(3)).since(at),
            Time(7_000_000_000)
        );
        assert_eq!(History::Any.since(at), Time(i64::MIN));
    }
}
