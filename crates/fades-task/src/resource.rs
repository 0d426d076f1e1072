//! Devices and series that a node knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::time::Time;

/// A device of a source, at one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The source that knows it.
    pub source: Name,
    /// Identifier.
    pub device: String,
    /// Location; may be empty.
    pub location: String,
    /// What it measures.
    pub series: Vec<SeriesInfo>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// Name of the DTO.
    pub name: Name,
    /// Devices that match.
    pub devices: Vec<Device>,
    /// Readings in the range, counted.
    pub readings: u64,
    /// Bytes of batch files that they fill.
    pub batch_bytes: u64,
}
