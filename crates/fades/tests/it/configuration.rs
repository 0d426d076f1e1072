//! Folders, keys and configuration, without a node that runs.

use std::os::unix::fs::PermissionsExt;

use crate::stage::Stage;

#[test]
fn init_makes_a_node_once_and_says_that_its_keys_are_for_development() {
    let stage = Stage::empty();
    stage
        .run(&["init", "n"])
        .said(0, &["DEVELOPMENT KEYS", "fades node n"]);
    stage
        .run(&["init", "n"])
        .said(2, &["is there already", "try: "]);
    stage
        .run(&["config", "check", "--folder", "n"])
        .said(0, &["good", "2 trusted keys"]);
    let mode = stage
        .home()
        .join("n")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn every_error_in_node_toml_names_file_line_and_remedy() {
    let stage = Stage::with_node();
    for (text, said) in [
        (
            "[node]\nnmae = \"x\"\n",
            [
                "conf.d/x.toml:2: unknown field `nmae`",
                "did you mean `name`?",
            ],
        ),
        ("[node]\nmemory = \"much\"\n", ["conf.d/x.toml:2: ", "MiB"]),
        (
            "[node]\nlisten = \"0.0.0.0:1\"\n",
            ["conf.d/x.toml:2: node.listen", "[node.tls]"],
        ),
        (
            "[source.sample]\nflies = 1\n",
            ["conf.d/x.toml:2: source.sample", "flies"],
        ),
        (
            "[source.y]\ntype = \"telex\"\n",
            ["conf.d/x.toml:2: source.y.type", "csv"],
        ),
        (
            "[source.y]\nfiles = \"x\"\n",
            ["conf.d/x.toml:2: source.y", "type"],
        ),
        ("[node\n", ["conf.d/x.toml:1: ", ""]),
    ] {
        stage.write("fades-node/conf.d/x.toml", text);
        stage.run(&["config", "check"]).said(2, &said);
        let node = stage.node_with(&[]).unwrap_err();
        assert!(node.contains(said[0]), "{node}");
    }
}

#[test]
fn config_show_says_where_each_value_comes_from() {
    let stage = Stage::with_node();
    stage.write("fades-node/conf.d/x.toml", "[node]\nmemory = \"64MiB\"\n");
    let shown = stage.run(&["config", "show", "-o", "json"]).good().json();
    let origin = |field: &str| {
        let mut all = shown.as_array().unwrap().iter();
        let found = all.find(|s| s["field"] == field).unwrap();
        found["origin"].as_str().unwrap().to_owned()
    };
    assert!(origin("node.memory").ends_with("conf.d/x.toml:2"));
    assert!(origin("node.name").contains("node.toml:"));
    assert_eq!(origin("node.parallel"), "default");
    assert!(
        stage
            .run(&["config", "show"])
            .good()
            .out
            .contains("default")
    );
}

#[test]
fn keys_are_made_listed_and_trusted() {
    let stage = Stage::with_node();
    let made = stage.run(&["key", "new", "alice"]).good();
    assert!(made.out.starts_with("fades-key-v1:"));
    stage
        .run(&["key", "new", "alice"])
        .said(2, &["is there already"]);
    stage.run(&["key", "new", "../x"]).said(2, &["no name"]);
    let public = ".config/fades/keys/alice.pub";
    stage
        .run(&["key", "trust", public, "--role", "submit"])
        .said(2, &["services"]);
    stage
        .run(&["key", "trust", public, "--role", "root"])
        .said(2, &["publish, submit, read"]);
    let trust = [
        "key",
        "trust",
        public,
        "--role",
        "submit",
        "--role",
        "read",
        "--service",
        "city",
    ];
    stage.run(&trust).said(0, &["trusts alice"]);
    stage.run(&trust).said(2, &["used twice"]);
    let listed = stage.run(&["key", "list"]).good().out;
    assert!(
        listed.contains("submit read") && listed.contains("development-publish"),
        "{listed}"
    );
    stage.run(&["key", "new", "bob"]).good();
    let public = ".config/fades/keys/bob.pub";
    let past = "2020-01-01T00:00:00Z";
    let trust = [
        "key",
        "trust",
        public,
        "--role",
        "read",
        "--not-after",
        past,
    ];
    stage.run(&trust).good();
    let listed = stage.run(&["key", "list"]).good().out;
    assert!(listed.contains(&format!("ended {past}")), "{listed}");
    let said = stage.run(&["doctor"]).out;
    assert!(said.contains(&format!("key bob ended at {past}")), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let stage = Stage::with_node();
    let key = stage.folder().join("keys/development-ask.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    stage
        .run(&["ps"])
        .said(2, &["others than its owner", "chmod 600"]);
}

#[test]
fn a_signed_task_is_verified_without_a_node_and_a_changed_one_is_not() {
    let stage = Stage::with_node();
    let digest = format!("sha256:{}", "0".repeat(64));
    stage.write(
        "t.toml",
        format!("[function]\nimage = \"hello@{digest}\"\n"),
    );
    stage
        .run(&["sign", "t.toml"])
        .said(0, &["signed by key", "t.dsse"]);
    stage
        .run(&["verify", "t.dsse"])
        .said(0, &["good: task", "signed by development-ask"]);
    stage
        .run(&["verify", "t.dsse", "--for", "elsewhere"])
        .said(1, &["meant for here"]);
    stage.run(&["key", "new", "mallory"]).good();
    stage
        .run(&["sign", "t.toml", "--key", "mallory", "--to", "m.dsse"])
        .good();
    stage
        .run(&["verify", "m.dsse"])
        .said(1, &["does not trust"]);
    let signed = std::fs::read_to_string(stage.home().join("t.dsse")).unwrap();
    // A byte of the payload that keeps it base64.
    let at = signed.find("\"payload\":\"").unwrap() + 40;
    let mut changed = signed.into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    stage.write("c.dsse", changed);
    stage
        .run(&["verify", "c.dsse"])
        .said(1, &["changed after it was signed"]);
    stage.write("n.dsse", "{}");
    stage
        .run(&["verify", "n.dsse"])
        .said(1, &["not a DSSE envelope"]);
    stage.write("u.toml", "[function]\nimage = \"hello\"\n");
    stage
        .run(&["sign", "u.toml"])
        .said(2, &["without its digest", "fades functions --long"]);
}

#[test]
fn a_node_is_found_in_the_users_configuration() {
    let stage = Stage::empty();
    stage.write(
        ".config/fades/config.toml",
        "[node.far]\nsocket = \"/nowhere.sock\"\n",
    );
    stage
        .run(&["ps", "--node", "far"])
        .said(2, &["cannot reach node far at /nowhere.sock"]);
    stage
        .run(&["ps", "--node", "near"])
        .said(2, &["no node \"near\"", "it has: far"]);
    stage.write(".config/fades/config.toml", "[node.far]\nsokcet = \"/x\"\n");
    stage
        .run(&["ps"])
        .said(2, &["config.toml:2", "did you mean `socket`?"]);
}

#[test]
fn the_doctor_says_no_when_something_needed_is_missing() {
    let stage = Stage::empty();
    stage.run(&["doctor"]).good();
    let ended = stage.run(&["doctor", "--tender", "/nonexistent/tender"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("MISSING") && ended.out.contains("is not there"),
        "{}",
        ended.out
    );
    let findings = stage.run(&["doctor", "-o", "json"]).json();
    assert!(
        findings
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["what"] == "batches")
    );
}
