use std::fs;
use std::path::Path;

use fades_task::mtw::Take;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::chunk::Capacity;
use crate::flow::{Ahead, Assembly, Outcome};
use crate::secret::Secrets;

/// A column: its values without nulls, and where they are.
enum Values {
    Text(Vec<&'static str>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    F64(Vec<f64>),
    F32(Vec<f32>),
}

type Columns = Vec<(Values, Option<Vec<i16>>)>;

/// Writes a file of one row group for each of `groups`.
fn write(path: &Path, schema: &str, properties: WriterProperties, groups: Vec<Columns>) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in groups {
        let mut rows = writer.next_row_group().unwrap();
        for (values, levels) in group {
            let mut column = rows.next_column().unwrap().unwrap();
            let levels = levels.as_deref();
            match values {
                Values::Text(v) => {
                    let texts: Vec<ByteArray> = v.into_iter().map(ByteArray::from).collect();
                    put::<ByteArrayType>(&mut column, &texts, levels);
                }
                Values::I64(v) => put::<Int64Type>(&mut column, &v, levels),
                Values::I32(v) => put::<Int32Type>(&mut column, &v, levels),
                Values::F64(v) => put::<DoubleType>(&mut column, &v, levels),
                Values::F32(v) => put::<FloatType>(&mut column, &v, levels),
            }
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

fn put<T: DataType>(
    column: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: &[T::T],
    levels: Option<&[i16]>,
) {
    let column = column.typed::<T>();
    column.write_batch(values, levels, None).unwrap();
}

fn source(folder: &Path, toml: &str) -> Result<ParquetFiles, String> {
    let toml = format!("files = \"*.parquet\"\n{toml}");
    let config: ParquetSource = toml::from_str(&toml).map_err(|e| e.to_string())?;
    let setting = Setting {
        base: folder.to_owned(),
        secrets: Secrets::new(folder, None),
        readings: None,
        dial: crate::dial::Dial::Direct,
        room: Arc::default(),
        runtime: None,
    };
    ParquetFiles::new(&config, &setting).map_err(|e| format!("{}: {}", e.field, e.reason))
}

type Rows = Vec<(String, String, i64, f64, u8)>;

fn fetched(source: &ParquetFiles, selector: Selector) -> (Rows, Outcome) {
    let ask = Ask {
        selector,
        take: Take::Range,
        aggregate: None,
        deadline: None,
        stop: Arc::default(),
    };
    let (outlet, inlet) = Outlet::pair();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let outlet = outlet;
            let fetched = source.fetch(&ask, &outlet);
            let _ = outlet.end(fetched.map_err(|e| e.to_string()));
        });
        let capacity = Capacity::of(fades_abi::INPUT_PAGE);
        let mut assembly = Assembly::new("p".parse().unwrap(), inlet, None, capacity);
        let mut rows = Rows::new();
        while let Ahead::Bytes(_) = assembly.ahead(&ask.stop) {
            for series in assembly.chunk(0, &ask.stop).unwrap().series {
                for s in &series.segments {
                    for i in 0..s.rows() {
                        let mark = s.mark.get(i).copied().unwrap_or_default();
                        let (device, kind) = (&series.key.device, &series.key.kind);
                        rows.push((
                            device.to_string(),
                            kind.to_string(),
                            s.time[i],
                            s.value[i],
                            mark,
                        ));
                    }
                }
            }
        }
        (rows, assembly.outcome())
    })
}

fn all(source: &ParquetFiles) -> Rows {
    let (rows, outcome) = fetched(source, Selector::all());
    assert_eq!(outcome.failure, None);
    rows
}

const LONG: &str = "message m { optional binary board (STRING); required int64 t (TIMESTAMP(MILLIS,true)); \
    optional binary what (STRING); optional double v; }";

const LONG_TABLE: &str = "device = \"{board}\"\nlocation = \"{file}\"\ntime = { column = \"t\" }\n\
    kind = \"{what}\"\nvalue = \"v\"\n";

fn long(path: &Path, properties: WriterProperties) {
    let group = |devices: Vec<&'static str>, times: Vec<i64>, values: Vec<f64>| {
        let n = times.len();
        vec![
            (Values::Text(devices), Some(vec![1; n])),
            (Values::I64(times), None),
            (Values::Text(vec!["t"; n]), Some(vec![1; n])),
            (Values::F64(values), Some(vec![1; n])),
        ]
    };
    let groups = vec![
        group(vec!["b", "a", "b"], vec![9, 5, 7], vec![1.0, 2.0, f64::NAN]),
        group(vec!["a", "a"], vec![3, 100], vec![4.0, 5.0]),
    ];
    write(path, LONG, properties, groups);
}

fn plain() -> WriterProperties {
    WriterProperties::builder().build()
}

