//! Makes the connections of the broker, which has no network.
//!
//! The broker says where a source wants to go; whether the operator configured that
//! is decided here. Names are resolved here too. One thread hears requests, and each
//! connection is made by a thread of its own, so that an address that does not answer
//! holds nobody up: neither the driver nor another source. A broker has its own
//! channel, which ends with it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fades_task::dial::{Address, DialAnswer, DialFailure, DialRequest, Transport};
use fades_wire::Channel;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tracing::{debug, warn};

/// Most connections that are being made at once.
const AT_ONCE: usize = 256;

/// Longest time for a connection, whatever the broker says.
const LONGEST: Duration = Duration::from_secs(60);

/// A broker that takes no answers for this long is given up.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Refusals of one broker that are logged; a broker that was taken over shall not
/// fill the disk.
const LOGGED: u32 = 20;

/// Stack of a thread that connects, bytes; resolving names takes most of it.
const STACK: usize = 256 << 10;

/// How long a dialler bears with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    connect: Duration,
    send: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: LONGEST,
            send: SEND_WITHIN,
        }
    }
}

#[derive(Debug)]
struct Dialler {
    allowed: HashSet<Address>,
    patience: Patience,
    answers: Mutex<Channel>,
    busy: AtomicUsize,
    refused: AtomicU32,
}

/// One of the connections that are being made.
struct Place(Arc<Dialler>);

impl Place {
    fn take(dialler: &Arc<Dialler>) -> Option<Self> {
        let place = Self(Arc::clone(dialler));
        // Given back by dropping it.
        (dialler.busy.fetch_add(1, Ordering::Relaxed) < AT_ONCE).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects to `allowed` addresses, and to no others, whoever has the channel that is
/// returned, until it is closed.
///
/// # Errors
/// When the process has no descriptors or threads left.
pub fn start(allowed: &[Address]) -> io::Result<Channel> {
    patient(allowed, Patience::default())
}

fn patient(allowed: &[Address], patience: Patience) -> io::Result<Channel> {
    let (here, there) = Channel::pair()?;
    set_socket_timeout(here.as_fd(), Timeout::Send, Some(patience.send))?;
    let dialler = Arc::new(Dialler::new(allowed, here.try_clone()?, patience));
    std::thread::Builder::new()
        .name("dial".to_owned())
        .spawn(move || dialler.serve(&here))?;
    Ok(there)
}

impl Dialler {
    fn new(allowed: &[Address], answers: Channel, patience: Patience) -> Self {
        Self {
            allowed: allowed.iter().cloned().collect(),
            patience,
            answers: Mutex::new(answers),
            busy: AtomicUsize::new(0),
            refused: AtomicU32::new(0),
        }
    }

    fn serve(self: Arc<Self>, requests: &Channel) {
        loop {
            match requests.receive::<DialRequest>(None) {
                Ok(Some(frame)) => self.take(frame.message),
                Ok(None) => return,
                Err(e) => {
                    warn!(reason = %e, "the broker asks for connections in no way that is understood");
                    return requests.shut_down();
                }
            }
        }
    }

    fn take(self: &Arc<Self>, request: DialRequest) {
        let DialRequest { id, to, within } = request;
        if !self.allowed.contains(&to) {
            self.refuse(&to);
            return self.answer(id, Err(DialFailure::NotConfigured));
        }
        let Some(place) = Place::take(self) else {
            return self.answer(id, Err(DialFailure::Busy));
        };
        let deadline = Instant::now() + within.as_std().min(self.patience.connect);
        let spawned = std::thread::Builder::new()
            .name("dialling".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let made = connect(&to, deadline);
                debug!(?to, failure = ?made.as_ref().err(), "dialled");
                place.0.answer(id, made);
            });
        if let Err(e) = spawned {
            warn!(reason = %e, "no thread to connect the broker");
            self.answer(id, Err(DialFailure::Busy));
        }
    }

    fn refuse(&self, to: &Address) {
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if before < LOGGED {
            // What a broker says may be anything.
            let host: String = to.host.chars().take(100).collect();
            warn!(
                source = %to.source, host = %host.escape_debug(), port = to.port,
                "the broker asked for an address that its source is not configured for; refused"
            );
        }
    }

    fn answer(&self, id: u64, made: Result<OwnedFd, DialFailure>) {
        let (descriptor, failure) = match made {
            Ok(descriptor) => (Some(descriptor), None),
            Err(failure) => (None, Some(failure)),
        };
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        let answers = self.answers.lock();
        let answers = answers.unwrap_or_else(PoisonError::into_inner);
        let answer = DialAnswer { id, failure };
        if let Err(e) = answers.send(&answer, &[], &descriptors) {
            // Half an answer may be there: nothing that follows would be understood.
            debug!(reason = %e, "the broker takes no connections");
            answers.shut_down();
        }
    }
}

fn connect(to: &Address, deadline: Instant) -> Result<OwnedFd, DialFailure> {
    let addresses = (to.host.as_str(), to.port).to_socket_addrs();
    let addresses = addresses.map_err(|e| DialFailure::NoName(e.to_string()))?;
    first(&addresses.collect::<Vec<_>>(), to.transport, deadline)
}

/// A connection to the first address that works.
fn first(
    addresses: &[SocketAddr],
    transport: Transport,
    deadline: Instant,
) -> Result<OwnedFd, DialFailure> {
    let mut failure = DialFailure::NoName("it has no address".to_owned());
    for (i, address) in addresses.iter().enumerate() {
        // None takes the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        if share.is_zero() {
            return Err(DialFailure::TimedOut);
        }
        let made = match transport {
            Transport::Tcp => TcpStream::connect_timeout(address, share).map(OwnedFd::from),
            Transport::Udp => datagrams(*address).map(OwnedFd::from),
        };
        match made {
            Ok(made) => return Ok(made),
            Err(e) => failure = said(&e),
        }
    }
    Err(failure)
}

fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

fn said(e: &io::Error) -> DialFailure {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => DialFailure::Refused,
        io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ => DialFailure::Unreachable(e.to_string()),
    }
}

#[cfg(test)]
mod tests;
