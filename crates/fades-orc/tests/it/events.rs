//! What those who watch are told.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::client::{PATIENCE, Stream, Told};
use crate::site::{Running, Site, header, key, signal_process, signed, task};
use fades_task::mtw::Mtw;
use fades_trust::task::sign_task;
use fades_trust::trust::TrustStore;

fn watch(node: &Running<'_>, path: &str, headers: &str) -> Stream {
    Stream::open(&node.site.path("api.sock"), path, headers).unwrap()
}

fn signed_header(n: u8, path: &str, nonce: &str) -> String {
    format!("Authorization: {}\r\n", header(n, "GET", path, nonce))
}

fn after(told: &Told) -> String {
    format!("Last-Event-ID: {}\r\n", told.id)
}

fn states(told: &[Told]) -> Vec<(&str, &str)> {
    let tasks = told.iter().filter(|t| t.name == "task");
    tasks
        .map(|t| {
            (
                t.data["id"].as_str().unwrap(),
                t.data["state"].as_str().unwrap(),
            )
        })
        .collect()
}

fn acting(id: &str, act: &str, lines: u32) -> Mtw {
    task(id, |t| {
        t["function"]["params"] = json!({ "act": act, "lines": lines });
    })
}

#[test]
fn each_stored_state_of_a_task_is_told_in_order_and_once() {
    let site = Site::new().with("parallel", json!(1));
    let mut node = site.start();
    let mut all = watch(&node, "/v1/events", "");
    let first = all.next().unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data["broker"]),
        ("node", &json!(true))
    );
    node.takes(&acting("a", "hang", 1));
    node.takes(&acting("b", "answer", 1));
    node.wait_for_tender("a");
    node.post("/v1/tasks/a/cancel", b"");
    node.result("b");
    let told: Vec<Told> = (0..5).map(|_| all.next_of("task")).collect();
    let expected = [
        ("a", "running"),
        ("b", "queued"),
        ("a", "cancelled"),
        ("b", "running"),
        ("b", "done"),
    ];
    // The two in the middle are decided in one turn, or in two.
    assert_eq!(states(&told), expected);
    assert_eq!(told[4].data["attempts"], 1);
    // Whoever comes back gets what followed, and nothing else.
    let mut back = watch(&node, "/v1/events", &after(&told[2]));
    assert_eq!([back.next_of("task"), back.next_of("task")], told[3..5]);
    let of_one = watch(&node, "/v1/events?task=b", &after(&told[2])).rest();
    assert!(states(&of_one).ends_with(&[("b", "done")]), "{of_one:?}");
    let mut stranger = watch(&node, "/v1/events", "Last-Event-ID: 1-1\r\n");
    assert_eq!(stranger.next().unwrap().name, "missed");
    assert_eq!(stranger.next().unwrap().name, "node");
}

#[test]
fn a_watcher_of_one_task_learns_its_state_at_once_and_ends_with_it() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&acting("t1", "hang", 1));
    node.wait_for_tender("t1");
    let mut one = watch(&node, "/v1/events?task=t1", "");
    let first = one.next().unwrap();
    assert_eq!(states(std::slice::from_ref(&first)), [("t1", "running")]);
    node.takes(&task("t2", |_| ()));
    node.result("t2");
    node.post("/v1/tasks/t1/cancel", b"");
    let rest = one.rest();
    assert_eq!(states(&rest), [("t1", "cancelled")]);
    assert_eq!(rest.last().unwrap().name, "end");
    let later = watch(&node, "/v1/events?task=t1", "").rest();
    assert_eq!(states(&later), [("t1", "cancelled")]);
    node.get("/v1/events?task=none")
        .refuses(404, "no task none");
    node.get("/v1/events?color=red").refuses(400, "color");
}

#[test]
fn a_log_is_followed_while_it_grows_and_taken_up_again() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&acting("t1", "pause", 3));
    node.wait_for_tender("t1");
    let path = "/v1/tasks/t1/logs?follow=true";
    let mut log = watch(&node, path, "");
    let lines: Vec<Told> = (0..3).map(|_| log.next().unwrap()).collect();
    let texts: Vec<_> = lines.iter().map(|l| l.data["text"].clone()).collect();
    assert_eq!(texts, ["line 0", "line 1", "line 2"]);
    let back = watch(&node, path, &after(&lines[0]));
    std::fs::write(site.path("go"), "").unwrap();
    let rest = log.rest();
    assert_eq!((rest.len(), rest[0].name.as_str()), (1, "end"));
    assert_eq!(
        rest[0].data,
        json!({"state": "done", "cut": 0, "reason": null})
    );
    let back = back.rest();
    assert_eq!(back[..2], lines[1..]);
    assert_eq!(back[2..], rest);
    // The same from the store.
    assert_eq!(watch(&node, path, "").rest(), [&lines[..], &rest].concat());
    assert_eq!(watch(&node, path, &after(&lines[2])).rest(), rest);
    node.get("/v1/tasks/none/logs?follow=true")
        .refuses(404, "no task");
}

