//! Rows and what they mean.

use std::sync::Arc;

use fades_task::cbor;
use fades_task::identity::{Digest, ImageRef, Name};
use fades_task::mtw::Mtw;
use fades_task::quantity::Size;
use fades_task::result::{Failure, TaskResult, TaskState};
use fades_task::time::Time;
use fades_trust::envelope::Envelope;

use fades_trust::function::VerifiedFunction;
use rusqlite::types::{FromSql, FromSqlError};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::de::DeserializeOwned;

use super::group::{Ending, Newcomer};
use super::{mail, state_word};
use crate::api::types::{FunctionInfo, LIST_DEFAULT, LIST_MAX, TaskCounts, TaskList, TaskSummary};
use crate::core::Place;
use crate::core::standing::Spawn;

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTask {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// What was signed.
    pub mtw: Arc<Mtw>,
    /// When it was accepted.
    pub accepted: Time,
    /// How often it was started.
    pub attempts: u32,
    /// The inbox out of which it came.
    pub inbox: Option<Name>,
    /// It is a run of a task with a schedule.
    pub is_run: bool,
    /// Of a run, the time that was due; of a task with a schedule, until when
    /// everything is run or left out.
    pub due: Option<Time>,
    /// Of a task with a schedule, who has its place, and how its runs go.
    pub place: Place,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only of these services.
    pub services: Option<Vec<Name>>,
    /// Only of this name.
    pub name: Option<Name>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Only older ones than this.
    pub after: Option<Name>,
    /// Only runs of this task with a schedule.
    pub of: Option<Name>,
}

/// A task's row before its envelope is parsed.
pub(super) struct UnfinishedRow {
    seq: i64,
    envelope: String,
    accepted: Time,
    attempts: u32,
    inbox: Option<Name>,
    id: Name,
    is_run: bool,
    due: Option<Time>,
    place: Place,
}

impl UnfinishedRow {
    pub(super) fn parse(self) -> Result<StoredTask, String> {
        let mut mtw = mtw_of(&self.envelope)?;
        // A run is its task, but for the id.
        mtw.task.id = self.id;
        Ok(StoredTask {
            seq: self.seq,
            mtw: Arc::new(mtw),
            accepted: self.accepted,
            attempts: self.attempts,
            inbox: self.inbox,
            is_run: self.is_run,
            due: self.due,
            place: self.place,
        })
    }
}

/// A result's row before it is parsed.
pub(super) struct ResultRow {
    result: String,
    answer: Vec<u8>,
}

impl ResultRow {
    pub(super) fn parse(self) -> Result<TaskResult, String> {
        let mut result: TaskResult =
            serde_json::from_str(&self.result).map_err(|e| format!("its result: {e}"))?;
        if !self.answer.is_empty() {
            let value = cbor::decode(&self.answer).map_err(|e| format!("its answer: {e}"))?;
            result.answer = Some(value);
        }
        Ok(result)
    }
}

/// The task in a stored envelope. Its signature was checked when it was
/// accepted.
pub(super) fn mtw_of(envelope: &str) -> Result<Mtw, String> {
    let envelope = Envelope::parse(envelope.as_bytes()).map_err(|e| e.to_string())?;
    serde_json::from_slice(&envelope.payload).map_err(|e| format!("a stored task: {e}"))
}

pub(super) fn text<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|e| FromSqlError::Other(Box::new(e)).into())
}

/// A name that may be missing.
fn optional(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Name>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => text(row, column).map(Some),
    }
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Time>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Time))
}

struct State(TaskState);

impl FromSql for State {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> Result<Self, FromSqlError> {
        let word = value.as_str()?;
        [
            TaskState::Standing,
            TaskState::Queued,
            TaskState::Running,
            TaskState::Done,
            TaskState::Failed,
            TaskState::Cancelled,
        ]
        .into_iter()
        .find(|s| state_word(*s) == word)
        .map(Self)
        .ok_or(FromSqlError::InvalidType)
    }
}

fn as_summary(row: &Row<'_>) -> rusqlite::Result<TaskSummary> {
    Ok(TaskSummary {
        id: text(row, "id")?,
        name: text(row, "name")?,
        service: text(row, "service")?,
        signer: text(row, "signer")?,
        state: row.get::<_, State>("state")?.0,
        function: text::<ImageRef>(row, "image")?,
        attempts: row.get("attempts")?,
        accepted: Time(row.get("accepted")?),
        started: time(row, "started")?,
        finished: time(row, "finished")?,
        due: time(row, "due")?,
        skipped: row.get::<_, i64>("skipped")?.unsigned_abs(),
        held: row.get::<_, Option<i64>>("held")?.is_some(),
        breakdown: part(row, "breakdown")?,
        failure: part::<Failure>(row, "failure")?.map(|f| f.to_string()),
    })
}

