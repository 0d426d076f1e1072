//! Options of an MQTT source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// An MQTT source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttSource {
    /// Address of the broker, such as `mqtts://10.0.4.3`.
    pub url: String,
}

impl MqttSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
