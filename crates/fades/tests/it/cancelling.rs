//! Every state can be cancelled, and a task that hangs wedges nothing: a test for
//! each state that a node can be held in. Answering and committing are moments:
//! those are held in the core's tests (`every_state_can_be_cancelled`).

use rustix::process::Signal;

use crate::stage::{Node, Stage, can_run, children, fades, signal, until};
use crate::supervision::{Device, node_info, state};

/// A node with a source that answers when it is told to.
fn stage(more: &str) -> (Stage, Device) {
    let (stage, device) = (Stage::with_node(), Device::new());
    stage.write("fades-node/conf.d/slow.toml", device.source(""));
    stage.write(
        "fades-node/conf.d/more.toml",
        format!("[node]\ndrain = \"0s\"\n{more}"),
    );
    (stage, device)
}

fn submit(stage: &Stage, id: &str, words: &[&str]) {
    stage.run(&[&["submit", "--id", id], words].concat()).good();
}

const SLOW: [&str; 4] = ["summary", "--kind", "pressure", "--now"];
const ROOMS: [&str; 3] = ["summary", "--kind", "temperature"];
const LOOP: [&str; 5] = ["misbehave", "--param", "do=loop", "--cpu", "60s"];

/// It ends as cancelled, and an honest task is none the worse for it.
fn cancels(stage: &Stage, node: Node, id: &str) {
    stage.run(&["cancel", id]).good();
    assert_eq!(state(stage, id), "cancelled");
    submit(stage, "honest", &ROOMS);
    stage.run(&["result", "honest", "--wait"]).good();
    assert_eq!(state(stage, id), "cancelled");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_queued_task_is_cancelled() {
    if !can_run("a_queued_task_is_cancelled") {
        return;
    }
    let (stage, device) = stage("parallel = 1\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit(&stage, "first", &SLOW);
    submit(&stage, "queued", &ROOMS);
    assert_eq!(state(&stage, "queued"), "queued");
    stage.run(&["cancel", "queued"]).good();
    device.answers();
    cancels(&stage, node, "queued");
}

#[test]
fn a_task_that_waits_for_memory_is_cancelled() {
    if !can_run("a_task_that_waits_for_memory_is_cancelled") {
        return;
    }
    let (stage, device) = stage("memory = \"40MiB\"\nparallel = 4\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit(
        &stage,
        "large",
        &[&SLOW[..], &["--memory", "30MiB"]].concat(),
    );
    submit(
        &stage,
        "waits",
        &[&ROOMS[..], &["--memory", "30MiB"]].concat(),
    );
    assert_eq!(state(&stage, "waits"), "queued");
    stage.run(&["cancel", "waits"]).good();
    device.answers();
    cancels(&stage, node, "waits");
}

#[test]
fn a_task_whose_template_and_tender_never_come_is_cancelled() {
    if !can_run("a_task_whose_template_and_tender_never_come_is_cancelled") {
        return;
    }
    let (stage, _device) = stage("");
    // Tenders that say nothing, as long as a file is there.
    let (hold, real) = (
        stage.home().join("hold"),
        fades().with_file_name("fades-tender"),
    );
    let script = format!(
        "#!/bin/sh\n[ -e {} ] && exec /bin/sleep 1000\nexec {} \"$@\"\n",
        hold.display(),
        real.display()
    );
    let tender = stage.write("tender.sh", script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&tender, mode).unwrap();
    let node = stage
        .node_with(&["--tender", tender.to_str().unwrap()])
        .unwrap();
    stage.publish(&["summary"]);
    std::fs::write(&hold, "").unwrap();
    submit(&stage, "begins", &ROOMS);
    let making = || {
        let tenders = children(node.pid());
        tenders.iter().any(|(_, line)| line.contains("sleep"))
    };
    until("a tender is being made", making);
    assert_eq!(state(&stage, "begins"), "running");
    stage.run(&["cancel", "begins"]).good();
    std::fs::remove_file(&hold).unwrap();
    cancels(&stage, node, "begins");
}

#[test]
fn a_task_that_retrieves_is_cancelled() {
    if !can_run("a_task_that_retrieves_is_cancelled") {
        return;
    }
    let (stage, device) = stage("parallel = 1\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit(&stage, "retrieves", &SLOW);
    until("the device is asked", || device.asked() == 1);
    cancels(&stage, node, "retrieves");
}

#[test]
fn a_task_that_computes_is_cancelled() {
    if !can_run("a_task_that_computes_is_cancelled") {
        return;
    }
    let (stage, _device) = stage("parallel = 1\n");
    let node = stage.node();
    stage.publish(&["summary", "misbehave"]);
    submit(&stage, "computes", &LOOP);
    until("it runs", || state(&stage, "computes") == "running");
    cancels(&stage, node, "computes");
}

#[test]
fn a_standing_task_and_its_run_are_cancelled() {
    if !can_run("a_standing_task_and_its_run_are_cancelled") {
        return;
    }
    let (stage, device) = stage("parallel = 1\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit(&stage, "often", &[&SLOW[..], &["--every", "1s"]].concat());
    let shown = || {
        let shown = stage.run(&["ps", "--all", "--of", "often", "-o", "json"]);
        shown.json().as_array().unwrap().clone()
    };
    until("the device is asked", || device.asked() == 1);
    let run = shown()[0]["id"].as_str().unwrap().to_owned();
    // A run alone: the schedule goes on with the next.
    stage.run(&["cancel", &run]).good();
    assert_eq!(state(&stage, &run), "cancelled");
    let standing = || node_info(&stage)["tasks"]["standing"] == 1;
    assert!(standing());
    until("the next run is under way", || shown().len() == 2);
    let last = shown()[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(run, last);
    // All of it: the run that is under way ends too.
    stage.run(&["cancel", "often"]).good();
    assert_eq!(state(&stage, &last), "cancelled");
    assert!(!standing());
    assert_eq!(shown().len(), 2);
    cancels(&stage, node, &last);
}

#[test]
fn tasks_are_cancelled_while_the_broker_is_away() {
    if !can_run("tasks_are_cancelled_while_the_broker_is_away") {
        return;
    }
    let (stage, device) = stage("parallel = 1\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit(&stage, "retrieved", &SLOW);
    submit(&stage, "queued", &SLOW);
    until("the device is asked", || device.asked() == 1);
    let broker = children(node.pid())
        .into_iter()
        .find(|(_, line)| line.contains("broker"));
    // One that is stopped answers nothing, and is not gone either.
    let broker = broker.unwrap().0;
    signal(broker, Signal::STOP);
    stage.run(&["cancel", "retrieved"]).good();
    assert_eq!(state(&stage, "retrieved"), "cancelled");
    signal(broker, Signal::KILL);
    cancels(&stage, node, "queued");
}
