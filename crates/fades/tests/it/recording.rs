//! How recording goes, as an operator sees it.

use std::net::TcpListener;

use crate::stage::{Stage, can_run, until};

#[test]
fn what_is_wrong_with_recording_is_seen_where_devices_are_listed() {
    if !can_run("what_is_wrong_with_recording_is_seen_where_devices_are_listed") {
        return;
    }
    let stage = Stage::with_node();
    // Nobody answers there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    stage.write(
        "fades-node/node.toml",
        format!(
            "[node]\nname = \"here\"\nmemory = \"1GiB\"\n\n[source.hall]\ntype = \"mqtt\"\n\
             url = \"mqtt://127.0.0.1:{port}\"\ntopic = \"t/{{device}}/{{kind}}\"\n\
             record = {{ keep = \"5d\" }}\n"
        ),
    );
    let node = stage.node();
    let listed = stage.run(&["resources"]).good();
    assert!(
        listed
            .out
            .contains("hall: 0 readings recorded, 0 waiting, 0 bytes"),
        "{}",
        listed.out
    );
    assert!(!listed.out.contains("disk failed"));
    assert_eq!(node.stop(), Some(0));
    // A clock that was years behind, and a disk that was full.
    stage.write(
        "fades-node/readings/hall/gaps.jsonl",
        "{\"from\":0,\"to\":1000000000,\"reason\":\"disk\",\"readings\":3}\n",
    );
    stage.write(
        "fades-node/readings/.clock.json",
        "{\"time\":1500000000000000000,\"held\":0}",
    );
    let _node = stage.node();
    let mut listed = String::new();
    until("the jump is seen", || {
        listed = stage.run(&["resources"]).good().out;
        listed.contains("ahead of what was expected")
    });
    assert!(listed.contains("0 removed, 3 lost"), "{listed}");
    // The newest gap is that of the orderly end above.
    for words in ["the broker was not running", "1 before"] {
        assert!(listed.contains(words), "{listed}");
    }
    // A list of devices stays one; what is wrong is told all the same.
    let json = stage.run(&["resources", "-o", "json"]).good();
    assert_eq!(json.out.trim(), "[]");
    assert!(
        json.err.contains("ahead of what was expected"),
        "{}",
        json.err
    );
    let answer = stage.get("/v1/resources");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let hall = &body["recording"]["hall"];
    let trouble = hall["trouble"].as_str().unwrap();
    assert!(trouble.contains("ahead of what was expected"), "{trouble}");
    let gaps = hall["gaps"].as_array().unwrap();
    let disk = |g: &&serde_json::Value| g["reason"] == "the disk failed or was full";
    assert_eq!(gaps.iter().find(disk).unwrap()["readings"], 3, "{hall}");
    // Whoever asks for other devices is not told of this source.
    let other = stage.run(&["resources", "--device", "x"]).good();
    assert!(!other.out.contains("hall"), "{}", other.out);
}
