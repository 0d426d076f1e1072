//! A copy of the store, for a backup.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;

use super::problem::FAILED;
use super::server::{Shelf, blocking};
use super::types::{Problem, Snapshot};

/// Copying a store takes no longer than this.
const COPY_WITHIN: Duration = Duration::from_secs(600);

/// How often the watchdog is thought of meanwhile.
const EVERY: Duration = Duration::from_millis(200);

/// `POST /v1/backup`
pub(super) async fn snapshot(State(api): Shelf, parts: Parts) -> Result<Json<Snapshot>, Problem> {
    blocking(&api, move |api| api.caller(&parts)?.may_operate()).await?;
    let copying = blocking(&api, |api| {
        let path = api.store.snapshot()?;
        let path = path.to_string_lossy().into_owned();
        Ok(Json(Snapshot { path }))
    });
    // The driver waits for the store, which is no illness of the driver.
    let patient = async {
        for _ in 0..COPY_WITHIN.as_millis() / EVERY.as_millis() {
            tokio::time::sleep(EVERY).await;
            if let Some(notify) = &api.config.notify {
                notify.alive();
            }
        }
    };
    tokio::select! {
        copied = copying => copied,
        () = patient => Err(Problem::new(FAILED, "the store was not copied in time")),
    }
}
