//! A network namespace with nothing in it, not even a loopback interface that is up.
#![expect(unsafe_code, reason = "the thread leaves its network namespace here")]

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{ConfineError, Reach};

/// Leaves the host's network, when connections are made elsewhere. Sockets that
/// exist keep the namespace in which they were made.
pub(super) fn enter(reach: &Reach) -> Result<String, ConfineError> {
    if !reach.asks {
        return Err(ConfineError::NotAsked);
    }
    // SAFETY: of what threads share nothing changes; descriptors stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(ConfineError::Namespace)?;
    Ok(words(reach))
}

fn words(reach: &Reach) -> String {
    let addresses = match reach.addresses.len() {
        0 => return "none; no source names an address".to_owned(),
        1 => "the one address that a source names".to_owned(),
        n => format!("the {n} addresses that sources name"),
    };
    let words = format!("none; the node connects it to {addresses}, resolving names itself");
    match reach.udp {
        true => format!("{words}; not enforced: that datagrams to CoAP devices go nowhere else"),
        false => words,
    }
}
