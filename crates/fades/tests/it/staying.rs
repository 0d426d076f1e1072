//! Functions that stay, through a real node: whoever dies, each window is answered
//! once, with what came before it and nothing else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{Stage, can_run, children, signal, until};

/// A device that writes a reading each 20 ms, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}

impl Writer {
    fn start(path: &Path) -> Self {
        let mut file = File::create(path).unwrap();
        writeln!(file, "time,t").unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let line = format!("{:.6}", now());
                // Whole lines only: what is read is what was written.
                file.write_all(format!("{line},20.5\n").as_bytes()).unwrap();
                times.push(line.parse().unwrap());
                std::thread::sleep(Duration::from_millis(20));
            }
            times
        });
        Self { stop, thread }
    }

    /// The times of all readings, seconds since 1970 UTC.
    fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

const SOURCE: &str = r#"
[source.hall]
type = "csv"
files = "hall.csv"
time = { column = "time", format = "unix-s" }
device = "{file}"
points = [{ column = "t", kind = "heat", unit = "Cel" }]
"#;

fn tenders(stage: &Stage) -> Vec<u64> {
    let answer = stage.get("/v1/node");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let node: Value = serde_json::from_str(body).unwrap();
    let tenders = node["tenders"].as_array().unwrap();
    tenders.iter().map(|t| t["pid"].as_u64().unwrap()).collect()
}

/// The windows of a task that have ended, the oldest first.
fn windows(stage: &Stage, id: &str) -> Vec<Value> {
    let of = ["ps", "--all", "--of", id, "-o", "json"];
    let mut runs = stage.run(&of).json().as_array().unwrap().clone();
    runs.retain(|run| !run["finished"].is_null());
    runs.reverse();
    runs
}

#[test]
fn whoever_dies_no_window_is_repeated_or_left_out() {
    if !can_run("whoever_dies_no_window_is_repeated_or_left_out") {
        return;
    }
    let stage = Stage::with_node();
    let writer = Writer::start(&stage.folder().join("hall.csv"));
    stage.write("fades-node/conf.d/hall.toml", SOURCE);
    let mut node = stage.node();
    stage.publish(&["misbehave"]);
    let submit = [
        "submit",
        "misbehave",
        "--id",
        "m",
        "--kind",
        "heat",
        "--window",
        "1s",
    ];
    stage.run(&submit).good();
    let answered = |n: usize| until("windows are answered", || windows(&stage, "m").len() >= n);
    answered(3);
    let before = tenders(&stage);
    assert_eq!(before.len(), 1, "it rests in one machine");
    answered(5);
    assert_eq!(tenders(&stage), before, "and goes on there");
    for round in 0..4 {
        let child = |word: &str| {
            let all = children(node.pid());
            all.into_iter().find(|c| c.1.contains(word)).map(|c| c.0)
        };
        let had = windows(&stage, "m").len();
        match round {
            0 => signal(u32::try_from(before[0]).unwrap(), Signal::KILL),
            1 => signal(child("broker").unwrap(), Signal::KILL),
            2 => {
                node.kill();
                node = stage.node();
            }
            _ => {
                assert_eq!(node.stop(), Some(0));
                node = stage.node();
            }
        }
        answered(had + 3);
    }
    let times = writer.stop();
    let last = *times.last().unwrap();
    until("the last reading is in a window", || {
        windows(&stage, "m").len() as f64 > last - times[0] + 1.0
            || windows(&stage, "m").iter().any(|w| end(w) > last)
    });
    stage.run(&["cancel", "m"]).good();
    let windows = windows(&stage, "m");
    check(&stage, &windows, &times);
    assert_eq!(node.stop(), Some(0));
}

/// When a window ended, seconds since 1970 UTC.
fn end(window: &Value) -> f64 {
    let due: fades_task::time::Time = window["due"].as_str().unwrap().parse().unwrap();
    due.0 as f64 / 1e9
}

/// Each answer counts the readings of its window and of all before it.
fn check(stage: &Stage, windows: &[Value], times: &[f64]) {
    let first = end(&windows[0]) - 1.0;

    for (n, window) in windows.iter().enumerate() {
        let end = end(window);
        assert_eq!(end, first + 1.0 + n as f64, "one window follows the other");
        let result = stage.run(&["result", window["id"].as_str().unwrap(), "-o", "json"]);
        let result = result.json();
        if result["state"] == "cancelled" && n + 1 == windows.len() {
            continue;
        }
        assert_eq!(result["state"], "done", "{result}");
        let rows = times.iter().filter(|&&t| (first..end).contains(&t)).count();
        assert_eq!(result["answer"]["rows"], rows, "window {n}: {result}");
        assert_eq!(result["answer"]["window"], end as u64);
    }
    assert!(windows.len() > 15, "{}", windows.len());
}

