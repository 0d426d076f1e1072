//! What is not taken, each with its reason and its remedy.

use fades_task::identity::Digest;
use fades_task::mtw::Mtw;
use fades_trust::envelope::{Envelope, PayloadType};
use fades_trust::function::{Architecture, FunctionStatement, ImageFormat};
use fades_trust::task::sign_task;
use serde_json::{Value, json};

use crate::site::{IMAGE, Site, digest, key, publish, publish_as, signed, task};

fn envelope(task: &Value) -> Vec<u8> {
    let payload = serde_json::to_vec(task).unwrap();
    Envelope::seal(PayloadType::Task, payload, &key(1))
        .to_json()
        .into_bytes()
}

#[test]
fn tasks_that_a_node_must_not_take_leave_no_trace() {
    let site = Site::new();
    let node = site.start();
    let changed = |change: fn(&mut Value)| signed(&task("t1", change));
    let raw = |change: fn(&mut Value)| {
        let mut value = serde_json::to_value(task("t1", |_| ())).unwrap();
        change(&mut value);
        envelope(&value)
    };
    let by = |n| {
        sign_task(&task("t1", |_| ()), &key(n))
            .to_json()
            .into_bytes()
    };
    let mut flipped = signed(&task("t1", |_| ()));
    let at = flipped.len() / 2;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"{".to_vec(), 400, "not a DSSE envelope"),
        (raw(|t| t["colour"] = 1.into()), 400, "colour"),
        (
            raw(|t| t["task"]["priority"] = "high".into()),
            400,
            "expected i32",
        ),
        (
            raw(|t| drop(t.as_object_mut().unwrap().remove("function"))),
            400,
            "missing field `function`",
        ),
        (flipped, 401, "changed after it was signed"),
        (by(9), 401, "fades key trust"),
        (by(2), 403, "may not submit"),
        (by(4), 403, "does not speak for service city-air"),
        (
            changed(|t| t["task"]["for"] = json!(["harbour-08"])),
            422,
            "this node is harbour-07, harbours",
        ),
        (
            changed(|t| t["task"]["expires"] = "2020-01-01".into()),
            422,
            "expired",
        ),
        (
            changed(|t| t["function"]["image"] = "summary".into()),
            422,
            "without a digest",
        ),
        (
            changed(|t| t["function"]["image"] = format!("summary@{}", Digest([9; 32])).into()),
            422,
            "fades publish",
        ),
        (
            changed(|t| t["function"]["image"] = format!("mean@{}", digest()).into()),
            422,
            "published here as summary",
        ),
        (
            changed(|t| t["deliver"] = json!([{"to": "city"}])),
            422,
            "no destination city",
        ),
        (
            changed(|t| t["function"]["limits"]["memory"] = "33MiB".into()),
            422,
            "function.limits.memory = \"33MiB\" is more than this node allows (\"32MiB\")",
        ),
        (
            changed(|t| t["function"]["params"]["x"] = "x".repeat(Mtw::PARAMS_MAX).into()),
            422,
            "function.params take",
        ),
        (
            changed(|t| t["function"]["params"]["x"] = (0..40).fold(json!(1), |v, _| json!([v]))),
            422,
            "nested",
        ),
        (
            changed(|t| t["function"]["isolation"] = json!(["microvm"])),
            422,
            "there is no /dev/kvm",
        ),
        (
            changed(|t| t["retrieve"][0]["to"] = "2020-01-01".into()),
            400,
            "excludes",
        ),
    ];
    for (body, status, words) in cases {
        node.post("/v1/tasks", &body).refuses(status, words);
    }
    node.get("/v1/tasks/t1").refuses(404, "no task t1");
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_are_read() {
    let site = Site::new();
    let node = site.start();
    let large = vec![b' '; (1 << 20) + 1];
    node.post("/v1/tasks", &large)
        .refuses(413, "1048576 bytes at the most");
    let large = vec![b' '; (32 << 20) + 1];
    node.post("/v1/functions", &large)
        .refuses(413, "33554432 bytes at the most");
}

#[test]
fn functions_that_a_node_must_not_take_leave_no_trace() {
    let site = Site::new();
    let node = site.start_bare();
    let mut flipped = IMAGE.to_vec();
    flipped[5] ^= 1;
    let good = FunctionStatement {
        name: "summary".parse().unwrap(),
        digest: digest(),
        size: IMAGE.len() as u64,
        abi_major: 1,
        abi_minor: 0,
        architecture: Architecture::HERE,
        format: ImageFormat::FadesElf,
        created: None,
    };
    let newer = FunctionStatement {
        abi_minor: 1,
        ..good.clone()
    };
    let mut unknown: Value = serde_json::from_slice(&publish(IMAGE, 2)).unwrap();
    unknown["colour"] = 1.into();
    let cases = [
        (publish(&flipped, 2), 422, "changed after it was signed"),
        (publish(&IMAGE[1..], 2), 422, "bytes, signed are"),
        (publish(IMAGE, 1), 403, "may not publish"),
        (publish(IMAGE, 9), 401, "does not trust"),
        (
            publish_as(&newer, IMAGE, 2),
            422,
            "version 1.1 of the function contract",
        ),
        (serde_json::to_vec(&unknown).unwrap(), 400, "colour"),
    ];
    for (body, status, words) in cases {
        node.post("/v1/functions", &body).refuses(status, words);
    }
    assert_eq!(node.info().functions, 0);
    assert_eq!(
        std::fs::read_dir(site.path("state/images"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn paths_methods_and_queries_that_do_not_exist_are_named() {
    let site = Site::new();
    let node = site.start();
    node.get("/v2/tasks").refuses(404, "/v2/tasks");
    node.ask("DELETE", "/v1/tasks", b"").refuses(405, "DELETE");
    node.get("/v1/tasks?color=red").refuses(400, "color");
    node.get("/v1/tasks?state=asleep").refuses(400, "asleep");
    for limit in ["0", "501"] {
        let path = format!("/v1/tasks?limit={limit}");
        node.get(&path).refuses(400, "limit: write 1 to 500");
    }
    let large = vec![b' '; (1 << 20) + 1];
    node.post("/v1/preview", &large)
        .refuses(413, "1048576 bytes");
    node.get("/v1/tasks/a%2Fb").refuses(400, "no name");
    node.get("/v1/tasks/t1/result?wait=soon")
        .refuses(400, "no duration");
}
