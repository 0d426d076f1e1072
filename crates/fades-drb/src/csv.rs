//! CSV files as a source.
//!
//! ```text
//! CsvSource ── Format ──┐            compiled options, fixed for good
//! path ── Layout ───────┤            where a file's columns are
//! bytes ── Lines ── RowParser ── Sink
//!                                 ├─ scan:   an index of the file
//!                                 └─ gather: the readings of some series
//! ```
//! One line is one row: a line break inside quotes is not supported, so that a
//! stray quote costs one row and not the rest of the file, and every line break
//! is a place where a file can be cut and read by several threads.
//!
//! A file is read twice. The first reading makes its `FileIndex` (which series
//! are in which part, between which times), kept while the file does not
//! change; the second takes just the parts that a DTO needs. Start reading at
//! [`CsvFiles`].

mod clock;
mod count;
mod fields;
mod files;
mod format;
mod gather;
mod head;
mod index;
mod input;
mod layout;
mod lines;
mod listing;
mod number;
mod rows;
mod sample;
mod scan;
mod template;

mod source;
mod window;

pub(crate) use files::{check as check_glob, list as list_files};
pub(crate) use format::Format;
pub(crate) use gather::{Fetch, Walk};
pub(crate) use head::{Preface, is_time, preface};
pub(crate) use input::{Identity, ReadError};
pub(crate) use listing::Snapshot;
pub(crate) use source::{CsvFiles, Plan};
pub(crate) use template::{Part, Template};
