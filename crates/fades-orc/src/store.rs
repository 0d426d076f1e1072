//! What survives the process: tasks, their one result, functions.
//!
//! The only module that knows SQL. SQLite in WAL mode, every commit synced:
//! what a method returned `Ok` for is on the disk. One connection, which holds
//! the database exclusively; a lock file beside it says who does. Images are
//! files beside the database ([`images`]).
//!
//! A task's final state and its result are written in one transaction, which
//! refuses a second one.

mod folder;
pub mod images;
mod rows;
mod schema;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fades_task::identity::{Digest, Name};
use fades_task::result::{TaskResult, TaskState};
use fades_task::time::Time;
use fades_trust::function::VerifiedFunction;
use fades_trust::task::VerifiedTask;
use rusqlite::{Connection, OptionalExtension, Transaction};

use self::images::Images;
pub use self::rows::{Filter, StoredTask};
use crate::api::types::{FunctionInfo, Logs, TaskCounts, TaskDetail, TaskList, TaskSummary};
use crate::core::{Change, Commit};

const DATABASE: &str = "store.db";

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node has the folder.
    #[error(
        "{folder}: another node (process {pid}) uses this folder: stop it, or give this node a folder of its own"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other node's process, as it wrote it.
        pid: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {doing}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// No room left.
    #[error("{folder}: no room left on the device: free some space and try again")]
    Full {
        /// The folder.
        folder: PathBuf,
    },
    /// Made by a newer version.
    #[error(
        "{path}: the store has version {found}, this program knows up to {known}: use the newer program, or another folder"
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// A database of something else.
    #[error("{path}: not the store of a node: give the node a folder of its own")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// What is stored cannot be read.
    #[error("{path}: damaged: {what}: restore the folder from a copy")]
    Damaged {
        /// The database or the file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An image is not the one that was published.
    #[error(
        "{path}: the image was changed on the disk, its digest is {found}: publish the function again with `fades publish`"
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// What its digest is.
        found: Digest,
    },
    /// The id belongs to another task.
    #[error(
        "task {id} is another task already: the id is taken by what {signer} signed before; choose a new id"
    )]
    OtherTask {
        /// The id.
        id: Name,
        /// Who signed the task that has it.
        signer: Name,
    },
    /// The task has a final state already, or is not there.
    #[error("task {id} is not there, or has ended already")]
    NotOpen {
        /// The task.
        id: Name,
    },
    /// The database failed in another way.
    #[error("{path}: {doing} failed")]
    Sql {
        /// The database.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What failed.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether more room would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::File { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }
}

/// A task that was stored, or was there before.
#[derive(Debug, Clone, PartialEq)]
pub struct Acceptance {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// It was not there before.
    pub fresh: bool,
    /// Its state.
    pub summary: TaskSummary,
}

/// The store of one node.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    path: PathBuf,
    connection: Mutex<Connection>,
    images: Images,
    /// Held for the life of the store.
    _lock: File,
}

