//! Layers of confinement, for a process that has one thread: threads that it
//! starts later inherit them. Each holds without the others:
//! * [`network`]: a network namespace in which there is nothing;
//! * [`files`]: a landlock domain with what the configuration names, and nothing
//!   else;
//! * [`ports`]: a landlock domain without TCP;
//! * [`calls`]: a filter of system calls: no other program, no other process, no
//!   mount, no socket, no memory that can be executed.
//!
//! What a kind of process may do is data: its [`Subject`]. What this one must reach
//! by its configuration is a [`Reach`].
//!
//! Connections are made by the orchestrator (see [`dial`](crate::dial)). The process
//! has them connected; that it does not connect them anew, to somewhere else, is
//! what `ports` (TCP) and `calls` forbid: the namespace is that of whoever made
//! the socket. A process that nobody connects keeps a way into the network: then
//! `network` is not entered, and `ports` leaves the ports that are configured.
//!
//! What is *not* here: `sendmsg` can send datagrams of a UDP socket to another
//! address, and a filter does not see where to.

use fades_task::message::{Confinement, Layer};

pub mod calls;
pub mod files;
pub mod network;
pub mod ports;
mod reach;

pub use network::own_user_namespace;
pub use reach::{Reach, Subject};

/// Of a process that is a part of another one.
#[must_use]
pub fn none(subject: &Subject) -> Confinement {
    let layer = || Layer {
        enforced: false,
        detail: format!("the {} is no process of its own", subject.process),
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
pub enum ConfineError {
    /// The kernel has none.
    #[error(
        "the kernel has no landlock for this: use Linux {0} or newer, with landlock among its security modules"
    )]
    NoLandlock(&'static str),
    /// It needs the network.
    #[error("the {0} connects by itself, nobody does it for it")]
    NotAsked(&'static str),
    /// The host does not allow it.
    #[error(
        "no network namespace of its own: {0}; run the node as root or with CAP_SYS_ADMIN, or allow \
         unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    Namespace(rustix::io::Errno),
    /// What is allowed has what must not be read in it.
    #[error(
        "the files of {of} begin at {folder}, which holds the node's keys and database too: put them \
         into a folder of their own"
    )]
    OwnFolder {
        /// Whose files, such as `a source`.
        of: &'static str,
        /// The folder.
        folder: String,
    },
    /// Its rules were not taken.
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// It cannot be made.
    #[error("the filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// It was not taken.
    #[error("the filter of system calls cannot be installed: {0}")]
    Install(#[from] seccompiler::Error),
}

/// What entering a layer came to. One that the host does not offer is left out, with
/// the reason: the process works all the same.
#[must_use]
pub fn layer(entered: Result<String, ConfineError>) -> Layer {
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
