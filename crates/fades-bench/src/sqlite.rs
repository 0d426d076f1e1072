//! What SQLite alone can commit: the same rows in the same order and with the
//! same promises as a node's store makes for each task, and nothing around it.
//!
//! A task is stored when it is accepted, again when it starts, and a third time
//! with its result. A node that is busy commits what several tasks wait for in
//! one transaction; here as many as the node's client has in flight always do,
//! which is the best that a node could have.

use std::path::Path;

use rusqlite::{Connection, Transaction, params};

use crate::fault::Fault;

const TABLES: &str = "
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, payload BLOB NOT NULL,
    envelope TEXT NOT NULL, accepted INTEGER NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, started INTEGER, finished INTEGER
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, seq);
CREATE TABLE results (
    task INTEGER PRIMARY KEY REFERENCES tasks (seq), result TEXT NOT NULL, answer BLOB NOT NULL
) STRICT;
";

const INSERT: &str = "INSERT INTO tasks (id, payload, envelope, accepted, state)
    VALUES (?1, ?2, ?3, ?4, 'queued')";

const START: &str = "UPDATE tasks SET state = 'running', attempts = 1, started = ?2 WHERE id = ?1";

const END: &str = "UPDATE tasks SET state = 'done', finished = ?2 WHERE id = ?1";

const RESULT: &str = "INSERT INTO results (task, result, answer)
    SELECT seq, ?2, ?3 FROM tasks WHERE id = ?1";

/// A database, and how long its texts are.
#[derive(Debug)]
pub(crate) struct Alone {
    connection: Connection,
    envelope: String,
    result: String,
    next: i64,
}

impl Alone {
    /// A new database in `folder`, for envelopes and results of these lengths.
    pub(crate) fn open(folder: &Path, envelope: usize, result: usize) -> Result<Self, Fault> {
        let connection = Connection::open(folder.join("alone.db"))?;
        for pragma in [
            "locking_mode = EXCLUSIVE",
            "synchronous = EXTRA",
            "journal_mode = WAL",
            "foreign_keys = ON",
            "journal_size_limit = 8388608",
        ] {
            connection.execute_batch(&format!("PRAGMA {pragma}"))?;
        }
        connection.execute_batch(TABLES)?;
        Ok(Self {
            connection,
            envelope: "e".repeat(envelope),
            result: "r".repeat(result),
            next: 0,
        })
    }

    /// The life of `tasks` tasks, `together` of them in each transaction.
    pub(crate) fn run(&mut self, tasks: usize, together: usize) -> Result<(), Fault> {
        let end = self.next + tasks as i64;
        let (envelope, text) = (self.envelope.clone(), self.result.clone());
        while self.next < end {
            let some = self.next..end.min(self.next + together as i64);
            self.next = some.end;
            self.commit(|t| {
                let mut insert = t.prepare(INSERT)?;
                some.clone().try_for_each(|n| {
                    let row = params![format!("task-{n}"), [0_u8; 32], envelope, n];
                    insert.execute(row).map(drop)
                })
            })?;
            self.commit(|t| {
                let mut start = t.prepare(START)?;
                some.clone()
                    .try_for_each(|n| start.execute(params![format!("task-{n}"), n]).map(drop))
            })?;
            self.commit(|t| {
                let (mut end, mut result) = (t.prepare(END)?, t.prepare(RESULT)?);
                some.clone().try_for_each(|n| {
                    end.execute(params![format!("task-{n}"), n])?;
                    let row = params![format!("task-{n}"), text, [0_u8; 16]];
                    result.execute(row).map(drop)
                })
            })?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        work(&transaction)?;
        transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_its_one_result_whatever_the_transactions_hold() {
        let folder = tempfile::tempdir().unwrap();
        let mut alone = Alone::open(folder.path(), 100, 200).unwrap();
        alone.run(5, 2).unwrap();
        alone.run(3, 16).unwrap();
        let count = |sql: &str| alone.connection.query_row(sql, [], |r| r.get::<_, i64>(0));
        assert_eq!(
            count("SELECT count(*) FROM tasks WHERE state = 'done'"),
            Ok(8)
        );
        assert_eq!(count("SELECT sum(length(result)) FROM results"), Ok(1600));
        assert_eq!(count("PRAGMA synchronous"), Ok(3));
    }
}
