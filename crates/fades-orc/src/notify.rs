//! What systemd, or whoever else started the node, is told of it: the
//! datagrams of `sd_notify(3)`.
//!
//! The watchdog is told by the driver's own loop, and by nothing else: a node
//! whose driver is stuck answers requests and does nothing about them.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};

/// A word that does not fit into the socket's queue is not waited for, but for
/// this long: it may be the one that says that the node is ready.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// Whom to tell. Copies tell the same.
#[derive(Debug, Clone)]
pub struct Notify {
    socket: Arc<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug, Clone)]
struct Watchdog {
    /// How long the node may be silent.
    patience: Duration,
    begin: Instant,
    /// Microseconds from `begin` to when it is told next.
    next: Arc<AtomicU64>,
}

impl Notify {
    /// `address`: the value of `NOTIFY_SOCKET`, a path or, after `@`, the name of
    /// an abstract socket. `watchdog`: how long the node may be silent.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_WITHIN))?;
        Ok(Self {
            socket: Arc::new(socket),
            watchdog: watchdog.map(|patience| Watchdog {
                patience,
                begin: Instant::now(),
                next: Arc::default(),
            }),
        })
    }

    /// The node takes tasks.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The node reads its configuration anew; [`Self::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The node ends, which takes no longer than `within`.
    pub(crate) fn stopping(&self, within: Duration, status: &str) {
        let micros = within.as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS={status}"
        ));
    }

    /// The driver is at work. Tells it as often as is needed.
    pub(crate) fn alive(&self) {
        let Some(watchdog) = &self.watchdog else {
            return;
        };
        if watchdog.left() == Duration::ZERO {
            let next = watchdog.begin.elapsed() + watchdog.patience / 3;
            watchdog.next.store(micros(next), Ordering::Relaxed);
            // The driver waits for nobody; it says so again soon.
            let flags = SendFlags::DONTWAIT;
            if let Err(e) = rustix::net::send(&*self.socket, b"WATCHDOG=1", flags) {
                tracing::debug!(reason = %e, "the watchdog was not told");
            }
        }
    }

    /// How long nothing needs to be told; none without a watchdog.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.watchdog.as_ref().map(Watchdog::left)
    }

    /// What nobody reads is lost; the next word says as much.
    fn tell(&self, words: &str) {
        if let Err(e) = self.socket.send(words.as_bytes()) {
            tracing::warn!(reason = %e, "the service manager was not told: {words}");
        }
    }
}

impl Watchdog {
    fn left(&self) -> Duration {
        let next = Duration::from_micros(self.next.load(Ordering::Relaxed));
        next.saturating_sub(self.begin.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    use super::Notify;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 500];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_addresses_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("fades-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, address) in [
            (by_path, path.into_os_string()),
            (by_name, format!("@{name}").into()),
        ] {
            let notify = Notify::open(&address, None).unwrap();
            notify.ready("1 source");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=1 source");
            notify.stopping(Duration::from_secs(7), "bye");
            let said = "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\nSTATUS=bye";
            assert_eq!(heard(&socket), said);
        }
        assert!(Notify::open("/nowhere/at/all".as_ref(), None).is_err());
    }

    #[test]
    fn a_reload_says_when_it_began_by_the_clock_that_the_manager_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::open(path.as_os_str(), None).unwrap().reloading();
        let said = heard(&socket);
        let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let up = std::fs::read_to_string("/proc/uptime").unwrap();
        let up: f64 = up.split(' ').next().unwrap().parse().unwrap();
        let said: f64 = micros.parse().unwrap();
        assert!((said / 1e6 - up).abs() < 60.0, "{said} {up}");
    }

    #[test]
    fn the_watchdog_is_told_thrice_in_its_patience_and_no_oftener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let patience = Duration::from_secs(300);
        let notify = Notify::open(path.as_os_str(), Some(patience)).unwrap();
        for _ in 0..10 {
            notify.alive();
        }
        assert_eq!(heard(&socket), "WATCHDOG=1");
        assert!(socket.recv(&mut [0; 9]).is_err());
        assert!(notify.left().unwrap() <= patience / 3);
        assert!(notify.left().unwrap() > patience / 4);
    }
}
