//! How many small tasks a node takes and answers: what the orchestrator costs,
//! since its tenders and its broker are stand-ins that do nothing.
//!
//! `cargo test --release -p fades-orc --test it -- --ignored --nocapture load`

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Kept;
use crate::site::{Site, signed, task};

/// Hands a task in and waits for its answer, in two requests or in one.
fn run(kept: &mut Kept, id: &str, body: &[u8], once: bool) {
    let (status, result) = if once {
        kept.ask("POST", "/v1/tasks?wait=25s", body)
    } else {
        let (status, answer) = kept.ask("POST", "/v1/tasks", body);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
        kept.ask("GET", &format!("/v1/tasks/{id}/result?wait=25s"), b"")
    };
    assert_eq!(status, 200);
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["state"], "done", "{result}");
}

fn tasks(prefix: &str, count: usize) -> Vec<(String, Vec<u8>)> {
    let id = |n| format!("{prefix}-{n}");
    (0..count)
        .map(|n| (id(n), signed(&task(&id(n), |_| ()))))
        .collect()
}

/// Runs the tasks over so many connections, at so many a second when that is
/// said; gives the latencies in order, and the time it took.
fn drive(
    socket: &Path,
    tasks: &[(String, Vec<u8>)],
    connections: usize,
    rate: Option<f64>,
    once: bool,
) -> (Vec<Duration>, Duration) {
    let (next, latencies) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut kept = Kept::open(socket);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some((id, body)) = tasks.get(n) else {
                        return;
                    };
                    // A task that is late because all connections are busy
                    // counts as late.
                    let due = rate.map(|r| begin + Duration::from_secs_f64(n as f64 / r));
                    let due = due.unwrap_or_else(Instant::now);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    run(&mut kept, id, body, once);
                    latencies.lock().unwrap().push(due.elapsed());
                }
            });
        }
    });
    let took = begin.elapsed();
    let mut latencies = latencies.into_inner().unwrap();
    latencies.sort();
    (latencies, took)
}

/// Processor time of a process, seconds.
fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// The commits that the tasks need, by SQLite alone.
fn baseline(folder: &Path, tasks: &[(String, Vec<u8>)]) -> Duration {
    let connection = rusqlite::Connection::open(folder.join("alone.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE tasks (id TEXT PRIMARY KEY, envelope TEXT, state TEXT);
             CREATE TABLE results (id TEXT PRIMARY KEY, result TEXT);",
        )
        .unwrap();
    let result = "x".repeat(800);
    let begin = Instant::now();
    for (id, envelope) in tasks {
        let envelope = std::str::from_utf8(envelope).unwrap();
        connection
            .prepare_cached("INSERT INTO tasks VALUES (?1, ?2, 'running')")
            .unwrap()
            .execute([id, envelope])
            .unwrap();
        connection.execute_batch("BEGIN").unwrap();
        connection
            .prepare_cached("UPDATE tasks SET state = 'done' WHERE id = ?1")
            .unwrap()
            .execute([id])
            .unwrap();
        connection
            .prepare_cached("INSERT INTO results VALUES (?1, ?2)")
            .unwrap()
            .execute([id, &result])
            .unwrap();
        connection.execute_batch("COMMIT").unwrap();
    }
    begin.elapsed()
}

#[test]
#[ignore = "a measurement: it wants a release build and a quiet machine"]
#[expect(clippy::print_stdout, reason = "the figures are for whoever asked")]
fn load() {
    let count = std::env::var("TASKS").map_or(5_000, |n| n.parse().unwrap());
    let site = Site::new()
        .with("microvm", json!(true))
        .with("parallel", json!(8));
    let node = site.start();
    let socket = site.path("api.sock");
    let pid = node.process.id();
    drive(&socket, &tasks("warm", 200), 8, None, false);
    let at = |l: &[Duration], q: f64| l[(l.len() as f64 * q) as usize].as_secs_f64() * 1e3;
    for once in [false, true] {
        for rate in [None, Some(100.0), Some(500.0)] {
            let count = rate.map_or(count, |r| (r * 5.0) as usize);
            let all = tasks(&format!("{once}-{}", rate.unwrap_or(0.0)), count);
            let before = processor(pid);
            let (latencies, took) = drive(&socket, &all, 32, rate, once);
            let cost = (processor(pid) - before) / count as f64;
            println!(
                "{} requests, {:.0} tasks/s: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, node {:.0} us/task",
                if once { 1 } else { 2 },
                count as f64 / took.as_secs_f64(),
                at(&latencies, 0.5),
                at(&latencies, 0.9),
                at(&latencies, 0.99),
                cost * 1e6
            );
        }
    }
    let all = tasks("alone", count);
    let alone = baseline(&site.path("state"), &all);
    println!(
        "SQLite alone, two commits a task: {:.0} tasks/s",
        count as f64 / alone.as_secs_f64()
    );
}
