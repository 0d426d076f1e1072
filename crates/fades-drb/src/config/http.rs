//! Options of a source of JSON over HTTP.

use std::collections::BTreeMap;

use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, FieldError, PayloadFormat, TimeAt, Tls, Values};

/// Devices or services that answer HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpSource {
    /// Where the answer is; may contain `{device}`.
    pub url: Urls,
    /// Devices that are asked, each put where the address says `{device}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask: Vec<String>,
    /// Headers of the question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Time between two questions while somebody wants what arrives.
    #[serde(default = "ten_seconds")]
    pub every: Duration,
    /// Longest time that an address may take.
    #[serde(default = "five_seconds")]
    pub timeout: Duration,
    /// The form of answers.
    #[serde(default = "json")]
    pub format: PayloadFormat,
    /// JSON pointer to a list, each entry of which is read like an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// Where the values are in a JSON answer or entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Values>,
    /// Where the time is; without it, the time of arrival counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeAt>,
    /// The device, or a JSON pointer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The location, or a JSON pointer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The kind, or a JSON pointer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The unit, or a JSON pointer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Units by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// Valid ranges by kind, as `[least, greatest]`; what is outside is marked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub valid: BTreeMap<String, [f64; 2]>,
    /// Most pages of an answer that says where the next one is.
    #[serde(default = "one")]
    pub pages: u32,
    /// Who the broker is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Transport security of `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an address or a list of addresses")]
pub enum Urls {
    /// One.
    One(String),
    /// Several, asked at the same time.
    Many(Vec<String>),
}

impl Urls {
    /// The addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Many(urls) => urls,
        }
    }
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn json() -> PayloadFormat {
    PayloadFormat::Json
}

const fn one() -> u32 {
    1
}

impl HttpSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::http::Shape::compile(self).map(drop)
    }
}
