//! The tables, and opening a database with the promises that the store makes.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// "FADE": tells the store from other SQLite databases.
const APPLICATION: i64 = 0x4641_4445;

const VERSION: i64 = 1;

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
CREATE INDEX tasks_by_name ON tasks (service, name, seq);
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
        pragma(&transaction, "application_id", &APPLICATION.to_string()).map_err(sql)?;
        pragma(&transaction, "user_version", &VERSION.to_string()).map_err(sql)?;
        transaction.commit().map_err(sql)?;
    }
    Ok(connection)
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
