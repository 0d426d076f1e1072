//! A clock that is not set when the node begins, and leaps while it runs.

use std::path::{Path, PathBuf};

use crate::stage::{Stage, can_run, skipped, until};
use crate::supervision::node_info;

/// The library that gives a process another time.
fn library(test: &str) -> Option<PathBuf> {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|arch| PathBuf::from(format!("/usr/lib/{arch}/faketime/libfaketime.so.1")))
        .into_iter()
        .find(|path| path.exists());
    if found.is_none() {
        skipped(test, "no libfaketime; apt-get install faketime");
    }
    found
}

fn runs(stage: &Stage) -> usize {
    let shown = stage.run(&["ps", "--all", "--of", "often", "-o", "json"]);
    shown.json().as_array().unwrap().len()
}

#[test]
fn a_node_whose_clock_is_not_set_holds_schedules_and_goes_on_once_it_is() {
    let test = "a_node_whose_clock_is_not_set_holds_schedules_and_goes_on_once_it_is";
    let Some(library) = library(test).filter(|_| can_run(test)) else {
        return;
    };
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["summary"]);
    let rooms = ["submit", "summary", "--kind", "temperature", "--id"];
    let often = ["often", "--last", "5m", "--every", "1s"];
    stage.run(&[&rooms[..], &often].concat()).good();
    until("it runs", || runs(&stage) > 1);
    assert_eq!(node.stop(), Some(0));
    // The board's clock begins long ago.
    let now = stage.write("clock", "-400d\n");
    let variables = [
        ("LD_PRELOAD", library.as_path()),
        ("FAKETIME_TIMESTAMP_FILE", now.as_path()),
        ("FAKETIME_NO_CACHE", Path::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ("DONT_FAKE_MONOTONIC", Path::new("1")),
    ];
    let (node, log) = stage.node_logged(&[], &variables).unwrap();
    let trouble = node_info(&stage)["clock"].as_str().unwrap().to_owned();
    assert!(trouble.contains("it is not set"), "{trouble}");
    let doctor = stage.run(&["doctor", "--folder", "fades-node"]);
    assert_eq!(doctor.code, 1);
    for words in ["MISSING clock", "timedatectl set-ntp true"] {
        assert!(doctor.out.contains(words), "{}", doctor.out);
    }
    let before = runs(&stage);
    // Signed just now, and judged by the last time that the node knows.
    stage
        .run(&[&rooms[..], &["once", "--wait"]].concat())
        .good();
    let once = stage.run(&["result", "once", "-o", "json"]).json();
    let accepted = once["accepted"].as_str().unwrap();
    assert!(accepted > "2026", "{accepted}");
    // Longer than its interval.
    let asked = std::time::Instant::now();
    until("some time passes", || asked.elapsed().as_millis() > 2_500);
    assert_eq!(runs(&stage), before, "it was held");
    // Somebody sets the clock.
    std::fs::write(&now, "+0\n").unwrap();
    until("it goes on", || runs(&stage) > before + 1);
    assert!(node_info(&stage)["clock"].is_null());
    // It leaps while the node runs: back by a year it is not set any more, and the
    // operator may say that it is right.
    std::fs::write(&now, "-365d\n").unwrap();
    until("that is seen", || !node_info(&stage)["clock"].is_null());
    stage.run(&["config", "reload"]).good();
    until("it is gone by", || node_info(&stage)["clock"].is_null());
    // What was due a year ago is not run again.
    let before = runs(&stage);
    stage
        .run(&[&rooms[..], &["twice", "--wait"]].concat())
        .good();
    assert_eq!(runs(&stage), before);
    // Forth again: what was missed is left out but for the newest, and it goes on.
    std::fs::write(&now, "+0\n").unwrap();
    until("it goes on again", || runs(&stage) > before + 1);
    assert_eq!(node.stop(), Some(0));
    let log = log.join().unwrap();
    assert!(log.contains("schedules wait for the clock"), "{log}");
    assert!(log.contains("schedules go on"), "{log}");
}
