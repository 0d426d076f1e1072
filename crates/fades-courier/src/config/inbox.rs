//! Where tasks come from.

use fades_outside::connection::{SecretFile, Tls};
use fades_outside::field::FieldError;
use fades_task::dial::Address;
use fades_task::identity::Name;
use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Place, PlacesError, read, url};

/// Where tasks come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Inbox {
    /// A server.
    Http(HttpInbox),
    /// A folder of this host.
    Folder(FolderInbox),
}

/// A server that is asked for tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpInbox {
    /// Its address, such as `https://city.example/fades/inbox`.
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
    /// How long the server may wait for a task before it says that there is none,
    /// 1 s to 5 min.
    #[serde(default = "wait")]
    pub wait: Duration,
    /// The connection need not be secure; without it `http://` is for this host only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// A folder into which others put tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FolderInbox {
    /// The folder; a relative one begins at the folder of the configuration.
    pub folder: String,
}

const fn wait() -> Duration {
    Duration::from_secs(50)
}

impl Place for Inbox {
    const TABLE: &'static str = "inbox";

    fn read(name: &Name, table: &Value, folder: bool) -> Result<Self, PlacesError> {
        if folder {
            read::<Self, _>(name, table).map(Self::Folder)
        } else {
            read::<Self, _>(name, table).map(Self::Http)
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::Http(http) => http.check(),
            Self::Folder(inbox) => url::folder(&inbox.folder),
        }
    }
}

impl Inbox {
    /// The folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        match self {
            Self::Http(_) => None,
            Self::Folder(inbox) => Some(&inbox.folder),
        }
    }

    pub(super) fn address(&self, name: &Name) -> Option<Address> {
        match self {
            Self::Http(http) => url::web(name, &http.url),
            Self::Folder(_) => None,
        }
    }
}

impl HttpInbox {
    fn check(&self) -> Result<(), FieldError> {
        let is_secure = url::checked(&self.url, self.insecure)?;
        if self.url.contains('?') {
            let reason = "the node adds a query of its own: write the address without one";
            return Err(FieldError::new("url", reason));
        }
        let bounds = Duration::from_secs(1)..=Duration::from_secs(300);
        if !bounds.contains(&self.wait) {
            return Err(FieldError::new("wait", "is 1s to 5m"));
        }
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
