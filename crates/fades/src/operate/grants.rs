//! `fades grants`: what is granted by a node's configuration, and why a task is
//! allowed or not. No node needs to run for it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use fades_task::grant::Grant;
use fades_task::identity::Name;
use fades_task::mtw::Mtw;
use fades_trust::envelope::Envelope;
use fades_trust::grant::{Asked, Considered, sample};
use serde::Serialize;

use super::config::folder_or_problem;
use crate::ask::draft::{self, Defaults};
use crate::ask::render;
use crate::ask::render::table::{Column, Table};
use crate::ask::target;
use crate::cli::shared::Output;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Ink, Session, now};
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The node's folder
    #[arg(long, value_name = "FOLDER", global = true)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Explain, condition by condition, whether a task is allowed
    Check {
        /// The task, TOML or JSON, or signed
        #[arg(value_name = "TASK")]
        file: PathBuf,
        /// As if this service asked
        #[arg(long, value_name = "NAME")]
        service: Option<Name>,
        #[command(flatten)]
        output: Output,
    },
    /// List the grants
    List {
        #[command(flatten)]
        output: Output,
    },
}

/// Carries out `fades grants`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = folder_or_problem(args.folder.as_deref())?;
    match &args.action {
        Action::List { output } => list(&NodeFile::read(&folder)?, output, session),
        Action::Check {
            file,
            service,
            output,
        } => {
            let mut mtw = task(&folder, file)?;
            if let Some(service) = service {
                mtw.task.service = service.clone();
            }
            check(&folder, &mtw, output, session)
        }
    }
}

/// The task in a file; of a signed one, whatever is below the signature.
fn task(folder: &Path, file: &Path) -> Result<Mtw, Problem> {
    let cannot = || format!("cannot use {}", file.display());
    let bytes = std::fs::read(file).or_problem(cannot)?;
    if let Ok(envelope) = Envelope::parse(&bytes) {
        return serde_json::from_slice(&envelope.payload).or_problem(cannot);
    }
    draft::from_file(file, &Defaults::for_target(&target::of_folder(folder)?)?)
}

/// The decision, for programs.
#[derive(Debug, Serialize)]
struct Decision {
    /// Name of the grant that allows the task.
    allowed: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    grants: Vec<Considered>,
}

fn check(folder: &Path, mtw: &Mtw, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    let grants = NodeFile::read(folder)?.grants();
    let grants = grants.or_problem(|| "the grants cannot be used".to_owned())?;
    let now = now();
    let asked = Asked {
        mtw,
        accepted: now,
        at: now,
    };
    let (considered, decided) = (grants.consider(asked), grants.decide(asked));
    let outcome = match decided {
        Ok(_) => Outcome::Done,
        Err(_) => Outcome::No,
    };
    if output.json() {
        let decision = Decision {
            refusal: decided.as_ref().err().map(ToString::to_string),
            allowed: decided.ok().map(|a| a.grant),
            grants: considered,
        };
        session.data(&render::json(&decision))?;
        return Ok(outcome);
    }
    let mut text: String = considered.iter().map(|c| explained(c, session)).collect();
    text += &match decided {
        Ok(allowed) => match allowed.export() {
            None => format!("allowed by grant {}\n", allowed.grant),
            Some(export) => format!("allowed by grant {}\nexport: {export}\n", allowed.grant),
        },
        Err(missing) => format!(
            "refused: {missing}\n\nThis would allow it, and not much more:\n\n{}\n",
            sample(asked).join("\n")
        ),
    };
    session.data(&text)?;
    Ok(outcome)
}

/// A grant, each of its conditions on a line.
fn explained(considered: &Considered, session: &Session) -> String {
    let allows = match considered.allows() {
        true => "allows it",
        false => "does not allow it",
    };
    let headings = ["", "IN RESPECT OF", "ASKED FOR", "GRANTED", ""];
    let mut table = Table::new(headings.map(Column::left));
    for condition in &considered.conditions {
        let met = if condition.met { "yes" } else { "NO" };
        table.row([
            met.to_owned(),
            condition.what.clone(),
            condition.asked.clone(),
            condition.granted.clone(),
            condition.because.clone().unwrap_or_default(),
        ]);
    }
    let head = format!("grant {} {allows}", considered.grant);
    format!(
        "{}\n{}\n",
        session.ink(Ink::Strong, &head),
        table.text(session)
    )
}

fn list(file: &NodeFile, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    if output.json() {
        session.data(&render::json(&file.grant))?;
        return Ok(Outcome::Done);
    }
    let headings = [
        "GRANT",
        "SERVICES",
        "FUNCTIONS",
        "DATA",
        "TIME",
        "DESTINATIONS",
        "EXPORT",
    ];
    let mut table = Table::new(headings.map(Column::left));
    for (name, grant) in &file.grant.0 {
        table.row([
            name.to_string(),
            grant.services.join(", "),
            grant.functions.join(", "),
            data(grant),
            time(grant),
            match grant.destinations.as_slice() {
                [] => "none".to_owned(),
                some => some.join(", "),
            },
            match grant.export {
                None => "anything".to_owned(),
                Some(_) => "bounded".to_owned(),
            },
        ]);
    }
    session.data(&table.text(session))?;
    if file.grant.0.is_empty() {
        session.talk(
            "nothing is granted: every task is refused; docs/grants.md says how to write one",
        );
    }
    Ok(Outcome::Done)
}

fn data(grant: &Grant) -> String {
    let lists = [
        ("kinds", &grant.kinds),
        ("locations", &grant.locations),
        ("devices", &grant.devices),
        ("sources", &grant.sources),
    ];
    let narrowed = lists
        .into_iter()
        .filter_map(|(field, patterns)| Some(format!("{field} {}", patterns.as_ref()?.join(", "))));
    let narrowed: Vec<String> = narrowed.collect();
    match narrowed.as_slice() {
        [] => "any".to_owned(),
        some => some.join("; "),
    }
}

fn time(grant: &Grant) -> String {
    let history = grant.history.map(|h| format!("history {h}"));
    let rest = [(grant.live, "live"), (grant.previews, "previews")];
    let rest = rest.into_iter().filter(|(given, _)| *given);
    let words: Vec<String> = history
        .into_iter()
        .chain(rest.map(|(_, word)| word.to_owned()))
        .collect();
    match words.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    }
}
