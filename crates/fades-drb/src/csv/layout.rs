//! Where the columns of one file are.

use std::path::Path;

use super::format::{Format, Shape};
use super::input::ReadError;
use super::template::{Part, Template};

/// The columns of a file, found. Files with the same header and without parts
/// of names in their templates have equal layouts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// Columns of the time, in the order in which they are joined.
    pub(crate) time: Vec<usize>,
    /// Columns that say whose row it is.
    pub(crate) keys: Vec<usize>,
    pub(crate) device: Filled,
    pub(crate) location: Filled,
    /// Kind and unit of the long form.
    pub(crate) long: Option<(Filled, Filled)>,
    /// Columns of values: one for each point, or the only one.
    pub(crate) values: Vec<usize>,
    /// Fields beyond this one are of no interest.
    pub(crate) last: usize,
}

/// A template whose names are found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filled(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Index into [`Layout::keys`].
    Key(usize),
}

impl Filled {
    /// The text for a row whose key fields are `keys`.
    pub(crate) fn render(&self, keys: &[String]) -> String {
        let pieces = self.0.iter().map(|p| match p {
            Piece::Text(t) => t.as_str(),
            Piece::Key(i) => keys[*i].as_str(),
        });
        pieces.collect()
    }
}

/// The named parts of a file's name.
pub(crate) struct NameParts(Vec<(String, String)>);

impl NameParts {
    pub(crate) fn of(format: &Format, path: &Path) -> Result<Self, ReadError> {
        let text = |p: Option<&std::ffi::OsStr>| {
            p.map_or_else(String::new, |p| p.to_string_lossy().into_owned())
        };
        let file = text(path.file_name());
        let file = ["gz", "xz"]
            .iter()
            .find_map(|e| file.strip_suffix(e)?.strip_suffix('.'))
            .unwrap_or(&file);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let mut parts = Vec::new();
        if let Some(shape) = &format.file_name {
            let found = shape
                .parts_of(stem)
                .ok_or_else(|| ReadError::NameShape(path.to_path_buf()))?;
            parts.extend(found.into_iter().map(|(n, t)| (n.to_owned(), t)));
        }
        parts.push(("file".to_owned(), stem.to_owned()));
        let folder = text(path.parent().and_then(Path::file_name));
        parts.push(("folder".to_owned(), folder));
        Ok(Self(parts))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, t)| t.as_str())
    }

    /// What `template` says without looking into the file, if it can be said.
    pub(crate) fn render(&self, template: &Template) -> Option<String> {
        let pieces = template.parts().iter().map(|p| match p {
            Part::Text(t) => Some(t.as_str()),
            Part::Name(n) => self.text(n),
        });
        pieces.collect()
    }
}

/// Looks names up in a file's columns.
struct Finder<'a> {
    path: &'a Path,
    columns: &'a [String],
    parts: &'a NameParts,
    keys: Vec<usize>,
}

impl Finder<'_> {
    fn column(&self, name: &str) -> Result<usize, ReadError> {
        let found = self.columns.iter().position(|c| c == name);
        found.ok_or_else(|| ReadError::NoColumn {
            path: self.path.to_path_buf(),
            column: name.to_owned(),
            have: shown(self.columns),
        })
    }

    fn fill(&mut self, template: &Template) -> Result<Filled, ReadError> {
        let mut pieces = Vec::new();
        for part in template.parts() {
            pieces.push(match part {
                Part::Text(t) => Piece::Text(t.clone()),
                Part::Name(n) => match self.parts.text(n) {
                    Some(t) => Piece::Text(t.to_owned()),
                    None => Piece::Key(self.key(n)?),
                },
            });
        }
        Ok(Filled(pieces))
    }

    fn key(&mut self, name: &str) -> Result<usize, ReadError> {
        let column = self.column(name)?;
        let known = self.keys.iter().position(|&k| k == column);
        Ok(known.unwrap_or_else(|| {
            self.keys.push(column);
            self.keys.len() - 1
        }))
    }
}

/// The names of the columns for an error message.
fn shown(columns: &[String]) -> String {
    const MOST: usize = 20;
    let mut shown = columns.iter().take(MOST).cloned().collect::<Vec<_>>();
    if columns.len() > MOST {
        shown.push(format!("and {} more", columns.len() - MOST));
    }
    shown.join(", ")
}

impl Layout {
    /// Finds what `format` names among `columns` and the parts of the name of
    /// `path`.
    pub(crate) fn find(
        format: &Format,
        path: &Path,
        columns: &[String],
    ) -> Result<Self, ReadError> {
        let parts = NameParts::of(format, path)?;
        let mut finder = Finder {
            path,
            columns,
            parts: &parts,
            keys: Vec::new(),
        };
        let find_all = |finder: &Finder<'_>, names: &[&String]| {
            let found = names.iter().map(|n| finder.column(n));
            found.collect::<Result<Vec<_>, _>>()
        };
        let time = find_all(&finder, &format.time.iter().collect::<Vec<_>>())?;
        let device = finder.fill(&format.device)?;
        let location = finder.fill(&format.location)?;
        let (long, values) = match &format.shape {
            Shape::Wide(points) => {
                let names: Vec<_> = points.iter().map(|p| &p.column).collect();
                (None, find_all(&finder, &names)?)
            }
            Shape::Long {
                kind, unit, value, ..
            } => {
                let filled = (finder.fill(kind)?, finder.fill(unit)?);
                (Some(filled), vec![finder.column(value)?])
            }
        };
        let keys = finder.keys;
        let last = [&time, &keys, &values].into_iter().flatten().max();
        Ok(Self {
            last: last.copied().unwrap_or_default(),
            time,
            keys,
            device,
            location,
            long,
            values,
        })
    }
}
