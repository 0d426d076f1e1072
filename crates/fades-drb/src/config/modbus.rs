//! Options of a Modbus source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// A Modbus source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModbusSource {
    /// `tcp://10.0.4.9:502`, or the path of a serial port.
    pub url: String,
}

impl ModbusSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
