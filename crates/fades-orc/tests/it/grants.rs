//! Nothing without a grant: of tasks, of runs, of what is shown.

use fades_orc::api::types::{Plan, Resources};
use fades_task::result::{Failure, TaskState};
use fades_trust::task::sign_task;
use serde_json::{Value, json};

use crate::client::{Answer, over_socket};
use crate::site::{Running, Site, header, key, task};

/// `city-air` may have `summary` work on the last day of particles.
fn air() -> Value {
    json!({ "air": {
        "services": ["city-air"], "functions": ["summary"], "kinds": ["pm*"],
        "history": "1d",
    }})
}

/// A request by a key, with a body.
fn post(node: &Running<'_>, signer: u8, path: &str, nonce: &str, body: &Value) -> Answer {
    let header = header(signer, "POST", path, nonce);
    let socket = node.site.path("api.sock");
    let body = body.to_string();
    over_socket(&socket, ("POST", path), Some(&header), body.as_bytes()).unwrap()
}

fn grants(site: &Site, grants: &Value) {
    let path = site.path("node.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["grants"] = grants.clone();
    std::fs::write(&path, settings.to_string()).unwrap();
}

fn reload(node: &Running<'_>) {
    let answer = node.post("/v1/reload", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_task_without_a_grant_is_refused_and_leaves_no_trace() {
    let site = Site::new().with("grants", air());
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    assert_eq!(node.result("t1").state, TaskState::Done);
    let noise = task("t2", |t| {
        t["retrieve"][0]["kind"] = json!(["pm10", "noise"]);
    });
    let refused = node.submit(&noise);
    refused.refuses(403, "grant air: retrieve pm, kind");
    assert_eq!(refused.json::<Value>()["type"], "urn:fades:not-granted");
    let foreign = task("t3", |t| t["task"]["service"] = "noise".into());
    let foreign = sign_task(&foreign, &key(4)).to_json();
    node.post("/v1/tasks", foreign.as_bytes())
        .refuses(403, "no grant of this node names the service noise");
    for id in ["t2", "t3"] {
        assert_eq!(node.get(&format!("/v1/tasks/{id}")).status, 404);
    }
    let plan: Plan = node
        .post("/v1/plan", &serde_json::to_vec(&noise).unwrap())
        .json();
    assert!(plan.refusal.unwrap().contains("\"noise\" would match"));
}

#[test]
fn a_node_that_grants_nothing_runs_nothing() {
    let site = Site::new().with("grants", Value::Null);
    let node = site.start();
    node.submit(&task("t1", |_| ()))
        .refuses(403, "[grant.city-air], services = [\"city-air\"]");
}

#[test]
fn a_grant_that_is_withdrawn_ends_what_waits_and_each_run_that_is_due() {
    let site = Site::new().with("parallel", json!(1)).with("grants", air());
    let mut node = site.start();
    node.takes(&task("hangs", |t| {
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    node.wait_for_tender("hangs");
    node.takes(&task("waits", |_| ()));
    node.takes(&task("stands", |t| {
        t["schedule"] = json!({ "every": "1s", "catch-up": "none" });
    }));
    grants(&site, &json!({}));
    reload(&node);
    node.post("/v1/tasks/hangs/cancel", b"");
    let withdrawn = |result: &fades_orc::api::types::TaskResult| {
        matches!(&result.failure, Some(Failure::NotGranted { reason })
            if reason.contains("names the service city-air"))
    };
    assert!(withdrawn(&node.result("waits")));
    let mut run = None;
    node.wait_until("a run was due", |node| {
        let runs: Value = node.get("/v1/tasks?of=stands").json();
        run = runs["tasks"][0]["id"].as_str().map(str::to_owned);
        run.is_some()
    });
    assert!(withdrawn(&node.result(&run.unwrap())));
    // It still stands, for the grant may come back.
    let stands: Value = node.get("/v1/tasks/stands").json();
    assert_eq!(stands["summary"]["state"], "standing", "{stands}");
}

#[test]
fn a_preview_is_shown_to_whom_it_is_granted_and_to_the_operator() {
    let mut with = air();
    with["air"]["previews"] = true.into();
    let site = Site::new().with("grants", with);
    let node = site.start();
    let entry = |kind: &str| json!({ "retrieve": [{ "name": "r", "kind": kind, "last": "1h" }] });
    assert_eq!(
        post(&node, 1, "/v1/preview", "n1", &entry("pm10")).status,
        200
    );
    post(&node, 1, "/v1/preview", "n2", &entry("noise")).refuses(403, "retrieve r, kind");
    post(&node, 4, "/v1/preview", "n3", &entry("pm10")).refuses(403, "service: noise");
    // It reads what others were answered, and speaks for nobody.
    post(&node, 3, "/v1/preview", "n4", &entry("pm10")).refuses(403, "speaks for no service");
    let mut foreign = entry("pm10");
    foreign["service"] = "city-air".into();
    post(&node, 4, "/v1/preview", "n5", &foreign).refuses(403, "does not speak for");
    let all = serde_json::to_vec(&entry("noise")).unwrap();
    assert_eq!(node.post("/v1/preview", &all).status, 200);
    grants(&site, &air());
    reload(&node);
    post(&node, 1, "/v1/preview", "n6", &entry("pm10")).refuses(403, "previews");
}

#[test]
fn devices_are_listed_as_far_as_they_are_granted() {
    let site = Site::new().with("grants", air());
    let node = site.start();
    let seen = |signer: u8, nonce: &str| {
        let header = header(signer, "GET", "/v1/resources", nonce);
        let resources: Resources = node.ask_as(&header, "GET", "/v1/resources").json();
        let devices = resources.devices.iter();
        let kinds = devices.flat_map(|d| d.series.iter().map(|s| s.kind.clone()));
        (kinds.collect::<Vec<_>>(), resources.recording.len())
    };
    assert_eq!(seen(1, "n1"), (vec!["pm10".to_owned()], 1));
    assert_eq!(seen(4, "n2"), (vec![], 0));
    assert_eq!(seen(3, "n3").0, ["pm10", "noise"]);
    node.ask_as(
        &header(3, "POST", "/v1/sources/hall/test", "n4"),
        "POST",
        "/v1/sources/hall/test",
    )
    .refuses(403, "operator");
    let plan = |signer: u8, nonce: &str, kind: &str| {
        let service = if signer == 4 { "noise" } else { "city-air" };
        let plain = task("t1", |t| {
            t["task"]["service"] = service.into();
            t["retrieve"][0]["kind"] = kind.into();
        });
        let plain = serde_json::to_value(&plain).unwrap();
        let plan: Plan = post(&node, signer, "/v1/plan", nonce, &plain).json();
        (plan.refusal.is_none(), plan.retrieve.len())
    };
    assert_eq!(plan(1, "n5", "pm10"), (true, 1));
    assert_eq!(plan(1, "n6", "noise"), (false, 0));
    assert_eq!(plan(4, "n7", "pm10"), (false, 0));
}

/// A node whose answers may have these fields, and what else is said.
fn bounded(more: &Value) -> Site {
    let mut with = air();
    let mut export = json!({
        "fields": { "image": "integer", "zone": "text", "pid": "number" },
        "bytes": "1KiB",
    });
    for (field, value) in more.as_object().unwrap() {
        export[field] = value.clone();
    }
    with["air"]["export"] = export;
    Site::new().with("grants", with)
}

fn act(id: &str, act: &str) -> fades_task::mtw::Mtw {
    task(id, |t| {
        t["function"]["params"] = json!({ "act": act, "lines": 3 });
    })
}

#[test]
fn an_answer_beyond_its_export_ends_the_run_and_is_nowhere() {
    for (more, act_of, words) in [
        (
            json!({"fields": {"image": "integer", "zone": "text"}}),
            "answer",
            "not in export.fields",
        ),
        (
            json!({"fields": {"image": "text", "zone": "text", "pid": "any"}}),
            "answer",
            "field \"image\"",
        ),
        (json!({"bytes": "10B"}), "answer", "export.bytes = \"10B\""),
        (
            json!({"bytes-per-day": "10B"}),
            "answer",
            "export.bytes-per-day",
        ),
        (json!({}), "readings", "export.readings"),
    ] {
        let site = bounded(&more);
        let node = site.start();
        node.takes(&act("t1", act_of));
        let result = node.result("t1");
        let Some(Failure::Withheld { reason }) = &result.failure else {
            panic!("{more}: {result:?}")
        };
        assert!(
            reason.starts_with("grant air: ") && reason.contains(words),
            "{reason}"
        );
        let told = serde_json::to_string(&result).unwrap();
        assert!(
            !told.contains("London\",\"pid") && result.answer.is_none(),
            "{told}"
        );
        assert_eq!((result.answer_bytes, result.readings_bytes), (0, 0));
        assert_eq!(node.get("/v1/tasks/t1/readings").status, 404);
    }
}

#[test]
fn an_answer_within_its_export_is_given_until_the_day_is_used_up() {
    let site = bounded(&json!({"bytes-per-day": "80B"}));
    let node = site.start();
    node.takes(&act("t1", "answer"));
    let result = node.result("t1");
    assert_eq!(result.state, TaskState::Done, "{result:?}");
    assert!(
        result.answer.is_some() && (30..=40).contains(&result.answer_bytes),
        "{result:?}"
    );
    // What a function can choose itself, and what it logged.
    assert_eq!((result.memory, result.cpu_us, result.log_cut), (None, 0, 0));
    let logs: Value = node.get("/v1/tasks/t1/logs").json();
    assert_eq!(logs["lines"], json!([]), "{logs}");
    node.takes(&act("t2", "answer"));
    node.takes(&act("t3", "answer"));
    let last = [node.result("t2"), node.result("t3")];
    let withheld = |r: &fades_orc::api::types::TaskResult| matches!(&r.failure, Some(Failure::Withheld { reason }) if reason.contains("bytes-per-day"));
    assert!(last.iter().any(withheld), "{last:?}");
}

#[test]
fn log_lines_leave_where_they_are_given() {
    let site = bounded(&json!({"logs": true}));
    let node = site.start();
    node.takes(&act("t1", "answer"));
    node.result("t1");
    let logs: Value = node.get("/v1/tasks/t1/logs").json();
    assert_eq!(logs["lines"].as_array().unwrap().len(), 3, "{logs}");
}

#[test]
fn a_bad_end_is_told_by_its_kind_alone() {
    let site = bounded(&json!({}));
    let node = site.start();
    node.takes(&act("t1", "panic"));
    let result = node.result("t1");
    let failure = serde_json::to_value(&result.failure).unwrap();
    assert_eq!(failure["exit"]["kind"], "panicked", "{failure}");
    assert_eq!(failure["exit"]["message"], "not told");
    assert!(result.coverage.is_empty());
    // How much is there is not told beforehand.
    let plain = serde_json::to_value(task("t2", |_| ())).unwrap();
    let plan: Plan = post(&node, 1, "/v1/plan", "n1", &plain).json();
    assert_eq!((plan.refusal, plan.retrieve.len()), (None, 0));
}
