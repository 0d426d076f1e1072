//! MQTT 3.1.1.

use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions,
    Packet, SubscribeFilter, SubscribeReasonCode, Transport,
};

use super::address::Address;
use super::link::{CONNECTING, MOST_PACKET, Setup, Word, broken, refused};
use crate::dial::as_io;

pub(super) struct LinkV3 {
    client: AsyncClient,
    events: EventLoop,
}

impl LinkV3 {
    pub(super) fn new(setup: &Setup) -> Self {
        let address = (setup.address.host.clone(), setup.address.port);
        let mut options = MqttOptions::new(setup.client.clone(), address);
        let _ = options
            .set_keep_alive(setup.keep_alive)
            .set_max_packet_size(MOST_PACKET as usize, MOST_PACKET as usize)
            .set_clean_session(!setup.persistent);
        if let Some((user, password)) = &setup.credentials {
            let _ = options.set_credentials(user.clone(), password.expose().to_owned());
        }
        if let Some(asked) = setup.dial.asked() {
            let asked = asked.clone();
            let Address { host, port, .. } = setup.address.clone();
            let _ = options.set_socket_connector(move |_, _| {
                let (asked, host) = (asked.clone(), host.clone());
                async move { asked.connect(&host, port, CONNECTING).await.map_err(as_io) }
            });
        }
        if let Some(tls) = &setup.tls {
            let _ = options.set_transport(Transport::Tls(tls.clone()));
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(8).build();
        let mut network = NetworkOptions::new();
        let _ = network.set_connection_timeout(CONNECTING.as_secs());
        let _ = events.set_network_options(network);
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
        match self.events.poll().await.map_err(|e| words(&e))? {
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

fn words(e: &ConnectionError) -> String {
    match e {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => refused("user or password is wrong", true),
            ConnectReturnCode::NotAuthorized => refused("it is not authorised", true),
            ConnectReturnCode::BadClientId => refused("it does not accept its client-id", false),
            ConnectReturnCode::RefusedProtocolVersion => {
                refused("it does not speak MQTT 3.1.1; try version = \"5\"", false)
            }
            other => refused(format_args!("{other:?}"), false),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            format!("no answer within {} s", CONNECTING.as_secs())
        }
        e => broken(e),
    }
}
