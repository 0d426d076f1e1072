//! A node that is backed up while it works, and another that takes over.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{Ended, Stage, can_run, image, signal, until};
use crate::supervision::{Device, state};

fn ids<'a>(shown: &'a Value, state: &str) -> Vec<&'a str> {
    let tasks = shown.as_array().unwrap().iter();
    let tasks = tasks.filter(|t| t["state"] == state);
    tasks.map(|t| t["id"].as_str().unwrap()).collect()
}

/// How far the schedule has come.
fn due(stage: &Stage) -> String {
    let shown = stage.run(&["ps", "--all", "-o", "json"]).json();
    let tasks = shown.as_array().unwrap().iter();
    let mut daily = tasks.filter(|t| t["id"] == "daily");
    daily.next().unwrap()["due"].as_str().unwrap().to_owned()
}

/// Puts the restored folder in the place of the node's.
fn take_over(stage: &Stage, restored: &str) {
    std::fs::rename(stage.folder(), stage.home().join("old")).unwrap();
    std::fs::rename(stage.home().join(restored), stage.folder()).unwrap();
    // What an operator has elsewhere: secrets, and data.
    for kept in ["keys", "sample"] {
        let old = stage.home().join("old").join(kept);
        std::fs::rename(old, stage.folder().join(kept)).unwrap();
    }
}

/// A node with an end, a task that runs, one that waits, one with a schedule, and
/// an answer that cannot be delivered.
fn busy(stage: &Stage, device: &Device) {
    stage.write("fades-node/conf.d/slow.toml", device.source(""));
    stage.write(
        "fades-node/conf.d/more.toml",
        "[node]\nparallel = 1\ndrain = \"0s\"\n[destination.gone]\n\
         url = \"http://127.0.0.1:1/\"\n",
    );
}

fn fill(stage: &Stage, device: &Device) {
    stage.publish(&["summary"]);
    let rooms = ["submit", "summary", "--kind", "temperature"];
    let submit = |more: &[&str]| stage.run(&[&rooms[..], more].concat()).good();
    submit(&["--id", "ended", "--deliver", "gone", "--wait"]);
    submit(&[
        "--id",
        "daily",
        "--last",
        "24h",
        "--cron",
        "0 0 1 1 *",
        "--expires",
        "366d",
    ]);
    let slow = ["submit", "summary", "--kind", "pressure", "--now", "--id"];
    stage.run(&[&slow[..], &["runs"]].concat()).good();
    until("the device is asked", || device.asked() > 0);
    submit(&["--id", "waits"]);
    assert_eq!(state(stage, "waits"), "queued");
}

fn backed_up(stage: &Stage, words: &[&str]) -> Ended {
    stage.run(&[&["backup", "node.fades"], words].concat())
}

