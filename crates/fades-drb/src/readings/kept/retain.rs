//! In the background: heads become segments, segments are merged, and what is too
//! old or too much goes.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use parquet::errors::ParquetError;

use super::Kept;
use super::rows::Sealed;
use crate::readings::ReadingsError;
use crate::readings::clock::Age;
use crate::readings::disk::{Tape, What};
use crate::readings::head;
use crate::readings::merge::{segment, tidy};
use crate::readings::scan::Scan;
use crate::readings::segment::{DAY, Precision, SegmentName, SegmentReader, SegmentWriter, Stored};
use crate::series::SeriesKey;

/// Segments of a day that is not over after which some are merged.
const MANY: usize = 8;

/// So long after its end a day counts as over.
const OVER: i64 = 3_600 * 1_000_000_000;

/// Rows by day and number of their series.
type ByDay = BTreeMap<(i64, u32), Vec<(i64, f64, u8)>>;

/// Rows as they are in a segment, series by series.
type Sorted<'a> = BTreeMap<&'a SeriesKey, Vec<(i64, f64, u8)>>;

impl Kept {
    /// Does what there is to do.
    pub(in crate::readings) fn keep(&self, now: i64, age: &Age) {
        let kept = self.flush().and_then(|()| {
            self.expire(age);
            self.merge(now)
        });
        let trouble = kept.err().map(|e| e.to_string());
        let mut state = self.lock();
        if trouble.is_some() && state.keep_trouble != trouble {
            let words = trouble.as_deref().unwrap_or_default();
            tracing::warn!("source {}: {words}", self.source);
        }
        state.keep_trouble = trouble;
    }

    /// Whether a head waits to be made into segments.
    pub(in crate::readings) fn is_due(&self) -> bool {
        !self.lock().sealed.is_empty()
    }

    /// Makes sealed heads into segments.
    fn flush(&self) -> Result<(), ReadingsError> {
        loop {
            let state = self.lock();
            let Some(sealed) = state.sealed.front().cloned() else {
                return Ok(());
            };
            let keys = Arc::clone(&state.keys);
            drop(state);
            let segments = self.flushed(&sealed, &keys)?;
            let path = head::path(self.path(), sealed.number);
            let written = |e| ReadingsError::write(&path, e);
            self.disk.sync_folder(self.path()).map_err(written)?;
            self.disk.remove(&path).map_err(written)?;
            self.disk.sync_folder(self.path()).map_err(written)?;
            let mut state = self.lock();
            state.segments.extend(segments);
            state.generation += 1;
            state.sealed_rows -= sealed.rows.len();
            state.sealed.pop_front();
        }
    }

    fn flushed(
        &self,
        sealed: &Sealed,
        keys: &[SeriesKey],
    ) -> Result<Vec<Arc<Stored>>, ReadingsError> {
        let mut days: BTreeMap<i64, Sorted<'_>> = BTreeMap::new();
        for ((day, series), rows) in by_day(sealed) {
            let sorted = days.entry(day).or_default();
            sorted.insert(&keys[series as usize], rows);
        }
        let segments = days.into_iter().map(|(day, series)| {
            let name = SegmentName {
                day,
                first: sealed.number,
                last: sealed.number,
            };
            let rows = || series.values().flatten();
            let precision = rows().map(|r| Precision::of(r.0)).min();
            let marks = rows().any(|r| r.2 != 0);
            self.write(name, What::Flush, precision, marks, |writer| {
                for (key, mut rows) in series {
                    tidy(&mut rows);
                    writer.put(key, &segment(&rows)).map_err(encoding)?;
                }
                Ok(())
            })
        });
        segments.collect()
    }

    /// Writes a segment until it is durable under its name, as soon as the folder is.
    fn write(
        &self,
        name: SegmentName,
        what: What,
        precision: Option<Precision>,
        marks: bool,
        fill: impl FnOnce(&mut SegmentWriter<Tape>) -> Result<(), ReadingsError>,
    ) -> Result<Arc<Stored>, ReadingsError> {
        let path = name.path(self.path());
        let new = path.with_extension("tmp");
        let failed = |e| ReadingsError::write(&path, e);
        let write = || -> Result<u64, ReadingsError> {
            let tape = self.disk.create(&new, what).map_err(failed)?;
            let precision = precision.unwrap_or(Precision::Nanos);
            let mut writer = SegmentWriter::new(tape, precision, marks).map_err(encoding)?;
            fill(&mut writer)?;
            let mut tape = writer.finish().map_err(encoding)?;
            tape.flush().and_then(|()| tape.sync()).map_err(failed)?;
            let bytes = tape.length().map_err(failed)?;
            self.disk.rename(&new, &path).map_err(failed)?;
            Ok(bytes)
        };
        let written = write();
        if written.is_err() {
            // Room for the next try; there is nothing else to be done about it.
            let _ = self.disk.remove(&new);
        }
        Ok(Stored::new(&self.disk, path.clone(), name, written?))
    }

