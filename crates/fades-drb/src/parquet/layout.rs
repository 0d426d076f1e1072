//! The options of a source, compiled.

use std::sync::Arc;

use crate::config::{FieldError, ParquetSource};
use crate::csv::{Part, Template, check_glob};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// Where the parts of a reading are.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) globs: Vec<String>,
    pub(super) time: String,
    /// Nanoseconds that a plain integer counts.
    pub(super) time_unit: Option<i64>,
    /// Device, location, kind and unit; the last two of the long form only.
    pub(super) names: [Template; 4],
    /// Columns that the names are made of.
    pub(super) texts: Vec<String>,
    pub(super) points: Vec<Point>,
    /// A column of marks, of files that have it.
    pub(super) mark: Option<String>,
}

/// A column of values.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) column: String,
    /// Kind and unit; `None` in the long form.
    what: Option<(Arc<str>, Arc<str>)>,
    pub(super) valid: Option<[f64; 2]>,
}

/// Device, location, kind and unit as rows say them.
pub(super) type Names = [Arc<str>; 4];

/// Gaps that stand for no column.
const OF_PATH: [&str; 2] = ["file", "folder"];

impl Layout {
    /// Compiles options.
    pub(crate) fn compile(config: &ParquetSource) -> Result<Self, FieldError> {
        let globs = config.files.as_slice().to_vec();
        if globs.is_empty() {
            return Err(FieldError::new("files", "write at least one glob"));
        }
        for glob in &globs {
            check_glob(glob).map_err(|reason| FieldError::new("files", reason))?;
        }
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let names = [
            Template::parse("device", &config.device)?,
            Template::parse("location", &config.location)?,
            Template::parse("kind", &or_empty(&config.kind))?,
            Template::parse("unit", &or_empty(&config.unit))?,
        ];
        let mut texts: Vec<String> = Vec::new();
        for part in names.iter().flat_map(|n| n.parts()) {
            if let Part::Name(name) = part
                && !OF_PATH.contains(&name.as_str())
                && !texts.contains(name)
            {
                texts.push(name.clone());
            }
        }
        Ok(Self {
            globs,
            time: config.time.column.clone(),
            time_unit: config.time.unit.map(|unit| unit.nanos()),
            names,
            texts,
            points: points(config)?,
            mark: config.mark.clone(),
        })
    }

    /// Whether each row is one reading.
    pub(super) fn is_long(&self) -> bool {
        self.points.iter().any(|point| point.what.is_none())
    }

    /// Whether readings can match.
    pub(super) fn may_match(&self, selector: &Selector) -> bool {
        let [device, location, kind, _] = &self.names;
        let fits = |name: &Template, is: &dyn Fn(&str) -> bool| match name.parts() {
            [] => is(""),
            [Part::Text(text)] => is(text),
            _ => true,
        };
        let kinds = |point: &Point| match &point.what {
            Some((kind, _)) => selector.kind(kind),
            None => fits(kind, &|k| selector.kind(k)),
        };
        fits(device, &|d| selector.device(d))
            && fits(location, &|l| selector.location(l))
            && self.points.iter().any(kinds)
    }
}

fn points(config: &ParquetSource) -> Result<Vec<Point>, FieldError> {
    let valid = |field: String, valid: Option<[f64; 2]>| match valid {
        Some([least, greatest]) if least > greatest || least.is_nan() || greatest.is_nan() => {
            Err(FieldError::new(field, "write [least, greatest]"))
        }
        valid => Ok(valid),
    };
    match (&config.kind, &config.value, &config.points[..]) {
        (Some(_), Some(value), []) => Ok(vec![Point {
            column: value.clone(),
            what: None,
            valid: valid("valid".to_owned(), config.valid)?,
        }]),
        (None, None, [_, ..])
            if config.unit.is_none() && config.valid.is_none() && config.mark.is_none() =>
        {
            let points = config.points.iter().enumerate().map(|(i, point)| {
                let kind = point.kind.as_ref().unwrap_or(&point.column);
                Ok(Point {
                    column: point.column.clone(),
                    what: Some((kind.as_str().into(), point.unit.as_str().into())),
                    valid: valid(format!("points[{i}].valid"), point.valid)?,
                })
            });
            points.collect()
        }
        _ => Err(FieldError::new(
            "points",
            "write either points (each row has several readings), or kind and value, perhaps with \
             unit, mark and valid (each row is one reading)",
        )),
    }
}

impl Point {
    /// The series of its readings in rows that say `names`.
    pub(super) fn key(&self, names: &Names) -> SeriesKey {
        let [device, location, kind, unit] = names.clone();
        let (kind, unit) = self.what.clone().unwrap_or((kind, unit));
        SeriesKey {
            device,
            location,
            kind,
            unit,
        }
    }
}
