//! Options of a source of Parquet files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldError, Patterns};

/// A source of Parquet files. The text of `device`, `location`, `kind` and `unit`
/// is a template: `{NAME}` stands for a column, `{file}` for the file's name without
/// its ending, `{folder}` for the folder that it is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParquetSource {
    /// Globs of the files; relative ones begin at the folder of the node's
    /// configuration.
    pub files: Patterns,
    /// Where the time of a row is.
    #[serde(default)]
    pub time: ParquetTime,
    /// The device, a template.
    #[serde(default = "device")]
    pub device: String,
    /// The location, a template; may be empty.
    #[serde(default)]
    pub location: String,
    /// Long form: the kind, a template. Each row is one reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Long form: the column of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Long form: the unit, a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Long form: a column of marks, as segments of recorded readings have it; files
    /// without it have no marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Long form: least and greatest valid value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<[f64; 2]>,
    /// Wide form: the columns that are readings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<ParquetPoint>,
}

fn device() -> String {
    "{device}".to_owned()
}

/// Where the time of a row is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParquetTime {
    /// The column.
    pub column: String,
    /// What a column of plain integers counts since 1970 UTC; columns of timestamps
    /// say it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<TimeUnit>,
}

impl Default for ParquetTime {
    fn default() -> Self {
        Self {
            column: "time".to_owned(),
            unit: None,
        }
    }
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Nanoseconds of the unit.
    pub(crate) const fn nanos(self) -> i64 {
        match self {
            Self::S => 1_000_000_000,
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
            Self::Ns => 1,
        }
    }
}

/// A column of readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParquetPoint {
    /// The column.
    pub column: String,
    /// What it measures; the column's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Unit as a UCUM code.
    #[serde(default)]
    pub unit: String,
    /// Least and greatest valid value; readings outside are marked, not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<[f64; 2]>,
}

impl ParquetSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::parquet::Layout::compile(self).map(drop)
    }
}
