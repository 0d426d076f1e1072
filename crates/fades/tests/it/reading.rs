//! `fades read`: what a question about readings means, and answers of earlier
//! runs as readings.

use crate::stage::{Node, Stage, can_run};

const ROOMS: &str = "time,room,temperature\n\
                     2026-01-01T00:00:00Z,hall,21\n\
                     2026-01-01T00:01:00Z,hall,23\n\
                     2026-01-01T00:02:00Z,hall,25\n\
                     2026-01-01T00:00:00Z,lab,29\n\
                     2026-01-01T00:01:00Z,lab,31\n";

const NODE: &str = r#"[node]
name = "here"
memory = "256MiB"

[source.rooms]
type = "csv"
files = "../rooms.csv"
time = { column = "time" }
device = "{room}"
points = [{ column = "temperature", unit = "Cel" }]

[[source.rooms.devices]]
device = "hall"
labels = { floor = "1" }
at = [57.15, -2.09]
"#;

fn node() -> (Stage, Node) {
    let stage = Stage::with_node();
    stage.write("rooms.csv", ROOMS);
    stage.write("fades-node/node.toml", NODE);
    let node = stage.node();
    (stage, node)
}

#[test]
fn a_question_is_shown_with_its_devices_rows_and_first_readings() {
    if !can_run("a_question_is_shown_with_its_devices_rows_and_first_readings") {
        return;
    }
    let (stage, _node) = node();
    let shown = stage.run(&["read"]).good().out;
    assert!(shown.contains("2 devices, 2 series, 5 readings"), "{shown}");
    let floor = stage.run(&["read", "--label", "floor=1"]).good().out;
    for word in ["1 devices, 1 series, 3 readings", "hall", "23", "Cel"] {
        assert!(floor.contains(word), "{word}: {floor}");
    }
    assert!(!floor.contains("lab"), "{floor}");
    let near = stage.run(&["read", "--near", "57.151,-2.09,200m", "-o", "json"]);
    let near = near.good().json();
    assert_eq!(near[0]["devices"][0]["device"], "hall");
    assert_eq!(near[0]["devices"].as_array().unwrap().len(), 1);
    assert_eq!(near[0]["readings"], 3);
    stage.run(&["read", "--near", "57.152,-2.09,200m"]).said(
        1,
        &[
            "nothing on this node matches",
            "within 200m of 57.152, -2.09",
        ],
    );
    stage
        .run(&["read", "--kind", "humidity"])
        .said(1, &["kind humidity", "kinds temperature"]);
}

#[test]
fn a_task_file_is_shown_entry_by_entry_and_a_bad_one_refused() {
    if !can_run("a_task_file_is_shown_entry_by_entry_and_a_bad_one_refused") {
        return;
    }
    let (stage, _node) = node();
    let entries = "[function]\nimage = \"summary\"\n\n[[retrieve]]\nname = \"early\"\n\
                   to = \"2026-01-01T00:01:00Z\"\n\n[[retrieve]]\nname = \"warm\"\n\
                   device = \"lab\"\nunit = \"[degF]\"\n";
    stage.write("task.toml", entries);
    let shown = stage.run(&["read", "--file", "task.toml"]).good().out;
    assert!(
        shown.contains("early: 2 devices, 2 series, 2 readings"),
        "{shown}"
    );
    for word in ["warm: 1 devices, 1 series, 2 readings", "84.2", "[degF]"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    stage.write("task.toml", "[function]\nimage = \"summary\"\n");
    stage
        .run(&["read", "--file", "task.toml"])
        .said(2, &["task.toml", "no retrieve entry", "[[retrieve]]"]);
    stage.write("task.toml", "[[retrieve]]\nname = \"a\"\ncolour = 1\n");
    stage
        .run(&["read", "--file", "task.toml"])
        .said(2, &["task.toml", "colour"]);
    stage
        .run(&["read", "--last", "1h", "--now"])
        .said(2, &["--now"]);
}

#[test]
fn what_runs_answered_can_be_asked_for_by_the_same_service() {
    if !can_run("what_runs_answered_can_be_asked_for_by_the_same_service") {
        return;
    }
    let (stage, _node) = node();
    stage
        .run(&["read", "--result", "downsample"])
        .said(1, &["answers of downsample"]);
    stage.publish(&["downsample", "summary"]);
    let every = ["downsample", "--param", "every=1m", "--answer", "64KiB"];
    let first = stage.ask(&[&every[..], &["--device", "hall"]].concat());
    assert_eq!(first["state"], "done", "{first}");
    let second = stage.ask(&[&every[..], &["--device", "lab"]].concat());
    assert_eq!(second["state"], "done", "{second}");
    // The same answer again: each reading counts once.
    stage.ask(&[&every[..], &["--device", "lab"]].concat());

    let read = ["read", "--result", "downsample", "-o", "json"];
    let shown = stage.run(&read).good().json();
    assert_eq!(shown[0]["readings"], 5, "{shown}");
    assert_eq!(shown[0]["devices"][0]["source"], "result");
    assert_eq!(
        shown[0]["devices"][0]["series"][0]["kind"],
        "temperature.mean"
    );

    let words = ["summary", "--result", "downsample", "--device", "lab"];
    let result = stage.ask(&words);
    assert_eq!(result["state"], "done", "{result}");
    let group = &result["answer"]["groups"][0];
    assert_eq!(
        (&group["device"], &group["count"]),
        (&"lab".into(), &2.into())
    );
    assert_eq!(group["mean"], 30.0);
    let coverage = &result["coverage"][0];
    assert_eq!(coverage["used"], 2);
    assert_eq!(coverage["lost"]["duplicate"], 2, "{coverage}");

    stage
        .run(&["read", "--result", "downsample", "--service", "other"])
        .said(1, &["answers of downsample"]);
}

#[test]
fn devices_that_do_not_answer_are_named_with_the_reason() {
    if !can_run("devices_that_do_not_answer_are_named_with_the_reason") {
        return;
    }
    let stage = Stage::with_node();
    stage.write("rooms.csv", ROOMS);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let dead = format!(
        "[source.dead]\ntype = \"modbus\"\nurl = \"tcp://{address}\"\n\
         units = [{{ id = 1, device = \"meter\" }}]\n\
         registers = [{{ table = \"holding\", address = 0, kind = \"power\", unit = \"W\" }}]\n"
    );
    stage.write("fades-node/node.toml", format!("{NODE}\n{dead}"));
    let _node = stage.node();
    let tested = stage.run(&["source", "test", "dead"]);
    assert_eq!(tested.code, 1, "{tested:?}");
    assert!(tested.out.contains("meter failed: unit 1: "), "{tested:?}");
    stage.run(&["source", "test", "rooms"]).good();

    let read = stage.run(&["read", "--now"]).good().out;
    for word in [
        "0 devices, 0 series, 0 readings",
        "meter failed: ",
        "refused",
    ] {
        assert!(read.contains(word), "{word}: {read}");
    }
    stage.publish(&["summary"]);
    let words = ["submit", "summary", "--now", "--wait"];
    let result = stage.run(&words);
    assert_eq!(result.code, 1, "{result:?}");
    assert!(result.out.contains("meter failed: "), "{result:?}");
}
