//! MQTT 5.

use rumqttc_v5::{
    AsyncClient, BrokerSessionResumePolicy, ConnectReturnCode, ConnectionError, EventLoop,
    MqttOptions, Transport,
};

use super::{Address, CONNECTING, SESSION, Setup, broken, refused};
use crate::dial::as_io;

/// A connection that is made when its events are asked for first. How long its
/// packets may be is agreed on with the broker.
#[must_use]
pub fn connection(setup: &Setup) -> (AsyncClient, EventLoop) {
    let address = (setup.address.host.clone(), setup.address.port);
    let mut options = MqttOptions::new(setup.client.clone(), address);
    let _ = options
        .set_keep_alive(setup.keep_alive)
        .set_connect_timeout(CONNECTING)
        .set_max_packet_size(Some(setup.most_in))
        .set_clean_start(!setup.persistent);
    if setup.persistent {
        // A node that only subscribes has nothing of its own to resume.
        let _ = options
            .set_session_expiry_interval(Some(SESSION))
            .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
    }
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
    AsyncClient::builder(options).capacity(8).build()
}

/// Why a connection ended, with the remedy.
#[must_use]
pub fn words(e: &ConnectionError) -> String {
    match e {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => refused("user or password is wrong", true),
            ConnectReturnCode::NotAuthorized => refused("it is not authorised", true),
            ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
                refused("it does not accept its client-id", false)
            }
            ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::UnsupportedProtocolVersion => {
                refused("it does not speak MQTT 5; try version = \"3.1.1\"", false)
            }
            other => refused(format_args!("{other:?}"), false),
        },
        ConnectionError::Timeout(_) => format!("no answer within {} s", CONNECTING.as_secs()),
        e => broken(e),
    }
}
