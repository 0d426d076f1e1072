//! Bundles: trust, functions and tasks that are taken together.
//!
//! ```text
//! read ──▶ trust, foreseen ──▶ functions, against it ──▶ tasks, against both ──▶ taken, in this order
//! ```
//! Everything is judged before anything changes: by the keys that would be in force
//! and with the functions that would be there. Taking it is no single transaction, for
//! tasks go through the driver as all tasks do; but each part is taken once, so that
//! the same bundle again completes what a crash or a full queue cut off.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use fades_task::identity::{Digest, Name};
use fades_task::quantity::Size;
use fades_trust::envelope::{Envelope, PayloadType};
use fades_trust::function::VerifiedFunction;
use fades_trust::joint::JointEnvelope;
use fades_trust::refusal::Refusal;
use fades_trust::trust::TrustStore;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::functions;
use super::problem::{BUSY, CONFLICT, MALFORMED};
use super::server::{Api, Shelf, blocking, body, ending};
use super::tasks::query;
use super::types::{
    BUNDLE_FUNCTIONS_MAX, BUNDLE_MAX, BUNDLE_TASKS_MAX, BUNDLE_TRUST_MAX, Bundle, BundleKind,
    BundlePart, BundleTaken, FunctionInfo, Problem,
};
use crate::driver::{Input, NotTaken, ReplyTo, Submission};
use crate::store::{Acceptance, TrustKind};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleQuery {
    #[serde(default)]
    check: bool,
}

/// When the driver tells what became of a task.
type Answer = oneshot::Receiver<Result<Acceptance, NotTaken>>;

/// A function that may be stored.
struct Function {
    verified: VerifiedFunction,
    envelope: Envelope,
    image: Vec<u8>,
    symbols: Option<String>,
    /// The node does not have it.
    fresh: bool,
}

/// A task that may be handed in.
struct Handed {
    submission: Submission,
    answer: Answer,
    fresh: bool,
}

/// A bundle that was judged.
struct Judged {
    trust: Vec<JointEnvelope>,
    functions: Vec<Function>,
    tasks: Vec<Handed>,
    parts: Vec<BundlePart>,
}