/// What [`as_summary`] reads: a task, and of its result, if there is one, as
/// much as its summary says.
const SUMMARY: &str = "
    SELECT tasks.*, json_extract(result, '$.breakdown') AS breakdown,
           json_extract(result, '$.failure') AS failure
    FROM tasks LEFT JOIN results ON results.task = tasks.seq";

/// A part of a result, if there is one.
fn part<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|t| serde_json::from_str(&t)).transpose();
    parsed.map_err(|e| FromSqlError::Other(Box::new(e)).into())
}

/// Whether the id was free.
pub(super) fn insert_task(connection: &Connection, newcomer: &Newcomer) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO tasks (id, payload, envelope, name, service, signer, image, accepted,
                            state, attempts, started, inbox, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING",
    )?;
    let summary = newcomer.summary();
    let inserted = statement.execute(params![
        summary.id.as_str(),
        newcomer.task.payload().0,
        newcomer.envelope,
        summary.name.as_str(),
        summary.service.as_str(),
        summary.signer.as_str(),
        summary.function.to_string(),
        summary.accepted.0,
        state_word(summary.state),
        summary.attempts,
        summary.started.map(|t| t.0),
        newcomer.inbox.as_ref().map(Name::as_str),
        summary.due.map(|t| t.0),
    ])?;
    Ok(inserted == 1)
}

/// The place, the digest of the payload and the state of a task that is there.
pub(super) fn accepted_as(
    connection: &Connection,
    id: &Name,
) -> rusqlite::Result<(i64, Vec<u8>, TaskSummary)> {
    let mut statement = connection.prepare_cached(&format!("{SUMMARY} WHERE id = ?1"))?;
    statement.query_row([id.as_str()], |row| {
        Ok((row.get("seq")?, row.get("payload")?, as_summary(row)?))
    })
}

pub(super) fn payload_of(connection: &Connection, id: &Name) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT payload FROM tasks WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()
}

/// Notes when a function was last used, to the minute: a function that is in
/// constant use would otherwise be written with each task.
pub(super) fn note_use(connection: &Connection, digest: Digest, at: Time) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE functions SET last_use = ?2
             WHERE digest = ?1 AND ifnull(last_use, 0) NOT BETWEEN ?2 - 60000000000 AND ?2",
        )?
        .execute(params![digest.to_string(), at.0])?;
    Ok(())
}

/// Whether the task was open. Also notes when the function was last used.
pub(super) fn set_running(
    connection: &Connection,
    id: &Name,
    attempts: u32,
    at: Time,
) -> rusqlite::Result<bool> {
    let image: Option<String> = connection
        .prepare_cached(
            "UPDATE tasks SET state = 'running', attempts = ?2, started = ?3
             WHERE id = ?1 AND finished IS NULL RETURNING image",
        )?
        .query_row(params![id.as_str(), attempts, at.0], |row| row.get(0))
        .optional()?;
    let Some(image) = image else {
        return Ok(false);
    };
    // What cannot be parsed is told by whoever reads the task.
    let digest = image.parse::<ImageRef>().ok().and_then(|i| i.digest);
    if let Some(digest) = digest {
        note_use(connection, digest, at)?;
    }
    Ok(true)
}

/// Tasks that ran when an earlier life of the node ended wait now; their attempts
/// count.
pub(super) fn requeue(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE tasks SET state = 'queued' WHERE state = 'running'",
        [],
    )
}

/// Whether the task was open.
pub(super) fn set_queued(
    connection: &Connection,
    id: &Name,
    attempts: u32,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE tasks SET state = 'queued', attempts = ?2 WHERE id = ?1 AND finished IS NULL",
    )?;
    Ok(statement.execute(params![id.as_str(), attempts])? == 1)
}

