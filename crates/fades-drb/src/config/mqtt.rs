//! Options of an MQTT source.

use std::collections::BTreeMap;

use fades_outside::mqtt::MqttVersion;
use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, FieldError, PayloadFormat, TimeAt, Tls, Values};

/// Devices that publish to an MQTT broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttSource {
    /// Address of the broker, such as `mqtts://10.0.4.3`.
    pub url: String,
    /// Version of the protocol.
    #[serde(default)]
    pub version: MqttVersion,
    /// Topics, such as `site/{location}/{device}/{kind}`.
    pub topic: Topics,
    /// The form of messages; by default JSON when `value` is there, else numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<PayloadFormat>,
    /// Where the values are in a JSON message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Values>,
    /// Where the time is in a JSON message; without it, the time of arrival counts.
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
    /// Quality of service, 0 or 1; by default 1 when the source is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// Whether messages that the broker kept count as readings.
    #[serde(default = "yes")]
    pub retained: bool,
    /// How the node calls itself at the broker; nobody else may use it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// After this time without a message the broker is asked whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Duration>,
    /// Who the node is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Transport security, for `mqtts://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// One topic or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a topic or a list of topics")]
pub enum Topics {
    /// One.
    One(String),
    /// Of those that mean a message, the first counts.
    Any(Vec<String>),
}

impl Topics {
    /// The topics.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(topic) => std::slice::from_ref(topic),
            Self::Any(topics) => topics,
        }
    }
}

const fn yes() -> bool {
    true
}

impl MqttSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::mqtt::Shape::compile(self).map(drop)
    }
}
