//! What every kind of source can have.

use std::collections::BTreeMap;

use fades_task::quantity::{Duration, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::FieldError;

/// Options that do not depend on where readings come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// Keep what arrives; only of sources whose readings come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// What is known of the devices besides what they say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceNote>,
}

/// How long recorded readings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    /// Readings older than this are removed, whole days at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
    /// Bytes on disk; the oldest days are removed when there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Size>,
}

/// What the operator says of some devices. Of several notes that mean a device,
/// the first counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceNote {
    /// Glob of the devices that are meant.
    pub device: String,
    /// Labels, by which tasks can choose devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Latitude and longitude, degrees (WGS 84).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<[f64; 2]>,
    /// How often something is expected of it; after three times as long without
    /// it the device counts as silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Duration>,
}

/// The fields of [`Common`].
const FIELDS: [&str; 2] = ["record", "devices"];

/// Parts the fields of [`Common`] from those of the kind of source.
pub(super) fn split(table: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let fields = table.clone().into_iter().filter(|(name, _)| name != "type");
    fields.partition(|(name, _)| FIELDS.contains(&name.as_str()))
}

impl Common {
    /// Checks what the types cannot.
    pub(super) fn check(&self, live: bool) -> Result<(), FieldError> {
        if self.record.is_some() && !live {
            return Err(FieldError::new(
                "record",
                "this source keeps its readings itself: remove record",
            ));
        }
        for (i, note) in self.devices.iter().enumerate() {
            note.check()
                .map_err(|e| FieldError::new(format!("devices[{i}].{}", e.field), e.reason))?;
        }
        Ok(())
    }
}

impl DeviceNote {
    fn check(&self) -> Result<(), FieldError> {
        globset::Glob::new(&self.device)
            .map_err(|e| FieldError::new("device", format!("no glob: {}", e.kind())))?;
        if let Some([lat, lon]) = self.at
            && !(lat.abs() <= 90.0 && lon.abs() <= 180.0)
        {
            return Err(FieldError::new(
                "at",
                "no place: write [latitude, longitude] in degrees",
            ));
        }
        if self.expected.is_some_and(|e| e.0 == 0) {
            return Err(FieldError::new("expected", "must be longer than nothing"));
        }
        Ok(())
    }
}
