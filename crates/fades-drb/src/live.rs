//! What one live source hears: its devices, their newest readings, and who else
//! wants what arrives.
//!
//! ```text
//! source ─ arrive ─► Live ─┬─► newest reading and health of each device
//!                          ├─► recorder (readings store)
//!                          └─► collections of tasks
//! ```
//! A source module only fetches and decodes; everything that is the same for all
//! live sources is here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fades_task::coverage::{BadRow, LossReason};
use fades_task::gauge::{DeviceCounts, SourceGauge};
use fades_task::identity::Name;
use fades_task::mtw::Take;
use fades_task::resource::{DeviceState, Liveness};
use fades_task::time::Time;
use tokio::sync::watch;

use crate::chunk::Segment;
use crate::flow::{Ask, Outlet, Stopped};
use crate::notes::Notes;
use crate::readings::Recorder;
use crate::selector::Selector;
use crate::series::{MAX_SERIES, SeriesKey};

/// A reading that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heard {
    pub(crate) key: SeriesKey,
    /// Time by the device's clock, ns since 1970 UTC; `None` when it says none,
    /// then the time of arrival counts.
    pub(crate) time: Option<i64>,
    pub(crate) value: f64,
    /// Bits of [`fades_abi::batch::mark`].
    pub(crate) mark: u8,
}

/// What a live source hears.
#[derive(Debug)]
pub(crate) struct Live {
    source: Name,
    notes: Arc<Notes>,
    recorder: Option<Recorder>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether anybody wants what arrives: a recorder, or tasks that collect.
    wanted: watch::Sender<bool>,
    /// Readings of more series than a source may have.
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    series: BTreeMap<SeriesKey, Option<Newest>>,
    devices: HashMap<Arc<str>, Health>,
    collections: BTreeMap<u64, Collection>,
    next: u64,
    /// How many readings could not be used, and the first.
    unusable: Option<(u64, BadRow)>,
    /// Why no device can be heard, when that is so.
    cut: Option<String>,
}

/// The newest reading of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Newest {
    /// ns since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) value: f64,
    pub(crate) mark: u8,
}

#[derive(Debug, Default)]
struct Health {
    /// Time of arrival, ns since 1970 UTC.
    last_seen: Option<i64>,
    error: Option<String>,
    broken: bool,
    clock_ahead: Option<i64>,
}

/// Readings that a task collects.
#[derive(Debug)]
struct Collection {
    selector: Selector,
    rows: u64,
    most: u64,
    lost: u64,
    /// Readings that came and could not be used, and the first of them.
    unusable: BTreeMap<LossReason, (u64, Option<BadRow>)>,
    gathered: BTreeMap<SeriesKey, Segment>,
}

/// Most readings that a task collects, in the broker's own memory.
const COLLECTED: u64 = 4 << 20;

impl Live {
    pub(crate) fn new(source: &Name, notes: &Arc<Notes>, recorder: Option<Recorder>) -> Self {
        let wanted = recorder.is_some();
        Self {
            source: source.clone(),
            notes: Arc::clone(notes),
            recorder,
            state: Mutex::default(),
            changed: Condvar::new(),
            wanted: watch::Sender::new(wanted),
            refused: AtomicU64::new(0),
        }
    }

    /// The source's name.
    pub(crate) const fn source(&self) -> &Name {
        &self.source
    }

    pub(crate) const fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Whether anybody wants what arrives; a source that must ask its devices
    /// need not do so until this says `true`.
    pub(crate) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These series exist, by configuration or discovery, whether they were heard
    /// or not.
    pub(crate) fn expect(&self, keys: impl IntoIterator<Item = SeriesKey>) {
        let mut state = self.lock();
        for key in keys {
            if state.series.len() >= MAX_SERIES {
                break;
            }
            state.devices.entry(Arc::clone(&key.device)).or_default();
            state.series.entry(key).or_insert(None);
        }
    }

