//! Grants, as an operator writes them and a submitter meets them.

use crate::stage::{Stage, can_run};

const NORTH: &str = "[grant.north]\nservices = [\"local\"]\nfunctions = [\"summary\"]\n\
                     locations = [\"house/north\"]\nhistory = \"any\"\n";

const TASK: &str = "[[retrieve]]\nname = \"warmth\"\nkind = \"temperature\"\n\n\
                    [function]\nimage = \"summary\"\n";

/// A node that grants what `grants` says, and nothing else.
fn stage(grants: &str) -> Stage {
    let stage = Stage::with_node();
    stage.write("fades-node/conf.d/development.toml", grants);
    stage
}

#[test]
fn a_decision_is_explained_condition_by_condition_without_a_node() {
    let stage = stage(NORTH);
    stage.write("warm.toml", TASK);
    let check = |more: &[&str]| {
        let words = [&["grants", "check", "warm.toml"], more].concat();
        stage.run(&words)
    };
    let refused = check(&[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for words in [
        "grant north does not allow it",
        "yes  service",
        "NO   retrieve warmth, location  any",
        "\"\" would match as well",
        "refused: grant north: retrieve warmth, location",
    ] {
        assert!(refused.out.contains(words), "{words}: {}", refused.out);
    }
    // What is offered is enough.
    let (_, table) = refused.out.split_once("not much more:\n\n").unwrap();
    stage.write("fades-node/conf.d/more.toml", table);
    let allowed = check(&[]).good();
    assert!(
        allowed.out.contains("allowed by grant local"),
        "{allowed:?}"
    );
    let json = check(&["-o", "json", "--service", "noise"]);
    assert_eq!(json.code, 1);
    let decision = json.json();
    assert_eq!(decision["allowed"], serde_json::Value::Null);
    let said = decision["refusal"].as_str().unwrap();
    assert!(said.contains("names the service noise"), "{said}");
    assert_eq!(decision["grants"][0]["conditions"][0]["met"], false);
    let listed = stage.run(&["grants", "list"]).good().out;
    assert!(listed.contains("locations house/north"), "{listed}");
    stage.write("fades-node/conf.d/development.toml", "");
    stage.write("fades-node/conf.d/more.toml", "");
    let none = stage.run(&["grants", "list"]).good();
    assert!(none.err.contains("every task is refused"), "{none:?}");
}

#[test]
fn a_node_gives_what_is_granted_and_refuses_the_rest() {
    if !can_run("a_node_gives_what_is_granted_and_refuses_the_rest") {
        return;
    }
    let stage = stage(NORTH);
    let node = stage.node();
    stage.publish(&["summary"]);
    let ask = ["submit", "summary", "--kind", "temperature", "--wait"];
    stage.run(&ask).said(
        1,
        &["grant north", "location", "\"house/north\" is granted"],
    );
    let north = stage.ask(&[
        "summary",
        "--kind",
        "temperature",
        "--location",
        "house/nort[h]",
    ]);
    assert_eq!(north["coverage"][0]["matched"], 1, "{north}");
    stage.write("fades-node/conf.d/development.toml", "");
    stage.run(&["config", "reload"]).good();
    let north = [&ask[..], &["--location", "house/north"]].concat();
    stage
        .run(&north)
        .said(1, &["names the service local", "[grant.local]"]);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn an_export_withholds_what_is_not_given() {
    if !can_run("an_export_withholds_what_is_not_given") {
        return;
    }
    let bounded = |export: &str| format!("{NORTH}[grant.north.export]\n{export}\n");
    let stage = stage(&bounded("fields = {}\nmin-devices = 2"));
    let node = stage.node();
    stage.publish(&["summary"]);
    let ask = || {
        stage.ask(&[
            "summary",
            "--kind",
            "temperature",
            "--location",
            "house/north",
        ])
    };
    let reload = |export: &str| {
        stage.write("fades-node/conf.d/development.toml", bounded(export));
        stage.run(&["config", "reload"]).good();
    };
    let little = ask();
    assert_eq!(little["failure"]["what"], "too-little", "{little}");
    assert_eq!(little["coverage"], serde_json::json!([]), "{little}");
    reload("fields = {}\nmin-devices = 1\nmin-readings = 96");
    let withheld = ask();
    assert_eq!(withheld["failure"]["kind"], "withheld", "{withheld}");
    assert_eq!(withheld.get("answer"), None, "{withheld}");
    reload("fields = { by = \"any\", quantiles = \"any\", groups = \"any\" }\nmin-readings = 97");
    assert_eq!(ask()["failure"]["what"], "too-little");
    reload("fields = { by = \"any\", quantiles = \"any\", groups = \"any\" }\nmin-readings = 96");
    let done = ask();
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(done["coverage"][0]["used"], 96, "{done}");
    assert_eq!(node.stop(), Some(0));
}
