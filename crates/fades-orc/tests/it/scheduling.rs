//! What services may use, and an operator who decides otherwise while the node
//! runs.

use fades_orc::api::types::{Reloaded, Scheduling};
use fades_task::policy::Policy;
use fades_task::result::TaskState;
use fades_trust::task::sign_task;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::site::{Running, Site, header, key, task};

fn scheduling(node: &Running<'_>) -> Scheduling {
    node.get("/v1/scheduling").json()
}

/// A task of the service `noise`.
fn of_noise(id: &str) -> Vec<u8> {
    let task = task(id, |t| t["task"]["service"] = "noise".into());
    sign_task(&task, &key(4)).to_json().into_bytes()
}

#[test]
fn a_service_that_hands_in_too_much_is_told_when_to_come_again() {
    let site = Site::new().with("limits", json!({ "city-air": { "rate": "2/h" } }));
    let node = site.start();
    let first = task("t1", |_| ());
    node.takes(&first);
    node.takes(&task("t2", |_| ()));
    let refused = node.submit(&task("t3", |_| ()));
    refused.refuses(429, "2/h");
    let body: Value = refused.json();
    assert_eq!(body["type"], "urn:fades:over-limit");
    let wait = refused.retry_after.unwrap();
    assert!((1_700..=1_800).contains(&wait), "{wait} s");
    assert_eq!(body["retry-after"], wait);
    assert_eq!(node.get("/v1/tasks/t3").status, 404);
    // The same task again is no further one, and others are not concerned.
    assert_eq!(node.submit(&first).status, 200);
    for n in 0..4 {
        assert_eq!(
            node.post("/v1/tasks", &of_noise(&format!("n{n}"))).status,
            201
        );
    }
}

#[test]
fn what_a_service_used_of_its_day_survives_the_node() {
    let site = Site::new().with("limits", json!({ "city-air": { "bytes": "1B" } }));
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    let answered = node.result("t1");
    assert_eq!(answered.state, TaskState::Done);
    let refused = node.submit(&task("t2", |_| ()));
    refused.refuses(429, "limits.city-air.bytes");
    let before = scheduling(&node).services;
    let air = &before[0];
    assert_eq!((air.service.as_str(), air.spent), ("city-air", true));
    assert_eq!(air.bytes.0, answered.answer_bytes);
    assert_eq!(air.cpu.0, 1_000);
    node.signal(Signal::KILL);
    drop(node);
    let node = site.start();
    assert_eq!(scheduling(&node).services, before);
    node.submit(&task("t2", |_| ())).refuses(429, "for the day");
    assert_eq!(node.post("/v1/tasks", &of_noise("n1")).status, 201);
}

/// Writes the node's settings as they shall be read next.
fn rewrite(site: &Site, change: impl FnOnce(&mut Value)) {
    let path = site.path("node.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut settings = serde_json::from_str(&text).unwrap();
    change(&mut settings);
    std::fs::write(&path, settings.to_string()).unwrap();
}

#[test]
fn the_operator_has_the_configuration_read_anew_and_nobody_else_has() {
    let site = Site::new();
    let node = site.start();
    assert_eq!(scheduling(&node).order.policy, Policy::Fifo);
    rewrite(&site, |settings| {
        settings["queue"] = json!({ "policy": "deadline" });
        settings["parallel"] = 5.into();
        settings["limits"] = json!({ "city-air": { "rate": "1/h" } });
    });
    let by_key = header(3, "POST", "/v1/reload", "n1");
    node.ask_as(&by_key, "POST", "/v1/reload")
        .refuses(403, "node's own user");
    assert_eq!(scheduling(&node).order.policy, Policy::Fifo);
    let reloaded: Reloaded = node.post("/v1/reload", b"").json();
    assert_eq!(reloaded.restart, ["node.name"]);
    assert_eq!(scheduling(&node).order.policy, Policy::Deadline);
    assert_eq!(node.info().parallel, 5);
    node.takes(&task("t1", |_| ()));
    node.submit(&task("t2", |_| ())).refuses(429, "1/h");
    // Admission goes by it as well.
    rewrite(&site, |settings| settings["memory"] = (512 << 10).into());
    let _: Reloaded = node.post("/v1/reload", b"").json();
    node.submit(&task("t3", |_| ()))
        .refuses(422, "raise node.memory");
}

#[test]
fn a_hangup_has_the_configuration_read_anew() {
    let site = Site::new();
    let mut node = site.start();
    rewrite(&site, |settings| {
        settings["queue"] = json!({ "policy": "id" })
    });
    node.signal(Signal::HUP);
    node.wait_until("the policy is another", |node| {
        scheduling(node).order.policy == Policy::Id
    });
}

#[test]
fn a_bad_configuration_keeps_the_old_one_and_says_why() {
    let site = Site::new().with("queue", json!({ "policy": "priority" }));
    let mut node = site.start();
    rewrite(&site, |settings| {
        settings["parallel"] = 7.into();
        settings["queue"] = json!({ "policy": "lifo" });
    });
    node.post("/v1/reload", b"")
        .refuses(422, "unknown variant `lifo`");
    node.post("/v1/reload", b"")
        .refuses(422, "goes on as it was");
    assert_eq!(scheduling(&node).order.policy, Policy::Priority);
    assert_eq!(node.info().parallel, 2);
    node.takes(&task("t1", |_| ()));
    assert_eq!(node.result("t1").state, TaskState::Done);
    rewrite(&site, |settings| {
        settings["queue"] = json!({ "policy": "id" })
    });
    node.signal(Signal::HUP);
    node.wait_until("the good one is taken", |node| {
        scheduling(node).order.policy == Policy::Id
    });
    assert_eq!(node.info().parallel, 7);
}
