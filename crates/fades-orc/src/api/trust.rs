//! Whom the node trusts: look, and hand in what administrators signed.
//!
//! Whoever has such an envelope may hand it in, as with tasks: what counts is who
//! signed it.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use fades_trust::envelope::PayloadType;
use fades_trust::joint::JointEnvelope;
use fades_trust::refusal::Refusal;
use fades_trust::trust::{TrustStore, TrustedKey};

use super::server::{Api, Shelf, blocking, body};
use super::types::{
    BODY_MAX, Problem, RevokedKey, TrustInfo, TrustKeyInfo, TrustState, TrustTaken,
};
use crate::driver::Input;
use crate::trust::InForce;

/// `GET /v1/trust`
pub(super) async fn show(State(api): Shelf, parts: Parts) -> Result<Json<TrustInfo>, Problem> {
    blocking(&api, move |api| {
        api.caller(&parts)?.may_read()?;
        let held = api.trusted.look()?;
        let key = |key| info(api, &held.table, key);
        let revoked = held.table.revocations().iter();
        let revoked = revoked.map(|revoked| RevokedKey {
            key: revoked.key,
            since: revoked.since,
            reason: revoked.reason.clone(),
        });
        let (keys, revoked) = (
            held.table.keys().iter().map(key).collect(),
            revoked.collect(),
        );
        let state = state(api, &held);
        let (update, update_signers) = held.update.unzip();
        let (revocations, revocation_signers) = held.list.unzip();
        Ok(Json(TrustInfo {
            state,
            keys,
            revoked,
            update,
            update_signers: update_signers.unwrap_or_default(),
            revocations,
            revocation_signers: revocation_signers.unwrap_or_default(),
        }))
    })
    .await
}

fn info(api: &Api, table: &TrustStore, key: &TrustedKey) -> TrustKeyInfo {
    let usable = table.usable(key, api.shared.clock().now());
    TrustKeyInfo {
        name: key.name.clone(),
        id: key.public.id(),
        public: key.public.to_string(),
        roles: key.roles.iter().map(ToString::to_string).collect(),
        services: key.services.clone(),
        development: key.development,
        not_after: key.not_after,
        refused: usable.err().map(|refusal| refusal.to_string()),
    }
}

/// In short.
pub(super) fn state(api: &Api, held: &InForce) -> TrustState {
    let (table, now) = (&held.table, api.shared.clock().now());
    let can = |key: &&TrustedKey| table.usable(key, now).is_ok();
    TrustState {
        version: table.version(),
        update: held.update.is_some(),
        threshold: table.threshold(),
        administrators: table.administrators().filter(can).count() as u64,
        counter: table.revocations().counter(),
        revoked: table.revocations().iter().len() as u64,
        restored: held.restored,
    }
}

/// `PUT /v1/trust`
pub(super) async fn update(
    State(api): Shelf,
    request: Request,
) -> Result<Json<TrustTaken>, Problem> {
    take(&api, request, PayloadType::Trust).await
}

/// `PUT /v1/revocations`
pub(super) async fn revoke(
    State(api): Shelf,
    request: Request,
) -> Result<Json<TrustTaken>, Problem> {
    take(&api, request, PayloadType::Revocations).await
}

async fn take(
    api: &std::sync::Arc<Api>,
    request: Request,
    expected: PayloadType,
) -> Result<Json<TrustTaken>, Problem> {
    let bytes = body(request, BODY_MAX).await?;
    blocking(api, move |api| {
        let envelope = JointEnvelope::parse(&bytes).map_err(Refusal::from)?;
        if envelope.payload_type() != expected.as_str() {
            let found = envelope.payload_type().to_owned();
            let expected = expected.as_str();
            return Err(Refusal::PayloadType { found, expected }.into());
        }
        let now = api.shared.clock().now();
        let taken = api.trusted.take(&bytes, api.audience(), now)?;
        api.tell(Input::Revoke { pass: 0 })?;
        let held = api.trusted.look()?;
        Ok(Json(TrustTaken {
            number: taken.number,
            fresh: taken.fresh,
            state: state(api, &held),
        }))
    })
    .await
}
