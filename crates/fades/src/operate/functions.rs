//! `fades functions`: the functions that a node has.

use fades_orc::api::types::FunctionList;

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::{bytes, moment};
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whole digests
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades functions`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let list: FunctionList = client.get("/v1/functions")?;
    if args.output.json() {
        session.data(&render::json(&list.functions))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new([
        Column::left("FUNCTION"),
        Column::left("DIGEST"),
        Column::right("SIZE"),
        Column::left("SIGNER"),
        Column::left("PUBLISHED"),
        Column::left("LAST USE"),
    ]);
    for function in &list.functions {
        let digest = match args.long {
            true => function.digest.to_string(),
            false => function.digest.short(),
        };
        table.row([
            function.name.to_string(),
            digest,
            bytes(function.size.0),
            function.signer.to_string(),
            moment(function.published),
            function.last_use.map_or("never".to_owned(), moment),
        ]);
    }
    session.data(&table.text(session))?;
    if list.functions.is_empty() {
        session.talk("no functions yet; bring one with: fades publish IMAGE");
    }
    Ok(Outcome::Done)
}
