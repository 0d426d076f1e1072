//! Bundles, by the command: made on one host, loaded on another.

use crate::stage::{Stage, can_run, image};

const PUBLISH: &str = "fades-node/keys/development-publish.key";

/// A function and a task for it, signed.
fn signed(stage: &Stage) -> String {
    stage.write("summary.fades", std::fs::read(image("summary")).unwrap());
    stage
        .run(&["sign", "summary.fades", "--key", PUBLISH])
        .good();
    let seen = stage.run(&["inspect", "summary.fades", "-o", "json"]);
    let digest = seen.good().json()["image"].as_str().unwrap().to_owned();
    let task = format!(
        "[task]\nid = \"air\"\nservice = \"local\"\n\
         [[retrieve]]\nname = \"t\"\nkind = [\"temperature\"]\nfrom = \"2018-01-01\"\nto = \"2019-01-01\"\n\
         [function]\nimage = \"summary@{digest}\"\n"
    );
    stage.write("air.toml", task);
    let node = ["--folder", "fades-node"];
    stage
        .run(&[&["sign", "air.toml"], &node[..]].concat())
        .good();
    digest
}

#[test]
fn a_bundle_goes_by_a_file_to_a_node_that_takes_all_of_it() {
    if !can_run("a_bundle_goes_by_a_file_to_a_node_that_takes_all_of_it") {
        return;
    }
    let stage = Stage::with_node();
    signed(&stage);
    stage
        .run(&["bundle", "make", "site.bundle", "air.dsse", "summary.fades"])
        .said(0, &["0 changes of trust, 1 function, 1 task"]);
    let shown = stage.run(&["bundle", "show", "site.bundle"]).good().out;
    assert!(
        shown.contains("summary@") && shown.contains("air"),
        "{shown}"
    );
    let node = stage.node();
    let load = ["bundle", "load", "site.bundle"];
    let checked = stage.run(&[&load[..], &["--check"]].concat());
    let checked = checked.said(0, &["nothing was taken"]);
    assert_eq!(checked.out.matches("would take it").count(), 2);
    assert!(!stage.run(&["functions"]).good().out.contains("summary"));
    let loaded = stage.run(&load).good().out;
    assert_eq!(loaded.matches("has it now").count(), 2, "{loaded}");
    let again = stage.run(&[&load[..], &["-o", "json"]].concat());
    for part in again.good().json()["parts"].as_array().unwrap() {
        assert_eq!(part["fresh"], false, "{part}");
    }
    let tasks = stage.run(&["ps", "--all", "-o", "json"]).good().json();
    assert_eq!(tasks[0]["id"], "air", "{tasks}");
    node.stop();
}

#[test]
fn what_cannot_be_put_into_a_bundle_says_what_helps() {
    if !can_run("what_cannot_be_put_into_a_bundle_says_what_helps") {
        return;
    }
    let stage = Stage::with_node();
    signed(&stage);
    let make = |file: &str| stage.run(&["bundle", "make", "site.bundle", "air.dsse", file]);
    make("air.toml").said(
        2,
        &["air.toml", "neither an image nor signed", "fades sign"],
    );
    make("gone.dsse").said(2, &["cannot read gone.dsse"]);
    make("summary.dsse").said(2, &["signature of a function", "name the image"]);
    stage.write("hello.fades", std::fs::read(image("hello")).unwrap());
    make("hello.fades").said(2, &["there is no hello.dsse", "fades sign hello.fades"]);
    let other = std::fs::read(stage.home().join("summary.dsse")).unwrap();
    stage.write("hello.dsse", other);
    make("hello.fades").said(2, &["hello.dsse is about sha256:", "fades sign"]);
    stage.write("odd.dsse", r#"{"payloadType": "text/plain"}"#);
    make("odd.dsse").said(2, &["text/plain", "no place"]);
    assert!(!stage.home().join("site.bundle").exists());
    stage.write("site.bundle", "rosebud");
    for action in ["show", "load"] {
        stage
            .run(&["bundle", action, "site.bundle"])
            .said(2, &["site.bundle is no bundle"]);
    }
}

#[test]
fn a_bundle_with_one_bad_part_is_refused_with_the_part_named() {
    if !can_run("a_bundle_with_one_bad_part_is_refused_with_the_part_named") {
        return;
    }
    let stage = Stage::with_node();
    signed(&stage);
    stage.run(&["key", "new", "stranger"]).good();
    stage.write("hello.fades", std::fs::read(image("hello")).unwrap());
    stage
        .run(&["sign", "hello.fades", "--key", "stranger"])
        .good();
    let files = ["summary.fades", "hello.fades", "air.dsse"];
    stage
        .run(&[&["bundle", "make", "site.bundle"], &files[..]].concat())
        .good();
    let node = stage.node();
    stage.run(&["bundle", "load", "site.bundle"]).said(
        1,
        &[
            "functions[1]",
            "not trust",
            "nothing of the bundle was taken",
        ],
    );
    let functions = stage.run(&["functions", "-o", "json"]).good().json();
    assert_eq!(functions.as_array().unwrap().len(), 0, "{functions}");
    node.stop();
}
