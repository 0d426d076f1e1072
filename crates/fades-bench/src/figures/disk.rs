//! `disk`: bytes that a node has written to its disk, by the kernel's count
//! (`write_bytes` of `/proc/PID/io`, of the node and everything that it started).
//!
//! At rest, as for a day; for a task that comes alone, so that its acceptance and
//! its answer are synced each for itself; and for one of many, which share that. What a
//! recorded reading takes is a figure of `store-ingest`.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fades_task::limits::Isolation;
use fades_task::result::TaskState;
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::node::Node;
use crate::node::load::{Expected, Load};
use crate::processes::tree;
use crate::samples::Samples;

const DAY: f64 = 24.0 * 3600.0;

/// A node lets go of what nobody needed for a minute, and tidies up its store.
const RESTS_AFTER: Duration = Duration::from_secs(65);

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let Some(isolation) = taken.one_isolation(bench, "disk") else {
        return Ok(());
    };
    let node = Node::start(bench, "disk", "")?;
    let (alone, many) = tasks(bench, &node, isolation)?;
    taken.add(Figure::new("a task alone", None, "bytes", &alone));
    taken.add(Figure::new("a task of many", None, "bytes", &many));
    sleep(bench.either(RESTS_AFTER, Duration::from_secs(2)));
    let mut idle = Samples::default();
    for _ in 0..bench.either(3, 1) {
        let (began, before) = (Instant::now(), written(&node));
        sleep(bench.either(Duration::from_secs(100), Duration::from_secs(3)));
        let bytes = since(&before, &written(&node)) as f64;
        idle.push(bytes * DAY / began.elapsed().as_secs_f64());
    }
    taken.add(Figure::new("at rest, a day", None, "bytes", &idle));
    Ok(())
}

/// Bytes for each task: one after the other, and many at once.
fn tasks(bench: &Bench, node: &Node, isolation: Isolation) -> Result<(Samples, Samples), Fault> {
    let image = node.publish(&bench.image("hello")?)?;
    let expected = Expected {
        state: TaskState::Done,
        isolation,
    };
    let mut load = Load::new(node, expected)?;
    let mut connection = node.connect()?;
    let rest = |_| json!({ "function": { "isolation": [isolation] } });
    let (mut alone, mut many) = (Samples::default(), Samples::default());
    for _ in 0..bench.either(5, 1) {
        let each = bench.either(200, 20);
        let signed = load.sign(&image, each, rest)?;
        let before = written(node);
        for task in &signed {
            connection.answered::<serde_json::Value>(task)?;
        }
        alone.push(since(&before, &written(node)) as f64 / each as f64);
        let each = bench.either(5_000, 200);
        let signed = load.sign(&image, each, rest)?;
        let before = written(node);
        load.all_at_once(&signed)?;
        many.push(since(&before, &written(node)) as f64 / each as f64);
    }
    if alone.summary().is_none_or(|s| s.median == 0.0) {
        let what = "the folder of the figures is not on a disk whose bytes the kernel counts";
        return Err(Fault::Meaningless(what.to_owned()));
    }
    Ok((alone, many))
}

/// Bytes written so far, by process.
fn written(node: &Node) -> BTreeMap<u32, u64> {
    let processes = tree(node.pid()).into_iter();
    let of = |pid| {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: "))?;
        Some((pid, line.parse().ok()?))
    };
    processes.filter_map(of).collect()
}

/// Of processes that are still there.
fn since(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    let more = after.iter().map(|(pid, bytes)| {
        let before = before.get(pid).copied().unwrap_or_default();
        bytes.saturating_sub(before)
    });
    more.sum()
}
