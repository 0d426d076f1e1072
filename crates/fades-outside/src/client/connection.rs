//! Connections that notice that nobody waits any more.
//!
//! The transport below TLS waits a tenth of a second at a time, and looks in
//! between at whether it shall stop, and for how long nothing has come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error, Timeout};

use super::Stopped;
use super::asked::{Asking, Nobody};
use crate::dial::Dial;

/// How often a look is taken.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// Who may end what a connection waits for.
#[derive(Debug)]
pub(super) struct Watch {
    stops: Mutex<Vec<Arc<AtomicBool>>>,
    stall: Duration,
    /// Bytes that came.
    pub(super) received: AtomicU64,
}

impl Watch {
    pub(super) fn new(stall: Duration) -> Self {
        Self {
            stops: Mutex::default(),
            stall,
            received: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, stops: &[&Arc<AtomicBool>]) {
        let stops = stops.iter().map(|s| Arc::clone(s)).collect();
        *self.stops.lock().unwrap_or_else(PoisonError::into_inner) = stops;
    }

    pub(super) fn is_stopped(&self) -> bool {
        let stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.iter().any(|s| s.load(Ordering::Relaxed))
    }
}

/// An agent whose connections are watched.
pub(super) fn agent(config: Config, watch: &Arc<Watch>, dial: &Dial) -> Agent {
    let watcher = Watcher(Arc::clone(watch));
    let tls = RustlsConnector::default();
    match dial.asked() {
        Some(asked) => {
            let connector = ().chain(Asking(asked.clone())).chain(watcher).chain(tls);
            Agent::with_parts(config, connector, Nobody)
        }
        None => {
            let connector = ().chain(TcpConnector::default()).chain(watcher).chain(tls);
            Agent::with_parts(config, connector, DefaultResolver::default())
        }
    }
}

#[derive(Debug)]
struct Watcher(Arc<Watch>);

impl<In: Transport> Connector<In> for Watcher {
    type Out = Watched<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Watched<In>>, Error> {
        Ok(chained.map(|inner| Watched {
            inner,
            watch: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct Watched<T> {
    inner: T,
    watch: Arc<Watch>,
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let begun = Instant::now();
        let whole = match timeout.after.is_not_happening() {
            true => Duration::MAX,
            false => *timeout.after,
        };
        let before = self.inner.buffers().input().len();
        loop {
            if self.watch.is_stopped() {
                return Err(Error::Other(Box::new(Stopped)));
            }
            let spent = begun.elapsed();
            if spent >= whole {
                return Err(Error::Timeout(timeout.reason));
            }
            if spent >= self.watch.stall {
                return Err(Error::Timeout(Timeout::PerRead));
            }
            let wait = PATIENCE.min(whole - spent).min(self.watch.stall - spent);
            let slice = NextTimeout {
                after: wait.into(),
                ..NextTimeout::default()
            };
            match self.inner.await_input(slice) {
                Err(Error::Timeout(_)) => {}
                Ok(more) => {
                    let came = self.inner.buffers().input().len() - before;
                    self.watch
                        .received
                        .fetch_add(came as u64, Ordering::Relaxed);
                    return Ok(more);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
