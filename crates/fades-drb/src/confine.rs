//! The confinement of a broker that is a process of its own, entered once its
//! configuration is known and before it has a second thread: whoever takes it
//! over, by what a device or a file says, finds next to nothing to do.
//!
//! Layers, each of which holds without the others:
//! * [`network`]: a network namespace in which there is nothing;
//! * [`files`]: a landlock domain with what the sources name, and nothing else;
//! * [`ports`]: a landlock domain without TCP;
//! * [`calls`]: a filter of system calls: no other program, no other process, no
//!   mount, no socket, no memory that can be executed.
//!
//! Connections are made by the orchestrator (see [`dial`](crate::dial)). The broker
//! has them connected; that it does not connect them anew, to somewhere else, is
//! what `ports` (TCP) and `calls` forbid: the namespace is that of whoever made
//! the socket. A broker that nobody connects keeps a way into the network: then
//! `network` is not entered, and `ports` leaves the ports that the sources name.
//!
//! What is *not* here: `sendmsg` can send datagrams of a UDP socket to another
//! address, and a filter does not see where to.

use fades_task::message::{Confinement, Layer};

use crate::batches::Batches;

mod calls;
mod files;
mod network;
mod ports;
mod reach;

pub(crate) use reach::Reach;

/// Enters all layers for good. A layer that the host does not offer is left out,
/// with the reason: the broker works all the same.
pub(crate) fn enter(reach: &Reach, batches: &Batches) -> Confinement {
    Confinement {
        network: layer(network::enter(reach)),
        files: layer(files::enter(reach, &batches.roots())),
        ports: layer(ports::enter(reach)),
        // Last, because it forbids the calls that make the others.
        calls: layer(calls::enter(reach)),
    }
}

/// Of a broker that is a part of another process.
pub(crate) fn none() -> Confinement {
    let layer = || Layer {
        enforced: false,
        detail: "the broker is no process of its own".to_owned(),
    };
    Confinement {
        network: layer(),
        files: layer(),
        ports: layer(),
        calls: layer(),
    }
}

/// Why a layer is not there.
#[derive(Debug, thiserror::Error)]
enum ConfineError {
    #[error(
        "the kernel has no landlock for this: use Linux {0} or newer, with landlock among its security modules"
    )]
    NoLandlock(&'static str),
    #[error("the broker connects by itself, nobody does it for it")]
    NotAsked,
    #[error(
        "no network namespace of its own: {0}; run the node as root or with CAP_SYS_ADMIN, or allow \
         unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    Namespace(rustix::io::Errno),
    #[error(
        "the files of a source begin at {0}, which holds the node's keys and database too: put them \
         into a folder of their own"
    )]
    OwnFolder(String),
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("the filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("the filter of system calls cannot be installed: {0}")]
    Install(#[from] seccompiler::Error),
}

fn layer(entered: Result<String, ConfineError>) -> Layer {
    match entered {
        Ok(detail) => Layer {
            enforced: true,
            detail,
        },
        Err(e) => Layer {
            enforced: false,
            detail: e.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