#[test]
fn a_function_that_keeps_no_checkpoints_cannot_stay() {
    if !can_run("a_function_that_keeps_no_checkpoints_cannot_stay") {
        return;
    }
    let stage = Stage::with_node();
    stage.write("fades-node/conf.d/hall.toml", SOURCE);
    let writer = Writer::start(&stage.folder().join("hall.csv"));
    let node = stage.node();
    stage.publish(&["hello"]);
    let submit = [
        "submit", "hello", "--id", "h", "--kind", "heat", "--window", "1s",
    ];
    stage.run(&submit).good();
    until("a window has failed", || !windows(&stage, "h").is_empty());
    let id = windows(&stage, "h")[0]["id"].as_str().unwrap().to_owned();
    let result = stage.run(&["result", &id]);
    assert_eq!(result.code, 1);
    for word in ["keeps no checkpoints", "save", "restore"] {
        assert!(result.out.contains(word), "{result:?}");
    }
    assert_eq!(node.stop(), Some(0));
    writer.stop();
}

#[test]
fn windows_that_make_no_sense_are_refused_before_they_are_handed_in() {
    let stage = Stage::with_node();
    let refused = |words: &[&str], said: &[&str]| {
        let words = [&["submit", "hello", "--kind", "heat"], words].concat();
        let ended = stage.run(&words);
        assert_ne!(ended.code, 0);
        for said in said {
            assert!(ended.err.contains(said), "{said}: {}", ended.err);
        }
    };
    refused(&["--window", "10ms"], &["window.every", "1s"]);
    refused(&["--window", "1s", "--step", "2s"], &["window.length"]);
    refused(
        &["--window", "1s", "--last", "1h"],
        &["a window is what is asked for"],
    );
    refused(
        &["--window", "1s", "--every", "1m"],
        &["cannot be used with"],
    );
    refused(&["--step", "1s"], &["--window"]);
}

#[test]
fn a_task_is_replaced_and_stands_again_when_its_successor_fails() {
    if !can_run("a_task_is_replaced_and_stands_again_when_its_successor_fails") {
        return;
    }
    let stage = Stage::with_node();
    let mut node = stage.node();
    stage.publish(&["hello", "misbehave"]);
    let submit = |words: &[&str]| {
        let always = ["--kind", "temperature", "--every", "1s"];
        stage.run(&[&["submit"], words, &always].concat())
    };
    submit(&[
        "hello",
        "--id",
        "a",
        "--name",
        "greet",
        "--replace",
        "greet",
    ])
    .said(1, &["greet names no one task", "those that do: none"]);
    submit(&["hello", "--id", "a", "--name", "greet"]).good();
    until("the first one runs", || !windows(&stage, "a").is_empty());
    let next = [
        "misbehave",
        "--id",
        "b",
        "--param",
        "do=panic",
        "--replace",
        "greet",
    ];
    submit(&[&next[..], &["--after-failures", "2"]].concat()).good();
    let shown = stage.run(&["show", "a"]).good();
    assert!(
        shown.out.contains("another task has its place"),
        "{shown:?}"
    );
    // The place and the failures are stored.
    until("the second one fails", || !windows(&stage, "b").is_empty());
    node.kill();
    node = stage.node();
    let state = |id: &str| {
        let all = stage.run(&["ps", "--all", "-o", "json"]).json();
        let all = all.as_array().unwrap().clone();
        let task = all.iter().find(|task| task["id"] == id).unwrap();
        (
            task["state"].as_str().unwrap().to_owned(),
            task["held"] == true,
        )
    };
    until("the second one is withdrawn", || state("b").0 == "failed");
    assert_eq!(state("a"), ("standing".to_owned(), false));
    let result = stage.run(&["result", "b"]);
    assert!(result.out.contains("a stands again"), "{result:?}");
    let had = windows(&stage, "a").len();
    until("the first one runs again", || {
        windows(&stage, "a").len() > had
    });
    let due = |run: &Value| run["due"].as_str().unwrap().to_owned();
    let first: Vec<String> = windows(&stage, "a").iter().map(due).collect();
    let second: Vec<String> = windows(&stage, "b").iter().map(due).collect();
    assert_eq!(second.len(), 2);
    assert!(
        second.iter().all(|due| !first.contains(due)),
        "no time is run by both"
    );
    assert_eq!(node.stop(), Some(0));
}
