//! Readings on their way from a source into a batch.

use crate::series::SeriesKey;

/// The readings of one batch.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) series: Vec<ChunkSeries>,
}

/// The readings of one series in a chunk.
#[derive(Debug)]
pub(crate) struct ChunkSeries {
    /// Number of the series in the run.
    pub(crate) id: u32,
    pub(crate) key: SeriesKey,
    /// No later chunk has readings of this series.
    pub(crate) complete: bool,
    /// In the order in which they stand in the source; their times may be out
    /// of order.
    pub(crate) segments: Vec<Segment>,
}

/// Some readings of one series.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Segment {
    pub(crate) time: Vec<i64>,
    pub(crate) value: Vec<f64>,
    /// Bits of [`fades_abi::batch::mark`]; empty when no reading has any.
    pub(crate) mark: Vec<u8>,
}

impl Segment {
    pub(crate) fn push(&mut self, time: i64, value: f64, mark: u8) {
        if mark != 0 && self.mark.is_empty() {
            self.mark.resize(self.time.len(), 0);
        }
        self.time.push(time);
        self.value.push(value);
        if mark != 0 || !self.mark.is_empty() {
            self.mark.push(mark);
        }
    }

    /// Adds readings at the end.
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.time.is_empty() {
            *self = other;
            return;
        }
        if !self.mark.is_empty() || !other.mark.is_empty() {
            self.mark.resize(self.time.len(), 0);
            other.mark.resize(other.time.len(), 0);
            self.mark.append(&mut other.mark);
        }
        self.time.append(&mut other.time);
        self.value.append(&mut other.value);
    }

    pub(crate) fn rows(&self) -> usize {
        self.time.len()
    }

    /// Drops readings whose value is NaN or infinite.
    pub(crate) fn keep_finite(&mut self) {
        if self.value.iter().all(|v| v.is_finite()) {
            return;
        }
        let finite: Vec<bool> = self.value.iter().map(|v| v.is_finite()).collect();
        self.keep_those(&finite);
    }

    /// Drops readings whose time is none of those that are wanted; `wanted` is asked
    /// once for each, in order.
    pub(crate) fn keep(&mut self, wanted: impl FnMut(i64) -> bool) {
        let wanted: Vec<bool> = self.time.iter().copied().map(wanted).collect();
        self.keep_those(&wanted);
    }

    fn keep_those(&mut self, which: &[bool]) {
        if which.iter().all(|keep| *keep) {
            return;
        }
        let keep = || which.iter().copied();
        let mut flags = keep();
        self.time.retain(|_| flags.next().unwrap_or_default());
        let mut flags = keep();
        self.value.retain(|_| flags.next().unwrap_or_default());
        let mut flags = keep();
        self.mark.retain(|_| flags.next().unwrap_or_default());
        if self.mark.iter().all(|&mark| mark == 0) {
            self.mark.clear();
        }
    }

    /// Cuts off the readings from number `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        Self {
            time: self.time.split_off(at),
            value: self.value.split_off(at),
            mark: self.mark.split_off(at.min(self.mark.len())),
        }
    }
}

impl ChunkSeries {
    pub(crate) fn rows(&self) -> usize {
        self.segments.iter().map(Segment::rows).sum()
    }

    pub(crate) fn has_marks(&self) -> bool {
        self.segments.iter().any(|s| !s.mark.is_empty())
    }
}

/// What fits into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Capacity {
    bytes: u64,
}

/// Header, columns and what aligning the columns can cost, bytes.
const FIXED: u64 = 1024;

/// A row with time, value and mark, bytes.
const ROW: u64 = 17;

impl Capacity {
    /// Of a batch of `bytes`, at least 2 MiB.
    pub(crate) const fn of(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Room for series and rows, bytes.
    pub(crate) const fn room(self) -> u64 {
        self.bytes - FIXED
    }

    /// Bytes of a batch whose series and rows take `room`.
    pub(crate) const fn bytes(room: u64) -> u64 {
        room + FIXED
    }

    /// What `rows` of a series take of the room.
    pub(crate) fn cost(key: &SeriesKey, rows: u64) -> u64 {
        let names = [&key.device, &key.kind, &key.unit, &key.location];
        let names: usize = names.iter().map(|n| n.len()).sum();
        size_of::<fades_abi::batch::Series>() as u64 + names as u64 + Self::rows_cost(rows)
    }

    /// What rows take of the room, without their series.
    pub(crate) const fn rows_cost(rows: u64) -> u64 {
        rows.saturating_mul(ROW)
    }

    /// Rows that fit into so much of the room.
    pub(crate) const fn rows_in(room: u64) -> u64 {
        room / ROW
    }

    /// Rows of one series that fit when it is alone.
    pub(crate) fn rows(self, key: &SeriesKey) -> u64 {
        Self::rows_in(self.room() - Self::cost(key, 0))
    }
}
