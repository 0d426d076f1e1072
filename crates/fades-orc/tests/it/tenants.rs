//! Two services on one node: neither learns what the other does.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fades_orc::api::types::{FunctionList, NodeInfo, Plan, TaskCounts, TaskList};
use fades_task::mtw::Mtw;
use fades_trust::task::sign_task;
use serde_json::json;

use crate::certificates::{Authority, Shown};
use crate::client::{Answer, over_socket, over_tls};
use crate::site::{Running, Site, header, key, task};

/// How tenants say who they are.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// By signing each request, over the socket.
    Signature,
    /// By a certificate, over TCP.
    Certificate(&'a Authority, SocketAddr),
}

/// A service, the number of its key, and how often it has asked.
struct Tenant<'a> {
    node: &'a Running<'a>,
    service: &'static str,
    key: u8,
    asked: AtomicU32,
    shown: Option<(SocketAddr, Shown)>,
}

impl Tenant<'_> {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        if let Some((address, shown)) = &self.shown {
            return over_tls(*address, shown, (method, path), None, body).unwrap();
        }
        let nonce = self.asked.fetch_add(1, Ordering::Relaxed);
        let header = header(self.key, method, path, &format!("n{nonce}"));
        let socket = self.node.site.path("api.sock");
        over_socket(&socket, (method, path), Some(&header), body).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"")
    }

    fn task(&self, id: &str, act: &str) -> Mtw {
        task(id, |t| {
            t["task"]["service"] = self.service.into();
            t["function"]["params"] = json!({ "act": act });
        })
    }

    #[track_caller]
    fn submits(&self, task: &Mtw) {
        let envelope = sign_task(task, &key(self.key)).to_json();
        let answer = self.ask("POST", "/v1/tasks", envelope.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    fn ids(&self, path: &str) -> Vec<String> {
        let list: TaskList = self.get(path).json();
        list.tasks.iter().map(|t| t.id.to_string()).collect()
    }
}

fn tenant<'a>(node: &'a Running<'a>, way: Way<'_>, key: u8, claim: &str) -> Tenant<'a> {
    let shown = match way {
        Way::Signature => None,
        Way::Certificate(authority, address) => Some((address, authority.client(&[claim]))),
    };
    let service = match key {
        1 => "city-air",
        4 => "noise",
        _ => "",
    };
    Tenant {
        node,
        service,
        key,
        asked: AtomicU32::new(0),
        shown,
    }
}

fn tenants<'a>(node: &'a Running<'a>, way: Way<'_>) -> [Tenant<'a>; 2] {
    [
        tenant(node, way, 1, "urn:fades:service:city-air"),
        tenant(node, way, 4, "urn:fades:service:noise"),
    ]
}

