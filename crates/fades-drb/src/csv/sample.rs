//! The first rows of a source, for people to look at.

use std::collections::HashSet;

use super::index::{Block, FileIndex};
use super::input::{Input, ReadError};
use super::lines::Lines;
use super::rows::{Found, Lost, RowParser, Sink, TooManySeries};
use super::source::{CsvFiles, Plan};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// A reading of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) key: SeriesKey,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

impl CsvFiles {
    /// The readings that match of the first `rows` rows that have any.
    pub(crate) fn sample(
        &self,
        plan: &Plan,
        selector: &Selector,
        rows: usize,
    ) -> Result<Vec<Sampled>, ReadError> {
        let wanted: HashSet<u32> = plan.series.iter().map(|s| s.number).collect();
        let mut sink = SampleSink {
            selector,
            keys: Vec::new(),
            readings: Vec::new(),
        };
        let mut taken = 0;
        for file in &plan.files {
            let mut blocks = file.blocks.iter();
            let has = |b: &&Block| {
                let mut spans = b.spans.iter().filter(|s| wanted.contains(&s.series));
                spans.any(|s| selector.overlaps(s.oldest, s.newest))
            };
            if let Some(block) = blocks.find(has) {
                taken += self.first_rows(file, block, rows - taken, &mut sink)?;
            }
            if taken == rows {
                break;
            }
        }
        Ok(sink.readings)
    }

    /// How many rows of a block were taken.
    fn first_rows(
        &self,
        file: &FileIndex,
        block: &Block,
        rows: usize,
        sink: &mut SampleSink<'_>,
    ) -> Result<usize, ReadError> {
        let failed = |e| ReadError::io("read", &file.path, e);
        let mut input = Input::open(&file.path)?;
        input.go_to(block.start).map_err(failed)?;
        let mut lines = Lines::new(input, block.start);
        let mut parser = RowParser::new(&self.format, &file.layout);
        let mut taken = 0;
        while taken < rows
            && lines.offset() < block.end
            && let Some(line) = lines.next().map_err(failed)?
        {
            let before = sink.readings.len();
            // No series is numbered here, so there cannot be too many.
            let _ = parser.line(&line, 0, sink);
            taken += usize::from(sink.readings.len() > before);
        }
        Ok(taken)
    }
}

struct SampleSink<'a> {
    selector: &'a Selector,
    keys: Vec<SeriesKey>,
    readings: Vec<Sampled>,
}

impl Sink for SampleSink<'_> {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        if !self.selector.matches(key) {
            return Ok(None);
        }
        self.keys.push(key.clone());
        Ok(Some(self.keys.len() as u32 - 1))
    }

    fn within(&self, time: i64) -> bool {
        self.selector.within(time)
    }

    fn reading(&mut self, found: Found) {
        self.readings.push(Sampled {
            key: self.keys[found.place as usize].clone(),
            time: found.time,
            value: found.value,
        });
    }

    fn lost(&mut self, _lost: Lost) {}
}
