//! The figures, one function each.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::bench::Bench;
use crate::tree::{Fault, Tree, must, output};

/// Times that each short thing is done.
const OFTEN: usize = 100;

/// Times that each long thing is done.
const SELDOM: usize = 5;

/// Series and rows of each that fill 150 MB of batches, at 16 bytes a row; the
/// same as in `functions/summary/src/natively.rs`.
const SERIES: u64 = 24;
const ROWS: u64 = 390_625;

/// Wall time of a build of everything into an empty folder.
pub(super) fn first_build(tree: &Tree) -> Result<Value, Fault> {
    let target = tree.target.join("measure/build");
    if target.exists() {
        fs::remove_dir_all(&target).map_err(|e| Fault::File(target.clone(), e))?;
    }
    let begun = Instant::now();
    let words = ["build", "--release", "--workspace", "--locked"];
    must(tree.cargo(&words).env("CARGO_TARGET_DIR", &target))?;
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_dir_all(&target).map_err(|e| Fault::File(target, e))?;
    Ok(json!({ "seconds": seconds }))
}

/// From the request to the answer of a function that does nothing, over the
/// API, and where the time goes.
pub(super) fn hello(tree: &Tree) -> Result<Value, Fault> {
    let bench = Bench::start(tree, "", &["hello"])?;
    let tasks = signed(&bench)?;
    let mut accepted = Vec::new();
    let mut whole = Vec::new();
    let mut parts: Vec<Value> = Vec::new();
    for (id, envelope) in tasks {
        let begun = Instant::now();
        bench.request("POST", "/v1/tasks", &envelope)?;
        accepted.push(begun.elapsed().as_micros() as u64);
        let result = bench.request("GET", &format!("/v1/tasks/{id}/result?wait=10s"), "")?;
        whole.push(begun.elapsed().as_micros() as u64);
        if result["state"] != "done" {
            return Err(Fault::Output(result.to_string()));
        }
        parts.push(result["breakdown"].clone());
    }
    let part = |name: &str| median(parts.iter().filter_map(|p| p[name].as_u64()).collect());
    Ok(json!({
        "tasks": whole.len(),
        "request-to-answer-us": { "median": median(whole.clone()), "p95": percentile(whole, 95) },
        "request-to-accepted-us": median(accepted),
        "queue-us": part("queue-us"), "retrieve-us": part("retrieve-us"),
        "boot-us": part("boot-us"), "transfer-us": part("transfer-us"),
        "compute-us": part("compute-us"),
    }))
}

/// Tasks signed beforehand, so that signing is not measured.
fn signed(bench: &Bench) -> Result<Vec<(String, String)>, Fault> {
    let mut list = bench.fades(&["functions", "-o", "json"]);
    let functions: Value =
        serde_json::from_str(&output(&mut list)?).map_err(|e| Fault::Output(e.to_string()))?;
    let digest = functions[0]["digest"].as_str().unwrap_or_default();
    let mut tasks = Vec::new();
    for n in 0..OFTEN {
        let id = format!("hello-{n}");
        let file = bench.folder().join("task.toml");
        let text = format!("[task]\nid = \"{id}\"\n[function]\nimage = \"hello@{digest}\"\n");
        fs::write(&file, text).map_err(|e| Fault::File(file.clone(), e))?;
        must(bench.fades(&["sign"]).arg(&file).stderr(Stdio::null()))?;
        let envelope = file.with_extension("dsse");
        let envelope = fs::read_to_string(&envelope).map_err(|e| Fault::File(envelope, e))?;
        tasks.push((id, envelope));
    }
    Ok(tasks)
}

/// Memory of all processes of a node that has worked and waits.
pub(super) fn at_rest(tree: &Tree) -> Result<Value, Fault> {
    let source = "[source.sample]\ntype = \"csv\"\nfiles = \"sample/*.csv\"\n\
        time = { column = \"time\" }\ndevice = \"{room}\"\npoints = [{ column = \"temperature\" }]\n";
    let bench = Bench::start(tree, source, &["summary"])?;
    for _ in 0..10 {
        bench.ask(&["summary", "--kind", "*"])?;
    }
    let processes = bench.memory();
    let total: u64 = processes.iter().map(|p| p.1).sum();
    let processes: Vec<Value> = processes
        .into_iter()
        .map(|(name, bytes)| json!({ "process": name, "pss": bytes }))
        .collect();
    Ok(json!({ "pss-bytes": total, "mib": total as f64 / 1048576.0, "processes": processes }))
}

