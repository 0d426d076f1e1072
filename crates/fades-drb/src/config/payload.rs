//! What devices send in messages, as an operator says it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which form readings stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadFormat {
    /// One number in decimal digits, and nothing else.
    #[default]
    Number,
    /// JSON, with pointers to what is meant.
    Json,
    /// SenML in JSON (RFC 8428).
    SenmlJson,
    /// SenML in CBOR (RFC 8428).
    SenmlCbor,
}

/// Where the values are in a JSON message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Values {
    /// JSON pointer (RFC 6901) of the one value.
    One(String),
    /// JSON pointers by kind.
    Kinds(BTreeMap<String, String>),
}

/// Where the time is in a JSON message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TimeAt {
    /// JSON pointer; the form is found out.
    Pointer(String),
    /// JSON pointer and form.
    Formed(FormedTime),
}

/// A time in a form that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormedTime {
    /// JSON pointer.
    pub pointer: String,
    /// How it is written.
    #[serde(default)]
    pub format: TimeForm,
}

/// How a message writes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeForm {
    /// A text is a date (RFC 3339); a number counts s, ms, us or ns since 1970,
    /// whichever puts it between the years 1973 and 5138.
    #[default]
    Auto,
    /// Seconds since 1970 UTC, with decimals if need be.
    UnixS,
    /// Milliseconds.
    UnixMs,
    /// Microseconds.
    UnixUs,
    /// Nanoseconds.
    UnixNs,
}

impl TimeAt {
    pub(crate) fn pointer(&self) -> &str {
        match self {
            Self::Pointer(pointer) => pointer,
            Self::Formed(formed) => &formed.pointer,
        }
    }

    pub(crate) fn form(&self) -> TimeForm {
        match self {
            Self::Pointer(_) => TimeForm::Auto,
            Self::Formed(formed) => formed.format,
        }
    }
}
