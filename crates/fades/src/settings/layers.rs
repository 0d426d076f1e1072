//! TOML files on top of each other, with the place of every value.
//!
//! Tables are merged key by key, anything else is replaced by the later file.
//! The text of every file is moved behind the texts before it, so that a
//! position belongs to one file only, in the merged table and in the errors
//! about it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggestion::{closest, unknown_word};
use crate::problem::{Attempt, Problem};

/// Longest file that is read, bytes.
const FILE_MAX: u64 = 4 << 20;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Files, the first below the others.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    files: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    path: PathBuf,
    start: usize,
    /// White space as long as all texts before, then the text.
    padded: String,
}

impl Layers {
    /// Reads `main`, and on top of it the `.toml` files of the folder `more`,
    /// by name, where there is such a folder.
    pub(crate) fn read(main: &Path, more: &Path) -> Result<Self, Problem> {
        let mut layers = Self::default();
        layers.push_file(main)?;
        for path in toml_files(more)? {
            layers.push_file(&path)?;
        }
        Ok(layers)
    }

    fn push_file(&mut self, path: &Path) -> Result<(), Problem> {
        let what = || format!("cannot read {}", path.display());
        let length = std::fs::metadata(path).or_problem(what)?.len();
        if length > FILE_MAX {
            let reason = format!("it has {length} bytes, at most {FILE_MAX} are read");
            return Err(Problem::new(what()).reason(reason));
        }
        self.push(path, &std::fs::read_to_string(path).or_problem(what)?);
        Ok(())
    }

    /// Puts a text on top.
    pub(crate) fn push(&mut self, path: &Path, text: &str) {
        let start = self.files.last().map_or(0, |l| l.padded.len());
        let mut padded = " ".repeat(start);
        padded.push_str(text);
        let path = path.to_owned();
        self.files.push(Layer {
            path,
            start,
            padded,
        });
    }

