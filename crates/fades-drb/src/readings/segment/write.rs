//! Writing a segment.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::{Entry, MARK, NAMES, Precision, TABLE, TIME, VALUE, schema};
use crate::chunk::Segment;
use crate::series::SeriesKey;

/// Rows of a row group: what is encoded at a time, and the least that other tools
/// can pass over.
const GROUP: usize = 128 << 10;

/// Rows of a page: what is decoded at a time.
const PAGE: usize = 16 << 10;

/// Bytes of distinct values of a row group up to which they are numbered. Values
/// of most sensors are few; where they are many, numbering them takes more room
/// than it saves.
const DICTIONARY: usize = 128 << 10;

/// A segment that is being written, series after series in the order of their keys.
pub(crate) struct SegmentWriter<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    precision: Precision,
    marks: bool,
    table: Vec<Entry>,
    /// Rows of earlier row groups.
    written: u64,
    group: Segment,
    /// Whose rows are in the group: index in the table, and how many.
    runs: Vec<(usize, usize)>,
}

impl<W: Write + Send> SegmentWriter<W> {
    /// `precision`: the times are multiples of it. `marks`: some reading has one.
    pub(crate) fn new(out: W, precision: Precision, marks: bool) -> Result<Self, ParquetError> {
        let properties = Arc::new(properties(marks));
        let schema = schema(precision, marks)?;
        Ok(Self {
            writer: SerializedFileWriter::new(out, schema, properties)?,
            precision,
            marks,
            table: Vec::new(),
            written: 0,
            group: Segment::default(),
            runs: Vec::new(),
        })
    }

