//! What survives the process: tasks, their one result, functions.
//!
//! The only module that knows SQL. SQLite in WAL mode, every commit synced:
//! what a method returned `Ok` for is on the disk. One connection, which holds
//! the database exclusively; a lock file beside it says who does. Images are
//! files beside the database ([`images`]).
//!
//! Tasks and their states are written in groups ([`group`]). A task's final
//! state and its result are written in one transaction, which refuses a second
//! one.

mod backup;
mod folder;
pub mod group;
pub mod images;
mod mail;
mod recent;
mod rows;
mod schema;
mod trust;
mod usage;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::identity::{Digest, Name};
use fades_task::result::{TaskResult, TaskState};
use fades_task::time::Time;
use fades_trust::function::VerifiedFunction;
use rusqlite::Connection;

pub use self::backup::TakenOver;
use self::images::Images;
pub use self::mail::Dispatched;
pub use self::recent::Known;
use self::recent::Recent;
pub use self::rows::{Filter, StoredTask};
pub use self::trust::{OpenSigner, StoredTrust, TrustKind, TrustRecord};
use crate::api::types::{FunctionInfo, Logs, TaskCounts, TaskDetail, TaskList, TaskSummary};
use crate::clock::system;
use crate::feed::Feed;

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
    /// The task whose place is to be taken does not stand, or several could be meant.
    #[error(
        "replace: {task} names no one task of {service} that runs again here; those that do: {known}; name one by its id, or leave out \"replace\""
    )]
    NothingToReplace {
        /// What was to be replaced.
        task: Name,
        /// Of which service.
        service: Name,
        /// What stands of it, in words.
        known: String,
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
    /// The task whose place it has taken.
    pub replaces: Option<Name>,
}

