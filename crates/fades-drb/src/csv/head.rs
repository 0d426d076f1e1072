//! The first lines of a file about which nothing is known.

use std::path::Path;

use super::clock::ClockFormat;
use super::fields::Fields;
use super::input::{Input, ReadError};
use super::lines::{Line, Lines};
use super::number::{Number, Numbers};

use crate::config::Encoding;

/// Rows that are looked at.
const ROWS: usize = 50;

/// Header and first rows, taken apart at the likeliest delimiter.
pub(crate) struct Preface {
    pub(crate) delimiter: char,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Reads the beginning of a file; `None` when no delimiter is in its first line.
pub(crate) fn preface(path: &Path) -> Result<Option<Preface>, ReadError> {
    let failed = |e| ReadError::io("read", path, e);
    let mut lines = Lines::new(Input::open(path)?, 0);
    let mut texts = Vec::new();
    while texts.len() <= ROWS
        && let Some(line) = lines.next().map_err(failed)?
    {
        if let Line::Text(text) = line
            && !text.trim_ascii().is_empty()
        {
            texts.push(text.to_vec());
        }
    }
    let Some(first) = texts.first() else {
        return Ok(None);
    };
    let count = |delimiter: u8| first.iter().filter(|b| **b == delimiter).count();
    let likeliest = *b",;\t|";
    let Some(delimiter) = likeliest.into_iter().rev().max_by_key(|d| count(*d)) else {
        return Ok(None);
    };
    if count(delimiter) == 0 {
        return Ok(None);
    }
    let mut rows = texts.iter().map(|text| fields(text, delimiter));
    Ok(Some(Preface {
        delimiter: delimiter.into(),
        header: rows.next().unwrap_or_default(),
        rows: rows.collect(),
    }))
}

fn fields(text: &[u8], delimiter: u8) -> Vec<String> {
    let mut fields = Fields::default();
    fields.split(text, delimiter, Some(b'"'), usize::MAX - 1);
    let field = |i| String::from_utf8_lossy(fields.field(text, i).unwrap_or_default()).into_owned();
    (0..fields.count()).map(field).collect()
}

impl Preface {
    /// Values of a column that are not empty.
    pub(crate) fn values(&self, column: usize) -> impl Iterator<Item = &str> {
        let values = self.rows.iter().filter_map(move |r| r.get(column));
        values.map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether all values of a column are numbers, and there are some.
    pub(crate) fn is_numeric(&self, column: usize, decimal: char) -> bool {
        let Ok(numbers) = Numbers::compile(decimal, None, Encoding::Utf8) else {
            return false;
        };
        let is_number = |v: &str| !matches!(numbers.read(v.as_bytes()), Number::Unreadable);
        self.values(column).next().is_some() && self.values(column).all(is_number)
    }
}

/// Whether `text` is a time of this format.
pub(crate) fn is_time(text: &str, format: &str) -> bool {
    let zone = fades_task::time::Zone::default();
    ClockFormat::compile(format, &zone).is_ok_and(|f| f.clock().read(text.as_bytes()).is_some())
}
