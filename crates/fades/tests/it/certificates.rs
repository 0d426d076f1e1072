//! Asking a node over TCP, with certificates made as the documentation says.

use std::process::Command;

use crate::stage::{Node, Stage, can_run, skipped};

/// Where the documentation is.
const API_MD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");

/// The first piece of shell after a heading of the page.
fn documented(heading: &str) -> String {
    let page = std::fs::read_to_string(API_MD).unwrap();
    let part = page.split_once(heading).expect("the heading is there").1;
    let shell = part.split_once("```sh\n").expect("shell follows").1;
    shell.split_once("```").unwrap().0.to_owned()
}

/// Runs it in the stage's folder `tls`.
fn certificates(stage: &Stage) {
    let folder = stage.home().join("tls");
    std::fs::create_dir(&folder).unwrap();
    let made = Command::new("sh")
        .args(["-euc", &documented("## Over TCP")])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn can_make(test: &str) -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok();
    if !there {
        skipped(test, "openssl is not there; apt-get install openssl");
    }
    there && can_run(test)
}

/// A stage with certificates, whose node listens; and the node's address.
fn listening() -> (Stage, String) {
    let stage = Stage::with_node();
    certificates(&stage);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let config = format!(
        "[node]\nlisten = \"127.0.0.1:{port}\"\n[node.tls]\ncertificate-file = \"../tls/node.crt\"\n\
         key-file = \"../tls/node.key\"\nclient-ca-file = \"../tls/clients.crt\"\n"
    );
    stage.write("fades-node/conf.d/tls.toml", config);
    (stage, format!("https://localhost:{port}"))
}