/// The store of one node.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    path: PathBuf,
    connection: Mutex<Connection>,
    /// What can be read while the connection is busy. Taken after it, and
    /// never held for long.
    recent: Mutex<Recent>,
    /// What is known of functions, for the same reason.
    functions: Mutex<HashMap<Digest, FunctionInfo>>,
    images: Images,
    /// What has changed, for those who watch.
    feed: Feed,
    /// Groups that were stored.
    #[cfg(test)]
    groups: std::sync::atomic::AtomicU64,
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
        backup::tidy(folder)?;
        let images = Images::open(folder)?;
        let connection = schema::open(&path, vfs)?;
        images::sync_folder(folder)?;
        let sql = |e| schema::sql_error(&path, "reading the store", e);
        usage::prepare(&connection).map_err(sql)?;
        trust::prepare(&connection).map_err(sql)?;
        match rows::requeue(&connection).map_err(sql) {
            // Without room they are shown as running until they are.
            Err(e) if !e.is_full() => return Err(e),
            _ => {}
        }
        let open = rows::open(&connection).map_err(sql)?;
        let counts = rows::counts(&connection, None).map_err(sql)?;
        let functions = rows::functions(&connection).map_err(sql)?;
        Ok(Self {
            folder: folder.to_owned(),
            connection: Mutex::new(connection),
            recent: Mutex::new(Recent::new(open, counts)),
            functions: Mutex::new(functions.into_iter().map(|f| (f.digest, f)).collect()),
            path,
            images,
            feed: Feed::new(system().0.unsigned_abs()),
            #[cfg(test)]
            groups: 0.into(),
            _lock: lock,
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was left by a panic was rolled back when dropped.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // It is changed in one piece.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sql(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        schema::sql_error(&self.path, doing, source)
    }

    fn damaged(&self, what: String) -> StoreError {
        let path = self.path.clone();
        StoreError::Damaged { path, what }
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

    /// The newest time at which something was accepted or ended, as far as the newest
    /// tasks tell.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn newest(&self) -> Result<Time, StoreError> {
        rows::newest(&self.connection()).map_err(|e| self.sql("reading the newest task", e))
    }

    /// Where a task is in the order of acceptance, and when it was accepted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn place(&self, id: &Name) -> Result<Option<(i64, Time)>, StoreError> {
        rows::place(&self.connection(), id).map_err(|e| self.sql("reading a task", e))
    }

    /// With what the function of a task goes on, if it stays and has answered for a
    /// window.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn checkpoint(&self, task: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let checkpoint = rows::checkpoint(&self.connection(), task);
        checkpoint.map_err(|e| self.sql("reading a checkpoint", e))
    }

    /// A task in short.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn summary(&self, id: &Name) -> Result<Option<TaskSummary>, StoreError> {
        if let Some(summary) = self.recent().summary(id) {
            return Ok(Some(summary));
        }
        rows::summary(&self.connection(), id).map_err(|e| self.sql("reading a task", e))
    }

    /// Digest of what was signed of a task, when there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn payload_of(&self, id: &Name) -> Result<Option<Digest>, StoreError> {
        let payload = rows::payload_of(&self.connection(), id);
        let payload = payload.map_err(|e| self.sql("reading a task", e))?;
        let Some(payload) = payload else {
            return Ok(None);
        };
        let digest = payload.try_into().map(Digest);
        digest
            .map(Some)
            .map_err(|_| self.damaged(format!("task {id} has no digest")))
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
        let mut task = rows::mtw_of(&envelope).map_err(|what| self.damaged(what))?;
        // A run is its task, but for the id.
        task.task.id.clone_from(&summary.id);
        Ok(Some(TaskDetail { summary, task }))
    }

    /// Tasks in short, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<TaskList, StoreError> {
        rows::list(&self.connection(), filter).map_err(|e| self.sql("listing tasks", e))
    }

    /// How many tasks there are in each state.
    #[must_use]
    pub fn counts(&self) -> TaskCounts {
        self.recent().counts()
    }

    /// How many tasks of these services there are in each state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn counts_of(&self, services: &[Name]) -> Result<TaskCounts, StoreError> {
        rows::counts(&self.connection(), Some(services)).map_err(|e| self.sql("counting tasks", e))
    }

    /// A task that is open or ended a moment ago; never waits for a disk.
    /// `None` says nothing: ask [`Self::result`].
    #[must_use]
    pub fn known(&self, id: &Name) -> Option<Known> {
        self.recent().look(id)
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
            None => Ok(Some(summary.into_result())),
        }
    }

    /// The result of a task that has ended, as JSON.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn shown(&self, id: &Name) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.result(id)?.map(|r| group::json(&r).into()))
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

    /// Readings that a service's tasks of this name answered, in batch form,
    /// newest first: as many as `most` bytes hold.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn answers(
        &self,
        service: &Name,
        name: &Name,
        most: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        rows::answers(&self.connection(), service, name, most)
            .map_err(|e| self.sql("reading earlier answers", e))
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
        let digest = function.statement().digest;
        let known = self.function(digest).is_some();
        self.images.write(digest, image, symbols)?;
        let stored = self.write_function(function, (envelope, symbols.is_some(), now));
        let info = stored.inspect_err(|_| {
            if !known {
                self.images.remove(digest);
            }
        })?;
        self.published().insert(digest, info.clone());
        Ok((info, !known))
    }

    /// `row`: the envelope, whether there are symbols, the time.
    fn write_function(
        &self,
        function: &VerifiedFunction,
        row: (&str, bool, Time),
    ) -> Result<FunctionInfo, StoreError> {
        let sql = |e| self.sql("storing a function", e);
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(sql)?;
        let info = rows::upsert_function(&transaction, function, row).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        Ok(info)
    }

    /// A function that was published; never waits for a disk. When it was
    /// last used is as of when the store was opened.
    #[must_use]
    pub fn function(&self, digest: Digest) -> Option<FunctionInfo> {
        self.published().get(&digest).cloned()
    }

    fn published(&self) -> MutexGuard<'_, HashMap<Digest, FunctionInfo>> {
        // It is changed in one piece.
        self.functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All functions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn functions(&self) -> Result<Vec<FunctionInfo>, StoreError> {
        rows::functions(&self.connection()).map_err(|e| self.sql("listing functions", e))
    }

    /// What has changed since the store was opened.
    pub(crate) const fn feed(&self) -> &Feed {
        &self.feed
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
        TaskState::Standing => "standing",
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::Done => "done",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

#[cfg(test)]
pub(crate) mod tests;
