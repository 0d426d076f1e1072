//! How the recording of sources goes, in words.

use std::collections::BTreeMap;

use fades_task::identity::Name;
use fades_task::resource::Recording;

use crate::ask::render::number::{count, moment};
use crate::ask::render::report;
use crate::ask::render::table::visible;

/// All that is known of one source.
pub(super) fn whole(recording: &Recording) -> String {
    let mut text = format!("{}\n", numbers(recording));
    for gap in &recording.gaps {
        text += &format!("  {}\n", report::gap(gap));
    }
    text += &trouble(recording);
    text
}

/// A line for each source, and what an operator should know of it: what is wrong,
/// and the newest gap.
pub(super) fn overview(recording: &BTreeMap<Name, Recording>) -> String {
    let mut text = String::new();
    for (source, recording) in recording {
        text += &format!("{source}: {}\n", numbers(recording));
        text += &trouble(recording);
        if let Some(gap) = recording.gaps.last() {
            let gap = report::gap(gap);
            text += &match recording.gaps.len() - 1 {
                0 => format!("  {gap}\n"),
                older => format!("  {gap}; {older} before: fades source test {source}\n"),
            };
        }
    }
    text
}

fn numbers(recording: &Recording) -> String {
    let mut text = format!(
        "{} readings recorded, {} waiting, {} bytes on disk",
        count(recording.recorded),
        count(recording.waiting),
        count(recording.bytes)
    );
    if let Some(oldest) = recording.oldest {
        text += &format!(", oldest of {}", moment(oldest));
    }
    let (removed, lost) = (count(recording.expired), count(recording.lost));
    text + &format!("; {removed} removed, {lost} lost")
}

fn trouble(recording: &Recording) -> String {
    let trouble = recording.trouble.iter();
    trouble.map(|t| format!("  {}\n", visible(t))).collect()
}

#[cfg(test)]
mod tests {
    use fades_task::coverage::Gap;
    use fades_task::resource::Recording;
    use fades_task::time::Time;

    use super::{overview, whole};

    #[test]
    fn what_is_wrong_and_the_newest_gap_are_said_at_a_glance() {
        let gap = |hour: i64| Gap {
            source: "hall".parse().unwrap(),
            from: Time(hour * 3_600_000_000_000),
            to: Time((hour + 1) * 3_600_000_000_000),
            readings: hour as u64,
            reason: "the disk failed or was full".to_owned(),
        };
        let recording = Recording {
            recorded: 1_234,
            waiting: 7,
            bytes: 9,
            oldest: Some(Time(0)),
            expired: 0,
            lost: 5,
            gaps: vec![gap(1), gap(4)],
            trouble: Some("no \u{1b}[room".to_owned()),
        };
        let numbers = "1,234 readings recorded, 7 waiting, 9 bytes on disk, oldest of \
                       1970-01-01 00:00:00; 0 removed, 5 lost\n";
        let [older, newer] = [
            "hall from 1970-01-01 01:00:00 to 1970-01-01 02:00:00: the disk failed or was \
             full, 1 readings lost",
            "hall from 1970-01-01 04:00:00 to 1970-01-01 05:00:00: the disk failed or was \
             full, 4 readings lost",
        ];
        let trouble = "  no \u{fffd}[room\n";
        assert_eq!(
            overview(&[("hall".parse().unwrap(), recording.clone())].into()),
            format!("hall: {numbers}{trouble}  {newer}; 1 before: fades source test hall\n")
        );
        assert_eq!(
            whole(&recording),
            format!("{numbers}  {older}\n  {newer}\n{trouble}")
        );
    }
}
