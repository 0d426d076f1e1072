//! `tasks`: how many small tasks a node takes, runs and answers in a second.
//!
//! Clients on connections that are kept open hand in tasks that were signed
//! beforehand and wait for each result, in one request; the node's promises are the usual ones,
//! and every result has to say that its function had the isolation asked for.
//! Saturated, each client hands in the next task as soon as it has a result. At
//! half load, tasks are due at fixed times, half as many in a second, and their
//! latency counts from when they were due, whether a client was free or not.
//! Compared with SQLite alone ([`crate::sqlite`]).

use fades_task::limits::Isolation;
use fades_task::result::TaskState;
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::node::Node;
use crate::node::load::{CLIENTS, Expected, Load};
use crate::samples::Samples;
use crate::sqlite::Alone;
use crate::turns::{in_turns, timed};

/// Tasks in a second.
const AIM: f64 = 1000.0;

/// Microseconds, at half load.
const LATENCY: f64 = 3000.0;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    for isolation in taken.isolations(bench, "tasks") {
        of(bench, isolation, taken)?;
    }
    Ok(())
}

fn of(bench: &Bench, isolation: Isolation, taken: &mut Taken) -> Result<(), Fault> {
    let node = Node::start(bench, &format!("tasks-{isolation}"), "")?;
    let image = node.publish(&bench.image("hello")?)?;
    let expected = Expected {
        state: TaskState::Done,
        isolation,
    };
    let mut load = Load::new(&node, expected)?;
    let rest = |_| json!({ "function": { "isolation": [isolation] } });
    let first = load.sign(&image, 1, rest)?;
    let result = load.length(&first[0])?;
    let folder = bench.subfolder(&format!("sqlite-{isolation}"))?;
    let mut alone = Alone::open(&folder, first[0].envelope.len(), result)?;

    let each = bench.either(1500, 200);
    let mut saturated = Samples::default();
    let (ours, theirs) = in_turns(
        bench.rounds((10, 40), (3, 3)),
        || {
            let tasks = load.sign(&image, each, rest)?;
            let (spent, latencies) = timed(|| load.all_at_once(&tasks));
            saturated.extend(latencies?);
            Ok(each as f64 * 1e6 / spent)
        },
        || {
            let (spent, done) = timed(|| alone.run(each, CLIENTS));
            done.map(|()| each as f64 * 1e6 / spent)
        },
    )?;
    let rate = Figure::new("tasks", Some(isolation), "1/s", &ours).map(|figure| {
        let what = format!("SQLite alone, the same rows, {CLIENTS} tasks to a commit");
        let aim = match isolation {
            Isolation::Microvm => Aim::AtLeast(AIM),
            Isolation::Process => Aim::Report,
        };
        figure.against(&what, &theirs).aiming(aim)
    });
    let half = rate.as_ref().map_or(1.0, |f| f.values.median / 2.0);
    taken.add(rate);
    taken.add(Figure::new(
        "latency, saturated",
        Some(isolation),
        "us",
        &saturated,
    ));

    let tasks = load.sign(&image, (half * bench.either(10.0, 1.5)) as usize, rest)?;
    let latencies: Samples = load.at_rate(&tasks, half)?.into_iter().collect();
    let figure = Figure::new("latency, half load", Some(isolation), "us", &latencies);
    taken.add(figure.map(|f| match isolation {
        Isolation::Microvm => f.aiming(Aim::AtMost(LATENCY)),
        Isolation::Process => f,
    }));
    Ok(())
}
