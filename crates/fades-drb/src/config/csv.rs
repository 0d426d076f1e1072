//! Options of a CSV source.

use fades_task::time::Zone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source of text files: one row a line, fields separated by a character.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CsvSource {
    /// Globs of the files; `*` stays within a folder, `**` does not. Relative
    /// ones begin at the folder of the node's configuration. Files that end in
    /// `.gz` or `.xz` are decompressed while they are read.
    pub files: Patterns,
    /// Between two fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Around a field that contains the delimiter; empty: there are no quotes.
    #[serde(default = "quote")]
    pub quote: String,
    /// The first row names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Names of the columns: when there is no header, or instead of a header
    /// that does not fit its rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Lines before the header (or before the first row) that say nothing.
    #[serde(default)]
    pub skip_lines: u32,
    /// Lines that begin with this character say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<char>,
    /// Encoding of the text.
    #[serde(default)]
    pub encoding: Encoding,
    /// Between the whole and the fraction of a number.
    #[serde(default = "point")]
    pub decimal: char,
    /// Between groups of digits of a number; such characters are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
    /// Where the time of a row is and how it is written.
    pub time: TimeColumns,
    /// Shape of the files' names without their endings, such as
    /// `"{date}_room-{room}"`; the named parts can be used like columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The device, a template: `{NAME}` stands for a column, a part of the
    /// file's name, or `{file}` and `{folder}`.
    pub device: String,
    /// The location, a template; may be empty.
    #[serde(default)]
    pub location: String,
    /// Long form: the kind, a template. Each row is one reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Long form: the column of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Long form: the unit, a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Wide form: the columns that are readings. Long form: units and valid
    /// ranges of kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// Values that mean "not measured", in every column of readings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

const fn comma() -> char {
    ','
}

const fn point() -> char {
    '.'
}

const fn yes() -> bool {
    true
}

fn quote() -> String {
    "\"".to_owned()
}

/// One glob, or several of which any matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a glob or a list of globs")]
pub enum Patterns {
    /// One glob.
    One(String),
    /// Globs of which any matches.
    Any(Vec<String>),
}

impl Patterns {
    /// The globs.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(p) => std::slice::from_ref(p),
            Self::Any(p) => p,
        }
    }
}

/// Encoding of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8, which contains ASCII; a line that is none is a bad row.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1: every byte is a character.
    #[serde(rename = "latin-1")]
    Latin1,
}

/// Where the time of a row is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TimeColumns {
    /// The column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Several columns, joined by a blank before they are read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// `auto` (RFC 3339 and its relatives), `unix-s`, `unix-ms`, `unix-us`,
    /// `unix-ns`, or directives of `strptime` such as `"%d/%m/%Y %H.%M.%S"`.
    #[serde(default = "auto")]
    pub format: String,
    /// Zone of times that name none.
    #[serde(default)]
    pub zone: Zone,
}

fn auto() -> String {
    "auto".to_owned()
}

/// A column of readings (wide form), or a kind (long form).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Point {
    /// Wide form: the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What it measures; in the wide form the column's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Unit as a UCUM code.
    #[serde(default)]
    pub unit: String,
    /// Least and greatest valid value; readings outside are marked, not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<[f64; 2]>,
    /// Values that mean "not measured", besides those of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}
