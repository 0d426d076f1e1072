//! Reading a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReaderImpl, get_column_reader};
use parquet::data_type::{DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::{Entry, MARK, Precision, TABLE, TIME, VALUE};
use crate::chunk::Segment;
use crate::columns::{Blob, BlobError, Pages, guarded};
use crate::readings::ReadingsError;
use crate::series::SeriesKey;

/// A segment whose footer was read.
pub(crate) struct SegmentReader {
    path: PathBuf,
    blob: Arc<Blob>,
    metadata: ParquetMetaData,
    precision: Precision,
    marks: bool,
}

/// A place in a segment, which moves on only.
pub(crate) struct Cursor {
    group: usize,
    /// Number in the file of the next row, and of the first one behind the group.
    next: u64,
    end: u64,
    columns: Option<Columns>,
    bytes: u64,
}

/// Rows that were read.
pub(crate) struct Got {
    /// Those within the range.
    pub(crate) segment: Segment,
    /// How many rows were passed over.
    pub(crate) passed: usize,
    /// All that come are behind the range.
    pub(crate) is_past: bool,
}

struct Columns {
    time: ColumnReaderImpl<Int64Type>,
    value: ColumnReaderImpl<DoubleType>,
    mark: Option<ColumnReaderImpl<Int32Type>>,
}

impl Cursor {
    /// Bytes that were read since this was asked last.
    pub(crate) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl SegmentReader {
    pub(crate) fn open(path: &Path) -> Result<Self, ReadingsError> {
        let damaged = |reason: BlobError| ReadingsError::damaged(path, reason);
        let blob = Blob::open(path).map_err(damaged)?;
        let metadata = blob.metadata().map_err(damaged)?;
        let columns = metadata.file_metadata().schema_descr().columns();
        let precision = columns.get(TIME).and_then(|c| match c.logical_type_ref() {
            Some(LogicalType::Timestamp(stamp)) => Some(match stamp.unit {
                TimeUnit::MILLIS => Precision::Millis,
                TimeUnit::MICROS => Precision::Micros,
                TimeUnit::NANOS => Precision::Nanos,
            }),
            _ => None,
        });
        let precision = precision.ok_or_else(|| damaged(other("it has no times")))?;
        let marks = columns.len() > MARK;
        Ok(Self {
            path: path.to_owned(),
            blob: Arc::new(blob),
            metadata,
            precision,
            marks,
        })
    }

    pub(crate) const fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) const fn marks(&self) -> bool {
        self.marks
    }

    /// The series in the file, in the order of their rows.
    pub(crate) fn table(&self) -> Result<Vec<Entry>, ReadingsError> {
        let table = self.parsed_table();
        table.ok_or_else(|| {
            let reason = other("its table of series cannot be read");
            ReadingsError::damaged(&self.path, reason)
        })
    }

    fn parsed_table(&self) -> Option<Vec<Entry>> {
        type Row = (String, String, String, String, u64, i64, i64);
        let pairs = self.metadata.file_metadata().key_value_metadata()?;
        let table = pairs.iter().find(|p| p.key == TABLE)?.value.as_ref()?;
        let rows: Vec<Row> = serde_json::from_str(table).ok()?;
        let mut start = 0;
        let table: Vec<Entry> = rows
            .into_iter()
            .map(|(device, location, kind, unit, rows, oldest, newest)| {
                let entry = Entry {
                    key: SeriesKey {
                        device: device.into(),
                        location: location.into(),
                        kind: kind.into(),
                        unit: unit.into(),
                    },
                    start,
                    rows,
                    oldest,
                    newest,
                };
                start = start.saturating_add(rows);
                entry
            })
            .collect();
        let rows = u64::try_from(self.metadata.file_metadata().num_rows());
        (rows == Ok(start)).then_some(table)
    }

    pub(crate) fn rows(&self) -> u64 {
        let rows = self.metadata.file_metadata().num_rows();
        u64::try_from(rows).unwrap_or_default()
    }

    /// A cursor at the first row.
    pub(crate) const fn cursor() -> Cursor {
        Cursor {
            group: 0,
            next: 0,
            end: 0,
            columns: None,
            bytes: 0,
        }
    }

    /// Reads rows of a series from number `at` on, which is not before the cursor:
    /// at most `most` of them, and only those with times from `within.0` to before
    /// `within.1`.
    pub(crate) fn read(
        &self,
        cursor: &mut Cursor,
        at: u64,
        most: usize,
        within: (i64, i64),
    ) -> Result<Got, ReadingsError> {
        guarded(|| self.decode(cursor, at, most, within))
            .map_err(|reason| ReadingsError::damaged(&self.path, reason))
    }

    fn decode(
        &self,
        cursor: &mut Cursor,
        at: u64,
        most: usize,
        (from, to): (i64, i64),
    ) -> Result<Got, BlobError> {
        self.seek(cursor, at)?;
        let left = usize::try_from(cursor.end - cursor.next).unwrap_or(usize::MAX);
        let rows = most.min(left);
        let Some(columns) = &mut cursor.columns else {
            return Err(other("it has fewer rows than its table says"));
        };
        let mut time = Vec::with_capacity(rows);
        let (got, ..) = columns.time.read_records(rows, None, None, &mut time)?;
        if got != rows {
            return Err(other("a column of it is short"));
        }
        let unit = self.precision.nanos();
        if unit != 1 {
            time.iter_mut().for_each(|t| *t = t.wrapping_mul(unit));
        }
        // The times of a series are sorted.
        let first = time.partition_point(|&t| t < from);
        let end = time
            .partition_point(|&t| t < to || to == i64::MAX)
            .max(first);
        let value = part(&mut columns.value, rows, first, end)?;
        let mark = match &mut columns.mark {
            Some(marks) => part(marks, rows, first, end)?,
            None => Vec::new(),
        };
        time.truncate(end);
        time.drain(..first);
        let mark: Vec<u8> = mark.into_iter().map(|m| m as u8).collect();
        let marked = mark.iter().any(|&m| m != 0);
        cursor.next += rows as u64;
        let segment = Segment {
            time,
            value,
            mark: if marked { mark } else { Vec::new() },
        };
        Ok(Got {
            segment,
            passed: rows,
            is_past: end < rows,
        })
    }

    /// Moves on to the row with this number in the file.
    fn seek(&self, cursor: &mut Cursor, at: u64) -> Result<(), BlobError> {
        while at >= cursor.end {
            let group = if cursor.columns.is_some() {
                cursor.group + 1
            } else {
                cursor.group
            };
            if group >= self.metadata.num_row_groups() {
                return Err(other("it has fewer rows than its table says"));
            }
            let rows = u64::try_from(self.metadata.row_group(group).num_rows());
            let rows = rows.map_err(|_| other("a row group has less than no rows"))?;
            cursor.group = group;
            cursor.next = cursor.end;
            cursor.end = cursor.end.saturating_add(rows);
            cursor.columns = Some(self.columns(group)?);
            cursor.bytes += self.column_bytes(group);
        }
        let skip = at.saturating_sub(cursor.next);
        if let (Some(columns), 1..) = (&mut cursor.columns, skip) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            columns.time.skip_records(skip)?;
            columns.value.skip_records(skip)?;
            if let Some(marks) = &mut columns.mark {
                marks.skip_records(skip)?;
            }
            cursor.next = at;
        }
        Ok(())
    }

    fn column_bytes(&self, group: usize) -> u64 {
        let columns = &self.metadata.row_group(group).columns()[TIME..];
        let bytes = columns.iter().map(|c| c.compressed_size());
        u64::try_from(bytes.sum::<i64>()).unwrap_or_default()
    }

    fn columns(&self, group: usize) -> Result<Columns, BlobError> {
        Ok(Columns {
            time: self.column(group, TIME)?,
            value: self.column(group, VALUE)?,
            mark: self.marks.then(|| self.column(group, MARK)).transpose()?,
        })
    }

    fn column<T: DataType>(
        &self,
        group: usize,
        column: usize,
    ) -> Result<ColumnReaderImpl<T>, BlobError> {
        let group = self.metadata.row_group(group);
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let chunk = group
            .columns()
            .get(column)
            .ok_or_else(|| other("a column is missing"))?;
        if chunk.column_type() != T::get_physical_type() {
            return Err(other("a column is of another type"));
        }
        let pages = Pages::new(&self.blob, chunk, rows)?;
        let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
        T::get_column_reader(reader).ok_or_else(|| other("a column is of another type"))
    }
}

/// Reads `rows` values and keeps those from `first` to before `end`.
fn part<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    rows: usize,
    first: usize,
    end: usize,
) -> Result<Vec<T::T>, BlobError> {
    let mut values = Vec::with_capacity(end - first);
    let mut passed = column.skip_records(first)?;
    passed += column.read_records(end - first, None, None, &mut values)?.0;
    passed += column.skip_records(rows - end)?;
    if passed != rows {
        return Err(other("a column of it is short"));
    }
    Ok(values)
}

fn other(what: &str) -> BlobError {
    BlobError::Format(ParquetError::General(what.to_owned()))
}
