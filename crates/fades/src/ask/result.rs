//! `fades result`: the answer of a task, and waiting for it.

use std::path::PathBuf;
use std::time::Instant;

use fades_orc::api::types::TaskList;
use fades_task::identity::Name;
use fades_task::result::{TaskResult, TaskState};
use hyper::Method;
use hyper::body::Bytes;

use super::client::Client;
use super::render::{self, report};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task, or the beginning of its id; the last one otherwise
    task: Option<String>,
    /// Wait until the task has ended; of a task with a schedule, until a run has
    #[arg(long)]
    wait: bool,
    /// Write the readings that the function answered with to a file, in batch
    /// layout
    #[arg(long, value_name = "FILE")]
    readings: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades result`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let id = client.task_id(args.task.as_deref())?;
    let result = match args.wait {
        true => wait(&client, &id, session)?,
        false => newest(client.get(&format!("/v1/tasks/{id}/result"))?, &client)?,
    };
    let id = &result.id;
    if let Some(file) = &args.readings {
        let path = format!("/v1/tasks/{id}/readings");
        let reply = client.send(Method::GET, &path, Bytes::new(), "application/json")?;
        std::fs::write(file, &reply.body)
            .or_problem(|| format!("cannot write {}", file.display()))?;
        session.talk(&format!(
            "wrote {} bytes to {}",
            reply.body.len(),
            file.display()
        ));
    }
    print(&result, &args.output, session)
}

/// Prints a result; the outcome is the task's.
pub(crate) fn print(
    result: &TaskResult,
    output: &Output,
    session: &Session,
) -> Result<Outcome, Problem> {
    let text = match output.json() {
        true => render::json(result),
        false => report::text(result, session),
    };
    session.data(&text)?;
    match result.state {
        TaskState::Done => Ok(Outcome::Done),
        TaskState::Failed | TaskState::Cancelled => Ok(Outcome::No),
        TaskState::Standing => {
            session.talk("no run of it has ended yet; see: fades ps --of ID");
            Ok(Outcome::CouldNotRun)
        }
        TaskState::Queued | TaskState::Running => {
            session.talk(&format!(
                "not finished; wait for it with: fades result {} --wait",
                result.id
            ));
            Ok(Outcome::CouldNotRun)
        }
    }
}

/// Asks until the task has ended; shows on a terminal what it does meanwhile.
pub(crate) fn wait(client: &Client, id: &Name, session: &Session) -> Result<TaskResult, Problem> {
    let begun = Instant::now();
    // A second each, so that the time shown goes on.
    let path = format!("/v1/tasks/{id}/result?wait=1s");
    loop {
        let result: TaskResult = client.get(&path)?;
        if result.state.is_final() {
            session.progress_end();
            return Ok(result);
        }
        if result.state == TaskState::Standing {
            let run = newest(result.clone(), client)?;
            if run.state.is_final() {
                session.progress_end();
                return Ok(run);
            }
        }
        session.progress(&progress(&result, begun.elapsed().as_secs()));
    }
}

/// Of a task with a schedule, the result of its newest run that has ended.
fn newest(result: TaskResult, client: &Client) -> Result<TaskResult, Problem> {
    if result.state != TaskState::Standing {
        return Ok(result);
    }
    let runs: TaskList = client.get(&format!("/v1/tasks?of={}&limit=20", result.id))?;
    let ended = runs.tasks.iter().find(|run| run.state.is_final());
    match ended {
        Some(run) => client.get(&format!("/v1/tasks/{}/result", run.id)),
        None => Ok(result),
    }
}

fn progress(result: &TaskResult, seconds: u64) -> String {
    let attempt = match result.attempts {
        0 | 1 => String::new(),
        n => format!(", attempt {n}"),
    };
    format!("{} is {}{attempt}, {seconds} s", result.name, result.state)
}
