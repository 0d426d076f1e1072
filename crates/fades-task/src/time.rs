//! Points in time and zones.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339 and not a date.
    #[error("{0:?} is no time: write RFC 3339 such as \"2026-12-01T00:00Z\", or a date")]
    Time(String),
    /// Not a zone of the IANA database.
    #[error("{0:?} is no time zone: write an IANA name such as \"Europe/London\"")]
    Zone(String),
}

/// Nanoseconds since 1970-01-01T00:00Z; written in RFC 3339, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub i64);

impl Time {
    /// `self + d`, at most the last representable time.
    #[must_use]
    pub const fn after(self, d: crate::quantity::Duration) -> Self {
        Self(self.0.saturating_add_unsigned(d.0))
    }

    /// `self - d`, at least the first representable time.
    #[must_use]
    pub const fn before(self, d: crate::quantity::Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(d.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0.into()) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{} ns since 1970", self.0),
        }
    }
}

impl FromStr for Time {
    type Err = TimeError;

    /// Takes RFC 3339 (seconds may be absent), or a date, which means its
    /// midnight in UTC.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || TimeError::Time(s.to_owned());
        let stamp = match s.parse::<jiff::Timestamp>() {
            Ok(t) => t,
            Err(_) => s
                .parse::<jiff::civil::Date>()
                .ok()
                .filter(|_| s.len() == 10)
                .and_then(|d| d.to_zoned(TimeZone::UTC).ok())
                .map(|z| z.timestamp())
                .ok_or_else(wrong)?,
        };
        i64::try_from(stamp.as_nanosecond())
            .map(Self)
            .map_err(|_| wrong())
    }
}

impl TryFrom<String> for Time {
    type Error = TimeError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Time> for String {
    fn from(t: Time) -> Self {
        t.to_string()
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "RFC 3339, or a date (midnight UTC)" })
    }
}

/// An IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

impl Default for Zone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl Zone {
    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The day that `at` lies in: its first moment, and that of the next day.
    #[must_use]
    pub fn day(&self, at: Time) -> (Time, Time) {
        let zone = TimeZone::get(&self.0).unwrap_or(TimeZone::UTC);
        let timestamp = jiff::Timestamp::from_nanosecond(at.0.into());
        let here = timestamp
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(zone);
        let time = |zoned: jiff::Zoned| i64::try_from(zoned.timestamp().as_nanosecond()).ok();
        let from = here.start_of_day().ok();
        let to = here.tomorrow().and_then(|next| next.start_of_day()).ok();
        let from = from.and_then(time).unwrap_or(at.0);
        let to = to.and_then(time).unwrap_or(i64::MAX);
        (Time(from), Time(to))
    }

    /// The offsets from UTC in force in `[from, to)`: pairs of the time (ns
    /// since 1970 UTC) from which an offset holds, and the offset in seconds
    /// east. The first entry begins at `i64::MIN`.
    #[must_use]
    pub fn offsets(&self, from: Time, to: Time) -> Vec<(i64, i32)> {
        // A zone that was checked when it was parsed is found again; jiff holds
        // the database.
        let zone = TimeZone::get(&self.0).unwrap_or(TimeZone::UTC);
        let clamp = |t: Time| {
            jiff::Timestamp::from_nanosecond(t.0.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        };
        let (start, end) = (clamp(from), clamp(to));
        let mut offsets = vec![(i64::MIN, zone.to_offset(start).seconds())];
        for transition in zone
            .following(start)
            .take_while(|t| t.timestamp() < end)
            .take(4096)
        {
            if let Ok(at) = i64::try_from(transition.timestamp().as_nanosecond()) {
                let seconds = transition.offset().seconds();
                if offsets.last().is_none_or(|last| last.1 != seconds) {
                    offsets.push((at, seconds));
                }
            }
        }
        offsets
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Zone {
    type Err = TimeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match TimeZone::get(s) {
            Ok(_) => Ok(Self(s.to_owned())),
            Err(_) => Err(TimeError::Zone(s.to_owned())),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = TimeError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Zone> for String {
    fn from(z: Zone) -> Self {
        z.0
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "IANA time zone" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Time, Zone};

    #[test]
    fn times_are_rfc_3339_or_dates() {
        let t: Time = "2026-12-01T00:00Z".parse().unwrap();
        assert_eq!(t.to_string(), "2026-12-01T00:00:00Z");
        assert_eq!("2026-12-01".parse::<Time>().unwrap(), t);
        assert_eq!("2026-12-01T01:00:00+01:00".parse::<Time>().unwrap(), t);
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-12-01T00:00",
            "9999-12-31",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_day_is_that_of_its_zone_also_when_the_clocks_change() {
        let zone: Zone = "Europe/London".parse().unwrap();
        for (at, from, to) in [
            (
                "2026-07-01T12:00Z",
                "2026-06-30T23:00Z",
                "2026-07-01T23:00Z",
            ),
            (
                "2026-06-30T23:00Z",
                "2026-06-30T23:00Z",
                "2026-07-01T23:00Z",
            ),
            (
                "2026-03-29T12:00Z",
                "2026-03-29T00:00Z",
                "2026-03-29T23:00Z",
            ),
        ] {
            let time = |text: &str| text.parse::<Time>().unwrap();
            assert_eq!(zone.day(time(at)), (time(from), time(to)), "{at}");
        }
    }

    #[test]
    fn a_year_in_london_has_three_offsets() {
        let zone: Zone = "Europe/London".parse().unwrap();
        let offsets = zone.offsets("2018-01-01".parse().unwrap(), "2019-01-01".parse().unwrap());
        assert_eq!(
            offsets.iter().map(|o| o.1).collect::<Vec<_>>(),
            [0, 3600, 0]
        );
        assert_eq!(Time(offsets[1].0).to_string(), "2018-03-25T01:00:00Z");
        assert!("Mars/Olympus".parse::<Zone>().is_err());
    }
}
