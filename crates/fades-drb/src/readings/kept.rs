//! What is kept of one source.
//!
//! ```text
//! take ─► rows, in memory ── log: every second ──► head file        (durable)
//!            │ so many, or a new day
//!            ▼
//!         sealed, in memory ── keep: in the background ──► segments ── merged,
//!                                                          the head goes   expired
//! ```
//! A head file goes when the segments made of it are durable, and not before. A
//! segment that was made of a head that is still there is made again, under the
//! same name. Segments are merged only once the heads that they were made of are
//! gone, so a head that is still there next to a merged one is left over.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fades_task::identity::Name;

use super::disk::Disk;
use super::frame::Row;
use super::gaps::{Gap, GapReason, Gaps};
use super::head::Head;
use super::segment::{DAY, Stored};
use crate::config::Record;
use crate::live::Heard;
use crate::selector::Selector;
use crate::series::{MAX_SERIES, SeriesKey};

mod days;
mod known;
mod open;
mod retain;
mod rows;

use days::Days;
use rows::{Rows, Sealed};

/// Readings after which a head is made into segments.
pub(super) const HEAD: usize = 128 << 10;

/// Most readings of a frame: with the names of as many new series it stays well below
/// what is read as one.
const FRAME: usize = 32 << 10;

/// Heads that may wait to be made into segments.
const SEALED: usize = 2;

/// Most readings in memory; what arrives then is lost.
const MOST: usize = 4 * HEAD;

/// So long after midnight a head of the day before is made into segments.
const LATE: i64 = 10 * 60 * 1_000_000_000;

/// Gaps are written at most so often.
const SAVE: Duration = Duration::from_secs(10);

/// What is kept of one source.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) source: Name,
    folder: PathBuf,
    record: Record,
    /// When the newest of what was found arrived, ns since 1970 UTC.
    pub(super) arrived: Option<i64>,
    disk: Arc<Disk>,
    state: Mutex<State>,
    /// Held while something is written to the head; before `state`.
    head: Mutex<Option<Head>>,
    /// Its series, and the state of the segments that they were counted of.
    known: Mutex<known::Cache>,
}

#[derive(Debug)]
struct State {
    keys: Arc<Vec<SeriesKey>>,
    numbers: HashMap<SeriesKey, u32>,
    /// Of the head, in the order in which they arrived.
    rows: Rows,
    /// So many of them are on disk.
    durable: usize,
    /// When the last of them arrived.
    at: i64,
    /// Day of the first of them, by the broker's clock.
    day: i64,
    /// Days of readings that are long past.
    days: Days,
    sealed: VecDeque<Arc<Sealed>>,
    sealed_rows: usize,
    next_head: u64,
    /// Bytes of the head's file.
    head_bytes: u64,
    segments: Vec<Arc<Stored>>,
    /// Counts changes of `segments`.
    generation: u64,
    lost: Option<Gap>,
    gaps: Gaps,
    saved: Option<Instant>,
    /// What is wrong with the log, and with segments.
    log_trouble: Option<String>,
    keep_trouble: Option<String>,
    /// Why age is not judged by the wall clock.
    age_trouble: Option<String>,
    expired: u64,
    recorded: u64,
}

/// How recording goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RecorderState {
    /// Readings kept since the broker began.
    pub(crate) recorded: u64,
    /// Readings removed because of their age, or for want of room.
    pub(crate) expired: u64,
    /// Readings that are not on disk yet.
    pub(crate) waiting: u64,
    /// Readings that are not in segments yet.
    pub(crate) in_heads: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Time of the oldest reading; of those in segments, the beginning of its day.
    pub(crate) oldest: Option<i64>,
    /// What is wrong, in words.
    pub(crate) trouble: Option<String>,
}

/// What there is at one moment.
pub(super) struct Snapshot {
    pub(super) segments: Vec<Arc<Stored>>,
    /// Readings of heads, in no order.
    pub(super) rows: HashMap<SeriesKey, Vec<(i64, f64, u8)>>,
    pub(super) gaps: Vec<Gap>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes readings that arrived. Whether so many wait that they should be
    /// written at once.
    pub(super) fn take(&self, heard: &[Heard], now: i64) -> bool {
        let mut state = self.lock();
        for heard in heard {
            // Nothing is known more exactly than this of when something arrived.
            let time = heard.time.unwrap_or(now - now.rem_euclid(1_000));
            if time > now.saturating_add(DAY) {
                state.lose(now, GapReason::Clock);
                continue;
            }
            if !state.takes_day(time, now) {
                state.lose(now, GapReason::Days);
                continue;
            }
            let Some(series) = state.room(&heard.key, now) else {
                continue;
            };
            if state.rows.is_empty() {
                state.day = now.div_euclid(DAY);
            }
            state.rows.push(Row {
                time,
                value: heard.value,
                series,
                mark: heard.mark,
            });
        }
        state.at = state.at.max(now);
        state.rows.len() - state.durable > HEAD / 4
    }

