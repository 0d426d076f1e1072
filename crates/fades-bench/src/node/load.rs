//! Many clients of one node at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fades_task::identity::ImageRef;
use fades_task::limits::Isolation;
use fades_task::result::TaskState;
use serde::Deserialize;
use serde_json::Value;

use super::connection::Connection;
use super::{Node, Signed};
use crate::fault::Fault;
use crate::turns::microseconds;

/// Clients, and so tasks in flight.
pub(crate) const CLIENTS: usize = 32;

/// What every task has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) state: TaskState,
    pub(crate) isolation: Isolation,
}

/// What matters of a result.
#[derive(Debug, Deserialize)]
struct Brief {
    state: TaskState,
    isolation: Option<Isolation>,
}

/// Clients of one node.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    node: &'a Node,
    expected: Expected,
    connections: Vec<Connection>,
    signed: usize,
}

impl<'a> Load<'a> {
    /// Connects all clients.
    pub(crate) fn new(node: &'a Node, expected: Expected) -> Result<Self, Fault> {
        let connections = (0..CLIENTS).map(|_| node.connect());
        Ok(Self {
            connections: connections.collect::<Result<_, _>>()?,
            node,
            expected,
            signed: 0,
        })
    }

    /// Signs `count` tasks, the parts of each given by its number.
    pub(crate) fn sign(
        &mut self,
        image: &ImageRef,
        count: usize,
        rest: impl Fn(usize) -> Value,
    ) -> Result<Vec<Signed>, Fault> {
        let first = self.signed;
        self.signed += count;
        (first..self.signed)
            .map(|n| {
                let id = format!("{}-{n}", self.expected.state);
                self.node.sign(&id, image, &rest(n))
            })
            .collect()
    }

    /// How long the result of a task is, bytes.
    pub(crate) fn length(&mut self, task: &Signed) -> Result<usize, Fault> {
        let result: Value = self.connections[0].answered(task)?;
        Ok(result.to_string().len())
    }

    /// Every client as fast as it can; latencies, microseconds.
    pub(crate) fn all_at_once(&mut self, tasks: &[Signed]) -> Result<Vec<f64>, Fault> {
        self.share(tasks, |_| Instant::now())
    }

    /// So many in a second; latencies from when each was due, microseconds.
    pub(crate) fn at_rate(&mut self, tasks: &[Signed], rate: f64) -> Result<Vec<f64>, Fault> {
        let begun = Instant::now();
        self.share(tasks, |number| {
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due
        })
    }

    /// Shares `tasks` among the clients; `due` waits until one may be handed in.
    fn share(
        &mut self,
        tasks: &[Signed],
        due: impl Fn(usize) -> Instant + Sync,
    ) -> Result<Vec<f64>, Fault> {
        let next = AtomicUsize::new(0);
        let expected = self.expected;
        let client = |connection: &mut Connection| {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(task) = tasks.get(number) else {
                    return Ok(latencies);
                };
                let due = due(number);
                let result: Brief = connection.answered(task)?;
                latencies.push(microseconds(due.elapsed()));
                expected.check(&result)?;
            }
        };
        std::thread::scope(|scope| {
            let connections = self.connections.iter_mut();
            let threads: Vec<_> = connections
                .map(|connection| scope.spawn(|| client(connection)))
                .collect();
            let joined = threads.into_iter().map(|thread| {
                let panicked = |_| Err(Fault::Meaningless("a client panicked".to_owned()));
                thread.join().unwrap_or_else(panicked)
            });
            Ok(joined.collect::<Result<Vec<Vec<f64>>, Fault>>()?.concat())
        })
    }
}

impl Expected {
    fn check(self, result: &Brief) -> Result<(), Fault> {
        if result.state == self.state && result.isolation == Some(self.isolation) {
            return Ok(());
        }
        Err(Fault::Meaningless(format!(
            "every task must be {} in isolation {}, one is {result:?}",
            self.state, self.isolation
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_another_isolation_makes_the_figure_meaningless() {
        let expected = Expected {
            state: TaskState::Done,
            isolation: Isolation::Microvm,
        };
        let check = |state, isolation| expected.check(&Brief { state, isolation });
        assert!(check(TaskState::Done, Some(Isolation::Microvm)).is_ok());
        assert!(check(TaskState::Done, Some(Isolation::Process)).is_err());
        assert!(check(TaskState::Done, None).is_err());
        assert!(check(TaskState::Failed, Some(Isolation::Microvm)).is_err());
    }
}
