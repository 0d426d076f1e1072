//! Batch files: the rows of one DTO and nothing else, read-only for whoever
//! gets the descriptor.
//!
//! ```text
//! reserve (budget) → make (place) → write → lock → hand out
//! ```
//! A file is written and never mapped here: the kernel need not clear pages that
//! are written whole, and a full file system is an error and not a signal. It is
//! closed for writing before anybody has its read-only descriptor, and never used
//! for another batch.

use std::path::Path;
use std::sync::Arc;

use fades_abi::batch::{
    BatchError, Column, Draft, Header, SeriesSpec, column, encoded_length, order,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};

mod budget;
mod memfd;
mod place;
mod tmpfs;

pub(crate) use budget::{Budget, Lease, Urgency};
pub(crate) use place::Place;
pub(crate) use tmpfs::own_user_namespace;

/// Why there is no batch file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The operating system refused.
    #[error(
        "cannot {what} of {length} bytes in {place}: {source}{}",
        remedy(source)
    )]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Length of the file.
        length: u64,
        /// Where.
        place: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// More than the budget allows for all batches together.
    #[error(
        "a batch of {length} bytes is more than the budget of {budget}: raise node.memory, or lower the size of a batch"
    )]
    Budget {
        /// Bytes needed.
        length: u64,
        /// The budget.
        budget: u64,
    },
    /// The tender's input window is none.
    #[error(
        "an input window of {window} bytes holds no batch: it must be a multiple of {} bytes",
        fades_abi::INPUT_PAGE
    )]
    Window {
        /// The window, bytes.
        window: u64,
    },
    /// The rows do not fit the layout, which is a defect of the broker.
    #[error("a batch could not be laid out: {0}")]
    Layout(#[from] BatchError),
}

fn remedy(e: &std::io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::ENOSPC | libc::ENOMEM) => {
            "; the memory for input is full: run fewer tasks at a time, or raise node.memory"
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "; no file descriptors are left: raise the limit (LimitNOFILE, ulimit -n)"
        }
        _ => "",
    }
}

/// A finished batch.
#[derive(Debug)]
pub(crate) struct BatchFile {
    /// Open for reading, and nothing else.
    pub(crate) descriptor: std::os::fd::OwnedFd,
    /// Length of the file, bytes.
    pub(crate) length: u64,
    /// Its share of the budget, given back when this is dropped.
    _lease: Lease,
}

/// Makes batch files.
#[derive(Debug)]
pub(crate) struct Batches {
    place: Place,
    budget: Arc<Budget>,
    chunk: u64,
}

/// Number and kind of a batch within a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) dto: u32,
    pub(crate) sequence: u32,
}

impl Batches {
    /// Batches of at most `chunk` bytes, `budget` bytes of them at any time;
    /// `folder` is where a file system of its own may be mounted.
    pub(crate) fn new(folder: &Path, budget: u64, chunk: u64) -> Result<Self, NoRoom> {
        Self::at(Place::find(folder, budget), budget, chunk)
    }

