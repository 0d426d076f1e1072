//! Where data goes, where talk goes, and what the exit code says.

use crate::stage::{Stage, can_run, image};

#[test]
fn a_wrong_option_could_not_run_and_help_is_no_error() {
    let stage = Stage::empty();
    stage.run(&["submit", "--colour"]).said(2, &["--colour"]);
    stage.run(&["nonsense"]).said(2, &["nonsense"]);
    stage.run(&[]).said(2, &["Usage: fades COMMAND"]);
    assert!(stage.run(&["help"]).good().out.contains("Operate a node"));
    stage
        .run(&["broker"])
        .said(2, &["there is no node to serve", "try: "]);
}

#[test]
fn without_a_node_every_place_looked_at_is_named() {
    let stage = Stage::empty();
    let places = [
        "--node",
        "$FADES_NODE",
        ".config/fades/config.toml",
        "./fades-node/node.toml",
    ];
    stage.run(&["ps"]).said(2, &places);
}

#[test]
fn a_node_that_does_not_run_is_named_with_the_way_to_start_it() {
    let stage = Stage::with_node();
    stage
        .run(&["ps"])
        .said(2, &["cannot reach node here", "try: start it: fades node"]);
}

#[test]
fn data_goes_to_standard_output_and_talk_to_standard_error() {
    if !can_run("data_goes_to_standard_output_and_talk_to_standard_error") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    let published = stage.run(&["publish", &image("hello")]).good();
    assert!(published.out.starts_with("hello@sha256:"));
    assert!(published.err.contains("has hello now"));
    let again = stage.run(&["publish", &image("hello")]).good();
    assert!(again.err.contains("had hello already"));

    let submitted = stage.run(&["submit", "hello"]).good();
    let id = submitted.out.trim().to_owned();
    assert_eq!((id.len(), submitted.out.lines().count()), (32, 1));
    let waited = stage.run(&["result", &id[..8], "--wait"]).good();
    assert!(
        waited.out.contains("greeting  hello, world\n"),
        "{}",
        waited.out
    );
    assert!(!waited.out.contains('\x1b'));
    assert!(waited.err.is_empty());

    let json = stage.run(&["result", &id, "-o", "json"]).good().json();
    assert_eq!(json["answer"]["greeting"], "hello, world");
    assert_eq!(json["state"], "done");
    for list in ["ps", "functions", "resources"] {
        let rows = stage.run(&[list, "-o", "json"]).good().json();
        assert!(!rows.as_array().unwrap().is_empty(), "{list}");
        assert!(stage.run(&[list]).good().out.lines().count() > 1);
    }
    assert_eq!(
        stage.run(&["show", &id, "-o", "json"]).good().json()["task"]["task"]["id"],
        id
    );
    assert!(
        stage
            .run(&["show"])
            .good()
            .out
            .contains("signed by key development-ask")
    );
    assert!(stage.run(&["logs"]).good().out.is_empty());
}

#[test]
fn an_answer_that_is_not_there_yet_is_neither_yes_nor_no() {
    if !can_run("an_answer_that_is_not_there_yet_is_neither_yes_nor_no") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["misbehave"]);
    stage
        .run(&[
            "submit",
            "misbehave",
            "--param",
            "do=loop",
            "--cpu",
            "60s",
            "--id",
            "long",
        ])
        .good();
    stage
        .run(&["result", "long"])
        .said(2, &["not finished", "--wait"]);
    stage.run(&["cancel", "long"]).said(0, &["cancelled"]);
    assert_eq!(stage.run(&["result", "long"]).code, 1);
    stage.run(&["cancel", "long"]).good();
}

#[test]
fn a_task_may_be_saved_looked_at_and_handed_in_from_its_file() {
    if !can_run("a_task_may_be_saved_looked_at_and_handed_in_from_its_file") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["summary"]);
    let words = [
        "--kind",
        "temp*",
        "--param",
        "by=kind",
        "--save",
        "task.toml",
        "--dry-run",
    ];
    let plan = stage
        .run(&[&["submit", "summary"], &words[..]].concat())
        .good();
    for word in [
        "summary@sha256:",
        "2 devices, 192 readings",
        "16MiB",
        "would be accepted",
    ] {
        assert!(plan.out.contains(word), "{word}: {}", plan.out);
    }
    assert!(stage.run(&["ps"]).good().out.is_empty());
    let saved = std::fs::read_to_string(stage.home().join("task.toml")).unwrap();
    assert!(
        saved.contains("@sha256:") && !saved.contains("expires ="),
        "{saved}"
    );
    let answer = stage.ask(&["-f", "task.toml"]);
    assert_eq!(answer["answer"]["groups"][0]["count"], 192, "{answer}");
    assert_eq!(answer["name"], "summary");
}

#[test]
fn the_same_id_is_the_same_task() {
    if !can_run("the_same_id_is_the_same_task") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["hello"]);
    stage.write(
        "t.toml",
        "[task]\nid = \"one\"\nexpires = \"2100-01-01\"\n[function]\nimage = \"hello\"\n",
    );
    stage
        .run(&["submit", "-f", "t.toml"])
        .said(0, &["accepted"]);
    stage
        .run(&["submit", "-f", "t.toml", "--wait"])
        .said(0, &["was accepted before"]);
    stage
        .run(&["submit", "-f", "t.toml", "--param", "name=other"])
        .said(1, &["error: "]);
    assert_eq!(
        stage
            .run(&["ps", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn what_was_signed_elsewhere_is_handed_in_as_it_is() {
    if !can_run("what_was_signed_elsewhere_is_handed_in_as_it_is") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    let copy = stage.write("hello.fades", std::fs::read(image("hello")).unwrap());
    let copy = copy.to_str().unwrap();
    stage.run(&["sign", copy]).said(0, &["hello.dsse"]);
    stage
        .run(&["verify", "hello.dsse"])
        .said(0, &["good: function hello@sha256:"]);
    let published = stage
        .run(&["publish", copy, "--envelope", "hello.dsse"])
        .good();
    let pinned = published.out.trim();
    stage.write(
        "t.toml",
        format!("[task]\nid = \"away\"\n[function]\nimage = \"{pinned}\"\n"),
    );
    stage.run(&["sign", "t.toml"]).good();
    stage
        .run(&["submit", "-f", "t.dsse", "--memory", "1MiB"])
        .said(2, &["is signed and cannot be changed"]);
    let result = stage.ask(&["-f", "t.dsse"]);
    assert_eq!(
        (&result["id"], &result["state"]),
        (&"away".into(), &"done".into()),
        "{result}"
    );
    stage
        .run(&["submit", "-f", "hello.dsse"])
        .said(2, &["not a task"]);
}

#[test]
fn the_beginning_of_an_id_is_enough_unless_two_tasks_share_it() {
    if !can_run("the_beginning_of_an_id_is_enough_unless_two_tasks_share_it") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["hello"]);
    for id in ["morning", "mornings", "noon"] {
        stage.run(&["submit", "hello", "--id", id, "--wait"]).good();
    }
    stage.run(&["result", "no"]).good();
    stage.run(&["result", "morning"]).good();
    stage
        .run(&["result", "morn"])
        .said(1, &["2 tasks begin with morn", "fades ps"]);
    assert_ne!(stage.run(&["result", "x"]).code, 0);
}
