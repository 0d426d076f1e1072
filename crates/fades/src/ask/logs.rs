//! `fades logs`: what a task's function logged.

use fades_orc::api::types::Logs;

use super::client::Client;
use super::render;
use super::render::table::visible;
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::{Ink, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task, or the beginning of its id; the last one otherwise
    task: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades logs`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let id = client.task_id(args.task.as_deref())?;
    let logs: Logs = client.get(&format!("/v1/tasks/{id}/logs"))?;
    if args.output.json() {
        session.data(&render::json(&logs))?;
        return Ok(Outcome::Done);
    }
    let lines = logs.lines.iter().map(|line| {
        let (word, ink) = level(line.level);
        format!("{} {}\n", session.ink(ink, word), visible(&line.text))
    });
    session.data(&lines.collect::<String>())?;
    if logs.cut > 0 {
        session.talk(&format!("{} bytes more were cut at limits.log", logs.cut));
    }
    if logs.lines.is_empty() {
        session.talk("the function logged nothing");
    }
    Ok(Outcome::Done)
}

const fn level(level: u32) -> (&'static str, Ink) {
    match level {
        1 => ("error", Ink::Bad),
        2 => ("warn ", Ink::Odd),
        3 => ("info ", Ink::Good),
        _ => ("debug", Ink::Faint),
    }
}
