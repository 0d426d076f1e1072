//! Options of a CoAP source.

use std::collections::BTreeMap;

use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldError, PayloadFormat, TimeAt, Topics, Values};

/// Devices that are asked by CoAP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CoapSource {
    /// Addresses of the devices, such as `coap://[fd00::7]`.
    pub devices_at: Addresses,
    /// Paths of the resources; those with placeholders are looked for in
    /// `.well-known/core`.
    pub path: Paths,
    /// Of the resources found, only those with this resource type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rt: Option<String>,
    /// Of the resources found, only those with this interface.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The form of answers; by default what the device says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<PayloadFormat>,
    /// Where the values are in a JSON answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Values>,
    /// Where the time is in a JSON answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeAt>,
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
    /// Whether devices are asked to tell changes by themselves (RFC 7641).
    #[serde(default = "yes")]
    pub observe: bool,
    /// How often resources that are not observed are asked, while somebody wants
    /// what arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
}

/// Addresses of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a list of addresses or a table of them by device"
)]
pub enum Addresses {
    /// The address is the device's name.
    List(Vec<String>),
    /// By the device's name.
    Named(BTreeMap<String, String>),
}

/// Paths of resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a path, a list of paths or a table of them by kind"
)]
pub enum Paths {
    /// Paths with or without placeholders.
    Plain(Topics),
    /// By kind.
    Kinds(BTreeMap<String, String>),
}

const fn yes() -> bool {
    true
}

impl CoapSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::coap::Shape::compile(self).map(drop)
    }
}
