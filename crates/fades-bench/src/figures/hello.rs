//! `hello`: from the request to the answer of a function that does nothing.
//!
//! Timed from before the bytes of `POST /v1/tasks` are written to the node's
//! socket until the result has been read; one task after the other on one
//! connection that is kept open, tasks signed beforehand. The parts are the
//! result's own breakdown. There is nothing to compare with.

use fades_task::limits::Isolation;
use fades_task::result::{Breakdown, TaskResult, TaskState};
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::node::Node;
use crate::samples::Samples;
use crate::turns::timed;

/// A part of the breakdown, by its name.
type Part = (&'static str, fn(&Breakdown) -> u64);

const PARTS: [Part; 5] = [
    ("queue", |b| b.queue_us),
    ("retrieve", |b| b.retrieve_us),
    ("boot", |b| b.boot_us),
    ("transfer", |b| b.transfer_us),
    ("compute", |b| b.compute_us),
];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let node = Node::start(bench, "hello", "")?;
    let image = node.publish(&bench.image("hello")?)?;
    for isolation in taken.isolations(bench, "hello") {
        let mut whole = Samples::default();
        let mut accepted = Samples::default();
        let mut parts = PARTS.map(|_| Samples::default());
        let mut connection = node.connect()?;
        let mut number = 0;
        bench.rounds((300, 20), (40, 2)).each(|counts| {
            number += 1;
            let id = format!("hello-{isolation}-{number}");
            let rest = json!({ "function": { "isolation": [isolation] } });
            let task = node.sign(&id, &image, &rest)?;
            let (total, (first, result)) = timed(|| {
                let (first, sent) = timed(|| connection.submit(&task));
                let result = sent.and_then(|()| connection.result::<TaskResult>(&id));
                (first, result)
            });
            let result = result?;
            check(&result, isolation)?;
            if counts {
                whole.push(total);
                accepted.push(first);
                for (samples, (_, part)) in parts.iter_mut().zip(PARTS) {
                    samples.push(part(&result.breakdown) as f64);
                }
            }
            Ok::<_, Fault>(())
        })?;
        let figure = |what: &str, values| Figure::new(what, Some(isolation), "us", values);
        taken.add(figure("hello", &whole));
        taken.add(figure("request to accepted", &accepted));
        for (samples, (name, _)) in parts.iter().zip(PARTS) {
            taken.add(figure(name, samples));
        }
    }
    Ok(())
}

/// It was answered, and kept apart as was asked.
pub(super) fn check(result: &TaskResult, isolation: Isolation) -> Result<(), Fault> {
    if result.state == TaskState::Done && result.isolation == Some(isolation) {
        return Ok(());
    }
    let failure = result.failure.as_ref().map(ToString::to_string);
    Err(Fault::Meaningless(format!(
        "task {} should be done in isolation {isolation}, it is {} in {:?}: {}",
        result.id,
        result.state,
        result.isolation,
        failure.unwrap_or_default()
    )))
}
