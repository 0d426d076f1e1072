//! The confinement of a broker that is a process of its own, entered once its
//! configuration is known and before it has a second thread: whoever takes it
//! over, by what a device or a file says, finds next to nothing to do.
//!
//! Layers, each of which holds without the others:
//! * [`files`]: a landlock domain with what the sources name, and nothing else;
//! * [`ports`]: a landlock domain with the TCP ports that the sources name;
//! * [`calls`]: a filter of system calls: no other program, no other process, no
//!   mount, no raw socket, no memory that can be executed.
//!
//! What is *not* here: which hosts are reached is not checked, and UDP is not
//! limited to ports.

use fades_task::message::{Confinement, Layer};

use crate::batches::Batches;

mod calls;
mod files;
mod ports;
mod reach;

pub(crate) use reach::Reach;

/// Enters all layers for good. A layer that the host does not offer is left out,
/// with the reason: the broker works all the same.
pub(crate) fn enter(reach: &Reach, batches: &Batches) -> Confinement {
    Confinement {
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
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("the port of {0} is not known beforehand: write it into the address")]
    UnknownPort(String),
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
