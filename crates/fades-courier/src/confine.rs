//! The confinement of a courier that is a process of its own, entered once its
//! configuration is known and before it has a second thread: whoever takes it
//! over, by what a server or a file says, finds next to nothing to do.
//!
//! The layers are those of [`fades_outside::confine`]; what a courier may do in them
//! is here: its secrets, the folders of its inboxes and destinations, and the
//! connections that the orchestrator makes for it.

use std::path::Path;

use fades_outside::confine::{self, Reach, Subject, layer};
use fades_task::message::Confinement;

use crate::config::{Destination, Inbox, Places};

mod calls;

/// What every courier may do.
static COURIER: Subject = Subject {
    process: "courier",
    one: "inbox or destination",
    many: "inboxes and destinations",
    owner: "an inbox or a destination",
    system: &[
        ("/etc/ssl/certs", "authorities that the host trusts"),
        ("/usr/share/ca-certificates", "the same"),
    ],
    calls: calls::ALLOWED,
};

/// What `places` name; relative names begin at `base`, those of secrets at
/// `credentials` first.
pub(crate) fn reach(places: &Places, base: &Path, credentials: Option<&Path>) -> Reach {
    // A configuration came as JSON and has that form.
    let tables = serde_json::to_value(places).unwrap_or_default();
    let mut reach = Reach::of(&COURIER, &tables, places.addresses(), base, credentials);
    let inboxes = places.inbox.values().filter_map(Inbox::folder);
    let destinations = places.destination.values().filter_map(Destination::folder);
    for folder in inboxes.chain(destinations) {
        reach.write.insert(base.join(folder));
    }
    reach.note_own(base);
    reach
}

/// Enters all layers for good. A layer that the host does not offer is left out,
/// with the reason: the courier works all the same.
pub(crate) fn enter(reach: &Reach) -> Confinement {
    Confinement {
        network: layer(confine::network::enter(reach)),
        files: layer(confine::files::enter(reach, &[])),
        ports: layer(confine::ports::enter(reach)),
        // Last, because it forbids the calls that make the others.
        calls: layer(confine::calls::enter(reach)),
    }
}

/// Of a courier that is a part of another process.
pub(crate) fn none() -> Confinement {
    confine::none(&COURIER)
}

#[cfg(test)]
mod tests;
