//! `fades schema`: the JSON Schema of what people and programs write.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fades_task::mtw::Mtw;
use schemars::schema_for;

use crate::ask::render;
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of what: a task, or node.toml
    #[arg(value_parser = PossibleValuesParser::new(["task", "node"]).map(|w| subject(&w)))]
    of: Subject,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Task,
    Node,
}

fn subject(word: &str) -> Subject {
    match word {
        "node" => Subject::Node,
        _ => Subject::Task,
    }
}

/// Carries out `fades schema`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let schema = match args.of {
        Subject::Task => schema_for!(Mtw),
        Subject::Node => schema_for!(NodeFile),
    };
    session.data(&render::json(&schema))?;
    Ok(Outcome::Done)
}
