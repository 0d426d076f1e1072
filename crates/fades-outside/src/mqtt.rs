//! How a connection to an MQTT broker is set up, in both versions of the protocol.
//! What is said on it is not looked at here.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use rumqttc_v4::TlsConfiguration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Means;
use crate::connection::{Auth, Tls};
use crate::dial::Dial;
use crate::secret::{Secret, SecretError, Secrets};

mod address;
pub mod v3;
pub mod v5;

pub use address::Address;

/// How long connecting may take.
pub const CONNECTING: Duration = Duration::from_secs(5);

/// How long a broker keeps what was sent while the node was not there, seconds;
/// MQTT 3.1.1 leaves it to the broker.
const SESSION: u32 = 3600;

/// Versions of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    #[default]
    #[serde(rename = "3.1.1")]
    V3,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

/// Who connects, and how.
#[derive(Debug)]
pub struct Caller<'a> {
    /// Its name at the broker.
    pub client: &'a str,
    /// Who the node is.
    pub auth: Option<&'a Auth>,
    /// Whom it trusts.
    pub tls: Option<&'a Tls>,
    /// After so many seconds of silence it asks whether the broker is there.
    pub keep_alive: u16,
    /// The broker shall keep what comes while the node is not there.
    pub persistent: bool,
    /// Longest packet that is taken, bytes.
    pub most_in: u32,
    /// Longest packet that is sent, bytes.
    pub most_out: u32,
}

/// What a connection is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the broker is.
    pub address: Address,
    client: String,
    credentials: Option<(String, Secret)>,
    tls: Option<TlsConfiguration>,
    dial: Dial,
    keep_alive: u16,
    persistent: bool,
    most_in: u32,
    most_out: u32,
}

/// Why there is nothing to connect with.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of certificates or keys cannot be read.
    #[error("tls.{option} {file} cannot be read: {reason}")]
    File {
        /// Who names it.
        option: &'static str,
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Nobody is trusted.
    #[error("the certificates that this host trusts cannot be read ({reason}): write ca-file")]
    Roots {
        /// Why.
        reason: String,
    },
}

impl Setup {
    /// Reads secrets and certificates: each connection takes them as they are.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(address: &Address, caller: &Caller<'_>, means: &Means) -> Result<Self, SetupError> {
        let auth = caller.auth;
        let credentials = auth.and_then(|a| a.user.as_ref().zip(a.password_file.as_ref()));
        let credentials = credentials.map(|(user, file)| {
            let password = means.secrets.read(file)?;
            Ok::<_, SetupError>((user.clone(), password))
        });
        let tls = address.tls.then(|| tls(caller.tls, &means.secrets));
        Ok(Self {
            address: address.clone(),
            client: caller.client.to_owned(),
            credentials: credentials.transpose()?,
            tls: tls.transpose()?,
            dial: means.dial.clone(),
            keep_alive: caller.keep_alive,
            persistent: caller.persistent,
            most_in: caller.most_in,
            most_out: caller.most_out,
        })
    }
}

fn tls(tls: Option<&Tls>, secrets: &Secrets) -> Result<TlsConfiguration, SetupError> {
    let read = |option: &'static str, path: PathBuf| {
        std::fs::read(&path).map_err(|e| SetupError::File {
            option,
            file: path.display().to_string(),
            reason: e.to_string(),
        })
    };
    let Some((tls, ca)) = tls.and_then(|t| t.ca_file.as_ref().map(|ca| (t, ca))) else {
        return TlsConfiguration::try_default_rustls().map_err(|e| SetupError::Roots {
            reason: e.to_string(),
        });
    };
    let own = tls.certificate_file.as_ref().zip(tls.key_file.as_ref());
    let own = own.map(|(certificate, key)| {
        Ok::<_, SetupError>((
            read("certificate-file", secrets.beside(certificate))?,
            read("key-file", secrets.path(key))?,
        ))
    });
    Ok(TlsConfiguration::Simple {
        ca: read("ca-file", secrets.beside(ca))?,
        alpn: None,
        client_auth: own.transpose()?,
    })
}

/// What went wrong with TLS or below it, with the remedy.
fn broken(e: &(dyn std::error::Error + 'static)) -> String {
    let mut words = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        let next = e.to_string();
        if !words.contains(&next) {
            words = format!("{words}: {next}");
        }
        source = e.source();
    }
    if words.contains("certificate") {
        return format!("{words}; check ca-file, and that the certificate names the url's host");
    }
    words
}

fn refused(code: impl Display, credentials: bool) -> String {
    let remedy = if credentials {
        "; check auth.user and auth.password-file"
    } else {
        ""
    };
    format!("the broker refuses the node: {code}{remedy}")
}
