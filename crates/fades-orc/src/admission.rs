//! Whether this node takes a task.
//!
//! Decided from the envelope, the node's configuration and the functions that
//! it has; nothing is stored or started here. A task that is refused leaves no
//! trace.

use fades_task::cbor;
use fades_task::identity::{Digest, ImageRef, Name};
use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_trust::envelope::Envelope;
use fades_trust::grant::{Asked, NotGranted};
use fades_trust::task::{Audience, VerifiedTask, verify_task};
use fades_trust::trust::TrustStore;
use serde_json::Value;

use crate::api::types::FunctionInfo;
use crate::config::{NodeConfig, QUEUE_MAX, STANDING_MAX};
use crate::core::OverLimit;

/// Most destinations of one answer.
pub const DESTINATIONS_MAX: usize = 16;

/// Why a task is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its signature, key, audience, expiry or form.
    #[error(transparent)]
    Trust(#[from] fades_trust::refusal::Refusal),
    /// No grant of the node allows it.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// A function that the node does not have.
    #[error(
        "function.image: this node has no {0}: publish it with `fades publish`, or pick one that `fades functions` lists"
    )]
    UnknownFunction(ImageRef),
    /// The digest is that of a function with another name.
    #[error("function.image: {digest} is published here as {published}, not as {asked}")]
    OtherName {
        /// The digest.
        digest: Digest,
        /// The name in the task.
        asked: Name,
        /// The name in the function's statement.
        published: Name,
    },
    /// Whoever published the function is trusted no longer.
    #[error(
        "function.image: {digest} was published with key {signer}, which was revoked as of {since}: {reason}; it runs again once somebody else has published the same image: fades publish"
    )]
    RevokedFunction {
        /// The function's digest.
        digest: Digest,
        /// Name of the key.
        signer: Name,
        /// Since when it is not to be trusted.
        since: Time,
        /// Why.
        reason: String,
    },
    /// A limit above the node's.
    #[error(
        "function.limits.{field} = \"{asked}\" is more than this node allows (\"{cap}\"): ask for less, or let its operator raise the cap"
    )]
    Limits {
        /// Which.
        field: &'static str,
        /// What was asked for.
        asked: String,
        /// What is allowed.
        cap: String,
    },
    /// More memory than the node has for functions.
    #[error(
        "function.limits.memory = \"{asked}\" is more than this node has for all functions together (\"{budget}\"): ask for less, or let its operator raise node.memory"
    )]
    Memory {
        /// What was asked for.
        asked: Size,
        /// What there is.
        budget: Size,
    },
    /// More batch files than the node has room for.
    #[error(
        "retrieve: a run needs room for two batches (\"{asked}\"), and this node has \"{budget}\" for all batches together: its operator can raise node.batches or lower node.chunk"
    )]
    Input {
        /// What a run takes.
        asked: Size,
        /// What there is.
        budget: Size,
    },
    /// Parameters that are too long.
    #[error("function.params take {have} bytes as CBOR, at most {max} are taken", max = Mtw::PARAMS_MAX)]
    ParamsLength {
        /// How many.
        have: usize,
    },
    /// Parameters that have no deterministic CBOR.
    #[error("function.params: {0}")]
    Params(#[from] cbor::CborError),
    /// None of the isolations accepted works here.
    #[error("function.isolation: none of {} works on this node: {reasons}", words(.accepted))]
    Isolation {
        /// What was accepted.
        accepted: Vec<Isolation>,
        /// Why each does not work.
        reasons: String,
    },
    /// A destination that was not configured.
    #[error(
        "deliver: this node has no destination {asked} (it has {known}): leave it out and read the answer with `fades result`, or let the operator add [destination.{asked}]"
    )]
    Destination {
        /// What was asked for.
        asked: Name,
        /// Those that there are, in words.
        known: String,
    },
    /// Too many destinations.
    #[error("deliver: {have} destinations, at most {DESTINATIONS_MAX} are taken")]
    Destinations {
        /// How many.
        have: usize,
    },
    /// The service has used what it may.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Too many tasks stand.
    #[error("{STANDING_MAX} tasks with a schedule stand already: cancel those that are not needed")]
    TooManyStanding,
    /// Too many tasks wait.
    #[error("{QUEUE_MAX} tasks wait already: try again when some have ended")]
    QueueFull,
}

fn words(isolations: &[Isolation]) -> String {
    let words: Vec<_> = isolations.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// A task that the node takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The task.
    pub task: VerifiedTask,
    /// Isolations to use, strongest first; at least one.
    pub isolations: Vec<Isolation>,
}

