//! Functions that attack, one behaviour each, on every isolation: how each ends,
//! with an honest function beside them that must not notice.
//!
//! The table in `docs/hostile-functions.md` is made of the list here, by
//! `cargo xtask hostile`; how each case really ends is what the tests compare.

use std::fmt::Write as _;
use std::path::Path;

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::message::Feed;
use fades_task::quantity::{Duration as Span, Size};

use crate::on_every_isolation;
use crate::tending::Deed;

mod cases;

use cases::{CASES, Case, GROUPS};

on_every_isolation! {
    every_attack_ends_as_it_should_and_an_honest_neighbour_does_not_notice,
}

/// Addresses of the host's, which no function has.
const MONITOR: u64 = 0x6000_0000;
const DOORBELL: u64 = 0x7000_0000;
const WINDOW: u64 = 0x10_0000_0000;

/// A way in which a run ends, in the words of a result.
fn kind(exit: &Exit) -> &'static str {
    match exit {
        Exit::Done => "done",
        Exit::Aborted { .. } => "aborted",
        Exit::Panicked { .. } => "panicked",
        Exit::OutOfMemory { .. } => "out-of-memory",
        Exit::Fault(_) => "fault",
        Exit::Deadline { .. } => "deadline",
        Exit::OutputOverflow { .. } => "output-overflow",
        Exit::Misuse { .. } => "misuse",
        Exit::Killed { .. } => "killed",
    }
}

/// The deed of a case, within limits that are reached soon.
fn deed(case: &Case, on: Isolation) -> Deed {
    Deed::new(on, case.deed)
        .with("address", case.address)
        .with("n", case.n)
        .within(|limits| {
            limits.memory = Size(2 << 20);
            limits.output = Size(4096);
            limits.log = Size(1000);
            if case.wanted(on) == "deadline" {
                limits.time = Span(300_000_000);
            }
        })
}

fn every_attack_ends_as_it_should_and_an_honest_neighbour_does_not_notice(on: Isolation) {
    // In an emulated machine all of it takes minutes.
    let quiet = Deed::new(on, "nothing").within(|limits| {
        limits.time = Span::from_secs(1800);
        // There, waiting takes time of the processor as well.
        limits.cpu = limits.time;
    });
    let neighbour = quiet.begin();
    assert_eq!(neighbour.wait_until_ready(), on);
    let mut wrong = Vec::new();
    for case in &CASES {
        let outcome = deed(case, on).run();
        let exit = &outcome.ended().exit;
        let logged: usize = outcome.logs.iter().map(|(_, line)| line.len()).sum();
        if kind(exit) != case.wanted(on) || logged > 1000 {
            wrong.push(format!(
                "{} {:#x} {}: {exit}, not {}; {logged} bytes logged",
                case.deed,
                case.address,
                case.n,
                case.wanted(on)
            ));
        }
        // Of whoever ended in any other way, nothing is kept.
        if *exit == Exit::Done {
            let answer = outcome.answer();
            for found in ["dirty", "stray"] {
                assert_eq!(answer.get(found).unwrap_or(&0.into()), 0, "{}", case.deed);
            }
        } else {
            assert_eq!(outcome.ended().answer_bytes, 0, "{}", case.deed);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    neighbour.feed_batch(&quiet.batches[0]);
    neighbour.feed(&Feed::Finish);
    assert_eq!(neighbour.outcome().answer()["rows"], 3);
}

/// The document, made of the list.
fn document() -> String {
    let mut text = format!(
        "{}\n{} functions attack, each in one way, on each isolation:\n",
        include_str!("hostile/preface.md"),
        CASES.len()
    );
    for (group, means) in GROUPS {
        let _ = write!(
            text,
            "\n## {means}\n\n| the function | microvm | process |\n|---|---|---|\n"
        );
        for case in CASES.iter().filter(|case| case.group == group) {
            let [vm, process] = [Isolation::Microvm, Isolation::Process].map(|on| case.wanted(on));
            let _ = writeln!(text, "| {} | {vm} | {process} |", case.means);
        }
    }
    text + "\n" + include_str!("hostile/outside.md")
}

#[test]
fn the_document_has_every_attack() {
    assert!(CASES.len() >= 60, "{}", CASES.len());
    for case in &CASES {
        assert!(GROUPS.iter().any(|(group, _)| *group == case.group));
        let twins = CASES.iter().filter(|other| other.means == case.means);
        assert_eq!(twins.count(), 1, "{}", case.means);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hostile-functions.md");
    if std::env::var_os("FADES_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, document()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == document(),
        "docs/hostile-functions.md is not what the list says: cargo xtask hostile"
    );
}