/// Whether the task was open: otherwise nothing changes.
pub(super) fn end_task(connection: &Connection, ending: &Ending) -> rusqlite::Result<bool> {
    let seq: Option<i64> = connection
        .prepare_cached(
            "UPDATE tasks SET state = ?2, attempts = ?3, finished = ?4
             WHERE id = ?1 AND finished IS NULL RETURNING seq",
        )?
        .query_row(
            params![
                ending.id.as_str(),
                state_word(ending.state),
                ending.attempts,
                ending.finished.0
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(seq) = seq else {
        return Ok(false);
    };
    connection
        .prepare_cached(
            "INSERT INTO results (task, result, answer, readings, log) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            seq,
            ending.bare,
            ending.answer,
            ending.readings,
            ending.log
        ])?;
    // One that was cancelled says nothing about its task.
    let failures = match ending.state {
        TaskState::Failed => "failures + 1",
        TaskState::Done => "0",
        _ => "failures",
    };
    connection
        .prepare_cached(&format!(
            "UPDATE tasks SET failures = {failures}
             WHERE seq = (SELECT parent FROM tasks WHERE seq = ?1)"
        ))?
        .execute([seq])?;
    // A task that has ended goes on with nothing.
    connection
        .prepare_cached("DELETE FROM checkpoints WHERE task = ?1")?
        .execute([seq])?;
    if let Some(checkpoint) = &ending.checkpoint {
        connection
            .prepare_cached(
                "INSERT INTO checkpoints (task, run, state)
                 SELECT parent, seq, ?2 FROM tasks WHERE seq = ?1 AND parent IS NOT NULL
                 ON CONFLICT (task) DO UPDATE SET run = excluded.run, state = excluded.state",
            )?
            .execute(params![seq, checkpoint])?;
    }
    for parcel in &ending.parcels {
        mail::insert(connection, seq, ending.finished, parcel)?;
    }
    Ok(true)
}

/// Stores a run of a task with a schedule, and how far the schedule has come;
/// whether the run's id was free. That time is over in any case.
pub(super) fn spawn(connection: &Connection, spawn: &Spawn, at: Time) -> rusqlite::Result<bool> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO tasks (id, payload, envelope, name, service, signer, image, accepted,
                                state, inbox, parent, due)
             SELECT ?2, payload, '', name, service, signer, image, ?3, 'queued', inbox, seq, ?4
             FROM tasks WHERE id = ?1 AND state = 'standing' ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            spawn.task.as_str(),
            spawn.run.as_str(),
            at.0,
            spawn.due.0
        ])?;
    connection
        .prepare_cached(
            "UPDATE tasks SET due = ?2, skipped = skipped + ?3
             WHERE id = ?1 AND state = 'standing'",
        )?
        .execute(params![
            spawn.task.as_str(),
            spawn.due.0,
            spawn.skipped as i64
        ])?;
    Ok(inserted == 1)
}

/// Tasks of a service that run again, by id and name.
pub(super) fn standing(
    connection: &Connection,
    service: &Name,
) -> rusqlite::Result<Vec<(Name, Name)>> {
    let sql = "SELECT id, name FROM tasks
               WHERE service = ?1 AND state = 'standing' AND held IS NULL ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([service.as_str()], |row| {
        Ok((text(row, "id")?, text(row, "name")?))
    })?;
    rows.collect()
}

/// The task at `by` takes the place of another.
pub(super) fn hold(connection: &Connection, id: &Name, by: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE tasks SET held = ?2 WHERE id = ?1")?;
    statement.execute(params![id.as_str(), by])?;
    Ok(())
}

/// A task has its place again, and everything until `due` is run. Whether it
/// stood.
pub(super) fn give_back(connection: &Connection, id: &Name, due: Time) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE tasks SET held = NULL, failures = 0, due = ?2
         WHERE id = ?1 AND state = 'standing'",
    )?;
    Ok(statement.execute(params![id.as_str(), due.0])? == 1)
}

/// With what the function of a task goes on.
pub(super) fn checkpoint(
    connection: &Connection,
    task: &Name,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT checkpoints.state FROM checkpoints JOIN tasks ON tasks.seq = task
               WHERE tasks.id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let state = statement.query_row([task.as_str()], |row| row.get(0));
    state.optional()
}

/// Where a task is in the order of acceptance, and when it was accepted.
pub(super) fn place(connection: &Connection, id: &Name) -> rusqlite::Result<Option<(i64, Time)>> {
    let sql = "SELECT seq, accepted FROM tasks WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let place = statement.query_row([id.as_str()], |row| Ok((row.get(0)?, Time(row.get(1)?))));
    place.optional()
}