    /// Adds readings of a series, which are sorted.
    pub(crate) fn put(&mut self, key: &SeriesKey, rows: &Segment) -> Result<(), ParquetError> {
        let (Some(&oldest), Some(&newest)) = (rows.time.first(), rows.time.last()) else {
            return Ok(());
        };
        let start = self.written + self.group.rows() as u64;
        let count = rows.rows();
        match self.table.last_mut() {
            Some(entry) if entry.key == *key => {
                entry.rows += count as u64;
                entry.newest = newest;
            }
            _ => self.table.push(Entry {
                key: key.clone(),
                start,
                rows: count as u64,
                oldest,
                newest,
            }),
        }
        let mut at = 0;
        while at < count {
            let end = count.min(at + GROUP - self.group.rows());
            self.gather(rows, at, end);
            at = end;
            if self.group.rows() == GROUP {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn gather(&mut self, rows: &Segment, from: usize, to: usize) {
        let series = self.table.len() - 1;
        match self.runs.last_mut() {
            Some((last, run)) if *last == series => *run += to - from,
            _ => self.runs.push((series, to - from)),
        }
        self.group.time.extend(&rows.time[from..to]);
        self.group.value.extend(&rows.value[from..to]);
        if self.marks {
            match rows.mark.get(from..to) {
                Some(marks) => self.group.mark.extend(marks),
                None => self.group.mark.resize(self.group.time.len(), 0),
            }
        }
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let group = &mut self.group;
        if group.rows() == 0 {
            return Ok(());
        }
        let unit = self.precision.nanos();
        group.time.iter_mut().for_each(|t| *t /= unit);
        let mut rows = self.writer.next_row_group()?;
        let mut column = 0;
        while let Some(mut writer) = rows.next_column()? {
            match column {
                ..TIME => {
                    let texts = names(column, &self.table, &self.runs);
                    writer
                        .typed::<ByteArrayType>()
                        .write_batch(&texts, None, None)?;
                }
                TIME => {
                    writer
                        .typed::<Int64Type>()
                        .write_batch(&group.time, None, None)?;
                }
                VALUE => {
                    writer
                        .typed::<DoubleType>()
                        .write_batch(&group.value, None, None)?;
                }
                MARK.. => {
                    let marks: Vec<i32> = group.mark.iter().map(|&m| m.into()).collect();
                    writer
                        .typed::<Int32Type>()
                        .write_batch(&marks, None, None)?;
                }
            }
            writer.close()?;
            column += 1;
        }
        rows.close()?;
        self.written += group.rows() as u64;
        *group = Segment::default();
        self.runs.clear();
        Ok(())
    }

    /// Writes the rest and the footer; gives what was written to.
    pub(crate) fn finish(mut self) -> Result<W, ParquetError> {
        self.flush()?;
        let table: Vec<_> = self.table.iter().map(row).collect();
        let table = serde_json::to_string(&table).map_err(|e| ParquetError::External(e.into()))?;
        self.writer
            .append_key_value_metadata(KeyValue::new(TABLE.to_owned(), table));
        self.writer.into_inner()
    }
}

type TableRow<'a> = (&'a str, &'a str, &'a str, &'a str, u64, i64, i64);

fn row(entry: &Entry) -> TableRow<'_> {
    let Entry {
        key,
        rows,
        oldest,
        newest,
        ..
    } = entry;
    let SeriesKey {
        device,
        location,
        kind,
        unit,
    } = key;
    (device, location, kind, unit, *rows, *oldest, *newest)
}

/// A column of names, row by row.
fn names(column: usize, table: &[Entry], runs: &[(usize, usize)]) -> Vec<ByteArray> {
    let rows = runs.iter().flat_map(|&(series, rows)| {
        let key = &table[series].key;
        let texts = [&key.device, &key.location, &key.kind, &key.unit];
        let text = ByteArray::from(&**texts[column]);
        std::iter::repeat_n(text, rows)
    });
    rows.collect()
}

fn properties(marks: bool) -> WriterProperties {
    let path = |name: &str| ColumnPath::from(name);
    let columns = NAMES.len() + 2 + usize::from(marks);
    let ascending = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: false,
    };
    let sorted = (0..columns.min(MARK) as i32).map(ascending).collect();
    WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(PAGE)
        .set_dictionary_page_size_limit(DICTIONARY)
        .set_sorting_columns(Some(sorted))
        .set_column_dictionary_enabled(path("time"), false)
        .set_column_encoding(path("time"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(path("value"), Encoding::BYTE_STREAM_SPLIT)
        .build()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::column::page::Page;
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;

    use super::{GROUP, PAGE, Precision, SegmentWriter};
    use crate::chunk::Segment;
    use crate::series::SeriesKey;

    /// A segment of two series.
    fn written(rows: usize, value: impl Fn(usize) -> f64) -> SerializedFileReader<Bytes> {
        let mut writer = SegmentWriter::new(Vec::new(), Precision::Nanos, true).unwrap();
        for device in ["a", "b"] {
            let key = SeriesKey {
                device: device.into(),
                location: "hall/1".into(),
                kind: "t".into(),
                unit: "Cel".into(),
            };
            let segment = Segment {
                time: (0..rows as i64).collect(),
                value: (0..rows).map(&value).collect(),
                mark: vec![1; rows],
            };
            writer.put(&key, &segment).unwrap();
        }
        SerializedFileReader::new(Bytes::from(writer.finish().unwrap())).unwrap()
    }

    #[test]
    fn row_groups_and_pages_are_bounded() {
        let file = written(GROUP, |i| i as f64);
        let groups = file.metadata().row_groups();
        let rows: Vec<i64> = groups.iter().map(|g| g.num_rows()).collect();
        assert_eq!(rows, [GROUP as i64; 2]);
        for group in 0..rows.len() {
            let group = file.get_row_group(group).unwrap();
            for column in 0..group.num_columns() {
                let pages = group.get_column_page_reader(column).unwrap();
                let pages: Vec<Page> = pages.map(Result::unwrap).collect();
                let data = pages
                    .iter()
                    .filter(|p| !matches!(p, Page::DictionaryPage { .. }));
                let lengths: Vec<u32> = data.map(Page::num_values).collect();
                assert!(
                    lengths.iter().all(|&n| n as usize <= PAGE),
                    "{column}: {lengths:?}"
                );
                assert_eq!(lengths.iter().sum::<u32>() as usize, GROUP);
            }
        }
    }
}