/// `POST /v1/bundles`
pub(super) async fn load(
    State(api): Shelf,
    asked: Result<Query<BundleQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<BundleTaken>, Problem> {
    let check = query(asked)?.check;
    // A bundle is larger than anything else that is sent: one at a time.
    let Ok(_turn) = api.bundles.try_lock() else {
        let detail = "another bundle is being loaded: try again when that is done";
        return Err(Problem::new(BUSY, detail));
    };
    let bytes = body(request, BUNDLE_MAX).await?;
    let judged = blocking(&api, move |api| judge(api, &bytes)).await?;
    if check {
        let parts = judged.parts;
        let checked = true;
        return Ok(Json(BundleTaken { checked, parts }));
    }
    let Judged {
        trust,
        functions,
        tasks,
        mut parts,
    } = judged;
    blocking(&api, move |api| take(api, &trust, &functions)).await?;
    let before = parts.len() - tasks.len();
    for (at, task) in tasks.into_iter().enumerate() {
        api.tell(Input::Submit(Box::new(task.submission)))?;
        let taken = task.answer.await.map_err(|_| ending())?;
        let taken = taken.map_err(|reason| late(reason.into(), at))?;
        if let Some(part) = parts.get_mut(before + at) {
            part.fresh = taken.fresh;
        }
    }
    let checked = false;
    Ok(Json(BundleTaken { checked, parts }))
}

/// Why a task is not taken that was fit for it a moment ago.
fn late(mut problem: Problem, at: usize) -> Problem {
    problem.detail = format!(
        "tasks[{at}]: {}; everything before it in the bundle was taken: load the same bundle again later, nothing is taken twice",
        problem.detail
    );
    problem
}

/// The problem of one part, of a bundle of which nothing was taken.
fn of(part: impl std::fmt::Display) -> impl FnOnce(Problem) -> Problem {
    move |mut problem| {
        problem.detail = format!(
            "{part}: {}; nothing of the bundle was taken",
            problem.detail
        );
        problem
    }
}

fn too_many(what: &str, have: usize, max: usize) -> Result<(), Problem> {
    if have <= max {
        return Ok(());
    }
    let detail = format!("the bundle has {have} {what}, at most {max} are taken: make two of it");
    Err(Problem::new(MALFORMED, detail))
}

fn judge(api: &Api, bytes: &[u8]) -> Result<Judged, Problem> {
    let bundle: Bundle = serde_json::from_slice(bytes)
        .map_err(|e| Problem::new(MALFORMED, format!("the bundle: {e}")))?;
    too_many(
        "tables and lists of keys",
        bundle.trust.len(),
        BUNDLE_TRUST_MAX,
    )?;
    too_many("functions", bundle.functions.len(), BUNDLE_FUNCTIONS_MAX)?;
    too_many("tasks", bundle.tasks.len(), BUNDLE_TASKS_MAX)?;
    let (trust, table, mut parts) = judge_trust(api, &bundle.trust)?;
    let mut functions: Vec<Function> = Vec::with_capacity(bundle.functions.len());
    let mut brought: BTreeMap<Digest, FunctionInfo> = BTreeMap::new();
    for (at, publish) in bundle.functions.iter().enumerate() {
        let place = format!("functions[{at}]");
        let function = judge_function(api, publish, &table, &brought).map_err(of(place))?;
        let info = function.info(api);
        parts.push(BundlePart {
            kind: BundleKind::Function,
            name: info.name.to_string(),
            signer: Some(info.signer.clone()),
            fresh: function.fresh,
        });
        brought.insert(info.digest, info);
        functions.push(function);
    }
    let mut tasks: Vec<Handed> = Vec::with_capacity(bundle.tasks.len());
    for (at, task) in bundle.tasks.iter().enumerate() {
        let handed = judge_task(api, task, &table, &brought, &tasks);
        let handed = handed.map_err(of(format_args!("tasks[{at}]")))?;
        parts.push(BundlePart {
            kind: BundleKind::Task,
            name: handed.id().to_string(),
            signer: Some(handed.submission.task.signer().clone()),
            fresh: handed.fresh,
        });
        tasks.push(handed);
    }
    Ok(Judged {
        trust,
        functions,
        tasks,
        parts,
    })
}

/// What administrators signed, the keys that would be in force, and what to tell.
type Trusted = (
    Vec<JointEnvelope>,
    std::sync::Arc<TrustStore>,
    Vec<BundlePart>,
);

fn judge_trust(api: &Api, texts: &[String]) -> Result<Trusted, Problem> {
    let read = |(at, text): (usize, &String)| {
        let place = of(format!("trust[{at}]"));
        let envelope = JointEnvelope::parse(text.as_bytes()).map_err(Refusal::from);
        let envelope = envelope.map_err(Problem::from);
        let envelope = envelope.and_then(|envelope| {
            let found = envelope.payload_type();
            let kinds = [PayloadType::Trust, PayloadType::Revocations];
            if kinds.iter().any(|kind| found == kind.as_str()) {
                return Ok(envelope);
            }
            let found = found.to_owned();
            let expected = PayloadType::Trust.as_str();
            Err(Refusal::PayloadType { found, expected }.into())
        });
        envelope.map_err(place)
    };
    let offers: Result<Vec<_>, Problem> = texts.iter().enumerate().map(read).collect();
    let offers = offers?;
    let now = api.shared.clock().now();
    let foresight = api.trusted.foresee(&offers, api.audience(), now);
    let foresight = foresight.map_err(|(at, reason)| of(format!("trust[{at}]"))(reason.into()))?;
    let parts = foresight.taken.iter().map(|taken| BundlePart {
        kind: match taken.kind {
            TrustKind::Update => BundleKind::Trust,
            TrustKind::Revocations => BundleKind::Revocations,
        },
        name: taken.number.to_string(),
        signer: None,
        fresh: taken.fresh,
    });
    let parts = parts.collect();
    Ok((offers, foresight.table, parts))
}

impl Function {
    /// As the node would list it.
    fn info(&self, api: &Api) -> FunctionInfo {
        let statement = self.verified.statement();
        FunctionInfo {
            name: statement.name.clone(),
            digest: statement.digest,
            size: Size(statement.size),
            signer: self.verified.signer().clone(),
            signer_key: self.envelope.key,
            published: api.shared.clock().now(),
            last_use: None,
            symbols: self.symbols.is_some(),
        }
    }
}

fn judge_function(
    api: &Api,
    publish: &super::types::Publish,
    table: &TrustStore,
    brought: &BTreeMap<Digest, FunctionInfo>,
) -> Result<Function, Problem> {
    let (verified, envelope, image) = functions::judge(api, publish, table)?;
    let digest = verified.statement().digest;
    Ok(Function {
        fresh: api.store.function(digest).is_none() && !brought.contains_key(&digest),
        verified,
        envelope,
        image,
        symbols: publish.symbols.clone(),
    })
}

impl Handed {
    fn id(&self) -> &Name {
        &self.submission.task.mtw().task.id
    }

    fn payload(&self) -> Digest {
        self.submission.task.payload()
    }
}

fn judge_task(
    api: &Api,
    text: &str,
    table: &TrustStore,
    brought: &BTreeMap<Digest, FunctionInfo>,
    before: &[Handed],
) -> Result<Handed, Problem> {
    let (reply, answer) = oneshot::channel();
    let find = |digest| {
        let brought = brought.get(&digest).cloned();
        brought.or_else(|| api.store.function(digest))
    };
    let submission = Submission::judged(
        text.as_bytes(),
        table,
        &api.current(),
        find,
        api.shared.clock().now(),
        ReplyTo::Request(reply),
    )?;
    let mut handed = Handed {
        submission,
        answer,
        fresh: true,
    };
    let twin = before.iter().find(|other| other.id() == handed.id());
    let known = match twin {
        Some(twin) => Some(twin.payload()),
        None => api.store.payload_of(handed.id())?,
    };
    match known {
        Some(other) if other != handed.payload() => {
            let detail = format!("{} is another task already: choose a new id", handed.id());
            return Err(Problem::new(CONFLICT, detail));
        }
        known => handed.fresh = known.is_none(),
    }
    Ok(handed)
}

/// Takes what was judged, but for the tasks.
fn take(api: &Api, trust: &[JointEnvelope], functions: &[Function]) -> Result<(), Problem> {
    for envelope in trust {
        let now = api.shared.clock().now();
        let bytes = envelope.to_json().into_bytes();
        api.trusted.take(&bytes, api.audience(), now)?;
    }
    if !trust.is_empty() {
        api.tell(Input::Revoke { pass: 0 })?;
    }
    for function in functions {
        let now = api.shared.clock().now();
        let image = (function.image.as_slice(), function.symbols.as_deref());
        let envelope = function.envelope.to_json();
        api.store
            .publish(&function.verified, &envelope, image, now)?;
    }
    Ok(())
}
