//! The inbox at a server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Node, PATIENCE};
use crate::server::{Reply, Seen, Server, ok, status};

/// Letters of these ids, each with an envelope that names it.
pub(crate) fn letters(ids: &[&str]) -> Reply {
    let letters: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "id": id, "envelope": { "payload": id } }))
        .collect();
    ok(json!({ "letters": letters }).to_string())
}

/// Brings letters the first time, then waits.
fn once(first: Reply) -> impl Fn(&Seen) -> Reply + Send + Sync {
    let asked = AtomicBool::new(false);
    move |seen| match seen.is("GET") && asked.swap(true, Ordering::SeqCst) {
        true => Reply::Later(Duration::from_secs(5), 204),
        false if seen.is("GET") => first.clone(),
        false => status(204),
    }
}

fn at(server: &Server, more: &str) -> String {
    format!(
        "[inbox.city]\nurl = \"{}\"\ntoken-file = \"token\"\n{more}\n",
        server.url("/inbox")
    )
}

#[test]
fn letters_are_handed_on_and_their_verdicts_are_told() {
    let body = r#"{"letters":[
        {"id":"a","envelope":{ "payload" : "eA==", "x":1.0e3 }},
        {"id":"b","envelope":{}},{"id":"c","envelope":{"c":1}}]}"#;
    let server = Server::start(once(ok(body)));
    let mut node = Node::start(&at(&server, "wait = \"20s\""));
    let first = node.letter();
    assert_eq!((first.number, first.inbox.as_str()), (1, "city"));
    assert_eq!(first.envelope, br#"{ "payload" : "eA==", "x":1.0e3 }"#);
    let (second, third) = (node.letter(), node.letter());
    assert_eq!(second.envelope, b"{}");
    node.later(third.number);
    node.refused(second.number);
    node.taken(first.number);
    let told = server.asked("POST /inbox/verdicts", 1).remove(0);
    let told_json: Value = serde_json::from_slice(&told.body).unwrap();
    let mut verdicts = told_json["verdicts"].as_array().unwrap().clone();
    verdicts.sort_by_key(|v| v["id"].as_str().unwrap().to_owned());
    assert_eq!(
        Value::from(verdicts),
        json!([
            { "id": "a", "state": "taken", "task": "0a1b" },
            { "id": "b", "state": "refused", "problem": "signature",
              "detail": "nobody knows the key: trust it" },
        ])
    );
    assert_eq!(told.header("content-type"), Some("application/json"));
    let asked = server.asked("GET", 2);
    assert_eq!(asked[0].what, "GET /inbox?node=harbour-07&wait=20");
    for seen in asked.iter().chain([&told]) {
        assert_eq!(seen.header("authorization"), Some("Bearer hunter2"));
        assert_eq!(seen.header("user-agent"), Some("fades/1.2.3"));
    }
    let state = node.inbox("city", |s| s.asked.is_some());
    assert_eq!(state.error, None);
}

#[test]
fn a_letter_whose_verdict_cannot_be_told_is_seen_again() {
    let refusals = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.is("GET") {
        true => letters(&["a"]),
        false if refusals.fetch_add(1, Ordering::SeqCst) == 0 => status(500),
        false => status(200),
    });
    let mut node = Node::start(&at(&server, ""));
    for _ in 0..2 {
        let letter = node.letter();
        assert_eq!(letter.envelope, br#"{"payload":"a"}"#);
        node.taken(letter.number);
    }
    let error = node.inbox_error("city");
    assert!(error.contains("answered 500"), "{error}");
    server.asked("POST", 2);
    assert_eq!(node.inbox("city", |s| s.asked.is_some()).error, None);
}

#[test]
fn letters_that_stay_do_not_make_the_node_hammer() {
    // One is to stay; the other one the server does not forget, whatever it is told.
    let server = Server::start(|seen| match seen.is("GET") {
        true => letters(&["a", "b"]),
        false => status(200),
    });
    let mut node = Node::start(&at(&server, ""));
    let end = Instant::now() + Duration::from_secs(4);
    while let Some(letter) = node.letter_within(end.saturating_duration_since(Instant::now())) {
        match letter.envelope.as_slice() {
            br#"{"payload":"a"}"# => node.later(letter.number),
            _ => node.taken(letter.number),
        }
    }
    let asked = server.asked("GET", 2).len();
    assert!((2..=5).contains(&asked), "{asked}");
    let posts = server.asked("POST", 1);
    let told = String::from_utf8(posts[0].body.clone()).unwrap();
    assert!(!told.contains("\"a\""), "{told}");
}

