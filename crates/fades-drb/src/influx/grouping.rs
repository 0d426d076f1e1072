//! From rows to pieces of series.

use std::sync::Arc;

use super::InfluxError;
use super::influxql::Range;
use super::layout::Group;
use super::msgpack::Row;
use crate::chunk::Segment;

/// Some readings of one series, in the order of their times.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) group: Arc<Group>,
    pub(super) segment: Segment,
    /// Times of values that were no numbers.
    pub(super) unusable: Vec<i64>,
}

/// Rows that make a piece.
const ROWS: usize = 8192;

/// Makes pieces of one stream of rows.
pub(super) struct Grouping<'a> {
    /// Address of the server, for errors.
    address: &'a str,
    range: Range,
    /// Length of a step of an aggregate, ns.
    step: Option<i64>,
    group: Option<Arc<Group>>,
    segment: Segment,
    unusable: Vec<i64>,
    take: &'a mut dyn FnMut(Piece) -> Result<(), InfluxError>,
    pub(super) rows: u64,
}

impl<'a> Grouping<'a> {
    pub(super) fn new(
        address: &'a str,
        range: Range,
        step: Option<i64>,
        take: &'a mut dyn FnMut(Piece) -> Result<(), InfluxError>,
    ) -> Self {
        Self {
            address,
            range,
            step,
            group: None,
            segment: Segment::default(),
            unusable: Vec::new(),
            take,
            rows: 0,
        }
    }

    /// The rows that follow are of this series.
    pub(super) fn begin(&mut self, group: Group) -> Result<(), InfluxError> {
        if self.group.as_deref() == Some(&group) {
            return Ok(());
        }
        self.flush()?;
        self.group = Some(Arc::new(group));
        Ok(())
    }

    pub(super) fn row(&mut self, row: Row) -> Result<(), InfluxError> {
        self.rows += 1;
        let time = match self.step {
            // A step that the range cuts begins where the range does.
            Some(step) => row.time - row.time.rem_euclid(step),
            None if self.range.from <= row.time && row.time < self.range.to => row.time,
            None => {
                return Err(InfluxError::Malformed {
                    address: self.address.to_owned(),
                    what: "a time outside of the range that was asked for".to_owned(),
                });
            }
        };
        match row.value {
            None => {}
            // The server itself keeps no NaN.
            Some(value) if value.is_nan() => self.unusable.push(time),
            Some(value) => self.segment.push(time, value, 0),
        }
        if self.segment.rows() + self.unusable.len() >= ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands on what there is.
    pub(super) fn flush(&mut self) -> Result<(), InfluxError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        if self.segment.rows() == 0 && self.unusable.is_empty() {
            return Ok(());
        }
        (self.take)(Piece {
            group: Arc::clone(group),
            segment: std::mem::take(&mut self.segment),
            unusable: std::mem::take(&mut self.unusable),
        })
    }
}
