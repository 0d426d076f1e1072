//! The options of a CSV source, compiled.

use super::clock::ClockFormat;
use super::number::Numbers;
use super::template::{NameShape, Template};
use crate::config::{CsvSource, Encoding, FieldError, Point};

/// A CSV source, ready to read files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Format {
    pub(crate) globs: Vec<String>,
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) header: bool,
    /// Names that replace the header's; empty: the header's count.
    pub(crate) columns: Vec<String>,
    pub(crate) skip_lines: u32,
    pub(crate) comment: Option<u8>,
    pub(crate) encoding: Encoding,
    pub(crate) numbers: Numbers,
    pub(crate) clock: ClockFormat,
    pub(crate) time: Vec<String>,
    pub(crate) file_name: Option<NameShape>,
    pub(crate) device: Template,
    pub(crate) location: Template,
    pub(crate) shape: Shape,
}

/// What a row is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// A reading in each of these columns.
    Wide(Vec<WidePoint>),
    /// One reading.
    Long {
        kind: Template,
        value: String,
        unit: Template,
        missing: Missing,
        /// What is known of some kinds.
        kinds: Vec<KnownKind>,
    },
}

/// A column of readings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WidePoint {
    pub(crate) column: String,
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) valid: Option<[f64; 2]>,
    pub(crate) missing: Missing,
}

/// A kind of the long form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KnownKind {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) valid: Option<[f64; 2]>,
    pub(crate) missing: Missing,
}

/// Values that mean "not measured".
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Missing {
    texts: Vec<Vec<u8>>,
    numbers: Vec<f64>,
}

impl Missing {
    fn compile(numbers: &Numbers, markers: &[&[String]]) -> Self {
        let mut missing = Self::default();
        for marker in markers.iter().copied().flatten() {
            missing.texts.push(marker.trim().as_bytes().to_vec());
            let points = marker.trim().replace(',', ".");
            for text in [marker.trim(), &points] {
                if let super::number::Number::Finite(v) = numbers.read(text.as_bytes())
                    && !missing.numbers.contains(&v)
                {
                    missing.numbers.push(v);
                }
            }
        }
        missing
    }

    /// The field's text says so.
    pub(crate) fn text(&self, field: &[u8]) -> bool {
        self.texts.iter().map(Vec::as_slice).any(|t| t == field)
    }

    /// The field's number says so, however it is written.
    pub(crate) fn number(&self, value: f64) -> bool {
        self.numbers.contains(&value)
    }
}

impl Format {
    /// Compiles the options and checks what their types cannot.
    pub(crate) fn compile(csv: &CsvSource) -> Result<Self, FieldError> {
        let numbers = Numbers::compile(csv.decimal, csv.thousands, csv.encoding)?;
        let format = Self {
            globs: globs(csv)?,
            delimiter: ascii("delimiter", csv.delimiter)?,
            quote: match csv.quote.as_str() {
                "" => None,
                text => Some(one_ascii("quote", text)?),
            },
            header: csv.header,
            columns: csv.columns.clone(),
            skip_lines: csv.skip_lines,
            comment: csv.comment.map(|c| ascii("comment", c)).transpose()?,
            encoding: csv.encoding,
            clock: ClockFormat::compile(&csv.time.format, &csv.time.zone)?,
            time: time_columns(csv)?,
            file_name: csv
                .file_name
                .as_deref()
                .map(|t| NameShape::parse("file-name", t))
                .transpose()?,
            device: device(csv)?,
            location: Template::parse("location", &csv.location)?,
            shape: shape(csv, &numbers)?,
            numbers,
        };
        format.check()?;
        Ok(format)
    }

    fn check(&self) -> Result<(), FieldError> {
        if !self.header && self.columns.is_empty() {
            let reason = "is missing: without a header, name the columns here";
            return Err(FieldError::new("columns", reason));
        }
        if Some(self.delimiter) == self.quote {
            return Err(FieldError::new("quote", "must differ from delimiter"));
        }
        Ok(())
    }
}

fn globs(csv: &CsvSource) -> Result<Vec<String>, FieldError> {
    let globs = csv.files.as_slice();
    if globs.is_empty() || globs.iter().any(String::is_empty) {
        let reason = "is empty: write a glob such as \"readings/*.csv\"";
        return Err(FieldError::new("files", reason));
    }
    for glob in globs {
        super::files::check(glob).map_err(|reason| FieldError::new("files", reason))?;
    }
    Ok(globs.to_vec())
}

fn device(csv: &CsvSource) -> Result<Template, FieldError> {
    if csv.device.is_empty() {
        let reason = "is empty: write a template such as \"{sensor}\", or \"{file}\"";
        return Err(FieldError::new("device", reason));
    }
    Template::parse("device", &csv.device)
}

