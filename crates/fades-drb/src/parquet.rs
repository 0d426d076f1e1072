//! Parquet as a source.
//!
//! ```text
//! ParquetSource ── Layout            compiled options, fixed for good
//! file ── FileIndex                  what its footer says, and whose rows are in
//!             │                      which row group; kept while the file is the same
//!             ▼
//!         parts of each series ── gather ── readings, sorted
//! ```
//! Rows may be in any order. As many series as fit into [`BUDGET`] are gathered at
//! a time, from the row groups that have them; a series that is larger is gathered
//! from one time to the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fades_task::coverage::LossReason;

use crate::columns::BlobError;
use crate::config::{FieldError, ParquetSource};
use crate::csv::{Identity, ReadError, list_files};
use crate::flow::{Ask, Matching, Outlet, Stopped};
use crate::selector::Selector;
use crate::series::{MAX_SERIES, SeriesKey};
use crate::source::{Known, Setting};

mod column;
mod gather;
mod index;
mod layout;

pub(crate) use layout::Layout;

use gather::Part;
use index::{FileIndex, Owners};

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParquetError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    List(#[from] ReadError),
    #[error("{path}: it {reason}")]
    File { path: PathBuf, reason: BlobError },
    #[error("{path} has no column {column:?}; its columns are: {have}")]
    NoColumn {
        path: PathBuf,
        column: String,
        have: String,
    },
    #[error("column {column:?} of {path} cannot be used: {reason}")]
    Column {
        path: PathBuf,
        column: String,
        reason: &'static str,
    },
    #[error("{0} changed while it was read: write a new file and rename it over the old one")]
    Changed(PathBuf),
    #[error(
        "more than {MAX_SERIES} series in one source; does a template name a column that changes \
         in every row?"
    )]
    TooManySeries,
    #[error(
        "{kind} of {device} has more than {most} readings in row groups whose times overlap: write \
         the files in the order of time",
        most = gather::MOST
    )]
    Unsorted { device: Arc<str>, kind: Arc<str> },
}

/// Rows that are gathered at a time.
const BUDGET: u64 = 1 << 20;

/// The source at work.
#[derive(Debug)]
pub(crate) struct ParquetFiles {
    layout: Layout,
    base: PathBuf,
    owners: Owners,
    files: Mutex<HashMap<PathBuf, Arc<FileIndex>>>,
}

/// What the files have for an ask.
#[derive(Default)]
struct Found {
    series: BTreeMap<SeriesKey, Vec<Part>>,
    /// Rows that cannot be used, of row groups that can have what is wanted.
    lost: BTreeMap<LossReason, u64>,
    files: Vec<Arc<FileIndex>>,
    /// All series that match in row groups that were looked at, also those without
    /// readings in the range; and the times of these row groups.
    matching: BTreeMap<SeriesKey, Vec<(i64, i64)>>,
}

impl ParquetFiles {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(config: &ParquetSource, setting: &Setting) -> Result<Self, FieldError> {
        Ok(Self {
            layout: Layout::compile(config)?,
            base: setting.base.clone(),
            owners: Owners::default(),
            files: Mutex::default(),
        })
    }

    /// What it reads, in words.
    pub(crate) fn reads(&self) -> String {
        self.layout.globs.join(", ")
    }

