//! Bundles: taken as a whole, or not at all.

use std::io::Write;
use std::os::unix::net::UnixStream;

use fades_orc::api::types::{
    BUNDLE_MAX, BUNDLE_TASKS_MAX, BUNDLE_TRUST_MAX, Bundle, BundleFormat, BundleKind, BundleTaken,
    FunctionList, Publish, TaskList,
};
use fades_task::result::TaskState;
use fades_trust::task::sign_task;
use serde_json::{Value, json};

use crate::keys::{acts, governed, list, update};
use crate::site::{IMAGE, Running, Site, key, publish, task};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn function(image: &[u8], signer: u8) -> Publish {
    serde_json::from_slice(&publish(image, signer)).unwrap()
}

fn by(n: u8, id: &str) -> String {
    sign_task(&acts(id, "answer"), &key(n)).to_json()
}

fn bundle(trust: Vec<Vec<u8>>, functions: Vec<Publish>, tasks: Vec<String>) -> Bundle {
    Bundle {
        format: BundleFormat::One,
        trust: trust.into_iter().map(text).collect(),
        functions,
        tasks,
    }
}

/// A table in which key 7 submits, the function, and two tasks of key 7.
fn whole() -> Bundle {
    bundle(
        vec![update(1, &[11, 12])],
        vec![function(IMAGE, 2)],
        vec![by(7, "t1"), by(7, "t2")],
    )
}

fn body(bundle: &Bundle) -> Vec<u8> {
    serde_json::to_vec(bundle).unwrap()
}

/// Nothing of [`whole`] is there.
#[track_caller]
fn untouched(node: &Running<'_>) {
    assert_eq!(node.info().trust.version, 0);
    assert_eq!(node.info().trust.counter, 0);
    let functions: FunctionList = node.get("/v1/functions").json();
    assert!(functions.functions.is_empty(), "{functions:?}");
    let tasks: TaskList = node.get("/v1/tasks").json();
    assert!(tasks.tasks.is_empty(), "{tasks:?}");
    assert!(!node.site.image().exists());
}

#[test]
fn a_bundle_brings_keys_a_function_and_tasks_at_once() {
    let site = governed();
    let node = site.start_bare();
    let whole = body(&whole());
    let checked: BundleTaken = node.post("/v1/bundles?check=true", &whole).json();
    untouched(&node);
    let taken: BundleTaken = node.post("/v1/bundles", &whole).json();
    assert!(checked.checked && !taken.checked);
    assert_eq!(checked.parts, taken.parts);
    let parts: Vec<_> = taken.parts.iter().map(|p| (p.kind, &*p.name)).collect();
    use BundleKind::{Function, Task, Trust};
    let all = [
        (Trust, "1"),
        (Function, "summary"),
        (Task, "t1"),
        (Task, "t2"),
    ];
    assert_eq!(parts, all);
    assert!(taken.parts.iter().all(|part| part.fresh));
    assert_eq!(taken.parts[2].signer.as_ref().unwrap().as_str(), "city-new");
    assert_eq!(node.info().trust.version, 1);
    assert_eq!(node.result("t2").state, TaskState::Done);
    // The same again, to the end and as a question.
    for path in ["/v1/bundles", "/v1/bundles?check=true"] {
        let again: BundleTaken = node.post(path, &whole).json();
        assert!(again.parts.iter().all(|part| !part.fresh), "{again:?}");
    }
    let tasks: TaskList = node.get("/v1/tasks").json();
    assert_eq!(tasks.tasks.len(), 2);
}

#[test]
fn nothing_of_a_bundle_is_taken_when_one_part_is_bad() {
    let site = governed();
    let node = site.start_bare();
    let refused = |status, words: &[&str], change: &dyn Fn(&mut Bundle)| {
        let mut bundle = whole();
        change(&mut bundle);
        for path in ["/v1/bundles?check=true", "/v1/bundles"] {
            let answer = node.post(path, &body(&bundle));
            for word in words.iter().chain(&["nothing of the bundle was taken"]) {
                answer.refuses(status, word);
            }
        }
        untouched(&node);
    };
    refused(401, &["trust[0]", "1 of the 2 signatures"], &|b| {
        b.trust = vec![text(update(1, &[11]))];
    });
    refused(409, &["trust[1]", "version 1"], &|b| {
        b.trust.push(text(update(1, &[13, 12])));
    });
    refused(400, &["trust[0]", "application/vnd.fades.task"], &|b| {
        b.trust = vec![by(7, "t1")];
    });
    refused(401, &["functions[0]", "plant", "laptop stolen"], &|b| {
        b.trust.push(text(list(1, &[2], &[11])));
    });
    refused(403, &["functions[1]", "may not publish"], &|b| {
        b.functions.push(function(b"\x7fELF, another", 7));
    });
    refused(422, &["functions[0]", "the image has 13 bytes"], &|b| {
        b.functions[0].image = function(b"\x7fELF, another", 2).image;
    });
    refused(422, &["tasks[0]", "this node has no"], &|b| {
        b.functions.clear()
    });
    refused(401, &["tasks[0]", "not trust"], &|b| b.trust.clear());
    refused(401, &["tasks[2]", "not trust"], &|b| {
        b.tasks.push(by(1, "t3"))
    });
    refused(409, &["tasks[2]", "t1 is another task"], &|b| {
        let other = task("t1", |t| t["task"]["priority"] = 7.into());
        b.tasks.push(sign_task(&other, &key(7)).to_json());
    });
    refused(400, &["tasks[1]"], &|b| b.tasks[1] = "rosebud".to_owned());
}

