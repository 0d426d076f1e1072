//! Reading series after series out of several segments and what is not in any yet.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ReadingsError;
use super::merge::{Once, PIECE, Place, merge, segment, tidy};
use super::segment::{Cursor, Entry, SegmentReader};
use crate::chunk::Segment;
use crate::series::SeriesKey;

/// Segments that are open at a time: each has pages of its columns in memory, some
/// 50 to 200 KB.
const OPEN: usize = 400;

/// What there is of some series.
pub(super) struct Scan {
    slots: Vec<Slot>,
    /// The slots that are open, the one opened last at the end.
    open: RefCell<Vec<usize>>,
    /// Where the readings of a series are: index of the slot, and rows in it.
    parts: BTreeMap<SeriesKey, Vec<Part>>,
    rows: Cell<u64>,
    bytes: Cell<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    slot: usize,
    start: u64,
    rows: u64,
    oldest: i64,
    newest: i64,
}

/// A segment that is read from its beginning to its end.
struct Slot {
    path: PathBuf,
    open: RefCell<Option<(SegmentReader, Cursor)>>,
}

/// Rows that were looked at and bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Scan {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            open: RefCell::new(Vec::new()),
            parts: BTreeMap::new(),
            rows: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// Adds the series of a segment that `wanted` says.
    pub(super) fn add(
        &mut self,
        path: &Path,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<(), ReadingsError> {
        let table = SegmentReader::open(path)?.table()?;
        let slot = self.slots.len();
        let mut any = false;
        for entry in table.into_iter().filter(wanted) {
            let part = Part {
                slot,
                start: entry.start,
                rows: entry.rows,
                oldest: entry.oldest,
                newest: entry.newest,
            };
            any = true;
            self.parts.entry(entry.key).or_default().push(part);
        }
        if any {
            self.slots.push(Slot {
                path: path.to_owned(),
                open: RefCell::default(),
            });
        }
        Ok(())
    }

    /// The series in segments.
    pub(super) fn series(&self) -> impl Iterator<Item = &SeriesKey> {
        self.parts.keys()
    }

    /// What was read since this was asked last.
    pub(super) fn effort(&self) -> Effort {
        Effort {
            rows: self.rows.take(),
            bytes: self.bytes.take(),
        }
    }

    /// Hands on the readings of a series from `within.0` to before `within.1`, in
    /// order and each once. `fresh`: those that are not in segments.
    pub(super) fn read(
        &self,
        key: &SeriesKey,
        mut fresh: Vec<(i64, f64, u8)>,
        within: (i64, i64),
        each: &mut dyn FnMut(Segment) -> Result<(), ReadingsError>,
    ) -> Result<(), ReadingsError> {
        let parts = self.parts.get(key).map_or(&[][..], Vec::as_slice);
        let mut sources: Vec<(i64, i64, Box<dyn Place + '_>)> = Vec::new();
        for part in parts {
            let place = Placed {
                scan: self,
                part: *part,
                within,
            };
            sources.push((part.oldest, part.newest, Box::new(place)));
        }
        tidy(&mut fresh);
        if let (Some(first), Some(last)) = (fresh.first(), fresh.last()) {
            let once = Once(Some(segment(&fresh)));
            sources.push((first.0, last.0, Box::new(once)));
        }
        sources.sort_by_key(|(oldest, ..)| *oldest);
        let mut together: Vec<Box<dyn Place + '_>> = Vec::new();
        let mut end = i64::MIN;
        for (oldest, newest, place) in sources {
            if oldest > end && !together.is_empty() {
                merge(std::mem::take(&mut together), each)?;
            }
            end = end.max(newest);
            together.push(place);
        }
        merge(together, each)
    }

    /// The next rows of a part.
    fn next(&self, part: &mut Part, within: (i64, i64)) -> Result<Segment, ReadingsError> {
        let slot = &self.slots[part.slot];
        if slot.open.borrow().is_none() {
            self.make_room();
            let reader = SegmentReader::open(&slot.path)?;
            *slot.open.borrow_mut() = Some((reader, SegmentReader::cursor()));
            self.open.borrow_mut().push(part.slot);
        }
        let mut open = slot.open.borrow_mut();
        let Some((reader, cursor)) = &mut *open else {
            return Ok(Segment::default());
        };
        let most = usize::try_from(part.rows).unwrap_or(PIECE).min(PIECE);
        let got = reader.read(cursor, part.start, most, within)?;
        part.start += got.passed as u64;
        part.rows -= got.passed as u64;
        if got.is_past {
            part.rows = 0;
        }
        self.rows.set(self.rows.get() + got.passed as u64);
        self.bytes.set(self.bytes.get() + cursor.take_bytes());
        Ok(got.segment)
    }

    /// Closes a segment when many are open. Series after series goes through all of
    /// them in the same order, so the one that was opened last is wanted last.
    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        if open.len() >= OPEN
            && let Some(slot) = open.pop()
        {
            drop(self.slots[slot].open.take());
        }
    }
}

/// The readings of a series in a segment.
struct Placed<'a> {
    scan: &'a Scan,
    part: Part,
    within: (i64, i64),
}

impl Place for Placed<'_> {
    fn next(&mut self) -> Result<Option<Segment>, ReadingsError> {
        while self.part.rows > 0 {
            let segment = self.scan.next(&mut self.part, self.within)?;
            if segment.rows() > 0 {
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{OPEN, Scan};
    use crate::chunk::Segment;
    use crate::readings::segment::{Precision, SegmentWriter};
    use crate::series::SeriesKey;

    fn key(device: &str) -> SeriesKey {
        SeriesKey {
            device: device.into(),
            location: "hall/1".into(),
            kind: "t".into(),
            unit: "Cel".into(),
        }
    }

    #[test]
    fn many_segments_are_read_while_few_are_open() {
        const SEGMENTS: usize = OPEN + 20;
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a", "b"].map(key);
        let mut scan = Scan::new();
        for i in 0..SEGMENTS as i64 {
            let path = folder.path().join(i.to_string());
            let file = std::fs::File::create(&path).unwrap();
            let mut writer = SegmentWriter::new(file, Precision::Nanos, false).unwrap();
            // All of them at the same time, so that they are read together.
            let readings = Segment {
                time: vec![i, 10_000 + i],
                value: vec![i as f64, -1.0],
                mark: Vec::new(),
            };
            keys.iter()
                .for_each(|key| writer.put(key, &readings).unwrap());
            drop(writer.finish().unwrap());
            scan.add(&path, |_| true).unwrap();
        }
        for key in &keys {
            let mut times = Vec::new();
            let within = (i64::MIN, i64::MAX);
            let mut each = |segment: Segment| {
                times.extend(segment.time);
                Ok(())
            };
            scan.read(key, Vec::new(), within, &mut each).unwrap();
            let all = 0..SEGMENTS as i64;
            let all: Vec<i64> = all.clone().chain(all.map(|i| 10_000 + i)).collect();
            assert_eq!(times, all);
            let open = scan.slots.iter().filter(|s| s.open.borrow().is_some());
            assert_eq!(open.count(), OPEN);
        }
    }
}
