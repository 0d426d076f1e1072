//! Keys that are lost, and what an operator does then: on real nodes, with the
//! commands that `docs/keys.md` has.

use serde_json::Value;

use crate::stage::{Node, Stage, can_run, image, skipped, until};

/// A node for production, in whose table `root1` to `root3`, `plant` and `city` are.
struct Site {
    stage: Stage,
}

impl Site {
    fn new(threshold: u32, roots: &[&str]) -> Self {
        let stage = Stage::empty();
        stage
            .run(&["init", "fades-node", "--name", "here", "--production"])
            .good();
        stage.write(
            "fades-node/conf.d/grants.toml",
            "[grant.city]\nservices = [\"city-air\"]\nfunctions = [\"*\"]\nhistory = \"any\"\n",
        );
        let site = Self { stage };
        for root in roots {
            site.trusts(root, &["--role", "administer"]);
        }
        site.trusts("plant", &["--role", "publish"]);
        site.trusts(
            "city",
            &[
                "--role",
                "submit",
                "--role",
                "read",
                "--service",
                "city-air",
            ],
        );
        if threshold > 1 {
            let path = site.table();
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("threshold = {threshold}\n{text}")).unwrap();
        }
        site
    }

    fn table(&self) -> std::path::PathBuf {
        self.stage.folder().join("trust.toml")
    }

    /// Makes a key, and has the operator trust it.
    fn trusts(&self, name: &str, words: &[&str]) {
        self.run(&["key", "new", name]);
        let public = self.public(name);
        self.run(&[&["key", "trust", &public], words].concat());
    }

    fn public(&self, name: &str) -> String {
        let path = format!(".config/fades/keys/{name}.pub");
        self.stage.home().join(path).display().to_string()
    }

    fn public_text(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.public(name)).unwrap();
        text.trim().to_owned()
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        self.stage.run(words).good().err
    }

    /// A node that runs, with its functions.
    fn start(&self) -> Node {
        let node = self.stage.node_with(&["--production"]);
        let node = node.unwrap_or_else(|said| panic!("{said}"));
        for function in ["summary", "misbehave"] {
            self.run(&["publish", &image(function), "--key", "plant"]);
        }
        node
    }

    fn submit(&self, key: &str, words: &[&str]) -> crate::stage::Ended {
        let who = ["--key", key, "--service", "city-air"];
        self.stage
            .run(&[&["submit"], words, &["--kind", "temperature"], &who].concat())
    }

    fn trust(&self) -> Value {
        let words = ["trust", "show", "-o", "json"];
        self.stage.run(&words).good().json()
    }

    /// Drafts the next table, edits it, and has some sign it.
    fn signed(&self, file: &str, by: &[&str], edit: impl FnOnce(String) -> String) {
        let draft = format!("{file}.toml");
        self.run(&["trust", "draft", &draft]);
        let path = self.stage.home().join(&draft);
        let text = edit(std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, text).unwrap();
        for name in by {
            self.run(&["trust", "sign", &draft, "--key", name]);
        }
    }

    fn failure(&self, id: &str) -> (String, String) {
        let words = ["result", id, "-o", "json"];
        let result = self.stage.run(&words).json();
        let state = result["state"].as_str().unwrap_or_default().to_owned();
        (state, result["failure"].to_string())
    }
}

