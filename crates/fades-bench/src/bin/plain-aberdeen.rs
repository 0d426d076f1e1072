//! What one would write without FADES: reads the Aberdeen files with the `csv`
//! crate on all cores and describes each series, with no isolation whatever.
//!
//! `plain-aberdeen FOLDER` reads `FOLDER/*/*.csv` and prints what the function
//! `summary` answers: for each kind, device and location count, extremes, mean,
//! sample standard deviation, sum and the quantiles 0.5, 0.95 and 0.99 (type 7).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

/// Column of each kind.
const KINDS: [(&str, &str); 2] = [("P1", "pm10"), ("P2", "pm2.5")];

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

type Failure = Box<dyn Error + Send + Sync>;

/// Kind, device, location.
type Key = (&'static str, String, String);

type Values = HashMap<Key, Vec<f64>>;

#[derive(Serialize)]
struct Row {
    kind: &'static str,
    device: String,
    location: String,
    count: usize,
    min: f64,
    max: f64,
    mean: f64,
    sd: f64,
    sum: f64,
    #[serde(flatten)]
    quantiles: BTreeMap<&'static str, f64>,
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("error: name the folder: plain-aberdeen FOLDER");
        return ExitCode::from(2);
    };
    match describe(Path::new(&folder)) {
        Ok(rows) => {
            println!("{rows}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn describe(folder: &Path) -> Result<String, Failure> {
    let files = files(folder)?;
    let read = on_all_cores(files.len(), |values: &mut Values, i| {
        read(&files[i], values)
    })?;
    let mut series = Values::new();
    for (key, values) in read.into_iter().flatten() {
        series.entry(key).or_default().extend(values);
    }
    let series: Vec<(Key, Mutex<Vec<f64>>)> = series
        .into_iter()
        .map(|(key, values)| (key, Mutex::new(values)))
        .collect();
    let rows = on_all_cores(series.len(), |rows: &mut Vec<Row>, i| {
        let (key, values) = &series[i];
        let mut values = values.lock().map_err(|_| "a thread panicked")?;
        rows.push(row(key, &mut values));
        Ok(())
    })?;
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    rows.sort_by(|a, b| (a.kind, &a.device, &a.location).cmp(&(b.kind, &b.device, &b.location)));
    Ok(serde_json::to_string(&rows)?)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for device in folder.read_dir()? {
        for file in device?.path().read_dir()? {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "csv") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Does `work` for 0 … `count`, each thread into a result of its own.
fn on_all_cores<T: Default + Send>(
    count: usize,
    work: impl Fn(&mut T, usize) -> Result<(), Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut done = T::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                i if i < count => work(&mut done, i)?,
                _ => return Ok(done),
            }
        }
    };
    let cores = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|done| done.unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    })
}

fn read(path: &Path, values: &mut Values) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b';')
        .flexible(true)
        .from_path(path)?;
    let head = reader.byte_headers()?;
    let column = |name: &str| {
        let found = head.iter().position(|field| field == name.as_bytes());
        found.ok_or_else(|| format!("{}: no column {name}", path.display()))
    };
    let (device, location) = (column("sensor_id")?, column("location")?);
    let time = column("timestamp")?;
    let kinds = [column(KINDS[0].0)?, column(KINDS[1].0)?];
    let mut record = csv::ByteRecord::new();
    // Where a file's readings go: it has one device, which seldom moves.
    let mut place: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut own: [Vec<f64>; 2] = Default::default();
    while reader.read_byte_record(&mut record)? {
        let field = |i: usize| record.get(i).unwrap_or_default();
        if field(time).is_empty() {
            continue;
        }
        let here = (field(device), field(location));
        if place.as_ref().is_none_or(|(d, l)| (&d[..], &l[..]) != here) {
            give(&place, &mut own, values);
            place = Some((here.0.to_owned(), here.1.to_owned()));
        }
        for (own, &column) in own.iter_mut().zip(&kinds) {
            let text = std::str::from_utf8(field(column)).unwrap_or_default();
            own.extend(text.parse().ok().filter(|value: &f64| value.is_finite()));
        }
    }
    give(&place, &mut own, values);
    Ok(())
}

fn give(place: &Option<(Vec<u8>, Vec<u8>)>, own: &mut [Vec<f64>; 2], values: &mut Values) {
    let Some((device, location)) = place else {
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (own, (_, kind)) in own.iter_mut().zip(KINDS) {
        if !own.is_empty() {
            let key = (kind, text(device), format!("aberdeen/{}", text(location)));
            values.entry(key).or_default().append(own);
        }
    }
}

/// `values` are not empty.
fn row((kind, device, location): &Key, values: &mut [f64]) -> Row {
    let count = values.len();
    let sum: f64 = values.iter().sum();
    let mean = sum / count as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    values.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = q * (count - 1) as f64;
        let low = rank as usize;
        let (a, b) = (values[low], values[(low + 1).min(count - 1)]);
        a + (b - a) * (rank - low as f64)
    };
    Row {
        kind,
        device: device.clone(),
        location: location.clone(),
        count,
        min: values[0],
        max: values[count - 1],
        mean,
        sd: (squares / (count - 1) as f64).sqrt(),
        sum,
        quantiles: QUANTILES.map(|(name, q)| (name, quantile(q))).into(),
    }
}
