//! A source for one file about which nothing is known.

use std::path::Path;

use super::csv::{CsvSource, Encoding, Patterns, Point, TimeColumns};
use super::{Common, Kind, Source, Sources, SourcesError};
use crate::csv::{Preface, is_time, preface};

/// Names by which columns are recognised, in lower case.
const TIME: [&str; 8] = [
    "timestamp",
    "time",
    "datetime",
    "date_time",
    "date",
    "ts",
    "_time",
    "utc",
];
const DEVICE: [&str; 9] = [
    "device",
    "device_id",
    "sensor",
    "sensor_id",
    "node",
    "node_id",
    "board",
    "station",
    "id",
];
const LOCATION: [&str; 5] = ["location", "room", "site", "place", "zone"];
const KIND: [&str; 4] = ["kind", "type", "measurement", "quantity"];
const VALUE: [&str; 2] = ["value", "reading"];
const UNIT: [&str; 2] = ["unit", "units"];

impl Sources {
    /// One source, called `csv`, for the file at `path`: delimiter, time, device,
    /// location and columns of readings are guessed from its header and first
    /// rows. For looking at a file; a node's sources are written by its operator.
    ///
    /// # Errors
    /// When the file cannot be read or what it means cannot be guessed.
    pub fn guess(path: &Path) -> Result<Self, SourcesError> {
        let not_guessed = |reason: String| SourcesError::NotGuessed {
            file: path.display().to_string(),
            reason,
        };
        let absolute = std::path::absolute(path).map_err(|e| not_guessed(e.to_string()))?;
        let preface = preface(&absolute)
            .map_err(|e| not_guessed(e.to_string()))?
            .ok_or_else(|| not_guessed("its first line has no ',', ';', tab or '|'".to_owned()))?;
        let csv = csv(&absolute, &preface).map_err(not_guessed)?;
        let name = "csv"
            .parse()
            .map_err(|e: fades_task::identity::IdentityError| not_guessed(e.to_string()))?;
        let source = Source {
            common: Common::default(),
            kind: Kind::Csv(csv),
        };
        let sources = Self([(name, source)].into());
        sources.check()?;
        Ok(sources)
    }
}

fn csv(path: &Path, preface: &Preface) -> Result<CsvSource, String> {
    let path = path.to_str().ok_or("its name is no UTF-8")?;
    let numeric_header =
        (0..preface.header.len()).any(|i| preface.header[i].parse::<f64>().is_ok());
    if numeric_header {
        return Err("its first line names no columns: put a header above the rows".to_owned());
    }
    let decimal = decimal(preface);
    let (time, taken) = time(preface)?;
    let device = find(preface, &DEVICE);
    let location = find(preface, &LOCATION);
    let (kind, value) = (find(preface, &KIND), find(preface, &VALUE));
    let long = kind.zip(value);
    let named = |i: usize| format!("{{{}}}", preface.header[i]);
    let points = match long {
        Some(_) => Vec::new(),
        None => points(preface, decimal, &|i| {
            taken.contains(&i) || Some(i) == device || Some(i) == location
        })?,
    };
    Ok(CsvSource {
        files: Patterns::One(escaped(path)),
        delimiter: preface.delimiter,
        quote: "\"".to_owned(),
        header: true,
        columns: Vec::new(),
        skip_lines: 0,
        comment: None,
        encoding: Encoding::Utf8,
        decimal,
        thousands: None,
        time,
        file_name: None,
        device: device.map_or_else(|| "{file}".to_owned(), named),
        location: location.map_or_else(String::new, named),
        kind: long.map(|(kind, _)| named(kind)),
        value: long.map(|(_, value)| preface.header[value].clone()),
        unit: long.and_then(|_| find(preface, &UNIT)).map(named),
        points,
        missing: Vec::new(),
    })
}

/// `path` as a glob that means only itself.
fn escaped(path: &str) -> String {
    let escape = |c: char| match c {
        '*' | '?' | '[' | '{' => format!("[{c}]"),
        c => c.to_string(),
    };
    path.chars().map(escape).collect()
}

fn find(preface: &Preface, names: &[&str]) -> Option<usize> {
    let header = preface.header.iter().map(|h| h.to_lowercase());
    let header: Vec<String> = header.collect();
    names
        .iter()
        .find_map(|name| header.iter().position(|h| h == name))
}

/// A comma when fields are separated by something else and look like `1,5`.
fn decimal(preface: &Preface) -> char {
    let comma = |i| preface.is_numeric(i, ',') && !preface.is_numeric(i, '.');
    if preface.delimiter != ',' && (0..preface.header.len()).any(comma) {
        ','
    } else {
        '.'
    }
}

/// The time, and the columns that it takes.
fn time(preface: &Preface) -> Result<(TimeColumns, Vec<usize>), String> {
    let date = find(preface, &["date"]);
    let of_day = find(preface, &["time"]);
    let columns = match (date, of_day) {
        (Some(date), Some(of_day)) => vec![date, of_day],
        _ => vec![find(preface, &TIME).ok_or_else(|| {
            format!(
                "no column is called {}: give the column of the time one of these names",
                TIME.join(", ")
            )
        })?],
    };
    let values = columns.iter().map(|&i| preface.values(i).next());
    let text = values.collect::<Option<Vec<_>>>().map(|v| v.join(" "));
    let text = text.ok_or("it has no row with a time")?;
    let formats = ["auto", unix(&text)];
    let format = formats
        .into_iter()
        .find(|f| is_time(&text, f))
        .ok_or_else(|| {
            format!("{text:?} is no time that can be guessed: write it like 2026-11-23T12:00:00Z")
        })?;
    let names = columns.iter().map(|&i| preface.header[i].clone());
    let time = TimeColumns {
        column: None,
        columns: names.collect(),
        format: format.to_owned(),
        zone: fades_task::time::Zone::default(),
    };
    Ok((time, columns))
}

/// The unit of a count since 1970, by its digits.
fn unix(text: &str) -> &'static str {
    match text.split('.').next().map_or(0, str::len) {
        ..=11 => "unix-s",
        12..=14 => "unix-ms",
        15..=17 => "unix-us",
        _ => "unix-ns",
    }
}

fn points(
    preface: &Preface,
    decimal: char,
    taken: &dyn Fn(usize) -> bool,
) -> Result<Vec<Point>, String> {
    let columns = (0..preface.header.len())
        .filter(|&i| !taken(i) && !preface.header[i].is_empty())
        .filter(|&i| preface.is_numeric(i, decimal));
    let points: Vec<Point> = columns
        .map(|i| Point {
            column: Some(preface.header[i].clone()),
            kind: None,
            unit: String::new(),
            valid: None,
            missing: Vec::new(),
        })
        .collect();
    if points.is_empty() {
        return Err("no column besides time, device and location has numbers".to_owned());
    }
    Ok(points)
}
