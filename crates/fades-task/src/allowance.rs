//! What the operator of a node lets each service use.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::quantity::{Duration, Size};

/// What a service may use; what is not given is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Allowance {
    /// Its runs at one time; further tasks wait, and those of others pass them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<NonZeroU32>,
    /// Tasks that it may hand in, such as "60/min"; so many at once as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Processor time of its functions in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// Bytes that its functions answer in a day, readings included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
}

/// What each service may use, by its name; `default` is for what a service has
/// no line of its own for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Allowances(pub BTreeMap<Name, Allowance>);

impl Allowances {
    /// Name of what holds for every service.
    pub const DEFAULT: &str = "default";

    /// What a service may use.
    #[must_use]
    pub fn of(&self, service: &Name) -> Allowance {
        let of_all = self.0.get(Self::DEFAULT).copied().unwrap_or_default();
        let own = self.0.get(service).copied().unwrap_or_default();
        Allowance {
            runs: own.runs.or(of_all.runs),
            rate: own.rate.or(of_all.rate),
            cpu: own.cpu.or(of_all.cpu),
            bytes: own.bytes.or(of_all.bytes),
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong, beginning with its dotted path.
    pub fn check(&self) -> Result<(), String> {
        let nothing = |name: &Name, field: &str| {
            Err(format!(
                "limits.{name}.{field}: nothing could ever run: write more, or leave it out for no limit"
            ))
        };
        for (name, allowance) in &self.0 {
            if allowance.cpu == Some(Duration(0)) {
                return nothing(name, "cpu");
            }
            if allowance.bytes == Some(Size(0)) {
                return nothing(name, "bytes");
            }
        }
        Ok(())
    }
}

/// So many in a time; written `"60/min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: NonZeroU32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

const UNITS: [(&str, Unit, u64); 4] = [
    ("s", Unit::Second, 1),
    ("min", Unit::Minute, 60),
    ("h", Unit::Hour, 3_600),
    ("d", Unit::Day, 86_400),
];

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rate: write a number from 1 on, a slash and s, min, h or d, such as \"60/min\""
)]
pub struct RateError(String);

impl Rate {
    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count.get()
    }

    /// The time in which so many come.
    #[must_use]
    pub fn period(self) -> Duration {
        let unit = UNITS.iter().find(|u| u.1 == self.unit);
        Duration::from_secs(unit.map_or(1, |u| u.2))
    }

    /// The time in which one comes.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration(self.period().0 / u64::from(self.count()))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(s: &str) -> Result<Self, RateError> {
        let wrong = || RateError(s.to_owned());
        let (count, unit) = s.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let unit = UNITS.iter().find(|u| u.0 == unit.trim());
        let unit = unit.ok_or_else(wrong)?.1;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|u| u.1 == self.unit);
        write!(f, "{}/{}", self.count, unit.map_or("s", |u| u.0))
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(s: String) -> Result<Self, RateError> {
        s.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[1-9][0-9]* ?/ ?(s|min|h|d)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowances, Rate};
    use crate::quantity::Duration;

    #[test]
    fn rates_survive_the_way_to_text_and_back() {
        for text in ["60/min", "1/s", "5/h", "100/d"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        let rate: Rate = "60/min".parse().unwrap();
        assert_eq!(rate.interval(), Duration::from_secs(1));
        for bad in [
            "",
            "60",
            "0/s",
            "-1/s",
            "1.5/s",
            "1/week",
            "/s",
            "99999999999/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_has_its_own_lines_and_those_of_all_otherwise() {
        let text = r#"{"default": {"runs": 2, "rate": "1/s"}, "air": {"runs": 5, "cpu": "1s"}}"#;
        let all: Allowances = serde_json::from_str(text).unwrap();
        let air = all.of(&"air".parse().unwrap());
        assert_eq!(air.runs.map(std::num::NonZeroU32::get), Some(5));
        assert_eq!(air.rate, "1/s".parse().ok());
        assert_eq!((air.cpu, air.bytes), (Some(Duration::from_secs(1)), None));
        let other = all.of(&"water".parse().unwrap());
        assert_eq!((other.cpu, other.rate), (None, air.rate));
        assert_eq!(other.runs.map(std::num::NonZeroU32::get), Some(2));
    }

    #[test]
    fn an_allowance_of_nothing_is_refused_with_its_place() {
        for (text, path) in [
            (r#"{"air": {"cpu": "0s"}}"#, "limits.air.cpu: "),
            (r#"{"air": {"bytes": "0B"}}"#, "limits.air.bytes: "),
        ] {
            let all: Allowances = serde_json::from_str(text).unwrap();
            assert!(all.check().unwrap_err().starts_with(path));
        }
        assert!(serde_json::from_str::<Allowances>(r#"{"air": {"runs": 0}}"#).is_err());
    }
}
