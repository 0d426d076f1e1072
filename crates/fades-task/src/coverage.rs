//! Which data stood behind an answer.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::time::Time;

/// Coverage of one DTO: devices asked and heard, readings used and lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Coverage {
    /// Name of the DTO.
    pub name: Name,
    /// Devices that the selector matched.
    pub matched: u64,
    /// Devices that gave at least one reading.
    pub answered: u64,
    /// Devices that answered that they have none in the range.
    pub empty: u64,
    /// Devices whose source failed.
    pub failed: u64,
    /// Devices that were asked and had not answered in time.
    pub late: u64,
    /// Readings that the sources held for this selector, bad ones included.
    pub read: u64,
    /// Readings that the function was given.
    pub used: u64,
    /// Of the readings used, those outside the range configured as valid.
    pub marked: u64,
    /// Readings lost, by reason; `read = used + Σ lost`.
    pub lost: BTreeMap<LossReason, u64>,
    /// The first few bad rows.
    pub cited: Vec<BadRow>,
    /// The first few devices that failed or were late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Absent>,
    /// Times of the range in which readings may be missing, because a source that
    /// is recorded was not heard or not all of what it said was kept; the newest few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Rows (lines of files, records) looked at.
    pub rows: u64,
    /// Bytes fetched from the sources, as they came (compressed, if they were).
    pub bytes: u64,
}

impl Coverage {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            matched: 0,
            answered: 0,
            empty: 0,
            failed: 0,
            late: 0,
            read: 0,
            used: 0,
            marked: 0,
            lost: BTreeMap::new(),
            cited: Vec::new(),
            absent: Vec::new(),
            gaps: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Readings lost for any reason.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// A device that was asked and did not answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The source.
    pub source: Name,
    /// Identifier of the device.
    pub device: String,
    /// It had not answered in time; otherwise it failed.
    pub late: bool,
    /// When it was heard last, if it was.
    pub since: Option<Time>,
    /// What is wrong, in words.
    pub reason: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.late { "was late" } else { "failed" };
        write!(f, "{} {what}: {}", self.device, self.reason)?;
        match self.since {
            Some(since) => write!(f, "; last heard {since}"),
            None => Ok(()),
        }
    }
}

/// A time in which readings may be missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The source.
    pub source: Name,
    /// When it begins, by the node's clock.
    pub from: Time,
    /// When it ends.
    pub to: Time,
    /// Readings of the whole source that were counted as lost in it; nobody knows
    /// how many there would have been while the node was not running.
    pub readings: u64,
    /// Why, in words.
    pub reason: String,
}

/// Why a reading was lost.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LossReason {
    /// The row ends before the field.
    Truncated,
    /// The field is empty.
    Empty,
    /// The field is no number.
    NotANumber,
    /// NaN or infinite.
    NotFinite,
    /// The row's time cannot be read.
    BadTime,
    /// The row is not text in the encoding configured.
    BadText,
    /// The row names no device or no kind.
    Unnamed,
    /// Its unit cannot be converted to the one that the DTO asks for.
    Unit,
    /// The same reading came before.
    Duplicate,
    /// There was no room to keep it until it was wanted.
    Overflow,
    /// The device refused to give it.
    Refused,
}

impl LossReason {
    /// The reason in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Truncated => "the row ends too early",
            Self::Empty => "the field is empty",
            Self::NotANumber => "not a number",
            Self::NotFinite => "NaN or infinite",
            Self::BadTime => "the time cannot be read",
            Self::BadText => "not text in the configured encoding",
            Self::Unnamed => "no device or kind",
            Self::Unit => "a unit that cannot be converted",
            Self::Duplicate => "the same reading came before",
            Self::Overflow => "more than there was room for",
            Self::Refused => "the device refuses it",
        }
    }
}

/// A bad row, by place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BadRow {
    /// File or address.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column by name, when one field is to blame.
    pub column: Option<String>,
    /// Why.
    pub reason: LossReason,
}

#[cfg(test)]
mod tests {
    use super::Absent;
    use crate::time::Time;

    #[test]
    fn an_absent_device_is_said_with_the_reason_and_since_when() {
        let mut absent = Absent {
            source: "hall".parse().unwrap(),
            device: "meter".to_owned(),
            late: false,
            since: None,
            reason: "refused".to_owned(),
        };
        assert_eq!(absent.to_string(), "meter failed: refused");
        absent.late = true;
        absent.since = Some(Time(0));
        assert_eq!(
            absent.to_string(),
            "meter was late: refused; last heard 1970-01-01T00:00:00Z"
        );
    }
}
