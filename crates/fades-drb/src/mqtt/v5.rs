//! MQTT 5.

use fades_outside::mqtt::{Setup, v5};
use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::RetainForwardRule;
use rumqttc_v5::{AsyncClient, Event, EventLoop, Packet, SubscribeFilter, SubscribeReasonCode};

use super::link::Word;

pub(super) struct LinkV5 {
    client: AsyncClient,
    events: EventLoop,
}

impl LinkV5 {
    pub(super) fn new(setup: &Setup) -> Self {
        let (client, events) = v5::connection(setup);
        Self { client, events }
    }

    pub(super) fn subscribe(&self, filters: &[String], qos: u8) -> Result<(), String> {
        let qos = if qos == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let filters = filters.iter();
        let filters = filters.map(|path| SubscribeFilter {
            path: path.clone(),
            qos,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        });
        self.client
            .try_subscribe_many(filters)
            .map_err(|_| "the topics cannot be asked for".to_owned())
    }

    pub(super) async fn next(&mut self) -> Result<Word, String> {
        match self.events.poll().await.map_err(|e| v5::words(&e))? {
            Event::Incoming(Packet::ConnAck(ack)) => Ok(Word::Connected {
                resumed: ack.session_present,
            }),
            Event::Incoming(Packet::SubAck(ack)) => {
                let codes = ack.return_codes.into_iter();
                let codes = codes.map(|code| match code {
                    SubscribeReasonCode::Success(_) => Ok(()),
                    other => Err(format!("refused ({other:?})")),
                });
                Ok(Word::Subscribed(codes.collect()))
            }
            Event::Incoming(Packet::Publish(publish)) => Ok(Word::Message {
                topic: publish.topic,
                payload: publish.payload,
                retained: publish.retain,
            }),
            Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => Ok(Word::Other),
        }
    }
}
