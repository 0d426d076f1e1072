//! Functions that misbehave: each ends as what it is, the node goes on.

use serde_json::Value;

use crate::stage::{Stage, can_run};

/// A deed, further options, and how the task must end.
const DEEDS: [(&str, &[&str], &str); 15] = [
    ("loop", &["--cpu", "200ms"], "deadline"),
    ("allocate", &[], "out-of-memory"),
    ("write-text", &[], "fault"),
    ("write-input", &[], "fault"),
    ("read-past-input", &["--param", "n=67108864"], "fault"),
    ("write-past-output", &[], "fault"),
    ("stack-recursion", &[], "fault"),
    ("ud2", &[], "fault"),
    ("panic", &[], "panicked"),
    ("abort", &[], "aborted"),
    (
        "output-full",
        &["--answer", "1KiB", "--param", "n=4096"],
        "output-overflow",
    ),
    ("answer-malformed", &[], "misuse"),
    ("answer-unsorted", &[], "misuse"),
    ("gate-unknown", &[], "misuse"),
    ("jump-null", &[], "fault"),
];

fn commits(isolation: &str) {
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["misbehave", "summary"]);
    let data = ["--kind", "temperature", "--isolation", isolation];
    for (deed, more, kind) in DEEDS {
        let deed = format!("do={deed}");
        let words = [&["misbehave", "--param", &deed], more, &data].concat();
        let result = stage.ask(&words);
        assert_eq!(result["state"], "failed", "{deed}: {result}");
        assert_eq!(result["isolation"], isolation, "{deed}: {result}");
        assert_eq!(
            result["failure"]["exit"]["kind"], kind,
            "{deed}: {}",
            result["failure"]
        );
        assert!(result.get("answer").is_none(), "{deed}");
    }
    // Words for people, with the place in the source.
    let shown = stage.run(&["submit", "misbehave", "--param", "do=panic", "--wait"]);
    assert_eq!(shown.code, 1);
    assert!(
        shown
            .out
            .contains("the function panicked: as the test wanted, 0 (")
            || shown.out.contains("deeds.rs"),
        "{}",
        shown.out
    );
    // And an honest function is none the worse for any of it.
    let honest = stage.ask(&[&["summary"], &data[..]].concat());
    assert_eq!(honest["state"], "done", "{honest}");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn every_misdeed_in_a_process_is_an_end_of_its_own_kind() {
    if can_run("every_misdeed_in_a_process_is_an_end_of_its_own_kind") {
        commits("process");
    }
}

#[test]
fn every_misdeed_in_a_microvm_is_an_end_of_its_own_kind() {
    let test = "every_misdeed_in_a_microvm_is_an_end_of_its_own_kind";
    if !std::path::Path::new("/dev/kvm").exists() {
        crate::stage::skipped(test, "no /dev/kvm");
    } else if can_run(test) {
        commits("microvm");
    }
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    if !can_run("a_flood_of_log_lines_is_cut_and_counted") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["misbehave"]);
    let result = stage.ask(&[
        "misbehave",
        "--param",
        "do=log-flood",
        "--param",
        "n=5000",
        "--log",
        "4KiB",
    ]);
    assert!(result["log-cut"].as_u64().unwrap() > 0, "{result}");
    let logs = stage.run(&["logs"]).good();
    assert!(
        logs.out.len() < 64 << 10 && logs.out.contains("flood"),
        "{}",
        logs.out.len()
    );
    assert!(logs.err.contains("cut at limits.log"));
    let json: Value = stage.run(&["logs", "-o", "json"]).json();
    assert!(!json["lines"].as_array().unwrap().is_empty());
    stage.ask(&["misbehave", "--param", "do=log-control"]);
    let logs = stage.run(&["logs"]).good().out;
    assert!(logs.contains("31m") && !logs.contains('\x1b'), "{logs}");
}
