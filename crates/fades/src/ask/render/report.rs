//! What stood behind an answer: devices, readings, time, isolation, memory.

use fades_task::coverage::{BadRow, Coverage, Gap};
use fades_task::result::{Breakdown, TaskResult};

use super::answer;
use super::number::{bytes, count, micros, moment};
use super::table::visible;
use crate::session::{Ink, Session};

/// The whole result, for a person.
pub(crate) fn text(result: &TaskResult, session: &Session) -> String {
    let mut text = String::new();
    if let Some(value) = &result.answer {
        text += &answer::text(value, session);
        if !text.ends_with("\n\n") {
            text.push('\n');
        }
    }
    for (label, value) in lines(result) {
        let label = format!("{label:<9}");
        text += &format!("{} {}\n", session.ink(Ink::Faint, &label), visible(&value));
    }
    text
}

/// A time in which readings may be missing.
pub(crate) fn gap(gap: &Gap) -> String {
    let (from, to) = (moment(gap.from), moment(gap.to));
    let lost = match gap.readings {
        0 => String::new(),
        readings => format!(", {} readings lost", count(readings)),
    };
    format!("{} from {from} to {to}: {}{lost}", gap.source, gap.reason)
}

fn lines(result: &TaskResult) -> Vec<(&'static str, String)> {
    let mut lines = vec![("task", task(result))];
    if let Some(failure) = &result.failure {
        lines.push(("failure", failure.to_string()));
    }
    for coverage in &result.coverage {
        lines.push(("devices", devices(coverage, result.coverage.len() > 1)));
        for device in &coverage.absent {
            lines.push(("", device.to_string()));
        }
        lines.push(("readings", readings(coverage)));
        for row in &coverage.cited {
            lines.push(("", cited(row)));
        }
        for told in &coverage.gaps {
            lines.push(("gap", gap(told)));
        }
        if coverage.marked > 0 {
            let marked = count(coverage.marked);
            lines.push((
                "marked",
                format!("{marked} outside their valid range, used all the same"),
            ));
        }
    }
    if result.readings_bytes > 0 {
        let size = bytes(result.readings_bytes);
        lines.push((
            "answer",
            format!(
                "readings in batch layout, {size}: fades result {} --readings FILE",
                result.id
            ),
        ));
    }
    if result.state.is_final() {
        lines.push(("time", time(&result.breakdown)));
    }
    lines.push(("function", function(result)));
    if let Some(memory) = result.memory {
        lines.push((
            "memory",
            format!("{} of {}", bytes(memory.high_water.0), memory.limit),
        ));
    }
    if result.log_cut > 0 {
        lines.push((
            "log",
            format!("{} were cut at limits.log", bytes(result.log_cut)),
        ));
    }
    lines
}

fn task(result: &TaskResult) -> String {
    format!("{} {} ({})", result.id, result.name, result.state)
}

fn devices(coverage: &Coverage, named: bool) -> String {
    let mut text = format!(
        "{} of {} answered",
        count(coverage.answered),
        count(coverage.matched)
    );
    for (n, word) in [
        (coverage.empty, "had none in the range"),
        (coverage.failed, "failed"),
        (coverage.late, "were late"),
    ] {
        if n > 0 {
            text += &format!(", {} {word}", count(n));
        }
    }
    match named {
        true => format!("{text} ({})", coverage.name),
        false => text,
    }
}

fn readings(coverage: &Coverage) -> String {
    let used = count(coverage.used);
    let lost = coverage.lost_total();
    if lost == 0 {
        return format!("{used} used, none lost");
    }
    let reasons = coverage.lost.iter().filter(|(_, n)| **n > 0);
    let reasons: Vec<String> = reasons
        .map(|(reason, n)| format!("{} {}", count(*n), reason.words()))
        .collect();
    let read = count(coverage.read);
    format!(
        "{used} used of {read}, {} lost: {}",
        count(lost),
        reasons.join("; ")
    )
}

fn cited(row: &BadRow) -> String {
    let column = row
        .column
        .as_ref()
        .map(|c| format!(" {c}"))
        .unwrap_or_default();
    format!("{}:{}{column}: {}", row.file, row.line, row.reason.words())
}

fn time(breakdown: &Breakdown) -> String {
    let parts = [
        ("queue", breakdown.queue_us),
        ("retrieve", breakdown.retrieve_us),
        ("boot", breakdown.boot_us),
        ("transfer", breakdown.transfer_us),
        ("compute", breakdown.compute_us),
    ];
    let total = parts.iter().map(|p| p.1).sum();
    let parts: Vec<String> = parts
        .iter()
        .map(|(n, us)| format!("{n} {}", micros(*us)))
        .collect();
    format!("{}: {}", micros(total), parts.join(", "))
}

fn function(result: &TaskResult) -> String {
    let mut text = result.function.name.to_string();
    if let Some(digest) = result.function.digest {
        text += &format!("@sha256:{}", digest.short());
    }
    match result.isolation {
        Some(isolation) => text += &format!(", isolated as {isolation}"),
        None => text += ", never started",
    }
    if result.attempts > 1 {
        text += &format!(", {} attempts", result.attempts);
    }
    text
}

#[cfg(test)]
mod tests {
    use fades_task::coverage::{BadRow, Coverage, LossReason};

    use super::{cited, devices, readings};

    #[test]
    fn lost_readings_are_counted_by_reason() {
        let mut coverage = Coverage::new("pm".parse().unwrap());
        coverage.used = 4_377_754;
        assert_eq!(readings(&coverage), "4,377,754 used, none lost");
        coverage.read = 4_377_761;
        coverage.lost = [(LossReason::Truncated, 2), (LossReason::Empty, 5)].into();
        assert_eq!(
            readings(&coverage),
            "4,377,754 used of 4,377,761, 7 lost: 2 the row ends too early; 5 the field is empty"
        );
    }

    #[test]
    fn devices_that_had_nothing_or_failed_are_counted() {
        let mut coverage = Coverage::new("pm".parse().unwrap());
        (coverage.matched, coverage.answered, coverage.empty) = (24, 22, 2);
        assert_eq!(
            devices(&coverage, false),
            "22 of 24 answered, 2 had none in the range"
        );
    }

    #[test]
    fn a_bad_row_is_cited_by_its_place() {
        let row = BadRow {
            file: "a.csv".to_owned(),
            line: 7,
            column: Some("P1".to_owned()),
            reason: LossReason::Empty,
        };
        assert_eq!(cited(&row), "a.csv:7 P1: the field is empty");
    }
}
