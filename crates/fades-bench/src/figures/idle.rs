//! `idle`: processor time of a node at rest.
//!
//! Of all threads of the node, its broker and its shells (`schedstat`), over a
//! minute, as a share of one processor. At rest means after some tasks, when what
//! nobody needed has been let go of, with the pool as it is kept by default.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Taken, rss};
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::node::Node;
use crate::processes::tree;
use crate::samples::Samples;

/// Per cent of a processor.
const AIM: f64 = 0.1;

/// A node lets go of what nobody needed for a minute.
const LETS_GO_AFTER: Duration = Duration::from_secs(65);

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let Some(isolation) = taken.one_isolation(bench, "idle") else {
        return Ok(());
    };
    let node = Node::start(bench, "idle", "")?;
    rss::work(bench, &node, isolation)?;
    sleep(bench.either(LETS_GO_AFTER, Duration::from_secs(2)));
    let mut shares = Samples::default();
    for _ in 0..bench.either(3, 1) {
        let (began, before) = (Instant::now(), used(&node));
        sleep(bench.either(Duration::from_secs(60), Duration::from_secs(5)));
        let used = used(&node).saturating_sub(before);
        shares.push(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64());
    }
    let figure = Figure::new("idle", None, "%", &shares);
    taken.add(figure.map(|f| f.aiming(Aim::AtMost(AIM))));
    Ok(())
}

/// Processor time of all threads so far; of those that have ended, nothing.
fn used(node: &Node) -> Duration {
    let threads = tree(node.pid()).into_iter().flat_map(|pid| {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        threads.into_iter().flatten().flatten()
    });
    let nanos = threads.filter_map(|thread| {
        let said = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        said.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
