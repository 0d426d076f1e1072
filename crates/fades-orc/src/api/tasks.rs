//! Tasks: submit, list, read, cancel.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fades_task::identity::Name;
use fades_task::quantity;
use fades_task::result::TaskState;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::auth::Caller;
use super::follow::follow;
use super::problem::{BUSY, CONFLICT, MALFORMED, NOT_FOUND};
use super::server::{Api, Shelf, blocking, body, ending, name};
use super::types::{BODY_MAX, LIST_MAX, Problem, TaskDetail, TaskList, TaskSummary, WAIT_MAX};
use crate::core::Event;
use crate::driver::{Input, NotTaken, ReplyTo, Submission};
use crate::store::{Acceptance, Filter, Known};

/// Where the driver tells what became of a task.
type Reply = oneshot::Sender<Result<Acceptance, NotTaken>>;

/// A body of so many bytes is checked by the thread that serves all
/// connections: that takes less than handing it to another thread would.
const SHORT: usize = 16 << 10;

/// A cancelled task has ended within this time.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// `POST /v1/tasks`
pub(super) async fn submit(
    State(api): Shelf,
    asked: Result<Query<WaitQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let wait = query(asked)?.wait;
    let (parts, content) = request.into_parts();
    // An envelope is no secret: whoever has it may hand it in, and not read
    // what its task answers.
    let reader = wait.map(|_| api.caller(&parts)).transpose()?;
    let bytes = body(Request::from_parts(parts, content), BODY_MAX).await?;
    let (reply, answer) = oneshot::channel();
    let submission = if bytes.len() <= SHORT {
        read(&api, &bytes, reply)?
    } else {
        blocking(&api, move |api| read(api, &bytes, reply)).await?
    };
    if let Some(reader) = reader {
        reader.may_read_of(&submission.task.mtw().task.service)?;
    }
    api.tell(Input::Submit(Box::new(submission)))?;
    let done = answer.await.map_err(|_| ending())??;
    if let Some(wait) = wait {
        let result = outcome(&api, &done.summary.id, wait.min(WAIT_MAX).as_std()).await?;
        return Ok(result.into_response());
    }
    let status = if done.fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(done.summary)).into_response())
}

/// The task in `bytes`, if this node takes it.
fn read(api: &Api, bytes: &[u8], reply: Reply) -> Result<Submission, Problem> {
    let reply = ReplyTo::Request(reply);
    let now = api.shared.clock().now();
    Submission::read(
        bytes,
        &*api.trust()?,
        &api.current(),
        &api.store,
        now,
        reply,
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<TaskState>,
    service: Option<Name>,
    name: Option<Name>,
    limit: Option<u32>,
    after: Option<Name>,
    of: Option<Name>,
}

pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|q| q.0)
        .map_err(|e| Problem::new(MALFORMED, e.body_text()))
}

/// `GET /v1/tasks`
pub(super) async fn list(
    State(api): Shelf,
    asked: Result<Query<ListQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Json<TaskList>, Problem> {
    let asked = query(asked)?;
    if asked.limit.is_some_and(|n| !(1..=LIST_MAX).contains(&n)) {
        let detail = format!("limit: write 1 to {LIST_MAX}");
        return Err(Problem::new(MALFORMED, detail));
    }
    let mut filter = Filter {
        state: asked.state,
        services: asked.service.map(|service| vec![service]),
        name: asked.name,
        limit: asked.limit,
        after: asked.after,
        of: asked.of,
    };
    blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        match &filter.services {
            Some(asked) => asked.iter().try_for_each(|s| caller.may_read_of(s))?,
            None => filter.services = caller.services()?,
        }
        if let Some(after) = &filter.after {
            let unknown = |_| Problem::new(MALFORMED, format!("after: there is no task {after}"));
            readable_by(api, after, &caller).map_err(unknown)?;
        }
        Ok(Json(api.store.list(&filter)?))
    })
    .await
}

pub(super) fn no_task(id: &Name) -> Problem {
    Problem::new(
        NOT_FOUND,
        format!("this node has no task {id}: `fades ps` lists those it has"),
    )
}

/// Whether `caller` may read this task, if there is one. To those who may not,
/// it is not there: nobody learns the ids of others.
fn check_reader(caller: &Caller, id: &Name, summary: Option<&TaskSummary>) -> Result<(), Problem> {
    caller.may_plan()?;
    let readable = summary.is_some_and(|s| caller.may_read_of(&s.service).is_ok());
    if readable { Ok(()) } else { Err(no_task(id)) }
}

/// The task, if there is one and `caller` may read it.
pub(super) fn readable_by(api: &Api, id: &Name, caller: &Caller) -> Result<TaskSummary, Problem> {
    let summary = api.store.summary(id)?;
    check_reader(caller, id, summary.as_ref())?;
    summary.ok_or_else(|| no_task(id))
}

/// The task, if there is one and `parts` come from somebody who may read it.
fn readable(api: &Api, id: &Name, parts: &Parts) -> Result<TaskSummary, Problem> {
    readable_by(api, id, &api.caller(parts)?)
}

