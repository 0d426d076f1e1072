//! What a node is told at its start, resolved: nothing here can be wrong in
//! itself any more.

mod reload;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use fades_task::allowance::Allowances;
use fades_task::dial::Address;
use fades_task::identity::Name;
use fades_task::limits::Limits;
use fades_task::logging::LogLevel;
use fades_task::policy::Order;
use fades_task::quantity::Size;
use fades_task::time::Zone;
use fades_trust::grant::Grants;

pub use self::reload::{Reader, Reread, is_live};
use crate::api::types::{IsolationInfo, LogLines};
use crate::core::{Capacity, Rules};
pub use crate::notify::Notify;
use crate::tls::TlsFiles;

/// Most tasks that may wait.
pub const QUEUE_MAX: u64 = 10_000;

/// Most tasks with a schedule.
pub const STANDING_MAX: usize = 1_000;

/// What [`NodeConfig::spare_for`] is where there is no reason for anything else.
pub const SPARE_FOR: Duration = Duration::from_secs(30);

/// Configuration of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the node.
    pub name: Name,
    /// Its labels.
    pub labels: Vec<Name>,
    /// Version of the program, for people.
    pub version: String,
    /// Folder of the store; made when it is not there.
    pub folder: PathBuf,
    /// The table of trusted keys; read anew whenever it is needed.
    pub trust: PathBuf,
    /// Keys for development are taken as others are.
    pub development_keys: bool,
    /// Path of the API's Unix socket.
    pub socket: PathBuf,
    /// How much is logged.
    pub log: Logging,
    /// Where the API listens besides, if it does.
    pub listen: Option<Listen>,
    /// The tender's program.
    pub tender: PathBuf,
    /// The broker.
    pub broker: BrokerConfig,
    /// The courier, where there are inboxes or destinations.
    pub courier: Option<CourierConfig>,
    /// Most tasks that run at once.
    pub parallel: usize,
    /// Memory for functions, all together.
    pub memory: Size,
    /// The order of tasks that wait.
    pub order: Order,
    /// What each service may use.
    pub allowances: Allowances,
    /// What each service may ask for; without a grant, nothing.
    pub grants: Grants,
    /// What a day is.
    pub zone: Zone,
    /// Reads all of this anew, when that is possible.
    pub reread: Option<Reread>,
    /// For how long what runs may go on when the node is told to end.
    pub drain: Duration,
    /// Whom to tell how the node is, when systemd started it.
    pub notify: Option<Notify>,
    /// For how long a peak of runs at once keeps tenders waiting at least.
    pub spare_for: Duration,
    /// The largest limits that a task may ask for.
    pub caps: Limits,
    /// What each isolation says of itself, strongest first.
    pub isolation: Vec<IsolationInfo>,
    /// Highest SIMD level that functions may be told.
    pub simd: u32,
    /// Version of the function contract, major and minor.
    pub abi: (u16, u16),
}

impl NodeConfig {
    /// What may run at once.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        Capacity {
            parallel: self.parallel,
            memory: self.memory,
            input: self.broker.budget,
            batch: self.broker.chunk,
        }
    }

    /// What the core goes by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            capacity: self.capacity(),
            order: self.order,
            allowances: self.allowances.clone(),
            grants: self.grants.clone(),
        }
    }
}

/// How much is logged at the start, how to change it, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Logging {
    /// The level at the start.
    pub level: LogLevel,
    /// Has this process log at another.
    pub set: fn(LogLevel),
    /// The last lines.
    pub recent: fn() -> LogLines,
    /// What a part of the node, which just starts, gets as standard error.
    pub error: fn() -> io::Result<OwnedFd>,
}

impl Logging {
    /// At a level that stays, to this process's standard error, and kept nowhere.
    #[must_use]
    pub const fn plain(level: LogLevel) -> Self {
        Self {
            level,
            set: |_| (),
            recent: LogLines::default,
            error: || io::stderr().as_fd().try_clone_to_owned(),
        }
    }
}

/// Listening over TCP: there is none without certificates of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// The node's certificate, and whose it takes.
    pub tls: TlsFiles,
}

/// How to start the courier, and what to tell it.
#[derive(Debug, Clone)]
pub struct CourierConfig {
    /// Its program.
    pub program: PathBuf,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// Inboxes and destinations, as the courier understands them.
    pub mail: serde_json::Value,
    /// The addresses of both; the courier is connected to no others.
    pub addresses: Vec<Address>,
    /// Destinations that tasks may name.
    pub destinations: BTreeSet<Name>,
    /// Inboxes that are asked for tasks.
    pub inboxes: BTreeSet<Name>,
    /// Most bytes of answers that wait for their receivers.
    pub outbox: Size,
    /// Folder against which relative paths are resolved.
    pub base: PathBuf,
    /// Folder of systemd's credentials, when there is one.
    pub credentials: Option<PathBuf>,
}

/// How to start the broker, and what to tell it.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Its program.
    pub program: PathBuf,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// The sources' configuration, as the broker understands it.
    pub sources: serde_json::Value,
    /// The addresses at which the sources read; the broker is connected to no others.
    pub addresses: Vec<Address>,
    /// Folder in which batch files may be made when no better place is there.
    pub folder: PathBuf,
    /// Most bytes of batch files at any time.
    pub budget: Size,
    /// Bytes of a batch file at which a chunk ends.
    pub chunk: Size,
    /// Folder against which relative paths of sources are resolved.
    pub base: PathBuf,
    /// Folder of the readings that are recorded.
    pub readings: PathBuf,
    /// Folder of systemd's credentials, when there is one.
    pub credentials: Option<PathBuf>,
}
