//! `fades test`: the real image on a CSV file, on each isolation.

use crate::stage::{Stage, can_run, image};

const ROOMS: &str = "time,room,temperature,humidity\n\
                     2026-01-01T00:00:00Z,hall,21.5,40\n\
                     2026-01-01T00:01:00Z,hall,22.5,41\n\
                     2026-01-01T00:02:00Z,lab,29.5,\n\
                     2026-01-01T00:03:00Z,lab,30.5,44\n";

/// Isolations that work on this host.
fn isolations() -> Vec<&'static str> {
    let kvm = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    let mut all = vec!["process"];
    all.extend(kvm.is_ok().then_some("microvm"));
    all
}

#[test]
fn an_image_is_tried_on_a_file_and_answers() {
    if !can_run("an_image_is_tried_on_a_file_and_answers") {
        return;
    }
    let stage = Stage::empty();
    stage.write("rooms.csv", ROOMS);
    for isolation in isolations() {
        let words = [
            "test",
            &image("hello"),
            "--csv",
            "rooms.csv",
            "--isolation",
            isolation,
        ];
        let ended = stage.run(&[&words[..], &["-o", "json"]].concat()).good();
        let result = ended.json();
        assert_eq!(result["answer"]["rows"], 7);
        assert_eq!(result["isolation"], isolation);
        assert_eq!(result["coverage"][0]["used"], 7);
        assert_eq!(result["coverage"][0]["lost"]["empty"], 1);
        let table = stage.run(&words).good().out;
        assert!(
            table.contains("hello, world") && table.contains("7 used of 8"),
            "{table}"
        );
    }
}

#[test]
fn parameters_kinds_and_limits_reach_the_function() {
    if !can_run("parameters_kinds_and_limits_reach_the_function") {
        return;
    }
    let stage = Stage::empty();
    stage.write("rooms.csv", ROOMS);
    let summary = image("summary");
    let by_room = [
        "--kind",
        "temperature",
        "--param",
        "by=location",
        "-o",
        "json",
    ];
    let words = [&["test", &summary, "--csv", "rooms.csv"][..], &by_room].concat();
    let result = stage.run(&words).good().json();
    assert_eq!(result["coverage"][0]["used"], 4);
    assert!(result["answer"].to_string().contains("\"lab\""), "{result}");
    let misbehave = image("misbehave");
    let little = [
        "test",
        &misbehave,
        "--param",
        "do=allocate",
        "--memory",
        "1MiB",
    ];
    let ended = stage.run(&little);
    assert!(ended.code == 1 && ended.out.contains("1MiB"), "{ended:?}");
    let short = ["test", &misbehave, "--param", "do=loop", "--time", "200ms"];
    let ended = stage.run(&short);
    assert!(
        ended.code == 1 && ended.out.contains("limits.time"),
        "{ended:?}"
    );
}

#[test]
fn a_crash_names_the_place_and_lines_are_shown() {
    if !can_run("a_crash_names_the_place_and_lines_are_shown") {
        return;
    }
    let stage = Stage::empty();
    stage.write("rooms.csv", ROOMS);
    let misbehave = image("misbehave");
    for isolation in isolations() {
        let deed = |deed| {
            let parameter = format!("do={deed}");
            let what = [
                "--csv",
                "rooms.csv",
                "--param",
                &parameter,
                "--isolation",
                isolation,
            ];
            stage.run(&[&["test", &misbehave][..], &what].concat())
        };
        let crash = deed("write-text");
        assert_eq!(crash.code, 1, "{crash:?}");
        assert!(crash.out.contains("text (read-only)"), "{crash:?}");
        assert!(crash.out.contains("misbehave::"), "{crash:?}");
        let quiet = deed("log").good();
        assert!(quiet.err.contains("a quiet line"), "{quiet:?}");
    }
}

#[test]
fn what_cannot_be_tried_is_said() {
    if !can_run("what_cannot_be_tried_is_said") {
        return;
    }
    let stage = Stage::empty();
    let hello = image("hello");
    stage
        .run(&["test", &hello, "--csv", "nowhere.csv"])
        .said(2, &["nowhere.csv"]);
    stage
        .run(&["test", "nowhere.fades"])
        .said(2, &["nowhere.fades"]);
    stage
        .run(&["test"])
        .said(2, &["no image to test", "fades build"]);
    stage
        .run(&["test", &hello, "--isolation", "prayer"])
        .said(2, &["microvm and process"]);
    stage
        .run(&["test", &hello, "--zone", "Mars/Base"])
        .said(2, &["Mars/Base"]);
    stage.write("fake.fades", "#!/bin/sh\n");
    let fake = stage.run(&["test", "fake.fades"]);
    assert!(
        fake.code == 1 && fake.out.contains("not an ELF file"),
        "{fake:?}"
    );
}
