//! The one result of a task, out of what is known at its end.

use fades_task::quantity::{Duration, Size};
use fades_task::result::{Breakdown, Failure, MemoryUse, TaskResult, TaskState};
use serde_json::Value;

use super::outbox::receivers;
use super::quota::Quota;
use super::run::{Run, Tender};
use super::{Charge, Commit, Effect, Now, Task, Tick, Used, Waiting};

/// What a function answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The answer, when it gave one besides readings.
    pub(super) value: Option<Value>,
    pub(super) cbor: Vec<u8>,
    pub(super) readings: Vec<u8>,
    /// With what its function goes on, if it stays.
    pub(super) checkpoint: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Answer),
    Failed(Failure),
}

/// A result of `task` with nothing in it but who asked for what.
fn blank(task: &Task, state: TaskState, now: Now) -> TaskResult {
    let mtw = &task.mtw;
    TaskResult {
        id: mtw.task.id.clone(),
        name: mtw.task.name.clone(),
        service: mtw.task.service.clone(),
        state,
        function: mtw.function.image.clone(),
        attempts: task.attempts,
        accepted: task.accepted,
        started: None,
        finished: Some(now.time),
        isolation: None,
        answer: None,
        readings_bytes: 0,
        failure: None,
        coverage: Vec::new(),
        breakdown: Breakdown::default(),
        memory: None,
        cpu_us: 0,
        input_bytes: 0,
        answer_bytes: 0,
        log_cut: 0,
    }
}

const fn state_of(failure: &Failure) -> TaskState {
    match failure {
        Failure::Cancelled { .. } => TaskState::Cancelled,
        Failure::Function { .. }
        | Failure::Retrieval(_)
        | Failure::Isolation { .. }
        | Failure::Image { .. }
        | Failure::TooLate
        | Failure::NotGranted { .. }
        | Failure::Withheld { .. }
        | Failure::Withdrawn { .. }
        | Failure::Attempts { .. } => TaskState::Failed,
    }
}

/// The end of a task with a schedule: it has come to its end, unless something ended
/// it. Its runs were told to whoever was to be told; this is not.
pub(crate) fn over(task: &Task, now: Now, failure: Option<Failure>) -> Effect {
    let state = failure.as_ref().map_or(TaskState::Done, state_of);
    let mut result = blank(task, state, now);
    result.failure = failure;
    Effect::Commit(Box::new(Commit {
        run: None,
        result,
        answer: Vec::new(),
        readings: Vec::new(),
        checkpoint: None,
        receivers: Vec::new(),
        parcels: Vec::new(),
        charge: Charge {
            day: now.time,
            used: Used::NOTHING,
        },
    }))
}

impl Waiting {
    /// Ends a task that does not run.
    pub(super) fn fail(&self, now: Now, failure: Failure) -> Effect {
        let mut result = blank(&self.task, state_of(&failure), now);
        result.breakdown.queue_us = now.tick.micros_since(self.accepted);
        result.failure = Some(failure);
        Effect::Commit(Box::new(Commit {
            run: None,
            result,
            answer: Vec::new(),
            readings: Vec::new(),
            checkpoint: None,
            receivers: receivers(&self.task),
            parcels: Vec::new(),
            charge: Charge {
                day: now.time,
                used: Used::NOTHING,
            },
        }))
    }
}

impl Run {
    /// Ends the task of this run.
    pub(super) fn commit(&mut self, now: Now, outcome: Outcome, quota: &mut Quota) -> Effect {
        let state = match &outcome {
            Outcome::Answered(_) => TaskState::Done,
            Outcome::Failed(failure) => state_of(failure),
        };
        let mut result = blank(&self.task, state, now);
        result.started = Some(self.started.time);
        result.isolation = self.isolation;
        result.coverage = std::mem::take(&mut self.coverage);
        result.breakdown = self.breakdown(now.tick);
        if let Tender::Ended { ended, .. } = &self.tender {
            result.memory = Some(MemoryUse {
                limit: self.task.mtw.function.limits.memory,
                high_water: ended.high_water,
            });
            result.cpu_us = ended.cpu_us;
            result.input_bytes = ended.input_bytes;
            result.log_cut = ended.log_cut;
        }
        let (answer, readings, checkpoint) = match outcome {
            Outcome::Answered(answer) => {
                result.answer = answer.value;
                result.answer_bytes = answer.cbor.len() as u64;
                result.readings_bytes = answer.readings.len() as u64;
                (answer.cbor, answer.readings, answer.checkpoint)
            }
            Outcome::Failed(failure) => {
                result.failure = Some(failure);
                (Vec::new(), Vec::new(), None)
            }
        };
        // Before anything of it is left out.
        let used = Used {
            cpu: Duration(result.cpu_us.saturating_mul(1_000)),
            bytes: Size(result.answer_bytes + result.readings_bytes),
        };
        if let Some(export) = self.allowed.export() {
            export.reduce(&mut result);
        }
        Effect::Commit(Box::new(Commit {
            run: Some(self.id),
            charge: quota.spend(&result.service, used),
            result,
            answer,
            readings,
            checkpoint,
            receivers: receivers(&self.task),
            parcels: Vec::new(),
        }))
    }

    /// The five parts add up to the time from acceptance to `now`. The tender
    /// measured what it did itself; what is left of the run is `boot`, because
    /// nearly all of it is spent on starting processes.
    fn breakdown(&self, now: Tick) -> Breakdown {
        let total = now.micros_since(self.accepted);
        let queue_us = self.started.tick.micros_since(self.accepted).min(total);
        let run = total - queue_us;
        let Tender::Ended { ended, .. } = &self.tender else {
            // Ended from outside: how far the function was is not known.
            let ready = self.ready.unwrap_or(now);
            let boot_us = ready.micros_since(self.started.tick).min(run);
            return Breakdown {
                queue_us,
                boot_us,
                compute_us: run - boot_us,
                ..Breakdown::default()
            };
        };
        let retrieve_us = ended.breakdown.retrieve_us.min(run);
        let compute_us = ended.breakdown.compute_us.min(run - retrieve_us);
        let rest = run - retrieve_us - compute_us;
        let transfer_us = ended.breakdown.transfer_us.min(rest);
        Breakdown {
            queue_us,
            retrieve_us,
            boot_us: rest - transfer_us,
            transfer_us,
            compute_us,
        }
    }
}
