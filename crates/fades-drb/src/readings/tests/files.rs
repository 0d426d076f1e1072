//! What is in the files, as others see it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::RowAccessor;

use super::{DAY, NOON, SECOND, all, ask, heard, names, open, pass, sent};
use crate::config::ParquetSource;
use crate::flow::Outlet;
use crate::live::Heard;
use crate::parquet::ParquetFiles;
use crate::secret::Secrets;
use crate::source::Setting;

/// Readings of two devices and two precisions, one of them marked.
fn recorded(folder: &Path) -> Vec<(String, i64, f64)> {
    let kept = open(folder);
    for i in 0..500 {
        let marked = Heard {
            mark: u8::from(i == 7),
            ..heard("a", NOON + i * SECOND, 0.1 * i as f64)
        };
        kept.take(&[marked, heard("b", NOON + i * SECOND, 2.0)], NOON);
        kept.take(&[heard("b", NOON - DAY + i, -1.0)], NOON);
    }
    pass(&kept, NOON + DAY);
    pass(&kept, NOON + 3 * DAY);
    assert_eq!(names(folder, ".parquet").len(), 2);
    all(&kept)
}

/// As the record interface of the `parquet` crate has it, which shares nothing with
/// the store's own reader but the decoders.
fn records(folder: &Path) -> Vec<(String, i64, f64)> {
    let mut rows = Vec::new();
    for name in names(folder, ".parquet") {
        let file = std::fs::File::open(folder.join(name)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            assert_eq!(row.get_string(1).unwrap(), "hall/1");
            assert_eq!(row.get_string(2).unwrap(), "t");
            assert_eq!(row.get_string(3).unwrap(), "Cel");
            let device = row.get_string(0).unwrap().clone();
            let time = match row.get_timestamp_millis(4) {
                Ok(millis) => millis * 1_000_000,
                Err(_) => row.get_long(4).unwrap(),
            };
            rows.push((device, time, row.get_double(5).unwrap()));
        }
    }
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    rows
}

#[test]
fn segments_are_ordinary_parquet_files() {
    let folder = tempfile::tempdir().unwrap();
    let rows = recorded(folder.path());
    assert_eq!(rows.len(), 1500);
    assert_eq!(records(folder.path()), rows);
}

#[test]
fn another_tool_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let rows = recorded(folder.path());
    let script = "import sys, pyarrow.parquet as p, pyarrow as a\n\
        t = a.concat_tables([p.read_table(f).cast(p.read_table(f).schema).select(\n\
            ['device', 'time', 'value']).set_column(1, 'time', \n\
            p.read_table(f)['time'].cast(a.timestamp('ns', 'UTC')).cast(a.int64())) for f in sys.argv[1:]])\n\
        print(t.num_rows, sum(x % 1000003 for x in t['time'].to_pylist()), round(sum(t['value'].to_pylist()), 6))\n";
    let files = names(folder.path(), ".parquet");
    let output = Command::new("python3")
        .args(["-c", script])
        .args(files.iter().map(|f| folder.path().join(f)))
        .output();
    let said = match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("pyarrow") => {
            panic!("{}", String::from_utf8_lossy(&output.stderr))
        }
        _ => {
            super::skipped(
                "another_tool_reads_the_same",
                "no pyarrow; pip install pyarrow",
            );
            return;
        }
    };
    let times: i64 = rows.iter().map(|r| r.1.rem_euclid(1_000_003)).sum();
    let values: f64 = rows.iter().map(|r| r.2).sum();
    let said: Vec<f64> = said
        .split_whitespace()
        .map(|w| w.parse().unwrap())
        .collect();
    assert_eq!(said[..2], [rows.len() as f64, times as f64]);
    assert!((said[2] - values).abs() < 1e-3, "{said:?} {values}");
}

#[test]
fn a_source_of_parquet_files_reads_segments() {
    let folder = tempfile::tempdir().unwrap();
    let rows = recorded(folder.path());
    let table = "files = \"*.parquet\"\nlocation = \"{location}\"\nkind = \"{kind}\"\n\
        value = \"value\"\nunit = \"{unit}\"\n";
    let config: ParquetSource = toml::from_str(table).unwrap();
    let setting = Setting {
        base: folder.path().to_owned(),
        secrets: Secrets::new(folder.path(), None),
        readings: None,
        dial: crate::dial::Dial::Direct,
        room: Arc::default(),
        runtime: None,
    };
    let source = ParquetFiles::new(&config, &setting).unwrap();
    let fetch = |out: &Outlet| {
        let fetched = source.fetch(&ask(i64::MIN, i64::MAX), out);
        fetched.map_err(|e| e.to_string())
    };
    let (read, outcome) = super::said(fetch, &Arc::default());
    assert_eq!(outcome.failure, None);
    assert_eq!(read, rows);
}

#[test]
fn a_damaged_segment_is_named_and_never_half_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    recorded(folder.path());
    let path = folder.path().join(&names(folder.path(), ".parquet")[0]);
    let good = std::fs::read(&path).unwrap();
    let kept = open(folder.path());
    for cut in [0, 3, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        let (_, outcome) = sent(&kept, &ask(i64::MIN, i64::MAX));
        let failure = outcome.failure.unwrap();
        assert!(failure.contains("_00000001-00000001.parquet"), "{failure}");
        assert!(
            failure.contains("restore the file, or move it away"),
            "{failure}"
        );
        let _ = kept.known();
    }
    for i in (0..good.len()).step_by(5) {
        let mut bytes = good.clone();
        bytes[i] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        let _ = sent(&kept, &ask(i64::MIN, i64::MAX));
    }
}