    /// The merged table as a typed value.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let table = self.merged()?;
        T::deserialize(toml::Deserializer::from(table)).map_err(|e| self.problem(&e))
    }

    /// Where every value was written: dotted path to place. Arrays count as
    /// one value.
    pub(crate) fn origins(&self) -> Result<BTreeMap<String, Place>, Problem> {
        let mut origins = BTreeMap::new();
        let table = self.merged()?;
        self.collect(table.get_ref(), "", &mut origins);
        Ok(origins)
    }

    fn collect(&self, table: &DeTable<'_>, path: &str, origins: &mut BTreeMap<String, Place>) {
        for (key, value) in table {
            let path = match path {
                "" => key.get_ref().to_string(),
                _ => format!("{path}.{}", key.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) => self.collect(inner, &path, origins),
                _ => {
                    origins.extend(self.place(key.span().start).map(|p| (path, p)));
                }
            }
        }
    }

    /// An error about a value that the types let pass: `message` begins with
    /// the value's dotted path and a colon.
    pub(crate) fn field_problem(&self, message: &str) -> Problem {
        let path = message.split(": ").next().unwrap_or(message);
        let what = match self.place_of(path) {
            Some(place) => format!("{place}: {message}"),
            None => message.to_owned(),
        };
        let problem = Problem::new(what);
        match unknown_word(message).and_then(|(w, known)| closest(w, &known)) {
            Some(meant) => problem.remedy(format!("did you mean `{meant}`?")),
            None => problem,
        }
    }

    /// Where the value at `path` is written, or the first one of its table.
    fn place_of(&self, path: &str) -> Option<Place> {
        let origins = self.origins().ok()?;
        let mut path = path;
        loop {
            let table = format!("{path}.");
            let found = origins.get(path).or_else(|| {
                let inside = origins.iter().filter(|(k, _)| k.starts_with(&table));
                inside.map(|(_, place)| place).min_by_key(|p| p.line)
            });
            if found.is_some() {
                return found.cloned();
            }
            path = path.rsplit_once(['.', '['])?.0;
        }
    }

    fn merged(&self) -> Result<Spanned<DeTable<'_>>, Problem> {
        let mut merged: Option<Spanned<DeTable<'_>>> = None;
        for layer in &self.files {
            let table = DeTable::parse(&layer.padded).map_err(|e| self.problem(&e))?;
            match &mut merged {
                Some(below) => merge(below.get_mut(), table.into_inner()),
                None => merged = Some(table),
            }
        }
        Ok(merged.unwrap_or_else(|| Spanned::new(0..0, DeTable::new())))
    }

    /// The place of a position.
    fn place(&self, position: usize) -> Option<Place> {
        let layer = self.files.iter().rev().find(|l| l.start <= position)?;
        let before = layer
            .padded
            .get(layer.start..position.min(layer.padded.len()))?;
        let line = 1 + before.matches('\n').count();
        let file = layer.path.clone();
        Some(Place { file, line })
    }

    /// An error of the TOML library in our words: where, what, what was meant.
    fn problem(&self, error: &toml::de::Error) -> Problem {
        let message = error.message();
        let word = unknown_word(message);
        let span = error.span().unwrap_or(0..0);
        let written = word.as_ref().and_then(|(w, _)| self.find_key(&span, w));
        let position = written.unwrap_or(span.start);
        let what = match self.place(position) {
            Some(place) => format!("{place}: {}", first_line(message)),
            None => first_line(message).to_owned(),
        };
        let problem = Problem::new(what);
        match word.and_then(|(w, known)| closest(w, &known)) {
            Some(meant) => problem.remedy(format!("did you mean `{meant}`?")),
            None => problem,
        }
    }

    /// Where a key is written inside of `span`: the library names the whole
    /// table when the key is in a table with a type.
    fn find_key(&self, span: &Range<usize>, key: &str) -> Option<usize> {
        let layer = self.files.iter().rev().find(|l| l.start <= span.start)?;
        let text = layer.padded.get(span.start..)?;
        let hits = text.match_indices(key).map(|(at, _)| at);
        let is_key = |at: &usize| {
            let before = text[..*at].chars().next_back();
            let after = text[at + key.len()..].trim_start();
            let open =
                before.is_none_or(|c| c.is_whitespace() || matches!(c, '{' | ',' | '.' | '"'));
            open && after.starts_with(['=', '.', '"'])
        };
        hits.filter(is_key).map(|at| span.start + at).next()
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

fn merge<'i>(below: &mut DeTable<'i>, above: DeTable<'i>) {
    for (key, value) in above {
        let both = (below.get_mut(key.get_ref().as_ref()), value);
        match both {
            (Some(below), value) if below.get_ref().is_table() && value.get_ref().is_table() => {
                if let (DeValue::Table(below), DeValue::Table(above)) =
                    (below.get_mut(), value.into_inner())
                {
                    merge(below, above);
                }
            }
            (_, value) => {
                // The key goes too: its position is the value's origin.
                below.remove(key.get_ref().as_ref());
                below.insert(key, value);
            }
        }
    }
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let what = || format!("cannot read the folder {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.or_problem(what)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.or_problem(what)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::Layers;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        node: Node,
        source: Option<Source>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Node {
        name: String,
        memory: u32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
    enum Source {
        Csv { files: String },
    }

    fn layers(texts: &[&str]) -> Layers {
        let mut layers = Layers::default();
        for (i, text) in texts.iter().enumerate() {
            layers.push(Path::new(&format!("{i}.toml")), text);
        }
        layers
    }

    fn error(texts: &[&str]) -> String {
        let parsed = layers(texts).parse::<Sample>();
        parsed.unwrap_err().text(str::to_owned)
    }

    #[test]
    fn later_files_replace_single_values_and_each_value_knows_its_place() {
        let layers = layers(&[
            "[node]\nname = \"a\"\nmemory = 1\n",
            "# more\n[node]\nmemory = 2\n",
        ]);
        let sample: Sample = layers.parse().unwrap();
        assert_eq!((sample.node.name.as_str(), sample.node.memory), ("a", 2));
        let origins = layers.origins().unwrap();
        assert_eq!(origins["node.name"].to_string(), "0.toml:2");
        assert_eq!(origins["node.memory"].to_string(), "1.toml:3");
    }

    #[test]
    fn errors_name_file_and_line_and_what_was_meant() {
        let good = "[node]\nname = \"a\"\nmemory = 1\n";
        let text = error(&[good, "[node]\nmemroy = 2\n"]);
        assert!(text.contains("1.toml:2: unknown field `memroy`"), "{text}");
        assert!(text.contains("did you mean `memory`?"), "{text}");
        let text = error(&[good, "\n[node]\nmemory = \"x\"\n"]);
        assert!(text.contains("1.toml:3: invalid type"), "{text}");
        let text = error(&[good, "[node\n"]);
        assert!(text.contains("1.toml:1: "), "{text}");
    }

    #[test]
    fn a_wrong_key_in_a_table_with_a_type_is_found_by_its_line() {
        let text =
            error(&["[node]\nname = \"a\"\nmemory = 1\n[source]\ntype = \"csv\"\nflies = \"x\"\n"]);
        assert!(text.contains("0.toml:6: unknown field `flies`"), "{text}");
        assert!(text.contains("did you mean `files`?"), "{text}");
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        assert!(error(&["[node]\nname = \"a\"\n"]).contains("0.toml:1: missing field `memory`"));
    }
}
