//! Columns of a row group, row by row.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::errors::ParquetError as Format;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::ColumnDescriptor;

use crate::columns::{Blob, BlobError, Pages};

/// A column that is read from its first row on.
pub(super) struct Column {
    reader: ColumnReader,
    is_optional: bool,
}

impl Column {
    pub(super) fn open(
        blob: &Arc<Blob>,
        metadata: &ParquetMetaData,
        group: usize,
        column: usize,
    ) -> Result<Self, BlobError> {
        let group = metadata.row_group(group);
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let chunk = group.columns().get(column);
        let chunk = chunk.ok_or_else(|| wrong("a row group lacks a column"))?;
        let pages = Pages::new(blob, chunk, rows)?;
        let descriptor = chunk.column_descr_ptr();
        Ok(Self {
            is_optional: descriptor.max_def_level() > 0,
            reader: get_column_reader(descriptor, Box::new(pages)),
        })
    }

    /// The next texts; integers are written as such.
    pub(super) fn texts(&mut self, rows: usize) -> Result<Vec<Option<ByteArray>>, BlobError> {
        let null = self.is_optional;
        let number = |n: i64| ByteArray::from(n.to_string().into_bytes());
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(r) => values(r, null, rows, |v| v),
            ColumnReader::FixedLenByteArrayColumnReader(r) => {
                values(r, null, rows, |v: FixedLenByteArray| {
                    ByteArray::from(v.data().to_vec())
                })
            }
            ColumnReader::Int32ColumnReader(r) => values(r, null, rows, |v| number(v.into())),
            ColumnReader::Int64ColumnReader(r) => values(r, null, rows, number),
            _ => Err(wrong("a column of names is of another type")),
        }
    }

    /// The next times, in whatever the column counts.
    pub(super) fn times(&mut self, rows: usize) -> Result<Vec<Option<i64>>, BlobError> {
        let null = self.is_optional;
        match &mut self.reader {
            ColumnReader::Int64ColumnReader(r) => values(r, null, rows, |v| v),
            ColumnReader::Int96ColumnReader(r) => values(r, null, rows, |v| v.to_nanos()),
            _ => Err(wrong("a column of times is of another type")),
        }
    }

    /// The next values.
    pub(super) fn numbers(&mut self, rows: usize) -> Result<Vec<Option<f64>>, BlobError> {
        let null = self.is_optional;
        match &mut self.reader {
            ColumnReader::DoubleColumnReader(r) => values(r, null, rows, |v| v),
            ColumnReader::FloatColumnReader(r) => values(r, null, rows, f64::from),
            ColumnReader::Int32ColumnReader(r) => values(r, null, rows, f64::from),
            ColumnReader::Int64ColumnReader(r) => values(r, null, rows, |v| v as f64),
            _ => Err(wrong("a column of values is of another type")),
        }
    }
}

fn values<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    is_optional: bool,
    rows: usize,
    convert: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, BlobError> {
    let mut values = Vec::new();
    let mut levels = Vec::new();
    let levels_out = is_optional.then_some(&mut levels);
    let (got, ..) = reader.read_records(rows, levels_out, None, &mut values)?;
    if got != rows {
        return Err(wrong("a column is shorter than its row group"));
    }
    let mut values = values.into_iter().map(convert);
    if !is_optional {
        return Ok(values.map(Some).collect());
    }
    let each = levels.iter().map(|&level| match level {
        0 => None,
        _ => values.next(),
    });
    Ok(each.collect())
}

/// What nobody can say of a column before it is read.
pub(super) fn wrong(what: &str) -> BlobError {
    BlobError::Format(Format::General(what.to_owned()))
}

/// Nanoseconds of what a column of times counts, or why it is none. `plain`: of
/// integers that say nothing.
pub(super) fn time_unit(
    column: &ColumnDescriptor,
    plain: Option<i64>,
) -> Result<i64, &'static str> {
    if column.physical_type() == Physical::INT96 {
        return Ok(1);
    }
    if column.physical_type() != Physical::INT64 {
        return Err("it is no timestamp and no INT64");
    }
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Timestamp(stamp)), _) => Ok(match stamp.unit {
            TimeUnit::MILLIS => 1_000_000,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1,
        }),
        (_, ConvertedType::TIMESTAMP_MILLIS) => Ok(1_000_000),
        (_, ConvertedType::TIMESTAMP_MICROS) => Ok(1_000),
        _ => plain.ok_or("it has plain integers: say what they count, such as time.unit = \"ms\""),
    }
}

/// Whether a column can be used as names.
pub(super) fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(
        column.physical_type(),
        Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT32 | Physical::INT64
    )
}

/// Whether a column can be used as values.
pub(super) fn is_number(column: &ColumnDescriptor) -> bool {
    matches!(
        column.physical_type(),
        Physical::DOUBLE | Physical::FLOAT | Physical::INT32 | Physical::INT64
    ) && !matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_)))
}
