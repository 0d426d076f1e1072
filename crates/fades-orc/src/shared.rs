//! What the driver lets the API see of a running node.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::identity::Name;
use fades_task::logging::LogLevel;
use tokio::sync::watch;

use crate::api::problem::chain;
use crate::api::types::{
    BrokerInfo, CgroupInfo, CourierInfo, LogInfo, LogLine, Logs, NodeHealth, Reloaded, ShellsInfo,
    TenderInfo,
};
use crate::clock::Clock;
use crate::config::{Logging, NodeConfig};
use crate::core::RunId;
use crate::driver::Input;
use crate::metrics::Metrics;
use crate::tls::Tls;

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
    /// Why schedules wait for the clock.
    pub(crate) clock: Option<String>,
    /// Nothing is started any more.
    pub(crate) draining: bool,
    /// Counts lines and beginnings of logs.
    logged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct LiveLog {
    attempt: u32,
    /// Its lines may not leave the node.
    mute: bool,
    logs: Logs,
    bytes: u64,
}

/// Lines of a log that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passage {
    /// The attempt that logged them.
    pub(crate) attempt: u32,
    /// Index of the first.
    pub(crate) from: usize,
    pub(crate) lines: Vec<LogLine>,
}

impl Live {
    pub(crate) fn health(&self) -> NodeHealth {
        NodeHealth {
            broker: self.broker.up,
            broker_end: self.broker.last_end.clone(),
            broker_stopped: self.broker.stopped.clone(),
            courier_stopped: self.courier.stopped.clone(),
            clock: self.clock.clone(),
            draining: self.draining,
            store_error: self.store_error.clone(),
            shortage: self.shells.shortage.clone(),
        }
    }

    /// The parts that are not started again before the operator says so.
    fn given_up(&self) -> Vec<String> {
        let parts = [
            ("broker", &self.broker.stopped),
            ("courier", &self.courier.stopped),
        ];
        let stopped = parts.into_iter().filter(|(_, stopped)| stopped.is_some());
        stopped.map(|(name, _)| name.to_owned()).collect()
    }

    /// Begins the log of an attempt; that of the one before is forgotten. `mute`: it
    /// stays empty.
    pub(crate) fn begin_log(&mut self, task: &Name, attempt: u32, mute: bool) {
        let log = LiveLog {
            attempt,
            mute,
            ..LiveLog::default()
        };
        self.logs.insert(task.clone(), log);
        self.logged.send_modify(|n| *n += 1);
    }

    /// Forgets the lines of an attempt.
    pub(crate) fn clear_log(&mut self, task: &Name) {
        self.logs.remove(task);
    }

    /// Adds a line, cut at `limit` bytes of all lines together: the tender
    /// cuts as well, and is not trusted to.
    pub(crate) fn log(&mut self, task: &Name, line: LogLine, limit: u64) {
        let log = self.logs.entry(task.clone()).or_default();
        if log.mute {
            return;
        }
        let length = line.text.len() as u64 + 1;
        if log.bytes.saturating_add(length) > limit.saturating_add(1) {
            log.logs.cut = log.logs.cut.saturating_add(length);
            return;
        }
        log.bytes += length;
        log.logs.lines.push(line);
        self.logged.send_modify(|n| *n += 1);
    }

    /// Tells whenever a line was logged, of whichever task.
    pub(crate) fn logged(&self) -> watch::Receiver<u64> {
        self.logged.subscribe()
    }

    /// At most `most` lines of a log that goes on, from the one with this index
    /// in this attempt; from its beginning when another attempt is at work.
    pub(crate) fn passage(
        &self,
        task: &Name,
        (attempt, from): (u32, usize),
        most: usize,
    ) -> Option<Passage> {
        let log = self.logs.get(task)?;
        let from = if log.attempt == attempt { from } else { 0 };
        let lines = log.logs.lines.iter().skip(from).take(most);
        Some(Passage {
            attempt: log.attempt,
            from,
            lines: lines.cloned().collect(),
        })
    }

    pub(crate) fn logs(&self, task: &Name) -> Option<Logs> {
        self.logs.get(task).map(|l| l.logs.clone())
    }
}

