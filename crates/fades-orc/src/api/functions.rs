//! Functions: publish and list.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_trust::envelope::Envelope;
use fades_trust::function::{FunctionStatement, VerifiedFunction, verify_function};
use fades_trust::trust::TrustStore;

use super::problem::{MALFORMED, REFUSED, TOO_LARGE};
use super::server::{Api, Shelf, blocking, body};
use super::types::{FunctionInfo, FunctionList, PUBLISH_MAX, Problem, Publish};

use crate::store::images::SYMBOLS_MAX;

/// `POST /v1/functions`
pub(super) async fn publish(State(api): Shelf, request: Request) -> Result<Response, Problem> {
    let bytes = body(request, PUBLISH_MAX).await?;
    let (info, fresh) = blocking(&api, move |api| take(api, &bytes)).await?;
    let status = if fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(info)).into_response())
}

fn take(api: &Api, bytes: &[u8]) -> Result<(FunctionInfo, bool), Problem> {
    let publish: Publish = serde_json::from_slice(bytes)
        .map_err(|e| Problem::new(MALFORMED, format!("the body: {e}")))?;
    let trust = api.trust()?;
    let (function, envelope, image) = judge(api, &publish, &trust)?;
    let symbols = publish.symbols.as_deref();
    let now = api.shared.clock().now();
    Ok(api
        .store
        .publish(&function, &envelope.to_json(), (&image, symbols), now)?)
}

/// The function, its envelope and its image, if it may be published while
/// `trust` is in force.
pub(super) fn judge(
    api: &Api,
    publish: &Publish,
    trust: &TrustStore,
) -> Result<(VerifiedFunction, Envelope, Vec<u8>), Problem> {
    let image = STANDARD
        .decode(&publish.image)
        .map_err(|e| Problem::new(MALFORMED, format!("\"image\" is not base64: {e}")))?;
    let symbols = publish.symbols.as_deref();
    if symbols.is_some_and(|s| s.len() > SYMBOLS_MAX) {
        let detail =
            format!("\"symbols\" may have {SYMBOLS_MAX} bytes at the most: leave them out");
        return Err(Problem::new(TOO_LARGE, detail));
    }
    let envelope = Envelope::parse(publish.envelope.as_bytes())
        .map_err(fades_trust::refusal::Refusal::from)?;
    let now = api.shared.clock().now();
    let function = verify_function(&envelope, &image, trust, now)?;
    check_contract(function.statement(), api.config.abi)?;
    Ok((function, envelope, image))
}

/// A function built for another version of the contract would be refused by
/// every tender; its publisher learns it here.
fn check_contract(statement: &FunctionStatement, abi: (u16, u16)) -> Result<(), Problem> {
    let (major, minor) = (statement.abi_major, statement.abi_minor);
    if major == abi.0 && minor <= abi.1 {
        return Ok(());
    }
    let detail = format!(
        "function {} is built for version {major}.{minor} of the function contract, this node has {}.{}: build it again with this node's `fades build`",
        statement.name, abi.0, abi.1
    );
    Err(Problem::new(REFUSED, detail))
}

/// `GET /v1/functions`
pub(super) async fn list(State(api): Shelf, parts: Parts) -> Result<Json<FunctionList>, Problem> {
    blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        caller.may_plan()?;
        let mut functions = api.store.functions()?;
        if caller.may_read().is_err() {
            // That would tell when others ask.
            functions.iter_mut().for_each(|f| f.last_use = None);
        }
        Ok(Json(FunctionList { functions }))
    })
    .await
}