/// All tasks that have not ended, in short.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Vec<TaskSummary>> {
    let sql = format!("{SUMMARY} WHERE state IN ('standing', 'queued', 'running')");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], as_summary)?;
    rows.collect()
}

/// Of the tasks that were accepted last.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Time> {
    let newest: Option<i64> = connection.query_row(
        "SELECT max(max(accepted, ifnull(started, 0), ifnull(finished, 0)))
         FROM (SELECT * FROM tasks ORDER BY seq DESC LIMIT 1000)",
        [],
        |row| row.get(0),
    )?;
    Ok(Time(newest.unwrap_or(0)))
}

pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<UnfinishedRow>> {
    let mut statement = connection.prepare(
        "SELECT run.seq, ifnull(task.envelope, run.envelope), run.accepted, run.attempts,
                run.inbox, run.id, run.parent IS NOT NULL, run.due, run.failures,
                (SELECT id FROM tasks WHERE seq = run.held) AS held_by
         FROM tasks run LEFT JOIN tasks task ON task.seq = run.parent
         WHERE run.state IN ('standing', 'queued', 'running') ORDER BY run.seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(UnfinishedRow {
            seq: row.get(0)?,
            envelope: row.get(1)?,
            accepted: Time(row.get(2)?),
            attempts: row.get(3)?,
            inbox: optional(row, "inbox")?,
            id: text(row, "id")?,
            is_run: row.get(6)?,
            due: time(row, "due")?,
            place: Place {
                replaces: None,
                held_by: optional(row, "held_by")?,
                failures: row.get("failures")?,
            },
        })
    })?;
    rows.collect()
}

pub(super) fn summary(connection: &Connection, id: &Name) -> rusqlite::Result<Option<TaskSummary>> {
    let mut statement = connection.prepare_cached(&format!("{SUMMARY} WHERE id = ?1"))?;
    statement.query_row([id.as_str()], as_summary).optional()
}

pub(super) fn envelope(connection: &Connection, id: &Name) -> rusqlite::Result<String> {
    let sql = "SELECT ifnull(task.envelope, run.envelope)
               FROM tasks run LEFT JOIN tasks task ON task.seq = run.parent WHERE run.id = ?1";
    connection.query_row(sql, [id.as_str()], |row| row.get(0))
}

pub(super) fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<TaskList> {
    let limit = filter.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let (sql, values) = page(filter, limit + 1);
    let mut statement = connection.prepare(&sql)?;
    let values: Vec<(&str, &dyn ToSql)> = values.iter().map(|(n, v)| (*n, v as _)).collect();
    let rows = statement.query_map(values.as_slice(), as_summary)?;
    let mut tasks: Vec<TaskSummary> = rows.collect::<Result<_, _>>()?;
    let more = tasks.len() > limit as usize;
    tasks.truncate(limit as usize);
    let next = tasks.last().filter(|_| more).map(|t| t.id.clone());
    Ok(TaskList { tasks, next })
}

/// The query for a page. It has the conditions that are asked for and no
/// others, and what an index can tell is asked of the index: no page is worth
/// reading a long history.
pub(super) fn page(filter: &Filter, limit: u32) -> (String, Vec<(&'static str, String)>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut only = |condition, name, value: Option<String>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push((name, value));
        }
    };
    let state = filter.state.map(|s| state_word(s).to_owned());
    only("state = :state", ":state", state);
    only(
        "tasks.seq IN (SELECT seq FROM tasks
                       WHERE service IN (SELECT value FROM json_each(:services)))",
        ":services",
        filter.services.as_deref().map(json_list),
    );
    only(
        "tasks.seq IN (SELECT seq FROM tasks WHERE name = :name)",
        ":name",
        filter.name.as_ref().map(ToString::to_string),
    );
    only(
        "parent = (SELECT seq FROM tasks WHERE id = :of)",
        ":of",
        filter.of.as_ref().map(ToString::to_string),
    );
    only(
        "tasks.seq < (SELECT seq FROM tasks WHERE id = :after)",
        ":after",
        filter.after.as_ref().map(ToString::to_string),
    );
    let conditions = match conditions.as_slice() {
        [] => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let sql = format!("{SUMMARY} {conditions} ORDER BY tasks.seq DESC LIMIT {limit}");
    (sql, values)
}

/// A list for `json_each`.
fn json_list(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    super::group::json(&names)
}

