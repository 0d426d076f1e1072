//! `fades trust`: whom a node trusts, changed by what administrators sign.
//!
//! Drafting, signing and handing in are commands of their own, so that those who
//! sign may do it one after the other, on hosts without any network.

mod draft;
mod show;

pub(crate) use self::show::in_short;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use fades_orc::api::types::TrustTaken;
use fades_trust::envelope::{ENVELOPE_MAX, PayloadType};
use fades_trust::joint::{JointEnvelope, SIGNATURES_MAX};
use fades_trust::key::SecretKey;
use fades_trust::revocation::RevocationList;
use fades_trust::update::{TrustUpdate, sign_update};
use hyper::Method;

use super::file;
use crate::ask::client::Client;
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show whom a node trusts, and which keys are revoked
    Show {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: NodeChoice,
    },
    /// Write the next table of keys, to be edited and signed
    Draft(draft::DraftArgs),
    /// Add a signature to a draft, or to what others have signed
    Sign(SignArgs),
    /// Hand in what enough administrators have signed
    Update {
        /// Signed tables of keys, or lists of revoked keys
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        node: NodeChoice,
    },
    /// Make and sign a list in which further keys are revoked
    Revoke(draft::RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// A draft (TOML), or the envelope to which a signature is added
    file: PathBuf,
    /// Your key: a name in your configuration, or a file
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// The file to write; FILE with the ending .dsse otherwise
    #[arg(long = "to", value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Carries out `fades trust`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    match &args.action {
        Action::Show { output, node } => show::run(output, node, session),
        Action::Draft(args) => draft::draft(args, session),
        Action::Sign(args) => sign(args, session),
        Action::Update { files, node } => update(files, node, session),
        Action::Revoke(args) => draft::revoke(args, session),
    }
}

/// The keys named.
fn secrets(given: &[String], session: &Session) -> Result<Vec<SecretKey>, Problem> {
    let read = |given: &String| file::read_secret(&file::secret_path(given, session)?);
    given.iter().map(read).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let cannot = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > ENVELOPE_MAX as u64 {
        return Err(Problem::new(cannot()).reason("it is larger than any envelope"));
    }
    std::fs::read(path).or_problem(cannot)
}

/// Whether a file has an envelope and no draft.
fn is_envelope(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

/// What administrators signed, or are about to.
pub(super) fn read_envelope(path: &Path) -> Result<JointEnvelope, Problem> {
    let cannot = || format!("cannot use {}", path.display());
    JointEnvelope::parse(&read(path)?).or_problem(cannot)
}

fn sign(args: &SignArgs, session: &Session) -> Result<Outcome, Problem> {
    let keys = secrets(&args.keys, session)?;
    let bytes = read(&args.file)?;
    let to = match (&args.to, is_envelope(&bytes)) {
        (Some(to), _) => to.clone(),
        (None, true) => args.file.clone(),
        (None, false) => args.file.with_extension("dsse"),
    };
    let cannot = || format!("cannot sign {}", args.file.display());
    let mut envelope = match is_envelope(&bytes) {
        true => read_envelope(&args.file)?,
        false => {
            let text = std::str::from_utf8(&bytes).or_problem(cannot)?;
            let update: TrustUpdate = toml::from_str(text).or_problem(cannot)?;
            update.table().or_problem(cannot)?;
            let first = keys.first().ok_or_else(|| Problem::new(cannot()))?;
            signed_before(&to, sign_update(&update, first))?
        }
    };
    keys.iter().for_each(|key| {
        envelope.sign(key);
    });
    write(&to, &envelope)?;
    session.talk(&format!(
        "{}: {}; signatures: {}; when they are enough: fades trust update {}",
        to.display(),
        words(&envelope),
        envelope.keys().count(),
        to.display()
    ));
    Ok(Outcome::Done)
}

/// What others have signed already of the same draft; nobody's signature is lost.
fn signed_before(to: &Path, new: JointEnvelope) -> Result<JointEnvelope, Problem> {
    if !to.exists() {
        return Ok(new);
    }
    let before = read_envelope(to)?;
    if before.payload_digest() == new.payload_digest() {
        return Ok(before);
    }
    Err(
        Problem::new(format!("{} has something else signed", to.display()))
            .reason("the draft was changed after that")
            .remedy("move it away, or name another file with --to; then everybody signs anew"),
    )
}

fn write(to: &Path, envelope: &JointEnvelope) -> Result<(), Problem> {
    let cannot = || format!("cannot write {}", to.display());
    let signatures = envelope.keys().count();
    if signatures > SIGNATURES_MAX {
        let reason = format!("it would have {signatures} signatures, at most {SIGNATURES_MAX}");
        return Err(Problem::new(cannot()).reason(reason));
    }
    super::key::replace(to, &(envelope.to_json() + "\n")).or_problem(cannot)
}

/// What is in an envelope, in words; nothing of it is checked.
fn words(envelope: &JointEnvelope) -> String {
    let payload = envelope.payload();
    let update = serde_json::from_slice::<TrustUpdate>(payload);
    let list = serde_json::from_slice::<RevocationList>(payload);
    match (update, list) {
        (Ok(update), _) => format!("table of keys, version {}", update.version),
        (_, Ok(list)) => format!(
            "revoked keys: {}, counter {}",
            list.revoked.len(),
            list.counter
        ),
        _ => "something that this program does not know".to_owned(),
    }
}

fn update(files: &[PathBuf], node: &NodeChoice, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(node, session)?;
    for path in files {
        let envelope = read_envelope(path)?;
        let kind = envelope.payload_type();
        let route = match kind == PayloadType::Revocations.as_str() {
            true => "/v1/revocations",
            false => "/v1/trust",
        };
        let body = envelope.to_json().into_bytes();
        let reply = client.send(Method::PUT, route, body.into(), "application/json")?;
        let taken: TrustTaken = reply.read()?;
        let state = &taken.state;
        let what = match kind == PayloadType::Revocations.as_str() {
            true => format!("revoked keys: {}, counter {},", state.revoked, taken.number),
            false => format!("table of keys, version {},", taken.number),
        };
        session.talk(&format!(
            "{}: {} is in force at node {}{}",
            path.display(),
            what,
            client.target.name,
            if taken.fresh { "" } else { ", as before" },
        ));
    }
    Ok(Outcome::Done)
}
