//! The readings store: what live sources hear, kept on disk.
//!
//! ```text
//! readings/.lock
//! readings/.clock.json                                 the time that is believed
//! readings/SOURCE/00000007.head                        what arrived last
//! readings/SOURCE/2026-11-23_00000001-00000006.parquet  a day, or a part of it
//! readings/SOURCE/gaps.jsonl                           when readings are missing
//! ```
//! No source has a name that begins with a dot.
//!
//! Start reading at [`kept`], which says how a reading comes from memory to a
//! segment. [`disk`] is all that changes the folder; [`scan`] all that reads
//! segments. Two threads do the work of all sources: `readings-log` writes and
//! waits for the disk at least once a second, `readings-keep` makes segments,
//! merges and removes them, at low priority.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fades_task::identity::Name;
use rustix::fs::FlockOperation;

use crate::chunk::Segment;
use crate::columns::BlobError;
use crate::config::Record;
use crate::flow::{Ask, Matching, Outlet, Stopped};
use crate::live::{Heard, now};
use crate::series::SeriesKey;
use crate::source::Known;

mod clock;
mod disk;
mod frame;
mod gaps;
mod head;
mod kept;
mod merge;
mod report;
mod scan;
mod segment;

use clock::Clock;
use disk::{Disk, Written};
use gaps::Gap;
use kept::{Kept, RecorderState};
use merge::PIECE;
use scan::Scan;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadingsError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(
        "the readings folder {folder} cannot be used: {reason}; it must be a folder that the \
         broker can write to"
    )]
    Open { folder: PathBuf, reason: io::Error },
    #[error(
        "the readings folder {0} is in use by another broker: end that one, or give each a folder \
         of its own"
    )]
    InUse(PathBuf),
    #[error("{path} cannot be written: {reason}")]
    Write { path: PathBuf, reason: io::Error },
    #[error("readings cannot be encoded or written: {0}")]
    Encode(String),
    #[error("recorded readings in {path}: it {reason}; restore the file, or move it away")]
    Damaged { path: PathBuf, reason: BlobError },
    #[error("no thread can be started for the readings store: {0}")]
    Thread(io::Error),
}

impl ReadingsError {
    fn open(folder: &Path, reason: io::Error) -> Self {
        let folder = folder.to_owned();
        Self::Open { folder, reason }
    }

    fn write(path: &Path, reason: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, reason }
    }

    fn damaged(path: &Path, reason: BlobError) -> Self {
        let path = path.to_owned();
        Self::Damaged { path, reason }
    }
}

/// The readings of all sources that are recorded.
#[derive(Debug)]
pub(crate) struct Readings {
    folder: PathBuf,
    work: Arc<AtWork>,
}

/// Keeps the readings of one source.
#[derive(Debug)]
pub(crate) struct Recorder {
    kept: Arc<Kept>,
    work: Arc<AtWork>,
}

/// The store's threads, which end with it.
#[derive(Debug)]
struct AtWork {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The file that is locked as long as the store is open.
    lock: File,
}

#[derive(Debug, Default)]
struct Shared {
    disk: Arc<Disk>,
    wishes: Mutex<Wishes>,
    log: Condvar,
    keep: Condvar,
}

/// What the threads are to do.
#[derive(Debug, Default)]
struct Wishes {
    sources: Vec<Arc<Kept>>,
    /// Much waits to be written.
    urgent: bool,
    /// A head waits to be made into segments.
    due: bool,
    end: bool,
}

/// What waits is written so often, so that with the time that the disk takes no
/// more than a second is lost.
const LOG: Duration = Duration::from_millis(800);

/// Segments are looked at so often when nothing else asks for it.
const KEEP: Duration = Duration::from_secs(30);

/// Lets nothing else wait for merging.
const NICE: i32 = 15;

impl Readings {
    /// Opens the store in `folder`, which is made if it is not there.
    pub(crate) fn open(folder: &Path) -> Result<Self, ReadingsError> {
        Self::on(folder, Arc::default())
    }

    fn on(folder: &Path, disk: Arc<Disk>) -> Result<Self, ReadingsError> {
        let failed = |e| ReadingsError::open(folder, e);
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join(".lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ReadingsError::InUse(folder.to_owned()));
            }
            Err(e) => return Err(failed(e.into())),
        }
        let shared = Arc::new(Shared {
            disk,
            ..Shared::default()
        });
        let clock = Clock::open(folder);
        let threads = [
            thread("readings-log", &shared, Shared::log)?,
            thread("readings-keep", &shared, move |shared| shared.keep(clock))?,
        ];
        let work = AtWork {
            shared,
            threads: Mutex::new(threads.into()),
            lock,
        };
        Ok(Self {
            folder: folder.to_owned(),
            work: Arc::new(work),
        })
    }

    /// Begins to record a source.
    pub(crate) fn recorder(
        &self,
        source: &Name,
        record: &Record,
    ) -> Result<Recorder, ReadingsError> {
        let shared = &self.work.shared;
        let folder = self.folder.join(source.as_str());
        let kept = Arc::new(Kept::open(&shared.disk, &folder, source, record, now())?);
        shared.lock().sources.push(Arc::clone(&kept));
        shared.wish(true);
        Ok(Recorder {
            kept,
            work: Arc::clone(&self.work),
        })
    }

    /// Bytes written to files since the store was opened.
    pub(crate) fn written(&self) -> Written {
        self.work.shared.disk.written()
    }
}

impl Recorder {
    /// Keeps readings that arrived at `now` (ns since 1970 UTC). Never waits for
    /// the disk.
    pub(crate) fn record(&self, heard: &[Heard], now: i64) {
        if self.kept.take(heard, now) {
            self.work.shared.wish(false);
        }
    }

