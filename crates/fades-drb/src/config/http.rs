//! Options of a source of JSON over HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// A source of JSON over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpSource {
    /// Where the answer is.
    pub url: String,
}

impl HttpSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
