//! Connections to what the configuration names.
//!
//! A process that is confined has no network: it asks the orchestrator, which
//! resolves the name, connects if the address is one that the operator configured
//! for this source (or inbox, or destination: whatever has the name), and hands over
//! the connected socket. What runs in another process connects by itself.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use fades_task::dial::{Address, DialAnswer, DialFailure, DialRequest, Transport};
use fades_task::identity::Name;
use fades_wire::{Channel, WireError};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

/// How connections are had.
#[derive(Debug, Clone)]
pub enum Dial {
    /// They are made here.
    Direct,
    /// The orchestrator makes them.
    Asked(Asked),
}

/// The orchestrator, asked on behalf of one source, inbox or destination.
#[derive(Debug, Clone)]
pub struct Asked {
    source: Option<Name>,
    asker: Arc<Asker>,
}

/// Who has asked and waits.
#[derive(Debug)]
struct Asker {
    channel: Mutex<Channel>,
    next: AtomicU64,
    /// `None` when the orchestrator has closed the channel.
    waiting: Mutex<Option<HashMap<u64, Waiter>>>,
}

/// A thread or a task.
#[derive(Debug)]
enum Waiter {
    Thread(mpsc::Sender<Outcome>),
    Task(oneshot::Sender<Outcome>),
}

type Outcome = Result<OwnedFd, DialFailure>;

/// What the orchestrator has beyond the time for connecting, to say so.
const GRACE: Duration = Duration::from_secs(1);

/// An orchestrator that takes nothing for this long is given up.
const SEND_WITHIN: Duration = Duration::from_secs(2);

impl Dial {
    /// Asks over `channel` from now on. When the orchestrator closes it, `control`
    /// is closed too: who cannot connect had better begin anew.
    ///
    /// # Errors
    /// When the channel cannot be listened to.
    pub fn asking(channel: OwnedFd, control: Channel) -> io::Result<Self> {
        let channel = Channel::from(channel);
        set_socket_timeout(channel.as_fd(), Timeout::Send, Some(SEND_WITHIN))?;
        let reader = channel.try_clone()?;
        let asker = Arc::new(Asker {
            channel: Mutex::new(channel),
            next: AtomicU64::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let hears = Arc::clone(&asker);
        std::thread::Builder::new()
            .name("dial".to_owned())
            .spawn(move || {
                hears.hear(&reader);
                control.shut_down();
            })?;
        let source = None;
        Ok(Self::Asked(Asked { source, asker }))
    }

    /// The same for one source, inbox or destination.
    #[must_use]
    pub fn of(&self, source: &Name) -> Self {
        match self {
            Self::Direct => Self::Direct,
            Self::Asked(asked) => Self::Asked(Asked {
                source: Some(source.clone()),
                asker: Arc::clone(&asked.asker),
            }),
        }
    }

    /// Who is asked, when connections are not made here.
    #[must_use]
    pub const fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Direct => None,
            Self::Asked(asked) => Some(asked),
        }
    }
}

impl Asked {
    /// A connected stream, for a thread that can wait.
    ///
    /// # Errors
    /// Why there is none.
    pub fn stream(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<TcpStream, DialFailure> {
        let (tell, told) = mpsc::channel();
        let address = self.address(host, port, Transport::Tcp)?;
        let id = self.asker.ask(address, within, Waiter::Thread(tell))?;
        let outcome = told.recv_timeout(within + GRACE);
        self.asker.forget(id);
        Ok(outcome.map_err(|_| DialFailure::TimedOut)??.into())
    }

    /// A connected stream, for a task.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<tokio::net::TcpStream, DialFailure> {
        let address = self.address(host, port, Transport::Tcp)?;
        let stream = TcpStream::from(self.wait(address, within).await?);
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| stream.try_into());
        stream.map_err(failed)
    }

    /// A socket for datagrams to one address.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn datagrams(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<UdpSocket, DialFailure> {
        let address = self.address(host, port, Transport::Udp)?;
        let socket = std::net::UdpSocket::from(self.wait(address, within).await?);
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| socket.try_into());
        socket.map_err(failed)
    }

    async fn wait(&self, address: Address, within: Duration) -> Outcome {
        let (tell, told) = oneshot::channel();
        let id = self.asker.ask(address, within, Waiter::Task(tell))?;
        let outcome = tokio::time::timeout(within + GRACE, told).await;
        self.asker.forget(id);
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(DialFailure::Gone),
            Err(_) => Err(DialFailure::TimedOut),
        }
    }

    fn address(&self, host: &str, port: u16, by: Transport) -> Result<Address, DialFailure> {
        let source = self.source.as_ref().ok_or(DialFailure::NotConfigured)?;
        Ok(Address::new(source, host, port, by))
    }
}

impl Asker {
    fn ask(&self, to: Address, within: Duration, waiter: Waiter) -> Result<u64, DialFailure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting();
        let known = waiting.as_mut().ok_or(DialFailure::Gone)?;
        known.insert(id, waiter);
        drop(waiting);
        let within =
            fades_task::quantity::Duration(within.as_nanos().try_into().unwrap_or(u64::MAX));
        let request = DialRequest { id, to, within };
        let channel = self.channel.lock();
        let channel = channel.unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = channel.send(&request, &[], &[]) {
            tracing::warn!("the node does not listen: {e}");
            // Half a request may be there: nothing that follows would be understood.
            channel.shut_down();
            self.forget(id);
            return Err(DialFailure::Gone);
        }
        Ok(id)
    }

    fn forget(&self, id: u64) {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.remove(&id);
        }
    }

    /// Hands answers on until the channel ends.
    fn hear(&self, channel: &Channel) {
        let why = loop {
            match channel.receive::<DialAnswer>(None) {
                Ok(Some(frame)) => self.tell(frame.message, frame.descriptors),
                Ok(None) => break WireError::Io(io::ErrorKind::UnexpectedEof.into()),
                Err(e) => break e,
            }
        };
        tracing::debug!("no more connections: {why}");
        for waiter in self.waiting().take().into_iter().flatten() {
            waiter.1.tell(Err(DialFailure::Gone));
        }
    }

    /// Whoever waited may have given up; then the connection is closed here.
    fn tell(&self, answer: DialAnswer, descriptors: Vec<OwnedFd>) {
        let waiter = self.waiting().as_mut().and_then(|w| w.remove(&answer.id));
        let Some(waiter) = waiter else { return };
        let descriptor = descriptors.into_iter().next();
        waiter.tell(match (answer.failure, descriptor) {
            (Some(failure), _) => Err(failure),
            (None, Some(descriptor)) => Ok(descriptor),
            (None, None) => Err(DialFailure::Gone),
        });
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn tell(self, outcome: Outcome) {
        // As above.
        match self {
            Self::Thread(thread) => drop(thread.send(outcome)),
            Self::Task(task) => drop(task.send(outcome)),
        }
    }
}

fn failed(e: io::Error) -> DialFailure {
    DialFailure::Unreachable(e.to_string())
}

/// The error that a library expects of connecting.
#[must_use]
pub fn as_io(failure: DialFailure) -> io::Error {
    let kind = match failure {
        DialFailure::Refused => io::ErrorKind::ConnectionRefused,
        DialFailure::TimedOut => io::ErrorKind::TimedOut,
        DialFailure::NotConfigured => io::ErrorKind::PermissionDenied,
        DialFailure::Unreachable(_) => io::ErrorKind::NetworkUnreachable,
        DialFailure::NoName(_) => io::ErrorKind::NotFound,
        DialFailure::Busy | DialFailure::Gone => io::ErrorKind::ResourceBusy,
    };
    io::Error::new(kind, failure)
}
