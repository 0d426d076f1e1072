//! Series that are larger than a batch.
//!
//! The oldest readings that fit into a batch are selected, handed on, and then
//! the next ones, until there are no more. Blocks that cannot have any of the
//! readings wanted are left out, so that of files in order of time each block
//! is parsed about once for each batch that has readings of it; memory is a
//! batch and a few blocks, whatever the order of the rows. What is lost in a
//! block is counted the first time that the block is read.

use std::collections::HashSet;
use std::sync::Arc;

use super::gather::{BlockReader, Fetch, Piece, defect, pieces};
use super::input::ReadError;
use super::rows::{Found, Lost, Sink, TooManySeries};
use super::source::{CsvFiles, Plan, Planned};
use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};
use crate::series::SeriesKey;
use crate::tally::Tally;

/// Readings that are taken at a time when more fit into a batch: while they are
/// selected, they take twice the memory that they take in a batch.
const AT_ONCE: u64 = 1 << 20;

/// A reading with its place in the order.
#[derive(Debug, Clone, Copy)]
struct Entry {
    rank: Rank,
    value: f64,
    mark: u8,
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
    /// The way through a series that is larger than a batch.
    pub(super) fn pass(&self, fetch: &Fetch<'_>, series: &Planned) -> Pass {
        Pass {
            job: Arc::new(WindowJob {
                reader: self.reader(fetch),
                number: series.number,
            }),
            after: None,
            counted: HashSet::new(),
        }
    }
}

/// The way through a series, window after window.
pub(super) struct Pass {
    job: Arc<WindowJob>,
    /// The last reading that was handed on.
    after: Option<Rank>,
    /// Position of the file and number of each block whose losses are counted.
    counted: HashSet<(u32, usize)>,
}

impl Pass {
    /// Readings of a series that are taken at a time.
    pub(super) fn rows(capacity: Capacity, key: &SeriesKey) -> u64 {
        capacity.rows(key).min(AT_ONCE)
    }

    /// The next readings of the series, and the way on unless they are the last.
    pub(super) fn chunk(
        mut self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        key: &SeriesKey,
        id: u32,
    ) -> Result<(Chunk, Tally, Option<Self>), ReadError> {
        let rows = Self::rows(fetch.capacity, key) as usize;
        // One more than fits, to know whether this is the last batch.
        let (mut entries, mut tally) = self.window(fetch, plan, rows + 1)?;
        let complete = entries.len() <= rows;
        entries.truncate(rows);
        self.after = entries.last().map(|e| e.rank);
        let mut segment = Segment::default();
        for entry in &entries {
            segment.push(entry.rank.0, entry.value, entry.mark);
            tally.marked += u64::from(entry.mark != 0);
        }
        tally.used = entries.len() as u64;
        let series = vec![ChunkSeries {
            id,
            key: key.clone(),
            complete,
            segments: vec![segment],
        }];
        Ok((Chunk { series }, tally, (!complete).then_some(self)))
    }

    /// The next entries, in order, and what was lost in blocks read for the
    /// first time.
    fn window(
        &mut self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        most: usize,
    ) -> Result<(Vec<Entry>, Tally), ReadError> {
        let job = &self.job;
        let mut bounds = Bounds {
            after: self.after,
            last: None,
        };
        let mut pieces = pieces(&plan.files, |block| {
            let span = job.span(block);
            span.is_some_and(|(oldest, newest)| bounds.overlap(oldest, newest))
        });
        // Oldest first: once enough is known, later blocks can be left out.
        pieces.sort_by_key(|p| job.oldest(p));
        let mut pieces = pieces.into_iter().peekable();
        let mut entries: Vec<Entry> = Vec::new();
        let mut tally = Tally::default();
        let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        while pieces.peek().is_some() {
            // As many pieces as have what is still missing, if their readings
            // are all new.
            let mut missing = most - entries.len();
            let mut wave = Vec::new();
            for piece in pieces.by_ref() {
                if !bounds.overlap(job.oldest(&piece), i64::MAX) {
                    continue;
                }
                missing = missing.saturating_sub(job.readings(&piece));
                let blocks = piece.blocks.iter().copied();
                let fresh = blocks.filter(|&b| self.counted.insert((piece.position, b)));
                wave.push((fresh.collect::<HashSet<usize>>(), piece));
                if wave.len() == at_once || missing == 0 {
                    break;
                }
            }
            let reading = Arc::clone(job);
            let read = move |(fresh, piece)| reading.read(&piece, fresh, bounds, most);
            for read in fetch.pool.map(wave, read) {
                let (more, lost) = read.map_err(defect)??;
                tally.add(lost);
                entries.extend(more);
                keep_first(&mut entries, most);
            }
            if entries.len() == most {
                bounds.last = entries.iter().map(|e| e.rank).max();
            }
        }
        entries.sort_unstable_by_key(|e| e.rank);
        Ok((entries, tally))
    }
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

    /// Good readings of the series in a piece.
    fn readings(&self, piece: &Piece) -> usize {
        let spans = piece
            .blocks
            .iter()
            .flat_map(|&i| &piece.file.blocks[i].spans);
        let of_series = spans.filter(|s| s.series == self.number);
        of_series.map(|s| s.readings as usize).sum()
    }

    fn oldest(&self, piece: &Piece) -> i64 {
        let blocks = piece.blocks.iter().map(|&i| &piece.file.blocks[i]);
        let oldest = blocks
            .filter_map(|b| self.span(b))
            .map(|(oldest, _)| oldest);
        oldest.min().unwrap_or(i64::MAX)
    }

    fn read(
        &self,
        piece: &Piece,
        fresh: HashSet<usize>,
        bounds: Bounds,
        most: usize,
    ) -> Result<(Vec<Entry>, Tally), ReadError> {
        let mut sink = WindowSink {
            job: self,
            file: self.reader.shown(&piece.file),
            fresh,
            is_fresh: false,
            bounds,
            most,
            position: piece.position,
            entries: Vec::new(),
            tally: Tally::default(),
        };
        self.reader.read(piece, &mut sink)?;
        keep_first(&mut sink.entries, most);
        Ok((sink.entries, sink.tally))
    }
}

struct WindowSink<'a> {
    job: &'a WindowJob,
    file: String,
    /// Blocks whose losses were not counted before.
    fresh: HashSet<usize>,
    /// The block at hand is one of them.
    is_fresh: bool,
    bounds: Bounds,
    most: usize,
    position: u32,
    entries: Vec<Entry>,
    tally: Tally,
}

impl Sink for WindowSink<'_> {
    fn enter(&mut self, block: usize) {
        self.is_fresh = self.fresh.contains(&block);
    }

    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        let number = self.job.reader.series.number(key).ok_or(TooManySeries)?;
        Ok((number == self.job.number).then_some(0))
    }

    fn within(&self, time: i64) -> bool {
        self.job.reader.selector.within(time) && (self.is_fresh || self.bounds.overlap(time, time))
    }

    fn reading(&mut self, found: Found) {
        let rank = (found.time, place(self.position, found.line));
        if !self.bounds.has(rank) {
            return;
        }
        self.entries.push(Entry {
            rank,
            value: found.value,
            mark: found.mark,
        });
        // Twice as many, so that selecting costs little for each.
        if self.entries.len() >= 2 * self.most {
            keep_first(&mut self.entries, self.most);
        }
    }

    fn lost(&mut self, lost: Lost) {
        if self.is_fresh && lost.place.is_some() && lost.time.is_some() {
            self.job.reader.count(&mut self.tally, &self.file, &lost);
        }
    }
}
