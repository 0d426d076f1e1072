//! MQTT 3.1.1.

use rumqttc_v4::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, NetworkOptions,
    Transport,
};

use super::{Address, CONNECTING, Setup, broken, refused};
use crate::dial::as_io;

/// A connection that is made when its events are asked for first.
#[must_use]
pub fn connection(setup: &Setup) -> (AsyncClient, EventLoop) {
    let address = (setup.address.host.clone(), setup.address.port);
    let mut options = MqttOptions::new(setup.client.clone(), address);
    let _ = options
        .set_keep_alive(setup.keep_alive)
        .set_max_packet_size(setup.most_in as usize, setup.most_out as usize)
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
    (client, events)
}

/// Why a connection ended, with the remedy.
#[must_use]
pub fn words(e: &ConnectionError) -> String {
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
