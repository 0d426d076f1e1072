//! The first reading of a file: makes its index.
//!
//! Plain files larger than a block are cut at line breaks and their blocks are
//! read in parallel; a compressed file is read by one thread.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fields::Fields;
use super::format::Format;
use super::index::{Block, FileIndex, Orphan, Span, Whose};
use super::input::{Identity, Input, Packing, ReadError};
use super::layout::Layout;
use super::lines::{Line, Lines};
use super::rows::{Found, Lost, RowParser, Sink, TooManySeries};
use crate::config::Encoding;
use crate::series::{SeriesKey, SeriesTable};
use crate::tally::MOST_CITED;

/// Size of a block for files up to 1 GiB, bytes; larger files have larger ones,
/// so that an index stays small.
const BLOCK: u64 = 4 << 20;
const LARGEST_BLOCK: u64 = 16 << 20;

/// Lines between two looks at whether to stop.
const PATIENCE: u64 = 4096;

/// What scanning needs besides a file.
#[derive(Clone)]
pub(crate) struct Scanner {
    pub(crate) format: Arc<Format>,
    pub(crate) series: Arc<SeriesTable>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// A file after its head was read.
pub(crate) enum Started {
    /// It was short, or cannot be cut: this is all.
    Whole(FileIndex),
    /// Its blocks are still to be read.
    Cut(Arc<Head>, Vec<(u64, u64)>),
}

/// What is before the first row.
#[derive(Debug)]
pub(crate) struct Head {
    path: PathBuf,
    identity: Identity,
    settled: bool,
    layout: Arc<Layout>,
    /// Lines before the first row.
    lines: u64,
}

/// A block that was read, its lines counted from 0.
pub(crate) struct ReadBlock {
    block: Block,
    lines: u64,
    orphans: Vec<Orphan>,
}

impl Scanner {
    /// Reads a file's head; and the rest when it is short or compressed.
    pub(crate) fn start(&self, path: &Path) -> Result<Started, ReadError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ReadError::Stopped);
        }
        let mut input = Input::open(path)?;
        let (identity, settled) = (input.identity(), input.is_settled());
        let mut lines = Lines::new(&mut input, 0);
        let Some((layout, before)) = self.head(path, &mut lines)? else {
            return Ok(Started::Whole(empty(path, identity, settled)));
        };
        let head = Head {
            path: path.to_path_buf(),
            identity,
            settled,
            layout: Arc::new(layout),
            lines: before,
        };
        let block = (identity.size / 256).clamp(BLOCK, LARGEST_BLOCK);
        let start = lines.offset();
        if Packing::of(path) == Packing::Plain && identity.size.saturating_sub(start) > block {
            drop(lines);
            let cuts = cuts(&mut input, start, identity.size, block)
                .map_err(|e| ReadError::io("read", path, e))?;
            return Ok(Started::Cut(Arc::new(head), cuts));
        }
        self.whole(head, lines, block).map(Started::Whole)
    }

    /// The layout, and the number of lines before the first row; `None` when
    /// there is no header line to read.
    fn head<R: Read>(
        &self,
        path: &Path,
        lines: &mut Lines<R>,
    ) -> Result<Option<(Layout, u64)>, ReadError> {
        let failed = |e| ReadError::io("read", path, e);
        let mut before = 0;
        for _ in 0..self.format.skip_lines {
            lines.next().map_err(failed)?;
            before += 1;
        }
        let mut columns = self.format.columns.clone();
        if self.format.header {
            let Some((found, taken)) = self.header(path, lines)? else {
                return Ok(None);
            };
            before += taken;
            if columns.is_empty() {
                columns = found;
            }
        }
        Layout::find(&self.format, path, &columns).map(|l| Some((l, before)))
    }

    /// The names in the header, and the number of lines up to it; `None` when
    /// the file ends before it.
    fn header<R: Read>(
        &self,
        path: &Path,
        lines: &mut Lines<R>,
    ) -> Result<Option<(Vec<String>, u64)>, ReadError> {
        let mut taken = 0;
        while let Some(line) = lines.next().map_err(|e| ReadError::io("read", path, e))? {
            taken += 1;
            let Line::Text(text) = line else {
                return Ok(Some((Vec::new(), taken)));
            };
            if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
                return Err(ReadError::Utf16(path.to_path_buf()));
            }
            let says_nothing = text.trim_ascii().is_empty()
                || self
                    .format
                    .comment
                    .is_some_and(|c| text.first() == Some(&c));
            if !says_nothing {
                return Ok(Some((names(&self.format, text), taken)));
            }
        }
        Ok(None)
    }

    fn whole<R: Read>(
        &self,
        head: Head,
        mut lines: Lines<R>,
        block: u64,
    ) -> Result<FileIndex, ReadError> {
        let mut sink = IndexSink::new(&self.series);
        let mut parser = RowParser::new(&self.format, &head.layout);
        let mut blocks = Vec::new();
        let mut next = head.lines + 1;
        loop {
            let read = self.block(&head.path, &mut lines, &mut parser, &mut sink, next, block)?;
            let Some((read, count)) = read else { break };
            next += count;
            blocks.push(read);
        }
        Ok(FileIndex {
            compressed: Packing::of(&head.path) != Packing::Plain,
            path: head.path,
            identity: head.identity,
            settled: head.settled,
            layout: head.layout,
            blocks: blocks.into(),
            orphans: sink.orphans(),
        })
    }

    /// Reads lines until `block` bytes are over; `None` at the end. Also gives
    /// the number of lines.
    fn block<R: Read>(
        &self,
        path: &Path,
        lines: &mut Lines<R>,
        parser: &mut RowParser<'_>,
        sink: &mut IndexSink<'_>,
        first_line: u64,
        block: u64,
    ) -> Result<Option<(Block, u64)>, ReadError> {
        let start = lines.offset();
        let (mut count, mut rows) = (0, 0);
        while lines.offset() - start < block {
            let line = lines.next().map_err(|e| ReadError::io("read", path, e))?;
            let Some(line) = line else { break };
            let number = first_line + count;
            count += 1;
            let is_row = parser.line(&line, number, sink).map_err(|TooManySeries| {
                let path = path.to_path_buf();
                ReadError::TooManySeries { path, line: number }
            })?;
            rows += u64::from(is_row);
            if count % PATIENCE == 0 && self.stop.load(Ordering::Relaxed) {
                return Err(ReadError::Stopped);
            }
        }
        let read = Block {
            start,
            end: lines.offset(),
            first_line,
            rows,
            spans: sink.spans(),
        };
        Ok((count > 0).then_some((read, count)))
    }

    /// Reads one block of a file that was cut.
    pub(crate) fn part(
        &self,
        head: &Head,
        (start, end): (u64, u64),
    ) -> Result<ReadBlock, ReadError> {
        let mut input = Input::open(&head.path)?;
        if !head.identity.begins(&input.identity()) {
            return Err(ReadError::Changed(head.path.clone()));
        }
        input
            .go_to(start)
            .map_err(|e| ReadError::io("read", &head.path, e))?;
        let mut lines = Lines::new(input.take(end - start), start);
        let mut sink = IndexSink::new(&self.series);
        let mut parser = RowParser::new(&self.format, &head.layout);
        let read = self.block(
            &head.path,
            &mut lines,
            &mut parser,
            &mut sink,
            0,
            end - start,
        )?;
        let (block, lines) = read.unwrap_or_default();
        if block.end != end {
            return Err(ReadError::Changed(head.path.clone()));
        }
        Ok(ReadBlock {
            block,
            lines,
            orphans: sink.orphans().into_vec(),
        })
    }
}

