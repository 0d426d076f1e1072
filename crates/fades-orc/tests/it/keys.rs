//! Roles, tables that administrators sign, and keys that are revoked, on a node.

use std::cell::Cell;
use std::num::NonZeroU32;

use fades_orc::api::types::{TaskList, TrustInfo, TrustTaken};
use fades_orc::store::{Store, StoredTrust, TrustKind};
use fades_task::mtw::Mtw;
use fades_task::result::TaskState;
use fades_trust::joint::JointEnvelope;
use fades_trust::revocation::{Revocation, RevocationList, sign_revocations};
use fades_trust::task::sign_task;
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use fades_trust::update::{TrustUpdate, sign_update};
use serde_json::json;

use crate::client::{Answer, Stream, over_socket};
use crate::site::{IMAGE, Running, Site, header, key, now, publish, signed, task};

/// Besides those that every site has: 5 audits, 11 to 13 administer, two of whom
/// have to sign; 6 publishes as well.
pub(crate) fn governed() -> Site {
    let site = Site::new();
    let text = std::fs::read_to_string(site.path("trust.toml")).unwrap();
    let mut table = TrustStore::parse(&text).unwrap();
    for (n, name, role) in [
        (5, "auditor", Role::Audit),
        (6, "yard", Role::Publish),
        (11, "root1", Role::Administer),
        (12, "root2", Role::Administer),
        (13, "root3", Role::Administer),
    ] {
        table.add(trusted(name, n, role, None)).unwrap();
    }
    let text = format!("threshold = 2\n{}", table.to_toml());
    std::fs::write(site.path("trust.toml"), text).unwrap();
    site
}

fn trusted(name: &str, n: u8, role: Role, service: Option<&str>) -> TrustedKey {
    TrustedKey {
        name: name.parse().unwrap(),
        public: key(n).public(),
        roles: vec![role],
        services: service.iter().map(|s| s.parse().unwrap()).collect(),
        development: false,
        not_after: None,
    }
}

/// A table in which key 7 submits for `city-air` in the place of key 1.
pub(crate) fn update(version: u64, by: &[u8]) -> Vec<u8> {
    let mut keys = vec![trusted("city-new", 7, Role::Submit, Some("city-air"))];
    keys.push(trusted("plant", 2, Role::Publish, None));
    for n in 11..=13 {
        keys.push(trusted(&format!("root{n}"), n, Role::Administer, None));
    }
    let update = TrustUpdate {
        version,
        r#for: vec!["harbours".parse().unwrap()],
        expires: "2100-01-01".parse().unwrap(),
        threshold: NonZeroU32::new(2).unwrap(),
        keys,
    };
    by_all(sign_update(&update, &key(by[0])), by)
}

pub(crate) fn list(counter: u64, keys: &[u8], by: &[u8]) -> Vec<u8> {
    let revoked = keys.iter().map(|n| Revocation {
        key: key(*n).public().id(),
        since: "2026-10-01".parse().unwrap(),
        reason: "laptop stolen".to_owned(),
    });
    let list = RevocationList {
        counter,
        revoked: revoked.collect(),
    };
    by_all(sign_revocations(&list, &key(by[0])), by)
}

fn by_all(mut envelope: JointEnvelope, by: &[u8]) -> Vec<u8> {
    for n in by {
        envelope.sign(&key(*n));
    }
    envelope.to_json().into_bytes()
}

/// Somebody with a key.
struct Holder<'a>(&'a Running<'a>, u8, Cell<u32>);

impl<'a> Holder<'a> {
    fn of(node: &'a Running<'a>, n: u8) -> Self {
        Self(node, n, Cell::new(0))
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.2.set(self.2.get() + 1);
        let header = header(self.1, method, path, &format!("k{}", self.2.get()));
        let socket = self.0.site.path("api.sock");
        over_socket(&socket, (method, path), Some(&header), body).unwrap()
    }
}

pub(crate) fn acts(id: &str, act: &str) -> Mtw {
    task(id, |t| t["function"]["params"] = json!({ "act": act }))
}

fn of_noise(id: &str) -> Vec<u8> {
    let task = task(id, |t| {
        t["task"]["service"] = "noise".into();
        t["function"]["params"] = json!({ "act": "hang" });
    });
    sign_task(&task, &key(4)).to_json().into_bytes()
}

