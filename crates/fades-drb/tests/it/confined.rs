//! A broker as a node has it: a process of its own, confined, whose connections
//! somebody else makes.
#![expect(unsafe_code, reason = "a descriptor is inherited")]

use std::collections::BTreeSet;
use std::io;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use fades_task::dial::{Address, DialAnswer, DialFailure, DialRequest, Transport};
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

/// Stands in for the orchestrator: connects the broker to `allowed` addresses. The
/// broker's end of the channel.
pub(crate) fn dialler(allowed: BTreeSet<Address>) -> Channel {
    let (here, there) = Channel::pair().unwrap();
    std::thread::spawn(move || {
        while let Ok(Some(frame)) = here.receive::<DialRequest>(None) {
            let DialRequest { id, to, within } = frame.message;
            let made = match allowed.contains(&to) {
                true => connect(&to, within.as_std()).map_err(|e| failure(&e)),
                false => Err(DialFailure::NotConfigured),
            };
            let failure = made.as_ref().err().cloned();
            let answer = DialAnswer { id, failure };
            let descriptors: Vec<_> = made.iter().map(AsFd::as_fd).collect();
            // The broker may have gone.
            let _ = here.send(&answer, &[], &descriptors);
        }
    });
    there
}

fn connect(to: &Address, within: std::time::Duration) -> io::Result<OwnedFd> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (to.host.as_str(), to.port).to_socket_addrs()? {
        let made = match to.transport {
            Transport::Tcp => TcpStream::connect_timeout(&address, within).map(OwnedFd::from),
            Transport::Udp => {
                let any = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address).map(|()| socket.into())
            }
        };
        match made {
            Ok(made) => return Ok(made),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

fn failure(e: &io::Error) -> DialFailure {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => DialFailure::Refused,
        io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ if e.to_string().contains("lookup") => DialFailure::NoName(e.to_string()),
        _ => DialFailure::Unreachable(e.to_string()),
    }
}
