//! Batches: the rows of one DTO, as a function reads them in place.
//!
//! ```text
//! 0                 Header
//! 128               columns × Column
//!                   series × Series            (8-byte aligned)
//!                   strings                    (UTF-8, referred to by offset)
//! 64-byte aligned   column 1  time   i64  ns since 1970-01-01T00:00Z
//! 64-byte aligned   column 2  value  f64  finite; a missing value has no row
//! 64-byte aligned   column 3  mark   u8   optional: bit 0 = outside the valid range
//! used … file end   zeros, to a multiple of 2 MiB
//! ```
//! Rows are sorted by series, then by time, within a batch; each [`Series`]
//! names its span of rows. Columns with an unknown id are skipped by readers.
//! The same layout carries readings that a function answers with.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod read;
mod write;

pub use read::{Batch, SeriesRows};
pub use write::{Draft, SeriesSpec, encoded_length};

/// [`Header::magic`]: `FADESBAT`.
pub const BATCH_MAGIC: u64 = u64::from_le_bytes(*b"FADESBAT");

/// Major version of the layout; a reader refuses another one.
pub const BATCH_MAJOR: u16 = 1;

/// Minor version of the layout.
pub const BATCH_MINOR: u16 = 0;

/// Alignment of every column, bytes (Arrow's).
pub const COLUMN_ALIGN: usize = 64;

/// [`Column::id`].
pub mod column {
    /// `i64`, ns since 1970 UTC.
    pub const TIME: u32 = 1;
    /// `f64`.
    pub const VALUE: u32 = 2;
    /// `u8`, bits of [`super::mark`].
    pub const MARK: u32 = 3;
}

/// [`Column::kind`].
pub mod kind {
    /// Signed 64-bit integers.
    pub const I64: u32 = 1;
    /// IEEE 754 binary64.
    pub const F64: u32 = 2;
    /// Bytes.
    pub const U8: u32 = 3;
}

/// Bits of the mark column.
pub mod mark {
    /// The value lies outside the valid range that the operator configured.
    pub const OUTSIDE: u8 = 1;
}

/// [`Header::order`]: how the batches of one DTO follow each other.
pub mod order {
    /// No promise.
    pub const NONE: u32 = 0;
    /// All batches of a series come together, later times later.
    pub const SERIES: u32 = 1;
    /// Every batch is later than the one before it.
    pub const TIME: u32 = 2;
}

/// [`Series::flags`]: no later batch of this DTO has rows of this series.
pub const SERIES_COMPLETE: u32 = 1;

/// Start of every batch. 128 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// [`BATCH_MAGIC`].
    pub magic: u64,
    /// [`BATCH_MAJOR`].
    pub major: u16,
    /// [`BATCH_MINOR`].
    pub minor: u16,
    /// Length of this header, bytes; columns' descriptors start there.
    pub header_length: u32,
    /// Bytes in use, header included; what follows is zero.
    pub used: u64,
    /// Number of rows.
    pub rows: u64,
    /// Index of the DTO in the task.
    pub dto: u32,
    /// Number of this batch within its DTO, from 0.
    pub sequence: u32,
    /// One of [`order`].
    pub order: u32,
    /// Number of column descriptors.
    pub columns: u32,
    /// Offset of the series table, bytes.
    pub series_offset: u64,
    /// Number of series.
    pub series: u32,
    /// Zero.
    pub reserved: u32,
    /// Offset of the strings, bytes.
    pub strings_offset: u64,
    /// Length of the strings, bytes.
    pub strings_length: u64,
    /// Zero.
    pub spare: [u64; 6],
}

/// Where a column lies. 32 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Column {
    /// One of [`mod@column`]; others are skipped.
    pub id: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Offset from the start of the batch, bytes; a multiple of 64.
    pub offset: u64,
    /// Length, bytes.
    pub length: u64,
    /// Zero.
    pub reserved: u64,
}

/// One series: the readings of one kind, of one device at one location. 64 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Series {
    /// Number of the series, the same in all batches of a run.
    pub id: u32,
    /// [`SERIES_COMPLETE`].
    pub flags: u32,
    /// Index of the first row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Identifier of the device.
    pub device: Text,
    /// What was measured, such as `temperature`.
    pub kind: Text,
    /// Unit as a UCUM code, such as `Cel`; may be empty.
    pub unit: Text,
    /// Where the device was, levels separated by `/`; may be empty.
    pub location: Text,
    /// Zero.
    pub reserved: u64,
}

/// A text in the strings of a batch.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Text {
    /// Offset from the start of the strings, bytes.
    pub offset: u32,
    /// Length, bytes of UTF-8.
    pub length: u32,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// Shorter than a header, or than what the header says is in use.
    Short,
    /// Not aligned to eight bytes in memory.
    Unaligned,
    /// Does not begin with [`BATCH_MAGIC`].
    Magic,
    /// Written for another major version of the layout.
    Version(u16),
    /// The header contradicts itself: its lengths or offsets do not fit.
    Header,
    /// A column lies outside of the batch, is unaligned or has the wrong
    /// length; its id.
    Column(u32),
    /// The time or the value column is missing; its id.
    MissingColumn(u32),
    /// The spans of rows of the series do not cover the rows one after the
    /// other; index of the first series that is wrong.
    Rows(u32),
    /// A text lies outside of the strings or is not UTF-8; index of the series.
    Text(u32),
    /// The destination has no room; bytes needed.
    Full(usize),
}

// Numbers are formatted as `usize` only: every function image carries this, and
// each further type of number adds some hundred bytes to it.
impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAJOR: usize = BATCH_MAJOR as usize;
        let (before, n, after) = match *self {
            Self::Short => return f.write_str("the batch is shorter than its header says"),
            Self::Unaligned => return f.write_str("the batch is not aligned to eight bytes"),
            Self::Magic => return f.write_str("not a batch: it does not begin with FADESBAT"),
            Self::Header => return f.write_str("the header of the batch contradicts itself"),
            Self::Version(v) => {
                let v = usize::from(v);
                return write!(f, "batch layout {v} is not supported, only {MAJOR}");
            }
            Self::Column(id) => ("column ", id as usize, " does not fit the batch"),
            Self::MissingColumn(id) => ("column ", id as usize, " is missing"),
            Self::Rows(i) => (
                "series ",
                i as usize,
                " does not continue where the last one ended",
            ),
            Self::Text(i) => (
                "series ",
                i as usize,
                " has a name that is no text of the batch",
            ),
            Self::Full(n) => ("", n, " bytes are needed for this batch"),
        };
        f.write_str(before)?;
        fmt::Display::fmt(&n, f)?;
        f.write_str(after)
    }
}

impl core::error::Error for BatchError {}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Header>() == 128);
    assert!(offset_of!(Header, used) == 16);
    assert!(offset_of!(Header, dto) == 32);
    assert!(offset_of!(Header, series_offset) == 48);
    assert!(offset_of!(Header, strings_offset) == 64);
    assert!(size_of::<Column>() == 32);
    assert!(size_of::<Series>() == 64);
    assert!(offset_of!(Series, device) == 24);
};

#[cfg(test)]
mod tests;
