//! What the command prints while it goes on.

use serde_json::Value;

use crate::stage::{Stage, can_run};

fn of_line(line: Option<String>) -> Value {
    serde_json::from_str(&line.expect("it has not ended")).unwrap()
}

#[test]
fn states_and_logs_are_printed_as_they_come() {
    if !can_run("states_and_logs_are_printed_as_they_come") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["misbehave"]);
    let loops = ["misbehave", "--param", "do=loop", "--cpu", "60s"];
    let submit = |id: &str| {
        let words = [&["submit"], &loops[..], &["--id", id]].concat();
        stage.run(&words).good();
    };
    submit("first");
    let watch = stage.begin(&["ps", "--watch", "-o", "json"]);
    assert_eq!(of_line(watch.line())["id"], "first");
    let log = stage.begin(&["logs", "first", "-f"]);
    submit("second");
    stage.run(&["cancel", "first"]).good();
    // A state may be told twice, in the list and as an event.
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|(id, state)| id != "first" || state != "cancelled")
    {
        let task = of_line(watch.line());
        seen.push((
            task["id"].as_str().unwrap().to_owned(),
            task["state"].as_str().unwrap().to_owned(),
        ));
    }
    assert!(
        seen.contains(&("second".to_owned(), "running".to_owned())),
        "{seen:?}"
    );
    assert_eq!((log.line(), log.code()), (None, Some(0)));
    let log = stage.begin(&["logs", "second", "-f"]);
    assert_eq!(node.stop(), Some(0));
    // Neither hangs on a node that is gone, nor calls it an end.
    assert_eq!(log.code(), Some(2));
    while watch.line().is_some() {}
    assert_eq!(watch.code(), Some(2));
}

#[test]
fn a_log_that_is_complete_is_followed_to_its_end() {
    if !can_run("a_log_that_is_complete_is_followed_to_its_end") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    stage.publish(&["misbehave"]);
    stage.run(&["submit", "misbehave", "--param", "do=log", "--wait"]);
    let log = stage.run(&["logs", "-f"]).good();
    assert!(log.out.contains("a quiet line"), "{log:?}");
    let line = stage.run(&["logs", "-f", "-o", "json"]).good().json();
    assert!(line["text"].as_str().unwrap().ends_with("a quiet line"));
}