#[test]
fn files_in_any_order_give_series_in_order_whatever_the_encoding() {
    let builder = WriterProperties::builder;
    let snappy = builder().set_compression(Compression::SNAPPY).build();
    let bare = builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .build();
    for properties in [plain(), snappy, bare] {
        let folder = tempfile::tempdir().unwrap();
        long(&folder.path().join("x.parquet"), properties);
        let source = source(folder.path(), LONG_TABLE).unwrap();
        let row = |d: &str, t: i64, v| (d.to_owned(), "t".to_owned(), t * 1_000_000, v, 0);
        let expected = [
            row("a", 3, 4.0),
            row("a", 5, 2.0),
            row("a", 100, 5.0),
            row("b", 9, 1.0),
        ];
        let (rows, outcome) = fetched(&source, Selector::all());
        assert_eq!(rows, expected);
        assert_eq!(outcome.tally.lost, [(LossReason::NotFinite, 1)].into());
        assert_eq!(outcome.tally.rows, 5);
        let mut late = Selector::all();
        late.from = 50_000_000;
        let (rows, outcome) = fetched(&source, late);
        assert_eq!(rows, [row("a", 100, 5.0)]);
        assert_eq!(outcome.tally.rows, 2, "the first row group is not read");
        let known = source.known(&Arc::default()).unwrap();
        assert_eq!(known.len(), 2);
        assert_eq!(
            (known[0].readings, known[0].oldest),
            (Some(3), Some(3_000_000))
        );
    }
}

#[test]
fn wide_rows_of_any_type_of_number_have_nulls_and_valid_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "message m { required int64 time; required int32 room; optional float t; \
        optional int32 h; optional int64 n; }";
    let columns = vec![
        (Values::I64(vec![1, 2, 3]), None),
        (Values::I32(vec![7, 7, 8]), None),
        (Values::F32(vec![1.5, 2.5]), Some(vec![1, 0, 1])),
        (Values::I32(vec![10, 200, 30]), Some(vec![1, 1, 1])),
        (Values::I64(vec![]), Some(vec![0, 0, 0])),
    ];
    write(
        &folder.path().join("w.parquet"),
        schema,
        plain(),
        vec![columns],
    );
    let points = "device = \"r{room}\"\npoints = [{ column = \"t\" }, \
        { column = \"h\", kind = \"humidity\", valid = [0, 100] }, { column = \"n\" }]\n";
    let table = format!("time = {{ column = \"time\", unit = \"s\" }}\n{points}");
    let source = source(folder.path(), &table).unwrap();
    let row =
        |d: &str, k: &str, t: i64, v, m| (d.to_owned(), k.to_owned(), t * 1_000_000_000, v, m);
    let expected = [
        row("r7", "humidity", 1, 10.0, 0),
        row("r7", "humidity", 2, 200.0, 1),
        row("r7", "t", 1, 1.5, 0),
        row("r8", "humidity", 3, 30.0, 0),
        row("r8", "t", 3, 2.5, 0),
    ];
    assert_eq!(all(&source), expected);
    let error = self::source(folder.path(), points).unwrap();
    let error = fetched(&error, Selector::all()).1.failure.unwrap();
    assert!(error.contains("time.unit"), "{error}");
}

