//! `store-ingest` and `store-scan`: the broker's readings store by itself.
//!
//! The readings are those of 25 devices that say something every minute, up to two
//! seconds late, with a decimal place: 10 million of them, in the order in which
//! they would arrive.
//!
//! `store-ingest`, readings in a second: from the first that is handed to the store
//! until all are durable, the hand never more ahead than the store has room for.
//! Compared with the `parquet` crate alone, which sorts the same readings, as many
//! at a time as the store, and writes them to one file, which is durable at the end.
//! When the store has come to rest, its files and what was written to them are
//! counted.
//!
//! `store-scan`, readings in a second: everything that is in such a store, read as
//! for a task, up to the memory of batches. Compared with the `parquet` crate alone,
//! which reads times and values of the same files and adds up the values.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fades_drb::measure::{Sample, Store};
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::Taken;
use crate::bench::{Bench, wait_until};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;
use crate::turns::{in_turns, timed};

/// Readings in a second, millions, that are aimed at.
const INGEST: f64 = 0.2;
const SCAN: f64 = 50.0;

/// Bytes of a reading on disk that are aimed at.
const STORED: f64 = 5.0;

const SERIES: u32 = 25;

/// Handed to the store at a time.
const MESSAGE: usize = 1_000;

/// Readings that may wait to be durable.
const AHEAD: u64 = 100_000;

/// Readings that the store makes a segment of.
const HEAD: usize = 128 << 10;

/// Rows that are read at a time.
const PIECE: usize = 64 << 10;

const PATIENCE: Duration = Duration::from_secs(60);

/// `store-ingest`.
pub(super) fn ingest(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let count = bench.either(10_000_000, 1_000_000);
    let samples = samples(count);
    let folder = bench.folder.join("ingest");
    let (mut stored, mut written) = (Samples::default(), Samples::default());
    let (ours, theirs) = in_turns(
        bench.rounds((5, 120), (2, 10)),
        || {
            let store = open(&folder)?;
            let (spent, ()) = timed(|| hand(&store, &samples));
            rest(&store);
            if store.lost() > 0 {
                return Err(Fault::Meaningless(format!(
                    "{} readings were lost",
                    store.lost()
                )));
            }
            let bytes = store.bytes();
            stored.push(bytes.stored as f64 / count as f64);
            written.push((bytes.log + bytes.flush + bytes.merge) as f64 / count as f64);
            drop(store);
            remove(&folder)?;
            Ok(count as f64 / spent)
        },
        || {
            let path = bench.folder.join("alone.parquet");
            let (spent, done) = timed(|| alone(&path, &samples));
            done?;
            std::fs::remove_file(&path).map_err(Fault::file(&path, "remove"))?;
            Ok(count as f64 / spent)
        },
    )?;
    let figure = Figure::new("readings made durable", None, "M/s", &ours);
    let figure = figure.map(|f| f.against("the parquet crate alone", &theirs));
    taken.add(figure.map(|f| f.aiming(Aim::AtLeast(INGEST))));
    let figure = Figure::new("a reading on disk", None, "bytes", &stored);
    taken.add(figure.map(|f| f.aiming(Aim::AtMost(STORED))));
    taken.add(Figure::new(
        "written for a reading",
        None,
        "bytes",
        &written,
    ));
    Ok(())
}

/// `store-scan`.
pub(super) fn scan(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let count = bench.either(10_000_000, 1_000_000);
    let folder = bench.folder.join("scan");
    let store = open(&folder)?;
    hand(&store, &samples(count));
    rest(&store);
    let files = files(&folder)?;
    let (ours, theirs) = in_turns(
        bench.rounds((15, 60), (3, 5)),
        || {
            let (spent, scanned) = timed(|| store.scan());
            let scanned = scanned?;
            if scanned.readings != count as u64 {
                return Err(Fault::Meaningless(format!("{scanned:?} is not all")));
            }
            Ok(count as f64 / spent)
        },
        || {
            let (spent, sum) = timed(|| files.iter().map(|f| sum(f)).sum::<Result<Sum, _>>());
            Ok(sum?.rows as f64 / spent)
        },
    )?;
    drop(store);
    remove(&folder)?;
    let figure = Figure::new("readings", None, "M/s", &ours);
    let figure = figure.map(|f| f.against("the parquet crate alone", &theirs));
    taken.add(figure.map(|f| f.aiming(Aim::AtLeast(SCAN))));
    Ok(())
}

/// Readings in the order in which they arrive.
fn samples(count: usize) -> Vec<Sample> {
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let mut values = [200_i32; SERIES as usize];
    let sample = |i: usize| {
        let (series, minute) = (i % values.len(), (i / values.len()) as i64);
        values[series] += next(7) as i32 - 3;
        Sample {
            series: series as u32,
            time: 1_600_000_000_000_000_000
                + minute * 60_000_000_000
                + next(2_000) as i64 * 1_000_000,
            value: f64::from(values[series]) / 10.0,
        }
    };
    (0..count).map(sample).collect()
}

