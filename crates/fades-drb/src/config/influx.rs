//! Options of an InfluxDB source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// An InfluxDB source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InfluxSource {
    /// Address of the server, such as `https://10.0.4.2:8086`.
    pub url: String,
}

impl InfluxSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
