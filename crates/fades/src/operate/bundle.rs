//! `fades bundle`: all that a node without a network shall take, in one file.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use fades_orc::api::types::{
    BUNDLE_FUNCTIONS_MAX, BUNDLE_MAX, BUNDLE_TASKS_MAX, BUNDLE_TRUST_MAX, Bundle, BundleFormat,
    BundleKind, BundlePart, BundleTaken, Publish,
};
use fades_task::mtw::Mtw;
use fades_trust::envelope::{ENVELOPE_MAX, Envelope, PayloadType};
use fades_trust::function::{FunctionStatement, image_digest};
use fades_trust::joint::JointEnvelope;
use fades_trust::revocation::RevocationList;
use fades_trust::update::TrustUpdate;
use hyper::Method;
use serde_json::Value;

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::bytes;
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::keys::{image, key};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put signed trust, functions and tasks into one file
    Make {
        /// The file to write; replaced when it is there
        bundle: PathBuf,
        /// Images, with their signatures beside them as NAME.dsse, and what
        /// `fades sign` and `fades trust sign` wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what is in a bundle, without a node; signatures are not checked
    Show {
        /// The bundle
        bundle: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Have a node take all of a bundle, or nothing
    Load {
        /// The bundle
        bundle: PathBuf,
        /// Only ask whether the node would take it
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: NodeChoice,
    },
}

/// Carries out `fades bundle`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    match &args.action {
        Action::Make { bundle, files } => make(bundle, files, session),
        Action::Show { bundle, output } => show(bundle, output, session),
        Action::Load {
            bundle,
            check,
            output,
            node,
        } => load(bundle, *check, output, node, session),
    }
}

fn make(to: &Path, files: &[PathBuf], session: &Session) -> Result<Outcome, Problem> {
    let mut bundle = Bundle {
        format: BundleFormat::One,
        trust: Vec::new(),
        functions: Vec::new(),
        tasks: Vec::new(),
    };
    for file in files {
        add(&mut bundle, file)?;
    }
    let cannot = || format!("cannot make {}", to.display());
    for (what, have, max) in [
        (
            "tables and lists of keys",
            bundle.trust.len(),
            BUNDLE_TRUST_MAX,
        ),
        ("functions", bundle.functions.len(), BUNDLE_FUNCTIONS_MAX),
        ("tasks", bundle.tasks.len(), BUNDLE_TASKS_MAX),
    ] {
        if have > max {
            let reason = format!("it would have {have} {what}, a bundle has at most {max}");
            let problem = Problem::new(cannot()).reason(reason);
            return Err(problem.remedy("make two bundles of it"));
        }
    }
    let text = serde_json::to_string(&bundle).or_problem(cannot)? + "\n";
    if text.len() > BUNDLE_MAX {
        let (have, max) = (bytes(text.len() as u64), bytes(BUNDLE_MAX as u64));
        let reason = format!("it would have {have}, a bundle has at most {max}");
        return Err(Problem::new(cannot())
            .reason(reason)
            .remedy("make two bundles of it"));
    }
    key::replace(to, &text).or_problem(cannot)?;
    session.talk(&format!(
        "{}: {}, {}; at the node: fades bundle load {}",
        to.display(),
        in_short(&bundle),
        bytes(text.len() as u64),
        to.display()
    ));
    Ok(Outcome::Done)
}

fn in_short(bundle: &Bundle) -> String {
    let count = |n: usize, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    format!(
        "{}, {}, {}",
        count(bundle.trust.len(), "change") + " of trust",
        count(bundle.functions.len(), "function"),
        count(bundle.tasks.len(), "task"),
    )
}

/// A file of at most `max` bytes.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, Problem> {
    let cannot = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > max as u64 {
        let (have, max) = (bytes(length), bytes(max as u64));
        return Err(Problem::new(cannot()).reason(format!("it has {have}, at most {max} are read")));
    }
    std::fs::read(path).or_problem(cannot)
}

fn add(bundle: &mut Bundle, path: &Path) -> Result<(), Problem> {
    let cannot = || format!("cannot put {} into a bundle", path.display());
    if image::is_elf(path) {
        bundle.functions.push(function(path)?);
        return Ok(());
    }
    let unsigned = || {
        Problem::new(cannot())
            .reason("it is neither an image nor signed")
            .remedy("fades sign FILE for a task or an image, fades trust sign FILE for trust")
    };
    let text = String::from_utf8(read(path, ENVELOPE_MAX)?).map_err(|_| unsigned())?;
    let envelope: Value = serde_json::from_str(&text).map_err(|_| unsigned())?;
    let kind = envelope["payloadType"].as_str().ok_or_else(unsigned)?;
    if kind == PayloadType::Task.as_str() {
        let envelope = Envelope::parse(text.as_bytes()).or_problem(cannot)?;
        bundle.tasks.push(envelope.to_json());
    } else if [PayloadType::Trust, PayloadType::Revocations]
        .map(PayloadType::as_str)
        .contains(&kind)
    {
        let envelope = JointEnvelope::parse(text.as_bytes()).or_problem(cannot)?;
        bundle.trust.push(envelope.to_json());
    } else if kind == PayloadType::Function.as_str() {
        return Err(Problem::new(cannot())
            .reason("it is the signature of a function")
            .remedy("name the image beside it"));
    } else {
        let reason = format!("it is a {kind}, which has no place there");
        return Err(Problem::new(cannot()).reason(reason));
    }
    Ok(())
}

