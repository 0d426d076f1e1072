//! A configuration that changes while the node runs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::stage::{LONG, Stage, can_run};

/// Asks the node without the command.
fn raw(stage: &Stage, what: &str) -> String {
    let mut socket = UnixStream::connect(stage.folder().join("node.sock")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    write!(socket, "{what} {head}").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_level_of_the_log_changes_while_the_node_runs_and_its_parts_follow() {
    if !can_run("the_level_of_the_log_changes_while_the_node_runs") {
        return;
    }
    let stage = Stage::with_node();
    let (node, log) = stage.node_logged(&["--log-format", "json"], &[]).unwrap();
    let level = |words: &[&str]| stage.run(&[&["config", "log"], words].concat());
    assert_eq!(level(&[]).good().out, "warn\n");
    level(&["loud"]).said(2, &["write error, warn, info or debug"]);
    level(&["debug", "--for", "60w"]).said(1, &["a week at the most"]);
    assert!(
        level(&["debug", "--for", "1s"])
            .good()
            .out
            .starts_with("debug, until 20")
    );
    // It goes back by itself.
    crate::stage::until("it is as at the start", || {
        level(&[]).good().out == "warn\n"
    });
    assert_eq!(level(&["debug"]).good().out, "debug\n");
    // The broker has been told as well by then.
    stage.run(&["source", "test", "sample"]).good();
    stage.publish(&["hello"]);
    stage.run(&["submit", "hello", "--wait"]).good();
    assert_eq!(node.stop(), Some(0));
    let log = log.join().unwrap();
    // Nothing died that was not meant to.
    assert!(!log.contains("died"), "{log}");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    let has = |level: &str, target: &str| {
        let mut lines = lines.iter();
        let is = |l: &&serde_json::Value| {
            l["level"] == level && l["target"].as_str().is_some_and(|t| t.starts_with(target))
        };
        lines.any(|l| is(&l))
    };
    assert!(
        has("DEBUG", "fades_orc") && has("INFO", "fades_drb"),
        "{log}"
    );
}

#[test]
fn a_running_node_takes_what_needs_no_restart_and_keeps_the_old_when_the_new_is_wrong() {
    if !can_run("a_running_node_takes_what_needs_no_restart") {
        return;
    }
    let stage = Stage::with_node();
    let path = "fades-node/conf.d/x.toml";
    let reload = || stage.run(&["config", "reload"]);
    reload().said(2, &["cannot reach node here", "fades node"]);
    let node = stage.node();
    reload().good().said(0, &["nothing changed"]);
    stage.write(
        path,
        "[queue]\npolicy = \"priority\"\n[limits.demo]\nruns = 3\n[node]\nlabels = [\"x\"]\n",
    );
    let words = [
        "goes by these now: limits.demo.runs, queue.policy",
        "need a restart: node.labels",
    ];
    reload().said(0, &words);
    let doctor = || stage.run(&["doctor"]).out;
    assert!(doctor().contains("policy priority"), "{}", doctor());
    // What is applied is not named again, what still needs a restart is.
    let again = reload().said(0, &["nothing changed", "need a restart: node.labels"]);
    assert!(!again.err.contains("queue.policy"));

    stage.write(path, "[queue]\npolicy = \"lifo\"\n");
    // The command finds the node by the same file; others ask the node itself.
    reload().said(2, &["x.toml:2", "unknown variant `lifo`"]);
    let answer = raw(&stage, "POST /v1/reload");
    for word in [
        "HTTP/1.1 422",
        "x.toml:2",
        "unknown variant `lifo`",
        "goes on as it was",
    ] {
        assert!(answer.contains(word), "{word:?} is not in {answer}");
    }
    let answer = raw(&stage, "GET /v1/scheduling");
    assert!(answer.contains(r#""policy":"priority""#), "{answer}");
    stage.write(path, "[queue]\npolicy = \"id\"\n");
    let json = stage.run(&["config", "reload", "-o", "json"]).good().json();
    assert_eq!(json["changed"][1], "queue.policy", "{json}");
    assert_eq!(node.stop(), Some(0));
}
