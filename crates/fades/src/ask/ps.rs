//! `fades ps`: the tasks of a node.

use fades_orc::api::types::{StreamNote, TaskList, TaskSummary};
use fades_task::time::Time;

use super::client::Client;
use super::render::number::{micros, moment};
use super::render::table::{Column, Table, visible};
use super::render::{self};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::{Session, now};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every task that the node still knows, not only the last 20
    #[arg(long)]
    all: bool,
    /// Go on with each new state of a task, until interrupted; with
    /// `-o json`, one line for each
    #[arg(short, long, conflicts_with_all = ["all", "of"])]
    watch: bool,
    /// Only the runs of this task, which has a schedule
    #[arg(long, value_name = "ID")]
    of: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades ps`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    if args.watch {
        return watch(&client, args.output.json(), session);
    }
    let of = match &args.of {
        Some(id) => format!("&of={}", client.task_id(Some(id))?),
        None => String::new(),
    };
    let tasks = match args.all {
        true => all(&client, &of)?,
        false => {
            client
                .get::<TaskList>(&format!("/v1/tasks?limit=20{of}"))?
                .tasks
        }
    };
    if args.output.json() {
        session.data(&render::json(&tasks))?;
        return Ok(Outcome::Done);
    }
    session.data(&table(&tasks, now()).text(session))?;
    if tasks.is_empty() {
        session.talk("no tasks yet");
    }
    Ok(Outcome::Done)
}

/// Prints the last tasks, and then each new state.
fn watch(client: &Client, json: bool, session: &Session) -> Result<Outcome, Problem> {
    // Before the list is asked for, so that nothing falls in between.
    let mut stream = client.watch("/v1/events")?;
    let mut tasks = client.get::<TaskList>("/v1/tasks?limit=20")?.tasks;
    match json {
        true => {
            tasks.reverse();
            session.data(&tasks.iter().map(render::json_line).collect::<String>())?;
        }
        false => session.data(&table(&tasks, now()).text(session))?,
    }
    while let Some(told) = stream.next()? {
        match told.name.as_str() {
            "task" => {
                let task: TaskSummary = told.read()?;
                let text = match json {
                    true => render::json_line(&task),
                    false => news(&task),
                };
                if !session.data_taken(&text)? {
                    return Ok(Outcome::Done);
                }
            }
            "missed" | "end" => session.talk(&told.read::<StreamNote>()?.reason),
            // How the node is, or what a newer one tells.
            _ => {}
        }
    }
    Err(client.lost())
}

/// A new state, in a line.
fn news(task: &TaskSummary) -> String {
    let at = task.finished.or(task.started).unwrap_or(task.accepted);
    let (at, id) = (moment(at), short(task.id.as_str()));
    let line = format!("{at}  {id}  {}  {}", task.name, task.state);
    visible(&line) + "\n"
}

fn all(client: &Client, of: &str) -> Result<Vec<TaskSummary>, Problem> {
    let mut tasks = Vec::new();
    let mut path = format!("/v1/tasks?limit=500{of}");
    loop {
        let list: TaskList = client.get(&path)?;
        tasks.extend(list.tasks);
        match list.next {
            Some(after) => path = format!("/v1/tasks?limit=500{of}&after={after}"),
            None => return Ok(tasks),
        }
    }
}

fn table(tasks: &[TaskSummary], now: Time) -> Table {
    let mut table = Table::new([
        Column::left("ID"),
        Column::left("NAME"),
        Column::left("SERVICE"),
        Column::left("FUNCTION"),
        Column::left("STATE"),
        Column::left("ACCEPTED"),
        Column::right("TOOK"),
    ]);
    for task in tasks {
        // A task that waits or runs has taken as long as it is here.
        let end = task.finished.unwrap_or(now);
        let took = end.0.saturating_sub(task.accepted.0).max(0) / 1_000;
        table.row([
            short(task.id.as_str()),
            task.name.to_string(),
            task.service.to_string(),
            task.function.name.to_string(),
            match task.held {
                true => "held".to_owned(),
                false => task.state.to_string(),
            },
            moment(task.accepted),
            micros(took.unsigned_abs()),
        ]);
    }
    table
}

/// Enough of an id to type; those that people chose stay whole.
fn short(id: &str) -> String {
    match id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => id[..8].to_owned(),
        false => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn random_ids_are_cut_and_chosen_ones_are_not() {
        assert_eq!(short("0123456789abcdef0123456789abcdef"), "01234567");
        assert_eq!(short("nightly-2026-11-02"), "nightly-2026-11-02");
    }
}
