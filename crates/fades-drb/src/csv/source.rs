//! The files of one source: which there are, what is in them.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::{Format, Shape};
use super::index::{FileIndex, Kept, Orphan, Whose};
use super::input::ReadError;
use super::listing::{Listing, Snapshot};
use super::scan::{Head, ReadBlock, Scanner, Started, join};
use crate::config::CsvSource;
use crate::pool::Pool;
use crate::selector::Selector;
use crate::series::{SeriesKey, SeriesTable};
use crate::tally::{MOST_CITED, Tally};

/// A CSV source at work.
pub(crate) struct CsvFiles {
    pub(super) format: Arc<Format>,
    pub(super) series: Arc<SeriesTable>,
    base: PathBuf,
    listing: Mutex<Listing>,
    kept: Mutex<Kept>,
    /// Held while indexes are made, so that two runs do not make the same ones.
    scanning: Mutex<()>,
}

/// What a selector means just now.
pub(crate) struct Plan {
    /// The files with readings that match, sorted by path.
    pub(crate) files: Vec<Arc<FileIndex>>,
    /// The series that match, in the order in which a function gets them.
    pub(crate) series: Vec<Planned>,
    /// What is known before a reading is read: rows, bytes, and readings that
    /// are lost because their time or series is not known.
    pub(crate) tally: Tally,
}

/// A series of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Its number in the source.
    pub(crate) number: u32,
    pub(crate) key: SeriesKey,
    /// Readings at the most, lost ones included.
    pub(crate) most: u64,
}

impl CsvFiles {
    /// `csv` has been checked; `base` is where relative globs begin.
    pub(crate) fn new(csv: &CsvSource, base: &Path) -> Result<Self, crate::config::FieldError> {
        Ok(Self {
            format: Arc::new(Format::compile(csv)?),
            series: Arc::default(),
            base: base.to_path_buf(),
            listing: Mutex::default(),
            kept: Mutex::default(),
            scanning: Mutex::default(),
        })
    }

    /// The globs, in words.
    pub(crate) fn reads(&self) -> String {
        self.format.globs.join(", ")
    }