#[test]
fn an_auditor_reads_what_was_done_and_changes_nothing() {
    let site = governed();
    let node = site.start();
    node.takes(&acts("t1", "answer"));
    node.result("t1");
    let auditor = Holder::of(&node, 5);
    let list: TaskList = auditor.ask("GET", "/v1/tasks", b"").json();
    assert_eq!(list.tasks.len(), 1);
    for path in [
        "/v1/tasks/t1",
        "/v1/tasks/t1/result",
        "/v1/tasks/t1/logs",
        "/v1/functions",
        "/v1/node",
        "/v1/node/log/lines",
        "/v1/trust",
        "/v1/scheduling",
        "/metrics",
    ] {
        let answer = auditor.ask("GET", path, b"");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let preview = serde_json::to_vec(&json!({"retrieve": [{"name": "pm"}]})).unwrap();
    let level = br#"{"level": "debug"}"#;
    for (method, path, body) in [
        ("POST", "/v1/tasks/t1/cancel", &b""[..]),
        ("POST", "/v1/preview", &preview),
        ("POST", "/v1/sources/hall/test", b""),
        ("PUT", "/v1/node/log", level),
        ("POST", "/v1/reload", b""),
        ("POST", "/v1/backup", b""),
    ] {
        let answer = auditor.ask(method, path, body);
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
    }
    let forged = sign_task(&acts("t2", "answer"), &key(5)).to_json();
    node.post("/v1/tasks", forged.as_bytes())
        .refuses(403, "may not submit");
    // Whoever only reads does not read the node's own log.
    let reader = Holder::of(&node, 3);
    assert_eq!(reader.ask("GET", "/v1/node/log/lines", b"").status, 403);
}

#[test]
fn an_administrator_operates_the_node_and_signs_no_tasks() {
    let site = governed();
    let mut node = site.start();
    node.takes(&acts("t1", "hang"));
    node.wait_for_tender("t1");
    let root = Holder::of(&node, 11);
    for (method, path, body) in [
        ("GET", "/v1/tasks/t1", &b""[..]),
        ("GET", "/v1/node/log/lines", b""),
        ("PUT", "/v1/node/log", br#"{"level": "debug"}"#),
        ("POST", "/v1/tasks/t1/cancel", b""),
        ("POST", "/v1/backup", b""),
    ] {
        let answer = root.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    }
    let forged = sign_task(&acts("t2", "answer"), &key(11)).to_json();
    node.post("/v1/tasks", forged.as_bytes())
        .refuses(403, "may not submit");
    node.post("/v1/functions", &publish(IMAGE, 11))
        .refuses(403, "may not publish");
}

#[test]
fn a_table_that_enough_administrators_signed_replaces_the_one_in_force() {
    let site = governed();
    let node = site.start();
    node.ask("PUT", "/v1/trust", &update(1, &[11]))
        .refuses(401, "1 of the 2 signatures");
    node.ask("PUT", "/v1/trust", &update(1, &[11, 5]))
        .refuses(401, "may not administer");
    node.takes(&acts("before", "answer"));
    let taken: TrustTaken = node.ask("PUT", "/v1/trust", &update(1, &[13, 11])).json();
    assert!(taken.fresh && taken.state.update);
    assert_eq!((taken.number, taken.state.threshold), (1, 2));
    // The one key is gone, and the other there.
    node.submit(&acts("old", "answer"))
        .refuses(401, "not trust");
    let new = sign_task(&acts("new", "answer"), &key(7)).to_json();
    assert_eq!(node.post("/v1/tasks", new.as_bytes()).status, 201);
    // What was accepted stays accepted: the old key was not revoked.
    assert_eq!(node.result("before").state, TaskState::Done);
    // Again, and by others: the same table.
    let again: TrustTaken = node.ask("PUT", "/v1/trust", &update(1, &[11, 12])).json();
    assert!(!again.fresh && again.number == 1, "{again:?}");
}

#[test]
fn the_same_table_again_is_harmless_and_an_older_one_is_a_conflict() {
    let site = governed();
    let node = site.start();
    let second = update(2, &[11, 12]);
    assert!(
        node.ask("PUT", "/v1/trust", &second)
            .json::<TrustTaken>()
            .fresh
    );
    assert!(
        !node
            .ask("PUT", "/v1/trust", &second)
            .json::<TrustTaken>()
            .fresh
    );
    node.ask("PUT", "/v1/trust", &update(1, &[11, 12]))
        .refuses(409, "version 1, and version 2 is in force");
    node.stop();
    let node = site.start_bare();
    assert_eq!(node.info().trust.version, 2);
    assert!(
        !node
            .ask("PUT", "/v1/trust", &second)
            .json::<TrustTaken>()
            .fresh
    );
    let info: TrustInfo = node.get("/v1/trust").json();
    assert_eq!(info.update.unwrap().into_bytes(), second);
    // What it was taken as can be handed on to other nodes, and is only that.
    node.ask("PUT", "/v1/revocations", &second)
        .refuses(400, "revocations.v1");
    node.ask("PUT", "/v1/trust", &signed(&acts("t", "answer")))
        .refuses(400, "trust.v1");
}

#[test]
fn what_a_revoked_key_signed_ends_whether_it_waits_runs_or_stands() {
    let site = governed();
    let mut node = site.start();
    node.takes(&task("stands", |t| {
        t["schedule"] = json!({ "every": "1h" })
    }));
    node.takes(&acts("runs", "hang"));
    assert_eq!(node.post("/v1/tasks", &of_noise("others")).status, 201);
    node.takes(&acts("waits", "hang"));
    let tender = node.wait_for_tender("runs");
    node.wait_for_tender("others");
    let socket = site.path("api.sock");
    let stream = header(1, "GET", "/v1/events", "s1");
    let stream = Stream::open(
        &socket,
        "/v1/events",
        &format!("Authorization: {stream}\r\n"),
    );
    let stream = stream.unwrap();

    let taken: TrustTaken = node
        .ask("PUT", "/v1/revocations", &list(4, &[1], &[12]))
        .json();
    assert_eq!((taken.state.counter, taken.state.revoked), (4, 1));
    for id in ["stands", "runs", "waits"] {
        let result = node.result(id);
        assert_eq!(result.state, TaskState::Cancelled, "{id}");
        let why = result.failure.unwrap().to_string();
        let id = key(1).public().id().to_string();
        for word in ["revocation", &id, "laptop stolen"] {
            assert!(why.contains(word), "{word}: {why}");
        }
    }
    node.wait_until("its tender has gone", |node| {
        !node.info().tenders.iter().any(|t| t.pid == tender)
    });
    // Others are left alone.
    assert_eq!(node.get("/v1/tasks/others/result").status, 202);
    // Nothing that the key signs is taken, and who watched with it watches no more.
    node.submit(&acts("more", "answer"))
        .refuses(401, "laptop stolen");
    let asked = Holder::of(&node, 1).ask("GET", "/v1/tasks", b"");
    asked.refuses(401, "was revoked");
    let told = stream.rest();
    let ended = |t: &&crate::client::Told| t.name == "end";
    assert!(told.iter().any(|t| ended(&t)), "the stream ends");
    let info = node.info().trust;
    assert_eq!((info.counter, info.revoked), (4, 1));
    let metrics = String::from_utf8(node.get("/metrics").body).unwrap();
    assert!(metrics.contains("fades_revoked_keys 1"), "{metrics}");
    assert!(metrics.contains("fades_revocations_counter 4"), "{metrics}");
}

#[test]
fn a_function_of_a_revoked_publisher_runs_no_more_until_somebody_else_publishes_it() {
    let site = governed();
    let mut node = site.start();
    node.takes(&acts("runs", "hang"));
    node.wait_for_tender("runs");
    node.ask("PUT", "/v1/revocations", &list(1, &[2], &[11]))
        .json::<TrustTaken>();
    let ended = node.result("runs");
    assert_eq!(ended.state, TaskState::Cancelled);
    let why = ended.failure.unwrap().to_string();
    assert!(why.contains("published its function"), "{why}");
    for word in ["revoked", "laptop stolen", "fades publish"] {
        node.submit(&acts("again", "answer")).refuses(422, word);
    }
    node.post("/v1/functions", &publish(IMAGE, 2))
        .refuses(401, "was revoked");
    assert_eq!(node.post("/v1/functions", &publish(IMAGE, 6)).status, 200);
    node.takes(&acts("again", "answer"));
    assert_eq!(node.result("again").state, TaskState::Done);
}

#[test]
fn an_administrator_alone_revokes_no_administrator_and_takes_nothing_back() {
    let site = governed();
    let node = site.start();
    node.ask("PUT", "/v1/revocations", &list(1, &[13], &[11]))
        .refuses(401, "1 of the 2 signatures");
    node.ask("PUT", "/v1/revocations", &list(1, &[12, 13], &[11, 12]))
        .refuses(422, "1 administrators");
    node.ask("PUT", "/v1/revocations", &list(1, &[13], &[11, 12]))
        .json::<TrustTaken>();
    node.ask("PUT", "/v1/revocations", &list(2, &[], &[11, 12]))
        .refuses(409, "lacks key");
    node.ask("PUT", "/v1/revocations", &list(1, &[13, 1], &[11, 12]))
        .refuses(409, "counter 1, and 1 is in force");
    node.ask("PUT", "/v1/trust", &update(1, &[13, 11]))
        .refuses(401, "was revoked");
    assert_eq!(node.info().trust.administrators, 2);
}

#[test]
fn a_list_that_was_stored_before_a_crash_is_carried_out_at_the_next_start() {
    let site = governed();
    let node = site.start();
    node.takes(&task("stands", |t| {
        t["schedule"] = json!({ "every": "1h" })
    }));
    node.stop();
    let store = Store::open(&site.path("state")).unwrap();
    let text = std::fs::read_to_string(site.path("trust.toml")).unwrap();
    let stored = StoredTrust {
        number: 1,
        envelope: String::from_utf8(list(1, &[1], &[11])).unwrap(),
        judged_by: text,
        taken: now(),
    };
    store.take_trust(TrustKind::Revocations, &stored).unwrap();
    drop(store);
    let node = site.start_bare();
    assert_eq!(node.result("stands").state, TaskState::Cancelled);
}

#[test]
fn a_node_for_production_takes_no_development_key() {
    let site = governed().with("development-keys", json!(false));
    let node = site.start_bare();
    // Key 2 is marked.
    for word in ["for development", "fades key new NAME"] {
        node.post("/v1/functions", &publish(IMAGE, 2))
            .refuses(401, word);
    }
    let asked = Holder::of(&node, 2).ask("GET", "/v1/functions", b"");
    asked.refuses(401, "for development");
    assert_eq!(node.post("/v1/functions", &publish(IMAGE, 6)).status, 201);
    node.takes(&acts("t1", "answer"));
}
