//! Finding what was kept before.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fades_task::identity::Name;

use super::days::{Days, Most};
use super::rows::{Rows, Sealed};
use super::{Kept, State};
use crate::config::Record;
use crate::readings::ReadingsError;
use crate::readings::disk::Disk;
use crate::readings::frame::Row;
use crate::readings::gaps::{Gap, GapReason, Gaps};
use crate::readings::head::{self, Found, Head};
use crate::readings::segment::{DAY, SegmentName, SegmentReader, Stored};

/// What is in a folder.
#[derive(Default)]
struct Listing {
    heads: Vec<u64>,
    segments: Vec<Arc<Stored>>,
}

impl Kept {
    /// Goes on with what is kept in `folder`, which is made if it is not there.
    pub(in crate::readings) fn open(
        disk: &Arc<Disk>,
        folder: &Path,
        source: &Name,
        record: &Record,
        now: i64,
    ) -> Result<Self, ReadingsError> {
        let failed = |e| ReadingsError::open(folder, e);
        fs::create_dir_all(folder).map_err(failed)?;
        let listing = list(disk, folder).map_err(failed)?;
        let mut state = State {
            keys: Arc::default(),
            numbers: HashMap::new(),
            rows: Rows::default(),
            durable: 0,
            at: i64::MIN,
            day: now.div_euclid(DAY),
            days: Days::default(),
            sealed: VecDeque::new(),
            sealed_rows: 0,
            next_head: 1,
            head_bytes: 0,
            segments: listing.segments,
            generation: 0,
            lost: None,
            gaps: Gaps::open(folder),
            saved: None,
            log_trouble: None,
            keep_trouble: None,
            age_trouble: None,
            expired: 0,
            recorded: 0,
        };
        let last = state.segments.iter().map(|s| s.name.last).max();
        let last = last.max(listing.heads.last().copied());
        state.next_head = last.unwrap_or_default() + 1;
        let found = listing.heads.iter().map(|&n| Found::read(folder, n));
        let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let gap = gap(&state, &found, now);
        let head = state.resume(disk, found).map_err(failed)?;
        let days = state
            .rows
            .from(0)
            .iter()
            .map(|row| row.time.div_euclid(DAY));
        state.days = Days::new(Most::default(), days, now.div_euclid(DAY));
        let kept = Self {
            source: source.clone(),
            folder: folder.to_owned(),
            record: *record,
            arrived: gap.map(|gap| gap.from),
            disk: Arc::clone(disk),
            state: Mutex::new(state),
            head: Mutex::new(head),
            known: Mutex::default(),
        };
        if let Some(gap) = gap {
            tracing::warn!("source {source}: {}", gap.words());
            kept.lock().gaps.add(gap);
            kept.save_gaps(true);
        }
        Ok(kept)
    }
}

impl State {
    /// Takes the readings of heads that were found; the last one is gone on with.
    fn resume(&mut self, disk: &Arc<Disk>, found: Vec<Found>) -> std::io::Result<Option<Head>> {
        let last = found.len().saturating_sub(1);
        let mut head = None;
        for (i, mut found) in found.into_iter().enumerate() {
            self.at = self.at.max(found.at.unwrap_or(i64::MIN));
            let numbers = found.series.iter().map(|key| self.known_number(key));
            let numbers: Vec<u32> = numbers.collect();
            let rows = std::mem::take(&mut found.rows).into_iter().map(|row| Row {
                series: numbers[row.series as usize],
                ..row
            });
            let rows: Vec<Row> = rows.collect();
            if i == last {
                self.durable = rows.len();
                self.rows = Rows::new(rows);
                self.day = self.at.div_euclid(DAY);
                // The number of a head that is sealed is the last one given.
                self.next_head = found.number + 1;
                let resumed = Head::resume(disk, &found, &numbers)?;
                self.head_bytes = resumed.length();
                head = Some(resumed);
            } else {
                self.sealed_rows += rows.len();
                let sealed = Sealed::new(found.number, rows, 0);
                self.sealed.push_back(Arc::new(sealed));
            }
        }
        Ok(head)
    }

    /// The number of a series that was kept before, however many there are.
    fn known_number(&mut self, key: &crate::series::SeriesKey) -> u32 {
        let next = self.keys.len() as u32;
        let number = *self.numbers.entry(key.clone()).or_insert(next);
        if number == next {
            Arc::make_mut(&mut self.keys).push(key.clone());
        }
        number
    }
}

/// What there is in a folder, without what is left over.
fn list(disk: &Arc<Disk>, folder: &Path) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    let (mut heads, mut segments) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if let Some(number) = head::number(&file) {
            heads.push(number);
        } else if let Some(name) = SegmentName::parse(&file) {
            segments.push((name, entry.path(), entry.metadata()?.len()));
        } else if file.ends_with(".tmp") {
            disk.remove(&entry.path())?;
        }
    }
    segments.sort();
    let names: Vec<SegmentName> = segments.iter().map(|(name, ..)| *name).collect();
    let is_over = |head: u64| names.iter().any(|n| n.is_merged() && n.has(head));
    let (over, mut heads): (Vec<u64>, Vec<u64>) = heads.into_iter().partition(|&n| is_over(n));
    for head in over {
        disk.remove(&head::path(folder, head))?;
    }
    heads.sort_unstable();
    for (name, path, bytes) in segments {
        let merged = names.iter().any(|n| n.covers(name) && *n != name);
        // A head that is there has all that was made of it.
        if merged || (!name.is_merged() && heads.contains(&name.first)) {
            disk.remove(&path)?;
        } else {
            listing.segments.push(Stored::new(disk, path, name, bytes));
        }
    }
    listing.heads = heads;
    Ok(listing)
}

/// The time since something was written last.
fn gap(state: &State, found: &[Found], now: i64) -> Option<Gap> {
    let written = found.iter().filter_map(|f| f.at).max();
    let from = written.or_else(|| newest(&state.segments))?;
    let closed = found.last().is_some_and(|f| f.closed && f.torn == 0);
    Some(Gap {
        from,
        to: now.max(from),
        reason: if closed {
            GapReason::Ended
        } else {
            GapReason::Crash
        },
        readings: 0,
    })
}

fn newest(segments: &[Arc<Stored>]) -> Option<i64> {
    let last = segments.iter().max_by_key(|s| s.name.last)?;
    let table = SegmentReader::open(&last.path).ok()?.table().ok()?;
    table.iter().map(|entry| entry.newest).max()
}