#[test]
fn rows_that_cannot_be_used_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "message m { optional binary board; optional int64 t (TIMESTAMP(MILLIS,true)); \
        optional binary what (STRING); optional double v; }";
    let columns = vec![
        (
            Values::Text(vec!["a", "a", "a", "a"]),
            Some(vec![1, 0, 1, 1, 1]),
        ),
        (
            Values::I64(vec![1, 2, 3, i64::MAX]),
            Some(vec![1, 1, 0, 1, 1]),
        ),
        (Values::Text(vec!["t"; 5]), Some(vec![1; 5])),
        (Values::F64(vec![1.0; 5]), Some(vec![1; 5])),
    ];
    write(
        &folder.path().join("x.parquet"),
        schema,
        plain(),
        vec![columns],
    );
    let source = source(folder.path(), LONG_TABLE).unwrap();
    let (rows, outcome) = fetched(&source, Selector::all());
    assert_eq!(rows.len(), 2);
    let lost = [(LossReason::BadTime, 2), (LossReason::Unnamed, 1)];
    assert_eq!(outcome.tally.lost, lost.into());
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    long(&folder.path().join("x.parquet"), plain());
    let tables = [
        (
            "device = \"{nobody}\"\ntime = { column = \"t\" }\nkind = \"k\"\nvalue = \"v\"",
            "no column \"nobody\"; its columns are: board",
        ),
        (
            "device = \"d\"\nkind = \"k\"\nvalue = \"v\"",
            "no column \"time\"",
        ),
        (
            "device = \"d\"\ntime = { column = \"t\" }\nkind = \"k\"\nvalue = \"what\"",
            "cannot be used",
        ),
        (
            "device = \"d\"\ntime = { column = \"v\" }\nkind = \"k\"\nvalue = \"v\"",
            "no timestamp",
        ),
    ];
    for (table, words) in tables {
        let failure = fetched(&source(folder.path(), table).unwrap(), Selector::all());
        let failure = failure.1.failure.unwrap();
        assert!(failure.contains(words), "{failure}");
    }
    for (table, field) in [
        ("kind = \"k\"", "points"),
        ("kind = \"k\"\nvalue = \"v\"\nvalid = [2, 1]", "valid"),
        ("points = [{ column = \"a\" }]\nunit = \"K\"", "points"),
        ("device = \"{\"\nkind = \"k\"\nvalue = \"v\"", "device"),
    ] {
        let error = source(folder.path(), table).unwrap_err();
        assert!(error.starts_with(field), "{error}");
    }
    fs::write(folder.path().join("y.parquet"), "no such thing").unwrap();
    let failure = fetched(&source(folder.path(), LONG_TABLE).unwrap(), Selector::all());
    let failure = failure.1.failure.unwrap();
    assert!(
        failure.contains("y.parquet: it is no Parquet file"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_replaced_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let source = source(folder.path(), LONG_TABLE).unwrap();
    assert_eq!(all(&source), []);
    long(&path, plain());
    assert_eq!(all(&source).len(), 4);
    let schema = "message m { required binary board (STRING); required int64 t (TIMESTAMP(MILLIS,true)); \
        required binary what (STRING); required double v; }";
    let columns = vec![
        (Values::Text(vec!["z"]), None),
        (Values::I64(vec![1]), None),
        (Values::Text(vec!["t"]), None),
        (Values::F64(vec![1.0]), None),
    ];
    let new = folder.path().join("new");
    write(&new, schema, plain(), vec![columns]);
    fs::rename(new, &path).unwrap();
    assert_eq!(all(&source)[0].0, "z");
}

#[test]
fn a_series_that_does_not_fit_comes_from_one_time_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "message m { required int64 t (TIMESTAMP(NANOS,true)); required double v; }";
    let half = BUDGET as i64 / 2 + 1;
    // The later half of the times first.
    let groups = [2, 3, 0, 1].map(|part| {
        let times = (0..half).map(|i| part * half + (i ^ 1).min(half - 1));
        let times: Vec<i64> = times.collect();
        let values = times.iter().map(|&t| t as f64).collect();
        vec![(Values::I64(times), None), (Values::F64(values), None)]
    });
    write(
        &folder.path().join("x.parquet"),
        schema,
        plain(),
        groups.into(),
    );
    let table = "time = { column = \"t\" }\ndevice = \"d\"\npoints = [{ column = \"v\" }]";
    let rows = all(&source(folder.path(), table).unwrap());
    assert_eq!(rows.len() as i64, 4 * half);
    // Whoever makes a batch sorts within it: no reading is far from its place.
    let far = rows.iter().enumerate().map(|(i, r)| (r.2 - i as i64).abs());
    assert!(far.max().unwrap() <= 1);
}

#[test]
fn a_damaged_file_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    long(
        &path,
        WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .build(),
    );
    let good = fs::read(&path).unwrap();
    let source = source(folder.path(), LONG_TABLE).unwrap();
    let (mut failures, mut claims) = (0, 0);
    let mut attempt = |bytes: &[u8]| {
        let new = folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, &path).unwrap();
        let (rows, outcome) = fetched(&source, Selector::all());
        assert!(rows.len() <= 5);
        let failure = outcome.failure.unwrap_or_default();
        failures += u32::from(!failure.is_empty());
        claims += u32::from(failure.contains("a dictionary claims more values"));
        let _ = source.known(&Arc::default());
    };
    for cut in (0..good.len()).step_by(3) {
        attempt(&good[..cut]);
    }
    for i in 0..good.len() {
        for flip in [0x01, 0x40, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[i] ^= flip;
            attempt(&bytes);
        }
    }
    assert!(failures as usize > good.len() / 3, "{failures}");
    assert!(claims > 0, "no dictionary was refused");
}

#[test]
fn what_is_shared_is_what_is_heard_alone_also_of_row_groups_that_are_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    long(&folder.path().join("a.parquet"), plain());
    let source = Arc::new(source(folder.path(), LONG_TABLE).unwrap());
    let (_, outcome) = fetched(&source, Selector::all().between(20_000_000, 200_000_000));
    assert_eq!(outcome.asked.len(), 1, "of b are rows at other times only");
    let asks = [(3, 101), (4, 10), (10, 200), (20, 100), (0, 60), (6, 100)];
    let asks = asks.map(|(from, to)| Ask {
        selector: Selector::all().between(from * 1_000_000, to * 1_000_000),
        take: Take::Range,
        aggregate: None,
        deadline: None,
        stop: Arc::default(),
    });
    let fetch = move |ask: &Ask, out: &Outlet| source.fetch(ask, out).map_err(|e| e.to_string());
    let fetches = crate::flow::fetches_of_pairs(fetch, &asks);
    assert_eq!(fetches[..6], [1, 1, 2, 1, 2, 1]);
}
