//! How things are, as text: for those who read it once, and what the screen
//! says in the same words.

use fades_orc::api::types::TaskSummary;
use fades_task::resource::Device;
use fades_task::result::Breakdown;
use fades_task::time::Time;

use super::model::{Model, word};
use crate::ask::render::number::{count, micros, moment};
use crate::ask::render::table::{Column, Table};
use crate::operate::doctor;
use crate::session::Session;

/// Ends in the text.
const ENDS: usize = 20;

/// Devices in the text, those first that need somebody.
const DEVICES: usize = 20;

/// A finding about the node: how good, what, in which words.
pub(super) type Cells = (&'static str, &'static str, String);

/// All of it.
pub(super) fn text(model: &Model, now: Time, session: &Session) -> String {
    let node = &model.node;
    let mut text = format!("{} FADES {}\n{}\n", node.name, node.version, sums(model));
    for (grade, what, detail) in findings(model) {
        if grade != "good" {
            text += &format!("{grade}: {what}: {detail}\n");
        }
    }
    let open: Vec<_> = model.tasks();
    let open = &open[..open.len() - model.ended().len()];
    text += &part(open_tasks(open, now).text(session));
    text += &part(ends(model).text(session));
    text += &part(devices(model).text(session));
    text
}

/// A table below what came before it, if it has rows.
fn part(table: String) -> String {
    match table.is_empty() {
        true => table,
        false => format!("\n{table}"),
    }
}

/// Tasks and devices, counted.
pub(super) fn sums(model: &Model) -> String {
    let (node, tasks) = (&model.node, model.node.tasks);
    let states = model.states().into_iter();
    let states: Vec<String> = states.map(|(word, n)| format!("{n} {word}")).collect();
    format!(
        "running {} of {}, queued {}, schedules {}, done {}, failed {}, cancelled {}; devices: {}",
        tasks.running,
        node.parallel,
        count(tasks.queued),
        count(tasks.standing),
        count(tasks.done),
        count(tasks.failed),
        count(tasks.cancelled),
        match (model.devices_known, states.is_empty()) {
            (false, _) => "not known yet".to_owned(),
            (true, true) => "none".to_owned(),
            (true, false) => states.join(", "),
        },
    )
}

fn open_tasks(tasks: &[&TaskSummary], now: Time) -> Table {
    let mut table = Table::new([
        Column::left("STATE"),
        Column::left("NAME"),
        Column::left("SERVICE"),
        Column::left("FUNCTION"),
        Column::right("FOR"),
    ]);
    for task in tasks {
        table.row([
            task.state.to_string(),
            task.name.to_string(),
            task.service.to_string(),
            task.function.name.to_string(),
            took(task, now),
        ]);
    }
    table
}

fn ends(model: &Model) -> Table {
    let phases = ["QUEUE", "RETRIEVE", "BOOT", "TRANSFER", "COMPUTE"].map(Column::right);
    let mut table = Table::new(
        ["STATE", "NAME", "SERVICE", "ENDED"]
            .map(Column::left)
            .into_iter()
            .chain(phases),
    );
    for task in model.ended().iter().take(ENDS) {
        let first = [
            task.state.to_string(),
            task.name.to_string(),
            task.service.to_string(),
            task.finished.map_or_else(String::new, moment),
        ];
        let parts = task.breakdown.as_ref().map(parts).unwrap_or_default();
        table.row(first.into_iter().chain(parts.map(micros)));
    }
    table
}

fn devices(model: &Model) -> Table {
    let names = ["STATE", "DEVICE", "SOURCE", "LOCATION", "HEARD", "REMARKS"];
    let mut table = Table::new(names.map(Column::left));
    for one in model.devices.iter().take(DEVICES) {
        table.row(device(one));
    }
    table
}

/// A device: how it does, its name, its source, its place, when it was heard,
/// what is wrong.
pub(super) fn device(device: &Device) -> [String; 6] {
    let live = device.liveness.as_ref();
    let newest = device.series.iter().filter_map(|s| s.newest).max();
    let heard = live.map_or(newest, |l| l.last_seen);
    [
        word(device).to_owned(),
        device.device.clone(),
        device.source.to_string(),
        device.location.clone(),
        heard.map_or_else(|| "never".to_owned(), moment),
        live.and_then(|l| l.error.clone()).unwrap_or_default(),
    ]
}

/// How the node is, as `fades doctor` says it of a node that runs; what needs
/// somebody comes first.
pub(super) fn findings(model: &Model) -> Vec<Cells> {
    let mut node = model.node.clone();
    if let Some(health) = &model.health {
        // It is told as it changes.
        node.broker.up = health.broker;
        node.store_error.clone_from(&health.store_error);
        node.shells.shortage.clone_from(&health.shortage);
    }
    let mut findings = doctor::of_node(&node);
    findings.sort_by_key(|(grade, ..)| match *grade {
        "MISSING" => 0,
        "better" => 1,
        _ => 2,
    });
    findings
}

/// How long it took, or takes so far.
pub(super) fn took(task: &TaskSummary, now: Time) -> String {
    let end = task.finished.unwrap_or(now);
    let begin = match task.finished {
        Some(_) => task.accepted,
        None => task.started.unwrap_or(task.accepted),
    };
    match task.finished {
        Some(_) => micros(end.0.saturating_sub(begin.0).max(0).unsigned_abs() / 1_000),
        None => super::draw::age(begin, end),
    }
}

/// The phases, microseconds, in their order.
pub(super) const fn parts(breakdown: &Breakdown) -> [u64; 5] {
    [
        breakdown.queue_us,
        breakdown.retrieve_us,
        breakdown.boot_us,
        breakdown.transfer_us,
        breakdown.compute_us,
    ]
}
