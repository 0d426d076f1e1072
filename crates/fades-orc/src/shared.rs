//! What the driver lets the API see of a running node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fades_task::identity::Name;
use tokio::sync::watch;

use crate::api::types::{
    BrokerInfo, CgroupInfo, CourierInfo, LogLine, Logs, ShellsInfo, TenderInfo,
};
use crate::core::RunId;

/// What is going on right now; nothing of it survives the process.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) broker: BrokerInfo,
    pub(crate) courier: CourierInfo,
    pub(crate) tenders: BTreeMap<RunId, TenderInfo>,
    pub(crate) shells: ShellsInfo,
    pub(crate) cgroup: CgroupInfo,
    /// Logs of the runs that go on.
    logs: HashMap<Name, LiveLog>,
    pub(crate) store_error: Option<String>,
}

#[derive(Debug, Default)]
struct LiveLog {
    logs: Logs,
    bytes: u64,
}

impl Live {
    /// Forgets the lines of an attempt.
    pub(crate) fn clear_log(&mut self, task: &Name) {
        self.logs.remove(task);
    }

    /// Adds a line, cut at `limit` bytes of all lines together: the tender
    /// cuts as well, and is not trusted to.
    pub(crate) fn log(&mut self, task: &Name, line: LogLine, limit: u64) {
        let log = self.logs.entry(task.clone()).or_default();
        let length = line.text.len() as u64 + 1;
        if log.bytes.saturating_add(length) > limit.saturating_add(1) {
            log.logs.cut = log.logs.cut.saturating_add(length);
            return;
        }
        log.bytes += length;
        log.logs.lines.push(line);
    }

    pub(crate) fn logs(&self, task: &Name) -> Option<Logs> {
        self.logs.get(task).map(|l| l.logs.clone())
    }
}

/// Shared by the driver, which writes, and the API, which reads.
#[derive(Debug)]
pub(crate) struct Shared {
    live: Mutex<Live>,
    /// The node is about to end.
    ending: watch::Sender<bool>,
    /// The driver has ended.
    ended: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            live: Mutex::default(),
            ending: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    pub(crate) fn has_ended(&self) {
        self.ended.send_replace(true);
    }

    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }
}
