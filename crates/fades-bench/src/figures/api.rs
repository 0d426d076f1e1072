//! `api`: requests that a node answers from a store with many finished runs.
//!
//! The runs are really run first. Then this process, which is not the node's,
//! asks over connections that are kept open: one task after the other, by as
//! many clients as get in each other's way; and what a page asks when it is opened,
//! its history, and lists in which nothing is found.

use std::time::{Duration, Instant};

use fades_task::limits::Isolation;
use fades_task::result::TaskState;
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::node::connection::Connection;
use crate::node::load::{Expected, Load};
use crate::node::{Node, Signed};
use crate::samples::Samples;
use crate::turns::{microseconds, timed};

/// Milliseconds for a page.
const AIM: f64 = 100.0;

/// Clients that ask at once.
const CLIENTS: usize = 8;

/// What the page asks when it is opened, besides itself.
const PAGE: [&str; 7] = [
    "/v1/node",
    "/v1/tasks?state=running&limit=60",
    "/v1/tasks?state=queued&limit=60",
    "/v1/tasks?state=done&limit=60",
    "/v1/tasks?state=failed&limit=20",
    "/v1/tasks?state=cancelled&limit=10",
    "/v1/scheduling",
];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let Some(isolation) = taken.one_isolation(bench, "api") else {
        return Ok(());
    };
    let node = Node::start(bench, "api", "")?;
    let tasks = finished(bench, &node, isolation)?;
    let runs = tasks.len();
    let middle = &tasks[runs / 2].id;
    let history = format!("/v1/tasks?limit=50&after={middle}");
    let mut connection = node.connect()?;
    let mut of = |what: &str, paths: &[&str]| {
        let times = pages(bench, &mut connection, paths)?;
        let figure = Figure::new(format!("{what}, {runs} runs"), None, "ms", &times);
        taken.add(figure.map(|f| f.aiming(Aim::AtMost(AIM))));
        Ok::<_, Fault>(())
    };
    of("the page, opened", &[&["/"], &PAGE[..]].concat())?;
    of("fifty of the history's middle", &[&history])?;
    of(
        "a service without tasks",
        &["/v1/tasks?limit=50&service=nobody"],
    )?;
    let (rate, latencies) = saturated(bench, &node, &tasks)?;
    taken.add(Figure::new("a task's state", None, "1/s", &rate));
    taken.add(Figure::new("latency, saturated", None, "us", &latencies));
    Ok(())
}

/// Tasks that have run.
fn finished(bench: &Bench, node: &Node, isolation: Isolation) -> Result<Vec<Signed>, Fault> {
    let image = node.publish(&bench.image("hello")?)?;
    let expected = Expected {
        state: TaskState::Done,
        isolation,
    };
    let mut load = Load::new(node, expected)?;
    let (mut all, wanted) = (Vec::new(), bench.either(100_000, 1_000));
    while all.len() < wanted {
        let rest = |_| json!({ "function": { "isolation": [isolation] } });
        let tasks = load.sign(&image, 1_000, rest)?;
        load.all_at_once(&tasks)?;
        all.extend(tasks);
    }
    Ok(all)
}

/// Milliseconds until all of `paths` are answered, one after the other.
fn pages(bench: &Bench, connection: &mut Connection, paths: &[&str]) -> Result<Samples, Fault> {
    let mut times = Samples::default();
    bench.rounds((100, 20), (10, 3)).each(|counts| {
        let (spent, answers) = timed(|| {
            paths
                .iter()
                .try_for_each(|path| connection.get(path).map(drop))
        });
        answers?;
        if counts {
            times.push(spent / 1e3);
        }
        Ok::<_, Fault>(())
    })?;
    Ok(times)
}

/// Answers in each second, and how long each took, microseconds.
fn saturated(bench: &Bench, node: &Node, tasks: &[Signed]) -> Result<(Samples, Samples), Fault> {
    let (mut rate, mut latencies) = (Samples::default(), Samples::default());
    let connections = (0..CLIENTS).map(|_| node.connect());
    let mut connections = connections.collect::<Result<Vec<_>, _>>()?;
    for round in 0..bench.either(10, 3) {
        let begun = Instant::now();
        let until = begun + bench.either(Duration::from_secs(2), Duration::from_millis(300));
        let client = |(number, connection): (usize, &mut Connection)| {
            let mut latencies = Vec::new();
            // Tasks far from each other: no page of the store serves two in a row.
            let mut next = (number + round * CLIENTS) * 7_919;
            while Instant::now() < until {
                let path = format!("/v1/tasks/{}", tasks[next % tasks.len()].id);
                let (spent, answer) = timed(|| connection.get(&path));
                answer?;
                latencies.push(spent);
                next += 104_729;
            }
            Ok::<_, Fault>(latencies)
        };
        let answered = std::thread::scope(|scope| {
            let clients = connections.iter_mut().enumerate();
            let threads: Vec<_> = clients.map(|c| scope.spawn(|| client(c))).collect();
            let joined = threads.into_iter().map(|thread| {
                let panicked = |_| Err(Fault::Meaningless("a client panicked".to_owned()));
                thread.join().unwrap_or_else(panicked)
            });
            joined.collect::<Result<Vec<_>, _>>()
        })?;
        let seconds = microseconds(begun.elapsed()) / 1e6;
        let answered = answered.concat();
        rate.push(answered.len() as f64 / seconds);
        latencies.extend(answered);
    }
    Ok((rate, latencies))
}
