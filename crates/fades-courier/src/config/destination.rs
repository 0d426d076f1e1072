//! Where answers go.

use fades_outside::connection::{Auth, SecretFile, Tls};
use fades_outside::field::FieldError;
use fades_outside::mqtt::{self, MqttVersion};
use fades_task::dial::{Address, Transport};
use fades_task::identity::Name;
use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Place, PlacesError, Topic, read, url};

/// Where answers go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Destination {
    /// A server that takes CloudEvents.
    Http(HttpDestination),
    /// An MQTT broker.
    Mqtt(MqttDestination),
    /// A folder of this host.
    Folder(FolderDestination),
}

/// A server that takes CloudEvents by POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpDestination {
    /// Its address, such as `https://city.example/air`.
    pub url: String,
    /// The token that the node shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<SecretFile>,
    /// PEM file of the authorities that are trusted instead of the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// PEM file of the node's own certificate, with those that lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretFile>,
    /// How long one attempt may take, 1 s to 10 min.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// The connection need not be secure; without it `http://` is for this host only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// A topic of an MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttDestination {
    /// Address of the broker, such as `mqtts://10.0.4.3`.
    pub url: String,
    /// The topic, in which `{node}`, `{service}`, `{name}` and `{task}` stand for
    /// what is delivered.
    pub topic: String,
    /// Version of the protocol. A broker that speaks 3.1.1 cannot say that it throws
    /// away what it has acknowledged.
    #[serde(default = "version")]
    pub version: MqttVersion,
    /// How the node calls itself at the broker; nobody else may use it there. By
    /// default a name that is new each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Who the node is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// PEM file of the authorities that are trusted instead of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// PEM file of the node's own certificate, with those that lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretFile>,
    /// How long one attempt may take, 1 s to 10 min.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// The connection need not be secure; without it `mqtt://` is for this host only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// A folder into which answers are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FolderDestination {
    /// The folder; a relative one begins at the folder of the configuration.
    pub folder: String,
}

const fn timeout() -> Duration {
    Duration::from_secs(30)
}

const fn version() -> MqttVersion {
    MqttVersion::V5
}

impl Place for Destination {
    const TABLE: &'static str = "destination";

    fn read(name: &Name, table: &Value, folder: bool) -> Result<Self, PlacesError> {
        let url = table["url"].as_str().unwrap_or_default();
        if folder {
            read::<Self, _>(name, table).map(Self::Folder)
        } else if url.starts_with("mqtt://") || url.starts_with("mqtts://") {
            read::<Self, _>(name, table).map(Self::Mqtt)
        } else {
            read::<Self, _>(name, table).map(Self::Http)
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::Http(http) => http.check(),
            Self::Mqtt(mqtt) => mqtt.check(),
            Self::Folder(to) => url::folder(&to.folder),
        }
    }
}

impl Destination {
    /// The folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        match self {
            Self::Http(_) | Self::Mqtt(_) => None,
            Self::Folder(to) => Some(&to.folder),
        }
    }

    pub(super) fn address(&self, name: &Name) -> Option<Address> {
        match self {
            Self::Http(http) => url::web(name, &http.url),
            Self::Mqtt(mqtt) => {
                let at = mqtt::Address::parse(&mqtt.url).ok()?;
                Some(Address::new(name, &at.host, at.port, Transport::Tcp))
            }
            Self::Folder(_) => None,
        }
    }
}

impl HttpDestination {
    fn check(&self) -> Result<(), FieldError> {
        let is_secure = url::checked(&self.url, self.insecure)?;
        url::within(self.timeout)?;
        url::trust(&self.tls(), is_secure)
    }

    /// Whom it trusts, and the node's own certificate.
    pub(crate) fn tls(&self) -> Tls {
        Tls {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

impl MqttDestination {
    fn check(&self) -> Result<(), FieldError> {
        let address = mqtt::Address::parse(&self.url)?;
        url::open(&address.host, address.tls, self.insecure)?;
        url::within(self.timeout)?;
        Topic::parse(&self.topic)?;
        let wrong = |field: &str, reason: &str| Err(FieldError::new(field, reason));
        if let Some(auth) = &self.auth {
            auth.check()?;
            if auth.token_file.is_some() {
                return wrong(
                    "auth.token-file",
                    "MQTT knows users and passwords: write user and password-file",
                );
            }
        }
        let client = self.client_id.as_ref();
        if client.is_some_and(|c| c.is_empty() || c.len() > 256) {
            return wrong("client-id", "has 1 to 256 bytes");
        }
        if self.certificate_file.is_some() && self.ca_file.is_none() {
            return wrong("certificate-file", "needs ca-file: write whom to trust");
        }
        url::trust(&self.tls(), address.tls)
    }

    /// Whom it trusts, and the node's own certificate.
    pub(crate) fn tls(&self) -> Tls {
        Tls {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }
}
