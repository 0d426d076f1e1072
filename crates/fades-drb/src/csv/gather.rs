//! The second reading: the readings of some series, one batch after the other.
//!
//! Series that fit together into a batch are gathered together: the blocks in
//! which they are get parsed in parallel, and only their readings are kept. So
//! memory is bounded by the batch and not by the files; a block is parsed once
//! for each batch that has readings of it. A series that is larger than a batch
//! goes to [`window`](super::window).

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fades_task::coverage::BadRow;

use super::count::Counts;
use super::format::Format;
use super::index::{Block, FileIndex};
use super::input::{Input, ReadError};
use super::lines::Lines;
use super::rows::{Found, Lost, RowParser, Sink, TooManySeries};
use super::source::{CsvFiles, Plan, Planned};
use super::window::Pass;
use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};
use crate::pool::{Panicked, Pool};
use crate::selector::Selector;
use crate::series::{SeriesKey, SeriesTable};
use crate::tally::Tally;

/// Lines between two looks at whether to stop.
const PATIENCE: u64 = 4096;

/// Bytes that are read at once rather than by several threads.
const LITTLE: u64 = 128 << 10;

/// How to fetch.
pub(crate) struct Fetch<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) selector: &'a Selector,
    pub(crate) capacity: Capacity,
    pub(crate) stop: &'a Arc<AtomicBool>,
    /// Number in the run of the plan's first series.
    pub(crate) first_id: u32,
}

/// How far a retrieval has come in a plan. It moves on only when a chunk is
/// whole, so that whoever comes next can go on where another gave up.
#[derive(Default)]
pub(crate) struct Walk {
    /// Index of the next series.
    next: usize,
    /// The way through that series, when it is larger than a batch.
    pass: Option<Pass>,
}

impl Walk {
    /// Bytes of the longest file that the next chunk can need; `None` when the
    /// plan is done.
    pub(crate) fn ahead(&mut self, plan: &Plan, capacity: Capacity) -> Option<u64> {
        loop {
            let rest = plan.series.get(self.next..).filter(|r| !r.is_empty())?;
            let n = fitting(rest, capacity);
            if n == 0 {
                let rows = Pass::rows(capacity, &rest[0].key);
                return Some(Capacity::bytes(Capacity::cost(&rest[0].key, rows)));
            }
            let group = &rest[..n];
            if group.iter().any(|s| s.most > 0) {
                let most = group.iter().map(|s| Capacity::cost(&s.key, s.most)).sum();
                return Some(Capacity::bytes(most));
            }
            self.next += n;
        }
    }
}

impl CsvFiles {
    /// The next chunk of `plan`, of which [`Walk::ahead`] said that there is one.
    pub(crate) fn gather(
        &self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        walk: &mut Walk,
    ) -> Result<(Chunk, Tally), ReadError> {
        let rest = &plan.series[walk.next..];
        let first_id = fetch.first_id + walk.next as u32;
        let n = fitting(rest, fetch.capacity);
        if n == 0 {
            let pass = walk
                .pass
                .take()
                .unwrap_or_else(|| self.pass(fetch, &rest[0]));
            let (chunk, tally, pass) = pass.chunk(fetch, plan, &rest[0].key, first_id)?;
            walk.next += usize::from(pass.is_none());
            walk.pass = pass;
            return Ok((chunk, tally));
        }
        let gathered = self.group(fetch, plan, &rest[..n], first_id)?;
        walk.next += n;
        Ok(gathered)
    }

    /// Gathers whole series.
    fn group(
        &self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        group: &[Planned],
        first_id: u32,
    ) -> Result<(Chunk, Tally), ReadError> {
        let slots: HashMap<u32, u32> = (0..)
            .zip(group)
            .filter(|(_, s)| s.most > 0)
            .map(|(slot, s)| (s.number, slot))
            .collect();
        let job = Arc::new(GroupJob {
            reader: self.reader(fetch),
            slots,
        });
        let pieces = pieces(&plan.files, |block| job.needs(block));
        let bytes: u64 = pieces.iter().map(Piece::bytes).sum();
        let results = if bytes < LITTLE {
            Pool::here(pieces, |piece| job.read(&piece))
        } else {
            fetch.pool.map(pieces, move |piece| job.read(&piece))
        };
        let mut tally = Tally::default();
        let mut series: Vec<ChunkSeries> = (first_id..)
            .zip(group)
            .map(|(id, s)| ChunkSeries {
                id,
                key: s.key.clone(),
                complete: true,
                segments: Vec::new(),
            })
            .collect();
        for result in results {
            let (segments, part) = result.map_err(defect)??;
            tally.add(part);
            for (slot, segment) in segments {
                series[slot as usize].segments.push(segment);
            }
        }
        Ok((Chunk { series }, tally))
    }

