//! `fades pull`: a function out of a registry or a layout folder, into files or onto a
//! node.

use std::path::{Path, PathBuf};

use fades_registry::function::{Artifact, pull};
use fades_registry::reference::Reference;
use fades_task::identity::{Digest, Name};
use fades_trust::envelope::{Envelope, PayloadType};
use fades_trust::function::{Architecture, FunctionStatement, image_digest};
use serde_json::json;

use super::place::{Open, PlaceChoice, problem};
use super::publish::upload;
use crate::ask::client::Client;
use crate::ask::render;
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Ink, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST, or oci:FOLDER:TAG
    from: Reference,
    /// Folder for NAME.fades, NAME.dsse, NAME.sym and NAME.cdx.json [default: .]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Upload it to a node, with the signature that it carries
    #[arg(long)]
    publish: bool,
    #[command(flatten)]
    place: PlaceChoice,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// A signature that is about the image which came with it.
pub(super) struct Signed {
    pub(super) envelope: Envelope,
    pub(super) statement: FunctionStatement,
}

/// Carries out `fades pull`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let shelf = args.place.open(&args.from, Open::There, session)?;
    let here = Architecture::HERE.to_string();
    let artifact = pull(shelf.as_ref(), &args.from.which, &here)
        .map_err(|e| problem("pull", &args.from, &e))?;
    let digest = image_digest(&artifact.image);
    let signed = signatures(&artifact.signatures, digest);
    if signed.is_empty() {
        let label = session.talk_ink(Ink::Odd, "warning:");
        session.talk(&format!(
            "{label} {} carries no signature that is about its image; no node takes it like this",
            args.from
        ));
    }
    let name = match signed.first() {
        Some(signed) => signed.statement.name.clone(),
        None => "function".parse().or_problem(|| "no name".to_owned())?,
    };
    if args.publish {
        publish(args, &artifact, &signed, session)?;
    }
    if args.out.is_some() || !args.publish {
        let out = args.out.as_deref().unwrap_or(Path::new("."));
        write(out, &name, &artifact, digest, signed.first(), session)?;
    }
    session.data(&match args.output.json() {
        true => render::json(&json!({
            "reference": args.from.to_string(),
            "name": name,
            "image": digest,
            "size": artifact.image.len(),
            "keys": signed.iter().map(|s| s.envelope.key).collect::<Vec<_>>(),
        })),
        false => format!("{name}@{digest}\n"),
    })?;
    Ok(Outcome::Done)
}

/// Those of `envelopes` that are about the image. Whether their keys are trusted is for
/// whoever runs it to say.
pub(super) fn signatures(envelopes: &[Vec<u8>], image: Digest) -> Vec<Signed> {
    let read = |bytes: &Vec<u8>| {
        let envelope = Envelope::parse(bytes).ok()?;
        let is_function = envelope.payload_type == PayloadType::Function.as_str();
        let statement: FunctionStatement = serde_json::from_slice(&envelope.payload).ok()?;
        let fits = is_function && statement.digest == image;
        fits.then_some(Signed {
            envelope,
            statement,
        })
    };
    envelopes.iter().filter_map(read).collect()
}

/// Offers the function to the node with one signature after the other.
fn publish(
    args: &Args,
    artifact: &Artifact,
    signed: &[Signed],
    session: &Session,
) -> Result<(), Problem> {
    let client = Client::find(&args.node, session)?;
    let symbols = artifact.symbols.clone();
    let symbols = symbols.and_then(|s| String::from_utf8(s).ok());
    let mut refused = Problem::refused(format!("node {} does not take it", client.target.name))
        .reason("it carries no signature that is about its image");
    for signed in signed {
        let envelope = signed.envelope.to_json();
        match upload(&artifact.image, symbols.clone(), envelope, &client) {
            Ok((info, again)) => {
                let now = if again { "had" } else { "has" };
                session.talk(&format!(
                    "node {} {now} {}, signed by {}",
                    client.target.name, info.name, info.signer
                ));
                return Ok(());
            }
            Err(problem) => refused = problem,
        }
    }
    Err(refused)
}

fn write(
    out: &Path,
    name: &Name,
    artifact: &Artifact,
    digest: Digest,
    signed: Option<&Signed>,
    session: &Session,
) -> Result<(), Problem> {
    std::fs::create_dir_all(out).or_problem(|| format!("cannot make {}", out.display()))?;
    let put = |ending: &str, bytes: &[u8]| {
        let path = out.join(format!("{name}.{ending}"));
        std::fs::write(&path, bytes).or_problem(|| format!("cannot write {}", path.display()))?;
        session.talk(&format!("wrote {}", path.display()));
        Ok::<_, Problem>(())
    };
    put("fades", &artifact.image)?;
    if let Some(symbols) = &artifact.symbols {
        let head = format!("{digest}\n").into_bytes();
        put("sym", &[head, symbols.clone()].concat())?;
    }
    if let Some(signed) = signed {
        put("dsse", signed.envelope.to_json().as_bytes())?;
    }
    match artifact.materials.first() {
        Some(materials) => put("cdx.json", materials),
        None => Ok(()),
    }
}
