//! Tasks and functions that a node does not take, and what it says.

use crate::stage::{Stage, can_run, image};

fn ready(test: &str) -> Option<(Stage, crate::stage::Node)> {
    can_run(test).then(|| {
        let stage = Stage::with_node();
        let node = stage.node();
        stage.publish(&["summary"]);
        (stage, node)
    })
}

#[test]
fn a_task_that_may_not_be_is_refused_with_its_reason() {
    let Some((stage, _node)) = ready("a_task_that_may_not_be_is_refused_with_its_reason") else {
        return;
    };
    stage.run(&["key", "new", "stranger"]).good();
    let publisher = "fades-node/keys/development-publish.key";
    let digest = format!("summary@sha256:{}", "0".repeat(64));
    for (words, said) in [
        (&["--key", "stranger"][..], "does not trust"),
        (&["--key", publisher], "may not submit"),
        (&["--service", "city"], "does not speak for service city"),
        (&["--for", "elsewhere"], "meant for elsewhere"),
        (&["--expires", "0s"], "expired at"),
        (&["--memory", "1TiB"], "TiB"),
        (&["--memory", "16GiB"], "memory"),
    ] {
        let task = [&["submit", "summary", "--kind", "temperature"], words].concat();
        let code = if said == "TiB" { 2 } else { 1 };
        stage.run(&task).said(code, &["error: ", said]);
    }
    stage.run(&["submit", &digest]).said(1, &["error: "]);
    stage
        .run(&["submit", "sumary"])
        .said(1, &["has no function sumary", "did you mean summary?"]);
    assert!(
        stage.run(&["ps"]).good().out.is_empty(),
        "something was accepted"
    );
}

#[test]
fn what_is_no_task_does_not_leave_the_command() {
    let stage = Stage::with_node();
    for (text, said) in [
        (
            "[function]\nimage = \"a\"\nlimts = {}\n",
            "t.toml:3: unknown field `limts`",
        ),
        ("[function]\nimage = 5\n", "t.toml:2: invalid type"),
        ("[task]\nname = \"x\"\n", "missing field `function`"),
        ("[function]\nimage = \"a/b\"\n", "names no function"),
        (
            "[function]\nimage = \"a\"\nisolation = []\n",
            "isolation is empty",
        ),
    ] {
        stage.write("t.toml", text);
        stage.run(&["submit", "-f", "t.toml"]).said(2, &[said]);
    }
    stage.write("t.toml", vec![b'#'; 2 << 20]);
    stage
        .run(&["submit", "-f", "t.toml"])
        .said(2, &["a task has at most"]);
    stage.write("t.json", "{\"function\": {\"image\": \"a\", \"x\": 1}}");
    stage
        .run(&["submit", "-f", "t.json"])
        .said(2, &["t.json: function", "unknown field `x`"]);
}

#[test]
fn data_that_is_not_there_is_a_failure_that_names_what_is() {
    let Some((stage, _node)) = ready("data_that_is_not_there_is_a_failure_that_names_what_is")
    else {
        return;
    };
    let failure = |words: &[&str]| {
        let result = stage.ask(&[&["summary"], words].concat());
        assert_eq!(result["state"], "failed", "{result}");
        result["failure"].to_string()
    };
    let unknown = failure(&["--kind", "colour"]);
    assert!(
        unknown.contains("nothing-matches") && unknown.contains("temperature"),
        "{unknown}"
    );
    let empty = failure(&[
        "--kind",
        "temperature",
        "--from",
        "1990-01-01",
        "--to",
        "1990-01-02",
    ]);
    assert!(empty.contains("too-few-answered"), "{empty}");
    let shown = stage.run(&["result"]);
    assert_eq!(shown.code, 1);
    assert!(
        shown.out.contains("0 of 2 devices answered"),
        "{}",
        shown.out
    );
    stage
        .run(&["submit", "summary", "--kind", "colour", "--dry-run"])
        .said(1, &[]);
    let silent = stage.run(&[
        "submit",
        "summary",
        "--kind",
        "*",
        "--last",
        "1m",
        "--dry-run",
    ]);
    assert!(silent.code == 1 && silent.out.contains("would fail: no readings"));
}

#[test]
fn an_image_that_is_none_is_not_published() {
    let Some((stage, _node)) = ready("an_image_that_is_none_is_not_published") else {
        return;
    };
    let whole = std::fs::read(image("summary")).unwrap();
    for (name, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("head", &whole[..40]),
        ("empty", &[][..]),
        ("text", b"#!/bin/sh\n"),
    ] {
        let path = stage.write(&format!("{name}.fades"), bytes);
        stage
            .run(&["publish", path.to_str().unwrap()])
            .said(2, &["as an image", "fades build"]);
    }
    let own = crate::stage::fades();
    let ended = stage.run(&["publish", own.to_str().unwrap()]);
    assert!(
        ended.code == 2 && ended.err.contains("as an image"),
        "{ended:?}"
    );
    assert_eq!(
        stage
            .run(&["functions", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
