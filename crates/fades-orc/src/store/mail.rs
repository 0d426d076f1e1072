//! The outbox: what waits for its receiver, and how many left it how.

use fades_task::courier::{Parcel, Receiver};
use fades_task::identity::Name;
use fades_task::time::Time;
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::text;
use super::{Store, StoreError};
use crate::core::outbox::{Dispatch, NewParcel, StoredParcel};

const DOING: &str = "reading the outbox";

/// How many parcels of a receiver left the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dispatched {
    /// The receiver has them.
    pub delivered: u64,
    /// The receiver will never have them.
    pub lost: u64,
    /// Why the last of those was lost.
    pub reason: Option<String>,
}

impl Store {
    /// What waits in the outbox, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn outbox(&self) -> Result<Vec<StoredParcel>, StoreError> {
        waiting(&self.connection()).map_err(|e| self.sql(DOING, e))
    }

    /// A parcel with its body, if it has not left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn parcel(&self, parcel: u64) -> Result<Option<(Parcel, Vec<u8>)>, StoreError> {
        of_number(&self.connection(), parcel).map_err(|e| self.sql(DOING, e))
    }

    /// What became of those that have left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dispatched(&self) -> Result<Vec<(Receiver, Dispatched)>, StoreError> {
        counts(&self.connection()).map_err(|e| self.sql(DOING, e))
    }
}

/// A receiver in one word.
fn word(receiver: &Receiver) -> String {
    match receiver {
        Receiver::Destination(name) => format!("destination {name}"),
        Receiver::Inbox(name) => format!("inbox {name}"),
    }
}

fn receiver(row: &Row<'_>) -> rusqlite::Result<Receiver> {
    let word: String = row.get("receiver")?;
    let parsed = word.split_once(' ').and_then(|(kind, name)| {
        let name = name.parse::<Name>().ok()?;
        match kind {
            "destination" => Some(Receiver::Destination(name)),
            "inbox" => Some(Receiver::Inbox(name)),
            _ => None,
        }
    });
    parsed.ok_or_else(|| FromSqlError::InvalidType.into())
}

pub(super) fn insert(
    connection: &Connection,
    task: i64,
    created: Time,
    parcel: &NewParcel,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (parcel, task, receiver, event, stream, body, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            parcel.parcel as i64,
            task,
            word(&parcel.receiver),
            parcel.event,
            parcel.stream.as_str(),
            &*parcel.body,
            created.0,
        ])?;
    Ok(())
}

/// Takes a parcel out and counts it; whether it was there.
pub(super) fn dispatch(
    connection: &Connection,
    parcel: u64,
    outcome: &Dispatch,
) -> rusqlite::Result<bool> {
    let receiver: Option<String> = connection
        .prepare_cached("DELETE FROM outbox WHERE parcel = ?1 RETURNING receiver")?
        .query_row([parcel as i64], |row| row.get(0))
        .optional()?;
    let Some(receiver) = receiver else {
        return Ok(false);
    };
    let (delivered, lost, reason) = match outcome {
        Dispatch::Delivered => (1, 0, None),
        Dispatch::Lost(reason) => (0, 1, Some(reason)),
    };
    connection
        .prepare_cached(
            "INSERT INTO receivers (receiver, delivered, lost, reason) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (receiver) DO UPDATE
             SET delivered = delivered + ?2, lost = lost + ?3, reason = ifnull(?4, reason)",
        )?
        .execute(params![receiver, delivered, lost, reason])?;
    Ok(true)
}

fn waiting(connection: &Connection) -> rusqlite::Result<Vec<StoredParcel>> {
    let mut statement = connection.prepare(
        "SELECT parcel, receiver, stream, length(body) AS bytes, created FROM outbox ORDER BY parcel",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(StoredParcel {
            parcel: row.get::<_, i64>("parcel")?.unsigned_abs(),
            receiver: receiver(row)?,
            stream: text(row, "stream")?,
            bytes: row.get::<_, i64>("bytes")?.unsigned_abs(),
            created: Time(row.get("created")?),
        })
    })?;
    rows.collect()
}

fn of_number(connection: &Connection, parcel: u64) -> rusqlite::Result<Option<(Parcel, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT receiver, event, body, id, name, service
         FROM outbox JOIN tasks ON tasks.seq = outbox.task WHERE parcel = ?1",
    )?;
    let found = statement.query_row([parcel as i64], |row| {
        let about = Parcel {
            parcel,
            to: receiver(row)?,
            event: row.get("event")?,
            task: text(row, "id")?,
            name: text(row, "name")?,
            service: text(row, "service")?,
        };
        Ok((about, row.get("body")?))
    });
    found.optional()
}

fn counts(connection: &Connection) -> rusqlite::Result<Vec<(Receiver, Dispatched)>> {
    let mut statement = connection.prepare("SELECT * FROM receivers ORDER BY receiver")?;
    let rows = statement.query_map([], |row| {
        let dispatched = Dispatched {
            delivered: row.get::<_, i64>("delivered")?.unsigned_abs(),
            lost: row.get::<_, i64>("lost")?.unsigned_abs(),
            reason: row.get("reason")?,
        };
        Ok((receiver(row)?, dispatched))
    })?;
    rows.collect()
}
