//! Changes that are stored together: one transaction, one sync.
//!
//! A sync takes as long for one change as for a hundred, so the driver hands
//! over all changes of a turn at once. All of them are on the disk when this
//! succeeds, none when it fails. A change that does not apply, because its
//! task has ended or an id is taken, changes no row and does not hinder the
//! others.

use std::sync::Arc;

use fades_task::identity::Name;
use fades_task::result::{Breakdown, TaskResult, TaskState};
use fades_task::time::Time;
use fades_trust::task::VerifiedTask;
use rusqlite::{OptionalExtension, Transaction};

use super::usage::Charges;
use super::{Acceptance, Store, StoreError, mail, rows};
use crate::api::types::{Logs, TaskSummary};
use crate::core::outbox::{Dispatch, NewParcel};
use crate::core::standing::Spawn;
use crate::core::{Change, Charge, Commit};

const DOING: &str = "storing tasks and results";

/// An admitted task, to be stored.
#[derive(Debug)]
pub struct Newcomer {
    /// The task.
    pub task: VerifiedTask,
    /// Its envelope, as JSON.
    pub envelope: String,
    /// When it was accepted.
    pub accepted: Time,
    /// The inbox out of which it came.
    pub inbox: Option<Name>,
    /// It is started at once: its first attempt begins at this time.
    pub started: Option<Time>,
}

