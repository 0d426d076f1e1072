//! Devices and series that a node knows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::coverage::Absent;
use crate::identity::Name;
use crate::quantity::Duration;
use crate::time::Time;

/// A device of a source, at one location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The source that knows it.
    pub source: Name,
    /// Identifier.
    pub device: String,
    /// Location; may be empty.
    pub location: String,
    /// Labels that the operator gave it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Latitude and longitude, degrees (WGS 84), when the operator said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<[f64; 2]>,
    /// How it does; of sources that are asked or listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// What it measures.
    pub series: Vec<SeriesInfo>,
}

/// Whether a device is heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Liveness {
    /// How it does.
    pub state: DeviceState,
    /// When something of it arrived last, by the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// How often something is expected, when the operator said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Duration>,
    /// What went wrong last, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its clock minus the node's when its last reading arrived, ns; only when it
    /// says the time of its readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<i64>,
}

/// How a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Nothing was heard of it yet.
    Unknown,
    /// It is heard as expected.
    Alive,
    /// It was not heard for longer than three times the interval expected.
    Silent,
    /// Asking it failed the last time.
    Failing,
    /// It failed so often that it is asked less often for a while.
    Broken,
}

impl DeviceState {
    /// The state in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Failing => "failing",
            Self::Broken => "broken",
        }
    }
}

/// One kind of readings of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesInfo {
    /// What is measured.
    pub kind: String,
    /// Unit as a UCUM code; may be empty.
    pub unit: String,
    /// Readings, when the source has been read.
    pub readings: Option<u64>,
    /// Oldest reading, when known.
    pub oldest: Option<Time>,
    /// Newest reading, when known.
    pub newest: Option<Time>,
}

/// What a source says when it is tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceReport {
    /// The source.
    pub source: Name,
    /// What it reads, such as a glob or an address.
    pub reads: String,
    /// Files or records looked at.
    pub files: u64,
    /// Devices found.
    pub devices: Vec<Device>,
    /// The first rows, as readings.
    pub sample: Vec<Reading>,
    /// Bad rows by reason, and the first few.
    pub coverage: crate::coverage::Coverage,
    /// How its readings are recorded, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

/// How the readings of a source are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Readings that became durable since the broker began.
    pub recorded: u64,
    /// Readings that are not durable yet.
    pub waiting: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Oldest reading that is kept, as far as it is known: at least its day.
    pub oldest: Option<Time>,
    /// Readings removed since the broker began because of their age, or for want of
    /// room.
    pub expired: u64,
    /// Readings that were lost in the gaps that are known.
    pub lost: u64,
    /// The newest times in which readings may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<crate::coverage::Gap>,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One reading, for people to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// When.
    pub time: Time,
    /// Identifier of the device.
    pub device: String,
    /// Location; may be empty.
    pub location: String,
    /// What was measured.
    pub kind: String,
    /// The value.
    pub value: f64,
    /// Unit as a UCUM code; may be empty.
    pub unit: String,
}

/// What a DTO would fetch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// Name of the DTO.
    pub name: Name,
    /// Devices that match.
    pub devices: Vec<Device>,
    /// Readings in the range, counted or (see `exact`) estimated.
    pub readings: u64,
    /// Bytes of batch files that they fill.
    pub batch_bytes: u64,
    /// The readings were counted.
    #[serde(default)]
    pub exact: bool,
    /// The first rows.
    #[serde(default)]
    pub sample: Vec<Reading>,
    /// Devices that were asked and did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Absent>,
}