    /// Takes readings that just arrived. Never waits.
    pub(crate) fn arrive(&self, mut heard: Vec<Heard>) {
        let now = now();
        let all = heard.len();
        let mut state = self.lock();
        heard.retain(|h| state.hear(h, now));
        for collection in state.collections.values_mut() {
            heard.iter().for_each(|h| collection.take(h, now));
        }
        let collected = !state.collections.is_empty();
        drop(state);
        let refused = (all - heard.len()) as u64;
        if refused > 0 && self.refused.fetch_add(refused, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "source {}: readings of more than {MAX_SERIES} series are refused; does a \
                 placeholder take a value that changes with every message?",
                self.source
            );
        }
        if collected {
            self.changed.notify_all();
        }
        if let Some(recorder) = &self.recorder {
            recorder.record(&heard, now);
        }
    }

    /// A device could not be asked. `broken`: it will be asked less often.
    pub(crate) fn failed(&self, device: &Arc<str>, reason: &str, broken: bool) {
        let mut state = self.lock();
        let health = state.devices.entry(Arc::clone(device)).or_default();
        health.error = Some(reason.to_owned());
        health.broken = broken;
    }

    /// Readings arrived that cannot be used; `device`: whose they are, if that is
    /// known. Tasks that collect are told.
    pub(crate) fn unusable(&self, device: Option<&str>, bad: &BadRow, readings: u64) {
        let mut state = self.lock();
        let (total, _) = state.unusable.get_or_insert_with(|| (0, bad.clone()));
        *total += readings;
        for collection in state.collections.values_mut() {
            if device.is_none_or(|d| collection.selector.device(d)) {
                let lost = collection.unusable.entry(bad.reason);
                lost.or_insert_with(|| (0, Some(bad.clone()))).0 += readings;
            }
        }
    }

    /// Readings that could not be used since the start, in words, when there are some.
    pub(crate) fn unusable_words(&self) -> Option<String> {
        let state = self.lock();
        let (total, first) = state.unusable.as_ref()?;
        let reason = first.reason.words();
        Some(format!(
            "{total} could not be used since the start, the first of {}: {reason}",
            first.file
        ))
    }

    /// No device of the source can be heard, for this reason; `None`: they can
    /// again.
    pub(crate) fn cut(&self, reason: Option<&str>) {
        self.lock().cut = reason.map(str::to_owned);
    }

    /// Whether the newest reading of its series is this one: the same value, and
    /// the same time if it says one.
    pub(crate) fn is_newest(&self, heard: &Heard) -> bool {
        let state = self.lock();
        let newest = state.series.get(&heard.key).copied().flatten();
        newest.is_some_and(|n| n.value == heard.value && heard.time.is_none_or(|t| t == n.time))
    }

    /// When a device was heard last.
    pub(crate) fn last_seen(&self, device: &str) -> Option<Time> {
        self.lock().devices.get(device)?.last_seen.map(Time)
    }

    /// The series that match, with their newest readings.
    pub(crate) fn newest(&self, selector: &Selector) -> Vec<(SeriesKey, Option<Newest>)> {
        let state = self.lock();
        let matching = state.series.iter().filter(|(key, _)| selector.matches(key));
        matching.map(|(k, n)| (k.clone(), *n)).collect()
    }

    /// The source in numbers.
    pub(crate) fn gauge(&self) -> SourceGauge {
        let state = self.lock();
        let named = state.series.keys().map(|key| &key.device);
        let all: HashSet<&Arc<str>> = state.devices.keys().chain(named).collect();
        let mut devices = DeviceCounts::default();
        for device in all {
            devices.add(self.liveness_in(&state, device).state);
        }
        let mut recording = self.recorder.as_ref().map(Recorder::report);
        if let Some(recording) = &mut recording {
            recording.gaps.clear();
        }
        SourceGauge {
            connected: state.cut.is_none(),
            devices,
            recording,
        }
    }

    /// How a device does.
    pub(crate) fn liveness(&self, device: &str) -> Liveness {
        self.liveness_in(&self.lock(), device)
    }

    fn liveness_in(&self, state: &State, device: &str) -> Liveness {
        let expected = self.notes.of(device).and_then(|n| n.expected);
        let health = state.devices.get(device);
        let last_seen = health.and_then(|h| h.last_seen);
        let error = health.and_then(|h| h.error.as_ref());
        let error = error.or(state.cut.as_ref()).cloned();
        let silent = |seen: i64| expected.is_some_and(|e| now() - seen > 3 * e.0 as i64);
        let state = match (last_seen, &error) {
            _ if health.is_some_and(|h| h.broken) => DeviceState::Broken,
            (_, Some(_)) => DeviceState::Failing,
            (None, None) => DeviceState::Unknown,
            (Some(seen), None) if silent(seen) => DeviceState::Silent,
            (Some(_), None) => DeviceState::Alive,
        };
        Liveness {
            state,
            last_seen: last_seen.map(Time),
            expected,
            error,
            clock_ahead: health.and_then(|h| h.clock_ahead),
        }
    }

    /// Answers a DTO that asks for what arrives: waits until the range ends, there
    /// are enough readings, or it is stopped.
    pub(crate) fn collect(&self, ask: &Ask, out: &Outlet) -> Result<(), Stopped> {
        let count = match ask.take {
            Take::Live { count } => count,
            Take::Range | Take::Now => None,
        };
        let most = count.unwrap_or(u64::MAX).min(COLLECTED);
        let number = self.begin(&ask.selector, most);
        let ended = self.wait(number, ask, count.is_some());
        let Some(collection) = self.end(number) else {
            return Ok(());
        };
        ended?;
        let expected = self.newest(&ask.selector);
        for (key, _) in &expected {
            out.device(&key.device)?;
        }
        let mut heard: Vec<Arc<str>> = Vec::new();
        for (key, segment) in collection.gathered {
            heard.push(Arc::clone(&key.device));
            out.readings(&key, segment)?;
        }
        if collection.lost > 0 && count.is_none() {
            out.lost(LossReason::Overflow, collection.lost, None)?;
        }
        for (reason, (readings, first)) in collection.unusable {
            out.lost(reason, readings, first)?;
        }
        let silent = expected.iter().map(|(key, _)| &key.device);
        for device in silent.filter(|d| !heard.contains(d)) {
            let health = self.liveness(device);
            let reason = health.error.unwrap_or_else(|| "nothing arrived".to_owned());
            out.late(device, health.last_seen, reason)?;
        }
        Ok(())
    }

    fn begin(&self, selector: &Selector, most: u64) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let collection = Collection {
            selector: selector.clone(),
            rows: 0,
            most,
            lost: 0,
            unusable: BTreeMap::new(),
            gathered: BTreeMap::new(),
        };
        state.collections.insert(number, collection);
        self.wanted.send_replace(true);
        number
    }

    fn end(&self, number: u64) -> Option<Collection> {
        let mut state = self.lock();
        let collection = state.collections.remove(&number);
        if state.collections.is_empty() {
            self.wanted.send_replace(self.recorder.is_some());
        }
        collection
    }

    fn wait(&self, number: u64, ask: &Ask, counted: bool) -> Result<(), Stopped> {
        // So often a stop is looked for.
        const PATIENCE: Duration = Duration::from_millis(100);
        let left = u64::try_from(ask.selector.to.saturating_sub(now())).unwrap_or_default();
        let end = Instant::now().checked_add(Duration::from_nanos(left));
        let end = [end, ask.deadline].into_iter().flatten().min();
        let mut state = self.lock();
        loop {
            if ask.is_stopped() {
                return Err(Stopped);
            }
            let collection = state.collections.get(&number);
            if counted && collection.is_some_and(|c| c.rows >= c.most) {
                return Ok(());
            }
            let left = end.map_or(PATIENCE, |e| e.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            let woken = self.changed.wait_timeout(state, left.min(PATIENCE));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Notes a reading. Whether there is room for its series.
    fn hear(&mut self, heard: &Heard, now: i64) -> bool {
        let full = self.series.len() >= MAX_SERIES;
        if full && !self.series.contains_key(&heard.key) {
            return false;
        }
        let time = heard.time.unwrap_or(now);
        let newest = Newest {
            time,
            value: heard.value,
            mark: heard.mark,
        };
        match self.series.get_mut(&heard.key) {
            Some(known) if known.is_some_and(|k| k.time > time) => {}
            Some(known) => *known = Some(newest),
            None => {
                self.series.insert(heard.key.clone(), Some(newest));
            }
        }
        let health = match self.devices.get_mut(&heard.key.device) {
            Some(health) => health,
            None => self
                .devices
                .entry(Arc::clone(&heard.key.device))
                .or_default(),
        };
        health.last_seen = Some(now);
        health.error = None;
        health.broken = false;
        health.clock_ahead = heard.time.map(|t| t.saturating_sub(now));
        true
    }
}

impl Collection {
    fn take(&mut self, heard: &Heard, now: i64) {
        if !self.selector.matches(&heard.key) {
            return;
        }
        if self.rows >= self.most {
            self.lost += 1;
            return;
        }
        self.rows += 1;
        let segment = self.gathered.entry(heard.key.clone()).or_default();
        segment.push(heard.time.unwrap_or(now), heard.value, heard.mark);
    }
}

/// ns since 1970 UTC.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