/// Puts the blocks of a cut file, in order, into an index.
pub(crate) fn join(head: &Head, parts: Vec<ReadBlock>) -> FileIndex {
    let mut next = head.lines + 1;
    let mut blocks = Vec::with_capacity(parts.len());
    let mut orphans: Vec<Orphan> = Vec::new();
    for part in parts {
        let block = Block {
            first_line: next,
            ..part.block
        };
        blocks.push(block);
        for mut orphan in part.orphans {
            orphan.lines.iter_mut().for_each(|l| *l += next);
            adopt(&mut orphans, orphan);
        }
        next += part.lines;
    }
    FileIndex {
        path: head.path.clone(),
        identity: head.identity,
        settled: head.settled,
        compressed: false,
        layout: Arc::clone(&head.layout),
        blocks: blocks.into(),
        orphans: orphans.into(),
    }
}

fn adopt(orphans: &mut Vec<Orphan>, new: Orphan) {
    let same = |o: &&mut Orphan| (o.whose, o.reason, o.blame) == (new.whose, new.reason, new.blame);
    match orphans.iter_mut().find(same) {
        Some(known) => {
            known.count += new.count;
            known.lines.extend(&new.lines);
            known.lines.truncate(MOST_CITED);
        }
        None => orphans.push(new),
    }
}