/// An image with the signature beside it.
fn function(path: &Path) -> Result<Publish, Problem> {
    let cannot = || format!("cannot put {} into a bundle", path.display());
    let file = image::read(path, None)?;
    let beside = image::envelope_path(path);
    if !beside.is_file() {
        return Err(Problem::new(cannot())
            .reason(format!("there is no {}", beside.display()))
            .remedy(format!("fades sign {} --key NAME", path.display())));
    }
    let envelope = Envelope::parse(&read(&beside, ENVELOPE_MAX)?);
    let envelope = envelope.or_problem(|| format!("cannot use {}", beside.display()))?;
    let statement: FunctionStatement = serde_json::from_slice(&envelope.payload)
        .or_problem(|| format!("cannot use {} as a function's signature", beside.display()))?;
    let digest = image_digest(&file.bytes);
    if statement.digest != digest {
        let reason = format!(
            "{} is about {}, the image is {digest}",
            beside.display(),
            statement.digest
        );
        return Err(Problem::new(cannot())
            .reason(reason)
            .remedy(format!("fades sign {} --key NAME", path.display())));
    }
    Ok(Publish {
        envelope: envelope.to_json(),
        image: STANDARD.encode(&file.bytes),
        symbols: file.symbols,
    })
}

/// What is in a bundle's file.
fn open(path: &Path) -> Result<(Vec<u8>, Bundle), Problem> {
    let text = read(path, BUNDLE_MAX)?;
    let bundle = serde_json::from_slice(&text)
        .or_problem(|| format!("{} is no bundle, or one of a later version", path.display()))?;
    Ok((text, bundle))
}

/// What `bundle` says of itself, in the order in which it is taken.
fn parts(path: &Path, bundle: &Bundle) -> Result<Vec<(BundleKind, String)>, Problem> {
    let cannot = |what: &str, at: usize| format!("{}: {what}[{at}] cannot be used", path.display());
    let mut parts = Vec::new();
    for (at, text) in bundle.trust.iter().enumerate() {
        let cannot = || cannot("trust", at);
        let envelope = JointEnvelope::parse(text.as_bytes()).or_problem(cannot)?;
        let list = envelope.payload_type() == PayloadType::Revocations.as_str();
        parts.push(if list {
            let list: RevocationList =
                serde_json::from_slice(envelope.payload()).or_problem(cannot)?;
            (BundleKind::Revocations, list.counter.to_string())
        } else {
            let update: TrustUpdate =
                serde_json::from_slice(envelope.payload()).or_problem(cannot)?;
            (BundleKind::Trust, update.version.to_string())
        });
    }
    for (at, function) in bundle.functions.iter().enumerate() {
        let cannot = || cannot("functions", at);
        let envelope = Envelope::parse(function.envelope.as_bytes()).or_problem(cannot)?;
        let statement: FunctionStatement =
            serde_json::from_slice(&envelope.payload).or_problem(cannot)?;
        parts.push((
            BundleKind::Function,
            format!("{}@{}", statement.name, statement.digest.short()),
        ));
    }
    for (at, text) in bundle.tasks.iter().enumerate() {
        let cannot = || cannot("tasks", at);
        let envelope = Envelope::parse(text.as_bytes()).or_problem(cannot)?;
        let mtw: Mtw = serde_json::from_slice(&envelope.payload).or_problem(cannot)?;
        parts.push((BundleKind::Task, mtw.task.id.to_string()));
    }
    Ok(parts)
}

const fn word(kind: BundleKind) -> &'static str {
    match kind {
        BundleKind::Trust => "table of keys",
        BundleKind::Revocations => "revoked keys",
        BundleKind::Function => "function",
        BundleKind::Task => "task",
    }
}

fn show(path: &Path, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    let (_, bundle) = open(path)?;
    let parts = parts(path, &bundle)?;
    if output.json() {
        let part = |(kind, name)| serde_json::json!({ "kind": kind, "name": name });
        let parts: Vec<Value> = parts.into_iter().map(part).collect();
        session.data(&render::json(&parts))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new([Column::left("PART"), Column::left("NAME")]);
    for (kind, name) in parts {
        table.row([word(kind).to_owned(), name]);
    }
    session.data(&table.text(session))?;
    Ok(Outcome::Done)
}

fn load(
    path: &Path,
    check: bool,
    output: &Output,
    node: &NodeChoice,
    session: &Session,
) -> Result<Outcome, Problem> {
    let (text, _) = open(path)?;
    let client = Client::find(node, session)?;
    let route = match check {
        true => "/v1/bundles?check=true",
        false => "/v1/bundles",
    };
    let reply = client.send(Method::POST, route, text.into(), "application/json")?;
    let taken: BundleTaken = reply.read()?;
    if output.json() {
        session.data(&render::json(&taken))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new([
        Column::left("PART"),
        Column::left("NAME"),
        Column::left("SIGNER"),
        Column::left("NODE"),
    ]);
    for part in &taken.parts {
        let BundlePart {
            kind,
            name,
            signer,
            fresh,
        } = part;
        let signer = signer.as_ref().map_or(String::new(), ToString::to_string);
        let node = match (fresh, check) {
            (true, true) => "would take it",
            (true, false) => "has it now",
            (false, _) => "had it before",
        };
        table.row([
            word(*kind).to_owned(),
            name.clone(),
            signer,
            node.to_owned(),
        ]);
    }
    session.data(&table.text(session))?;
    if check {
        let name = &client.target.name;
        session.talk(&format!(
            "node {name} would take all of it; nothing was taken"
        ));
    }
    Ok(Outcome::Done)
}
