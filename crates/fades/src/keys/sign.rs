//! `fades sign`: puts a signature on a task file or an image.

use std::path::{Path, PathBuf};

use fades_trust::function::sign_function;
use fades_trust::key::SecretKey;
use fades_trust::task::sign_task;

use super::{file, image};
use crate::ask::client::Client;
use crate::ask::draft::{self, Defaults};
use crate::ask::target;
use crate::cli::shared::NodeChoice;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A task (TOML or JSON) or an image
    file: PathBuf,
    /// The key: a name in your configuration, or a file; that of the node's
    /// configuration otherwise
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The file to write; FILE with the ending .dsse otherwise
    #[arg(long = "to", value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades sign`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let envelope = match image::is_elf(&args.file) {
        true => {
            let image = image::read(&args.file, None)?;
            sign_function(&image.statement, &key(args, true, session)?)
        }
        false => {
            let mut target = target::find(&args.node, session)?;
            if target.unnamed {
                target = Client::find(&args.node, session)?.target;
            }
            let mtw = draft::from_file(&args.file, &Defaults::for_target(&target)?)?;
            if mtw.function.image.digest.is_none() {
                return Err(not_pinned(&args.file, mtw.function.image.name.as_str()));
            }
            sign_task(&mtw, &key(args, false, session)?)
        }
    };
    let to = args
        .to
        .clone()
        .unwrap_or_else(|| image::envelope_path(&args.file));
    std::fs::write(&to, envelope.to_json() + "\n")
        .or_problem(|| format!("cannot write {}", to.display()))?;
    session.talk(&format!(
        "signed by key {}: {}",
        envelope.key.short(),
        to.display()
    ));
    Ok(Outcome::Done)
}

fn not_pinned(path: &Path, function: &str) -> Problem {
    Problem::new(format!(
        "{} names {function} without its digest",
        path.display()
    ))
    .reason("a task is signed for one image")
    .remedy(format!(
        "write image = \"{function}@sha256:...\", as `fades functions --long` lists it"
    ))
}

/// The key named, or the one that the node's configuration names.
fn key(args: &Args, publish: bool, session: &Session) -> Result<SecretKey, Problem> {
    if let Some(given) = &args.key {
        return file::read_secret(&file::secret_path(given, session)?);
    }
    let target = target::find(&args.node, session)?;
    let path = if publish {
        target.publish_key
    } else {
        target.ask_key
    };
    match path {
        Some(path) => file::read_secret(&path),
        None => Err(Problem::new("no key is named").remedy("fades sign FILE --key NAME")),
    }
}