    /// Where relative names begin.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// A file's name in messages: relative to the base when it is below it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.base).unwrap_or(path);
        relative.display().to_string()
    }

    /// Whether the source can have readings that match, without looking into
    /// its files.
    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        match &self.format.shape {
            Shape::Wide(points) => points.iter().any(|p| selector.kind(&p.kind)),
            Shape::Long { .. } => true,
        }
    }

    /// The files as they are now.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, ReadError> {
        lock(&self.listing).snapshot(&self.base, &self.format)
    }

    /// Indexes of the files that can have readings that match, new ones made
    /// where files are new or changed.
    fn indexes(
        &self,
        pool: &Pool,
        snapshot: &Arc<Snapshot>,
        selector: &Selector,
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Arc<FileIndex>>, ReadError> {
        let _one_at_a_time = lock(&self.scanning);
        let mut found = Vec::with_capacity(snapshot.files.len());
        let mut new = Vec::new();
        {
            let mut kept = lock(&self.kept);
            kept.retain(&snapshot.files);
            // Files whose name says that they do not match are left out.
            let files = snapshot.files.iter().zip(&snapshot.states);
            let worth = files.filter(|(f, _)| {
                let device = f.device.as_ref();
                let location = f.location.as_ref();
                device.is_none_or(|d| selector.device(d))
                    && location.is_none_or(|l| selector.location(l))
            });
            for (file, state) in worth {
                match kept.find(&file.path, *state) {
                    Some(index) => found.push(index),
                    None => new.push(file.path.clone()),
                }
            }
        }
        if new.is_empty() {
            return Ok(found);
        }
        let mut layout = found.last().map(|i| Arc::clone(&i.layout));
        for mut index in self.scan(pool, new, stop)? {
            // Files of a source mostly have the same columns.
            match &layout {
                Some(same) if *same == index.layout => index.layout = Arc::clone(same),
                _ => layout = Some(Arc::clone(&index.layout)),
            }
            let index = Arc::new(index);
            lock(&self.kept).keep(&index);
            found.push(index);
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn scan(
        &self,
        pool: &Pool,
        paths: Vec<PathBuf>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<FileIndex>, ReadError> {
        let scanner = Scanner {
            format: Arc::clone(&self.format),
            series: Arc::clone(&self.series),
            stop: Arc::clone(stop),
        };
        let parts = scanner.clone();
        let started = pool.map(paths, move |path| scanner.start(&path));
        let mut indexes = Vec::new();
        for started in started {
            indexes.push(match started.map_err(|_| ReadError::Defect)?? {
                Started::Whole(index) => index,
                Started::Cut(head, cuts) => in_parts(pool, &parts, head, cuts)?,
            });
        }
        Ok(indexes)
    }

    /// What `selector` means for the files as they are now.
    pub(crate) fn plan_now(
        &self,
        pool: &Pool,
        selector: &Selector,
        stop: &Arc<AtomicBool>,
    ) -> Result<Plan, ReadError> {
        self.plan(pool, &self.snapshot()?, selector, stop)
    }

    /// What `selector` means for the files as they were when `snapshot` was made,
    /// or are by now.
    pub(crate) fn plan(
        &self,
        pool: &Pool,
        snapshot: &Arc<Snapshot>,
        selector: &Selector,
        stop: &Arc<AtomicBool>,
    ) -> Result<Plan, ReadError> {
        let indexes = self.indexes(pool, snapshot, selector, stop)?;
        let keys = self.series.keys();
        let selected: Vec<bool> = keys.iter().map(|k| selector.matches(k)).collect();
        let mut most: Vec<Option<u64>> = vec![None; keys.len()];
        let mut tally = Tally::default();
        let mut files = Vec::new();
        for index in indexes {
            let mut needed = false;
            for block in &index.blocks {
                let mut block_needed = false;
                for span in block.spans.iter().filter(|s| selected[s.series as usize]) {
                    let most = most[span.series as usize].get_or_insert(0);
                    if selector.overlaps(span.oldest, span.newest) {
                        *most += span.readings + span.lost;
                        block_needed = true;
                    }
                }
                if block_needed {
                    tally.rows += block.rows;
                    tally.bytes += if index.compressed {
                        0
                    } else {
                        block.end - block.start
                    };
                }
                needed |= block_needed;
            }
            if needed && index.compressed {
                tally.bytes += index.identity.size;
            }
            if index.in_range(|oldest, newest| selector.overlaps(oldest, newest)) {
                self.count_orphans(&index, selector, &selected, &mut most, &mut tally);
            }
            if needed {
                files.push(index);
            }
        }
        Ok(Plan {
            files,
            series: planned(keys, &most),
            tally,
        })
    }

    fn count_orphans(
        &self,
        index: &FileIndex,
        selector: &Selector,
        selected: &[bool],
        most: &mut [Option<u64>],
        tally: &mut Tally,
    ) {
        for orphan in &index.orphans {
            let counts = match (orphan.whose, &self.format.shape) {
                (Whose::Series(number, _), _) => {
                    let selected = selected[number as usize];
                    if selected {
                        most[number as usize].get_or_insert(0);
                    }
                    selected
                }
                (Whose::Point(point), Shape::Wide(points)) => {
                    selector.kind(&points[point as usize].kind)
                }
                (Whose::Point(_), Shape::Long { .. }) => true,
            };
            if counts {
                tally.lose(orphan.reason, orphan.count);
                self.cite(index, orphan, tally);
            }
        }
    }

    fn cite(&self, index: &FileIndex, orphan: &Orphan, tally: &mut Tally) {
        let file = self.shown(&index.path);
        for &line in orphan.lines.iter().take(MOST_CITED) {
            if tally.would_cite(&file, line) {
                tally.cite(fades_task::coverage::BadRow {
                    file: file.clone(),
                    line,
                    column: self
                        .format
                        .column_blamed(orphan.blame, orphan.whose.point()),
                    reason: orphan.reason,
                });
            }
        }
    }
}

/// The series that were met, sorted by device, location and kind.
fn planned(keys: Vec<SeriesKey>, most: &[Option<u64>]) -> Vec<Planned> {
    let mut series: Vec<Planned> = (0..)
        .zip(keys)
        .zip(most)
        .filter_map(|((number, key), most)| {
            Some(Planned {
                number,
                key,
                most: (*most)?,
            })
        })
        .collect();
    series.sort_by(|a, b| a.key.cmp(&b.key));
    series
}

fn in_parts(
    pool: &Pool,
    scanner: &Scanner,
    head: Arc<Head>,
    cuts: Vec<(u64, u64)>,
) -> Result<FileIndex, ReadError> {
    let (scanner, of) = (scanner.clone(), Arc::clone(&head));
    let parts = pool.map(cuts, move |cut| scanner.part(&of, cut));
    let parts: Vec<ReadBlock> = parts
        .into_iter()
        .map(|p| p.map_err(|_| ReadError::Defect)?)
        .collect::<Result<_, _>>()?;
    Ok(join(&head, parts))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole whenever a lock is given back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