/// Once for each way.
fn both_ways(test: impl Fn(Site, Way<'_>)) {
    test(Site::new(), Way::Signature);
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    test(site, Way::Certificate(&authority, address));
}

/// Without the id, which is the asker's own word.
fn without(answer: &Answer, id: &str) -> (u16, String) {
    let text = String::from_utf8_lossy(&answer.body);
    (answer.status, text.replace(id, "ID"))
}

#[test]
fn a_task_of_another_service_is_as_if_it_were_not_there() {
    both_ways(others_are_not_there);
}

fn others_are_not_there(site: Site, way: Way<'_>) {
    let site = site.with("parallel", json!(4));
    let mut node = site.start();
    {
        let [city, noise] = tenants(&node, way);
        city.submits(&city.task("city-done", "readings"));
        noise.submits(&noise.task("noise-done", "readings"));
        city.submits(&city.task("city-runs", "hang"));
        noise.submits(&noise.task("noise-runs", "hang"));
    }
    node.wait_for_tender("city-runs");
    node.wait_for_tender("noise-runs");
    for id in ["city-done", "noise-done"] {
        node.result(id);
    }
    let [city, noise] = tenants(&node, way);
    let city = Tenant {
        asked: AtomicU32::new(100),
        ..city
    };
    let noise = Tenant {
        asked: AtomicU32::new(100),
        ..noise
    };
    for (own, other) in [(&city, "noise"), (&noise, "city")] {
        for id in [format!("{other}-done"), format!("{other}-runs")] {
            for rest in [
                "",
                "/result",
                "/logs",
                "/logs?follow=true",
                "/readings",
                "/result?wait=1s",
            ] {
                let foreign = own.get(&format!("/v1/tasks/{id}{rest}"));
                let nothing = own.get(&format!("/v1/tasks/no-such-task{rest}"));
                assert_eq!(foreign.status, 404, "{rest}");
                assert_eq!(without(&foreign, &id), without(&nothing, "no-such-task"));
            }
            let foreign = own.get(&format!("/v1/events?task={id}"));
            let nothing = own.get("/v1/events?task=no-such-task");
            assert_eq!(without(&foreign, &id), without(&nothing, "no-such-task"));
            let foreign = own.ask("POST", &format!("/v1/tasks/{id}/cancel"), b"");
            let nothing = own.ask("POST", "/v1/tasks/no-such-task/cancel", b"");
            assert_eq!(foreign.status, 404);
            assert_eq!(without(&foreign, &id), without(&nothing, "no-such-task"));
            let foreign = own.get(&format!("/v1/tasks?after={id}"));
            let nothing = own.get("/v1/tasks?after=no-such-task");
            assert_eq!(foreign.status, 400);
            assert_eq!(without(&foreign, &id), without(&nothing, "no-such-task"));
        }
        let foreign = if other == "noise" {
            "noise"
        } else {
            "city-air"
        };
        let path = format!("/v1/tasks?service={foreign}");
        own.get(&path).refuses(403, "may not read");
        // What is taken is taken; by whom is not told.
        let same = sign_task(&own.task(&format!("{other}-done"), "answer"), &key(own.key));
        let taken = own.ask("POST", "/v1/tasks", same.to_json().as_bytes());
        taken.refuses(409, "choose a new id");
        let signer = if other == "noise" {
            "by what noise"
        } else {
            "by what city"
        };
        assert!(!String::from_utf8_lossy(&taken.body).contains(signer));
    }
    // Nothing of that ended anything.
    assert_eq!(city.get("/v1/tasks/city-runs/result").status, 202);
    assert_eq!(noise.get("/v1/tasks/noise-runs/result").status, 202);
    assert_eq!(city.get("/v1/tasks/city-done/readings").status, 200);
}

#[test]
fn lists_and_numbers_are_of_ones_own_tasks() {
    both_ways(lists_are_of_ones_own);
}

fn lists_are_of_ones_own(site: Site, way: Way<'_>) {
    let mut node = site.start();
    {
        let [city, noise] = tenants(&node, way);
        for id in ["c1", "c2", "c3"] {
            city.submits(&city.task(id, "answer"));
        }
        noise.submits(&noise.task("n1", "answer"));
        for id in ["c1", "c2", "c3", "n1"] {
            node.result(id);
        }
        city.submits(&city.task("c4", "hang"));
    }
    node.wait_for_tender("c4");
    let [city, noise] = tenants(&node, way);
    let noise = Tenant {
        asked: AtomicU32::new(100),
        ..noise
    };
    let city = Tenant {
        asked: AtomicU32::new(100),
        ..city
    };
    assert_eq!(noise.ids("/v1/tasks"), ["n1"]);
    assert_eq!(noise.ids("/v1/tasks?limit=1"), ["n1"]);
    assert_eq!(city.ids("/v1/tasks"), ["c4", "c3", "c2", "c1"]);
    assert_eq!(
        city.ids("/v1/tasks?limit=2&after=c3&service=city-air"),
        ["c2", "c1"]
    );
    let info: NodeInfo = noise.get("/v1/node").json();
    let own = TaskCounts {
        done: 1,
        ..TaskCounts::default()
    };
    assert_eq!((info.tasks, info.tenders.len()), (own, 0));
    assert_eq!(
        (info.shells.busy, info.broker.pid, info.broker.up),
        (0, None, true)
    );
    assert!(info.development_keys.is_empty() && info.ending_keys.is_empty());
    let info: NodeInfo = city.get("/v1/node").json();
    assert_eq!(
        (info.tasks.done, info.tasks.running, info.tenders.len()),
        (3, 1, 1)
    );
    let functions: FunctionList = noise.get("/v1/functions").json();
    assert_eq!(
        (functions.functions.len(), functions.functions[0].last_use),
        (1, None)
    );
    // Who may read everything sees everything.
    let audit = tenant(&node, way, 3, "urn:fades:reader");
    assert_eq!(audit.ids("/v1/tasks").len(), 5);
    assert_eq!(audit.get("/v1/node").json::<NodeInfo>().tasks.done, 4);
    audit
        .ask("POST", "/v1/tasks/c4/cancel", b"")
        .refuses(403, "may not");
    // A plan may show what earlier tasks of its service answered.
    let plan = |tenant: &Tenant<'_>| {
        let body = serde_json::to_vec(&city.task("plan", "answer")).unwrap();
        tenant.ask("POST", "/v1/plan", &body)
    };
    plan(&noise).refuses(403, "may not read");
    assert_eq!(plan(&city).json::<Plan>().refusal, None);
}

#[test]
fn pages_hold_together_while_tasks_are_handed_in() {
    let site = Site::new();
    let node = site.start();
    let [city, _] = tenants(&node, Way::Signature);
    let before: Vec<String> = (0..30).map(|n| format!("before-{n}")).collect();
    before
        .iter()
        .for_each(|id| city.submits(&city.task(id, "answer")));
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let (node, done) = (&node, &done);
        let more = scope.spawn(move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) || n < 5 {
                node.takes(&task(&format!("more-{n}"), |_| ()));
                n += 1;
            }
        });
        let mut seen = Vec::new();
        let mut path = "/v1/tasks?limit=4".to_owned();
        loop {
            let page: TaskList = node.get(&path).json();
            seen.extend(page.tasks.iter().map(|t| (t.accepted, t.id.to_string())));
            match page.next {
                Some(after) => path = format!("/v1/tasks?limit=4&after={after}"),
                None => break,
            }
        }
        done.store(true, Ordering::Relaxed);
        more.join().unwrap();
        seen
    });
    let ids: BTreeSet<&String> = seen.iter().map(|s| &s.1).collect();
    assert_eq!(ids.len(), seen.len(), "nothing twice");
    assert!(before.iter().all(|id| ids.contains(id)), "nothing left out");
    assert!(seen.is_sorted_by(|a, b| a.0 >= b.0), "newest first");
}
