//! What the operator decided about the tasks of others, and what became of it;
//! taking it anew from the configuration.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use tokio::sync::oneshot;

use super::problem::{BUSY, CONFLICT, REFUSED};
use super::server::{Shelf, blocking, ending};
use super::types::{Problem, Reloaded, Scheduling};
use crate::driver::Input;

/// The driver has answered within this time, unless it waits for the store.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `GET /v1/scheduling`
pub(super) async fn show(State(api): Shelf, parts: Parts) -> Result<Json<Scheduling>, Problem> {
    blocking(&api, move |api| api.caller(&parts)?.may_read()).await?;
    let (reply, answer) = oneshot::channel();
    api.tell(Input::Describe(reply))?;
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map(Json).map_err(|_| ending()),
        Err(_) => {
            let detail = "the node waits for its store: see `store-error` of /v1/node";
            Err(Problem::new(BUSY, detail))
        }
    }
}

/// `POST /v1/reload`
pub(super) async fn reload(State(api): Shelf, parts: Parts) -> Result<Json<Reloaded>, Problem> {
    blocking(&api, move |api| {
        api.caller(&parts)?.may_operate()?;
        let Some(reloaded) = api.shared.reload(&api.inputs) else {
            let detail = "this node was not started from a file: there is nothing to read anew";
            return Err(Problem::new(CONFLICT, detail));
        };
        reloaded.map(Json).map_err(|reason| {
            Problem::new(REFUSED, format!("{reason}; the node goes on as it was"))
        })
    })
    .await
}
