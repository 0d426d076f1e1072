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
use fades_trust::envelope::Envelope;
use serde::Deserialize;
use tokio::time::Instant;

use super::auth::Caller;
use super::problem::{BUSY, CONFLICT, MALFORMED, NOT_FOUND};
use super::server::{Api, Shelf, blocking, body, name};
use super::types::{
    BODY_MAX, Logs, Problem, TaskDetail, TaskList, TaskResult, TaskSummary, WAIT_MAX,
};
use crate::admission::{Admitted, Refusal, admit};
use crate::config::QUEUE_MAX;
use crate::core::{Event, Task};
use crate::driver::{Input, wall_time};
use crate::store::{Acceptance, Filter};

/// A cancelled task has ended within this time.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// `POST /v1/tasks`
pub(super) async fn submit(State(api): Shelf, request: Request) -> Result<Response, Problem> {
    let bytes = body(request, BODY_MAX).await?;
    let done = blocking(&api, move |api| accept(api, &bytes)).await?;
    let status = if done.fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(done.summary)).into_response())
}

/// Stored and synced before anybody is told.
fn accept(api: &Api, bytes: &[u8]) -> Result<Acceptance, Problem> {
    let envelope = Envelope::parse(bytes).map_err(fades_trust::refusal::Refusal::from)?;
    let now = wall_time();
    let Admitted { task, isolations } =
        admit(&envelope, &api.trust()?, &api.config, now, |digest| {
            Ok::<_, Problem>(api.store.function(digest)?)
        })?;
    let known = api.store.summary(&task.mtw().task.id)?.is_some();
    if !known && api.store.queued()? >= QUEUE_MAX {
        return Err(Refusal::QueueFull.into());
    }
    let accepted = api.store.accept(&task, &envelope.to_json(), now)?;
    if accepted.fresh {
        let task = Task {
            seq: accepted.seq,
            accepted: accepted.summary.accepted,
            attempts: 0,
            isolations,
            mtw: Arc::new(task.into_mtw()),
        };
        api.tell(Input::Event(Event::Accepted(task)))?;
    }
    Ok(accepted)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<TaskState>,
    service: Option<Name>,
    limit: Option<u32>,
    after: Option<Name>,
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
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
    let filter = Filter {
        state: asked.state,
        service: asked.service,
        limit: asked.limit,
        after: asked.after,
    };
    blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        match &filter.service {
            Some(service) => caller.may_read_of(service)?,
            None => caller.may_read()?,
        }
        Ok(Json(api.store.list(&filter)?))
    })
    .await
}

fn no_task(id: &Name) -> Problem {
    Problem::new(
        NOT_FOUND,
        format!("this node has no task {id}: `fades ps` lists those it has"),
    )
}

/// The task, if there is one and `parts` come from somebody who may read it.
fn readable(api: &Api, id: &Name, parts: &Parts) -> Result<TaskSummary, Problem> {
    let caller = api.caller(parts)?;
    let Some(summary) = api.store.summary(id)? else {
        caller.may_plan()?;
        return Err(no_task(id));
    };
    caller.may_read_of(&summary.service)?;
    Ok(summary)
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
pub(super) struct ResultQuery {
    wait: Option<quantity::Duration>,
}

/// `GET /v1/tasks/{id}/result`
pub(super) async fn result(
    State(api): Shelf,
    Path(id): Path<String>,
    asked: Result<Query<ResultQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let id = name(&id)?;
    let wait = query(asked)?.wait.unwrap_or(quantity::Duration(0));
    let checked = id.clone();
    blocking(&api, move |api| readable(api, &checked, &parts)).await?;
    let result = final_result(&api, &id, wait.min(WAIT_MAX).as_std()).await?;
    let status = if result.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(result)).into_response())
}

/// The result; what is known so far when it is not final after `wait`.
async fn final_result(api: &Arc<Api>, id: &Name, wait: Duration) -> Result<TaskResult, Problem> {
    let deadline = Instant::now() + wait;
    let mut ending = api.shared.ending();
    // Before the store is read, so that no commit falls in between.
    let mut committed = api.shared.committed();
    loop {
        let asked = id.clone();
        let result = blocking(api, move |api| {
            api.store.result(&asked)?.ok_or_else(|| no_task(&asked))
        })
        .await?;
        if result.state.is_final() || Instant::now() >= deadline {
            return Ok(result);
        }
        tokio::select! {
            _ = committed.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            _ = ending.wait_for(|ending| *ending) => return Ok(result),
        }
    }
}

/// `GET /v1/tasks/{id}/logs`
pub(super) async fn logs(
    State(api): Shelf,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Json<Logs>, Problem> {
    let id = name(&id)?;
    blocking(&api, move |api| {
        readable(api, &id, &parts)?;
        if let Some(logs) = api.store.logs(&id)? {
            return Ok(Json(logs));
        }
        Ok(Json(api.shared.live().logs(&id).unwrap_or_default()))
    })
    .await
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
) -> Result<Json<TaskResult>, Problem> {
    let id = name(&id)?;
    let asked = id.clone();
    blocking(&api, move |api| {
        ask_to_cancel(api, &api.caller(&parts)?, asked)
    })
    .await?;
    let result = final_result(&api, &id, CANCEL_WITHIN).await?;
    if result.state.is_final() {
        return Ok(Json(result));
    }
    let detail = format!("task {id} will be cancelled as soon as the store can be written");
    Err(Problem::new(BUSY, detail))
}

fn ask_to_cancel(api: &Api, caller: &Caller, id: Name) -> Result<(), Problem> {
    let Some(task) = api.store.summary(&id)? else {
        caller.may_plan()?;
        return Err(no_task(&id));
    };
    caller.may_cancel(&task.service)?;
    match task.state {
        TaskState::Queued | TaskState::Running => {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use fades_task::quantity::Duration;

    use super::accept;
    use crate::api::server::Api;
    use crate::config::QUEUE_MAX;
    use crate::driver::wall_time;
    use crate::samples::{IMAGE, config, envelope, function, mtw_with, now, trust};
    use crate::shared::Shared;
    use crate::store::Store;

    #[test]
    fn a_full_queue_takes_nothing_new_and_still_knows_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        std::fs::write(&config.trust, trust().to_toml()).unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let (function, text) = function();
        store
            .publish(&function, &text, (IMAGE, None), now())
            .unwrap();
        let (inputs, _driver) = channel();
        let shared = Arc::new(Shared::new());
        let api = Api::new(Arc::new(config), Arc::clone(&store), shared, inputs);
        let expires = wall_time().after(Duration::from_secs(60));
        let task = |id: &str| {
            let mtw = mtw_with(id, |t| t["task"]["expires"] = expires.to_string().into());
            envelope(&mtw).to_json()
        };
        let known = task("known");
        assert!(accept(&api, known.as_bytes()).unwrap().fresh);
        crate::store::tests::fill_queue(&store, QUEUE_MAX);
        let refused = accept(&api, task("new").as_bytes()).unwrap_err();
        assert_eq!(refused.status, 503);
        assert!(!accept(&api, known.as_bytes()).unwrap().fresh);
    }
}
