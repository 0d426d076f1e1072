//! One attempt of a task: what its tender and its retrieval have said so far,
//! and what follows.

use fades_task::cbor;
use fades_task::coverage::Coverage;
use fades_task::exit::{Clock, Exit};
use fades_task::export::Answered;
use fades_task::limits::Isolation;
use fades_task::message::{Ended, Refused};
use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, RetrievalFailure};
use fades_trust::grant::Allowed;

use super::outcome::Answer;
use super::{
    Capacity, Change, Effect, LEAVE_GRACE, Need, Now, RETRIEVE_GRACE, RunId, START_GRACE,
    STUCK_GRACE, Task, Tick, Timer, Waiting,
};

#[derive(Debug)]
pub(super) enum Tender {
    /// Started; its function has asked for nothing yet.
    Starting,
    /// Its function works.
    Ready,
    /// Its function ended.
    Ended {
        ended: Box<Ended>,
        blob: Vec<u8>,
        /// It stays; bytes of its checkpoint, the last of the blob.
        checkpoint: Option<u64>,
    },
}

/// Whether a function that stays has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Not,
    Since(Tick),
}

#[derive(Debug)]
pub(super) enum Retrieval {
    Active,
    Ended(Option<RetrievalFailure>),
    /// The broker died, or was given up.
    Lost(String),
}

/// What a change of a run means for its task.
#[derive(Debug)]
#[must_use]
pub(super) enum Settled {
    /// Nothing yet, but for these reminders and requests.
    Not(Vec<More>),
    Answered(Answer),
    Failed(Failure),
    /// To be tried again: a part of the node failed.
    Again {
        reason: String,
    },
    /// To be tried with the next isolation.
    NextIsolation,
}

/// Something to do while a run goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum More {
    StartTimer,
    StuckTimer,
    CancelRetrieve,
    RetrievalTimer,
}

