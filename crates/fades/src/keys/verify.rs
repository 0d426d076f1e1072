//! `fades verify`: checks a signature, without a node.
//!
//! Against a table of trusted keys everything is checked that a node checks;
//! against one's own public keys, whose roles nobody wrote down, the signature
//! and the image.

use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_task::mtw::Mtw;
use fades_trust::envelope::{Envelope, PayloadType};
use fades_trust::function::{FunctionStatement, verify_function};
use fades_trust::joint::JointEnvelope;
use fades_trust::key::PublicKey;
use fades_trust::revocation::verify_revocations;
use fades_trust::task::{Audience, verify_task};
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use fades_trust::update::verify_update;

use super::{file, key};
use crate::ask::target;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Session, now};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A signed task, the envelope of an image, or what administrators signed
    file: PathBuf,
    /// The image that the envelope speaks of; the .fades file beside it otherwise
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A table of trusted keys; that of the node here otherwise, or your own keys
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// For this node; any of its audience otherwise
    #[arg(long, value_name = "NAME")]
    r#for: Option<Name>,
}

/// Carries out `fades verify`; the answer is no when a signature is not good.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let bytes = read(&args.file)?;
    let refused = |reason: String| {
        Problem::refused(format!("{} is not to be trusted", args.file.display())).reason(reason)
    };
    if let Some(envelope) = joint(&bytes) {
        let words = governing(args, &envelope, session)?.map_err(refused)?;
        session.talk(&format!("good: {words}"));
        return Ok(Outcome::Done);
    }
    let envelope = Envelope::parse(&bytes).map_err(|e| refused(e.to_string()))?;
    let checked = match envelope.payload_type == PayloadType::Function.as_str() {
        true => function(args, &envelope, session)?,
        false => task(args, &envelope, session)?,
    };
    let words = checked.map_err(refused)?;
    session.talk(&format!("good: {words}"));
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let cannot = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > fades_trust::envelope::ENVELOPE_MAX as u64 {
        return Err(Problem::refused(cannot()).reason("it is larger than any envelope"));
    }
    std::fs::read(path).or_problem(cannot)
}

/// What administrators sign, if it is that.
fn joint(bytes: &[u8]) -> Option<JointEnvelope> {
    let kinds = [PayloadType::Trust, PayloadType::Revocations];
    let envelope = JointEnvelope::parse(bytes).ok()?;
    let named = |kind: &PayloadType| kind.as_str() == envelope.payload_type();
    kinds.iter().any(named).then_some(envelope)
}

/// What is good about a table of keys or a list of revoked ones, or why it is not.
/// Whether it goes on from what a node has is for the node to say.
fn governing(
    args: &Args,
    envelope: &JointEnvelope,
    session: &Session,
) -> Result<Result<String, String>, Problem> {
    let store = keys(args, Vec::new(), session)?;
    let by = |signers: &[Name]| {
        let names: Vec<&str> = signers.iter().map(Name::as_str).collect();
        names.join(", ")
    };
    if envelope.payload_type() == PayloadType::Revocations.as_str() {
        let verified = verify_revocations(envelope, &store, now());
        return Ok(verified.map_err(|e| e.to_string()).map(|good| {
            let revoked = good.revocations();
            format!(
                "revoked keys: {}, counter {}, signed by {}",
                revoked.iter().len(),
                revoked.counter(),
                by(good.signers())
            )
        }));
    }
    let node = args
        .r#for
        .as_ref()
        .map(|name| Audience { name, labels: &[] });
    let verified = verify_update(envelope, &store, node, now());
    Ok(verified.map_err(|e| e.to_string()).map(|good| {
        format!(
            "table of {} keys, version {}, signed by {}",
            good.table().keys().len(),
            good.table().version(),
            by(good.signers())
        )
    }))
}

/// What is good about a function, or why it is not.
fn function(
    args: &Args,
    envelope: &Envelope,
    session: &Session,
) -> Result<Result<String, String>, Problem> {
    let path = args
        .image
        .clone()
        .unwrap_or_else(|| args.file.with_extension("fades"));
    if !path.is_file() {
        return Err(
            Problem::new(format!("the image {} is not there", path.display()))
                .remedy("name it with --image FILE"),
        );
    }
    let bytes = std::fs::read(&path).or_problem(|| format!("cannot read {}", path.display()))?;
    let store = keys(args, Vec::new(), session)?;
    Ok(match verify_function(envelope, &bytes, &store, now()) {
        Ok(good) => {
            let FunctionStatement { name, digest, .. } = good.statement();
            Ok(format!(
                "function {name}@{digest}, signed by {}",
                good.signer()
            ))
        }
        Err(refusal) => Err(refusal.to_string()),
    })
}

fn task(
    args: &Args,
    envelope: &Envelope,
    session: &Session,
) -> Result<Result<String, String>, Problem> {
    // Read before it is trusted, to know for whom it says that it is.
    let claimed = serde_json::from_slice::<Mtw>(&envelope.payload).ok();
    let services = claimed.iter().map(|m| m.task.service.clone()).collect();
    let store = keys(args, services, session)?;
    let audience = claimed.and_then(|m| m.task.r#for.into_iter().next());
    let name = match args.r#for.clone().or(audience) {
        Some(name) => name,
        None => "nobody".parse().or_problem(|| "no node".to_owned())?,
    };
    let node = Audience {
        name: &name,
        labels: &[],
    };
    Ok(match verify_task(envelope, &store, node, now()) {
        Ok(good) => {
            let task = &good.mtw().task;
            Ok(format!(
                "task {} ({}) of service {} for {name} until {}, signed by {}",
                task.id,
                task.name,
                task.service,
                task.expires,
                good.signer()
            ))
        }
        Err(refusal) => Err(refusal.to_string()),
    })
}

/// The keys to check against.
fn keys(args: &Args, services: Vec<Name>, session: &Session) -> Result<TrustStore, Problem> {
    if let Some(path) = &args.trust {
        return key::read_trust_file(path);
    }
    if let Some(folder) = target::node_folder(None) {
        return key::read_trust(&folder);
    }
    let mut store = TrustStore::default();
    for (name, public) in file::user_keys(session)? {
        let key = own(&name, public, &services)?;
        // The same key under two names is the same key.
        let _ = store.add(key);
    }
    if store.keys().is_empty() {
        return Err(Problem::new("no keys to check against")
            .reason("no --trust, no node's folder here, no keys of your own")
            .remedy("fades verify FILE --trust trust.toml"));
    }
    session.talk("checked against your own keys, as if each had every role");
    Ok(store)
}

fn own(name: &str, public: PublicKey, services: &[Name]) -> Result<TrustedKey, Problem> {
    let mut roles = vec![Role::Publish, Role::Read];
    if !services.is_empty() {
        roles.push(Role::Submit);
    }
    Ok(TrustedKey {
        name: name
            .parse()
            .or_problem(|| format!("the key {name} has no usable name"))?,
        public,
        roles,
        services: services.to_vec(),
        development: false,
        not_after: None,
    })
}