#[test]
fn lines_of_an_attempt_that_was_lost_are_called_off() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&acting("t1", "hang", 2));
    let tender = node.wait_for_tender("t1");
    let mut log = watch(&node, "/v1/tasks/t1/logs?follow=true", "");
    let first = [log.next().unwrap(), log.next().unwrap()];
    assert_eq!(first[0].id, "1-0");
    signal_process(tender, Signal::KILL);
    let again = log.next().unwrap();
    assert_eq!(
        (again.name.as_str(), &again.data["attempt"]),
        ("again", &json!(2))
    );
    let second = [log.next().unwrap(), log.next().unwrap()];
    assert_eq!(
        (second[0].id.as_str(), &second[1].data),
        ("2-0", &first[1].data)
    );
    node.post("/v1/tasks/t1/cancel", b"");
    let rest = log.rest();
    assert_eq!(
        (rest.len(), &rest[0].data["state"]),
        (1, &json!("cancelled"))
    );
    // Who saw the first attempt only gets all of the second one.
    let path = "/v1/tasks/t1/logs?follow=true";
    let late = watch(&node, path, &after(&first[0])).rest();
    let names: Vec<_> = late.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["again", "line", "line", "end"]);
}

#[test]
fn the_health_of_the_node_is_told_when_it_changes() {
    let site = Site::new();
    let node = site.start();
    let mut all = watch(&node, "/v1/events", "");
    all.next_of("node");
    signal_process(node.info().broker.pid.unwrap(), Signal::KILL);
    let down = all.next_of("node");
    assert_eq!(down.data["broker"], false, "{down:?}");
    assert!(
        down.data["broker-end"]
            .as_str()
            .is_some_and(|e| !e.is_empty())
    );
    assert_eq!(all.next_of("node").data["broker"], true);
}

#[test]
fn streams_end_with_the_node_and_do_not_hold_it_up() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&acting("t1", "hang", 1));
    node.wait_for_tender("t1");
    let all = watch(&node, "/v1/events", "");
    let mut log = watch(&node, "/v1/tasks/t1/logs?follow=true", "");
    log.next_of("line");
    let begun = Instant::now();
    node.stop();
    assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
    assert_eq!(all.rest().last().unwrap().name, "end");
    let end = log.rest();
    let end = &end.last().unwrap().data;
    assert!(
        end["reason"].as_str().unwrap().contains("the node ends"),
        "{end}"
    );
}

#[test]
fn a_key_watches_its_own_tasks_until_it_is_no_longer_trusted() {
    let site = Site::new();
    let node = site.start();
    let path = "/v1/events";
    let mut city = watch(&node, path, &signed_header(1, path, "n1"));
    let mut noise = watch(&node, path, &signed_header(4, path, "n2"));
    let foreign = task("loud", |t| t["task"]["service"] = "noise".into());
    let foreign = sign_task(&foreign, &key(4)).to_json().into_bytes();
    assert_eq!(node.post("/v1/tasks", &foreign).status, 201);
    node.result("loud");
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let own = [city.next().unwrap(), city.next().unwrap()];
    assert_eq!(states(&own), [("t1", "running"), ("t1", "done")]);
    let other = [noise.next().unwrap(), noise.next().unwrap()];
    assert_eq!(states(&other), [("loud", "running"), ("loud", "done")]);
    let text = std::fs::read_to_string(site.path("trust.toml")).unwrap();
    let mut trust = TrustStore::parse(&text).unwrap();
    trust.remove(&"city".parse().unwrap());
    std::fs::write(site.path("trust.toml"), trust.to_toml()).unwrap();
    let rest = city.rest();
    assert!(
        rest[0].data["reason"]
            .as_str()
            .unwrap()
            .contains("no longer trusted")
    );
    assert_eq!(rest.len(), 1);
}

#[test]
fn so_many_watch_at_once_and_no_more() {
    let site = Site::new();
    let mut node = site.start();
    let path = "/v1/events";
    let own: Vec<Stream> = (0..16).map(|_| watch(&node, path, "")).collect();
    // A stream that is opened after all would not end.
    let socket = site.path("api.sock");
    let more = Stream::open(&socket, path, "").err();
    let more = more.expect("a place too many");
    assert!(more.contains(" 503 "), "{more}");
    assert!(more.contains("16 watch with this key already"), "{more}");
    // Others are not kept out by that.
    watch(&node, path, &signed_header(1, path, "n1"));
    drop(own);
    node.wait_until("there is room again", |_| {
        Stream::open(&socket, path, "").is_ok()
    });
    node.post("/v1/tasks", &signed(&task("t1", |_| ())));
    node.result("t1");
}