    pub(super) fn reader(&self, fetch: &Fetch<'_>) -> BlockReader {
        BlockReader {
            format: Arc::clone(&self.format),
            series: Arc::clone(&self.series),
            selector: fetch.selector.clone(),
            stop: Arc::clone(fetch.stop),
            base: self.base().to_path_buf(),
        }
    }
}

pub(super) fn defect(_: Panicked) -> ReadError {
    ReadError::Defect
}

impl Plan {
    /// Bytes of the batch files for so many readings of each series.
    pub(crate) fn batch_bytes(&self, capacity: Capacity, counts: &Counts) -> u64 {
        let mut rest = self.series.as_slice();
        let mut bytes = 0;
        while !rest.is_empty() {
            let (group, after) = rest.split_at(fitting(rest, capacity).max(1));
            let rows = |s: &Planned| counts.get(&s.number).copied().unwrap_or_default();
            let some = group.iter().filter(|s| rows(s) > 0);
            let room: u64 = some.map(|s| Capacity::cost(&s.key, rows(s))).sum();
            if room > 0 {
                bytes += Capacity::bytes(room).next_multiple_of(fades_abi::INPUT_PAGE);
            }
            rest = after;
        }
        bytes
    }
}

/// How many of `series` fit together; none when the first is too large alone.
fn fitting(series: &[Planned], capacity: Capacity) -> usize {
    let mut room = capacity.room();
    let fits = |s: &&Planned| {
        let cost = Capacity::cost(&s.key, s.most);
        room.checked_sub(cost).map(|left| room = left).is_some()
    };
    series.iter().take_while(fits).count()
}

/// Blocks of one file that one thread reads.
pub(super) struct Piece {
    pub(super) file: Arc<FileIndex>,
    /// Position of the file among those of the plan.
    pub(super) position: u32,
    pub(super) blocks: Vec<usize>,
}

impl Piece {
    /// Length of its text, bytes.
    fn bytes(&self) -> u64 {
        let blocks = self.blocks.iter().map(|&i| &self.file.blocks[i]);
        blocks.map(|b| b.end - b.start).sum()
    }
}

/// Blocks that `needs` wants: those of a compressed file together, because
/// they cannot be reached apart; others one by one.
pub(super) fn pieces(files: &[Arc<FileIndex>], needs: impl Fn(&Block) -> bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (position, file) in (0_u32..).zip(files) {
        let blocks = file.blocks.iter().enumerate().filter(|(_, b)| needs(b));
        let blocks: Vec<usize> = blocks.map(|(i, _)| i).collect();
        let piece = |blocks| Piece {
            file: Arc::clone(file),
            position,
            blocks,
        };
        if file.compressed && !blocks.is_empty() {
            pieces.push(piece(blocks));
        } else {
            pieces.extend(blocks.into_iter().map(|b| piece(vec![b])));
        }
    }
    pieces
}

/// Reads blocks again that have been indexed.
pub(super) struct BlockReader {
    pub(super) format: Arc<Format>,
    pub(super) series: Arc<SeriesTable>,
    pub(super) selector: Selector,
    stop: Arc<AtomicBool>,
    base: std::path::PathBuf,
}