#[test]
fn a_backup_of_a_running_node_is_taken_over_without_doing_anything_twice() {
    if !can_run("a_backup_of_a_running_node_is_taken_over_without_doing_anything_twice") {
        return;
    }
    let (stage, device) = (Stage::with_node(), Device::new());
    busy(&stage, &device);
    let node = stage.node();
    fill(&stage, &device);
    let come = due(&stage);
    let said = backed_up(&stage, &[]).good().err;
    for words in ["node here as of", "1 images", "keep them elsewhere: keys/"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    // It is not overwritten by mistake.
    backed_up(&stage, &[]).said(2, &["is there already", "--force"]);
    let left = std::fs::read_dir(stage.folder().join("state")).unwrap();
    let left = left.flatten().map(|e| e.file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.starts_with("snapshot-")));
    // The old node works on: what was open ends, and is delivered for all we know.
    device.answers();
    stage.run(&["result", "waits", "--wait"]).good();
    node.kill();

    let said = stage.run(&["restore", "node.fades", "new"]).good().err;
    for words in [
        "2 tasks had not ended then and may have run since",
        "1 schedules go on from now",
        "1 answers may have been delivered since",
        "put them in place: keys/",
        "next, once the old node cannot start any more: fades node new",
    ] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    take_over(&stage, "new");
    let asked = device.asked();
    let node = stage.node();
    let shown = stage.run(&["ps", "--all", "-o", "json"]).json();
    assert_eq!(ids(&shown, "cancelled"), ["waits", "runs"]);
    let runs = stage.run(&["result", "runs", "-o", "json"]).json();
    let by = runs["failure"]["by"].as_str().unwrap();
    assert!(by.contains("restore of a backup of 20"), "{by}");
    assert_eq!(state(&stage, "ended"), "done");
    assert_eq!(state(&stage, "daily"), "standing");
    assert!(due(&stage) > come, "what was due since is left out");
    let outbox = stage.run(&["outbox", "-o", "json"]).json();
    let gone = &outbox["receivers"][0];
    assert_eq!((&gone["waiting"], &gone["lost"]), (&0.into(), &1.into()));
    // The function is there, and the same task again is not a new one.
    let again = [
        "submit",
        "summary",
        "--kind",
        "temperature",
        "--wait",
        "--id",
    ];
    stage.run(&[&again[..], &["fresh"]].concat()).good();
    assert_eq!(device.asked(), asked, "nothing was run again");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn what_was_open_runs_when_the_operator_says_that_it_did_not_since() {
    if !can_run("what_was_open_runs_when_the_operator_says_that_it_did_not_since") {
        return;
    }
    let (stage, device) = (Stage::with_node(), Device::new());
    busy(&stage, &device);
    let node = stage.node();
    fill(&stage, &device);
    assert_eq!(node.stop(), Some(0));
    // Without a node, and from outside of its folder.
    backed_up(&stage, &["--folder", "fades-node"]).good();
    backed_up(&stage, &["--force"]).good();
    let words = ["restore", "node.fades", "new", "--again"];
    let said = stage.run(&words).good().err;
    for words in [
        "2 tasks that had not ended run again",
        "1 schedules make up",
        "1 answers are delivered",
    ] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    take_over(&stage, "new");
    device.answers();
    let _node = stage.node();
    for id in ["runs", "waits"] {
        stage.run(&["result", id, "--wait"]).good();
    }
    let outbox = stage.run(&["outbox", "-o", "json"]).json();
    assert_eq!(outbox["receivers"][0]["waiting"], 1, "{outbox}");
}

/// What is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_cannot_be_restored_leaves_nothing_behind() {
    if !can_run("what_cannot_be_restored_leaves_nothing_behind") {
        return;
    }
    let stage = Stage::with_node();
    backed_up(&stage, &[]).said(2, &["no node ever ran on this folder"]);
    let node = stage.node();
    stage.publish(&["summary"]);
    backed_up(&stage, &[]).good();
    let whole = std::fs::read(stage.home().join("node.fades")).unwrap();
    stage.write("cut.fades", &whole[..whole.len() / 2]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    stage.write("flipped.fades", &flipped);
    let image = std::fs::read(image("summary")).unwrap();
    stage.write("foreign.fades", image);
    let newer = String::from_utf8_lossy(&whole[512..1024]).into_owned();
    assert!(newer.contains("\"fades-backup\": 1"), "{newer}");
    let mut newer = whole;
    let at = newer
        .windows(17)
        .position(|w| w == b"\"fades-backup\": 1")
        .unwrap();
    newer[at + 16] = b'9';
    stage.write("newer.fades", newer);
    let before = names(stage.home());
    for (file, words) in [
        ("cut.fades", "damaged or cut off"),
        ("flipped.fades", "damaged or cut off"),
        ("foreign.fades", "is no backup of a node"),
        ("newer.fades", "is a backup of version 9"),
        ("absent.fades", "No such file"),
    ] {
        let tried = stage.run(&["restore", file, "new"]);
        tried.said(2, &["cannot restore", words]);
        assert_eq!(names(stage.home()), before, "{file}");
    }
    stage
        .run(&["restore", "node.fades", "fades-node"])
        .said(2, &["fades-node is there already"]);
    // No room, no folder to write into: nothing is left either.
    stage
        .run(&["backup", "nowhere/at/all.fades"])
        .said(2, &["cannot write"]);
    assert_eq!(names(stage.home()), before);
    let left = names(&stage.folder().join("state"));
    assert!(!left.iter().any(|n| n.starts_with("snapshot-")), "{left:?}");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_backup_that_is_killed_leaves_no_half_of_one() {
    if !can_run("a_backup_that_is_killed_leaves_no_half_of_one") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["summary", "misbehave", "downsample"]);
    for n in 0..20_u64 {
        let mut child = std::process::Command::new(crate::stage::fades())
            .args(["backup", "node.fades", "--force"])
            .current_dir(stage.home())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(n));
        signal(child.id(), Signal::KILL);
        child.wait().unwrap();
        let file = stage.home().join("node.fades");
        if file.exists() {
            let folder = format!("new-{n}");
            stage.run(&["restore", "node.fades", &folder]).good();
        }
    }
    backed_up(&stage, &["--force"]).good();
    node.kill();
    // What killed ones left is removed at the next start.
    let node = stage.node();
    let left = names(&stage.folder().join("state"));
    assert!(!left.iter().any(|n| n.starts_with("snapshot-")), "{left:?}");
    assert_eq!(node.stop(), Some(0));
}
