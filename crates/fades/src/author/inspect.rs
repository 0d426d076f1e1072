//! `fades inspect`: what a function says of itself, in a file, a registry or a folder.

use std::path::Path;

use fades_registry::function::{look, pull};
use fades_registry::reference::Reference;
use fades_task::quantity::Size;
use fades_trust::function::{Architecture, FunctionStatement};
use serde::Serialize;

use super::place::{Open, PlaceChoice, problem};
use super::pull::signatures;
use crate::ask::render;
use crate::ask::render::number::bytes;
use crate::cli::shared::Output;
use crate::keys::image::{self, envelope_path};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An image file, HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST, or oci:FOLDER:TAG
    what: String,
    #[command(flatten)]
    place: PlaceChoice,
    #[command(flatten)]
    output: Output,
}

/// What is known of a function.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    image: String,
    size: u64,
    /// Of what the artifact or the image says; the artifact's is not signed.
    says: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<String>,
    signatures: Vec<SignatureReport>,
    bills_of_materials: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SignatureReport {
    key: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
}

/// Carries out `fades inspect`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let path = Path::new(&args.what);
    let report = match path.is_file() {
        true => of_file(path)?,
        false => of_place(args, session)?,
    };
    session.data(&match args.output.json() {
        true => render::json(&report),
        false => text(&report),
    })?;
    Ok(Outcome::Done)
}

fn of_file(path: &Path) -> Result<Report, Problem> {
    let file = image::read(path, None)?;
    let beside = envelope_path(path);
    let envelopes: Vec<_> = std::fs::read(beside).into_iter().collect();
    let FunctionStatement {
        name,
        digest,
        size,
        abi_major,
        abi_minor,
        architecture,
        ..
    } = &file.statement;
    let mut says = vec![
        ("name".to_owned(), name.to_string()),
        ("abi".to_owned(), format!("{abi_major}.{abi_minor}")),
        ("architecture".to_owned(), architecture.to_string()),
        ("stack".to_owned(), Size(file.stack).to_string()),
        ("checkpoints".to_owned(), file.checkpoints.to_string()),
    ];
    if let Some(memory) = file.memory {
        says.push(("memory".to_owned(), Size(memory).to_string()));
    }
    Ok(Report {
        what: path.display().to_string(),
        image: digest.to_string(),
        size: *size,
        says,
        signatures: reports(&envelopes, *digest),
        bills_of_materials: usize::from(path.with_extension("cdx.json").is_file()),
        ..Report::default()
    })
}

fn of_place(args: &Args, session: &Session) -> Result<Report, Problem> {
    let reference: Reference = args
        .what
        .parse()
        .or_problem(|| format!("{} is neither a file nor in a registry", args.what))?;
    let shelf = args.place.open(&reference, Open::There, session)?;
    let here = Architecture::HERE.to_string();
    let found = look(shelf.as_ref(), &reference.which, &here)
        .map_err(|e| problem("look at", &reference, &e))?;
    // Who signed is below a signature, so the whole is fetched; it is small.
    let whole = pull(shelf.as_ref(), &reference.which, &here)
        .map_err(|e| problem("look at", &reference, &e))?;
    let plain = |key: &str| match key.rsplit_once("title") {
        Some(_) => "name".to_owned(),
        None => key.trim_start_matches("vnd.fades.").to_owned(),
    };
    let says = found.annotations.iter();
    Ok(Report {
        what: reference.to_string(),
        manifest: Some(found.manifest.to_string()),
        image: found.image.to_string(),
        size: found.size,
        says: says.map(|(k, v)| (plain(k), v.clone())).collect(),
        architectures: found.architectures,
        signatures: reports(&whole.signatures, found.image),
        bills_of_materials: whole.materials.len(),
    })
}

fn reports(envelopes: &[Vec<u8>], image: fades_task::identity::Digest) -> Vec<SignatureReport> {
    let signed = signatures(envelopes, image).into_iter();
    signed
        .map(|s| SignatureReport {
            key: s.envelope.key.to_string(),
            name: s.statement.name.to_string(),
            created: s.statement.created.map(|c| c.to_string()),
        })
        .collect()
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| text += &format!("{key:<14}{value}\n");
    line("function", &report.what);
    if let Some(manifest) = &report.manifest {
        line("manifest", manifest);
    }
    line("image", &report.image);
    line("size", &bytes(report.size));
    for (key, value) in &report.says {
        line(key, value);
    }
    if !report.architectures.is_empty() {
        line("index for", &report.architectures.join(", "));
    }
    for signature in &report.signatures {
        let SignatureReport { key, name, created } = signature;
        let when = created.as_ref().map_or(String::new(), |c| format!(", {c}"));
        line("signed by", &format!("key {key} as {name}{when}"));
    }
    if report.signatures.is_empty() {
        line("signed by", "nobody: no node takes it like this");
    }
    line(
        "materials",
        match report.bills_of_materials {
            0 => "no bill",
            _ => "CycloneDX",
        },
    );
    text
}
