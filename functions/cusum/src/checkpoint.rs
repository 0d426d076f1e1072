//! The checkpoint: all series, little-endian, one after the other.
//!
//! ```text
//! version: u32, then for each series
//!   4 × (length: u16, text), learned: u64, mean: f64, squares: f64,
//!   up: f64, since: i64, down: f64, since: i64, last: i64
//! ```

use fades_sdk::prelude::*;

use crate::Series;
use crate::chart::{Chart, Sum};

const VERSION: u32 = 1;

pub(crate) fn write(series: &[Series]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for Series { name, chart } in series {
        for text in name {
            // Names of devices and kinds have some hundred bytes at the most.
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(&text.as_bytes()[..length.into()]);
        }
        bytes.extend(chart.learned.to_le_bytes());
        for number in [chart.mean, chart.squares] {
            bytes.extend(number.to_le_bytes());
        }
        for sum in [chart.up, chart.down] {
            bytes.extend(sum.value.to_le_bytes());
            bytes.extend(sum.since.to_le_bytes());
        }
        bytes.extend(chart.last.to_le_bytes());
    }
    bytes
}

/// What [`write`] wrote; none: something else did.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<Series>> {
    let mut rest = Rest(bytes);
    if rest.take().map(u32::from_le_bytes)? != VERSION {
        return None;
    }
    let mut series = Vec::new();
    while !rest.0.is_empty() {
        let name = [rest.text()?, rest.text()?, rest.text()?, rest.text()?];
        let chart = Chart {
            learned: rest.take().map(u64::from_le_bytes)?,
            mean: rest.number()?,
            squares: rest.number()?,
            up: rest.sum()?,
            down: rest.sum()?,
            last: rest.take().map(i64::from_le_bytes)?,
        };
        series.push(Series { name, chart });
    }
    Some(series)
}

/// What is not read yet.
struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn sum(&mut self) -> Option<Sum> {
        Some(Sum {
            value: self.number()?,
            since: self.take().map(i64::from_le_bytes)?,
        })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.take().map(u16::from_le_bytes)?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        core::str::from_utf8(text).ok().map(ToOwned::to_owned)
    }
}