/// Shared by the driver, which writes, and the API, which reads.
#[derive(Debug)]
pub(crate) struct Shared {
    live: Mutex<Live>,
    clock: Clock,
    /// How much is logged, and how often that was set.
    log: Mutex<(LogInfo, u64)>,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// The configuration, with what was reloaded since the start.
    config: Mutex<Arc<NodeConfig>>,
    /// Nothing runs any more, and nothing will.
    drained: watch::Sender<bool>,
    /// The certificates, where the API listens over TCP.
    tls: Mutex<Option<Arc<Tls>>>,
    /// The node is about to end.
    ending: watch::Sender<bool>,
    /// The driver has ended.
    ended: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(config: Arc<NodeConfig>) -> Self {
        Self {
            live: Mutex::default(),
            clock: Clock::default(),
            log: Mutex::new((
                LogInfo {
                    level: config.log.level,
                    until: None,
                },
                0,
            )),
            metrics: Metrics::default(),
            config: Mutex::new(config),
            drained: watch::Sender::new(false),
            tls: Mutex::default(),
            ending: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn config(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.held())
    }

    /// How much is logged now.
    pub(crate) fn log_info(&self) -> LogInfo {
        self.log_held().0
    }

    /// From now on, so much is logged in this process. The number is for
    /// [`Self::log_back`].
    pub(crate) fn set_log(&self, info: LogInfo) -> u64 {
        let mut log = self.log_held();
        *log = (info, log.1 + 1);
        (self.config().log.set)(info.level);
        log.1
    }

    /// As much as at the start again, unless it was set since then.
    pub(crate) fn log_back(&self, turn: u64) -> Option<LogLevel> {
        let mut log = self.log_held();
        if log.1 != turn {
            return None;
        }
        let Logging { level, set, .. } = self.config().log;
        log.0 = LogInfo { level, until: None };
        set(level);
        Some(level)
    }

    fn log_held(&self) -> MutexGuard<'_, (LogInfo, u64)> {
        // It is replaced in one piece.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificates as they are now.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls_held().clone()
    }

    pub(crate) fn set_tls(&self, tls: Tls) {
        *self.tls_held() = Some(Arc::new(tls));
    }

    fn tls_held(&self) -> MutexGuard<'_, Option<Arc<Tls>>> {
        // It is replaced in one piece.
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Arc<NodeConfig>> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration anew, and has the node go by it as far as it
    /// can without a restart; `None` when there is nothing to read. Of two at
    /// once, the second waits for the first.
    pub(crate) fn reload(&self, inputs: &Sender<Input>) -> Option<Result<Reloaded, String>> {
        let mut config = self.held();
        let reread = config.reread.clone()?;
        if let Some(notify) = &config.notify {
            notify.reloading();
        }
        let read = (reread.0)().and_then(|(new, reloaded)| self.take(&config, &new, reloaded));
        if let Some(notify) = &config.notify {
            // It goes on, whatever came of it.
            notify.ready(match &read {
                Ok(_) => "takes tasks; goes by the configuration that was read anew",
                Err(_) => "takes tasks; the configuration is wrong, and the old one holds",
            });
        }
        let (taken, mut reloaded) = match read {
            Ok(read) => read,
            Err(reason) => return Some(Err(reason)),
        };
        if self.clock.trouble().is_some() {
            self.clock.accept();
        }
        reloaded.started = self.live().given_up();
        *config = Arc::new(taken);
        // Nobody listens when the node ends.
        let _ = inputs.send(Input::Reload(Arc::clone(&config)));
        Some(Ok(reloaded))
    }

    pub(crate) fn has_drained(&self) {
        self.drained.send_replace(true);
    }

    pub(crate) fn drained(&self) -> watch::Receiver<bool> {
        self.drained.subscribe()
    }

    /// What the node goes by from now on, certificates included.
    fn take(
        &self,
        config: &NodeConfig,
        new: &NodeConfig,
        mut reloaded: Reloaded,
    ) -> Result<(NodeConfig, Reloaded), String> {
        let taken = config.taking(new);
        if self.reload_tls(&taken)? {
            reloaded.changed.push("certificates".to_owned());
        }
        Ok((taken, reloaded))
    }

    /// Reads the certificates anew; whether they are others now.
    fn reload_tls(&self, config: &NodeConfig) -> Result<bool, String> {
        let Some(listen) = &config.listen else {
            return Ok(false);
        };
        let new = Tls::load(&listen.tls, self.clock.now()).map_err(|e| chain(&e))?;
        let changed = self.tls().is_none_or(|old| !old.is_like(&new));
        self.set_tls(new);
        Ok(changed)
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