#[test]
fn an_id_that_another_task_has_is_seen_before_anything_is_taken() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t2", |t| t["task"]["priority"] = 7.into()));
    let tasks = vec![by(1, "t1"), by(1, "t2")];
    let answer = node.post("/v1/bundles", &body(&bundle(vec![], vec![], tasks)));
    answer.refuses(409, "tasks[1]: t2 is another task already");
    assert_eq!(node.get("/v1/tasks/t1").status, 404);
}

#[test]
fn what_is_no_bundle_is_refused_before_anything_is_judged() {
    let site = Site::new();
    let node = site.start_bare();
    let refused = |value: Value, words: &str| {
        let answer = node.post("/v1/bundles", &serde_json::to_vec(&value).unwrap());
        answer.refuses(400, words);
    };
    refused(json!({}), "format");
    refused(json!({ "format": "fades-bundle/2" }), "fades-bundle/1");
    refused(json!({ "format": "fades-bundle/1", "task": [] }), "`task`");
    let many = vec!["x"; BUNDLE_TASKS_MAX + 1];
    refused(
        json!({ "format": "fades-bundle/1", "tasks": many }),
        "257 tasks",
    );
    let many = vec!["x"; BUNDLE_TRUST_MAX + 1];
    refused(
        json!({ "format": "fades-bundle/1", "trust": many }),
        "17 tables",
    );
    let one = serde_json::to_value(function(IMAGE, 2)).unwrap();
    let many = vec![one; 65];
    refused(
        json!({ "format": "fades-bundle/1", "functions": many }),
        "65 functions",
    );
    node.post("/v1/bundles?chek=true", b"{}")
        .refuses(400, "chek");
    let long = vec![b' '; BUNDLE_MAX + 1];
    // It is told before it has sent all of it, or while it does.
    if let Ok(answer) = node.try_ask("POST", "/v1/bundles", &long) {
        answer.refuses(413, "67108864 bytes");
    }
}

#[test]
fn a_bundle_that_met_a_limit_is_completed_by_loading_it_again() {
    let site = Site::new().with("limits", json!({ "city-air": { "rate": "2/s" } }));
    let node = site.start();
    let tasks: Vec<_> = (0..6).map(|n| by(1, &format!("t{n}"))).collect();
    let bundle = body(&bundle(vec![], vec![], tasks));
    let refused = node.post("/v1/bundles", &bundle);
    refused.refuses(429, "load the same bundle again");
    refused.refuses(429, "tasks[2]");
    assert!(refused.retry_after.is_some());
    assert_eq!(node.get("/v1/tasks/t1").status, 200);
    assert_eq!(node.get("/v1/tasks/t2").status, 404);
    let mut node = node;
    node.wait_until("all are taken", |node| {
        node.post("/v1/bundles", &bundle).status == 200
    });
    let tasks: TaskList = node.get("/v1/tasks").json();
    assert_eq!(tasks.tasks.len(), 6);
}

#[test]
fn one_bundle_is_loaded_at_a_time() {
    let site = Site::new();
    let mut node = site.start_bare();
    let mut slow = UnixStream::connect(site.path("api.sock")).unwrap();
    slow.write_all(b"POST /v1/bundles HTTP/1.1\r\nHost: node\r\nContent-Length: 100\r\n\r\n{")
        .unwrap();
    let empty = body(&bundle(vec![], vec![], vec![]));
    node.wait_until("the slow one is being read", |node| {
        node.post("/v1/bundles", &empty).status == 503
    });
    drop(slow);
    node.wait_until("the slow one is gone", |node| {
        node.post("/v1/bundles", &empty).status == 200
    });
}