fn time_columns(csv: &CsvSource) -> Result<Vec<String>, FieldError> {
    match (&csv.time.column, csv.time.columns.as_slice()) {
        (Some(column), []) => Ok(vec![column.clone()]),
        (None, []) => Err(FieldError::new(
            "time",
            "says no column: write column = \"…\" or columns = [\"…\", \"…\"]",
        )),
        (None, columns) => Ok(columns.to_vec()),
        (Some(_), _) => Err(FieldError::new(
            "time.columns",
            "excludes time.column: keep one of them",
        )),
    }
}

fn shape(csv: &CsvSource, numbers: &Numbers) -> Result<Shape, FieldError> {
    for (i, point) in csv.points.iter().enumerate() {
        check_point(i, point)?;
    }
    match (&csv.kind, &csv.value) {
        (None, None) => wide(csv, numbers),
        (Some(kind), Some(value)) => long(csv, numbers, kind, value),
        (Some(_), None) => Err(FieldError::new(
            "value",
            "is missing: with kind each row is one reading; name the column of its value",
        )),
        (None, Some(_)) => Err(FieldError::new(
            "kind",
            "is missing: with value each row is one reading; write its kind, such as \"{type}\"",
        )),
    }
}

fn check_point(i: usize, point: &Point) -> Result<(), FieldError> {
    let wrong = |reason| Err(FieldError::new(format!("points[{i}].valid"), reason));
    match point.valid {
        Some([low, high]) if low.is_nan() || high.is_nan() => wrong("must be two numbers"),
        Some([low, high]) if low > high => wrong("begins after its end: write [least, greatest]"),
        _ => Ok(()),
    }
}

fn wide(csv: &CsvSource, numbers: &Numbers) -> Result<Shape, FieldError> {
    if csv.unit.is_some() {
        let reason = "belongs to rows that are one reading: write it at each of points";
        return Err(FieldError::new("unit", reason));
    }
    if csv.points.is_empty() {
        let reason = "is missing: name the columns that are readings, such as \
                      points = [{ column = \"P1\", kind = \"pm10\", unit = \"ug/m3\" }], \
                      or write kind and value when each row is one reading";
        return Err(FieldError::new("points", reason));
    }
    let points = csv.points.iter().enumerate().map(|(i, p)| {
        let column = p.column.clone().ok_or_else(|| {
            FieldError::new(format!("points[{i}].column"), "is missing: name the column")
        })?;
        Ok(WidePoint {
            kind: p.kind.clone().unwrap_or_else(|| column.clone()),
            column,
            unit: p.unit.clone(),
            valid: p.valid,
            missing: Missing::compile(numbers, &[&csv.missing, &p.missing]),
        })
    });
    let points: Vec<WidePoint> = points.collect::<Result<_, _>>()?;
    for (i, p) in points.iter().enumerate() {
        if points[..i].iter().any(|q| q.kind == p.kind) {
            let reason = format!("{:?} is the kind of another column already", p.kind);
            return Err(FieldError::new(format!("points[{i}].kind"), reason));
        }
    }
    Ok(Shape::Wide(points))
}

fn long(csv: &CsvSource, numbers: &Numbers, kind: &str, value: &str) -> Result<Shape, FieldError> {
    let kinds = csv.points.iter().enumerate().map(|(i, p)| {
        if p.column.is_some() {
            let reason = "excludes kind and value of the source: name a kind here, not a column";
            return Err(FieldError::new(format!("points[{i}].column"), reason));
        }
        let kind = p.kind.clone().ok_or_else(|| {
            FieldError::new(format!("points[{i}].kind"), "is missing: name the kind")
        })?;
        Ok(KnownKind {
            kind,
            unit: p.unit.clone(),
            valid: p.valid,
            missing: Missing::compile(numbers, &[&csv.missing, &p.missing]),
        })
    });
    Ok(Shape::Long {
        kind: Template::parse("kind", kind)?,
        value: value.to_owned(),
        unit: Template::parse("unit", csv.unit.as_deref().unwrap_or_default())?,
        missing: Missing::compile(numbers, &[&csv.missing]),
        kinds: kinds.collect::<Result<_, _>>()?,
    })
}

fn ascii(field: &str, c: char) -> Result<u8, FieldError> {
    if c.is_ascii() && c != '\n' && c != '\r' {
        Ok(c as u8)
    } else {
        let reason = format!("{c:?} cannot be used: write one ASCII character, no line break");
        Err(FieldError::new(field, reason))
    }
}

fn one_ascii(field: &str, text: &str) -> Result<u8, FieldError> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => ascii(field, c),
        _ => Err(FieldError::new(field, "must be one character, or empty")),
    }
}
