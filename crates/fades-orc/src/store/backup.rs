//! Copies of the database, and what is done to a copy before another node works
//! on it.
//!
//! A backup knows how things were when it was made. What had not ended then may
//! have ended since, and its answer may have been delivered: a node that takes
//! over does none of it again, unless the operator says that it may.

use std::path::{Path, PathBuf};

use fades_task::result::Failure;
use fades_task::time::Time;
use rusqlite::{Connection, params};

use super::group::{Ending, Write};
use super::images::sync_folder;
use super::{Store, StoreError, StoredTask};
use crate::api::types::Logs;
use crate::core::outbox::Dispatch;
use crate::core::{Effect, Now, Task, Tick};

/// How the names of copies begin.
const SNAPSHOT: &str = "snapshot-";

/// What taking over a copy did to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakenOver {
    /// Tasks that had not ended.
    pub open: u64,
    /// Tasks with a schedule.
    pub standing: u64,
    /// Answers that were not known to be delivered.
    pub undelivered: u64,
}

/// Removes copies that an interrupted backup left.
pub(super) fn tidy(folder: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File {
        path: folder.to_owned(),
        doing: "an old copy of the store cannot be removed",
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(SNAPSHOT)) {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

impl Store {
    /// Makes a copy of the database, as it is at one moment, beside it. It is the
    /// caller's to remove; nothing is written to the store meanwhile.
    ///
    /// # Errors
    /// When there is no room for it; nothing is left of it then.
    pub fn snapshot(&self) -> Result<PathBuf, StoreError> {
        let connection = self.connection();
        let number = crate::clock::system().0;
        let path = self.folder.join(format!("{SNAPSHOT}{number}.db"));
        let name = path.to_string_lossy();
        let copied = connection.execute("VACUUM INTO ?1", [&name]);
        copied.map_err(|e| {
            // What is left of it is removed at the next start at the latest.
            let _ = std::fs::remove_file(&path);
            self.sql("copying the store", e)
        })?;
        Ok(path)
    }

    /// Where the image of each function and its symbols are, as far as there are any.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn image_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let functions = self.functions()?;
        let files = functions.iter().flat_map(|f| self.images.files(f.digest));
        Ok(files.filter(|file| file.is_file()).collect())
    }

    /// Makes a copy fit for a node that takes over at `at`, from one that may have
    /// worked on after the copy was made. `again`: it did not, so that what was open
    /// may be done.
    ///
    /// # Errors
    /// When the copy is damaged.
    pub fn take_over(&self, made: Time, at: Time, again: bool) -> Result<TakenOver, StoreError> {
        self.check()?;
        let (open, parcels) = (self.unfinished()?, self.outbox()?);
        let (standing, open): (Vec<_>, Vec<_>) = open.into_iter().partition(stands);
        let taken = TakenOver {
            open: open.len() as u64,
            standing: standing.len() as u64,
            undelivered: parcels.len() as u64,
        };
        if again {
            return Ok(taken);
        }
        self.note_restored(made)?;
        let at = at.max(made);
        let by = format!("the restore of a backup of {made}: it may have run since");
        let endings: Vec<Ending> = open.into_iter().filter_map(|t| ended(t, at, &by)).collect();
        let lost = format!("restored from a backup of {made}: it may have been delivered since");
        let lost = Dispatch::Lost(lost);
        let ends = endings
            .into_iter()
            .map(|ending| Write::End(Box::new(ending)));
        let lost = parcels.iter().map(|p| Write::Dispatched(p.parcel, &lost));
        let writes: Vec<Write<'_>> = ends.chain(lost).collect();
        self.store(&writes, &[])?;
        let connection = self.connection();
        pass_by(&connection, at).map_err(|e| self.sql("moving schedules on", e))?;
        drop(connection);
        sync_folder(&self.folder)?;
        Ok(taken)
    }

    /// Whether everything in it can be read, and the images are those that were
    /// published.
    fn check(&self) -> Result<(), StoreError> {
        let connection = self.connection();
        let sql = |e| self.sql("checking the store", e);
        let said: String = connection
            .query_row("PRAGMA quick_check", [], |row| row.get(0))
            .map_err(sql)?;
        drop(connection);
        if said != "ok" {
            return Err(self.damaged(said));
        }
        for function in self.functions()? {
            self.images.read(function.digest)?;
        }
        Ok(())
    }
}

fn stands(task: &StoredTask) -> bool {
    task.mtw.stands() && !task.is_run
}

/// The end of a task about which nobody can know whether it ran.
fn ended(task: StoredTask, at: Time, by: &str) -> Option<Ending> {
    let task = Task {
        seq: task.seq,
        mtw: task.mtw,
        accepted: task.accepted,
        attempts: task.attempts,
        isolations: Vec::new(),
        inbox: task.inbox,
        parent: None,
        due: task.due,
        place: task.place,
    };
    let now = Now {
        time: at,
        tick: Tick(0),
    };
    let failure = Failure::Cancelled { by: by.to_owned() };
    // Nobody is told: a true answer may have been delivered.
    match crate::core::end_outside(&task, now, Some(failure)) {
        Effect::Commit(commit) => Some(Ending::new(&commit, &Logs::default())),
        _ => None,
    }
}

/// Leaves out what was due before.
fn pass_by(connection: &Connection, at: Time) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE tasks SET due = max(ifnull(due, accepted), ?1) WHERE state = 'standing'",
        params![at.0],
    )
}
