//! `fades show`: what was asked, and what became of it.

use fades_orc::api::types::{TaskDetail, TaskSummary};
use fades_task::mtw::{Mtw, Near, Patterns, Retrieve};
use fades_task::replace::Replace;

use super::client::Client;
use super::render;
use super::render::number::moment;
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

/// Carries out `fades show`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let id = client.task_id(args.task.as_deref())?;
    let detail: TaskDetail = client.get(&format!("/v1/tasks/{id}"))?;
    let text = match args.output.json() {
        true => render::json(&detail),
        false => text(&detail, session),
    };
    session.data(&text)?;
    Ok(Outcome::Done)
}

fn text(detail: &TaskDetail, session: &Session) -> String {
    let mut text = String::new();
    for (label, value) in lines(&detail.summary, &detail.task) {
        let label = session.ink(Ink::Faint, &format!("{label:<9}"));
        text += &format!("{label} {}\n", visible(&value));
    }
    text
}

fn lines(summary: &TaskSummary, task: &Mtw) -> Vec<(&'static str, String)> {
    let credentials = &task.task;
    let mut lines = vec![
        (
            "task",
            format!("{} {} ({})", summary.id, summary.name, summary.state),
        ),
        (
            "asked by",
            format!("{}, signed by key {}", summary.service, summary.signer),
        ),
        ("accepted", moment(summary.accepted)),
    ];
    lines.extend(summary.started.map(|t| ("started", moment(t))));
    lines.extend(summary.finished.map(|t| ("finished", moment(t))));
    lines.push(("for", names(&credentials.r#for)));
    lines.push(("expires", moment(credentials.expires)));
    lines.push(("zone", credentials.zone.to_string()));
    lines.extend(credentials.finish_within.map(|d| ("within", d.to_string())));
    let skipped = match summary.skipped {
        0 => String::new(),
        n => format!("; {n} times left out"),
    };
    if let Some(schedule) = &task.schedule {
        lines.push(("schedule", format!("{schedule}{skipped}")));
    }
    if let Some(window) = &task.window {
        lines.push(("windows", format!("{window}{skipped}")));
    }
    if let Some(replace) = &task.replace {
        let Replace {
            task,
            after_failures,
        } = replace;
        let words = format!("{task}, until {after_failures} runs in a row have failed");
        lines.push(("replaces", words));
    }
    if summary.held {
        let words = "another task has its place; it stands again if that one's runs fail";
        lines.push(("held", words.to_owned()));
    }
    lines.extend(summary.due.map(|t| ("due", moment(t))));
    lines.extend(
        task.retrieve
            .iter()
            .map(|r| ("retrieve", retrieve(r, task))),
    );
    let function = &task.function;
    lines.push(("function", function.image.to_string()));
    if !function.params.is_empty() {
        let params = function.params.iter().map(|(k, v)| format!("{k}={v}"));
        lines.push(("params", params.collect::<Vec<_>>().join(" ")));
    }
    let limits = &function.limits;
    lines.push((
        "limits",
        format!(
            "memory {}, time {}, cpu {}, output {}, log {}",
            limits.memory, limits.time, limits.cpu, limits.output, limits.log
        ),
    ));
    let isolation: Vec<_> = function.isolation.iter().map(ToString::to_string).collect();
    lines.push(("isolation", isolation.join(" or ")));
    if !task.deliver.is_empty() {
        let to: Vec<_> = task.deliver.iter().map(|d| d.to.clone()).collect();
        lines.push(("deliver", names(&to)));
    }
    lines
}

fn names(names: &[fades_task::identity::Name]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A DTO in one line.
pub(crate) fn retrieve(r: &Retrieve, task: &Mtw) -> String {
    let mut parts = vec![format!("{}:", r.name)];
    let patterns = [
        ("kind", &r.kind),
        ("location", &r.location),
        ("device", &r.device),
    ];
    for (word, patterns) in patterns {
        if let Some(patterns) = patterns {
            parts.push(format!("{word} {}", patterns.as_slice().join("|")));
        }
    }
    parts.extend(r.source.as_ref().map(|s| format!("source {s}")));
    let labels = r.labels.iter();
    parts.extend(labels.map(|(name, globs)| format!("{name}={}", globs.as_slice().join("|"))));
    if let Some(Near { at, within }) = r.near {
        parts.push(format!("within {within} of {},{}", at[0], at[1]));
    }
    parts.extend(r.result.as_ref().map(|task| format!("answers of {task}")));
    match (r.last, r.from, r.to) {
        _ if r.now => parts.push("the newest".to_owned()),
        (None, None, None) if r.collect.is_some() => {
            let collect = r.collect.as_ref();
            let time = collect.and_then(|c| c.r#for);
            parts.push("as it arrives".to_owned());
            parts.extend(time.map(|d| format!("for {d}")));
            let count = collect.and_then(|c| c.count);
            parts.extend(count.map(|n| format!("up to {n} readings")));
        }
        (Some(last), ..) => parts.push(format!("the last {last}")),
        (None, None, None) => parts.push(match task.window {
            Some(_) => "of each window".to_owned(),
            None => "all times".to_owned(),
        }),
        (None, from, to) => {
            parts.extend(from.map(|t| format!("from {}", moment(t))));
            parts.extend(to.map(|t| format!("to {}", moment(t))));
        }
    }
    if let Some(aggregate) = r.aggregate {
        parts.push(format!("{} every {}", aggregate.of.word(), aggregate.every));
    }
    parts.extend(r.unit.as_ref().map(|u| format!("in {u}")));
    parts.extend(r.need.map(|s| format!("need {s}")));
    parts.extend(r.bad_rows.map(|s| format!("bad rows up to {s}")));
    parts.join(" ")
}

/// Globs given one by one.
pub(crate) fn patterns(given: &[String]) -> Option<Patterns> {
    match given {
        [] => None,
        [one] => Some(Patterns::One(one.clone())),
        many => Some(Patterns::Any(many.to_vec())),
    }
}
