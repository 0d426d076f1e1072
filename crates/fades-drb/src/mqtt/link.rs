//! One connection to a broker, whatever the version of the protocol.

use fades_outside::mqtt::{Address, Caller, Setup, SetupError};

use super::v3::LinkV3;
use super::v5::LinkV5;
use crate::config::{MqttSource, MqttVersion};
use crate::source::Setting;

/// Longest packet that is taken, bytes: some more than a message may have, so that
/// one that is too long is a bad message and does not end the connection.
pub(super) const MOST_PACKET: u32 = 1 << 20;

/// What to connect with, as the files are now.
pub(super) fn setup(
    config: &MqttSource,
    address: &Address,
    client: &str,
    persistent: bool,
    setting: &Setting,
) -> Result<Setup, SetupError> {
    let keep_alive = config.keep_alive.map_or(30, |k| k.0 / 1_000_000_000);
    let caller = Caller {
        client,
        auth: config.auth.as_ref(),
        tls: config.tls.as_ref(),
        keep_alive: u16::try_from(keep_alive).unwrap_or(u16::MAX),
        persistent,
        most_in: MOST_PACKET,
        most_out: MOST_PACKET,
    };
    Setup::read(address, &caller, &setting.means())
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
