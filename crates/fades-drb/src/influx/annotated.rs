//! Answers of 2.x as annotated CSV, read as they come.
//!
//! Tables follow each other; each new schema begins with annotations (`#datatype`,
//! `#group`, `#default`) and a header. A table with a column `error` is one that
//! stands for what went wrong, also after tables that are good.

use std::io::{self, BufRead, Read};

use csv::StringRecord;
use jiff::Timestamp;

use super::msgpack::Row;

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnotatedError<E> {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Server(String),
    /// Whoever takes the rows has enough.
    #[error(transparent)]
    Taker(E),
}

/// Longest line, bytes.
const LONGEST: usize = 1 << 20;

/// Columns of a table, by what they are.
#[derive(Debug, Default)]
struct Schema {
    result: Option<usize>,
    time: Option<usize>,
    value: Option<usize>,
    error: Option<usize>,
    tags: Vec<Option<usize>>,
    columns: usize,
}

/// A row, and whose it is.
#[derive(Debug)]
pub(super) struct Named<'a> {
    /// Number of the statement.
    pub(super) statement: usize,
    /// Values of the tags that were asked for.
    pub(super) tags: &'a [String],
    pub(super) row: Row,
}

/// Reads a whole answer; rows of a table with these `tags` go to `each`.
pub(super) fn answer<R: BufRead, E>(
    reader: R,
    tags: &[String],
    mut each: impl FnMut(Named<'_>) -> Result<(), E>,
) -> Result<(), AnnotatedError<E>> {
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(Lines { reader, length: 0 });
    let mut record = StringRecord::new();
    let (mut schema, mut defaults) = (None, StringRecord::new());
    let mut values = vec![String::new(); tags.len()];
    while rows.read_record(&mut record).map_err(of_csv)? {
        let first = record.get(0).unwrap_or_default();
        if first.starts_with('#') {
            if schema.take().is_some() {
                // What is empty in one table has nothing to do with another.
                defaults.clear();
            }
            if first == "#default" {
                defaults = record.clone();
            }
            continue;
        }
        let Some(schema) = &schema else {
            schema = Some(Schema::of(&record, tags));
            continue;
        };
        // A header that repeats without annotations begins with an empty field too.
        let field = |column: Option<usize>| {
            let column = column?;
            let own = record.get(column).filter(|f| !f.is_empty());
            own.or_else(|| defaults.get(column))
        };
        if let Some(error) = field(schema.error).filter(|e| !e.is_empty()) {
            return Err(AnnotatedError::Server(error.to_owned()));
        }
        if schema.error.is_some() || record.len() != schema.columns {
            return Err(AnnotatedError::Malformed("a row of another length"));
        }
        for (value, column) in values.iter_mut().zip(&schema.tags) {
            value.clear();
            value.push_str(field(*column).unwrap_or_default());
        }
        let number = field(schema.result).and_then(|r| r.parse().ok());
        let statement = number.ok_or(AnnotatedError::Malformed("a result without number"))?;
        let time = field(schema.time).and_then(|t| t.parse::<Timestamp>().ok());
        let time = time.and_then(|t| i64::try_from(t.as_nanosecond()).ok());
        let time = time.ok_or(AnnotatedError::Malformed("a row without time"))?;
        let value = field(schema.value).filter(|v| !v.is_empty()).map(number_of);
        let row = Row { time, value };
        each(Named {
            statement,
            tags: &values,
            row,
        })
        .map_err(AnnotatedError::Taker)?;
    }
    Ok(())
}

/// NaN when it is no number.
fn number_of(text: &str) -> f64 {
    match text {
        "true" => 1.0,
        "false" => 0.0,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => fast_float2::parse(text).unwrap_or(f64::NAN),
    }
}

fn of_csv<E>(e: csv::Error) -> AnnotatedError<E> {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => AnnotatedError::Io(e),
        _ => AnnotatedError::Malformed("text that is no CSV in UTF-8"),
    }
}

impl Schema {
    fn of(header: &StringRecord, tags: &[String]) -> Self {
        let find = |name: &str| header.iter().position(|h| h == name);
        Self {
            result: find("result"),
            time: find("_time"),
            value: find("_value"),
            error: find("error").filter(|_| find("_value").is_none()),
            tags: tags.iter().map(|t| find(t)).collect(),
            columns: header.len(),
        }
    }
}

/// Refuses lines that are too long: a record is held whole.
struct Lines<R> {
    reader: R,
    length: usize,
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.length = match memchr::memrchr(b'\n', &buffer[..n]) {
            Some(at) => n - at - 1,
            None => self.length + n,
        };
        if self.length > LONGEST {
            let what = "a line of more than 1 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
