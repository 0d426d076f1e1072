//! Functions in folders and registries, by the command.

use crate::stage::{Stage, can_run, image};

const KEY: &str = "fades-node/keys/development-publish.key";

#[test]
fn a_function_goes_by_a_folder_from_one_host_to_another_node() {
    if !can_run("a_function_goes_by_a_folder_from_one_host_to_another_node") {
        return;
    }
    let stage = Stage::with_node();
    let pushed = stage.run(&["push", &image("summary"), "oci:stick:1.0", "--key", KEY]);
    let pinned = pushed.good().out;
    let pinned = pinned.trim();
    assert!(pinned.starts_with("oci:stick@sha256:"), "{pinned}");
    let seen = stage.run(&["inspect", pinned, "-o", "json"]).good().json();
    let digest = seen["image"].as_str().unwrap().to_owned();
    assert_eq!(seen["signatures"][0]["name"], "summary");
    assert_eq!(seen["bills-of-materials"], 1);
    let file = stage.run(&["inspect", &image("summary"), "-o", "json"]);
    assert_eq!(file.good().json()["image"], digest.as_str());

    let pulled = stage.run(&["pull", "oci:stick:1.0", "--out", "out"]).good();
    assert_eq!(pulled.out, format!("summary@{digest}\n"));
    let there = |ending: &str| std::fs::read(stage.home().join(format!("out/summary.{ending}")));
    assert_eq!(
        there("fades").unwrap(),
        std::fs::read(image("summary")).unwrap()
    );
    assert!(there("sym").is_ok() && there("cdx.json").is_ok());
    stage
        .run(&[
            "verify",
            "out/summary.dsse",
            "--trust",
            "fades-node/trust.toml",
        ])
        .said(0, &["good: function summary@"]);

    let node = stage.node();
    let published = stage.run(&["pull", pinned, "--publish"]);
    let published = published.said(0, &["node here has summary, signed by development-publish"]);
    assert_eq!(published.out, format!("summary@{digest}\n"));
    let listed = stage.run(&["functions", "--long"]).good().out;
    assert!(listed.contains(&digest), "{listed}");
    node.stop();
}

#[test]
fn what_cannot_be_pushed_or_pulled_says_what_helps() {
    if !can_run("what_cannot_be_pushed_or_pulled_says_what_helps") {
        return;
    }
    let stage = Stage::with_node();
    let summary = image("summary");
    // Another folder: no signature lies beside it.
    let copy = stage.write("summary.fades", std::fs::read(&summary).unwrap());
    let copy = copy.display().to_string();
    stage
        .run(&["push", &copy, "oci:stick:1.0"])
        .said(2, &["no signature to push along", "--key NAME"]);
    stage
        .run(&["push", &copy, "summary", "--key", KEY])
        .said(2, &["names no registry", "HOST/REPOSITORY:TAG"]);
    let pinned = format!("oci:stick@sha256:{}", "0".repeat(64));
    stage
        .run(&["push", &copy, &pinned, "--key", KEY])
        .said(2, &["name a tag"]);
    stage
        .run(&["push", &copy, "oci:fades-node:1.0", "--key", KEY])
        .said(2, &["no OCI layout folder", "name an empty folder"]);
    stage
        .run(&["pull", "oci:stick:1.0"])
        .said(2, &["no OCI layout folder"]);
    stage
        .run(&["push", &copy, "oci:stick:1.0", "--key", KEY])
        .good();
    stage
        .run(&["pull", "oci:stick:2.0"])
        .said(1, &["oci:stick has no 2.0"]);
    stage
        .run(&["inspect", "nonsense"])
        .said(2, &["neither a file nor in a registry"]);
    stage
        .run(&["pull", "http://127.0.0.1:1/a/b:1"])
        .said(2, &["nothing listens at http://127.0.0.1:1"]);
    stage.write("auth.json", "rosebud");
    let ended = stage.run(&[
        "pull",
        "http://127.0.0.1:1/a/b:1",
        "--auth-file",
        "auth.json",
    ]);
    let ended = ended.said(2, &["auth.json is no auth file"]);
    assert!(!ended.err.contains("rosebud"), "{}", ended.err);
    // The signature of another image.
    let hello = stage.write("hello.fades", std::fs::read(image("hello")).unwrap());
    stage
        .run(&["sign", &hello.display().to_string(), "--key", KEY])
        .good();
    stage
        .run(&["push", &copy, "oci:stick:1.1", "--envelope", "hello.dsse"])
        .said(2, &["it is about sha256:", "fades sign"]);
    // What lies beside the image is pushed along.
    let beside = stage
        .run(&["push", "hello.fades", "oci:stick:hello"])
        .good();
    assert!(beside.err.contains("pushed hello"), "{}", beside.err);
}