fn names(series: u32) -> [String; 4] {
    let device = format!("board-{series}");
    [
        device,
        "hall/1".to_owned(),
        "temperature".to_owned(),
        "Cel".to_owned(),
    ]
}

fn open(folder: &Path) -> Result<Store, Fault> {
    let series: Vec<_> = (0..SERIES).map(names).collect();
    Ok(Store::open(folder, &series)?)
}

/// Hands readings to the store until they are durable.
fn hand(store: &Store, samples: &[Sample]) {
    for message in samples.chunks(MESSAGE) {
        // Where segments cannot be made as fast, heads wait.
        while store.waiting() > AHEAD || store.in_heads() > 3 * HEAD as u64 {
            std::thread::sleep(Duration::from_millis(1));
        }
        store.record(message);
    }
    while store.waiting() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the store writes no more.
fn rest(store: &Store) {
    let mut last = None;
    wait_until(PATIENCE, || {
        std::thread::sleep(Duration::from_secs(2));
        let now = Some(store.bytes());
        std::mem::replace(&mut last, now) == now
    });
}

/// Writes readings with the crate alone.
fn alone(path: &Path, samples: &[Sample]) -> Result<(), ParquetError> {
    let schema = "message m { required binary device (STRING); required binary location (STRING); \
        required binary kind (STRING); required binary unit (STRING); \
        required int64 time (TIMESTAMP(MILLIS,true)); required double value; }";
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_column_dictionary_enabled(ColumnPath::from("time"), false)
        .set_column_encoding(ColumnPath::from("time"), Encoding::DELTA_BINARY_PACKED)
        .build();
    let schema = Arc::new(parse_message_type(schema)?);
    let file = File::create(path)?;
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    for some in samples.chunks(HEAD) {
        let mut some = some.to_vec();
        some.sort_by_key(|s| (s.series, s.time));
        let mut rows = writer.next_row_group()?;
        for column in 0..4 {
            let of_series = (0..SERIES).map(|s| ByteArray::from(names(s)[column].as_str()));
            let of_series: Vec<ByteArray> = of_series.collect();
            let texts = some.iter().map(|s| of_series[s.series as usize].clone());
            put::<ByteArrayType>(&mut rows, &texts.collect::<Vec<_>>())?;
        }
        let times: Vec<i64> = some.iter().map(|s| s.time / 1_000_000).collect();
        put::<Int64Type>(&mut rows, &times)?;
        let values: Vec<f64> = some.iter().map(|s| s.value).collect();
        put::<DoubleType>(&mut rows, &values)?;
        rows.close()?;
    }
    writer.into_inner()?.sync_data()?;
    Ok(())
}

fn put<T: DataType>(
    rows: &mut parquet::file::writer::SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    if let Some(mut column) = rows.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    Ok(())
}

/// What was read of files.
#[derive(Debug, Default)]
struct Sum {
    rows: usize,
    values: f64,
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |a, b| Self {
            rows: a.rows + b.rows,
            values: a.values + b.values,
        })
    }
}

/// Reads times and values of a file with the crate alone.
fn sum(path: &Path) -> Result<Sum, ParquetError> {
    const TIME: usize = 4;
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut sum = Sum::default();
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let typed = "a column is of another type".to_owned();
        let mut time = Int64Type::get_column_reader(group.get_column_reader(TIME)?)
            .ok_or_else(|| ParquetError::General(typed.clone()))?;
        let mut value = DoubleType::get_column_reader(group.get_column_reader(TIME + 1)?)
            .ok_or(ParquetError::General(typed))?;
        loop {
            times.clear();
            values.clear();
            let (rows, ..) = time.read_records(PIECE, None, None, &mut times)?;
            value.read_records(PIECE, None, None, &mut values)?;
            if rows == 0 {
                break;
            }
            sum.rows += std::hint::black_box(&times).len();
            sum.values += values.iter().sum::<f64>();
        }
    }
    Ok(sum)
}

/// The segments of a store.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let folder = folder.join("measured");
    let entries = std::fs::read_dir(&folder).map_err(Fault::file(&folder, "list"))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect())
}

fn remove(folder: &Path) -> Result<(), Fault> {
    std::fs::remove_dir_all(folder).map_err(Fault::file(folder, "remove"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_and_the_crate_alone_have_the_same_readings() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(300_000);
        let path = folder.path().join("alone");
        alone(&path, &samples).unwrap();
        let sum = sum(&path).unwrap();
        let store = open(&folder.path().join("store")).unwrap();
        hand(&store, &samples);
        let scanned = store.scan().unwrap();
        assert_eq!(scanned.readings, samples.len() as u64);
        assert_eq!(sum.rows, samples.len());
        assert!((scanned.sum - sum.values).abs() < 1e-3);
        assert_eq!(store.lost(), 0);
    }
}
