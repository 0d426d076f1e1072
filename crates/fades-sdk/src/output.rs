//! The answer of a function: values by name, and readings.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fades_abi::batch::{self, COLUMN_ALIGN, Draft, SeriesSpec, order};

use crate::cbor::{self, Full};
use crate::function::Abort;
use crate::value::{Map, Value};

/// Collects an answer until the event that asks for it has been served.
#[derive(Default)]
pub struct Output {
    values: Map,
    readings: Option<Box<dyn Readings>>,
}

/// Series of an answer. Behind a pointer, because only a function that answers
/// with readings shall have what writes and drops them in its image.
trait Readings {
    /// Appends a series.
    fn push(&mut self, series: AnsweredSeries);

    /// Writes all behind `values` bytes of values.
    fn write(&self, window: &mut [u8], values: usize) -> Result<Written, Full>;
}

/// What names a series of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesName<'a> {
    /// Identifier of the device.
    pub device: &'a str,
    /// What was measured or computed.
    pub kind: &'a str,
    /// Unit as a UCUM code; may be empty.
    pub unit: &'a str,
    /// Where the device was; may be empty.
    pub location: &'a str,
}

#[derive(Debug)]
struct AnsweredSeries {
    device: String,
    kind: String,
    unit: String,
    location: String,
    time: Vec<i64>,
    value: Vec<f64>,
}

/// Where an answer lies in the output window, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Length of the values, which begin at 0.
    pub(crate) values: usize,
    /// Where the readings begin; a multiple of 64.
    pub(crate) readings: usize,
    /// Length of the readings; 0 when there are none.
    pub(crate) readings_length: usize,
}

impl Output {
    /// Answers `name` with `value`; what was answered before is replaced.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.values.set(name, value);
    }

    /// Appends a row to the list `name`; people see such a list as a table.
    pub fn push(&mut self, name: &'static str, row: Map) {
        if let Some(Value::Array(rows)) = self.values.get_mut(name) {
            rows.push(row.into());
        } else {
            self.values.set(name, vec![row]);
        }
    }

    /// Answers with a series of readings: `value[i]` at `time[i]`, ns since
    /// 1970 UTC.
    ///
    /// # Errors
    /// When the times do not ascend, a value is not finite, or there are not as
    /// many times as values.
    #[track_caller]
    pub fn series(
        &mut self,
        name: SeriesName<'_>,
        time: Vec<i64>,
        value: Vec<f64>,
    ) -> Result<(), Abort> {
        let SeriesName { device, kind, .. } = name;
        if time.len() != value.len() {
            return Err(Abort::new(format_args!(
                "readings of {kind} of {device} need one time for each value"
            )));
        }
        if !time.is_sorted() {
            return Err(Abort::new(format_args!(
                "the times of the readings of {kind} of {device} do not ascend"
            )));
        }
        if !value.iter().all(|v| v.is_finite()) {
            return Err(Abort::new(format_args!(
                "a reading of {kind} of {device} is not a finite number"
            )));
        }
        let none = || -> Box<dyn Readings> { Box::new(Vec::new()) };
        let readings = self.readings.get_or_insert_with(none);
        readings.push(AnsweredSeries {
            device: device.into(),
            kind: kind.into(),
            unit: name.unit.into(),
            location: name.location.into(),
            time,
            value,
        });
        Ok(())
    }

    /// Whether nothing has been answered since the last answer was taken.
    pub(crate) const fn is_empty(&self) -> bool {
        self.values.is_empty() && self.readings.is_none()
    }

    /// Writes the answer into `window`, aligned to eight bytes, and begins a
    /// new one.
    pub(crate) fn write(&mut self, window: &mut [u8]) -> Result<Written, Full> {
        let answer = core::mem::take(self);
        let values = cbor::encode_map(&answer.values, window);
        match answer.readings {
            None => values.map(Written::values),
            Some(readings) => {
                let length = values.unwrap_or_else(|full| full.needed);
                readings.write(window, length)
            }
        }
    }
}

impl Written {
    const fn values(length: usize) -> Self {
        Self {
            values: length,
            readings: 0,
            readings_length: 0,
        }
    }
}

impl Readings for Vec<AnsweredSeries> {
    fn push(&mut self, series: AnsweredSeries) {
        Self::push(self, series);
    }

    fn write(&self, window: &mut [u8], values: usize) -> Result<Written, Full> {
        let numbered = (0_u32..).zip(self);
        let specs: Vec<_> = numbered.map(|(id, series)| series.spec(id)).collect();
        let start = values.next_multiple_of(COLUMN_ALIGN);
        let length = batch::encoded_length(&specs, false);
        let needed = start + length;
        let room = window.get_mut(start..needed).ok_or(Full { needed })?;
        // An earlier answer may have left bytes here, and a draft wants zeros.
        room.fill(0);
        let draft =
            Draft::new(room, 0, 0, order::SERIES, &specs, false).map_err(|_| Full { needed })?;
        let mut row = 0;
        for series in self {
            let rows = row..row + series.time.len();
            row = rows.end;
            draft.time[rows.clone()].copy_from_slice(&series.time);
            draft.value[rows].copy_from_slice(&series.value);
        }
        Ok(Written {
            values,
            readings: start,
            readings_length: length,
        })
    }
}

impl AnsweredSeries {
    fn spec(&self, id: u32) -> SeriesSpec<'_> {
        SeriesSpec {
            id,
            device: &self.device,
            kind: &self.kind,
            unit: &self.unit,
            location: &self.location,
            rows: self.time.len() as u64,
            complete: true,
        }
    }
}

#[cfg(test)]
mod tests;
