//! The tables, and opening a database with the promises that the store makes.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// "FADE": tells the store from other SQLite databases.
const APPLICATION: i64 = 0x4641_4445;

const VERSION: i64 = 3;

/// What has been there since version 1.
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
             CHECK (state IN ('standing', 'queued', 'running', 'done', 'failed', 'cancelled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    started  INTEGER,
    finished INTEGER,
    inbox    TEXT,
    parent   INTEGER REFERENCES tasks (seq),
    due      INTEGER,
    skipped  INTEGER NOT NULL DEFAULT 0,
    held     INTEGER REFERENCES tasks (seq),
    failures INTEGER NOT NULL DEFAULT 0,
    CHECK ((finished IS NOT NULL) = (state IN ('done', 'failed', 'cancelled')))
) STRICT;
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

/// What version 2 added: where tasks came from, and what is to be brought away.
const OUTBOX: &str = "
CREATE TABLE outbox (
    parcel   INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL REFERENCES tasks (seq),
    receiver TEXT    NOT NULL,
    event    TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    created  INTEGER NOT NULL
) STRICT;
CREATE TABLE receivers (
    receiver  TEXT    PRIMARY KEY,
    delivered INTEGER NOT NULL DEFAULT 0,
    lost      INTEGER NOT NULL DEFAULT 0,
    reason    TEXT
) STRICT;
";

/// What version 3 added to tasks: who has the place of which.
const PLACES: &str = "
ALTER TABLE tasks ADD COLUMN held INTEGER REFERENCES tasks (seq);
ALTER TABLE tasks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
";

/// What version 3 added: with what functions that stay go on.
const CHECKPOINTS: &str = "
CREATE TABLE checkpoints (
    task  INTEGER PRIMARY KEY REFERENCES tasks (seq),
    run   INTEGER NOT NULL REFERENCES tasks (seq),
    state BLOB    NOT NULL
) STRICT;
";

const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, seq);
CREATE INDEX IF NOT EXISTS tasks_by_name ON tasks (service, name, seq);
CREATE INDEX IF NOT EXISTS tasks_by_parent ON tasks (parent, seq);
";

/// Columns of a task in version 1.
const COLUMNS_1: &str = "seq, id, payload, envelope, name, service, signer, image, accepted,
                         state, attempts, started, finished";

/// Opens or makes the database at `path`, through the named VFS when there is
/// one.
pub(super) fn open(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let sql = |e| sql_error(path, "opening the store", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
    .map_err(sql)?;
    // Exclusive before WAL is touched: no shared memory, no second process.
    pragma(&connection, "locking_mode", "EXCLUSIVE").map_err(sql)?;
    let application = read(&connection, "application_id").map_err(sql)?;
    let version = read(&connection, "user_version").map_err(sql)?;
    let empty = (application, version) == (0, 0) && read_tables(&connection).map_err(sql)? == 0;
    if !empty && application != APPLICATION {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
        });
    }
    if version > VERSION {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: version,
            known: VERSION,
        });
    }
    // In WAL mode the same as FULL. But the way into WAL mode takes a rollback
    // journal: were its removal not synced, it could come back after a power
    // cut and undo everything.
    pragma(&connection, "synchronous", "EXTRA").map_err(sql)?;
    pragma(&connection, "journal_mode", "WAL").map_err(sql)?;
    pragma(&connection, "foreign_keys", "ON").map_err(sql)?;
    pragma(&connection, "journal_size_limit", "8388608").map_err(sql)?;
    if empty {
        let transaction = connection.transaction().map_err(sql)?;
        transaction.execute_batch(TABLES).map_err(sql)?;
        transaction.execute_batch(OUTBOX).map_err(sql)?;
        transaction.execute_batch(CHECKPOINTS).map_err(sql)?;
        transaction.execute_batch(INDEXES).map_err(sql)?;
        pragma(&transaction, "application_id", &APPLICATION.to_string()).map_err(sql)?;
        pragma(&transaction, "user_version", &VERSION.to_string()).map_err(sql)?;
        transaction.commit().map_err(sql)?;
    } else if version < VERSION {
        upgrade(&mut connection, path, version)?;
    }
    Ok(connection)
}

/// Where a store of an earlier version is kept when it is upgraded.
pub(super) fn backup_of(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".version-{version}"));
    PathBuf::from(name)
}

/// Copies the database, and brings it to this program's version in one piece.
fn upgrade(connection: &mut Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    let copying = |e| sql_error(path, "copying the store before its upgrade", e);
    let upgrading = |e| sql_error(path, "upgrading the store", e);
    let backup = backup_of(path, version);
    let file = |doing| {
        let path = backup.clone();
        move |source| StoreError::File {
            path,
            doing,
            source,
        }
    };
    // One of an upgrade that was cut off may be half a copy.
    match std::fs::remove_file(&backup) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(file("removing an old copy of the store")(e));
        }
        _ => {}
    }
    let name = backup.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [&name])
        .map_err(copying)?;
    let synced = std::fs::File::open(&backup).and_then(|copy| copy.sync_all());
    synced.map_err(file("syncing the copy of the store"))?;
    super::images::sync_folder(backup.parent().unwrap_or(path))?;
    tracing::info!(from = version, to = VERSION, copy = %backup.display(), "upgrading the store");
    // A table that others refer to is about to be another.
    pragma(connection, "foreign_keys", "OFF").map_err(upgrading)?;
    let transaction = connection.transaction().map_err(upgrading)?;
    let earlier = if version < 2 { &from_1() } else { PLACES };
    transaction.execute_batch(earlier).map_err(upgrading)?;
    transaction.execute_batch(CHECKPOINTS).map_err(upgrading)?;
    pragma(&transaction, "user_version", &VERSION.to_string()).map_err(upgrading)?;
    transaction.commit().map_err(upgrading)?;
    pragma(connection, "foreign_keys", "ON").map_err(upgrading)
}

/// From version 1 to 2. `tasks` is made anew, because a check cannot be changed.
fn from_1() -> String {
    // Its definition is the first of them.
    let tasks = TABLES.split_inclusive("STRICT;").next().unwrap_or_default();
    let tasks = tasks.replace("CREATE TABLE tasks", "CREATE TABLE tasks_2");
    format!(
        "{tasks}
         INSERT INTO tasks_2 ({COLUMNS_1}) SELECT {COLUMNS_1} FROM tasks;
         DROP TABLE tasks;
         ALTER TABLE tasks_2 RENAME TO tasks;
         {OUTBOX} {INDEXES}"
    )
}

/// Some of these answer with a row, some do not.
fn pragma(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA {name} = {value}"))
}

fn read(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn read_tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Tells the failures that have a remedy of their own from the rest.
pub(super) fn sql_error(path: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
    let folder = path.parent().unwrap_or(path).to_owned();
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { folder },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse {
            folder,
            pid: "unknown".to_owned(),
        },
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            what: source.to_string(),
            path,
        },
        _ => StoreError::Sql {
            path,
            doing,
            source,
        },
    }
}