impl BlockReader {
    /// Feeds `sink` with the rows of a piece.
    pub(super) fn read(&self, piece: &Piece, sink: &mut impl Sink) -> Result<(), ReadError> {
        let file = &*piece.file;
        let failed = |e| ReadError::io("read", &file.path, e);
        let changed = || ReadError::Changed(file.path.clone());
        let mut input = Input::open(&file.path)?;
        if !file.identity.begins(&input.identity()) {
            return Err(changed());
        }
        let mut parser = RowParser::new(&self.format, &file.layout);
        for &i in &piece.blocks {
            let block = &file.blocks[i];
            sink.enter(i);
            input.go_to(block.start).map_err(failed)?;
            let length = block.end - block.start;
            let mut lines = Lines::new((&mut input).take(length), block.start);
            let (mut number, mut rows) = (block.first_line, 0);
            while let Some(line) = lines.next().map_err(failed)? {
                let is_row = parser
                    .line(&line, number, sink)
                    .map_err(|TooManySeries| changed())?;
                rows += u64::from(is_row);
                number += 1;
                if number % PATIENCE == 0 && self.stop.load(Ordering::Relaxed) {
                    return Err(ReadError::Stopped);
                }
            }
            if lines.offset() != block.end || rows != block.rows {
                return Err(changed());
            }
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(ReadError::Stopped);
        }
        Ok(())
    }

    /// How a file is called in messages.
    pub(super) fn shown(&self, file: &FileIndex) -> String {
        let relative = file.path.strip_prefix(&self.base).unwrap_or(&file.path);
        relative.display().to_string()
    }

    /// Counts a lost reading whose time is known, and cites it when it is
    /// among the first.
    pub(super) fn count(&self, tally: &mut Tally, file: &str, lost: &Lost) {
        tally.lose(lost.reason, 1);
        if tally.would_cite(file, lost.line) {
            tally.cite(BadRow {
                file: file.to_owned(),
                line: lost.line,
                column: self.format.column_blamed(lost.blame, lost.point),
                reason: lost.reason,
            });
        }
    }
}

struct GroupJob {
    reader: BlockReader,
    /// Position in the group by number of series.
    slots: HashMap<u32, u32>,
}

impl GroupJob {
    fn needs(&self, block: &Block) -> bool {
        block.spans.iter().any(|s| {
            self.slots.contains_key(&s.series) && self.reader.selector.overlaps(s.oldest, s.newest)
        })
    }

    fn read(&self, piece: &Piece) -> Result<(Vec<(u32, Segment)>, Tally), ReadError> {
        let mut sink = GroupSink {
            job: self,
            file: self.reader.shown(&piece.file),
            expected: expected(piece),
            segments: Vec::new(),
            tally: Tally::default(),
        };
        self.reader.read(piece, &mut sink)?;
        let GroupSink {
            segments,
            mut tally,
            ..
        } = sink;
        for (_, segment) in &segments {
            tally.used += segment.rows() as u64;
            tally.marked += segment.mark.iter().filter(|&&m| m != 0).count() as u64;
        }
        Ok((segments, tally))
    }
}

/// Readings of each series that a piece has, by number.
fn expected(piece: &Piece) -> HashMap<u32, usize> {
    let mut expected = HashMap::new();
    for span in piece
        .blocks
        .iter()
        .flat_map(|&i| &piece.file.blocks[i].spans)
    {
        *expected.entry(span.series).or_default() += span.readings as usize;
    }
    expected
}

struct GroupSink<'a> {
    job: &'a GroupJob,
    file: String,
    expected: HashMap<u32, usize>,
    /// Slots and readings of the series met so far.
    segments: Vec<(u32, Segment)>,
    tally: Tally,
}

impl Sink for GroupSink<'_> {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        let number = self.job.reader.series.number(key).ok_or(TooManySeries)?;
        let Some(&slot) = self.job.slots.get(&number) else {
            return Ok(None);
        };
        if let Some(known) = self.segments.iter().position(|(s, _)| *s == slot) {
            return Ok(Some(known as u32));
        }
        let room = self.expected.get(&number).copied().unwrap_or_default();
        let segment = Segment {
            time: Vec::with_capacity(room),
            value: Vec::with_capacity(room),
            mark: Vec::new(),
        };
        self.segments.push((slot, segment));
        Ok(Some(self.segments.len() as u32 - 1))
    }

    fn within(&self, time: i64) -> bool {
        self.job.reader.selector.within(time)
    }

    fn reading(&mut self, found: Found) {
        let (_, segment) = &mut self.segments[found.place as usize];
        segment.push(found.time, found.value, found.mark);
    }

    fn lost(&mut self, lost: Lost) {
        // What has no time or no series is counted from the index.
        if lost.place.is_some() && lost.time.is_some() {
            self.job.reader.count(&mut self.tally, &self.file, &lost);
        }
    }
}
