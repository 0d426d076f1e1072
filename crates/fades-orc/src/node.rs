//! A node, from its start to its end.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fades_task::schedule::task_of;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::admission;
use crate::api::listen::{ListenError, Listeners};
use crate::api::server::{Api, Server};
use crate::api::types::Reloaded;
use crate::config::NodeConfig;
use crate::core::Task;
use crate::driver::{Driver, Input};
use crate::shared::Shared;
use crate::store::{Store, StoreError, StoredTask};
use crate::tls::{Tls, TlsError};
use crate::trust::Trust;
pub use crate::trust::TrustProblem;

/// The first broker has this long to become ready.
const BROKER_WITHIN: Duration = Duration::from_secs(30);

/// From the end of draining, a node is gone within this time.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why a node cannot start, or ended of itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API's addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificates of the API.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Whom the node trusts.
    #[error(transparent)]
    Trust(#[from] TrustProblem),
    /// The broker.
    #[error("the broker did not become ready: {0}")]
    Broker(String),
    /// A thread cannot be started.
    #[error("the system has no threads or descriptors left")]
    System(#[from] std::io::Error),
    /// The driver ended although nobody asked it to.
    #[error("the driver has failed: the log has its last words; what was accepted is stored")]
    Driver,
}

/// A running node. Dropping it ends it.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    inputs: Sender<Input>,
    driver: Option<JoinHandle<()>>,
    server: Option<Server>,
    store: Arc<Store>,
}

/// Tells that the driver has ended, however it did.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.has_ended();
    }
}

/// What a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

fn as_task(stored: StoredTask, config: &NodeConfig) -> Task {
    // What the node no longer has makes the task fail when its turn comes.
    let accepted = &stored.mtw.function.isolation;
    let isolations = admission::isolations(accepted, config).unwrap_or_default();
    Task {
        seq: stored.seq,
        accepted: stored.accepted,
        attempts: stored.attempts,
        isolations,
        inbox: stored.inbox,
        parent: stored.is_run.then(|| task_of(&stored.mtw.task.id)),
        due: stored.due,
        place: stored.place,
        mtw: stored.mtw,
    }
}

impl Node {
    /// Starts a node. Returns when it takes tasks.
    ///
    /// # Errors
    /// When it cannot; nothing of it runs any more then.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let store = Arc::new(Store::open(&config.folder)?);
        let trust = Arc::new(Trust::open(&config, &store)?);
        let shared = Arc::new(Shared::new(Arc::clone(&config)));
        shared.clock().knows(store.newest()?);
        if let Some(listen) = &config.listen {
            shared.set_tls(Tls::load(&listen.tls, shared.clock().now())?);
        }
        let address = config.listen.as_ref().map(|l| l.address);
        let listeners = Listeners::bind(&config.socket, address)?;
        let (inputs, receiver) = channel();
        let unfinished = store.unfinished()?;
        let outbox = store.outbox()?;
        let unfinished = unfinished
            .into_iter()
            .map(|t| as_task(t, &config))
            .collect();
        let (first, ready) = channel();
        let driver = Driver::new(
            Arc::clone(&config),
            Arc::clone(&store),
            Arc::clone(&shared),
            Arc::clone(&trust),
            (inputs.clone(), receiver),
            first,
        )?;
        let farewell = Farewell(Arc::clone(&shared));
        let driver = std::thread::Builder::new()
            .name("driver".to_owned())
            .spawn(move || {
                let _farewell = farewell;
                driver.run(unfinished, outbox);
            })?;
        let mut node = Self {
            shared: Arc::clone(&shared),
            inputs: inputs.clone(),
            driver: Some(driver),
            server: None,
            store: Arc::clone(&store),
        };
        match ready.recv_timeout(BROKER_WITHIN) {
            Ok(ready) => ready.map_err(NodeError::Broker)?,
            Err(RecvTimeoutError::Timeout) => {
                let reason = format!("it said nothing for {} s", BROKER_WITHIN.as_secs());
                return Err(NodeError::Broker(reason));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(NodeError::Driver),
        }
        let api = Api::new(config, store, shared, trust, inputs);
        node.server = Some(Server::start(api, listeners)?);
        Ok(node)
    }

    /// Runs a node until it is told to end by `SIGTERM` or `SIGINT`; what runs
    /// then may run on for [`NodeConfig::drain`], unless it is told again. Calls
    /// `ready` once the node takes tasks. `SIGHUP` has it read its configuration anew.
    ///
    /// # Errors
    /// When it cannot start, or fails.
    pub fn run(config: NodeConfig, ready: impl FnOnce(&Self)) -> Result<(), NodeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        let (name, socket) = (config.name.clone(), config.socket.clone());
        let notify = config.notify.clone();
        let node = Self::start(config)?;
        info!(%name, socket = %socket.display(), "node ready");
        if let Some(notify) = &notify {
            notify.ready("takes tasks");
        }
        ready(&node);
        let asked = runtime.block_on(node.until_end(&mut signals));
        node.stop();
        if asked {
            Ok(())
        } else {
            Err(NodeError::Driver)
        }
    }

    /// Whether the end was asked for.
    async fn until_end(&self, signals: &mut Signals) -> bool {
        let mut ended = self.shared.ended();
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => self.hang_up(),
                _ = ended.wait_for(|ended| *ended) => return false,
            }
        }
        self.drain(signals).await
    }

    /// Lets what runs come to its end, for as long as the operator gave it and
    /// nobody asks again. Whether the driver is there still.
    async fn drain(&self, signals: &mut Signals) -> bool {
        let config = self.shared.config();
        if let Some(notify) = &config.notify {
            notify.stopping(
                config.drain + END_WITHIN,
                "ends; what runs may run to its end",
            );
        }
        // It has ended already when this fails.
        let _ = self.inputs.send(Input::Drain);
        let (mut drained, mut ended) = (self.shared.drained(), self.shared.ended());
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return false,
            _ = drained.wait_for(|drained| *drained) => {}
            () = tokio::time::sleep(config.drain) => {
                warn!(drain = ?config.drain, "what still runs is queued, and runs at the next start");
            }
            _ = signals.terminate.recv() => info!("asked again: ending at once"),
            _ = signals.interrupt.recv() => info!("asked again: ending at once"),
        }
        true
    }

    fn hang_up(&self) {
        match self.reload() {
            Ok(Reloaded {
                changed,
                restart,
                started,
            }) => {
                warn!(
                    changed = changed.join(", "),
                    restart = restart.join(", "),
                    started = started.join(", "),
                    "the configuration was read anew"
                );
            }
            Err(reason) => warn!(%reason, "the configuration is wrong, the node goes on as it was"),
        }
    }

    /// Reads the configuration anew and goes by it, as far as that is possible
    /// without a restart.
    ///
    /// # Errors
    /// What is wrong with it; nothing changes then.
    pub fn reload(&self) -> Result<Reloaded, String> {
        self.shared
            .reload(&self.inputs)
            .unwrap_or_else(|| Ok(Reloaded::default()))
    }

    /// What the broker said when it became ready.
    #[must_use]
    pub fn broker(&self) -> crate::api::types::BrokerInfo {
        self.shared.live().broker.clone()
    }

    /// The store, for whoever runs the node inside its own process.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends the node: no more requests, no more processes; what ran is queued.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.end();
        drop(self.server.take());
        // It has ended already when this fails.
        let _ = self.inputs.send(Input::Shutdown);
        if let Some(driver) = self.driver.take() {
            // A panic was logged when it happened.
            let _ = driver.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
