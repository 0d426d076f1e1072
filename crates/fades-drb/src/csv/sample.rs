//! The first rows of a source, for people to look at.

use super::input::{Input, ReadError};
use super::lines::Lines;
use super::rows::{Found, Lost, RowParser, Sink, TooManySeries};
use super::source::{CsvFiles, Plan};
use crate::series::SeriesKey;

/// A reading of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) key: SeriesKey,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

impl CsvFiles {
    /// The readings of the first `rows` rows that have any.
    pub(crate) fn sample(&self, plan: &Plan, rows: usize) -> Result<Vec<Sampled>, ReadError> {
        let Some(file) = plan.files.first() else {
            return Ok(Vec::new());
        };
        let failed = |e| ReadError::io("read", &file.path, e);
        let start = file.blocks.first().map_or(0, |b| b.start);
        let mut input = Input::open(&file.path)?;
        input.go_to(start).map_err(failed)?;
        let mut lines = Lines::new(input, start);
        let mut parser = RowParser::new(&self.format, &file.layout);
        let mut sink = SampleSink::default();
        let mut taken = 0;
        while taken < rows
            && let Some(line) = lines.next().map_err(failed)?
        {
            let before = sink.readings.len();
            // No series is numbered here, so there cannot be too many.
            let _ = parser.line(&line, 0, &mut sink);
            taken += usize::from(sink.readings.len() > before);
        }
        Ok(sink.readings)
    }
}

#[derive(Default)]
struct SampleSink {
    keys: Vec<SeriesKey>,
    readings: Vec<Sampled>,
}

impl Sink for SampleSink {
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries> {
        self.keys.push(key.clone());
        Ok(Some(self.keys.len() as u32 - 1))
    }

    fn within(&self, _time: i64) -> bool {
        true
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
