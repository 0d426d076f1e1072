//! The channel that a broker or a courier inherits from its node.
#![expect(unsafe_code, reason = "takes over the descriptor that it inherits")]

use std::os::fd::{FromRawFd, OwnedFd};

use fades_task::courier::COURIER_CONTROL_FD;
use fades_task::message::BROKER_CONTROL_FD;

// Both come here.
const _: () = assert!(BROKER_CONTROL_FD == COURIER_CONTROL_FD);

/// The channel's descriptor, when there is one.
pub(super) fn control() -> Option<OwnedFd> {
    // SAFETY: nobody else in this program has the descriptor: the subcommands
    // `broker` and `courier` call this once, first of all. That it is open is checked below.
    let control = unsafe { OwnedFd::from_raw_fd(BROKER_CONTROL_FD) };
    if rustix::io::fcntl_getfd(&control).is_err() {
        // Closing what was never open would be an error of this program.
        std::mem::forget(control);
        return None;
    }
    Some(control)
}