impl Store {
    /// Opens the store in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When another node has it, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_on(folder, folder.join(DATABASE), None)
    }

    /// With the database somewhere else, and on another disk when `vfs` names
    /// one.
    fn open_on(folder: &Path, path: PathBuf, vfs: Option<&str>) -> Result<Self, StoreError> {
        folder::make(folder)?;
        let lock = folder::lock(folder)?;
        let images = Images::open(folder)?;
        let connection = schema::open(&path, vfs)?;
        images::sync_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            path,
            connection: Mutex::new(connection),
            images,
            _lock: lock,
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was left by a panic was rolled back when dropped.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction, which is on the disk when this returns.
    fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let sql = |e| self.sql(doing, e);
        let transaction = connection.transaction().map_err(sql)?;
        let done = work(&transaction)?;
        transaction.commit().map_err(sql)?;
        Ok(done)
    }

    fn sql(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        schema::sql_error(&self.path, doing, source)
    }

    fn damaged(&self, what: String) -> StoreError {
        let path = self.path.clone();
        StoreError::Damaged { path, what }
    }

    /// Stores a task, or finds the same task that was stored before.
    ///
    /// # Errors
    /// [`StoreError::OtherTask`] when the id belongs to another one;
    /// [`StoreError::Full`] when there is no room, and nothing was stored.
    pub fn accept(
        &self,
        task: &VerifiedTask,
        envelope: &str,
        now: Time,
    ) -> Result<Acceptance, StoreError> {
        const DOING: &str = "storing a task";
        let id = &task.mtw().task.id;
        self.write(DOING, |t| {
            let sql = |e| self.sql(DOING, e);
            let before: Option<(i64, Vec<u8>)> = t
                .query_row(
                    "SELECT seq, payload FROM tasks WHERE id = ?1",
                    [id.as_str()],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(sql)?;
            let (seq, fresh) = match before {
                Some((seq, payload)) if payload == task.payload().0 => (seq, false),
                Some(_) => {
                    let signer = rows::summary(t, id).map_err(sql)?.map(|s| s.signer);
                    return Err(StoreError::OtherTask {
                        id: id.clone(),
                        signer: signer.unwrap_or_else(|| id.clone()),
                    });
                }
                None => {
                    rows::insert_task(t, task, envelope, now).map_err(sql)?;
                    (t.last_insert_rowid(), true)
                }
            };
            let summary = rows::summary(t, id).map_err(sql)?;
            let summary = summary.ok_or_else(|| self.damaged(format!("task {id} vanished")))?;
            Ok(Acceptance {
                seq,
                fresh,
                summary,
            })
        })
    }

    /// Stores a state that is not final.
    ///
    /// # Errors
    /// [`StoreError::NotOpen`] when the task has ended.
    pub fn persist(&self, id: &Name, change: &Change) -> Result<(), StoreError> {
        const DOING: &str = "storing a task's state";
        self.write(DOING, |t| {
            let changed = match change {
                Change::Running { attempts, at } => rows::set_running(t, id, *attempts, *at),
                Change::Queued { attempts } => rows::set_queued(t, id, *attempts),
            };
            match changed.map_err(|e| self.sql(DOING, e))? {
                1 => Ok(()),
                _ => Err(StoreError::NotOpen { id: id.clone() }),
            }
        })
    }

    /// Stores a task's final state, its result and its log in one transaction.
    ///
    /// # Errors
    /// [`StoreError::NotOpen`] when it has ended already: nothing changes.
    pub fn commit(&self, commit: &Commit, logs: &Logs) -> Result<(), StoreError> {
        const DOING: &str = "storing a result";
        let id = &commit.result.id;
        self.write(DOING, |t| {
            let sql = |e| self.sql(DOING, e);
            if rows::set_final(t, &commit.result).map_err(sql)? != 1 {
                return Err(StoreError::NotOpen { id: id.clone() });
            }
            rows::insert_result(t, commit, logs).map_err(sql)
        })
    }

    /// All tasks that have not ended, in the order of acceptance.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one cannot be read.
    pub fn unfinished(&self) -> Result<Vec<StoredTask>, StoreError> {
        let connection = self.connection();
        let rows = rows::unfinished(&connection).map_err(|e| self.sql("reading the queue", e))?;
        rows.into_iter()
            .map(|row| row.parse().map_err(|what| self.damaged(what)))
            .collect()
    }

    /// A task in short.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn summary(&self, id: &Name) -> Result<Option<TaskSummary>, StoreError> {
        rows::summary(&self.connection(), id).map_err(|e| self.sql("reading a task", e))
    }

    /// A task in full.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn detail(&self, id: &Name) -> Result<Option<TaskDetail>, StoreError> {
        let connection = self.connection();
        let sql = |e| self.sql("reading a task", e);
        let Some(summary) = rows::summary(&connection, id).map_err(sql)? else {
            return Ok(None);
        };
        let envelope = rows::envelope(&connection, id).map_err(sql)?;
        let task = rows::mtw_of(&envelope).map_err(|what| self.damaged(what))?;
        Ok(Some(TaskDetail { summary, task }))
    }

    /// Tasks in short, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<TaskList, StoreError> {
        rows::list(&self.connection(), filter).map_err(|e| self.sql("listing tasks", e))
    }

    /// How many tasks wait for their turn.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn queued(&self) -> Result<u64, StoreError> {
        rows::queued(&self.connection()).map_err(|e| self.sql("counting the queue", e))
    }

    /// How many tasks there are in each state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn counts(&self) -> Result<TaskCounts, StoreError> {
        rows::counts(&self.connection()).map_err(|e| self.sql("counting tasks", e))
    }

    /// What became of a task; its state so far when it has not ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn result(&self, id: &Name) -> Result<Option<TaskResult>, StoreError> {
        let connection = self.connection();
        let sql = |e| self.sql("reading a result", e);
        let Some(summary) = rows::summary(&connection, id).map_err(sql)? else {
            return Ok(None);
        };
        match rows::result(&connection, id).map_err(sql)? {
            Some(row) => row
                .parse()
                .map(Some)
                .map_err(|what| self.damaged(format!("task {id}: {what}"))),
            None => Ok(Some(rows::unfinished_result(summary))),
        }
    }

    /// The log of a task that has ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn logs(&self, id: &Name) -> Result<Option<Logs>, StoreError> {
        let text = rows::logs(&self.connection(), id).map_err(|e| self.sql("reading a log", e))?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| self.damaged(format!("a log: {e}"))))
            .transpose()
    }

    /// The readings that a task answered with; empty when it did not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn readings(&self, id: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        rows::readings(&self.connection(), id).map_err(|e| self.sql("reading readings", e))
    }

    /// Stores a function and its image; whether it was not there before. The
    /// same function again replaces its files, which heals damaged ones.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room, and nothing was stored.
    pub fn publish(
        &self,
        function: &VerifiedFunction,
        envelope: &str,
        (image, symbols): (&[u8], Option<&str>),
        now: Time,
    ) -> Result<(FunctionInfo, bool), StoreError> {
        const DOING: &str = "storing a function";
        let digest = function.statement().digest;
        let known = self.function(digest)?.is_some();
        self.images.write(digest, image, symbols)?;
        let stored = self.write(DOING, |t| {
            let row = (envelope, symbols.is_some(), now);
            rows::upsert_function(t, function, row).map_err(|e| self.sql(DOING, e))
        });
        if let Err(error) = stored {
            if !known {
                self.images.remove(digest);
            }
            return Err(error);
        }
        let info = self.function(digest)?;
        let info = info.ok_or_else(|| self.damaged(format!("function {digest} vanished")))?;
        Ok((info, !known))
    }

    /// A function.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn function(&self, digest: Digest) -> Result<Option<FunctionInfo>, StoreError> {
        rows::function(&self.connection(), digest).map_err(|e| self.sql("reading a function", e))
    }

    /// All functions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn functions(&self) -> Result<Vec<FunctionInfo>, StoreError> {
        rows::functions(&self.connection()).map_err(|e| self.sql("listing functions", e))
    }

    /// The files of the functions.
    #[must_use]
    pub const fn images(&self) -> &Images {
        &self.images
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Name of a state in the database.
const fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::Done => "done",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

#[cfg(test)]
pub(crate) mod tests;