#[test]
fn a_lost_submitter_key_is_revoked_and_replaced_and_what_it_signed_stops() {
    let test = "a_lost_submitter_key_is_revoked_and_replaced_and_what_it_signed_stops";
    if !can_run(test) {
        return;
    }
    let site = Site::new(1, &["root1"]);
    let node = site.start();
    let stands = ["summary", "--id", "stands", "--every", "1h"];
    site.submit("city", &stands).good();
    let stays = ["misbehave", "--id", "stays", "--window", "1s"];
    site.submit("city", &stays).good();
    let runs = ["misbehave", "--id", "runs", "--param", "do=loop"];
    site.submit("city", &runs).good();
    until("it runs", || site.failure("runs").0 == "running");

    // One administrator is enough, at once.
    site.run(&[
        "trust",
        "revoke",
        "city",
        "--reason",
        "laptop stolen",
        "--key",
        "root1",
    ]);
    let said = site.run(&["trust", "update", "revocations-1.dsse"]);
    assert!(said.contains("counter 1"), "{said}");
    for id in ["stands", "stays", "runs"] {
        until("it has stopped", || site.failure(id).0 == "cancelled");
        let (_, why) = site.failure(id);
        assert!(
            why.contains("revocation") && why.contains("laptop stolen"),
            "{why}"
        );
    }
    site.submit("city", &["summary"])
        .said(1, &["laptop stolen", "fades key new"]);

    // Its owner gets another key, by a table that the administrator signs.
    site.run(&["key", "new", "city-2"]);
    let (old, new) = (site.public_text("city"), site.public_text("city-2"));
    site.signed("next", &["root1"], |text| {
        text.replace("\"city\"", "\"city-2\"").replace(&old, &new)
    });
    site.run(&["trust", "update", "next.dsse"]);
    site.submit("city-2", &["summary", "--wait"]).good();
    assert_eq!(node.stop(), Some(0));

    // All of it holds in the next life, and against an older table.
    let text = std::fs::read_to_string(site.table()).unwrap();
    assert!(text.contains(&old), "the operator's file is as it was");
    let node = site.start();
    let trust = site.trust();
    assert_eq!(trust["state"]["version"], 1);
    assert_eq!(trust["state"]["counter"], 1);
    site.submit("city", &["summary"])
        .said(1, &["laptop stolen"]);
    site.submit("city-2", &["summary", "--wait"]).good();
    site.signed("older", &["root1"], |text| {
        let text = text.replace("\"city-2\"", "\"city\"").replace(&new, &old);
        text.replace("version = 2", "version = 1")
    });
    let again = site.stage.run(&["trust", "update", "older.dsse"]);
    again.said(1, &["version 1, and version 1 is in force"]);
    // Nor does a newer table bring the key back.
    site.signed("newer", &["root1"], |text| {
        text.replace("\"city-2\"", "\"city\"").replace(&new, &old)
    });
    site.run(&["trust", "update", "newer.dsse"]);
    site.submit("city", &["summary"])
        .said(1, &["laptop stolen"]);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_lost_root_key_with_a_threshold_is_replaced_by_the_other_administrators() {
    let test = "a_lost_root_key_with_a_threshold_is_replaced_by_the_other_administrators";
    if !can_run(test) {
        return;
    }
    let site = Site::new(2, &["root1", "root2", "root3"]);
    let node = site.start();
    // Whoever found root3 can do nothing alone.
    site.run(&["key", "new", "thief"]);
    let thief = site.public_text("thief");
    let first = site.public_text("root1");
    site.signed("theft", &["root3"], |text| text.replace(&first, &thief));
    site.stage
        .run(&["trust", "update", "theft.dsse"])
        .said(1, &["1 of the 2 signatures", "have 1 more sign it"]);
    // The others put another key in its place, and revoke it.
    site.run(&["key", "new", "root4"]);
    let (old, new) = (site.public_text("root3"), site.public_text("root4"));
    site.signed("next", &["root1"], |text| {
        text.replace("\"root3\"", "\"root4\"").replace(&old, &new)
    });
    // Nobody's signature is lost to another draft of that name.
    let draft = site.stage.home().join("next.toml");
    let text = std::fs::read_to_string(&draft).unwrap();
    std::fs::write(&draft, text.replace("version = 1", "version = 2")).unwrap();
    let sign = ["trust", "sign", "next.toml", "--key", "root2"];
    site.stage.run(&sign).said(2, &["something else signed"]);
    // The second is somewhere else, and has the envelope only.
    site.run(&["trust", "sign", "next.dsse", "--key", "root2"]);
    let lost = site.public("root3");
    site.run(&["trust", "update", "next.dsse"]);
    site.run(&[
        "trust",
        "revoke",
        &lost,
        "--reason",
        "lost on a train",
        "--key",
        "root2",
    ]);
    site.run(&["trust", "update", "revocations-1.dsse"]);
    let state = site.trust()["state"].clone();
    assert_eq!(
        (&state["version"], &state["administrators"]),
        (&1.into(), &3.into())
    );
    // From now on the new one signs, and the lost one does not count.
    site.signed("third", &["root3", "root2"], |text| text);
    site.stage
        .run(&["trust", "update", "third.dsse"])
        .said(1, &["1 of the 2 signatures"]);
    site.run(&["trust", "sign", "third.dsse", "--key", "root4"]);
    site.run(&["trust", "update", "third.dsse"]);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_lost_root_key_without_others_is_replaced_at_the_node_itself() {
    let test = "a_lost_root_key_without_others_is_replaced_at_the_node_itself";
    if !can_run(test) {
        return;
    }
    let site = Site::new(1, &["root1"]);
    let node = site.start();
    site.signed("first", &["root1"], |text| text);
    site.run(&["trust", "update", "first.dsse"]);
    // What the operator writes is not in force, and that is said.
    site.run(&["key", "new", "other"]);
    let said = site.run(&["key", "trust", &site.public("other"), "--role", "read"]);
    assert!(
        said.contains("NOT trusted") && said.contains("version = 2"),
        "{said}"
    );
    // The key is gone. Whoever can write the node's folder decides.
    let (old, name) = (site.public_text("root1"), "root2");
    site.run(&["key", "new", name]);
    let new = site.public_text(name);
    let text = std::fs::read_to_string(site.table()).unwrap();
    let text = text.replace("\"root1\"", "\"root2\"").replace(&old, &new);
    // Without a greater version the update stays in force.
    std::fs::write(site.table(), &text).unwrap();
    assert_eq!(site.trust()["state"]["update"], true);
    std::fs::write(site.table(), format!("version = 2\n{text}")).unwrap();
    let state = site.trust()["state"].clone();
    assert_eq!(
        (&state["update"], &state["version"]),
        (&false.into(), &2.into())
    );
    let lost = site.public("root1");
    site.run(&[
        "trust", "revoke", &lost, "--reason", "lost", "--key", "root2",
    ]);
    site.run(&["trust", "update", "revocations-1.dsse"]);
    // Should somebody find it, it signs nothing any more.
    site.signed("found", &["root1"], |text| text);
    site.stage
        .run(&["trust", "update", "found.dsse"])
        .said(1, &["0 of the 1 signatures"]);
    site.signed("next", &["root2"], |text| text);
    site.run(&["trust", "update", "next.dsse"]);
    assert_eq!(node.stop(), Some(0));
    // An older file, from a copy of the folder, is noticed.
    let newest = site.trust_of_a_restart(&format!("version = 1\n{text}"));
    assert!(newest.is_ok(), "the update is newer than both: {newest:?}");
    std::fs::write(site.table(), format!("version = 9\n{text}")).unwrap();
    assert_eq!(site.start().stop(), Some(0));
    let said = site.trust_of_a_restart(&format!("version = 1\n{text}"));
    let said = said.unwrap_err();
    for word in ["trust.toml", "version 9", "above 9"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

impl Site {
    /// Starts a node with another table; what it said when it did not start.
    fn trust_of_a_restart(&self, text: &str) -> Result<(), String> {
        std::fs::write(self.table(), text).unwrap();
        let node = self.stage.node_with(&["--production"])?;
        assert_eq!(node.stop(), Some(0));
        Ok(())
    }
}

#[test]
fn a_restored_node_says_that_revocations_may_be_missing_until_they_are_handed_in() {
    let test = "a_restored_node_says_that_revocations_may_be_missing_until_they_are_handed_in";
    if !can_run(test) {
        return;
    }
    let site = Site::new(1, &["root1"]);
    let node = site.start();
    site.run(&["backup", "old.fades", "--folder", "fades-node"]);
    site.run(&[
        "trust",
        "revoke",
        "city",
        "--reason",
        "laptop stolen",
        "--key",
        "root1",
    ]);
    site.run(&["trust", "update", "revocations-1.dsse"]);
    assert_eq!(node.stop(), Some(0));
    let gone = site.stage.home().join("gone");
    std::fs::rename(site.stage.folder(), gone).unwrap();
    let said = site.run(&["restore", "old.fades", "fades-node"]);
    assert!(said.contains("fades trust update"), "{said}");

    let node = site.stage.node_with(&["--production"]).unwrap();
    let says_so = || {
        let doctor = site.stage.run(&["doctor", "--folder", "fades-node"]).out;
        assert!(doctor.contains("trust "), "{doctor}");
        doctor.contains("restored from a backup")
    };
    assert!(says_so(), "nobody can tell what was signed since");
    site.submit("city", &["summary"]).good();
    site.run(&["trust", "update", "revocations-1.dsse"]);
    assert!(!says_so());
    site.submit("city", &["summary"])
        .said(1, &["laptop stolen"]);
    let listed = site
        .stage
        .run(&["key", "list", "--folder", "fades-node"])
        .good();
    assert!(listed.out.contains("revoked"), "{listed:?}");
    let short = "revoked keys: 1, counter 1";
    assert!(listed.err.contains(short), "{listed:?}");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn tables_and_revocations_come_out_of_an_inbox() {
    let test = "tables_and_revocations_come_out_of_an_inbox";
    if !can_run(test) {
        return;
    }
    let site = Site::new(1, &["root1"]);
    let post = site.stage.folder().join("post");
    std::fs::create_dir(&post).unwrap();
    let places = "[inbox.post]\nfolder = \"post\"\n";
    site.stage.write("fades-node/conf.d/post.toml", places);
    let node = site.start();
    let stands = ["summary", "--id", "stands", "--every", "1h"];
    site.submit("city", &stands).good();
    let bring = |file: &str, name: &str| {
        let from = site.stage.home().join(file);
        std::fs::copy(from, post.join(format!("{name}.part"))).unwrap();
        std::fs::rename(post.join(format!("{name}.part")), post.join(name)).unwrap();
    };
    let taken = |name: &str| {
        until("the letter is taken", || {
            post.join("taken").join(name).is_file()
        });
    };
    site.signed("next", &["root1"], |text| text);
    bring("next.dsse", "a.json");
    taken("a.json");
    assert_eq!(site.trust()["state"]["version"], 1);
    // The courier may bring it twice.
    bring("next.dsse", "b.json");
    taken("b.json");
    site.run(&[
        "trust",
        "revoke",
        "city",
        "--reason",
        "laptop stolen",
        "--key",
        "root1",
    ]);
    bring("revocations-1.dsse", "c.json");
    taken("c.json");
    until("its schedule has stopped", || {
        site.failure("stands").0 == "cancelled"
    });
    // What is refused says why.
    site.run(&[
        "trust",
        "revoke",
        "plant",
        "--reason",
        "gone",
        "--key",
        "plant",
        "--to",
        "forged.dsse",
    ]);
    bring("forged.dsse", "d.json");
    let refused = post.join("refused");
    until("the letter is refused", || refused.join("d.json").is_file());
    let reasons = std::fs::read_dir(&refused).unwrap().flatten();
    let reasons: Vec<String> = reasons
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .collect();
    assert!(
        reasons
            .iter()
            .any(|text| text.contains("0 of the 1 signatures")),
        "{reasons:?}"
    );
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn everything_that_is_signed_is_checked_without_any_network() {
    let test = "everything_that_is_signed_is_checked_without_any_network";
    if !can_run(test) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "only root can make a network namespace");
    }
    let site = Site::new(1, &["root1"]);
    let alone = ["unshare", "--net"];
    // There is no way out, not even to itself.
    let interfaces = site.stage.run_by(&alone, "cat", &["/proc/net/dev"]).good();
    let up = site
        .stage
        .run_by(&alone, "cat", &["/proc/net/route"])
        .good();
    let names: Vec<&str> = interfaces
        .out
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim()))
        .collect();
    assert_eq!(names, ["lo"], "and that is down: {}", up.out);
    assert!(
        up.out.lines().count() <= 1,
        "a head at the most: {}",
        up.out
    );

    let node = site.stage.node_by(&alone);
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(network(node.pid()), network(std::process::id()));
    // A function and a task, published and run.
    let summary = image("summary");
    site.run(&["sign", &summary, "--key", "plant", "--to", "summary.dsse"]);
    site.run(&["publish", &summary, "--key", "plant"]);
    site.submit("city", &["summary", "--wait"]).good();
    site.submit("city", &["summary", "--save", "task.toml", "--dry-run"])
        .good();
    site.run(&["sign", "task.toml", "--key", "city"]);
    let verified = |words: &[&str], good: &str| {
        let table = site.table().display().to_string();
        let words = [&["verify"], words, &["--trust", &table]].concat();
        let fades = crate::stage::fades().display().to_string();
        let ended = site.stage.run_by(&alone, &fades, &words).good();
        assert!(ended.err.contains(good), "{good}: {}", ended.err);
    };
    verified(
        &["summary.dsse", "--image", &summary],
        "function summary@sha256",
    );
    verified(&["task.dsse", "--for", "here"], "of service city-air");
    // An update and a revocation.
    site.signed("next", &["root1"], |text| text);
    site.run(&[
        "trust", "revoke", "city", "--reason", "lost", "--key", "root1",
    ]);
    verified(
        &["next.dsse", "--for", "here"],
        "version 1, signed by root1",
    );
    verified(&["revocations-1.dsse"], "counter 1, signed by root1");
    site.run(&["trust", "update", "next.dsse", "revocations-1.dsse"]);
    site.submit("city", &["summary"]).said(1, &["was revoked"]);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_node_that_is_started_for_production_takes_no_development_key() {
    if !can_run("a_node_that_is_started_for_production_takes_no_development_key") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node_with(&["--production"]);
    let node = node.unwrap_or_else(|said| panic!("{said}"));
    let words = ["for development", "fades key new NAME", "fades key trust"];
    stage.run(&["publish", &image("summary")]).said(1, &words);
    let info = stage.get("/v1/node");
    assert!(info.contains("\"development-keys\":[]"), "{info}");
    let shown = stage.run(&["trust", "show"]).good().out;
    assert!(shown.contains("NOT TAKEN"), "{shown}");
    assert_eq!(node.stop(), Some(0));
    // The same by the file.
    let text = std::fs::read_to_string(stage.folder().join("node.toml")).unwrap();
    let text = text.replace("# development-keys", "development-keys");
    stage.write("fades-node/node.toml", text);
    let node = stage.node();
    stage.run(&["publish", &image("summary")]).said(1, &words);
    assert_eq!(node.stop(), Some(0));
}