/// The same code on the same rows, as an image in a microVM and called natively.
pub(super) fn against_native(tree: &Tree) -> Result<Value, Fault> {
    let data = tree.target.join("measure/values");
    write_values(&data).map_err(|e| Fault::File(data.clone(), e))?;
    let source = format!(
        "[source.values]\ntype = \"csv\"\nfiles = \"{}/*.csv\"\ntime = {{ column = \"time\", format = \"unix-s\" }}\n\
         device = \"{{file}}\"\npoints = [{{ column = \"value\", unit = \"1\" }}]\n",
        data.display()
    );
    let bench = Bench::start(tree, &source, &["summary"])?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut isolation = Value::Null;
    // In turns, so that a host that gets slower does so for both.
    for _ in 0..SELDOM {
        let result = bench.ask(&["summary", "--kind", "value", "--memory", "256MiB"])?;
        ours.push(
            result["breakdown"]["compute-us"]
                .as_u64()
                .unwrap_or_default(),
        );
        isolation = result["isolation"].clone();
        theirs.push(natively(tree)?);
    }
    drop(bench);
    fs::remove_dir_all(&data).map_err(|e| Fault::File(data, e))?;
    let (ours, theirs) = (median(ours), median(theirs));
    Ok(json!({
        "rows": SERIES * ROWS, "isolation": isolation, "compute-us": ours, "native-us": theirs,
        "ratio": ours as f64 / theirs as f64,
    }))
}

fn natively(tree: &Tree) -> Result<u64, Fault> {
    let words = [
        "test",
        "--release",
        "--locked",
        "-p",
        "summary",
        "--features",
        "measure",
        "natively",
        "--",
        "--nocapture",
    ];
    let text = output(&mut tree.functions_cargo(&words))?;
    let said = text.split_once("natively: ").map(|(_, rest)| rest);
    let seconds = said.and_then(|s| s.split_whitespace().next()?.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| Fault::Output(format!("no measurement in {text}")))?;
    Ok((seconds * 1e6) as u64)
}

/// The same values as in `functions/summary/src/natively.rs`.
fn write_values(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for number in 0..SERIES {
        let path = folder.join(format!("series-{number}.csv"));
        let mut out = BufWriter::new(fs::File::create(path)?);
        writeln!(out, "time,value")?;
        let mut state = number;
        for second in 0..ROWS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let hundredths = 1500 + (state >> 33) % 2000;
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            writeln!(out, "{},{whole}.{rest:02}", 1_700_000_000 + second)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Rows per second of a question over all of the Aberdeen set.
pub(super) fn aberdeen(tree: &Tree, data: &Path) -> Result<Value, Fault> {
    let folder = tree.target.join("measure/aberdeen");
    if !folder.exists() {
        fs::create_dir_all(&folder).map_err(|e| Fault::File(folder.clone(), e))?;
        let archive = data.join("aberdeen_sds011_luftdaten.tar.xz");
        let mut tar = Command::new("tar");
        tar.arg("-xJf")
            .arg(archive)
            .arg("-C")
            .arg(&folder)
            .args(["--wildcards", "*.csv"]);
        must(&mut tar)?;
    }
    let source = format!(
        "[source.citizen]\ntype = \"csv\"\nfiles = \"{}/luftdaten/*/*.csv\"\ndelimiter = \";\"\n\
         time = {{ column = \"timestamp\", zone = \"UTC\" }}\ndevice = \"{{sensor_id}}\"\n\
         location = \"aberdeen/{{location}}\"\npoints = [\n\
         {{ column = \"P1\", kind = \"pm10\", unit = \"ug/m3\", valid = [0, 998.9] }},\n\
         {{ column = \"P2\", kind = \"pm2.5\", unit = \"ug/m3\", valid = [0, 998.9] }} ]\n",
        folder.display()
    );
    let bench = Bench::start(tree, &source, &["summary"])?;
    let mut seconds = Vec::new();
    let mut last = Value::Null;
    for _ in 0..SELDOM {
        let begun = Instant::now();
        last = bench.ask(&["summary", "--kind", "pm*", "--answer", "256KiB"])?;
        seconds.push(begun.elapsed().as_micros() as u64);
    }
    let coverage = &last["coverage"][0];
    let rows = coverage["rows"].as_u64().unwrap_or_default();
    let wall = median(seconds);
    Ok(json!({
        "rows": rows, "readings": coverage["used"], "bytes": coverage["bytes"],
        "wall-us": wall, "rows-per-second": rows as f64 * 1e6 / wall as f64,
        "breakdown-of-the-last": last["breakdown"],
    }))
}

fn median(values: Vec<u64>) -> u64 {
    percentile(values, 50)
}

fn percentile(mut values: Vec<u64>, percent: usize) -> u64 {
    values.sort_unstable();
    let at = values.len().saturating_sub(1) * percent / 100;
    values.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(percentile(vec![3, 1, 2], 50), 2);
        assert_eq!(percentile((1..=100).collect(), 95), 95);
        assert_eq!(percentile(Vec::new(), 50), 0);
    }
}