#[test]
fn a_server_that_answers_at_once_with_nothing_is_not_hammered() {
    let server = Server::start(|_| status(204));
    let mut node = Node::start(&at(&server, ""));
    node.inbox("city", |s| s.asked.is_some());
    std::thread::sleep(Duration::from_secs(3));
    let asked = server.asked("GET", 2).len();
    assert!(asked <= 4, "{asked}");
    // Nor is one that brings an empty list.
    let server = Server::start(|_| letters(&[]));
    let _node = Node::start(&at(&server, ""));
    std::thread::sleep(Duration::from_secs(3));
    let asked = server.asked("GET", 1).len();
    assert!(asked <= 4, "{asked}");
}

#[test]
fn a_server_that_asks_to_be_left_alone_is() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Say(503, "Retry-After: 4\r\n", b"busy \x1b[31m hunter2".to_vec()),
        _ => Reply::Later(Duration::from_secs(1), 204),
    });
    let mut node = Node::start(&at(&server, ""));
    let error = node.inbox_error("city");
    let asked = server.asked("GET", 2);
    let pause = asked[1].at - asked[0].at;
    assert!(pause >= Duration::from_secs(4), "{pause:?}");
    assert!(
        error.ends_with("answered 503: busy  [31m [secret]"),
        "{error}"
    );
    assert!(error.starts_with("http://127.0.0.1:"), "{error}");
}

#[test]
fn an_inbox_that_hangs_delays_no_other_and_no_ping() {
    let hangs = Server::start(|_| Reply::Later(PATIENCE, 204));
    let works = Server::start(once(letters(&["a"])));
    let tables = format!(
        "[inbox.a]\nurl = \"{}\"\n[inbox.b]\nurl = \"{}\"\n",
        hangs.url("/"),
        works.url("/x/")
    );
    let mut node = Node::start(&tables);
    hangs.asked("GET /?node=harbour-07&wait=50", 1);
    let letter = node.letter();
    assert_eq!(letter.inbox, "b");
    node.taken(letter.number);
    works.asked("GET /x/?node", 2);
    works.asked("POST /x/verdicts", 1);
    node.ping();
    let begun = Instant::now();
    node.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "it ends at once");
}

#[test]
fn redirects_are_not_followed() {
    let other = Server::start(|_| letters(&["evil"]));
    let to = format!("Location: {}\r\n", other.url("/"));
    let to: &'static str = to.leak();
    let server = Server::start(move |_| Reply::Say(302, to, Vec::new()));
    let tables = format!(
        "{}[destination.d]\nurl = \"{}\"\n",
        at(&server, ""),
        server.url("/d")
    );
    let mut node = Node::start(&tables);
    let error = node.inbox_error("city");
    assert!(
        error.contains("answered 302; it sends elsewhere"),
        "{error}"
    );
    node.deliver(1, "destination.d", b"{}");
    let why = node.outcome(1).unwrap_err();
    assert!(!why.refused && why.reason.contains("302"), "{why:?}");
    assert_eq!(other.seen().len(), 0);
}

#[test]
fn what_keeps_the_node_out_is_said_without_the_token() {
    let server = Server::start(|seen| {
        let said = seen.header("authorization").unwrap_or_default();
        Reply::Say(401, "", format!("not {said}").into_bytes())
    });
    let mut node = Node::start(&at(&server, ""));
    let error = node.inbox_error("city");
    assert!(
        error.ends_with("answered 401: not Bearer [secret]; check token-file"),
        "{error}"
    );
    std::fs::remove_file(node.path("token")).unwrap();
    let error = node.inbox("city", |s| {
        s.error.as_ref().is_some_and(|e| !e.contains("401"))
    });
    let error = error.error.unwrap();
    assert!(error.contains("token cannot be read"), "{error}");
    // Nobody is there.
    let mut node = Node::start("[inbox.city]\nurl = \"http://127.0.0.1:1/\"\n");
    let error = node.inbox_error("city");
    assert!(
        error.contains("nothing listens at http://127.0.0.1:1"),
        "{error}"
    );
}

#[test]
fn answers_go_back_to_the_inbox() {
    let server = Server::start(once(letters(&[])));
    let mut node = Node::start(&at(&server, ""));
    node.deliver(3, "inbox.city", br#"{"specversion":"1.0"}"#);
    node.outcome(3).unwrap();
    let posted = server.asked("POST /inbox/answers", 1).remove(0);
    assert_eq!(posted.body, br#"{"specversion":"1.0"}"#);
    assert_eq!(
        posted.header("content-type"),
        Some("application/cloudevents+json")
    );
    assert_eq!(posted.header("authorization"), Some("Bearer hunter2"));
}
