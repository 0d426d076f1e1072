//! `fades logs`: what a task's function logged.

use fades_orc::api::types::{LogAgain, LogEnd, LogLine, Logs};
use fades_task::identity::Name;

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
    /// Go on until the task has ended; with `-o json`, one line for each
    #[arg(short = 'f', long)]
    follow: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades logs`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let id = client.task_id(args.task.as_deref())?;
    if args.follow {
        return follow(&client, &id, args.output.json(), session);
    }
    let logs: Logs = client.get(&format!("/v1/tasks/{id}/logs"))?;
    if args.output.json() {
        session.data(&render::json(&logs))?;
        return Ok(Outcome::Done);
    }
    let lines = logs.lines.iter().map(|line| shown(line, session));
    session.data(&lines.collect::<String>())?;
    tell_cut(logs.cut, session);
    if logs.lines.is_empty() {
        session.talk("the function logged nothing");
    }
    Ok(Outcome::Done)
}

/// Prints lines as they are logged, until the task has ended.
fn follow(client: &Client, id: &Name, json: bool, session: &Session) -> Result<Outcome, Problem> {
    let mut stream = client.watch(&format!("/v1/tasks/{id}/logs?follow=true"))?;
    while let Some(told) = stream.next()? {
        match told.name.as_str() {
            "line" => {
                let line: LogLine = told.read()?;
                let text = match json {
                    true => render::json_line(&line),
                    false => shown(&line, session),
                };
                if !session.data_taken(&text)? {
                    return Ok(Outcome::Done);
                }
            }
            "again" => {
                let LogAgain { attempt } = told.read()?;
                session.talk(&format!(
                    "a part of the node died; this is attempt {attempt}, from its beginning"
                ));
            }
            "end" => return ended(id, told.read()?, session),
            // A newer node tells more.
            _ => {}
        }
    }
    Err(client.lost())
}

fn ended(id: &Name, end: LogEnd, session: &Session) -> Result<Outcome, Problem> {
    tell_cut(end.cut, session);
    match end.reason {
        None => Ok(Outcome::Done),
        Some(reason) => Err(Problem::new(format!("task {id} has not ended")).reason(reason)),
    }
}

fn shown(line: &LogLine, session: &Session) -> String {
    let (word, ink) = level(line.level);
    format!("{} {}\n", session.ink(ink, word), visible(&line.text))
}

fn tell_cut(cut: u64, session: &Session) {
    if cut > 0 {
        session.talk(&format!("{cut} bytes more were cut at limits.log"));
    }
}

const fn level(level: u32) -> (&'static str, Ink) {
    match level {
        1 => ("error", Ink::Bad),
        2 => ("warn ", Ink::Odd),
        3 => ("info ", Ink::Good),
        _ => ("debug", Ink::Faint),
    }
}
