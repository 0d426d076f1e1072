//! Batch files: the rows of one DTO and nothing else, read-only for whoever
//! gets the descriptor.
//!
//! ```text
//! reserve (budget) → make (place) → fallocate → map, fill, unmap → lock → hand out
//! ```
//! A file is preallocated before it is mapped, so that a full file system is an
//! error and not a signal; it is unmapped and closed for writing before its
//! read-only descriptor exists; and it is never used for another batch.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use fades_abi::batch::{BatchError, Draft, SeriesSpec, encoded_length, order};

use crate::chunk::{Capacity, Chunk, ChunkSeries};

mod budget;
mod mapping;
mod memfd;
mod place;
mod tmpfs;

pub(crate) use budget::{Budget, Lease, Urgency};
pub(crate) use place::Place;

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
    /// Readings in it.
    pub(crate) readings: u64,
    /// Devices that they are of, each once.
    pub(crate) devices: Vec<Arc<str>>,
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

    /// The folders in which batches are made and opened again.
    pub(crate) fn roots(&self) -> Vec<BorrowedFd<'_>> {
        self.place.roots()
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
        let series: Vec<ChunkSeries> = chunk.series.into_iter().filter(|s| s.rows() > 0).collect();
        let specs: Vec<SeriesSpec<'_>> = series.iter().map(spec).collect();
        let marks = series.iter().any(ChunkSeries::has_marks);
        let readings = specs.iter().map(|s| s.rows).sum();
        let mut devices: Vec<_> = series.iter().map(|s| Arc::clone(&s.key.device)).collect();
        devices.dedup();
        let used = encoded_length(&specs, marks) as u64;
        let length = used.next_multiple_of(fades_abi::INPUT_PAGE);
        lease.shrink(length);
        let descriptor = self.place.written(used, length, |memory| {
            let Label { dto, sequence } = label;
            let draft = Draft::new(memory, dto, sequence, order::SERIES, &specs, marks)?;
            fill(draft, &series);
            Ok(())
        })?;
        Ok(BatchFile {
            descriptor,
            length,
            readings,
            devices,
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

/// Rows from which on several threads fill a batch: the kernel clears its pages
/// meanwhile, which takes about as long.
const MANY_ROWS: usize = 256 << 10;

fn fill(draft: Draft<'_>, series: &[ChunkSeries]) {
    let rows = draft.time.len();
    let threads = match rows {
        0..MANY_ROWS => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let share = rows.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let (mut rest, mut series) = (draft, series);
        while !series.is_empty() {
            let n = first_with(series, share);
            let (part, after) = series.split_at(n);
            let (columns, left) = split(rest, part.iter().map(ChunkSeries::rows).sum());
            (rest, series) = (left, after);
            // The last part is for this thread.
            if series.is_empty() {
                fill_part(columns, part);
            } else {
                scope.spawn(move || fill_part(columns, part));
            }
        }
    });
}

/// How many series have at least `rows` rows together; all when there are fewer.
fn first_with(series: &[ChunkSeries], rows: usize) -> usize {
    let mut sum = 0;
    let found = series.iter().position(|s| {
        sum += s.rows();
        sum >= rows
    });
    found.map_or(series.len(), |i| i + 1)
}

/// Cuts the columns behind `rows` rows.
fn split(draft: Draft<'_>, rows: usize) -> (Draft<'_>, Draft<'_>) {
    let (time, times) = draft.time.split_at_mut(rows);
    let (value, values) = draft.value.split_at_mut(rows);
    let (mark, marks) = draft.mark.map(|m| m.split_at_mut(rows)).unzip();
    let first = Draft { time, value, mark };
    let rest = Draft {
        time: times,
        value: values,
        mark: marks,
    };
    (first, rest)
}

fn fill_part(mut draft: Draft<'_>, series: &[ChunkSeries]) {
    let mut row = 0;
    for s in series {
        let first = row;
        for segment in &s.segments {
            let rows = row..row + segment.rows();
            draft.time[rows.clone()].copy_from_slice(&segment.time);
            draft.value[rows.clone()].copy_from_slice(&segment.value);
            if let Some(mark) = &mut draft.mark
                && !segment.mark.is_empty()
            {
                mark[rows.clone()].copy_from_slice(&segment.mark);
            }
            row = rows.end;
        }
        let mark = draft.mark.as_deref_mut().map(|m| &mut m[first..row]);
        sort(
            &mut draft.time[first..row],
            &mut draft.value[first..row],
            mark,
        );
    }
}

/// Sorts rows by time; rows of the same time keep their order.
fn sort(time: &mut [i64], value: &mut [f64], mark: Option<&mut [u8]>) {
    if time.is_sorted() {
        return;
    }
    let mut order: Vec<usize> = (0..time.len()).collect();
    order.sort_by_key(|&i| time[i]);
    permute(time, &order);
    permute(value, &order);
    if let Some(mark) = mark {
        permute(mark, &order);
    }
}

fn permute<T: Copy>(cells: &mut [T], order: &[usize]) {
    let sorted: Vec<T> = order.iter().map(|&i| cells[i]).collect();
    cells.copy_from_slice(&sorted);
}

#[cfg(test)]
mod tests;
