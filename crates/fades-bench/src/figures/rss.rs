//! `rss`: memory of a node at rest, and what a running task adds.
//!
//! The sum of the proportional set sizes (`smaps_rollup`) of the node, its
//! broker and its shells: a page that several share counts once. At rest means
//! after some tasks, with the pool as it is kept by default. Then one task that
//! never ends runs, and the sum is taken again.

use std::collections::BTreeMap;
use std::time::Duration;

use fades_task::limits::Isolation;
use fades_task::result::{TaskResult, TaskState};
use serde_json::json;

use super::{Taken, hello};
use crate::bench::{Bench, wait_until};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::memory::proportional;
use crate::node::Node;
use crate::processes::{called, tree};
use crate::samples::Samples;

/// Bytes.
const AT_REST: f64 = 20e6;

/// Tasks that the node has run before it rests.
const BEFORE: usize = 20;

/// A node gets to rest within this time.
const RESTS_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let mut at_rest = Samples::default();
    let mut added = Samples::default();
    let mut isolation = None;
    for round in 0..bench.either(3, 1) {
        let node = Node::start(bench, &format!("rss-{round}"), "")?;
        isolation = bench.isolations(|_, _| ()).first().copied();
        let Some(isolation) = isolation else {
            taken.skip("rss", "this host has no isolation: see `fades doctor`");
            return Ok(());
        };
        work(bench, &node, isolation)?;
        let rest = settled(&node);
        at_rest.push(rest.values().sum::<u64>() as f64);
        let during = while_running(bench, &node, isolation)?;
        added.push(during as f64 - rest.values().sum::<u64>() as f64);
        if round == 0 {
            let parts = rest.iter().map(|(name, bytes)| format!("{name} {bytes}"));
            taken.note(format!(
                "rss, bytes: {}",
                parts.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let rest = Figure::new("rss", None, "bytes", &at_rest);
    taken.add(rest.map(|f| f.aiming(Aim::AtMost(AT_REST))));
    taken.add(Figure::new(
        "added per running task",
        isolation,
        "bytes",
        &added,
    ));
    Ok(())
}

/// Has the node run some tasks.
pub(super) fn work(bench: &Bench, node: &Node, isolation: Isolation) -> Result<(), Fault> {
    let image = node.publish(&bench.image("hello")?)?;
    let mut connection = node.connect()?;
    for number in 0..BEFORE {
        let rest = json!({ "function": { "isolation": [isolation] } });
        let task = node.sign(&format!("before-{number}"), &image, &rest)?;
        hello::check(&connection.answered::<TaskResult>(&task)?, isolation)?;
    }
    Ok(())
}

/// Proportional set size by program, when it no longer changes by much.
fn settled(node: &Node) -> BTreeMap<String, u64> {
    let mut last = sizes(node);
    wait_until(RESTS_WITHIN, || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut last, sizes(node));
        let sum = |sizes: &BTreeMap<String, u64>| sizes.values().sum::<u64>();
        sum(&before).abs_diff(sum(&last)) < 64 << 10
    });
    last
}

fn sizes(node: &Node) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for pid in tree(node.pid()) {
        *sizes.entry(called(pid)).or_default() += proportional(pid);
    }
    sizes
}

/// All of the node's memory while one task runs.
fn while_running(bench: &Bench, node: &Node, isolation: Isolation) -> Result<u64, Fault> {
    let image = node.publish(&bench.image("misbehave")?)?;
    let rest = json!({ "function": {
        "isolation": [isolation], "params": { "do": "loop" },
        "limits": { "time": "20s", "cpu": "20s" },
    } });
    let task = node.sign("endless", &image, &rest)?;
    let mut connection = node.connect()?;
    connection.submit(&task)?;
    let running = wait_until(RESTS_WITHIN, || {
        connection
            .state(&task.id)
            .is_ok_and(|state| state == TaskState::Running)
    });
    if !running {
        return Err(Fault::Meaningless(
            "the endless task does not run".to_owned(),
        ));
    }
    let bytes = settled(node).values().sum();
    connection.cancel(&task.id)?;
    Ok(bytes)
}
