//! MQTT 3.1.1.

use fades_outside::mqtt::{Setup, v3};
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::{AsyncClient, Event, EventLoop, Packet, SubscribeFilter, SubscribeReasonCode};

use super::link::Word;

pub(super) struct LinkV3 {
    client: AsyncClient,
    events: EventLoop,
}

impl LinkV3 {
    pub(super) fn new(setup: &Setup) -> Self {
        let (client, events) = v3::connection(setup);
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
        });
        self.client
            .try_subscribe_many(filters)
            .map_err(|_| "the topics cannot be asked for".to_owned())
    }

    pub(super) async fn next(&mut self) -> Result<Word, String> {
        match self.events.poll().await.map_err(|e| v3::words(&e))? {
            Event::Incoming(Packet::ConnAck(ack)) => Ok(Word::Connected {
                resumed: ack.session_present,
            }),
            Event::Incoming(Packet::SubAck(ack)) => {
                let codes = ack.return_codes.into_iter();
                let codes = codes.map(|code| match code {
                    SubscribeReasonCode::Success(_) => Ok(()),
                    SubscribeReasonCode::Failure => Err("refused".to_owned()),
                });
                Ok(Word::Subscribed(codes.collect()))
            }
            Event::Incoming(Packet::Publish(publish)) => Ok(Word::Message {
                topic: publish.topic,
                payload: publish.payload,
                retained: publish.retain,
            }),
            Event::Incoming(_) | Event::Outgoing(_) => Ok(Word::Other),
        }
    }
}
