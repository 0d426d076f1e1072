//! Options of a source of Parquet files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// A source of Parquet files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParquetSource {
    /// Globs of the files; relative ones begin at the folder of the node's
    /// configuration.
    pub files: super::Patterns,
}

impl ParquetSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
