//! Counting readings without keeping them.

use std::collections::HashMap;
use std::sync::Arc;

use super::gather::{BlockReader, Fetch, Piece, defect, pieces};
use super::index::Block;
use super::input::ReadError;
use super::rows::{Found, Lost, Sink, TooManySeries};
use super::source::{CsvFiles, Plan};
use crate::series::SeriesKey;
use crate::tally::Tally;

/// Readings by number of series.
pub(crate) type Counts = HashMap<u32, u64>;

impl CsvFiles {
    /// Good readings of each series of a plan that are within the range. Blocks
    /// that are wholly within are not read again: their index knows.
    pub(crate) fn count(&self, fetch: &Fetch<'_>, plan: &Plan) -> Result<Counts, ReadError> {
        let selector = fetch.selector;
        let known = |block: &Block| {
            let mut spans = block.spans.iter();
            spans.all(|s| selector.contains(s.oldest, s.newest))
        };
        let mut counts = Counts::new();
        let blocks = plan.files.iter().flat_map(|f| &f.blocks);
        for span in blocks.filter(|b| known(b)).flat_map(|b| &b.spans) {
            *counts.entry(span.series).or_default() += span.readings;
        }
        let (read, _) = self.counted(fetch, plan, |b| !known(b) && overlaps(fetch, b))?;
        for (series, n) in read {
            *counts.entry(series).or_default() += n;
        }
        Ok(counts)
    }

    /// Reads everything of a plan; what it comes to.
    pub(crate) fn check(&self, fetch: &Fetch<'_>, plan: &Plan) -> Result<Tally, ReadError> {
        let (_, mut tally) = self.counted(fetch, plan, |b| overlaps(fetch, b))?;
        tally.add(plan.tally.clone());
        Ok(tally)
    }

    fn counted(
        &self,
        fetch: &Fetch<'_>,
        plan: &Plan,
        needs: impl Fn(&Block) -> bool,
    ) -> Result<(Counts, Tally), ReadError> {
        let job = Arc::new(CountJob {
            reader: self.reader(fetch),
        });
        let pieces = pieces(&plan.files, needs);
        let (mut counts, mut tally) = (Counts::new(), Tally::default());
        for read in fetch.pool.map(pieces, move |piece| job.read(&piece)) {
            let (part, lost) = read.map_err(defect)??;
            tally.add(lost);
            for (series, n) in part {
                *counts.entry(series).or_default() += n;
            }
        }
        Ok((counts, tally))
    }
}

fn overlaps(fetch: &Fetch<'_>, block: &Block) -> bool {
    let mut spans = block.spans.iter();
    spans.any(|s| fetch.selector.overlaps(s.oldest, s.newest))
}

struct CountJob {
    reader: BlockReader,
}

impl CountJob {
    fn read(&self, piece: &Piece) -> Result<(Counts, Tally), ReadError> {
        let mut sink = CountSink {
            reader: &self.reader,
            file: self.reader.shown(&piece.file),
            series: Vec::new(),
            tally: Tally::default(),
        };
        self.reader.read(piece, &mut sink)?;
        let mut counts = Counts::new();
        for (series, n) in sink.series {
            *counts.entry(series).or_default() += n;
        }
        Ok((counts, sink.tally))
    }
}

struct CountSink<'a> {
    reader: &'a BlockReader,
    file: String,
    /// Number and count, by place.
    series: Vec<(u32, u64)>,
    tally: Tally,
}

impl Sink for CountSink<'_> {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        if !self.reader.selector.matches(key) {
            return Ok(None);
        }
        let number = self.reader.series.number(key).ok_or(TooManySeries)?;
        self.series.push((number, 0));
        Ok(Some(self.series.len() as u32 - 1))
    }

    fn within(&self, time: i64) -> bool {
        self.reader.selector.within(time)
    }

    fn reading(&mut self, found: Found) {
        self.series[found.place as usize].1 += 1;
        self.tally.used += 1;
        self.tally.marked += u64::from(found.mark != 0);
    }

    fn lost(&mut self, lost: Lost) {
        if lost.place.is_some() && lost.time.is_some() {
            self.reader.count(&mut self.tally, &self.file, &lost);
        }
    }
}
