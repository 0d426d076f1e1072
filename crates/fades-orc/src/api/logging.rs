//! How much the node logs, changed while it runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use tracing::info;

use super::problem::MALFORMED;
use super::server::{Api, Shelf, blocking, body};
use super::types::{BODY_MAX, LogInfo, LogLines, LogSetting, Problem};
use crate::clock::system;
use crate::driver::Input;

/// Longest time for which a level is set: for good, it belongs to the command
/// that starts the node.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// `GET /v1/node/log`
pub(super) async fn show(State(api): Shelf, parts: Parts) -> Result<Json<LogInfo>, Problem> {
    blocking(&api, move |api| {
        api.caller(&parts)?.may_read()?;
        Ok(Json(api.shared.log_info()))
    })
    .await
}

/// `GET /v1/node/log/lines`: they name services and devices, so they are the
/// operator's, and an auditor's.
pub(super) async fn lines(State(api): Shelf, parts: Parts) -> Result<Json<LogLines>, Problem> {
    blocking(&api, move |api| {
        api.caller(&parts)?.may_read_log()?;
        Ok(Json((api.shared.config().log.recent)()))
    })
    .await
}

/// `PUT /v1/node/log`
pub(super) async fn change(State(api): Shelf, request: Request) -> Result<Json<LogInfo>, Problem> {
    let (parts, content) = request.into_parts();
    let asked = Request::from_parts(parts.clone(), content);
    blocking(&api, move |api| api.caller(&parts)?.may_operate()).await?;
    let bytes = body(asked, BODY_MAX).await?;
    let malformed = |e: &dyn std::fmt::Display| Problem::new(MALFORMED, format!("log: {e}"));
    let setting: LogSetting = serde_json::from_slice(&bytes).map_err(|e| malformed(&e))?;
    if setting.within.is_some_and(|w| w.as_std() > LONGEST) {
        return Err(malformed(&"for: a week at the most"));
    }
    let until = setting.within.map(|within| system().after(within));
    let turn = api.shared.set_log(LogInfo {
        level: setting.level,
        until,
    });
    info!(level = %setting.level, "the node logs at another level");
    api.tell(Input::Log(setting.level))?;
    if let Some(within) = setting.within {
        tokio::spawn(back(Arc::clone(&api), turn, within.as_std()));
    }
    Ok(Json(api.shared.log_info()))
}

/// Takes the level back to that of the start, unless somebody set another.
async fn back(api: Arc<Api>, turn: u64, within: Duration) {
    tokio::time::sleep(within).await;
    if let Some(level) = api.shared.log_back(turn) {
        // Nobody listens when the node ends.
        let _ = api.tell(Input::Log(level));
    }
}