/// The options for asking as `who`.
fn shown(address: &str, who: &str) -> Vec<String> {
    let file = |name: &str| format!("tls/{name}");
    [
        "--node",
        address,
        "--cert",
        &file(&format!("{who}.crt")),
        "--cert-key",
        &file(&format!("{who}.key")),
        "--ca",
        &file("nodes.crt"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn with<'a>(words: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    let more = more.iter().map(String::as_str);
    words.iter().copied().chain(more).collect()
}

#[test]
fn certificates_made_as_documented_let_in_whom_they_name() {
    if !can_make("certificates_made_as_documented_let_in_whom_they_name") {
        return;
    }
    let (stage, address) = listening();
    let checked = stage.run(&["config", "check"]).good();
    assert!(checked.err.contains("certificate until 20"), "{checked:?}");
    let node: Node = stage.node();
    assert!(
        node.ready.contains(" and https://127.0.0.1:"),
        "{}",
        node.ready
    );
    stage.publish(&["summary"]);
    let operator = shown(&address, "operator");
    let doctor = stage.run(&["doctor"]);
    assert!(
        doctor.out.contains("certificate https://127.0.0.1:"),
        "{doctor:?}"
    );

    // A service of its own, with a key and a certificate.
    stage.run(&["key", "new", "city"]).good();
    let public = ".config/fades/keys/city.pub";
    stage
        .run(&[
            "key",
            "trust",
            public,
            "--role",
            "submit",
            "--service",
            "city-air",
        ])
        .good();
    stage.write(
        "fades-node/conf.d/city.toml",
        "[grant.city]\nservices = [\"city-air\"]\nfunctions = [\"summary\"]\nhistory = \"any\"\n",
    );
    stage.run(&["config", "reload"]).good();
    let config = format!(
        "default-node = \"here\"\n[node.here]\nurl = \"{address}\"\nca = \"../../tls/nodes.crt\"\n\
         cert = \"../../tls/city-air.crt\"\ncert-key = \"../../tls/city-air.key\"\n\
         key = \"city\"\nservice = \"city-air\"\n"
    );
    stage.write(".config/fades/config.toml", config);
    let asked = stage.ask(&["summary", "--node", "here", "--kind", "temperature"]);
    assert_eq!(asked["state"], "done", "{asked}");
    // Another service's, which it does not see and the operator does.
    let foreign = [
        "submit",
        "summary",
        "--folder",
        "fades-node",
        "--kind",
        "temperature",
        "--wait",
    ];
    stage.run(&foreign).good();
    let count = |words: &[&str]| stage.run(words).good().json().as_array().map(Vec::len);
    assert_eq!(count(&["ps", "-o", "json"]), Some(1));
    assert_eq!(count(&with(&["ps", "-o", "json"], &operator)), Some(2));
    assert_eq!(
        count(&["ps", "-o", "json", "--folder", "fades-node"]),
        Some(2)
    );
    stage
        .run(&["source", "test", "sample"])
        .said(1, &["urn:fades:operator"]);
    // A task for a node that is known by its address is for the node of that name.
    let by_address = with(
        &[
            "submit",
            "summary",
            "--key",
            "city",
            "--service",
            "city-air",
            "--kind",
            "temperature",
            "--wait",
        ],
        &operator,
    );
    stage.run(&by_address).good();
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_to_do() {
    if !can_make("who_is_not_let_in_is_told_why_and_what_to_do") {
        return;
    }
    let (stage, address) = listening();
    let _node = stage.node();
    let good = shown(&address, "operator");
    stage.run(&with(&["ps"], &good)).good();
    let ask = |change: &dyn Fn(&mut Vec<String>)| {
        let mut words = good.clone();
        change(&mut words);
        stage.run(&with(&["ps"], &words))
    };
    ask(&|w| w.truncate(2)).said(2, &["nothing says whose certificate", "--ca FILE"]);
    ask(&|w| drop(w.drain(2..6))).said(2, &["nobody without a certificate", "--cert FILE"]);
    ask(&|w| w[5] = "tls/city-air.key".to_owned()).said(2, &["does not belong to it"]);
    ask(&|w| w[7] = "tls/clients.crt".to_owned()).said(2, &["not by this CA", "--ca"]);
    ask(&|w| w[3] = "tls/none.crt".to_owned()).said(2, &["tls/none.crt cannot be read"]);
    // One by the other CA.
    ask(&|w| {
        w[3] = "tls/node.crt".to_owned();
        w[5] = "tls/node.key".to_owned();
    })
    .said(
        2,
        &["does not know the CA of your certificate", "client-ca-file"],
    );
    // An address that the certificate does not have.
    ask(&|w| w[1] = w[1].replace("localhost", "127.0.0.2")).said(2, &["127.0.0.2"]);
    ask(&|w| w[1] = w[1].replace("https", "http")).said(2, &["no node \"http://"]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(stage.home().join("tls/operator.key"), open).unwrap();
    ask(&|_| ()).said(2, &["others than its owner", "chmod 600"]);
}

#[test]
fn check_and_doctor_know_what_is_wrong_with_a_certificate() {
    if !can_make("check_and_doctor_know_what_is_wrong_with_a_certificate") {
        return;
    }
    let (stage, _) = listening();
    stage.run(&["config", "check"]).good();
    std::fs::rename(
        stage.home().join("tls/city-air.key"),
        stage.home().join("tls/node.key"),
    )
    .unwrap();
    let words = [
        "the API could not listen",
        "does not belong to the certificate",
    ];
    stage.run(&["config", "check"]).said(2, &words);
    let doctor = stage.run(&["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.out.contains(words[1]), "{doctor:?}");
    let said = stage.node_with(&[]).unwrap_err();
    assert!(said.contains(words[1]), "{said}");
}

#[test]
fn an_address_that_is_taken_is_refused_and_one_that_is_free_is_said() {
    if !can_make("an_address_that_is_taken_is_refused_and_one_that_is_free_is_said") {
        return;
    }
    let (stage, address) = listening();
    let place = address.replace("https://localhost", "127.0.0.1");
    let taken = std::net::TcpListener::bind(&place).unwrap();
    let said = stage.node_with(&[]).unwrap_err();
    assert!(said.contains(&place), "{said}");
    drop(taken);
    let node = stage.node();
    assert!(node.ready.contains(&place), "{}", node.ready);
    assert_eq!(node.stop(), Some(0));
}
