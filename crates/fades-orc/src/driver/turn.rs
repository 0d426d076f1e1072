//! One turn of the driver: what has arrived is taken together, what follows is
//! stored together, and only then performed.
//!
//! ```text
//! inputs ──▶ core ──▶ effects ──▶ one transaction ──▶ the outside, in order
//!    └─▶ tasks handed in ─────────┘        └─▶ the submitters, then the core
//! ```
//! While one group is synced, the next one gathers in the queue of inputs:
//! the slower the disk and the more tasks, the more share a sync.
//!
//! A task that was handed in and can start at once is stored as running in
//! the same transaction that accepts it. The core decides about it only
//! afterwards, so that nothing has to be undone when the task finds no room.

use std::sync::mpsc::Sender;
use std::time::Instant;

use fades_task::courier::Verdict;
use fades_task::identity::{Digest, Name};
use fades_task::limits::Isolation;
use fades_task::time::Time;
use fades_trust::envelope::Envelope;
use fades_trust::task::VerifiedTask;
use fades_trust::trust::TrustStore;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::courier::verdict;
use super::{Driver, Input, STORE_PAUSE, STORE_PAUSE_MAX};
use crate::admission::{Admitted, Refusal, admit};
use crate::api::types::{FunctionInfo, Problem};
use crate::config::{NodeConfig, QUEUE_MAX, STANDING_MAX};
use crate::core::{Change, Effect, Event, Now, Place, Task};
use crate::store::group::{Ending, Newcomer, Write};
use crate::store::{Acceptance, Store, StoreError};

/// Most inputs of one turn, so that a group has a size and nobody waits for
/// more than that before something happens.
const INPUTS_MAX: usize = 512;

/// A task that the API admitted.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) task: VerifiedTask,
    /// Its envelope, as JSON.
    pub(crate) envelope: String,
    /// Isolations to use, strongest first.
    pub(crate) isolations: Vec<Isolation>,
    /// The inbox out of which it came.
    pub(crate) inbox: Option<Name>,
    pub(crate) reply: ReplyTo,
}

/// Who is told, once a task is stored and synced, or will not be.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A request to the API. Dropped when the node ends.
    Request(oneshot::Sender<Result<Acceptance, NotTaken>>),
    /// A letter of the courier.
    Letter {
        life: u32,
        letter: u64,
        inputs: Sender<Input>,
    },
}

impl Submission {
    /// The task in `bytes`, if this node takes it.
    pub(crate) fn read(
        bytes: &[u8],
        trust: &TrustStore,
        config: &NodeConfig,
        store: &Store,
        now: Time,
        reply: ReplyTo,
    ) -> Result<Self, Problem> {
        let find = |digest| store.function(digest);
        Self::judged(bytes, trust, config, find, now, reply)
    }

    /// The task in `bytes`, if this node takes it while it has the functions that
    /// `find` knows.
    pub(crate) fn judged(
        bytes: &[u8],
        trust: &TrustStore,
        config: &NodeConfig,
        find: impl FnOnce(Digest) -> Option<FunctionInfo>,
        now: Time,
        reply: ReplyTo,
    ) -> Result<Self, Problem> {
        let envelope = Envelope::parse(bytes).map_err(fades_trust::refusal::Refusal::from)?;
        let find = |digest| Ok::<_, Problem>(find(digest));
        let Admitted { task, isolations } = admit(&envelope, trust, config, now, find)?;
        Ok(Self {
            task,
            envelope: envelope.to_json(),
            isolations,
            inbox: None,
            reply,
        })
    }
}

impl ReplyTo {
    fn tell(self, accepted: Result<Acceptance, NotTaken>) {
        match self {
            // Whoever asked may have gone.
            Self::Request(reply) => drop(reply.send(accepted)),
            Self::Letter {
                life,
                letter,
                inputs,
            } => {
                let verdict = match accepted {
                    Ok(accepted) => Verdict::Taken {
                        task: accepted.summary.id,
                    },
                    Err(reason) => verdict(reason.into()),
                };
                // The driver that is about to end tells nobody anything.
                let _ = inputs.send(Input::Verdict {
                    life,
                    letter,
                    verdict,
                });
            }
        }
    }
}

