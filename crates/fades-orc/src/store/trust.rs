//! What administrators signed about whom the node trusts: the table and the
//! revocations in force, with what each was judged by.
//!
//! Tables beside those of the schema, made when they are not there.

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};

/// `number`: version or counter. `judged_by`: the table in force until then, as TOML.
/// `newest`: the greatest version that this node ever went by. `restored`: when the
/// store was made out of a backup, and may lack what was signed since.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS trust (
    kind      TEXT    PRIMARY KEY CHECK (kind IN ('update', 'revocations')),
    number    INTEGER NOT NULL,
    envelope  TEXT    NOT NULL,
    judged_by TEXT    NOT NULL,
    taken     INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS trust_marks (
    name  TEXT    PRIMARY KEY CHECK (name IN ('newest', 'restored')),
    value INTEGER NOT NULL
) STRICT;
";

pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustKind {
    /// A table of keys.
    Update,
    /// Keys that are trusted no longer.
    Revocations,
}

impl TrustKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Revocations => "revocations",
        }
    }
}

/// Something that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTrust {
    /// Version or counter.
    pub number: u64,
    /// The envelope, as JSON.
    pub envelope: String,
    /// The table whose administrators signed it, as TOML.
    pub judged_by: String,
    /// When.
    pub taken: Time,
}

/// All that is stored of trust.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustRecord {
    /// The table in force, when it came as an update.
    pub update: Option<StoredTrust>,
    /// What is revoked.
    pub revocations: Option<StoredTrust>,
    /// The greatest version that this node ever went by.
    pub newest: u64,
    /// The store is out of a backup of this time, and nothing was taken since.
    pub restored: Option<Time>,
}

/// Numbers of statements are below 2^53.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// What is stored of trust.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn trust(&self) -> Result<TrustRecord, StoreError> {
        let connection = self.connection();
        let record = || {
            Ok(TrustRecord {
                update: stored(&connection, TrustKind::Update)?,
                revocations: stored(&connection, TrustKind::Revocations)?,
                newest: mark(&connection, "newest")?.map_or(0, i64::unsigned_abs),
                restored: mark(&connection, "restored")?.map(Time),
            })
        };
        record().map_err(|e| self.sql("reading whom the node trusts", e))
    }

    /// Stores an update or a list in the place of the one before.
    ///
    /// # Errors
    /// When it is not stored.
    pub fn take_trust(&self, kind: TrustKind, taken: &StoredTrust) -> Result<(), StoreError> {
        let sql = |e| self.sql("storing whom the node trusts", e);
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(sql)?;
        write(&transaction, kind, taken).map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// The node goes by a table of this version from now on, and by none before it.
    ///
    /// # Errors
    /// When it is not stored.
    pub fn note_version(&self, version: u64) -> Result<(), StoreError> {
        let connection = self.connection();
        let noted = set_mark(&connection, "newest", column(version));
        noted.map_err(|e| self.sql("storing whom the node trusts", e))
    }

    /// What was signed since that backup may be missing.
    pub(super) fn note_restored(&self, made: Time) -> Result<(), StoreError> {
        let connection = self.connection();
        let noted = set_mark(&connection, "restored", made.0);
        noted.map_err(|e| self.sql("noting the restore", e))
    }

    /// Somebody has shown again what is in force: nothing is missing, as far as they
    /// know.
    ///
    /// # Errors
    /// When it is not stored.
    pub fn forget_restored(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM trust_marks WHERE name = 'restored'";
        let forgotten = self.connection().execute(sql, []);
        forgotten
            .map(drop)
            .map_err(|e| self.sql("noting what is in force", e))
    }

    /// All tasks that have not ended, with the key that signed each, and the one that
    /// signed its function.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open_signers(&self) -> Result<Vec<OpenSigner>, StoreError> {
        let connection = self.connection();
        let read = || {
            let mut statement = connection.prepare_cached(
                "SELECT t.id AS id,
                        json_extract(coalesce(p.envelope, t.envelope), '$.signatures[0].keyid')
                            AS signer,
                        json_extract(f.envelope, '$.signatures[0].keyid') AS publisher
                 FROM tasks t
                 LEFT JOIN tasks p ON p.seq = t.parent
                 LEFT JOIN functions f
                        ON f.digest = substr(t.image, instr(t.image, '@') + 1)
                 WHERE t.state IN ('standing', 'queued', 'running') ORDER BY t.seq",
            )?;
            let rows = statement.query_map([], as_signer)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.sql("reading who signed what is open", e))
    }
}

/// Who vouched for a task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSigner {
    /// The task.
    pub id: Name,
    /// Id of the key that signed it.
    pub signer: Option<Digest>,
    /// Id of the key that signed its function, if the node has that.
    pub publisher: Option<Digest>,
}

fn as_signer(row: &Row<'_>) -> rusqlite::Result<OpenSigner> {
    let key = |column| {
        let text: Option<String> = row.get(column)?;
        Ok::<_, rusqlite::Error>(text.and_then(|t| t.parse().ok()))
    };
    Ok(OpenSigner {
        id: super::rows::text(row, "id")?,
        signer: key("signer")?,
        publisher: key("publisher")?,
    })
}

fn stored(connection: &Connection, kind: TrustKind) -> rusqlite::Result<Option<StoredTrust>> {
    let sql = "SELECT number, envelope, judged_by, taken FROM trust WHERE kind = ?1";
    let row = connection.query_row(sql, [kind.word()], |row| {
        Ok(StoredTrust {
            number: row.get::<_, i64>(0)?.unsigned_abs(),
            envelope: row.get(1)?,
            judged_by: row.get(2)?,
            taken: Time(row.get(3)?),
        })
    });
    row.optional()
}

fn write(connection: &Connection, kind: TrustKind, taken: &StoredTrust) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO trust (kind, number, envelope, judged_by, taken) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kind) DO UPDATE
         SET number = ?2, envelope = ?3, judged_by = ?4, taken = ?5",
        params![
            kind.word(),
            column(taken.number),
            taken.envelope,
            taken.judged_by,
            taken.taken.0
        ],
    )?;
    if kind == TrustKind::Update {
        set_mark(connection, "newest", column(taken.number))?;
    }
    let sql = "DELETE FROM trust_marks WHERE name = 'restored'";
    connection.execute(sql, []).map(drop)
}

fn mark(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT value FROM trust_marks WHERE name = ?1";
    connection
        .query_row(sql, [name], |row| row.get(0))
        .optional()
}

/// `newest` only ever grows.
fn set_mark(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO trust_marks (name, value) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)";
    connection.execute(sql, params![name, value]).map(drop)
}
