//! What an operator wrote of an MQTT source, resolved.

use fades_outside::mqtt::Address;
use fades_task::dial::Transport;

use crate::config::{FieldError, MqttSource, PayloadFormat};
use crate::payload::{Meaning, Named, NamedBy, Names, Pattern};

/// Most topics of one source.
const MOST_TOPICS: usize = 64;

/// A source's address, topics and messages.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(super) address: Address,
    pub(super) topics: Vec<Pattern>,
    pub(super) meaning: Meaning,
}

impl Shape {
    /// Resolves what was written, or says what is wrong with it.
    pub(crate) fn compile(config: &MqttSource) -> Result<Self, FieldError> {
        let address = Address::parse(&config.url)?;
        let topics = topics(config)?;
        let all = |named: fn(NamedBy) -> bool| topics.iter().all(|t| named(t.names()));
        let format = config.format.unwrap_or(match config.value {
            Some(_) => PayloadFormat::Json,
            None => PayloadFormat::Number,
        });
        let meaning = Meaning::compile(&Names {
            format,
            value: config.value.as_ref(),
            time: config.time.as_ref(),
            device: config.device.as_deref(),
            location: config.location.as_deref(),
            kind: config.kind.as_deref(),
            unit: config.unit.as_deref(),
            units: &config.units,
            valid: &config.valid,
            named: NamedBy {
                device: all(|n| n.device),
                kind: all(|n| n.kind),
            },
        })?;
        connection(config, &address)?;
        Ok(Self {
            address,
            topics,
            meaning,
        })
    }

    /// Where the broker is.
    pub(crate) fn address(&self) -> (String, u16, Transport) {
        (self.address.host.clone(), self.address.port, Transport::Tcp)
    }

    /// What a topic names, when it is one of this source's.
    pub(super) fn named(&self, topic: &str) -> Option<Named> {
        self.topics.iter().find_map(|t| t.read(topic))
    }
}

fn topics(config: &MqttSource) -> Result<Vec<Pattern>, FieldError> {
    let topics = config.topic.as_slice();
    if topics.is_empty() || topics.len() > MOST_TOPICS {
        let reason = format!("write 1 to {MOST_TOPICS} topics");
        return Err(FieldError::new("topic", reason));
    }
    topics.iter().map(|t| Pattern::parse("topic", t)).collect()
}

/// Checks what is said of the connection.
fn connection(config: &MqttSource, address: &Address) -> Result<(), FieldError> {
    let wrong = |field: &str, reason: &str| Err(FieldError::new(field, reason));
    if config.qos.is_some_and(|q| q > 1) {
        return wrong("qos", "is 0 or 1");
    }
    let second = 1_000_000_000;
    if config
        .keep_alive
        .is_some_and(|k| k.0 < second || k.0 > 3600 * second)
    {
        return wrong("keep-alive", "is 1s to 1h");
    }
    if config
        .client_id
        .as_ref()
        .is_some_and(|c| c.is_empty() || c.len() > 256)
    {
        return wrong("client-id", "has 1 to 256 bytes");
    }
    if let Some(auth) = &config.auth {
        auth.check()?;
        if auth.token_file.is_some() {
            return wrong(
                "auth.token-file",
                "MQTT knows users and passwords: write user and password-file",
            );
        }
    }
    if let Some(tls) = &config.tls {
        tls.check()?;
        if !address.tls {
            return wrong("tls", "the url asks for none: write mqtts://HOST");
        }
        if tls.certificate_file.is_some() && tls.ca_file.is_none() {
            return wrong("tls", "certificate-file needs ca-file: write whom to trust");
        }
    }
    Ok(())
}