/// A new state of a task that is stored already.
#[derive(Debug)]
pub enum Write<'a> {
    /// One that is not final.
    State(&'a Name, &'a Change),
    /// The final one.
    End(Box<Ending>),
    /// A task with a schedule has a run, accepted at that time.
    Spawn(&'a Spawn, Time),
    /// A task with a schedule has its place again; until when everything is run.
    Return(&'a Name, Time),
    /// A parcel has left the outbox.
    Dispatched(u64, &'a Dispatch),
}

/// The end of a task, in the forms in which it is stored and shown.
#[derive(Debug)]
pub struct Ending {
    pub(super) id: Name,
    pub(super) service: Name,
    pub(super) charge: Charge,
    pub(super) state: TaskState,
    pub(super) attempts: u32,
    pub(super) finished: Time,
    pub(super) breakdown: Breakdown,
    /// Why there is no answer, in words.
    pub(super) failure: Option<String>,
    /// The result without the answer: that is kept as the bytes that the
    /// function gave, not a second time.
    pub(super) bare: String,
    /// The result as the API shows it.
    pub(super) shown: Arc<str>,
    pub(super) answer: Vec<u8>,
    pub(super) readings: Vec<u8>,
    pub(super) checkpoint: Option<Vec<u8>>,
    pub(super) log: String,
    pub(super) parcels: Vec<NewParcel>,
}

/// A result consists of texts, numbers and what was decoded from CBOR; all of
/// it has a JSON form.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Ending {
    /// Out of what the core decided.
    #[must_use]
    pub fn new(commit: &Commit, logs: &Logs) -> Self {
        let result = &commit.result;
        let shown = json(result);
        let bare = match &result.answer {
            None => shown.clone(),
            Some(_) => json(&without_answer(result)),
        };
        Self {
            id: result.id.clone(),
            service: result.service.clone(),
            charge: commit.charge,
            state: result.state,
            attempts: result.attempts,
            finished: result.finished.unwrap_or(result.accepted),
            breakdown: result.breakdown,
            failure: result.failure.as_ref().map(ToString::to_string),
            bare,
            shown: shown.into(),
            answer: commit.answer.clone(),
            readings: commit.readings.clone(),
            checkpoint: commit.checkpoint.clone(),
            log: json(logs),
            parcels: commit.parcels.clone(),
        }
    }
}

fn without_answer(result: &TaskResult) -> TaskResult {
    TaskResult {
        answer: None,
        ..result.clone()
    }
}

/// What became of a group.
#[derive(Debug, Default)]
pub struct Stored {
    /// For each new state, in order, whether its task was open. The first end
    /// of a task stands.
    pub applied: Vec<bool>,
    /// For each newcomer, in order, whether it is in the store now.
    pub accepted: Vec<Result<Acceptance, StoreError>>,
}

impl Store {
    /// Stores a group: the new states in order, then the new tasks.
    ///
    /// # Errors
    /// When the database failed: nothing of the group is stored.
    pub fn store(
        &self,
        writes: &[Write<'_>],
        newcomers: &[Newcomer],
    ) -> Result<Stored, StoreError> {
        let mut stored = Stored::default();
        if writes.is_empty() && newcomers.is_empty() {
            return Ok(stored);
        }
        let sql = |e| self.sql(DOING, e);
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(sql)?;
        let mut charges = Charges::default();
        for write in writes {
            let applied = apply(&transaction, write).map_err(sql)?;
            stored.applied.push(applied);
            if let (true, Write::End(ending)) = (applied, write) {
                charges.add(&ending.service, &ending.charge);
            }
        }
        charges.write(&transaction).map_err(sql)?;
        for newcomer in newcomers {
            stored.accepted.push(self.take(&transaction, newcomer)?);
        }
        transaction.commit().map_err(sql)?;
        #[cfg(test)]
        self.groups
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // While the connection is held: nobody reads a state there that is not
        // known here.
        self.remember(writes, &stored);
        Ok(stored)
    }

    /// The newcomer's row, or the one that was there before. The outer error
    /// is the database's, the inner one concerns this task alone.
    fn take(
        &self,
        transaction: &Transaction<'_>,
        newcomer: &Newcomer,
    ) -> Result<Result<Acceptance, StoreError>, StoreError> {
        let sql = |e| self.sql(DOING, e);
        let replaces = match self.to_replace(transaction, newcomer)? {
            Ok(replaces) => replaces,
            Err(error) => return Ok(Err(error)),
        };
        if rows::insert_task(transaction, newcomer).map_err(sql)? {
            let seq = transaction.last_insert_rowid();
            if let Some(before) = &replaces {
                rows::hold(transaction, before, seq).map_err(sql)?;
            }
            if let Some(at) = newcomer.started {
                rows::note_use(transaction, newcomer.task.image(), at).map_err(sql)?;
            }
            return Ok(Ok(Acceptance {
                seq,
                fresh: true,
                replaces,
                summary: newcomer.summary(),
            }));
        }
        let id = &newcomer.task.mtw().task.id;
        let before = rows::accepted_as(transaction, id).optional().map_err(sql)?;
        let (seq, payload, summary) =
            before.ok_or_else(|| self.damaged(format!("task {id} vanished")))?;
        if payload == newcomer.task.payload().0 {
            return Ok(Ok(Acceptance {
                seq,
                fresh: false,
                replaces: None,
                summary,
            }));
        }
        Ok(Err(StoreError::OtherTask {
            id: id.clone(),
            signer: summary.signer,
        }))
    }

    /// The task whose place a newcomer takes.
    fn to_replace(
        &self,
        transaction: &Transaction<'_>,
        newcomer: &Newcomer,
    ) -> Result<Result<Option<Name>, StoreError>, StoreError> {
        let sql = |e| self.sql(DOING, e);
        let mtw = newcomer.task.mtw();
        let Some(replace) = &mtw.replace else {
            return Ok(Ok(None));
        };
        if rows::place(transaction, &mtw.task.id)
            .map_err(sql)?
            .is_some()
        {
            // The same task again, or another with its id.
            return Ok(Ok(None));
        }
        let standing = rows::standing(transaction, &mtw.task.service).map_err(sql)?;
        let (task, service) = (replace.task.clone(), mtw.task.service.clone());
        let of_name = standing.iter().filter(|(_, name)| *name == task);
        let of_name: Vec<&Name> = of_name.map(|(id, _)| id).collect();
        let by_id = standing.iter().find(|(id, _)| *id == task);
        Ok(match (by_id, of_name.as_slice()) {
            (Some((id, _)), _) => Ok(Some(id.clone())),
            (None, [id]) => Ok(Some((*id).clone())),
            (None, _) => Err(StoreError::NothingToReplace {
                task,
                service,
                known: known(&standing),
            }),
        })
    }

    fn remember(&self, writes: &[Write<'_>], stored: &Stored) {
        let mut recent = self.recent();
        let applied = writes.iter().zip(&stored.applied).filter(|(_, a)| **a);
        let changed = applied.filter_map(|(write, _)| match write {
            Write::State(id, change) => recent.changed(id, change),
            Write::End(ending) => recent.ended(ending),
            Write::Spawn(spawn, at) => recent.spawned(spawn, *at),
            Write::Return(task, due) => recent.held(task, false, Some(*due)),
            Write::Dispatched(..) => None,
        });
        let mut news: Vec<TaskSummary> = changed.collect();
        for acceptance in stored.accepted.iter().flatten().filter(|a| a.fresh) {
            recent.accepted(acceptance.summary.clone());
            news.push(acceptance.summary.clone());
            let before = acceptance.replaces.as_ref();
            news.extend(before.and_then(|before| recent.held(before, true, None)));
        }
        self.feed.tasks(news);
    }
}

impl Write<'_> {
    /// The task whose state it is.
    #[must_use]
    pub const fn id(&self) -> Option<&Name> {
        match self {
            Self::State(id, _) => Some(id),
            Self::End(ending) => Some(&ending.id),
            Self::Spawn(..) | Self::Return(..) | Self::Dispatched(..) => None,
        }
    }
}

impl Newcomer {
    /// As it is stored.
    pub(super) fn summary(&self) -> TaskSummary {
        let mtw = self.task.mtw();
        TaskSummary {
            id: mtw.task.id.clone(),
            name: mtw.task.name.clone(),
            service: mtw.task.service.clone(),
            signer: self.task.signer().clone(),
            state: match self.started {
                Some(_) => TaskState::Running,
                None if mtw.stands() => TaskState::Standing,
                None => TaskState::Queued,
            },
            function: mtw.function.image.clone(),
            attempts: u32::from(self.started.is_some()),
            accepted: self.accepted,
            started: self.started,
            finished: None,
            due: mtw.stands().then_some(self.accepted),
            skipped: 0,
            held: false,
            breakdown: None,
            failure: None,
        }
    }
}

/// Tasks that stand, by id and name, the first few of many.
fn known(standing: &[(Name, Name)]) -> String {
    const MOST: usize = 8;
    let mut words: Vec<String> = standing
        .iter()
        .take(MOST)
        .map(|(id, name)| format!("{name} ({id})"))
        .collect();
    if standing.len() > MOST {
        words.push(format!("and {} more", standing.len() - MOST));
    }
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

/// Whether the task was open.
fn apply(transaction: &Transaction<'_>, write: &Write<'_>) -> rusqlite::Result<bool> {
    match write {
        Write::State(id, Change::Running { attempts, at }) => {
            rows::set_running(transaction, id, *attempts, *at)
        }
        Write::State(id, Change::Queued { attempts }) => {
            rows::set_queued(transaction, id, *attempts)
        }
        Write::End(ending) => rows::end_task(transaction, ending),
        Write::Spawn(spawn, at) => rows::spawn(transaction, spawn, *at),
        Write::Return(task, due) => rows::give_back(transaction, task, *due),
        Write::Dispatched(parcel, outcome) => mail::dispatch(transaction, *parcel, outcome),
    }
}
