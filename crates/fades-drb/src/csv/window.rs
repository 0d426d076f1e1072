//! Series that are larger than a batch.
//!
//! The oldest readings that fit into a batch are selected, handed on, and then
//! the next ones, until there are no more. Blocks that cannot have any of the
//! readings wanted are left out, so that of files in order of time each block
//! is parsed about once for each batch that has readings of it; memory is a
//! batch and a few blocks, whatever the order of the rows.

use std::sync::Arc;

use fades_task::coverage::LossReason;

use super::gather::{BlockReader, Fetch, FetchError, Piece, defect, pieces};
use super::index::FileIndex;
use super::input::ReadError;
use super::rows::{Blame, Found, Lost, Sink, TooManySeries};
use super::source::{CsvFiles, Plan, Planned};
use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};
use crate::retrieve::Delivery;
use crate::series::SeriesKey;
use crate::tally::Tally;

/// Of the rows that fit into a batch one in so many is taken at a time: while
/// they are selected, readings take more memory than in a batch.
const SHARE: u64 = 4;

/// A reading, or the loss of one, with its place in the order.
#[derive(Debug, Clone, Copy)]
struct Entry {
    rank: Rank,
    value: f64,
    mark: u8,
    lost: Option<(LossReason, u32)>,
}

/// Order of readings: by time, those of the same time by place.
type Rank = (i64, u64);

/// Bits of the place that are the line; the file's position is above them.
const LINE_BITS: u32 = 40;

const fn place(position: u32, line: u64) -> u64 {
    ((position as u64) << LINE_BITS) | (line & ((1 << LINE_BITS) - 1))
}

/// Readings that are wanted next: after `after`, and up to `last` when as many
/// as fit are known already.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    after: Option<Rank>,
    last: Option<Rank>,
}

impl Bounds {
    fn has(&self, rank: Rank) -> bool {
        self.after.is_none_or(|a| rank > a) && self.last.is_none_or(|l| rank <= l)
    }

    /// Whether readings between two times can be wanted.
    fn overlap(&self, oldest: i64, newest: i64) -> bool {
        self.after.is_none_or(|(t, _)| newest >= t) && self.last.is_none_or(|(t, _)| oldest <= t)
    }
}

impl CsvFiles {
    /// Hands a large series to `delivery`, batch after batch.
    pub(super) fn windows(
        &self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        series: &Planned,
        id: u32,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), FetchError> {
        let capacity = (fetch.capacity.rows(&series.key) / SHARE) as usize;
        let bytes = Capacity::bytes(Capacity::cost(&series.key, capacity as u64));
        let job = Arc::new(WindowJob {
            reader: self.reader(fetch),
            number: series.number,
        });
        let mut after = None;
        loop {
            let lease = delivery.reserve(bytes)?;
            // One more than fits, to know whether this is the last batch.
            let mut entries = window(fetch, plan, &job, after, capacity + 1)?;
            let complete = entries.len() <= capacity;
            entries.truncate(capacity);
            after = entries.last().map(|e| e.rank);
            let (segment, tally) = job.split(&plan.files, &entries);
            let chunk = ChunkSeries {
                id,
                key: series.key.clone(),
                complete,
                segments: vec![segment],
            };
            let chunk = Chunk {
                series: vec![chunk],
            };
            delivery.take(chunk, tally, lease)?;
            if complete {
                return Ok(());
            }
        }
    }
}

/// The first `most` entries after `after`, in order.
fn window(
    fetch: &Fetch<'_>,
    plan: &Plan,
    job: &Arc<WindowJob>,
    after: Option<Rank>,
    most: usize,
) -> Result<Vec<Entry>, ReadError> {
    let mut bounds = Bounds { after, last: None };
    let mut pieces = pieces(&plan.files, |block| {
        job.span(block).is_some_and(|(o, n)| bounds.overlap(o, n))
    });
    // Oldest first: once enough is known, later blocks can be left out.
    pieces.sort_by_key(|p| job.oldest(p));
    let mut pieces = pieces.into_iter().peekable();
    let mut entries: Vec<Entry> = Vec::new();
    let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    while pieces.peek().is_some() {
        let wave: Vec<Piece> = pieces
            .by_ref()
            .filter(|p| bounds.overlap(job.oldest(p), i64::MAX))
            .take(at_once)
            .collect();
        let reading = Arc::clone(job);
        for read in fetch
            .pool
            .map(wave, move |p| reading.read(&p, bounds, most))
        {
            entries.extend(read.map_err(defect)??);
            keep_first(&mut entries, most);
        }
        if entries.len() == most {
            bounds.last = entries.iter().map(|e| e.rank).max();
        }
    }
    entries.sort_unstable_by_key(|e| e.rank);
    Ok(entries)
}