    /// Sends the readings that `ask` wants, newest not yet on disk included.
    pub(crate) fn read(&self, ask: &Ask, out: &Outlet) -> Result<(), ReadingsError> {
        send(&self.kept, ask, out)
    }

    /// Ends recording, of all sources of the store.
    pub(crate) fn end(&self) {
        self.work.end();
    }

    /// The series, with number of readings, oldest and newest.
    pub(crate) fn known(&self) -> Vec<Known> {
        self.kept.known()
    }

    /// Times in which readings may be missing.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.kept.gaps()
    }

    /// How recording goes.
    pub(crate) fn state(&self) -> RecorderState {
        self.kept.state()
    }
}

/// Sends the readings that `ask` wants of those that are kept.
fn send(kept: &Kept, ask: &Ask, out: &Outlet) -> Result<(), ReadingsError> {
    let selector = &ask.selector;
    let snapshot = kept.snapshot(selector);
    let known = kept.known().into_iter().map(|known| known.key);
    let known = known.filter(|key| selector.matches(key));
    out.series(known.map(|key| Matching { key, when: None }))?;
    let mut scan = Scan::new();
    for segment in &snapshot.segments {
        stopped(ask)?;
        scan.add(&segment.path, |entry| {
            selector.matches(&entry.key) && selector.overlaps(entry.oldest, entry.newest)
        })?;
    }
    let mut fresh = snapshot.rows;
    let keys = scan.series().chain(fresh.keys()).cloned();
    let keys: BTreeSet<SeriesKey> = keys.collect();
    for key in &keys {
        let fresh = fresh.remove(key).unwrap_or_default();
        let within = (selector.from, selector.to);
        // Handing over costs more than copying what days have few of.
        let mut some = Segment::default();
        scan.read(key, fresh, within, &mut |segment| {
            stopped(ask)?;
            some.append(segment);
            if some.rows() >= PIECE {
                out.readings(key, std::mem::take(&mut some))?;
            }
            Ok(())
        })?;
        if some.rows() > 0 {
            out.readings(key, some)?;
        }
        let effort = scan.effort();
        out.fetched(effort.rows, effort.bytes)?;
    }
    tell(&snapshot.gaps, kept, ask, out)
}

/// Says which readings of the range may be missing.
fn tell(gaps: &[Gap], kept: &Kept, ask: &Ask, out: &Outlet) -> Result<(), ReadingsError> {
    let within = |gap: &&Gap| ask.selector.overlaps(gap.from, gap.to);
    for gap in gaps.iter().filter(within) {
        out.gap(gap.told(&kept.source))?;
    }
    Ok(())
}

fn stopped(ask: &Ask) -> Result<(), Stopped> {
    if ask.is_stopped() {
        return Err(Stopped);
    }
    Ok(())
}

fn thread(
    name: &str,
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, ReadingsError> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || work(&shared));
    started.map_err(ReadingsError::Thread)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        // Every change is complete when the lock is given back.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread that makes segments (`keep`), or the one that writes.
    fn wish(&self, keep: bool) {
        let mut wishes = self.lock();
        if keep {
            wishes.due = true;
            self.keep.notify_one();
        } else if !wishes.urgent {
            wishes.urgent = true;
            self.log.notify_one();
        }
    }

    /// Writes what waits, until the end.
    fn log(&self) {
        loop {
            let until = Instant::now() + LOG;
            let mut wishes = self.lock();
            while !wishes.urgent && !wishes.end {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let woken = self.log.wait_timeout(wishes, left);
                wishes = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            wishes.urgent = false;
            let (end, sources) = (wishes.end, wishes.sources.clone());
            drop(wishes);
            for source in &sources {
                if end {
                    source.end(now());
                    continue;
                }
                source.log(now());
                if source.is_due() {
                    self.wish(true);
                }
            }
            if end {
                return;
            }
        }
    }

    /// Makes segments, merges and removes them, until the end.
    fn keep(&self, mut clock: Clock) {
        let own = rustix::thread::gettid();
        if let Err(e) = rustix::process::setpriority_process(Some(own), NICE) {
            tracing::debug!("readings are merged at ordinary priority: {e}");
        }
        loop {
            let mut wishes = self.lock();
            if !wishes.due && !wishes.end {
                let woken = self.keep.wait_timeout(wishes, KEEP);
                wishes = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            wishes.due = false;
            let (end, sources) = (wishes.end, wishes.sources.clone());
            drop(wishes);
            if end {
                return;
            }
            if sources.is_empty() {
                continue;
            }
            let arrived = sources.iter().filter_map(|source| source.arrived).max();
            let age = clock.look(now(), clock::up(), arrived);
            clock.save(&self.disk);
            for source in &sources {
                // A defect of an encoder must not end recording.
                let kept = catch_unwind(AssertUnwindSafe(|| source.keep(now(), &age)));
                if kept.is_err() {
                    tracing::error!("source {}: making segments panicked", source.source);
                }
            }
        }
    }
}

impl AtWork {
    /// Writes what waits, and that the broker ended; what is recorded later is not
    /// kept.
    fn end(&self) {
        let threads = self.threads.lock();
        let mut threads = threads.unwrap_or_else(PoisonError::into_inner);
        if threads.is_empty() {
            return;
        }
        self.shared.lock().end = true;
        self.shared.log.notify_all();
        self.shared.keep.notify_all();
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        if let Err(e) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::debug!("the readings folder stays locked until the broker is gone: {e}");
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
