//! Deliveries by MQTT: a connection for each, and delivered is what the broker has
//! acknowledged.

use std::time::Duration;

use fades_outside::client::Means;
use fades_outside::connection::Tls;
use fades_outside::field::FieldError;
use fades_outside::mqtt::{Address, Caller, MqttVersion, Setup, v3, v5};
use fades_task::courier::{NotDelivered, Parcel};
use fades_task::identity::Name;
use rumqttc_v5::mqttbytes::v5::{PubAckReason, PublishProperties};

use super::http::KIND;
use super::{never, not_now};
use crate::config::{MqttDestination, Topic};
use crate::stop::Stop;

/// An MQTT broker that takes events.
#[derive(Debug)]
pub(crate) struct MqttTo {
    config: MqttDestination,
    tls: Tls,
    address: Address,
    topic: Topic,
    node: Name,
    means: Means,
}

/// Longest packet that is sent, bytes: as much as the protocol has room for.
const MOST_OUT: u32 = 256 << 20;

/// Longest packet that is taken, bytes: the courier asks for nothing.
const MOST_IN: u32 = 64 << 10;

/// How often a look is taken at whether to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Room that is left for the head of a packet, bytes.
const HEAD: usize = 64;

impl MqttTo {
    pub(crate) fn new(
        config: &MqttDestination,
        node: &Name,
        means: &Means,
    ) -> Result<Self, FieldError> {
        Ok(Self {
            config: config.clone(),
            tls: config.tls(),
            address: Address::parse(&config.url)?,
            topic: Topic::parse(&config.topic)?,
            node: node.clone(),
            means: means.clone(),
        })
    }

    /// Whether only one connection can be made at one time.
    pub(super) const fn has_name(&self) -> bool {
        self.config.client_id.is_some()
    }

    pub(super) fn carry(
        &self,
        parcel: &Parcel,
        body: Vec<u8>,
        stop: &Stop,
    ) -> Result<(), NotDelivered> {
        let name = format!("fades-{:016x}", fades_outside::breaker::chance());
        let caller = Caller {
            client: self.config.client_id.as_deref().unwrap_or(&name),
            auth: self.config.auth.as_ref(),
            tls: Some(&self.tls),
            keep_alive: 30,
            persistent: false,
            most_in: MOST_IN,
            most_out: MOST_OUT,
        };
        let setup = Setup::read(&self.address, &caller, &self.means);
        let setup = setup.map_err(not_now)?;
        let message = Message {
            topic: self.topic.of(&self.node, parcel),
            body,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(not_now)?;
        let timeout = self.config.timeout.as_std();
        runtime
            .block_on(async {
                let publish = async {
                    match self.config.version {
                        MqttVersion::V3 => by_v3(&setup, message).await,
                        MqttVersion::V5 => by_v5(&setup, message).await,
                    }
                };
                tokio::select! {
                    outcome = tokio::time::timeout(timeout, publish) => {
                        let late = format!("no acknowledgement within {} s", timeout.as_secs());
                        outcome.unwrap_or_else(|_| Err(not_now(late)))
                    }
                    () = ended(stop) => Err(not_now("the courier ends")),
                }
            })
            .map_err(|mut why| {
                why.reason = format!("{}: {}", self.config.url, why.reason);
                why
            })
    }
}

struct Message {
    topic: String,
    body: Vec<u8>,
}

async fn ended(stop: &Stop) {
    while !stop.is_set() {
        tokio::time::sleep(PATIENCE).await;
    }
}

async fn by_v3(setup: &Setup, message: Message) -> Result<(), NotDelivered> {
    use rumqttc_v4::mqttbytes::QoS;
    use rumqttc_v4::{Event, Packet, PublishOptions};
    let (client, mut events) = v3::connection(setup);
    let mut message = Some(message);
    loop {
        match events.poll().await.map_err(|e| not_now(v3::words(&e)))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                if let Some(Message { topic, body }) = message.take() {
                    let options = PublishOptions::new(QoS::AtLeastOnce);
                    client
                        .publish(topic, body, options)
                        .await
                        .map_err(not_now)?;
                }
            }
            Event::Incoming(Packet::PubAck(_)) => break,
            _ => {}
        }
    }
    // It has arrived; a goodbye that fails changes nothing.
    let goodbye = async {
        let _ = client.disconnect().await;
        while events.poll().await.is_ok() {}
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    Ok(())
}

async fn by_v5(setup: &Setup, message: Message) -> Result<(), NotDelivered> {
    use rumqttc_v5::mqttbytes::QoS;
    use rumqttc_v5::{Event, Packet, PublishOptions};
    let (client, mut events) = v5::connection(setup);
    let mut message = Some(message);
    let reason = loop {
        match events.poll().await.map_err(|e| not_now(v5::words(&e)))? {
            Event::Incoming(Packet::ConnAck(ack)) => {
                let most = ack.properties.and_then(|p| p.max_packet_size);
                if let Some(Message { topic, body }) = message.take() {
                    let length = topic.len() + body.len() + HEAD;
                    if let Some(most) = most.filter(|&m| length > m as usize) {
                        let words = format!("the broker takes {most} bytes at the most");
                        return Err(never(words));
                    }
                    let options = PublishOptions::new(QoS::AtLeastOnce);
                    let options = options.properties(PublishProperties {
                        content_type: Some(KIND.to_owned()),
                        ..PublishProperties::default()
                    });
                    client
                        .publish(topic, body, options)
                        .await
                        .map_err(not_now)?;
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => break ack.reason,
            _ => {}
        }
    };
    let goodbye = async {
        let _ = client.disconnect().await;
        while events.poll().await.is_ok() {}
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    judged(reason)
}

/// What an acknowledgement means.
fn judged(reason: PubAckReason) -> Result<(), NotDelivered> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
        PubAckReason::PayloadFormatInvalid => Err(never("the broker does not take the event")),
        PubAckReason::NotAuthorized => Err(not_now(
            "the broker does not let the node publish to the topic: let its access list allow it",
        )),
        reason => Err(not_now(format!(
            "the broker does not take the event: {reason:?}"
        ))),
    }
}