    /// Batches in a place that is known.
    pub(crate) fn at(place: Place, budget: u64, chunk: u64) -> Result<Self, NoRoom> {
        let page = fades_abi::INPUT_PAGE;
        // Four at a time: one that the function works on, one that waits for
        // it, one being filled, and one for another run.
        let chunk = chunk.min(budget / 4).max(page) / page * page;
        if budget < chunk {
            return Err(NoRoom::Budget {
                length: chunk,
                budget,
            });
        }
        Ok(Self {
            place,
            budget: Arc::new(Budget::new(budget)),
            chunk,
        })
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What fits into a batch: a file is never longer than a chunk.
    pub(crate) const fn capacity(&self) -> Capacity {
        Capacity::of(self.chunk)
    }

    /// What fits into a batch for a tender with an input window of so many bytes.
    pub(crate) fn capacity_within(&self, window: u64) -> Result<Capacity, NoRoom> {
        if window == 0 || !window.is_multiple_of(fades_abi::INPUT_PAGE) {
            return Err(NoRoom::Window { window });
        }
        Ok(Capacity::of(self.chunk.min(window)))
    }

    /// Writes the readings of `chunk`, of which there must be some, into a new
    /// file. `lease` covers at least the file's length; what is too much is
    /// given back.
    pub(crate) fn write(
        &self,
        label: Label,
        chunk: Chunk,
        mut lease: Lease,
    ) -> Result<BatchFile, NoRoom> {
        let mut series = chunk.series;
        series.retain(|s| s.rows() > 0);
        series.iter_mut().for_each(sort);
        let specs: Vec<SeriesSpec<'_>> = series.iter().map(spec).collect();
        let marks = series.iter().any(ChunkSeries::has_marks);
        let used = encoded_length(&specs, marks);
        let length = (used as u64).next_multiple_of(fades_abi::INPUT_PAGE);
        lease.shrink(length);
        // The layout wants the memory of the whole batch and touches its head: the
        // columns go from where they were gathered straight into the file.
        let mut memory = vec![0_u64; used.div_ceil(8)];
        let Label { dto, sequence } = label;
        Draft::new(
            memory.as_mut_bytes(),
            dto,
            sequence,
            order::SERIES,
            &specs,
            marks,
        )?;
        let pieces = pieces(memory.as_bytes(), &series)?;
        let descriptor = self.place.written(&pieces, length)?;
        Ok(BatchFile {
            descriptor,
            length,
            _lease: lease,
        })
    }
}

fn spec(series: &ChunkSeries) -> SeriesSpec<'_> {
    SeriesSpec {
        id: series.id,
        device: &series.key.device,
        kind: &series.key.kind,
        unit: &series.key.unit,
        location: &series.key.location,
        rows: series.rows() as u64,
        complete: series.complete,
    }
}

/// The bytes of a batch, in order. `memory` is laid out for it, its columns still
/// empty.
fn pieces<'a>(memory: &'a [u8], series: &'a [ChunkSeries]) -> Result<Vec<&'a [u8]>, BatchError> {
    let columns = columns(memory)?;
    let first = columns.iter().map(|c| c.offset).min().unwrap_or_default();
    let mut pieces = vec![&memory[..first as usize]];
    let mut at = first;
    let segments = || series.iter().flat_map(|s| &s.segments);
    for column in columns {
        zeros(&mut pieces, column.offset - at);
        match column.id {
            column::TIME => pieces.extend(segments().map(|s| s.time.as_bytes())),
            column::VALUE => pieces.extend(segments().map(|s| s.value.as_bytes())),
            column::MARK => {
                for segment in segments() {
                    if segment.mark.is_empty() {
                        zeros(&mut pieces, segment.rows() as u64);
                    } else {
                        pieces.push(&segment.mark);
                    }
                }
            }
            id => return Err(BatchError::Column(id)),
        }
        at = column.offset + column.length;
    }
    Ok(pieces)
}

/// The columns that a batch describes, by offset.
fn columns(memory: &[u8]) -> Result<Vec<Column>, BatchError> {
    let (header, rest) = Header::read_from_prefix(memory).map_err(|_| BatchError::Short)?;
    let columns = header.columns as usize;
    let (described, _) =
        <[Column]>::ref_from_prefix_with_elems(rest, columns).map_err(|_| BatchError::Short)?;
    let mut columns = described.to_vec();
    columns.sort_by_key(|c| c.offset);
    Ok(columns)
}

fn zeros(pieces: &mut Vec<&[u8]>, mut bytes: u64) {
    static ZEROS: [u8; 4096] = [0; 4096];
    while bytes > 0 {
        let n = bytes.min(ZEROS.len() as u64);
        pieces.push(&ZEROS[..n as usize]);
        bytes -= n;
    }
}

/// Sorts the rows of a series by time; rows of the same time keep their order.
fn sort(series: &mut ChunkSeries) {
    let mut last = i64::MIN;
    let is_sorted = series.segments.iter().all(|s| {
        let follows = s.time.first().is_none_or(|t| *t >= last) && s.time.is_sorted();
        last = s.time.last().copied().unwrap_or(last);
        follows
    });
    if is_sorted {
        return;
    }
    let rows = series.segments.iter().flat_map(|s| {
        let marks = s.mark.iter().copied().chain(std::iter::repeat(0));
        std::iter::zip(&s.time, &s.value).zip(marks)
    });
    let mut rows: Vec<(i64, f64, u8)> = rows.map(|((t, v), m)| (*t, *v, m)).collect();
    rows.sort_by_key(|row| row.0);
    let mut sorted = Segment::default();
    for (time, value, mark) in rows {
        sorted.push(time, value, mark);
    }
    series.segments = vec![sorted];
}

#[cfg(test)]
mod tests;
