//! What would happen to a task, without anything happening.

use axum::Json;
use axum::extract::{Request, State};
use fades_task::identity::{Digest, Name};
use fades_task::message::BrokerReport;
use fades_task::mtw::{Dto, Mtw};
use fades_task::result::RetrievalFailure;
use fades_trust::envelope::Envelope;
use fades_trust::grant::{Allowed, Asked};
use fades_trust::task::verify_task;

use super::operator::{ask, confused};
use super::problem::MALFORMED;
use super::server::{Api, Shelf, blocking, body};
use super::types::{BODY_MAX, Plan, Problem};
use crate::admission::{self, Refusal};
use crate::driver::Ask;

/// `POST /v1/plan`
pub(super) async fn plan(State(api): Shelf, request: Request) -> Result<Json<Plan>, Problem> {
    let (parts, content) = request.into_parts();
    let request = Request::from_parts(parts.clone(), content);
    let bytes = body(request, BODY_MAX).await?;
    let (mut plan, service, dtos) = blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        caller.may_plan()?;
        let mut decided = decide(api, &bytes)?;
        // Entries with `result` would show what its tasks answered.
        caller.may_read_of(&decided.1)?;
        // What a node knows of its devices is for those who may read everything, and
        // for whom it is granted.
        let granted = decided.2.iter().all(|dto| dto.granted.is_some());
        if !granted && caller.may_read().is_err() {
            decided.2.clear();
        }
        Ok(decided)
    })
    .await?;
    if !dtos.is_empty() {
        match preview(&api, Some(service), dtos).await? {
            Ok(mut previews) => {
                // Whoever may ask may not see readings for that.
                previews.iter_mut().for_each(|p| p.sample.clear());
                plan.retrieve = previews;
            }
            Err(failure) => plan.retrieve_refusal = Some(failure.to_string()),
        }
    }
    Ok(Json(plan))
}

pub(super) async fn preview(
    api: &Api,
    service: Option<Name>,
    dtos: Vec<Dto>,
) -> Result<Result<Vec<fades_task::resource::Preview>, RetrievalFailure>, Problem> {
    match ask(api, Ask::Preview { service, dtos }).await? {
        BrokerReport::Previewed { previews, .. } => Ok(previews),
        _ => Err(confused()),
    }
}

/// The decision, and what to ask the broker.
fn decide(api: &Api, bytes: &[u8]) -> Result<(Plan, Name, Vec<Dto>), Problem> {
    let (signed, mut mtw, refusal) = read(api, bytes)?;
    let now = api.shared.clock().now();
    let mut plan = Plan {
        refusal: refusal.map(|r| r.to_string()),
        signed,
        function: None,
        isolation: None,
        memory: mtw.function.limits.memory,
        retrieve: Vec::new(),
        retrieve_refusal: None,
    };
    if let Some(digest) = pin(api, &mut mtw)? {
        plan.function = Some(mtw.function.image.clone());
        let function = api.store.function(digest);
        let vouched = admission::check_publisher(function.as_ref(), &*api.trust()?);
        let checked = admission::check(&mtw, digest, function.as_ref(), &api.current(), now);
        match vouched.and(checked) {
            Ok(isolations) => plan.isolation = isolations.first().copied(),
            Err(refusal) => {
                plan.refusal.get_or_insert(refusal.to_string());
            }
        }
    } else {
        let refusal = Refusal::UnknownFunction(mtw.function.image.clone());
        plan.refusal.get_or_insert(refusal.to_string());
    }
    let asked = Asked {
        mtw: &mtw,
        accepted: now,
        at: now,
    };
    let mut dtos = mtw.dtos(now, now);
    // How much is there is not told to whom an export bounds.
    let decided = api.current().grants.decide(asked);
    if let Some(allowed) = decided.ok().filter(|allowed| allowed.export().is_none()) {
        grant(&allowed, &mut dtos);
    }
    Ok((plan, mtw.task.service, dtos))
}

/// Has the broker look at what is granted and at nothing else.
pub(super) fn grant(allowed: &Allowed, dtos: &mut [Dto]) {
    for dto in dtos {
        dto.granted = Some(allowed.for_dto(dto));
    }
}

/// The task, whether it is signed, and why it would be refused for that.
fn read(
    api: &Api,
    bytes: &[u8],
) -> Result<(bool, Mtw, Option<fades_trust::refusal::Refusal>), Problem> {
    let malformed = |e: serde_json::Error| Problem::new(MALFORMED, format!("the task: {e}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
    if value.get("payloadType").is_none() {
        let mtw: Mtw = serde_json::from_slice(bytes).map_err(malformed)?;
        let refusal = mtw.check().err().map(Into::into);
        return Ok((false, mtw, refusal));
    }
    let envelope = Envelope::parse(bytes).map_err(fades_trust::refusal::Refusal::from)?;
    let mtw: Mtw = serde_json::from_slice(&envelope.payload).map_err(malformed)?;
    let trust = api.trust()?;
    let verified = verify_task(&envelope, &trust, api.audience(), api.shared.clock().now());
    Ok((true, mtw, verified.err()))
}

/// The digest of the task's function; a bare name means the newest one.
fn pin(api: &Api, mtw: &mut Mtw) -> Result<Option<Digest>, Problem> {
    let image = &mut mtw.function.image;
    if image.digest.is_none() {
        let functions = api.store.functions()?;
        let newest = functions.iter().find(|f| f.name == image.name);
        image.digest = newest.map(|f| f.digest);
    }
    Ok(image.digest)
}