impl More {
    pub(super) fn at(self, now: Tick, run: &Run) -> Effect {
        let id = run.id;
        let limit = run.task.mtw.function.limits.time;
        let within = |grace: Duration| now.after(Duration(limit.0.saturating_add(grace.0)));
        match self {
            Self::StartTimer => Effect::SetTimer {
                at: within(START_GRACE),
                timer: Timer::Start(id),
            },
            Self::StuckTimer => Effect::SetTimer {
                at: within(STUCK_GRACE),
                timer: Timer::Stuck(id),
            },
            Self::CancelRetrieve => Effect::CancelRetrieve { run: id },
            Self::RetrievalTimer => Effect::SetTimer {
                at: now.after(RETRIEVE_GRACE),
                timer: Timer::Retrieval(id),
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) task: Task,
    /// What it may do.
    pub(super) allowed: Allowed,
    /// What it takes until it is gone.
    pub(super) need: Need,
    pub(super) accepted: Tick,
    pub(super) started: Now,
    /// When its tender was asked for.
    pub(super) born: Tick,
    /// When its function ended, or was done with a window.
    ended_at: Option<Tick>,
    pub(super) ready: Option<Tick>,
    pub(super) isolation_index: usize,
    /// As the tender said.
    pub(super) isolation: Option<Isolation>,
    pub(super) tender: Tender,
    pub(super) retrieval: Retrieval,
    pub(super) coverage: Vec<Coverage>,
    /// Its task has ended or waits again; only the process is still to go, or
    /// rests.
    pub(super) over: bool,
    pub(super) rest: Rest,
    /// The process is gone.
    pub(super) gone: bool,
}

impl Run {
    pub(super) fn new(
        id: RunId,
        (waiting, allowed): (Waiting, Allowed),
        now: Now,
        capacity: &Capacity,
    ) -> Self {
        Self {
            id,
            allowed,
            need: waiting.task.need(capacity),
            task: waiting.task,
            accepted: waiting.accepted,
            started: now,
            born: now.tick,
            ended_at: None,
            ready: None,
            isolation_index: waiting.isolation,
            isolation: None,
            tender: Tender::Starting,
            retrieval: Retrieval::Active,
            coverage: Vec::new(),
            over: false,
            rest: Rest::Not,
            gone: false,
        }
    }

    fn stays(&self) -> bool {
        self.task.resident_of().is_some()
    }

    pub(super) fn given(&mut self) -> Settled {
        Settled::Not(vec![More::StartTimer])
    }

    pub(super) fn ready(&mut self, now: Tick, isolation: Isolation) -> Settled {
        if !matches!(self.tender, Tender::Starting) {
            return Settled::Not(Vec::new());
        }
        self.tender = Tender::Ready;
        self.ready = Some(now);
        self.used(isolation)
            .unwrap_or_else(|| Settled::Not(vec![More::StuckTimer]))
    }

    /// Notes the isolation; it must be the one that was asked for.
    fn used(&mut self, isolation: Isolation) -> Option<Settled> {
        self.isolation = Some(isolation);
        let asked = self.task.isolations.get(self.isolation_index).copied()?;
        (isolation != asked).then(|| {
            Settled::Failed(Failure::Isolation {
                accepted: self.task.mtw.function.isolation.clone(),
                reason: format!("the tender used {isolation} although {asked} was asked for"),
            })
        })
    }

    /// `checkpoint`: it stays, and so many bytes of the blob are its checkpoint.
    pub(super) fn ended(
        &mut self,
        now: Tick,
        ended: Box<Ended>,
        (blob, checkpoint): (Vec<u8>, Option<u64>),
    ) -> Settled {
        if matches!(self.tender, Tender::Ended { .. }) {
            return Settled::Not(Vec::new());
        }
        let other = self.used(ended.isolation);
        self.tender = Tender::Ended {
            ended,
            blob,
            checkpoint,
        };
        self.ended_at = Some(now);
        if let Some(other) = other {
            return other;
        }
        match self.retrieval {
            // It is about to end, and the channel is to stay.
            Retrieval::Active if checkpoint.is_some() => Settled::Not(vec![More::RetrievalTimer]),
            Retrieval::Active => {
                // Coverage belongs to the result, and the broker knows it.
                Settled::Not(vec![More::CancelRetrieve, More::RetrievalTimer])
            }
            Retrieval::Ended(_) | Retrieval::Lost(_) => self.settle(),
        }
    }

    pub(super) fn refused(&mut self, refused: Refused) -> Settled {
        match refused {
            Refused::Image { reason } | Refused::Limits { reason } => {
                Settled::Failed(Failure::Image { reason })
            }
            Refused::Isolation { .. } if self.isolation_index + 1 < self.task.isolations.len() => {
                Settled::NextIsolation
            }
            Refused::Isolation { reason } => Settled::Failed(Failure::Isolation {
                accepted: self.task.mtw.function.isolation.clone(),
                reason,
            }),
        }
    }

    pub(super) fn gone(&mut self, reason: String) -> Settled {
        match self.tender {
            Tender::Starting | Tender::Ready => Settled::Again { reason },
            // It said its last word; the broker has not.
            Tender::Ended { .. } => Settled::Not(Vec::new()),
        }
    }

    pub(super) fn retrieved(
        &mut self,
        coverage: Vec<Coverage>,
        failure: Option<RetrievalFailure>,
    ) -> Settled {
        if !matches!(self.retrieval, Retrieval::Active) {
            return Settled::Not(Vec::new());
        }
        self.coverage = coverage;
        self.retrieval = Retrieval::Ended(failure);
        match (&self.tender, &self.retrieval) {
            (Tender::Ended { .. }, _) | (_, Retrieval::Ended(Some(_))) => self.settle(),
            _ => Settled::Not(Vec::new()),
        }
    }

    pub(super) fn broker_lost(&mut self, reason: &str) -> Settled {
        if !matches!(self.retrieval, Retrieval::Active) {
            return Settled::Not(Vec::new());
        }
        self.retrieval = Retrieval::Lost(format!("the broker ended: {reason}"));
        self.settle()
    }

    pub(super) fn start_overdue(&mut self) -> Settled {
        match self.tender {
            Tender::Starting => Settled::Again {
                reason: "the tender did not start the function in time".to_owned(),
            },
            Tender::Ready | Tender::Ended { .. } => Settled::Not(Vec::new()),
        }
    }

    /// A function that stays may have been given more to do since.
    pub(super) fn stuck(&mut self, now: Tick) -> Settled {
        let limit = self.task.mtw.function.limits.time;
        let begun = self.started.tick.after(limit).after(STUCK_GRACE);
        match self.tender {
            _ if self.stays() && begun > now => Settled::Not(Vec::new()),
            Tender::Starting | Tender::Ready => Settled::Failed(Failure::Function {
                exit: Exit::Deadline {
                    clock: Clock::Time,
                    limit: self.task.mtw.function.limits.time,
                },
            }),
            Tender::Ended { .. } => Settled::Not(Vec::new()),
        }
    }

    /// The broker works for it.
    pub(super) const fn is_fetching(&self) -> bool {
        !self.over && matches!(self.retrieval, Retrieval::Active)
    }

    pub(super) fn awaits_retrieval(&self, now: Tick) -> bool {
        let since = |at: Tick| !self.stays() || at.after(RETRIEVE_GRACE) <= now;
        let ended = matches!(self.tender, Tender::Ended { .. }) && self.ended_at.is_some_and(since);
        ended && !self.over && matches!(self.retrieval, Retrieval::Active)
    }

    fn settle(&mut self) -> Settled {
        let exit = match &self.tender {
            Tender::Ended { ended, .. } => Some(&ended.exit),
            Tender::Starting | Tender::Ready => None,
        };
        match (exit, &self.retrieval) {
            (None | Some(Exit::Done | Exit::Killed { .. }), Retrieval::Ended(Some(failure))) => {
                Settled::Failed(Failure::Retrieval(failure.clone()))
            }
            (None | Some(Exit::Done), Retrieval::Lost(reason)) => Settled::Again {
                reason: reason.clone(),
            },
            (None, Retrieval::Ended(None) | Retrieval::Active) => Settled::Not(Vec::new()),
            (Some(Exit::Done), Retrieval::Ended(None) | Retrieval::Active) => self.answer(),
            (Some(Exit::Killed { reason }), _) => Settled::Again {
                reason: format!("the function was killed: {reason}"),
            },
            (Some(exit), _) => Settled::Failed(Failure::Function { exit: exit.clone() }),
        }
    }

    /// The answer, checked: what a tender sends was a function's a moment ago.
    fn answer(&mut self) -> Settled {
        let Tender::Ended {
            ended,
            blob,
            checkpoint,
        } = &mut self.tender
        else {
            return Settled::Not(Vec::new());
        };
        let limit = self.task.mtw.function.limits.output;
        let of_checkpoint = checkpoint.unwrap_or(0);
        let length = ended.answer_bytes.checked_add(ended.readings_bytes);
        let whole = length.and_then(|l| l.checked_add(of_checkpoint));
        let beyond = length > Some(limit.0) || of_checkpoint > limit.0;
        let wrong = |message: String| {
            Settled::Failed(Failure::Function {
                exit: Exit::Misuse { message },
            })
        };
        if whole != Some(blob.len() as u64) || beyond {
            return wrong(format!(
                "its answer has {} bytes, {}, {} and {of_checkpoint} were announced, limits.output is \"{limit}\"",
                blob.len(),
                ended.answer_bytes,
                ended.readings_bytes
            ));
        }
        let checkpoint = checkpoint.map(|length| blob.split_off(blob.len() - length as usize));
        let readings = blob.split_off(ended.answer_bytes as usize);
        let cbor = std::mem::take(blob);
        match (cbor.is_empty(), cbor::decode(&cbor)) {
            (true, _) => Settled::Answered(Answer {
                value: None,
                cbor,
                readings,
                checkpoint,
            }),
            (false, Ok(value)) => Settled::Answered(Answer {
                value: Some(value),
                cbor,
                readings,
                checkpoint,
            }),
            (false, Err(e)) => wrong(format!("its answer is no deterministic CBOR: {e}")),
        }
    }

    /// The answer, if its grant lets it leave the node. `today`: bytes of the service's
    /// answers of the day.
    pub(super) fn may_leave(&self, answer: Answer, today: Size) -> Settled {
        let readings = answer.readings.len() as u64;
        let answered = Answered {
            value: answer.value.as_ref(),
            bytes: readings + answer.cbor.len() as u64,
            readings,
            today: today.0,
        };
        let checked = self.allowed.export().map(|export| export.check(answered));
        match checked {
            None | Some(Ok(())) => Settled::Answered(answer),
            Some(Err(reason)) => Settled::Failed(Failure::Withheld {
                reason: format!("grant {}: {reason}", self.allowed.grant),
            }),
        }
    }

    /// The task, back in the queue.
    pub(super) fn again(&self, not_before: Tick, isolation: usize) -> Waiting {
        Waiting {
            task: self.task.clone(),
            accepted: self.accepted,
            not_before,
            isolation,
        }
    }

    /// Lets go of tender and broker once the task no longer needs the run.
    pub(super) fn release(&mut self, now: Tick, effects: &mut Vec<Effect>) {
        self.over = true;
        if matches!(self.retrieval, Retrieval::Active) {
            effects.push(Effect::CancelRetrieve { run: self.id });
        }
        match self.tender {
            _ if self.gone => {}
            Tender::Starting
            | Tender::Ready
            | Tender::Ended {
                checkpoint: Some(_),
                ..
            } => effects.push(Effect::KillTender { run: self.id }),
            Tender::Ended { .. } => effects.push(Effect::SetTimer {
                at: now.after(LEAVE_GRACE),
                timer: Timer::Leave(self.id),
            }),
        }
    }
}

impl Waiting {
    pub(super) fn persist(&self) -> Effect {
        Effect::Persist {
            id: self.task.mtw.task.id.clone(),
            change: Change::Queued {
                attempts: self.task.attempts,
            },
        }
    }
}