fn empty(path: &Path, identity: Identity, settled: bool) -> FileIndex {
    FileIndex {
        path: path.to_path_buf(),
        identity,
        settled,
        compressed: Packing::of(path) != Packing::Plain,
        layout: Arc::default(),
        blocks: Box::default(),
        orphans: Box::default(),
    }
}

/// The names in a header line.
pub(super) fn names(format: &Format, header: &[u8]) -> Vec<String> {
    let mut fields = Fields::default();
    fields.split(header, format.delimiter, format.quote, usize::MAX - 1);
    let decode = |field: &[u8]| match format.encoding {
        Encoding::Utf8 => String::from_utf8_lossy(field).into_owned(),
        Encoding::Latin1 => field.iter().map(|&b| char::from(b)).collect(),
    };
    (0..fields.count())
        .map(|i| decode(fields.field(header, i).unwrap_or_default()))
        .collect()
}

/// Cuts `start..size` at line breaks into pieces of about `block` bytes.
fn cuts(input: &mut Input, start: u64, size: u64, block: u64) -> std::io::Result<Vec<(u64, u64)>> {
    let mut cuts = Vec::new();
    let mut from = start;
    while size - from > block {
        // A line that begins exactly here begins a block.
        input.go_to(from + block - 1)?;
        let mut lines = Lines::new(&mut *input, from + block - 1);
        lines.next()?;
        let to = lines.offset().min(size);
        cuts.push((from, to));
        from = to;
    }
    if from < size {
        cuts.push((from, size));
    }
    Ok(cuts)
}

/// Counts what is found.
struct IndexSink<'a> {
    table: &'a SeriesTable,
    /// Index into `open` by number of series.
    places: HashMap<u32, u32>,
    open: Vec<Span>,
    orphans: HashMap<(Whose, fades_task::coverage::LossReason), Orphan>,
}

const fn unseen(series: u32) -> Span {
    Span {
        series,
        readings: 0,
        lost: 0,
        oldest: i64::MAX,
        newest: i64::MIN,
    }
}

impl<'a> IndexSink<'a> {
    fn new(table: &'a SeriesTable) -> Self {
        Self {
            table,
            places: HashMap::new(),
            open: Vec::new(),
            orphans: HashMap::new(),
        }
    }

    /// What was found since the last call.
    fn spans(&mut self) -> Box<[Span]> {
        let mut spans = Vec::new();
        for span in &mut self.open {
            if span.readings + span.lost > 0 {
                spans.push(*span);
                *span = unseen(span.series);
            }
        }
        spans.into()
    }

    fn orphans(self) -> Box<[Orphan]> {
        let mut orphans: Vec<_> = self.orphans.into_values().collect();
        orphans.sort_by_key(|o| (o.lines.first().copied(), o.whose.point()));
        orphans.into()
    }
}

impl Sink for IndexSink<'_> {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        let number = self.table.number(key).ok_or(TooManySeries)?;
        let next = self.open.len() as u32;
        let place = *self.places.entry(number).or_insert(next);
        if place == next {
            self.open.push(unseen(number));
        }
        Ok(Some(place))
    }

    fn within(&self, _time: i64) -> bool {
        true
    }

    fn reading(&mut self, found: Found) {
        let span = &mut self.open[found.place as usize];
        span.readings += 1;
        span.oldest = span.oldest.min(found.time);
        span.newest = span.newest.max(found.time);
    }

    fn lost(&mut self, lost: Lost) {
        if let (Some(place), Some(time)) = (lost.place, lost.time) {
            let span = &mut self.open[place as usize];
            span.lost += 1;
            span.oldest = span.oldest.min(time);
            span.newest = span.newest.max(time);
            return;
        }
        let whose = match lost.place {
            Some(place) => Whose::Series(self.open[place as usize].series, lost.point),
            None => Whose::Point(lost.point),
        };
        let orphan = self
            .orphans
            .entry((whose, lost.reason))
            .or_insert_with(|| Orphan {
                whose,
                reason: lost.reason,
                blame: lost.blame,
                count: 0,
                lines: Vec::new(),
            });
        orphan.count += 1;
        if orphan.lines.len() < MOST_CITED {
            orphan.lines.push(lost.line);
        }
    }
}
