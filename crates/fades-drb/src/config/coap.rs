//! Options of a CoAP source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// A CoAP source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CoapSource {
    /// Addresses of the devices.
    pub url: String,
}

impl CoapSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
