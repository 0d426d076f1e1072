//! Instructions that functions take for a small input that never changes.
//!
//! Time on a busy machine says little; the number of instructions of the same
//! program on the same input is nearly constant, so that a change for the worse
//! shows. The functions run natively (see `fades_sdk::testing`) under
//! callgrind, with the narrowest vectors, and only what they do from their
//! first event to their answer is counted.
//!
//! ```text
//! cargo test -p counts -- --nocapture          prints `instructions NAME COUNT` for each
//! FADES_RECORD=1 cargo test -p counts          records the counts in counts.txt
//! ```
//! A count above the recorded one by more than 2 % and a little fails; what such
//! a change buys is to be said where the new number is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use fades_sdk::testing::{Run, Series};

/// Name, function, input, parameters.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const CASES: [Case; 7] = [
    ("hello", "hello", "rows", &[]),
    // Little but the reading of a batch's series.
    ("batch-reader", "hello", "series", &[]),
    ("pass", "pass", "rows", &[]),
    ("summary", "summary", "rows", &[]),
    // Keeps its values until the end.
    ("summary-kept", "summary", "rows", &["by=location"]),
    ("downsample", "downsample", "rows", &["every=1h"]),
    ("air-quality", "air-quality", "rows", &[]),
];

/// Of the recorded count; another C library may copy and clear memory in
/// another way.
const TOLERANCE: f64 = 0.02;

/// What a count may have besides, instructions: the same program differs by
/// some 130 between two machines, whatever it does.
const SLACK: f64 = 400.0;

/// The function's life, by the name that the symbols have for it.
const COUNTED: &str = "--toggle-collect=fades_sdk::testing::natively::life*";

#[test]
fn instructions_stay_within_what_is_recorded() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instruction counts: no valgrind; apt-get install valgrind");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = build(folder);
    write(&folder.join("rows"), 8, 10_000);
    write(&folder.join("series"), 2000, 4);
    let counts = CASES.map(|(name, function, input, params)| {
        let input = folder.join(input);
        (name, count(&programs.join(function), &input, params))
    });
    let lines = counts.map(|(name, count)| format!("{name} {count}\n"));
    lines.iter().for_each(|line| print!("instructions {line}"));
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt");
    if env::var_os("FADES_RECORD").is_some() {
        fs::write(recorded, lines.concat()).unwrap();
        return;
    }
    let text = fs::read_to_string(recorded).unwrap();
    let recorded: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    for (name, count) in counts {
        let most = recorded[name] as f64 * (1.0 + TOLERANCE) + SLACK;
        assert!(
            count as f64 <= most,
            "{name} takes {count} instructions, {} are recorded",
            recorded[name]
        );
    }
}

/// Builds the functions as programs of the host; returns their folder.
fn build(folder: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    cargo.args(["build", "--quiet", "--release", "--locked"]);
    cargo.args(["--features", "fades-sdk/testing"]);
    for (_, function, _, _) in CASES {
        cargo.args(["-p", function]);
    }
    let target = folder.join("native");
    // As images are built: nobody's flags change them.
    cargo
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &target);
    assert!(cargo.status().unwrap().success());
    target.join("release")
}

/// Writes a batch of readings that look like those of sensors.
fn write(path: &Path, series: usize, rows: i64) {
    let series = (0..series).map(|number| {
        let mut state = number as u64;
        let rows = (0..rows).map(|minute| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let hundredths = 1500 + (state >> 33) % 2000;
            let time = (1_700_000_000 + 60 * minute) * 1_000_000_000;
            (time, hundredths as f64 / 100.0)
        });
        let location = format!("hall-{}", number % 3);
        Series::new(&format!("board-{number}"), "pm2.5", "ug/m3", &location).rows(rows)
    });
    let batches = Run::new().batch(&series.collect::<Vec<_>>()).batches();
    fs::write(path, &batches[0]).unwrap();
}

/// Instructions of one pass.
fn count(program: &Path, input: &Path, params: &[&str]) -> u64 {
    let mut valgrind = Command::new("valgrind");
    // Where symbols are found, and how long that takes, is the host's matter.
    valgrind.env("LD_BIND_NOW", "1");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.args(["--collect-atstart=no", COUNTED]);
    valgrind.arg(program).args(["--simd", "sse2"]);
    for param in params {
        valgrind.args(["--param", param]);
    }
    let output = valgrind.arg(input).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.split_once("Collected :").map(|(_, rest)| rest.trim());
    let count = count.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let count = count.unwrap_or_else(|| panic!("{}: {said}", program.display()));
    assert!(count > 1000, "{}: nothing was counted", program.display());
    count
}
