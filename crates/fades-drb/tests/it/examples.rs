//! The public data sets, read with the tables of docs/sources/csv.md and compared
//! with an independent computation.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;

use crate::broker::{Broker, Totals, dto, time};

fn documented() -> &'static BTreeMap<String, Sources> {
    static ALL: OnceLock<BTreeMap<String, Sources>> = OnceLock::new();
    ALL.get_or_init(|| {
        let text = include_str!("../../../../docs/sources/csv.md");
        let blocks = text.split("```toml\n").skip(1);
        let tables = blocks.filter_map(|b| b.split("```").next());
        tables
            .filter(|t| t.starts_with("[source."))
            .map(|table| {
                let sources = crate::broker::sources(table);
                let name = sources.0.keys().next().unwrap().to_string();
                (name, sources)
            })
            .collect()
    })
}

/// The unpacked data sets, or `None` (said aloud) when they are not there.
fn data(test: &str) -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(unpack).as_deref();
    if folder.is_none() {
        println!("SKIPPED: {test}: FADES_TEST_DATA names no folder with the public data sets");
    }
    folder
}

fn unpack() -> Option<PathBuf> {
    let from = PathBuf::from(std::env::var_os("FADES_TEST_DATA")?);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data");
    let done = to.join("unpacked");
    if done.exists() {
        return Some(to);
    }
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).unwrap();
    for set in [
        "aberdeen_sds011_luftdaten",
        "keti_smart_building_1min",
        "uci_occupancy",
        "ulb_library_wsn",
    ] {
        let file = File::open(from.join(format!("{set}.tar.xz"))).unwrap();
        let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(file));
        archive.unpack(&to).unwrap();
    }
    let station = "AirQualityUCI.csv.xz";
    fs::copy(from.join(station), to.join(station)).unwrap();
    fs::write(done, "").unwrap();
    Some(to)
}

struct Independent {
    series: BTreeMap<(String, String, String), serde_json::Value>,
    lost: BTreeMap<String, u64>,
}

fn independent(set: &str, folder: &Path) -> Option<Independent> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/sums.py");
    let ran = Command::new("python3")
        .arg(script)
        .arg(set)
        .arg(folder)
        .output();
    let Ok(output) = ran else {
        println!("SKIPPED: independent computation of {set}: python3 is not there");
        return None;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = Independent {
        series: BTreeMap::new(),
        lost: BTreeMap::new(),
    };
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(lost) = value.get("lost") {
            found.lost = serde_json::from_value(lost.clone()).unwrap();
            continue;
        }
        let text = |k: &str| value[k].as_str().unwrap().to_owned();
        let key = (text("device"), text("location"), text("kind"));
        found.series.insert(key, value);
    }
    Some(found)
}

fn same(totals: &Totals, expected: &Independent) {
    let keys: Vec<_> = totals.series.keys().collect();
    assert_eq!(keys, expected.series.keys().collect::<Vec<_>>());
    for (key, expected) in &expected.series {
        let total = &totals.series[key];
        assert_eq!(total.count, expected["count"], "{key:?}");
        assert_eq!(
            total.times.first().copied(),
            expected["oldest"].as_i64(),
            "{key:?}"
        );
        assert_eq!(
            total.times.last().copied(),
            expected["newest"].as_i64(),
            "{key:?}"
        );
        let sum: f64 = total.values.iter().sum();
        let min = total.values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = total
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        for (name, ours) in [("sum", sum), ("min", min), ("max", max)] {
            let theirs = expected[name].as_f64().unwrap();
            let relative = (ours - theirs).abs() / theirs.abs().max(1e-300);
            assert!(
                ours == theirs || relative < 1e-9,
                "{key:?} {name}: {ours} {theirs}"
            );
        }
    }
}

/// Reads a documented set whole and compares it.
fn read_whole(set: &str) -> Option<(fades_task::coverage::Coverage, Totals)> {
    let folder = data(set)?;
    let broker = Broker::start(&documented()[set], folder);
    let (ended, totals) = broker.run(&[dto("all")]);
    let coverage = ended.good();
    assert_eq!(coverage.used, totals.rows);
    if let Some(expected) = independent(set, folder) {
        same(&totals, &expected);
        let lost: BTreeMap<String, u64> = coverage
            .lost
            .iter()
            .map(|(r, n)| {
                (
                    serde_json::to_value(r)
                        .unwrap()
                        .as_str()
                        .unwrap()
                        .to_owned(),
                    *n,
                )
            })
            .collect();
        assert_eq!(lost, expected.lost);
    }
    Some((coverage, totals))
}

