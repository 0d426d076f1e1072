//! One connection to a broker, whatever the version of the protocol.

use std::fmt::Display;
use std::time::Duration;

use rumqttc_v4::TlsConfiguration;

use super::address::Address;
use super::v3::LinkV3;
use super::v5::LinkV5;
use crate::config::{MqttSource, MqttVersion};
use crate::dial::Dial;
use crate::secret::{Secret, SecretError};
use crate::source::Setting;

/// Longest packet that is taken, bytes: some more than a message may have, so that
/// one that is too long is a bad message and does not end the connection.
pub(super) const MOST_PACKET: u32 = 1 << 20;

/// How long connecting may take.
pub(super) const CONNECTING: Duration = Duration::from_secs(5);

/// How long a broker keeps what was sent while the node was not there, seconds;
/// MQTT 3.1.1 leaves it to the broker.
pub(super) const SESSION: u32 = 3600;

/// What a connection is made with.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) address: Address,
    pub(super) client: String,
    pub(super) credentials: Option<(String, Secret)>,
    pub(super) tls: Option<TlsConfiguration>,
    pub(super) dial: Dial,
    /// Seconds.
    pub(super) keep_alive: u16,
    /// The broker shall keep what comes while the node is not there.
    pub(super) persistent: bool,
}

/// Why there is nothing to connect with.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("tls.{option} {file} cannot be read: {reason}")]
    File {
        option: &'static str,
        file: String,
        reason: String,
    },
    #[error("the certificates that this host trusts cannot be read ({reason}): write tls.ca-file")]
    Roots { reason: String },
}

impl Setup {
    /// Reads secrets and certificates: each connection takes them as they are.
    pub(super) fn read(
        config: &MqttSource,
        address: &Address,
        client: &str,
        persistent: bool,
        setting: &Setting,
    ) -> Result<Self, SetupError> {
        let auth = config.auth.as_ref();
        let credentials = auth.and_then(|a| a.user.as_ref().zip(a.password_file.as_ref()));
        let credentials = credentials.map(|(user, file)| {
            let password = setting.secrets.read(file)?;
            Ok::<_, SetupError>((user.clone(), password))
        });
        let keep_alive = config.keep_alive.map_or(30, |k| k.0 / 1_000_000_000);
        Ok(Self {
            address: address.clone(),
            client: client.to_owned(),
            credentials: credentials.transpose()?,
            tls: address.tls.then(|| tls(config, setting)).transpose()?,
            dial: setting.dial.clone(),
            keep_alive: u16::try_from(keep_alive).unwrap_or(u16::MAX),
            persistent,
        })
    }
}

fn tls(config: &MqttSource, setting: &Setting) -> Result<TlsConfiguration, SetupError> {
    let tls = config.tls.as_ref();
    let read = |option: &'static str, path: std::path::PathBuf| {
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
            read("certificate-file", setting.path(certificate))?,
            read("key-file", setting.secrets.path(key))?,
        ))
    });
    Ok(TlsConfiguration::Simple {
        ca: read("ca-file", setting.path(ca))?,
        alpn: None,
        client_auth: own.transpose()?,
    })
}

/// What a broker says.
#[derive(Debug)]
pub(super) enum Word {
    /// It lets the node in; `resumed`: it knows its subscriptions.
    Connected { resumed: bool },
    /// The answer to a subscription, a refusal in words for each filter.
    Subscribed(Vec<Result<(), String>>),
    Message {
        topic: bytes::Bytes,
        payload: bytes::Bytes,
        retained: bool,
    },
    /// Nothing that matters here.
    Other,
}

/// A connection.
pub(super) enum Link {
    V3(Box<LinkV3>),
    V5(Box<LinkV5>),
}

impl Link {
    pub(super) fn new(version: MqttVersion, setup: &Setup) -> Self {
        match version {
            MqttVersion::V3 => Self::V3(Box::new(LinkV3::new(setup))),
            MqttVersion::V5 => Self::V5(Box::new(LinkV5::new(setup))),
        }
    }

    /// The next thing that the broker says; connects first. An error, in words,
    /// ends the connection.
    pub(super) async fn next(&mut self) -> Result<Word, String> {
        match self {
            Self::V3(link) => link.next().await,
            Self::V5(link) => link.next().await,
        }
    }

    pub(super) fn subscribe(&self, filters: &[String], qos: u8) -> Result<(), String> {
        match self {
            Self::V3(link) => link.subscribe(filters, qos),
            Self::V5(link) => link.subscribe(filters, qos),
        }
    }
}

/// What went wrong with TLS or below it, with the remedy.
pub(super) fn broken(e: &(dyn std::error::Error + 'static)) -> String {
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
        return format!(
            "{words}; check tls.ca-file, and that the certificate names the url's host"
        );
    }
    words
}

pub(super) fn refused(code: impl Display, credentials: bool) -> String {
    let remedy = if credentials {
        "; check auth.user and auth.password-file"
    } else {
        ""
    };
    format!("the broker refuses the node: {code}{remedy}")
}
