//! Starts, ends and deaths of a node and its processes.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{Node, Stage, can_run, children, is_alive, signal, until};

#[test]
fn a_node_that_is_told_to_end_leaves_nothing_behind() {
    if !can_run("a_node_that_is_told_to_end_leaves_nothing_behind") {
        return;
    }
    for how in [Signal::TERM, Signal::INT] {
        let stage = Stage::with_node();
        let node = stage.node();
        stage.publish(&["misbehave"]);
        stage
            .run(&["submit", "misbehave", "--param", "do=loop", "--cpu", "60s"])
            .good();
        let running = || {
            let tasks = stage.run(&["ps", "-o", "json"]).json();
            tasks[0]["state"] == "running"
        };
        until("the task runs", running);
        let all: Vec<u32> = children(node.pid()).iter().map(|c| c.0).collect();
        signal(node.pid(), how);
        assert_eq!(node.stop(), Some(0));
        for pid in all {
            until("a child is gone", || !is_alive(pid));
        }
        assert!(!stage.folder().join("node.sock").exists());
        // What it worked on is taken up again.
        let node = stage.node();
        until("the task runs again", running);
        assert_eq!(node.stop(), Some(0));
    }
}

#[test]
fn a_second_node_on_one_folder_is_refused() {
    if !can_run("a_second_node_on_one_folder_is_refused") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    let said = stage.node_with(&[]).unwrap_err();
    assert!(said.contains("error: the node cannot run"), "{said}");
    // The first one is none the worse for it.
    stage.run(&["ps"]).good();
    assert_eq!(node.stop(), Some(0));
    assert_eq!(stage.node().stop(), Some(0));
}

#[test]
fn a_socket_path_that_is_taken_is_refused_and_one_left_behind_is_not() {
    if !can_run("a_socket_path_that_is_taken_is_refused_and_one_left_behind_is_not") {
        return;
    }
    let stage = Stage::with_node();
    stage.write("fades-node/node.sock", "somebody's file");
    let said = stage.node_with(&[]).unwrap_err();
    assert!(said.contains("node.sock"), "{said}");
    let kept = std::fs::read_to_string(stage.folder().join("node.sock")).unwrap();
    assert_eq!(kept, "somebody's file");
    std::fs::remove_file(stage.folder().join("node.sock")).unwrap();
    {
        let _other =
            std::os::unix::net::UnixListener::bind(stage.folder().join("node.sock")).unwrap();
        let said = stage.node_with(&[]).unwrap_err();
        assert!(said.contains("node.sock"), "{said}");
    }
    // Nobody listens there any more.
    assert!(stage.folder().join("node.sock").exists());
    stage.node().kill();
    assert_eq!(stage.node().stop(), Some(0));
}

#[test]
fn a_socket_path_that_no_system_takes_is_refused_with_the_remedy() {
    if !can_run("a_socket_path_that_no_system_takes_is_refused_with_the_remedy") {
        return;
    }
    let stage = Stage::with_node();
    let long = format!("[node]\nsocket = \"/tmp/{}\"\n", "x".repeat(120));
    stage.write("fades-node/conf.d/x.toml", long);
    let said = stage.node_with(&[]).unwrap_err();
    assert!(
        said.contains("at most 107") && said.contains("try: write a shorter path"),
        "{said}"
    );
}

/// A child of the node by a word of its command line.
fn child(node: &Node, word: &str) -> Option<u32> {
    let found = children(node.pid())
        .into_iter()
        .find(|c| c.1.contains(word));
    found.map(|c| c.0)
}

#[test]
fn whatever_is_killed_every_accepted_task_ends_once() {
    if !can_run("whatever_is_killed_every_accepted_task_ends_once") {
        return;
    }
    let stage = Stage::with_node();
    let mut node = stage.node();
    stage.publish(&["summary", "misbehave"]);
    let mut accepted: Vec<String> = Vec::new();
    let mut ends: BTreeMap<String, Value> = BTreeMap::new();
    for round in 0..12 {
        for n in 0..3 {
            let id = format!("r{round}-{n}");
            // One of three takes long enough to be met in its work.
            let words: &[&str] = match n {
                0 => &["misbehave", "--param", "do=burn", "--param", "n=200000000"],
                _ => &["summary", "--kind", "temperature"],
            };
            let ended = stage.run(&[&["submit", "--id", &id], words].concat());
            if ended.code == 0 {
                accepted.push(id);
            }
        }
        let victim = match round % 3 {
            0 => child(&node, "broker"),
            1 => child(&node, "fades-tender"),
            _ => None,
        };
        match (victim, round % 3) {
            (Some(pid), _) => signal(pid, Signal::KILL),
            (None, 2) => {
                node.kill();
                node = stage.node();
            }
            // The tender had ended before it could be killed.
            (None, _) => {}
        }
        note(&stage, &mut ends);
    }
    assert!(accepted.len() > 30, "{accepted:?}");
    for id in &accepted {
        let result = stage.run(&["result", id, "--wait", "-o", "json"]).json();
        let state = result["state"].as_str().unwrap().to_owned();
        assert!(["done", "failed"].contains(&state.as_str()), "{result}");
        if state == "done" && id.ends_with("-1") {
            assert_eq!(result["answer"]["groups"][0]["count"], 96, "{result}");
        }
        if let Some(before) = ends.get(id) {
            assert_eq!(*before, result, "the end of {id} was another one before");
        }
    }
    let done = accepted
        .iter()
        .filter(|id| stage.run(&["result", id]).code == 0)
        .count();
    assert!(
        done * 10 > accepted.len() * 8,
        "{done} of {}",
        accepted.len()
    );
    assert_eq!(node.stop(), Some(0));
}

/// Keeps the ends that are there, to see that they stay.
fn note(stage: &Stage, ends: &mut BTreeMap<String, Value>) {
    let tasks = stage.run(&["ps", "--all", "-o", "json"]).json();
    for task in tasks.as_array().unwrap() {
        let id = task["id"].as_str().unwrap().to_owned();
        let ended = ["done", "failed"].contains(&task["state"].as_str().unwrap());
        if ended && !ends.contains_key(&id) {
            let result = stage.run(&["result", &id, "-o", "json"]).json();
            ends.insert(id, result);
        }
    }
}