/// Whether the signed task in `envelope` is taken. `find` looks a function up.
///
/// # Errors
/// The first reason why not.
pub fn admit<E: From<Refusal>>(
    envelope: &Envelope,
    trust: &TrustStore,
    config: &NodeConfig,
    now: Time,
    find: impl FnOnce(Digest) -> Result<Option<FunctionInfo>, E>,
) -> Result<Admitted, E> {
    let node = Audience {
        name: &config.name,
        labels: &config.labels,
    };
    let task = verify_task(envelope, trust, node, now).map_err(Refusal::from)?;
    let function = find(task.image())?;
    check_publisher(function.as_ref(), trust)?;
    let isolations = check(task.mtw(), task.image(), function.as_ref(), config, now)?;
    Ok(Admitted { task, isolations })
}

/// A function is as good as whoever vouches for it now, not when it was published.
///
/// # Errors
/// When that key was revoked.
pub fn check_publisher(function: Option<&FunctionInfo>, trust: &TrustStore) -> Result<(), Refusal> {
    let revoked = function.and_then(|f| Some((f, trust.revocations().find(f.signer_key)?)));
    match revoked {
        None => Ok(()),
        Some((function, revoked)) => Err(Refusal::RevokedFunction {
            digest: function.digest,
            signer: function.signer.clone(),
            since: revoked.since,
            reason: revoked.reason.clone(),
        }),
    }
}

/// What does not depend on who signed: grants, function, limits, parameters,
/// isolation. Gives the isolations to use, strongest first.
///
/// # Errors
/// The first reason why not.
pub fn check(
    mtw: &Mtw,
    digest: Digest,
    function: Option<&FunctionInfo>,
    config: &NodeConfig,
    now: Time,
) -> Result<Vec<Isolation>, Refusal> {
    let asked = &mtw.function;
    let request = Asked {
        mtw,
        accepted: now,
        at: now,
    };
    let allowed = config.grants.decide(request)?;
    let function = function.ok_or_else(|| Refusal::UnknownFunction(asked.image.clone()))?;
    if function.name != asked.image.name {
        return Err(Refusal::OtherName {
            digest,
            asked: asked.image.name.clone(),
            published: function.name.clone(),
        });
    }
    if let Some((field, asked, cap)) = asked.limits.exceeds(&config.caps) {
        return Err(Refusal::Limits { field, asked, cap });
    }
    check_needs(mtw, config)?;
    check_params(mtw)?;
    check_destinations(mtw, config)?;
    let accepted = asked.isolation.iter().copied();
    let accepted: Vec<Isolation> = accepted.filter(|i| allowed.permits(*i)).collect();
    isolations(&accepted, config)
}

/// A task whose run would never fit, not even alone, would wait for ever.
fn check_needs(mtw: &Mtw, config: &NodeConfig) -> Result<(), Refusal> {
    let capacity = config.capacity();
    let need = capacity.need(mtw);
    if need.memory > capacity.memory {
        return Err(Refusal::Memory {
            asked: need.memory,
            budget: capacity.memory,
        });
    }
    if need.input > capacity.input {
        return Err(Refusal::Input {
            asked: need.input,
            budget: capacity.input,
        });
    }
    Ok(())
}

fn check_destinations(mtw: &Mtw, config: &NodeConfig) -> Result<(), Refusal> {
    if mtw.deliver.len() > DESTINATIONS_MAX {
        let have = mtw.deliver.len();
        return Err(Refusal::Destinations { have });
    }
    let known: Vec<&Name> = config
        .courier
        .iter()
        .flat_map(|c| &c.destinations)
        .collect();
    match mtw.deliver.iter().find(|d| !known.contains(&&d.to)) {
        None => Ok(()),
        Some(unknown) => {
            let words: Vec<&str> = known.iter().map(|n| n.as_str()).collect();
            Err(Refusal::Destination {
                asked: unknown.to.clone(),
                known: match words.as_slice() {
                    [] => "none".to_owned(),
                    words => words.join(", "),
                },
            })
        }
    }
}

fn check_params(mtw: &Mtw) -> Result<(), Refusal> {
    let params = params(mtw);
    if params.len() > Mtw::PARAMS_MAX {
        return Err(Refusal::ParamsLength { have: params.len() });
    }
    // JSON nests deeper than functions read.
    cbor::decode(&params)?;
    Ok(())
}

/// The parameters as a function gets them.
#[must_use]
pub fn params(mtw: &Mtw) -> Vec<u8> {
    cbor::encode(&Value::Object(mtw.function.params.clone()))
}

/// The isolations out of `accepted` that work here, strongest first.
pub(crate) fn isolations(
    accepted: &[Isolation],
    config: &NodeConfig,
) -> Result<Vec<Isolation>, Refusal> {
    let asked = || {
        let all = config.isolation.iter();
        all.filter(|i| accepted.contains(&i.isolation))
    };
    let usable: Vec<_> = asked().filter(|i| i.works).map(|i| i.isolation).collect();
    if usable.is_empty() {
        let reasons: Vec<_> = asked()
            .map(|i| format!("{}: {}", i.isolation, i.detail))
            .collect();
        return Err(Refusal::Isolation {
            accepted: accepted.to_vec(),
            reasons: reasons.join("; "),
        });
    }
    Ok(usable)
}

#[cfg(test)]
mod tests;
