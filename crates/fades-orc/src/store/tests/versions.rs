//! Stores of earlier versions: they are copied, and go on.

use fades_task::result::TaskState;
use rusqlite::{Connection, params};

use super::{accept, end, newcomer};
use crate::samples::{mtw, name, now};
use crate::store::{Filter, Store, StoreError, schema};

/// What version 1 made, word for word.
const TABLES: &str = "
CREATE TABLE tasks (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    payload  BLOB    NOT NULL,
    envelope TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    service  TEXT    NOT NULL,
    signer   TEXT    NOT NULL,
    image    TEXT    NOT NULL,
    accepted INTEGER NOT NULL,
    state    TEXT    NOT NULL
             CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    started  INTEGER,
    finished INTEGER,
    CHECK ((finished IS NOT NULL) = (state IN ('done', 'failed', 'cancelled')))
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, seq);
CREATE TABLE results (
    task     INTEGER PRIMARY KEY REFERENCES tasks (seq),
    result   TEXT    NOT NULL,
    answer   BLOB    NOT NULL,
    readings BLOB    NOT NULL,
    log      TEXT    NOT NULL
) STRICT;
CREATE TABLE functions (
    digest    TEXT    PRIMARY KEY,
    name      TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    signer    TEXT    NOT NULL,
    envelope  TEXT    NOT NULL,
    symbols   INTEGER NOT NULL,
    published INTEGER NOT NULL,
    last_use  INTEGER
) STRICT;
";

/// A store as version 1 left it: one task that has ended, one that has not.
fn version_1(path: &std::path::Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(TABLES).unwrap();
    let marks = "PRAGMA application_id = 1178682437; PRAGMA user_version = 1";
    connection.execute_batch(marks).unwrap();
    for (id, state, finished) in [("old", "done", Some(7)), ("open", "running", None)] {
        let task = newcomer(&mtw(id));
        let row = params![
            id,
            task.task.payload().0,
            task.envelope,
            mtw(id).function.image.to_string(),
            now().0,
            state,
            finished
        ];
        let sql = "INSERT INTO tasks (id, payload, envelope, name, service, signer, image,
                                      accepted, state, attempts, started, finished)
                   VALUES (?1, ?2, ?3, 'air', 'city-air', 'city', ?4, ?5, ?6, 1, ?5, ?7)";
        connection.execute(sql, row).unwrap();
    }
    // Made by this version, as it is the same in both.
    let folder = tempfile::tempdir().unwrap();
    let other = Store::open(folder.path()).unwrap();
    accept(&other, "old");
    end(&other, "old", &[0x18, 0x2a]).unwrap();
    let result = other.connection().query_row(
        "SELECT result, answer, readings, log FROM results",
        [],
        |row| {
            let blob = |n| row.get::<_, Vec<u8>>(n);
            Ok((
                row.get::<_, String>(0)?,
                blob(1)?,
                blob(2)?,
                row.get::<_, String>(3)?,
            ))
        },
    );
    let (result, answer, readings, log) = result.unwrap();
    let row = params![result, answer, readings, log];
    let sql =
        "INSERT INTO results (task, result, answer, readings, log) VALUES (1, ?1, ?2, ?3, ?4)";
    connection.execute(sql, row).unwrap();
}

#[test]
fn a_store_of_version_1_goes_on_and_is_kept_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    version_1(&path);
    let copy = schema::backup_of(&path, 1);
    // What an upgrade that was cut off left.
    std::fs::write(&copy, "half a copy").unwrap();
    for _ in 0..2 {
        let store = Store::open(folder.path()).unwrap();
        let result = store.result(&name("old")).unwrap().unwrap();
        assert_eq!(
            (result.state, result.answer),
            (TaskState::Done, Some(42.into()))
        );
        let open = store.unfinished().unwrap();
        assert_eq!((open.len(), open[0].seq, open[0].attempts), (1, 2, 1));
        assert_eq!(open[0].inbox, None);
        assert_eq!(store.list(&Filter::default()).unwrap().tasks.len(), 2);
        assert_eq!(store.outbox().unwrap(), []);
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        accept(&store, "new").seq,
        3,
        "the order of acceptance goes on"
    );
    assert!(
        end(&store, "open", &[0x18, 0x2a]).unwrap(),
        "references hold"
    );
    let violated = "SELECT count(*) FROM pragma_foreign_key_check";
    let count = |sql: &str| {
        let connection = store.connection();
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count(violated), 0);
    assert_eq!(count("PRAGMA foreign_keys"), 1);
    assert_eq!(
        count("SELECT count(*) FROM sqlite_schema WHERE name = 'tasks_by_name'"),
        1
    );
    let old = Connection::open(&copy).unwrap();
    let version: i64 = old
        .query_row("PRAGMA user_version", [], |r| r.get(0))
        .unwrap();
    let tasks: i64 = old
        .query_row("SELECT count(*) FROM tasks", [], |r| r.get(0))
        .unwrap();
    assert_eq!((version, tasks), (1, 2));
}

#[test]
fn a_store_that_cannot_be_copied_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    version_1(&path);
    std::fs::create_dir(schema::backup_of(&path, 1)).unwrap();
    let refused = Store::open(folder.path());
    assert!(
        matches!(refused, Err(StoreError::File { .. })),
        "{refused:?}"
    );
    let old = Connection::open(&path).unwrap();
    let version: i64 = old
        .query_row("PRAGMA user_version", [], |r| r.get(0))
        .unwrap();
    assert_eq!(version, 1);
}

#[test]
fn a_store_of_version_2_goes_on_and_is_kept_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(Store::open(folder.path()).unwrap());
    let old = Connection::open(&path).unwrap();
    let back = "DROP TABLE checkpoints; ALTER TABLE tasks DROP COLUMN held;
                ALTER TABLE tasks DROP COLUMN failures; PRAGMA user_version = 2";
    old.execute_batch(back).unwrap();
    drop(old);
    for _ in 0..2 {
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.checkpoint(&name("a")).unwrap(), None);
        assert_eq!(store.unfinished().unwrap(), []);
    }
    assert!(schema::backup_of(&path, 2).is_file());
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(accept(&store, "a").seq, 1);
    assert!(end(&store, "a", &[0x18, 0x2a]).unwrap());
}