    /// Writes what waits to the head, until it is durable.
    pub(super) fn log(&self, now: i64) {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        match self.append(&mut head) {
            Ok(()) => self.logged(now),
            Err(e) => {
                if let Some(head) = head.take() {
                    self.give_up(head);
                }
                self.lock().complain(&self.source, &e);
            }
        }
        self.seal_if_due(&mut head, now);
        self.save_gaps(false);
    }

    fn append(&self, head: &mut Option<Head>) -> io::Result<()> {
        while self.append_some(head)? {}
        Ok(())
    }

    /// Appends a frame. Whether there was something to append.
    fn append_some(&self, head: &mut Option<Head>) -> io::Result<bool> {
        let state = self.lock();
        if state.rows.len() == state.durable {
            return Ok(false);
        }
        let number = state.next_head;
        drop(state);
        let head = match head {
            Some(head) => head,
            None => {
                let new = Head::create(&self.disk, &self.folder, number)?;
                self.lock().next_head = number + 1;
                head.insert(new)
            }
        };
        let state = self.lock();
        let waiting = state.rows.from(state.durable).iter();
        let rows: Vec<Row> = waiting.take(FRAME).copied().collect();
        let mut seen = HashSet::new();
        let new = rows.iter().map(|row| row.series);
        let new = new.filter(|&series| !head.knows(series) && seen.insert(series));
        let new = new.filter_map(|n| Some((n, state.keys.get(n as usize)?.clone())));
        let (new, at): (Vec<_>, i64) = (new.collect(), state.at);
        drop(state);
        head.append(at, &rows, &new)?;
        let mut state = self.lock();
        state.durable += rows.len();
        state.recorded += rows.len() as u64;
        state.head_bytes = head.length();
        Ok(true)
    }

    /// Leaves a head that cannot be written.
    fn give_up(&self, head: Head) {
        let mut state = self.lock();
        let is_empty = state.durable == 0;
        if !is_empty {
            self.seal(&mut state);
        }
        drop(state);
        head.abandon(is_empty);
    }

    /// All that waited is durable.
    fn logged(&self, now: i64) {
        let mut state = self.lock();
        if state.log_trouble.take().is_some() {
            tracing::info!("source {}: its readings are recorded again", self.source);
        }
        if let Some(gap) = state.lost.take() {
            let gap = Gap { to: now, ..gap };
            tracing::warn!("source {}: {}", self.source, gap.words());
            state.gaps.add(gap);
        }
    }

    fn seal_if_due(&self, head: &mut Option<Head>, now: i64) {
        let mut state = self.lock();
        let is_over = (now - LATE).div_euclid(DAY) > state.day;
        let due = state.durable >= HEAD || (is_over && state.durable > 0);
        if due && state.sealed.len() < SEALED {
            *head = None;
            self.seal(&mut state);
        }
    }

    /// What is durable of the head is no longer written to.
    fn seal(&self, state: &mut State) {
        let durable = std::mem::take(&mut state.durable);
        let rows = state.rows.take(durable);
        state.days.seal();
        let bytes = std::mem::take(&mut state.head_bytes);
        let number = state.next_head - 1;
        state.day = state.at.div_euclid(DAY);
        state.sealed_rows += rows.len();
        let sealed = Sealed::new(number, rows, bytes);
        state.sealed.push_back(Arc::new(sealed));
    }

    /// Writes the gaps if there are new ones; `now`: also when they were written
    /// just before.
    fn save_gaps(&self, now: bool) {
        let mut state = self.lock();
        if !now && state.saved.is_some_and(|saved| saved.elapsed() < SAVE) {
            return;
        }
        let Some((path, content)) = state.gaps.unsaved() else {
            return;
        };
        state.saved = Some(Instant::now());
        drop(state);
        if let Err(e) = self.disk.replace(&path, &content) {
            tracing::debug!("{}: {e}", path.display());
            self.lock().gaps.unsave();
        }
    }

    /// Writes all that waits, and that the broker ends.
    pub(super) fn end(&self, now: i64) {
        self.log(now);
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.lock().next_head;
        let closed = match &mut *head {
            Some(head) => head.close(now),
            None => {
                Head::create(&self.disk, &self.folder, number).and_then(|mut head| head.close(now))
            }
        };
        if let Err(e) = closed {
            tracing::debug!("source {}: {e}", self.source);
        }
        *head = None;
        self.save_gaps(true);
    }

