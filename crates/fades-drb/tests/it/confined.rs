//! A broker as a node has it: a process of its own, confined.
#![expect(unsafe_code, reason = "a descriptor is inherited")]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use fades_wire::Channel;
use fades_wire::spawn::{Child, FIRST_DESCRIPTOR, Program};

/// Says to the test below that it is the broker.
const BROKER: &str = "FADES_TEST_BROKER";

/// Starts this test program once more, as a broker that serves `control`.
pub(crate) fn start(control: &Channel) -> Child {
    let program = std::env::current_exe().unwrap();
    let started = Program::new(&program)
        // In the only thread: landlock holds for the one that enters it.
        .argument("--test-threads=1")
        .argument("--nocapture")
        .argument("--exact")
        .argument("confined::a_broker_when_it_is_told")
        .variable(BROKER, "yes")
        .descriptor(control.as_fd())
        .spawn();
    started.unwrap()
}

/// A part of other tests; nothing by itself.
#[test]
fn a_broker_when_it_is_told() {
    if std::env::var_os(BROKER).is_none() {
        return;
    }
    // SAFETY: whoever started this process left this descriptor for it.
    let control = unsafe { OwnedFd::from_raw_fd(FIRST_DESCRIPTOR) };
    fades_drb::process::run_confined(Channel::from(control)).unwrap();
}