    /// Whether it can have readings that match, without asking it.
    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        self.layout.may_match(selector)
    }

    /// Sends the readings that `ask` wants, series after series.
    pub(crate) fn fetch(&self, ask: &Ask, out: &Outlet) -> Result<(), ParquetError> {
        let found = self.found(&ask.selector, &ask.stop)?;
        out.series(series(&found.matching))?;
        for (reason, rows) in &found.lost {
            out.lost(*reason, *rows, None)?;
        }
        let mut together: Vec<(&SeriesKey, &[Part])> = Vec::new();
        let mut rows = 0;
        for (key, parts) in &found.series {
            let of_series: u64 = parts.iter().map(|p| p.rows).sum();
            if rows + of_series > BUDGET && !together.is_empty() {
                self.send(&found, &together, ask, out)?;
                together.clear();
                rows = 0;
            }
            if of_series > BUDGET {
                self.send_long(&found, key, parts, ask, out)?;
            } else {
                together.push((key, parts));
                rows += of_series;
            }
        }
        self.send(&found, &together, ask, out)
    }

    /// The series, as far as they can be known without reading everything.
    pub(crate) fn known(&self, stop: &Arc<AtomicBool>) -> Result<Vec<Known>, ParquetError> {
        let found = self.found(&Selector::all(), stop)?;
        let known = found.series.into_iter().map(|(key, parts)| Known {
            key,
            readings: Some(parts.iter().map(|p| p.rows).sum()),
            oldest: parts.iter().map(|p| p.oldest).min(),
            newest: parts.iter().map(|p| p.newest).max(),
        });
        Ok(known.collect())
    }

    /// Finds out which row groups have what is wanted.
    fn found(&self, selector: &Selector, stop: &AtomicBool) -> Result<Found, ParquetError> {
        let mut found = Found::default();
        let files = list_files(&self.base, &self.layout.globs)?.files;
        self.forget(&files);
        for path in files {
            let file = self.indexed(path)?;
            let number = found.files.len();
            for (group, times) in file.groups(selector) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Stopped.into());
                }
                let index = file.group(group, &self.layout, &self.owners)?;
                let mut wanted = false;
                for span in &index.spans {
                    let names = self.owners.names(span.owner);
                    for (point, rule) in self.layout.points.iter().enumerate() {
                        let key = rule.key(&names);
                        if !selector.matches(&key) {
                            continue;
                        }
                        wanted = true;
                        let looked = found.matching.entry(key.clone()).or_default();
                        looked.push(times);
                        if selector.overlaps(span.oldest, span.newest) {
                            let part = Part {
                                file: number,
                                group,
                                owner: span.owner,
                                point,
                                rows: span.rows,
                                oldest: span.oldest,
                                newest: span.newest,
                            };
                            found.series.entry(key).or_default().push(part);
                        }
                    }
                }
                if wanted || index.spans.is_empty() {
                    for (reason, rows) in &index.lost {
                        *found.lost.entry(*reason).or_default() += rows;
                    }
                }
            }
            found.files.push(file);
        }
        Ok(found)
    }

    /// The index of a file, the one that was made before if the file is the same.
    fn indexed(&self, path: PathBuf) -> Result<Arc<FileIndex>, ParquetError> {
        let state = identity(&path)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&path).filter(|file| file.state == state) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(FileIndex::open(&path, state, &self.layout)?);
        files.insert(path, Arc::clone(&file));
        Ok(file)
    }

    /// Forgets files that are no more.
    fn forget(&self, there: &[PathBuf]) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // The list is sorted.
        files.retain(|path, _| there.binary_search(path).is_ok());
    }
}

/// Series with the times of the row groups that they were found in: who asks for
/// other times does not look at these.
fn series(matching: &BTreeMap<SeriesKey, Vec<(i64, i64)>>) -> impl Iterator<Item = Matching> {
    let mut known: HashSet<Arc<[(i64, i64)]>> = HashSet::new();
    matching.iter().map(move |(key, times)| {
        let times = united(times.clone());
        // Most series are in the same row groups.
        let when = match known.get(times.as_slice()) {
            Some(when) => Arc::clone(when),
            None => {
                let when: Arc<[_]> = times.into();
                known.insert(Arc::clone(&when));
                when
            }
        };
        Matching {
            key: key.clone(),
            when: Some(when),
        }
    })
}

/// Times that overlap or touch each other as one.
fn united(mut times: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    times.sort_unstable();
    let mut united: Vec<(i64, i64)> = Vec::new();
    for (oldest, newest) in times {
        match united.last_mut() {
            Some(last) if oldest <= last.1.saturating_add(1) => last.1 = last.1.max(newest),
            _ => united.push((oldest, newest)),
        }
    }
    united
}

fn identity(path: &PathBuf) -> Result<Identity, ParquetError> {
    let metadata = std::fs::metadata(path).map_err(|e| ParquetError::File {
        path: path.clone(),
        reason: BlobError::Open(e),
    })?;
    Ok(Identity::of(&metadata))
}

#[cfg(test)]
mod tests;
