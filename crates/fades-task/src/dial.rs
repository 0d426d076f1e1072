//! Connections that the orchestrator makes for the broker, which has no network.
//!
//! ```text
//! broker ── DialRequest ──► orchestrator: is it configured? resolve, connect
//!        ◄── DialAnswer ─── with the connected descriptor, or why not
//! ```
//! They have a channel of their own, so that neither side waits for the other's
//! further business. Answers come in any order.

use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::quantity::Duration;

/// How two ends talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A stream of bytes.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An address at which a source reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Address {
    /// The source.
    pub source: Name,
    /// A name or an address, in small letters; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How it is talked to.
    pub transport: Transport,
}

/// Broker → orchestrator: connect to this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DialRequest {
    /// Number of the request.
    pub id: u64,
    /// Whereto.
    pub to: Address,
    /// How long it may take, the resolving of the name included.
    pub within: Duration,
}

/// Orchestrator → broker. Descriptor: the connected socket, when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DialAnswer {
    /// Number of the request.
    pub id: u64,
    /// Why there is no connection.
    pub failure: Option<DialFailure>,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum DialFailure {
    /// The source is not configured to be there.
    #[error("the node does not connect this source to it: its configuration names another address")]
    NotConfigured,
    /// The name has no address.
    #[error("its name cannot be resolved: {0}")]
    NoName(String),
    /// Nobody listens there.
    #[error("Connection refused")]
    Refused,
    /// It took too long.
    #[error("no connection in time")]
    TimedOut,
    /// The network leads nowhere.
    #[error("{0}")]
    Unreachable(String),
    /// Too many connections are being made.
    #[error("the node is making too many connections at once; try again")]
    Busy,
    /// The orchestrator does not answer.
    #[error("the node makes no connections any more")]
    Gone,
}

impl Address {
    /// The address of a source, written in the one way in which it is compared.
    #[must_use]
    pub fn new(source: &Name, host: &str, port: u16, transport: Transport) -> Self {
        let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        Self {
            source: source.clone(),
            host: inside.unwrap_or(host).to_ascii_lowercase(),
            port,
            transport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Transport};

    #[test]
    fn one_address_has_one_form() {
        let source = "hall".parse().unwrap();
        let host = |host: &str| Address::new(&source, host, 1, Transport::Tcp).host;
        assert_eq!(host("[FD00::7]"), host("fd00::7"));
        assert_eq!(host("Gateway.Local"), "gateway.local");
        assert_eq!(host("[x"), "[x");
    }
}
