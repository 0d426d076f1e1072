//! A network namespace with nothing in it, not even a loopback interface that is up.
#![expect(
    unsafe_code,
    reason = "a thread and a process leave their namespaces here"
)]

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{ConfineError, Reach};

/// Leaves the host's network, when connections are made elsewhere. Sockets that
/// exist keep the namespace in which they were made.
///
/// # Errors
/// Why it was not left.
pub fn enter(reach: &Reach) -> Result<String, ConfineError> {
    if !reach.asks {
        return Err(ConfineError::NotAsked(reach.subject.process));
    }
    // SAFETY: of what threads share nothing changes; descriptors stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(ConfineError::Namespace)?;
    Ok(words(reach))
}

fn words(reach: &Reach) -> String {
    let (one, many) = (reach.subject.one, reach.subject.many);
    let addresses = match reach.addresses.len() {
        0 => return format!("none; no {one} names an address"),
        1 => format!("the one address that a {one} names"),
        n => format!("the {n} addresses that {many} name"),
    };
    let words = format!("none; the node connects it to {addresses}, resolving names itself");
    match reach.udp {
        true => format!("{words}; not enforced: that datagrams to CoAP devices go nowhere else"),
        false => words,
    }
}

/// Gives a process that is not root the rights that confining itself takes, for
/// itself alone: a user namespace in which it is who it was. Only while the process
/// has one thread; otherwise, and where the host forbids it, nothing happens and the
/// reason is given.
///
/// # Errors
/// Why nothing happened.
pub fn own_user_namespace() -> std::io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        return Ok(());
    }
    // SAFETY: the kernel refuses this to a process with more than one thread,
    // so no other thread can see state change; descriptors stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    let (user, group) = (user.as_raw(), group.as_raw());
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}
