//! What would happen to a task, for `fades submit --dry-run`.

use std::collections::BTreeSet;

use fades_orc::api::types::Plan;
use fades_task::mtw::Mtw;
use fades_task::resource::{Device, Preview};

use super::render::number::{bytes, count};
use super::render::table::{Column, Table, visible};
use super::show;
use crate::session::{Ink, Session};

/// Most devices that are listed.
const DEVICES_SHOWN: usize = 30;

/// The plan's text.
pub(crate) fn text(plan: &Plan, mtw: &Mtw, session: &Session) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let label = session.ink(Ink::Faint, &format!("{label:<9}"));
        text += &format!("{label} {}\n", visible(value));
    };
    let function = plan.function.as_ref().unwrap_or(&mtw.function.image);
    line("function", &function.to_string());
    line(
        "isolation",
        &plan
            .isolation
            .map_or("none that works here".to_owned(), |i| i.to_string()),
    );
    line("memory", &plan.memory.to_string());
    mtw.retrieve
        .iter()
        .for_each(|r| line("retrieve", &show::retrieve(r, mtw)));
    for preview in &plan.retrieve {
        line("matches", &matches(preview));
    }
    if let Some(refusal) = &plan.retrieve_refusal {
        line("matches", refusal);
    }
    let decision = match decision(plan) {
        Decision::Refused(why) => session.ink(Ink::Bad, &format!("refused: {}", visible(why))),
        Decision::WouldFail => session.ink(Ink::Bad, "accepted, and would fail: no readings"),
        Decision::Good => session.ink(Ink::Good, "would be accepted"),
    };
    text += &format!("{} {decision}\n", session.ink(Ink::Faint, "decision "));
    for preview in &plan.retrieve {
        text += &format!("\n{}", devices(&preview.devices, session));
    }
    text
}

/// What would become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision<'a> {
    /// It would not be taken.
    Refused(&'a str),
    /// It would be taken, and there would be nothing to answer with.
    WouldFail,
    /// It would be taken, and has readings.
    Good,
}

/// Reads the decision out of a plan.
pub(crate) fn decision(plan: &Plan) -> Decision<'_> {
    let silent = plan.retrieve.iter().any(|p| p.readings == 0);
    match &plan.refusal {
        Some(refusal) => Decision::Refused(refusal),
        None if silent || plan.retrieve_refusal.is_some() => Decision::WouldFail,
        None => Decision::Good,
    }
}

fn matches(preview: &Preview) -> String {
    // A device that moves is listed at each of its locations.
    let devices: BTreeSet<_> = preview
        .devices
        .iter()
        .map(|d| (&d.source, &d.device))
        .collect();
    format!(
        "{}: {} devices, {} readings, {} of input",
        preview.name,
        devices.len(),
        count(preview.readings),
        bytes(preview.batch_bytes)
    )
}

fn devices(devices: &[Device], session: &Session) -> String {
    let mut table = Table::new(["DEVICE", "LOCATION", "SOURCE", "KINDS"].map(Column::left));
    for device in devices.iter().take(DEVICES_SHOWN) {
        let kinds: Vec<&str> = device.series.iter().map(|s| s.kind.as_str()).collect();
        let location = device.location.clone();
        table.row([
            device.device.clone(),
            location,
            device.source.to_string(),
            kinds.join(" "),
        ]);
    }
    let mut text = table.text(session);
    if devices.len() > DEVICES_SHOWN {
        text += &format!("and {} more\n", devices.len() - DEVICES_SHOWN);
    }
    text
}