/// Drops all but the first `most` entries.
fn keep_first(entries: &mut Vec<Entry>, most: usize) {
    if entries.len() > most {
        entries.select_nth_unstable_by_key(most, |e| e.rank);
        entries.truncate(most);
    }
}

struct WindowJob {
    reader: BlockReader,
    number: u32,
}

impl WindowJob {
    /// Oldest and newest time of the series in a block.
    fn span(&self, block: &super::index::Block) -> Option<(i64, i64)> {
        let span = block.spans.iter().find(|s| s.series == self.number)?;
        let wanted = self.reader.selector.overlaps(span.oldest, span.newest);
        wanted.then_some((span.oldest, span.newest))
    }

    fn oldest(&self, piece: &Piece) -> i64 {
        let blocks = piece.blocks.iter().map(|&i| &piece.file.blocks[i]);
        let oldest = blocks
            .filter_map(|b| self.span(b))
            .map(|(oldest, _)| oldest);
        oldest.min().unwrap_or(i64::MAX)
    }

    fn read(&self, piece: &Piece, bounds: Bounds, most: usize) -> Result<Vec<Entry>, ReadError> {
        let mut sink = WindowSink {
            job: self,
            bounds,
            most,
            position: piece.position,
            entries: Vec::new(),
        };
        self.reader.read(piece, &mut sink)?;
        keep_first(&mut sink.entries, most);
        Ok(sink.entries)
    }

    /// Readings and losses apart.
    fn split(&self, files: &[Arc<FileIndex>], entries: &[Entry]) -> (Segment, Tally) {
        let (mut segment, mut tally) = (Segment::default(), Tally::default());
        for entry in entries {
            let Some((reason, point)) = entry.lost else {
                segment.push(entry.rank.0, entry.value, entry.mark);
                tally.used += 1;
                tally.marked += u64::from(entry.mark != 0);
                continue;
            };
            let file = &files[(entry.rank.1 >> LINE_BITS) as usize];
            let lost = Lost {
                place: Some(0),
                point,
                time: Some(entry.rank.0),
                line: entry.rank.1 & ((1 << LINE_BITS) - 1),
                reason,
                blame: Blame::Value,
            };
            self.reader
                .count(&mut tally, &self.reader.shown(file), &lost);
        }
        (segment, tally)
    }
}

struct WindowSink<'a> {
    job: &'a WindowJob,
    bounds: Bounds,
    most: usize,
    position: u32,
    entries: Vec<Entry>,
}

impl WindowSink<'_> {
    fn push(&mut self, entry: Entry) {
        if self.bounds.has(entry.rank) {
            self.entries.push(entry);
            // Twice as many, so that selecting costs little for each.
            if self.entries.len() >= 2 * self.most {
                keep_first(&mut self.entries, self.most);
            }
        }
    }
}

impl Sink for WindowSink<'_> {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        let number = self.job.reader.series.number(key).ok_or(TooManySeries)?;
        Ok((number == self.job.number).then_some(0))
    }

    fn within(&self, time: i64) -> bool {
        self.job.reader.selector.within(time) && self.bounds.overlap(time, time)
    }

    fn reading(&mut self, found: Found) {
        self.push(Entry {
            rank: (found.time, place(self.position, found.line)),
            value: found.value,
            mark: found.mark,
            lost: None,
        });
    }

    fn lost(&mut self, lost: Lost) {
        if let (Some(_), Some(time)) = (lost.place, lost.time) {
            self.push(Entry {
                rank: (time, place(self.position, lost.line)),
                value: 0.0,
                mark: 0,
                lost: Some((lost.reason, lost.point)),
            });
        }
    }
}
