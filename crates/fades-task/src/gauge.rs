//! What the broker says of itself in numbers, for a node's metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::quantity::Size;
use crate::resource::{DeviceState, Recording};

/// The broker at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gauges {
    /// Bytes of batch files.
    pub batches: Size,
    /// Most of them.
    pub budget: Size,
    /// The sources that are listened to or asked all the time.
    pub sources: BTreeMap<Name, SourceGauge>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceGauge {
    /// Its devices can be heard, as far as it depends on the source.
    pub connected: bool,
    /// Its devices.
    pub devices: DeviceCounts,
    /// How recording goes, if it is recorded; without its gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

/// Devices by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceCounts {
    /// Not heard yet.
    pub unknown: u64,
    /// Heard as expected.
    pub alive: u64,
    /// Heard too long ago.
    pub silent: u64,
    /// Asking them failed.
    pub failing: u64,
    /// They are asked less often because of that.
    pub broken: u64,
}

impl DeviceCounts {
    /// Counts one more.
    pub const fn add(&mut self, state: DeviceState) {
        *match state {
            DeviceState::Unknown => &mut self.unknown,
            DeviceState::Alive => &mut self.alive,
            DeviceState::Silent => &mut self.silent,
            DeviceState::Failing => &mut self.failing,
            DeviceState::Broken => &mut self.broken,
        } += 1;
    }

    /// Each state with its number.
    #[must_use]
    pub const fn all(&self) -> [(DeviceState, u64); 5] {
        [
            (DeviceState::Unknown, self.unknown),
            (DeviceState::Alive, self.alive),
            (DeviceState::Silent, self.silent),
            (DeviceState::Failing, self.failing),
            (DeviceState::Broken, self.broken),
        ]
    }
}
