//! `fades cancel`: ends a task, whatever its state.

use fades_task::result::{TaskResult, TaskState};

use super::client::Client;
use super::render;
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task, or the beginning of its id
    task: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades cancel`; the answer is no when the task had ended
/// otherwise before.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let id = client.task_id(Some(&args.task))?;
    let result: TaskResult = client.post(&format!("/v1/tasks/{id}/cancel"), &())?;
    if args.output.json() {
        session.data(&render::json(&result))?;
    } else {
        session.talk(&format!("task {id} is {}", result.state));
    }
    Ok(match result.state {
        TaskState::Cancelled => Outcome::Done,
        _ => Outcome::No,
    })
}