#[test]
fn every_table_of_the_page_on_sources_is_valid() {
    let names: Vec<_> = documented().keys().map(String::as_str).collect();
    assert_eq!(names, ["citizen", "library", "office", "rooms", "station"]);
}

#[test]
fn aberdeen_is_read_exactly() {
    let Some((coverage, totals)) = read_whole("citizen") else {
        return;
    };
    assert_eq!((coverage.rows, coverage.read), (2_188_884, 4_377_768));
    assert_eq!((coverage.used, coverage.matched), (4_377_761, 24));
    assert_eq!(coverage.answered, 24);
    let lost = [(LossReason::Truncated, 2), (LossReason::Empty, 5)];
    assert_eq!(coverage.lost, lost.into());
    assert_eq!(coverage.marked, 238);
    assert_eq!(totals.series.values().map(|t| t.marked).sum::<u64>(), 238);
    for kind in ["pm10", "pm2.5"] {
        let of_kind = totals.series.keys().filter(|(_, _, k)| k == kind);
        assert_eq!(of_kind.count(), 26);
    }
    let cited: Vec<_> = coverage
        .cited
        .iter()
        .map(|c| (c.file.as_str(), c.line, c.column.as_deref()))
        .collect();
    let truncated = "luftdaten/5331/2019-01-17_sds011_sensor_5331.csv";
    assert!(
        cited.contains(&(truncated, 126, Some("timestamp"))),
        "{cited:?}"
    );
    assert_eq!(cited.len(), 5);
}

#[test]
fn a_range_and_patterns_select_what_an_independent_count_finds() {
    let Some(folder) = data("a range and patterns") else {
        return;
    };
    let broker = Broker::start(&documented()["citizen"], folder);
    let mut day = dto("day");
    day.kind = vec!["pm2.5".into()];
    day.location = vec!["aberdeen/3121".into()];
    day.from = time("2019-01-17");
    day.to = time("2019-01-18");
    let (ended, totals) = broker.run(&[day]);
    let coverage = ended.good();
    let file = folder.join("luftdaten/5331/2019-01-17_sds011_sensor_5331.csv");
    let rows = fs::read_to_string(file).unwrap();
    let rows = rows
        .lines()
        .filter(|l| l.starts_with("5331;") && l.contains("2019-01-17T"));
    assert_eq!(coverage.used, rows.count() as u64);
    assert_eq!(coverage.lost, [(LossReason::Truncated, 1)].into());
    assert_eq!((coverage.matched, coverage.answered), (1, 1));
    assert_eq!(totals.series.len(), 1);
    assert!(
        coverage.rows < 2000,
        "only the file of the day: {}",
        coverage.rows
    );
}

#[test]
fn keti_is_read_exactly_by_kind() {
    let Some((coverage, totals)) = read_whole("rooms") else {
        return;
    };
    assert_eq!((coverage.rows, coverage.used), (479_007, 2_395_035));
    assert_eq!((coverage.matched, coverage.lost_total()), (45, 0));
    assert!(totals.of("419", "temperature").marked > 6000);
    let folder = data("rooms").unwrap();
    let broker = Broker::start(&documented()["rooms"], folder);
    let mut co2 = dto("co2");
    co2.kind = vec!["co2".into()];
    let (ended, totals) = broker.run(&[co2]);
    assert_eq!(ended.good().used, 479_007);
    assert_eq!(totals.series.len(), 45);
}

#[test]
fn an_hourly_station_is_read_exactly() {
    let Some((coverage, _)) = read_whole("station") else {
        return;
    };
    assert_eq!(coverage.rows, 9_357);
    let absent = 1_683 + 1_639 + 1_642 + 3 * 366;
    assert_eq!(coverage.read, 6 * 9_357 - absent);
}

#[test]
fn a_library_in_latin_1_is_read_exactly() {
    let Some((coverage, totals)) = read_whole("library") else {
        return;
    };
    assert_eq!((coverage.rows, coverage.used), (36_816, 5 * 36_816));
    let sequences = totals
        .series
        .iter()
        .filter(|((_, l, k), _)| l == "ulb/R3" && k == "sequence");
    let highest = sequences
        .flat_map(|(_, t)| &t.values)
        .copied()
        .fold(0.0, f64::max);
    assert!(highest > 1000.0, "{highest}");
}

#[test]
fn an_office_whose_header_is_short_is_read_exactly() {
    let Some((coverage, _)) = read_whole("office") else {
        return;
    };
    assert_eq!((coverage.rows, coverage.used), (20_560, 5 * 20_560));
}