    /// What there is of what `selector` wants.
    pub(super) fn snapshot(&self, selector: &Selector) -> Snapshot {
        let state = self.lock();
        let segments = state.segments.iter().filter(|s| {
            let (start, end) = s.name.times();
            selector.overlaps(start, end - 1)
        });
        let segments = segments.cloned().collect();
        let wanted: Vec<bool> = state.keys.iter().map(|k| selector.matches(k)).collect();
        let sealed = state.sealed.iter().flat_map(|s| &s.rows);
        let mut rows: HashMap<u32, Vec<(i64, f64, u8)>> = HashMap::new();
        for row in sealed.chain(state.rows.from(0)) {
            if wanted[row.series as usize] && selector.within(row.time) {
                let rows = rows.entry(row.series).or_default();
                rows.push((row.time, row.value, row.mark));
            }
        }
        let rows = rows.into_iter();
        Snapshot {
            segments,
            rows: rows
                .map(|(n, r)| (state.keys[n as usize].clone(), r))
                .collect(),
            gaps: state.all_gaps(),
        }
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.lock().all_gaps()
    }

    pub(super) fn state(&self) -> RecorderState {
        let state = self.lock();
        let troubles = [&state.log_trouble, &state.keep_trouble, &state.age_trouble];
        let troubles: Vec<&str> = troubles.into_iter().flatten().map(|t| &**t).collect();
        let found = RecorderState {
            recorded: state.recorded,
            expired: state.expired,
            waiting: (state.rows.len() - state.durable) as u64,
            in_heads: (state.rows.len() + state.sealed_rows) as u64,
            bytes: state.bytes(),
            oldest: state.oldest(),
            trouble: (!troubles.is_empty()).then(|| troubles.join("; ")),
        };
        let sealed = state.sealed.clone();
        drop(state);
        let sealed = sealed.iter().filter_map(|s| rows::oldest(s.extents()));
        let oldest = sealed.chain(found.oldest).min();
        RecorderState { oldest, ..found }
    }

    /// Readings of the head that were walked through.
    #[cfg(test)]
    pub(super) fn walked(&self) -> u64 {
        self.lock().rows.walked()
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

impl State {
    /// The number of a series for which there is room; else the reading is lost.
    fn room(&mut self, key: &SeriesKey, now: i64) -> Option<u32> {
        let number = self.number(key);
        if self.rows.len() + self.sealed_rows >= MOST || number.is_none() {
            let reason = match self.log_trouble {
                Some(_) => GapReason::Disk,
                None => GapReason::Overflow,
            };
            self.lose(now, reason);
            return None;
        }
        number
    }

    fn number(&mut self, key: &SeriesKey) -> Option<u32> {
        if let Some(&number) = self.numbers.get(key) {
            return Some(number);
        }
        let number = u32::try_from(self.keys.len()).ok()?;
        (self.keys.len() < MAX_SERIES).then(|| {
            Arc::make_mut(&mut self.keys).push(key.clone());
            self.numbers.insert(key.clone(), number);
            number
        })
    }

    /// Whether there is or may be a segment of the day of a reading.
    fn takes_day(&mut self, time: i64, now: i64) -> bool {
        let [day, today] = [time, now].map(|t| t.div_euclid(DAY));
        self.days.take(day, today, self.generation, &self.segments)
    }

    fn lose(&mut self, now: i64, reason: GapReason) {
        let lost = self.lost.get_or_insert(Gap {
            from: now,
            to: now,
            reason,
            readings: 0,
        });
        lost.to = now;
        lost.readings += 1;
    }

    fn all_gaps(&self) -> Vec<Gap> {
        self.gaps.all().iter().copied().chain(self.lost).collect()
    }

    fn complain(&mut self, source: &Name, e: &io::Error) {
        let words = format!("its readings cannot be written: {e}");
        if self.log_trouble.as_ref() != Some(&words) {
            tracing::warn!("source {source}: {words}");
        }
        self.log_trouble = Some(words);
    }

    /// Without what is sealed.
    fn oldest(&self) -> Option<i64> {
        let days = self.segments.iter().map(|s| s.name.times().0);
        days.chain(rows::oldest(self.rows.extents())).min()
    }

    fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|s| s.bytes);
        let sealed = self.sealed.iter().map(|s| s.bytes);
        segments.chain(sealed).sum::<u64>() + self.head_bytes
    }
}

impl Gap {
    fn words(self) -> String {
        let Self { from, to, .. } = self;
        let [from, to] = [from, to].map(fades_task::time::Time);
        format!(
            "readings between {from} and {to} are missing ({} counted): {}",
            self.readings,
            self.reason.words()
        )
    }
}
