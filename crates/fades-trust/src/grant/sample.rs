//! A grant that would allow what was refused, for an operator to write.

use std::collections::BTreeSet;

use fades_task::grant::History;
use fades_task::identity::Name;
use fades_task::mtw::{Dto, Retrieve, Take};
use fades_task::quantity::Duration;
use fades_task::time::Time;

use super::Asked;

const DAY: u64 = 86_400;

/// The lines of a table that allows a task, and not much more.
#[must_use]
pub fn of_task(request: Asked<'_>) -> Vec<String> {
    let mtw = request.mtw;
    let service = &mtw.task.service;
    let mut lines = head(service);
    lines.push(format!("functions = [\"{}\"]", mtw.function.image.name));
    lines.extend(data(&mtw.dtos(request.accepted, request.at), request.at));
    let destinations: Vec<String> = mtw.deliver.iter().map(|d| d.to.to_string()).collect();
    lines.extend(given("destinations", destinations));
    lines
}

/// Of one that allows a preview.
pub(super) fn of_preview(service: Option<&Name>, entries: &[Retrieve]) -> Vec<String> {
    let at = Time(i64::MAX);
    let dtos: Vec<Dto> = entries.iter().map(|entry| entry.resolve(at)).collect();
    let mut lines = service
        .map(head)
        .unwrap_or_else(|| vec!["[grant.NAME]".to_owned()]);
    lines.push("functions = [\"*\"]".to_owned());
    lines.extend(data(&dtos, at));
    lines.push("previews = true".to_owned());
    lines
}

fn head(service: &Name) -> Vec<String> {
    vec![
        format!("[grant.{}]", key(service)),
        format!("services = [\"{service}\"]"),
    ]
}

/// A name as a key of TOML.
fn key(name: &Name) -> String {
    match name.as_str().contains('.') {
        true => format!("\"{name}\""),
        false => name.to_string(),
    }
}

fn data(dtos: &[Dto], at: Time) -> Vec<String> {
    let dtos: Vec<&Dto> = dtos.iter().filter(|dto| dto.result.is_none()).collect();
    let mut lines = Vec::new();
    for (field, patterns) in [
        ("kinds", (|dto| &dto.kind) as fn(&Dto) -> &Vec<String>),
        ("locations", |dto| &dto.location),
        ("devices", |dto| &dto.device),
    ] {
        // One entry that asks for anything makes a list of no use.
        if dtos.iter().all(|dto| !patterns(dto).is_empty()) {
            let all: BTreeSet<String> = dtos.iter().flat_map(|d| patterns(d).clone()).collect();
            lines.extend(given(field, all.into_iter().collect()));
        }
    }
    let ranges = dtos.iter().filter(|dto| dto.take == Take::Range);
    if let Some(from) = ranges.map(|dto| dto.from).min() {
        lines.push(format!("history = \"{}\"", depth(from, at)));
    }
    if dtos.iter().any(|dto| dto.take != Take::Range) {
        lines.push("live = true".to_owned());
    }
    lines
}

fn depth(from: Time, at: Time) -> History {
    if from.0 == i64::MIN || at.0 == i64::MAX {
        return History::Any;
    }
    let nanoseconds = u64::try_from(at.0.saturating_sub(from.0)).unwrap_or(0);
    let days = nanoseconds.div_ceil(DAY * 1_000_000_000).max(1);
    History::Last(Duration::from_secs(days.saturating_mul(DAY)))
}

fn given(field: &str, patterns: Vec<String>) -> Option<String> {
    if patterns.is_empty() {
        return None;
    }
    let quoted: Vec<String> = patterns.iter().map(|p| format!("{p:?}")).collect();
    Some(format!("{field} = [{}]", quoted.join(", ")))
}
