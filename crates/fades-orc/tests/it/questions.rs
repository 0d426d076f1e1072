//! What an operator and a submitter ask besides.

use fades_orc::api::types::{FunctionList, NodeInfo, Plan, Previews, Resources};
use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use serde_json::json;

use crate::site::{Site, digest, signed, task};

#[test]
fn a_plan_pins_decides_and_previews_without_anything_happening() {
    let site = Site::new();
    let node = site.start();
    let plain = task("t1", |t| t["function"]["image"] = "summary".into());
    let plan: Plan = node
        .post("/v1/plan", &serde_json::to_vec(&plain).unwrap())
        .json();
    assert_eq!((plan.refusal, plan.signed), (None, false));
    assert_eq!(plan.function.unwrap().digest, Some(digest()));
    assert_eq!(plan.isolation, Some(Isolation::Process));
    assert_eq!(plan.retrieve[0].readings, 3);
    let late = task("t1", |t| t["task"]["expires"] = "2020-01-01".into());
    let plan: Plan = node.post("/v1/plan", &signed(&late)).json();
    assert!(plan.refusal.unwrap().contains("expired"));
    let unknown = task("t1", |t| t["function"]["image"] = "mean".into());
    let plan: Plan = node
        .post("/v1/plan", &serde_json::to_vec(&unknown).unwrap())
        .json();
    assert!(plan.refusal.unwrap().contains("fades publish"));
    node.post("/v1/plan", b"{}").refuses(400, "missing field");
    node.get("/v1/tasks/t1").refuses(404, "no task");
}

#[test]
fn a_preview_has_as_many_entries_as_a_task_may_have() {
    let site = Site::new();
    let node = site.start();
    let asked = |entries: usize| {
        let entry = |i: usize| json!({ "name": format!("r{i}") });
        let retrieve: Vec<_> = (0..entries).map(entry).collect();
        let body = json!({ "retrieve": retrieve });
        node.post("/v1/preview", &serde_json::to_vec(&body).unwrap())
    };
    let previews: Previews = asked(Mtw::RETRIEVE_MAX).json();
    assert_eq!(previews.retrieve.len(), Mtw::RETRIEVE_MAX);
    asked(Mtw::RETRIEVE_MAX + 1).refuses(400, "1 to 32 entries");
    asked(0).refuses(400, "1 to 32 entries");
}

#[test]
fn a_node_tells_what_it_is_and_has() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let info: NodeInfo = node.info();
    assert_eq!(info.pid, node.process.id());
    assert_eq!((info.tasks.done, info.functions), (1, 1));
    assert_eq!(info.development_keys[0].as_str(), "plant");
    let [ending] = &info.ending_keys[..] else {
        panic!("{:?}", info.ending_keys);
    };
    assert_eq!(ending.name.as_str(), "audit");
    assert!(info.broker.up && info.broker.pid.is_some());
    assert_eq!(info.store_error, None);
    let functions: FunctionList = node.get("/v1/functions").json();
    let summary = &functions.functions[0];
    assert_eq!(
        (summary.digest, summary.signer.as_str()),
        (digest(), "plant")
    );
    assert!(summary.last_use.is_some() && summary.symbols);
}

#[test]
fn the_broker_is_asked_for_devices_and_sources() {
    let site = Site::new();
    let node = site.start();
    let resources: Resources = node.get("/v1/resources").json();
    assert_eq!(resources.devices[0].series.len(), 2);
    let recording: Vec<_> = resources.recording.into_iter().collect();
    let [(source, hall)] = recording.as_slice() else {
        panic!("{recording:?}")
    };
    assert_eq!((source.as_str(), hall.waiting, hall.lost), ("hall", 3, 2));
    assert_eq!(hall.trouble.as_deref(), Some("no room"));
    node.post("/v1/sources/hall/test", b"")
        .refuses(422, "no source hall");
}

#[test]
fn a_result_that_is_not_final_yet_is_told_as_such() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("t1", |t| {
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    node.wait_for_tender("t1");
    let answer = node.get("/v1/tasks/t1/result?wait=10ms");
    assert_eq!(answer.status, 202);
    assert_eq!(node.get("/v1/tasks/t1/result").status, 202);
}