    /// Merges the segments of days that have many.
    fn merge(&self, now: i64) -> Result<(), ReadingsError> {
        let mut days: BTreeMap<i64, Vec<Arc<Stored>>> = BTreeMap::new();
        for segment in &self.lock().segments {
            let day = days.entry(segment.name.day).or_default();
            day.push(Arc::clone(segment));
        }
        for (day, mut segments) in days {
            segments.sort_by_key(|s| s.name);
            let is_over = (day + 1).saturating_mul(DAY).saturating_add(OVER) < now;
            let least = if is_over { 2 } else { MANY };
            let run = mergeable(&segments);
            if run.len() >= least {
                self.merge_run(run)?;
            }
        }
        Ok(())
    }

    fn merge_run(&self, run: &[Arc<Stored>]) -> Result<(), ReadingsError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let name = SegmentName {
            last: last.name.last,
            ..first.name
        };
        let mut scan = Scan::new();
        let (mut precision, mut marks) = (None, false);
        for segment in run {
            let reader = SegmentReader::open(&segment.path)?;
            precision = precision.into_iter().chain([reader.precision()]).min();
            marks |= reader.marks();
            scan.add(&segment.path, |_| true)?;
        }
        let all = (i64::MIN, i64::MAX);
        let merged = self.write(name, What::Merge, precision, marks, |writer| {
            for key in scan.series() {
                scan.read(key, Vec::new(), all, &mut |segment| {
                    writer.put(key, &segment).map_err(encoding)
                })?;
            }
            Ok(())
        })?;
        let failed = |e| ReadingsError::write(self.path(), e);
        self.disk.sync_folder(self.path()).map_err(failed)?;
        let mut state = self.lock();
        state
            .segments
            .retain(|s| !run.iter().any(|r| r.name == s.name));
        state.segments.push(merged);
        state.generation += 1;
        drop(state);
        run.iter().for_each(|s| s.retire());
        Ok(())
    }

    /// Removes what is older than is to be kept, and the oldest days while there are
    /// more bytes than there may be.
    fn expire(&self, age: &Age) {
        let keep = self
            .record
            .keep
            .map(|keep| i64::try_from(keep.0).unwrap_or(i64::MAX));
        let least = keep.map_or(i64::MIN, |keep| age.now.saturating_sub(keep));
        let most = self.record.at_most.map_or(u64::MAX, |most| most.0);
        let mut state = self.lock();
        if keep.is_some() {
            if let (Some(words), None) = (&age.held, &state.age_trouble) {
                tracing::warn!("source {}: {words}", self.source);
            }
            state.age_trouble.clone_from(&age.held);
        }
        state.segments.sort_by_key(|s| s.name);
        let mut gone = Vec::new();
        while let Some(oldest) = state.segments.first() {
            if oldest.name.times().1 > least && state.bytes() <= most {
                break;
            }
            gone.push(state.segments.remove(0));
            state.generation += 1;
        }
        drop(state);
        for segment in gone {
            let rows = SegmentReader::open(&segment.path).map_or(0, |s| s.rows());
            self.lock().expired += rows;
            segment.retire();
        }
    }
}

/// Sorts the rows of a head by numbers: keys are texts, which take long to compare.
fn by_day(sealed: &Sealed) -> ByDay {
    let mut days = ByDay::new();
    for row in &sealed.rows {
        let rows = days.entry((row.time.div_euclid(DAY), row.series));
        let rows = rows.or_default();
        rows.push((row.time, row.value, row.mark));
    }
    days
}

/// The newest segments of a day, each older one as long as it is not much larger
/// than all newer ones together: so a reading is written anew only when its
/// segment doubles.
fn mergeable(segments: &[Arc<Stored>]) -> &[Arc<Stored>] {
    let mut bytes = 0;
    let mut start = segments.len();
    for segment in segments.iter().rev() {
        if bytes > 0 && segment.bytes > 2 * bytes {
            break;
        }
        bytes += segment.bytes;
        start -= 1;
    }
    &segments[start..]
}

fn encoding(e: ParquetError) -> ReadingsError {
    match e {
        ParquetError::External(e) => ReadingsError::Encode(e.to_string()),
        e => ReadingsError::Encode(e.to_string()),
    }
}