/// How many tasks there are in each state; with services, of those only.
pub(super) fn counts(
    connection: &Connection,
    services: Option<&[Name]>,
) -> rusqlite::Result<TaskCounts> {
    let mut counts = TaskCounts::default();
    let mut statement = connection.prepare(
        "SELECT state, count(*) FROM tasks
         WHERE ?1 IS NULL OR service IN (SELECT value FROM json_each(?1)) GROUP BY state",
    )?;
    let mut rows = statement.query([services.map(json_list)])?;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.unsigned_abs();
        match row.get::<_, State>(0)?.0 {
            TaskState::Standing => counts.standing = count,
            TaskState::Queued => counts.queued = count,
            TaskState::Running => counts.running = count,
            TaskState::Done => counts.done = count,
            TaskState::Failed => counts.failed = count,
            TaskState::Cancelled => counts.cancelled = count,
        }
    }
    Ok(counts)
}

fn of_result<T: FromSql>(
    connection: &Connection,
    column: &str,
    id: &Name,
) -> rusqlite::Result<Option<T>> {
    let sql = format!(
        "SELECT {column} FROM results JOIN tasks ON tasks.seq = results.task WHERE tasks.id = ?1"
    );
    connection
        .query_row(&sql, [id.as_str()], |row| row.get(0))
        .optional()
}

/// Readings that tasks of this name answered, newest first, until `most` bytes
/// are reached.
pub(super) fn answers(
    connection: &Connection,
    service: &Name,
    name: &Name,
    most: u64,
) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut statement = connection.prepare_cached(
        "SELECT readings FROM tasks JOIN results ON results.task = tasks.seq
         WHERE service = ?1 AND name = ?2 AND state = 'done' AND length(readings) > 0
         ORDER BY seq DESC",
    )?;
    let mut rows = statement.query([service.as_str(), name.as_str()])?;
    let mut answers: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let readings: Vec<u8> = row.get(0)?;
        bytes += readings.len() as u64;
        if bytes > most {
            break;
        }
        answers.push(readings);
    }
    Ok(answers)
}

pub(super) fn result(connection: &Connection, id: &Name) -> rusqlite::Result<Option<ResultRow>> {
    let Some(result) = of_result(connection, "result", id)? else {
        return Ok(None);
    };
    let answer = of_result(connection, "answer", id)?.unwrap_or_default();
    Ok(Some(ResultRow { result, answer }))
}

pub(super) fn logs(connection: &Connection, id: &Name) -> rusqlite::Result<Option<String>> {
    of_result(connection, "log", id)
}

pub(super) fn readings(connection: &Connection, id: &Name) -> rusqlite::Result<Option<Vec<u8>>> {
    of_result(connection, "readings", id)
}

/// `row`: the envelope, whether there are symbols, the time.
pub(super) fn upsert_function(
    connection: &Connection,
    function: &VerifiedFunction,
    (envelope, symbols, now): (&str, bool, Time),
) -> rusqlite::Result<FunctionInfo> {
    let statement = function.statement();
    connection.query_row(
        "INSERT INTO functions (digest, name, size, signer, envelope, symbols, published)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (digest) DO UPDATE
         SET name = ?2, signer = ?4, envelope = ?5, symbols = ?6
         RETURNING *",
        params![
            statement.digest.to_string(),
            statement.name.as_str(),
            statement.size as i64,
            function.signer().as_str(),
            envelope,
            symbols,
            now.0
        ],
        as_function,
    )
}

/// The key that signed a function, out of its envelope.
fn signer_key(row: &Row<'_>) -> rusqlite::Result<Digest> {
    let envelope: String = row.get("envelope")?;
    let envelope = Envelope::parse(envelope.as_bytes());
    let envelope = envelope.map_err(|e| FromSqlError::Other(Box::new(e)))?;
    Ok(envelope.key)
}

fn as_function(row: &Row<'_>) -> rusqlite::Result<FunctionInfo> {
    Ok(FunctionInfo {
        name: text(row, "name")?,
        digest: text::<Digest>(row, "digest")?,
        size: Size(row.get::<_, i64>("size")?.unsigned_abs()),
        signer: text(row, "signer")?,
        signer_key: signer_key(row)?,
        published: Time(row.get("published")?),
        last_use: time(row, "last_use")?,
        symbols: row.get("symbols")?,
    })
}

pub(super) fn functions(connection: &Connection) -> rusqlite::Result<Vec<FunctionInfo>> {
    let sql = "SELECT * FROM functions ORDER BY published DESC, rowid DESC";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], as_function)?;
    rows.collect()
}