/// `GET /v1/tasks/{id}`
pub(super) async fn show(
    State(api): Shelf,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<TaskDetail>, Problem> {
    let id = name(&id)?;
    blocking(&api, move |api| {
        readable(api, &id, &parts)?;
        let detail = api.store.detail(&id)?;
        detail.map(Json).ok_or_else(|| no_task(&id))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    wait: Option<quantity::Duration>,
}

/// `GET /v1/tasks/{id}/result`
pub(super) async fn result(
    State(api): Shelf,
    Path(id): Path<String>,
    asked: Result<Query<WaitQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = name(&id)?;
    let wait = query(asked)?.wait.unwrap_or(quantity::Duration(0));
    match api.store.known(&id) {
        // Nothing here takes long.
        Some(known) => check_reader(&api.caller(&parts)?, &id, Some(known.summary()))?,
        None => {
            let id = id.clone();
            blocking(&api, move |api| readable(api, &id, &parts)).await?;
        }
    }
    Ok(outcome(&api, &id, wait.min(WAIT_MAX).as_std())
        .await?
        .into_response())
}

/// A task's result, as far as it is known.
enum Outcome {
    /// A final one, as JSON.
    Final(Arc<str>),
    /// What is known so far.
    Open(Box<TaskSummary>),
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        match self {
            Self::Final(result) => {
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (kind, result.as_bytes().to_vec()).into_response()
            }
            Self::Open(summary) => {
                let result = summary.into_result();
                (StatusCode::ACCEPTED, Json(result)).into_response()
            }
        }
    }
}

/// The result; what is known so far when it is not final after `wait`.
async fn outcome(api: &Arc<Api>, id: &Name, wait: Duration) -> Result<Outcome, Problem> {
    let (summary, result) = match api.store.known(id) {
        Some(Known::Ended { result, .. }) => return Ok(Outcome::Final(result)),
        Some(Known::Open { summary, result }) => (summary, result),
        None => return old_result(api, id).await,
    };
    if wait.is_zero() {
        return Ok(Outcome::Open(summary));
    }
    let mut ending = api.shared.ending();
    tokio::select! {
        // The store lives as long as the API.
        Ok(result) = result => return Ok(Outcome::Final(result)),
        () = tokio::time::sleep(wait) => {}
        _ = ending.wait_for(|ending| *ending) => {}
    }
    // It may run by now.
    match api.store.known(id) {
        Some(Known::Ended { result, .. }) => Ok(Outcome::Final(result)),
        Some(Known::Open { summary, .. }) => Ok(Outcome::Open(summary)),
        None => old_result(api, id).await,
    }
}

/// The result of a task that ended some time ago.
async fn old_result(api: &Arc<Api>, id: &Name) -> Result<Outcome, Problem> {
    let id = id.clone();
    blocking(api, move |api| {
        let result = api.store.shown(&id)?;
        result.map(Outcome::Final).ok_or_else(|| no_task(&id))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    follow: Option<bool>,
}

/// `GET /v1/tasks/{id}/logs`
pub(super) async fn logs(
    State(api): Shelf,
    Path(id): Path<String>,
    asked: Result<Query<LogsQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = name(&id)?;
    if query(asked)?.follow == Some(true) {
        return follow(api, id, parts).await;
    }
    let logs = blocking(&api, move |api| {
        readable(api, &id, &parts)?;
        match api.store.logs(&id)? {
            Some(logs) => Ok(logs),
            None => Ok(api.shared.live().logs(&id).unwrap_or_default()),
        }
    });
    Ok(Json(logs.await?).into_response())
}

/// `GET /v1/tasks/{id}/readings`
pub(super) async fn readings(
    State(api): Shelf,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = name(&id)?;
    let readings = blocking(&api, move |api| {
        let task = readable(api, &id, &parts)?;
        let readings = api.store.readings(&id)?.unwrap_or_default();
        if readings.is_empty() {
            let detail = format!(
                "task {id} is {} and has answered with no readings",
                task.state
            );
            return Err(Problem::new(NOT_FOUND, detail));
        }
        Ok(readings)
    })
    .await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, readings).into_response())
}

/// `POST /v1/tasks/{id}/cancel`
pub(super) async fn cancel(
    State(api): Shelf,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = name(&id)?;
    let asked = id.clone();
    blocking(&api, move |api| {
        ask_to_cancel(api, &api.caller(&parts)?, asked)
    })
    .await?;
    match outcome(&api, &id, CANCEL_WITHIN).await? {
        done @ Outcome::Final(_) => Ok(done.into_response()),
        Outcome::Open(_) => {
            let detail = format!("task {id} will be cancelled as soon as the store can be written");
            Err(Problem::new(BUSY, detail))
        }
    }
}

fn ask_to_cancel(api: &Api, caller: &Caller, id: Name) -> Result<(), Problem> {
    let task = readable_by(api, &id, caller)?;
    caller.may_cancel(&task.service)?;
    match task.state {
        TaskState::Standing | TaskState::Queued | TaskState::Running => {
            let by = caller.words();
            api.tell(Input::Event(Event::Cancel { id, by }))
        }
        TaskState::Cancelled => Ok(()),
        TaskState::Done | TaskState::Failed => {
            let detail = format!(
                "task {id} is {} already, nothing is left to cancel",
                task.state
            );
            Err(Problem::new(CONFLICT, detail))
        }
    }
}