/// Why an admitted task was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is left of a submission while its task is being stored.
struct Submitter {
    isolations: Vec<Isolation>,
    reply: ReplyTo,
}

/// What happened so far in a turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    effects: Vec<Effect>,
    submissions: Vec<Submission>,
}

/// A task that is stored and that the core has not seen yet.
#[derive(Debug)]
pub(super) struct Entrant {
    /// The moment at which it was accepted.
    now: Now,
    task: Task,
    /// It is stored as running since that moment.
    started: bool,
}

/// Something that has arrived and waits for the next turn.
#[derive(Debug)]
pub(super) enum Arrival {
    Input(Input),
    Entrant(Box<Entrant>),
}

impl Driver {
    /// Takes what is there, waiting when nothing is, and does what follows.
    pub(super) fn turn(&mut self) {
        self.is_alive();
        self.look_at_clock();
        if let Some(arrival) = self.next_arrival() {
            self.arrived(arrival);
            for _ in 1..INPUTS_MAX {
                if self.ending {
                    break;
                }
                let Some(arrival) = self.waiting_arrival() else {
                    break;
                };
                self.arrived(arrival);
            }
        }
        self.what_is_due();
        self.settle();
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Input(input) => self.take(input),
            Arrival::Entrant(entrant) => self.enter(*entrant),
        }
    }

    pub(super) fn submitted(&mut self, submission: Submission) {
        self.turn.submissions.push(submission);
    }

    /// What is there already.
    fn waiting_arrival(&mut self) -> Option<Arrival> {
        let arrival = self.arrivals.pop_front();
        arrival.or_else(|| self.inputs.try_recv().ok().map(Arrival::Input))
    }

    /// Hands an event to the core. What follows is performed at the end of the
    /// turn.
    pub(super) fn step(&mut self, event: Event) {
        let now = self.now();
        let effects = self.step_at(now, event);
        self.turn.effects.extend(effects);
    }

    /// Stores what the turn wants stored, and then performs the rest.
    pub(super) fn settle(&mut self) {
        while !(self.turn.effects.is_empty() && self.turn.submissions.is_empty()) {
            let turn = std::mem::take(&mut self.turn);
            let now = self.now();
            let (newcomers, submitters) = self.newcomers(now, turn.submissions);
            let writes = self.writes(now.time, &turn.effects);
            let stored = self.store.store(&writes, &newcomers);
            let (stored, accepted) = match stored {
                Ok(stored) => {
                    self.check_applied(&writes, &stored.applied);
                    (true, stored.accepted)
                }
                Err(error) => self.store_apart(&writes, &newcomers, error),
            };
            for effect in turn.effects {
                if stored || effect.lets_go() {
                    self.perform(effect);
                }
            }
            let newcomers = newcomers.into_iter().zip(submitters);
            for (newcomer, accepted) in newcomers.zip(accepted) {
                self.answer(now, newcomer, accepted);
            }
        }
        self.show_outbox();
    }

    fn writes<'a>(&self, now: Time, effects: &'a [Effect]) -> Vec<Write<'a>> {
        let write = |effect: &'a Effect| match effect {
            Effect::Persist { id, change } => Some(Write::State(id, change)),
            Effect::Commit(commit) => {
                let mut logs = self.shared.live().logs(&commit.result.id);
                let logs = logs.get_or_insert_default();
                logs.cut = logs.cut.saturating_add(commit.result.log_cut);
                Some(Write::End(Box::new(Ending::new(commit, logs))))
            }
            Effect::Spawn(spawn) => Some(Write::Spawn(spawn, now)),
            Effect::Return { task, due } => Some(Write::Return(task, *due)),
            Effect::Dispatched { parcel, outcome } => Some(Write::Dispatched(*parcel, outcome)),
            _ => None,
        };
        effects.iter().filter_map(write).collect()
    }

    /// A task that had ended was stored before a crash that came before this
    /// answer.
    fn check_applied(&self, writes: &[Write<'_>], applied: &[bool]) {
        let not = writes.iter().zip(applied).filter(|(_, a)| !**a);
        for id in not.filter_map(|(write, _)| write.id()) {
            error!(task = %id, "the task has ended already, its first end stands");
        }
    }

    /// The tasks that were handed in, as they shall be stored.
    fn newcomers(
        &mut self,
        now: Now,
        submissions: Vec<Submission>,
    ) -> (Vec<Newcomer>, Vec<Submitter>) {
        let submissions = self.still_vouched(submissions);
        let submissions = self.within_allowance(now, submissions);
        let once = |s: &&Submission| !s.task.mtw().stands();
        let tasks = submissions.iter().filter(once).map(|s| s.task.mtw());
        let mut at_once = self.core.starts_at_once(now, tasks);
        let mut standing = STANDING_MAX.saturating_sub(self.core.standing());
        let mut room = QUEUE_MAX.saturating_sub(self.core.waiting() as u64);
        let (mut newcomers, mut submitters) = (Vec::<Newcomer>::new(), Vec::new());
        for submission in submissions {
            let stands = submission.task.mtw().stands();
            let starts = !stands && at_once > 0;
            let id = &submission.task.mtw().task.id;
            let full = match (stands, starts) {
                (true, _) => (standing == 0).then_some(Refusal::TooManyStanding),
                (false, false) => (room == 0).then_some(Refusal::QueueFull),
                (false, true) => None,
            };
            if let Some(full) = full.filter(|_| !self.knows(id)) {
                submission.reply.tell(Err(full.into()));
                continue;
            }
            at_once -= usize::from(starts);
            standing = standing.saturating_sub(usize::from(stands));
            room = room.saturating_sub(u64::from(!starts && !stands));
            newcomers.push(Newcomer {
                task: submission.task,
                envelope: submission.envelope,
                accepted: now.time,
                inbox: submission.inbox,
                started: starts.then_some(now.time),
            });
            submitters.push(Submitter {
                isolations: submission.isolations,
                reply: submission.reply,
            });
        }
        (newcomers, submitters)
    }

    /// Those whose key was not revoked since they were admitted.
    fn still_vouched(&self, submissions: Vec<Submission>) -> Vec<Submission> {
        let revocations = self.trust.revocations();
        let mut vouched = Vec::with_capacity(submissions.len());
        for submission in submissions {
            match revocations.find(submission.task.key()) {
                None => vouched.push(submission),
                Some(revoked) => {
                    let refusal = fades_trust::refusal::Refusal::Revoked {
                        key: submission.task.signer().to_string(),
                        since: revoked.since,
                        reason: revoked.reason.clone(),
                    };
                    submission.reply.tell(Err(Refusal::Trust(refusal).into()));
                }
            }
        }
        vouched
    }

    /// Those that their service may hand in now; the others are refused. The
    /// same task again is no further one.
    fn within_allowance(&mut self, now: Now, submissions: Vec<Submission>) -> Vec<Submission> {
        let mut within = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let task = &submission.task.mtw().task;
            if !self.core.is_bounded(&task.service) || self.knows(&task.id) {
                within.push(submission);
                continue;
            }
            match self.core.admit(now, &task.service) {
                Ok(()) => within.push(submission),
                Err(over) => submission.reply.tell(Err(Refusal::from(over).into())),
            }
        }
        within
    }

    /// Whether a task is stored; a store that cannot be read says so itself
    /// when the task is stored.
    fn knows(&self, id: &Name) -> bool {
        !matches!(self.store.summary(id), Ok(None))
    }

    /// After a group could not be stored: what must be stored, until it is,
    /// and then each new task for itself, since a smaller one may find room.
    fn store_apart(
        &mut self,
        writes: &[Write<'_>],
        newcomers: &[Newcomer],
        error: StoreError,
    ) -> (bool, Vec<Result<Acceptance, StoreError>>) {
        if writes.is_empty() && newcomers.len() == 1 {
            return (true, vec![Err(error)]);
        }
        let stored = self.until_stored(writes);
        let accepted = newcomers.iter().map(|newcomer| self.store_one(newcomer));
        (stored, accepted.collect())
    }

    fn store_one(&self, newcomer: &Newcomer) -> Result<Acceptance, StoreError> {
        let mut stored = self.store.store(&[], std::slice::from_ref(newcomer))?;
        // One newcomer, one outcome.
        stored.accepted.remove(0)
    }

    /// Tries until the store took it. Nothing else happens meanwhile, for
    /// nothing else may, but that tasks are taken or refused. Whether it was
    /// stored: a node that ends does not wait for it; what was not stored is
    /// still queued or running in the store, and runs again.
    fn until_stored(&mut self, writes: &[Write<'_>]) -> bool {
        let mut pause = STORE_PAUSE;
        loop {
            match self.store.store(writes, &[]) {
                Ok(stored) => {
                    self.check_applied(writes, &stored.applied);
                    break;
                }
                Err(e) => {
                    let reason = crate::api::problem::chain(&e);
                    warn!(%reason, "the store cannot be written; trying again");
                    self.shared.metrics.store_failed();
                    self.shared.live().store_error = Some(reason);
                    self.tell_health();
                }
            }
            if self.shared.is_ending() {
                return false;
            }
            self.wait_out(pause);
            pause = (pause * 2).min(STORE_PAUSE_MAX);
        }
        self.shared.live().store_error = None;
        true
    }

    /// Lets time pass, or the beginning of the node's end. Whoever hands in a
    /// task is answered; everything else waits for its turn.
    fn wait_out(&mut self, pause: std::time::Duration) {
        let until = Instant::now() + pause;
        loop {
            // Waiting for the store is no illness of the driver: starting the node
            // anew would not help.
            self.is_alive();
            let left = until.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(left) {
                Ok(Input::Submit(submission)) => self.take_apart(*submission),
                Ok(Input::Shutdown) => {
                    self.arrivals.push_back(Arrival::Input(Input::Shutdown));
                    return;
                }
                Ok(input) => self.arrivals.push_back(Arrival::Input(input)),
                Err(_) => return,
            }
        }
    }

    /// Takes a task while the core may not be asked.
    fn take_apart(&mut self, submission: Submission) {
        let now = self.now();
        let (newcomers, submitters) = self.newcomers(now, vec![submission]);
        for (mut newcomer, submitter) in newcomers.into_iter().zip(submitters) {
            newcomer.started = None;
            let accepted = self.store_one(&newcomer);
            if let Some(entrant) = tell(now, (newcomer, submitter), accepted) {
                self.arrivals.push_back(Arrival::Entrant(Box::new(entrant)));
            }
        }
    }

    /// Tells the sender of a task what became of it, and the core of a task
    /// that is new.
    fn answer(
        &mut self,
        now: Now,
        newcomer: (Newcomer, Submitter),
        accepted: Result<Acceptance, StoreError>,
    ) {
        if let Some(entrant) = tell(now, newcomer, accepted) {
            self.enter(entrant);
        }
    }

    /// Hands a task that is stored to the core.
    fn enter(&mut self, entrant: Entrant) {
        let Entrant { now, task, started } = entrant;
        let id = task.mtw.task.id.clone();
        let mut effects = self.step_at(now, Event::Accepted(task));
        if started {
            leave_out_start(now, id, &mut effects);
        }
        self.turn.effects.extend(effects);
    }
}

/// Tells the sender; the task, when it is new.
fn tell(
    now: Now,
    (newcomer, submitter): (Newcomer, Submitter),
    accepted: Result<Acceptance, StoreError>,
) -> Option<Entrant> {
    let entrant = accepted.as_ref().ok().filter(|a| a.fresh).map(|a| Entrant {
        now,
        started: newcomer.started.is_some(),
        task: Task {
            seq: a.seq,
            accepted: newcomer.accepted,
            attempts: 0,
            isolations: submitter.isolations,
            inbox: newcomer.inbox.clone(),
            parent: None,
            due: None,
            place: Place {
                replaces: a.replaces.clone(),
                ..Place::default()
            },
            mtw: std::sync::Arc::new(newcomer.task.into_mtw()),
        },
    });
    submitter.reply.tell(accepted.map_err(NotTaken::from));
    entrant
}

/// The task is stored as running already. When the core would have it wait all
/// the same, that is stored.
fn leave_out_start(now: Now, id: Name, effects: &mut Vec<Effect>) {
    let change = Change::Running {
        attempts: 1,
        at: now.time,
    };
    let start = Effect::Persist { id, change };
    match effects.iter().position(|effect| *effect == start) {
        Some(place) => drop(effects.remove(place)),
        None => {
            let Effect::Persist { id, .. } = start else {
                return;
            };
            let change = Change::Queued { attempts: 0 };
            effects.insert(0, Effect::Persist { id, change });
        }
    }
}

#[cfg(test)]
mod tests;
