//! The confinement of a broker that is a process of its own, entered once its
//! configuration is known and before it has a second thread: whoever takes it
//! over, by what a device or a file says, finds next to nothing to do.
//!
//! The layers are those of [`fades_outside::confine`]; what a broker may do in them
//! is here, and what its sources need is told by their options.

use std::path::Path;

use fades_outside::confine::{self, Reach, Subject, layer};
use fades_task::message::Confinement;

use crate::batches::Batches;
use crate::config::Sources;

mod calls;

/// What every broker may do.
static BROKER: Subject = Subject {
    process: "broker",
    one: "source",
    many: "sources",
    owner: "a source",
    system: &[
        ("/etc/localtime", "the host's zone of time"),
        ("/usr/share/zoneinfo", "zones of time that sources name"),
        ("/etc/ssl/certs", "authorities that the host trusts"),
        ("/usr/share/ca-certificates", "the same"),
    ],
    calls: calls::ALLOWED,
};

/// What `sources` name; relative names begin at `base`, those of secrets at
/// `credentials` first.
pub(crate) fn reach(sources: &Sources, base: &Path, credentials: Option<&Path>) -> Reach {
    // A configuration came as JSON and has that form.
    let tables = serde_json::to_value(sources).unwrap_or_default();
    Reach::of(&BROKER, &tables, sources.addresses(), base, credentials)
}

/// Enters all layers for good. A layer that the host does not offer is left out,
/// with the reason: the broker works all the same.
pub(crate) fn enter(reach: &Reach, batches: &Batches) -> Confinement {
    Confinement {
        network: layer(confine::network::enter(reach)),
        files: layer(confine::files::enter(reach, &batches.roots())),
        ports: layer(confine::ports::enter(reach)),
        // Last, because it forbids the calls that make the others.
        calls: layer(confine::calls::enter(reach)),
    }
}

/// Of a broker that is a part of another process.
pub(crate) fn none() -> Confinement {
    confine::none(&BROKER)
}

#[cfg(test)]
mod tests;
