//! Segments: the readings of one day (UTC), or of a part of what arrived of it,
//! as a Parquet file that any tool can read.
//!
//! Rows are sorted by series (device, location, kind, unit), then by time, then by
//! value. The footer has a table of the series under the key `fades.series`, so
//! that the columns of names are read by other tools only:
//! `[[device, location, kind, unit, rows, oldest, newest], …]`.
//!
//! The name of a segment, `DAY_FIRST-LAST.parquet`, says which heads are in it, by
//! their numbers. Of two segments of a day of which one has all heads of the other,
//! the other is left over from a merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::civil::Date;
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};

use super::disk::Disk;
use crate::series::SeriesKey;

mod read;
mod write;

pub(super) use read::{Cursor, SegmentReader};
pub(super) use write::SegmentWriter;

/// Key of the table of series in a footer.
const TABLE: &str = "fades.series";

/// Nanoseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000_000;

/// A segment on disk. Its file goes when it is obsolete and nobody reads it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) name: SegmentName,
    pub(super) bytes: u64,
    disk: Arc<Disk>,
    obsolete: AtomicBool,
}

/// Day and heads of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    /// Days since 1970-01-01.
    pub(super) day: i64,
    /// Numbers of the first and the last head that it was made of.
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What a segment has of a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: SeriesKey,
    /// Number in the file of its first row.
    pub(super) start: u64,
    pub(super) rows: u64,
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

/// Unit of the times in a file: the largest of which all are multiples, because
/// the digits behind it would take room for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precision {
    Nanos,
    Micros,
    Millis,
}

impl Stored {
    pub(super) fn new(disk: &Arc<Disk>, path: PathBuf, name: SegmentName, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            path,
            name,
            bytes,
            disk: Arc::clone(disk),
            obsolete: AtomicBool::new(false),
        })
    }

    /// Its readings are elsewhere, or nowhere any more.
    pub(super) fn retire(&self) {
        self.obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Relaxed)
            && let Err(e) = self.disk.remove(&self.path)
        {
            tracing::warn!("{} cannot be removed: {e}", self.path.display());
        }
    }
}

impl SegmentName {
    pub(super) fn file(self) -> String {
        let date = Date::constant(1970, 1, 1)
            .checked_add(jiff::Span::new().try_days(self.day).unwrap_or_default());
        // Every time in nanoseconds has a date.
        let date = date.unwrap_or(Date::MIN);
        format!("{date}_{:08}-{:08}.parquet", self.first, self.last)
    }

    pub(super) fn parse(file: &str) -> Option<Self> {
        let (date, heads) = file.strip_suffix(".parquet")?.split_once('_')?;
        let (first, last) = heads.split_once('-')?;
        let date: Date = date.parse().ok()?;
        let day = date.since(Date::constant(1970, 1, 1)).ok()?.get_days();
        Some(Self {
            day: day.into(),
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    }

    /// Whether it has all that `other` has.
    pub(super) const fn covers(self, other: Self) -> bool {
        self.day == other.day && self.first <= other.first && other.last <= self.last
    }

    /// Whether it was made of segments, not of a head.
    pub(super) const fn is_merged(self) -> bool {
        self.first != self.last
    }

    /// Whether it has the readings of a head.
    pub(super) const fn has(self, head: u64) -> bool {
        self.first <= head && head <= self.last
    }

    /// Times of the day: first, and that after the last.
    pub(super) const fn times(self) -> (i64, i64) {
        let start = self.day.saturating_mul(DAY);
        (start, start.saturating_add(DAY))
    }

    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.file())
    }
}

impl Precision {
    /// The largest unit of which `time` is a multiple.
    pub(super) const fn of(time: i64) -> Self {
        if time % 1_000_000 == 0 {
            Self::Millis
        } else if time % 1_000 == 0 {
            Self::Micros
        } else {
            Self::Nanos
        }
    }

    pub(super) const fn nanos(self) -> i64 {
        match self {
            Self::Nanos => 1,
            Self::Micros => 1_000,
            Self::Millis => 1_000_000,
        }
    }

    const fn unit(self) -> TimeUnit {
        match self {
            Self::Nanos => TimeUnit::NANOS,
            Self::Micros => TimeUnit::MICROS,
            Self::Millis => TimeUnit::MILLIS,
        }
    }
}

/// The columns of a segment, those of names first.
const NAMES: [&str; 4] = ["device", "location", "kind", "unit"];
const TIME: usize = NAMES.len();
const VALUE: usize = TIME + 1;
const MARK: usize = VALUE + 1;

fn schema(precision: Precision, marks: bool) -> Result<TypePtr, ParquetError> {
    let column = |name: &str, physical, logical: Option<LogicalType>| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let mut fields = Vec::new();
    for name in NAMES {
        fields.push(column(
            name,
            Physical::BYTE_ARRAY,
            Some(LogicalType::String),
        )?);
    }
    let timestamp = LogicalType::timestamp(true, precision.unit());
    fields.push(column("time", Physical::INT64, Some(timestamp))?);
    fields.push(column("value", Physical::DOUBLE, None)?);
    if marks {
        let byte = LogicalType::integer(8, false);
        fields.push(column("mark", Physical::INT32, Some(byte))?);
    }
    let schema = Type::group_type_builder("readings").with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

#[cfg(test)]
mod tests {
    use super::{Precision, SegmentName};

    #[test]
    fn names_are_read_as_they_are_written() {
        for day in [-106_000, -1, 0, 20_780, 106_000] {
            let name = SegmentName {
                day,
                first: 3,
                last: 12,
            };
            assert_eq!(
                SegmentName::parse(&name.file()),
                Some(name),
                "{}",
                name.file()
            );
        }
        let name = SegmentName {
            day: 20_780,
            first: 3,
            last: 12,
        };
        assert_eq!(name.file(), "2026-11-23_00000003-00000012.parquet");
        assert_eq!(SegmentName::parse("2026-11-23_3.parquet"), None);
        assert_eq!(SegmentName::parse("x.tmp"), None);
    }

    #[test]
    fn times_are_kept_as_coarsely_as_they_are() {
        assert_eq!(Precision::of(-3_000_000), Precision::Millis);
        assert_eq!(Precision::of(3_001_000), Precision::Micros);
        assert_eq!(Precision::of(i64::MAX), Precision::Nanos);
    }
}
