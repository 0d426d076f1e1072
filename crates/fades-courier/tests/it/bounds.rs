//! Whatever servers send: nothing dies, and nothing is exceeded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fades_task::courier::{LETTER_MAX, LETTERS_MAX, PARCELS_MAX};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::inbox::letters;
use crate::node::Node;
use crate::server::{Reply, Server, ok, status};

fn many(server: &Server, name: &str) -> String {
    format!("[inbox.{name}]\nurl = \"{}\"\n", server.url("/"))
}

#[test]
fn no_more_letters_wait_than_are_allowed_and_inboxes_take_turns() {
    let serve = || {
        Server::start(|seen| {
            let ids: Vec<String> = (0..100).map(|i| i.to_string()).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            match seen.is("GET") {
                true => letters(&ids),
                false => status(200),
            }
        })
    };
    let servers = [serve(), serve()];
    let tables = many(&servers[0], "a") + &many(&servers[1], "b");
    let mut node = Node::start(&tables);
    let mut waiting = Vec::new();
    for _ in 0..LETTERS_MAX {
        let letter = node.letter();
        waiting.push(letter.number);
    }
    assert!(node.letter_within(Duration::from_secs(1)).is_none());
    // Each verdict makes room for one, of the two inboxes in turn. On a host under load
    // an inbox can come too late for its turn, but not each time.
    let mut waiting = VecDeque::from(waiting);
    let in_turn = (0..30).any(|_| {
        let mut came = Vec::new();
        for _ in 0..12 {
            node.later(waiting.pop_front().unwrap());
            let letter = node.letter();
            waiting.push_back(letter.number);
            came.push(letter.inbox);
        }
        came.windows(2).all(|two| two[0] != two[1])
    });
    assert!(
        in_turn,
        "one inbox was served again and again while the other waited"
    );
    assert!(node.letter_within(Duration::from_secs(1)).is_none());
}

#[test]
fn answers_that_are_too_long_are_errors_and_letters_that_are_are_refused() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
        _ if seen.is("POST") => status(200),
        0 => Reply::Endless(200),
        1 => {
            let letter = "x".repeat(LETTER_MAX);
            ok(format!(
                r#"{{"letters":[{{"id":"big","envelope":{{"p":"{letter}"}}}},{{"id":"a","envelope":{{}}}}]}}"#
            ))
        }
        _ => Reply::Later(Duration::from_secs(2), 204),
    });
    let mut node = Node::start(&many(&server, "a"));
    let error = node.inbox_error("a");
    assert!(error.contains("is longer than 8388608 bytes"), "{error}");
    let letter = node.letter();
    assert_eq!(letter.envelope, b"{}");
    node.taken(letter.number);
    let told = server.asked("POST", 1).remove(0);
    let told = String::from_utf8(told.body).unwrap();
    assert!(
        told.contains(r#"{"id":"big","state":"refused","problem":"too-large""#),
        "{told}"
    );
}

#[test]
fn whatever_a_server_sends_the_next_good_answer_is_understood() {
    // Of a head, a body and noise.
    let noise = proptest::collection::vec(proptest::num::u8::ANY, 0..400);
    let head = proptest::sample::select(vec![
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 503 \r\nretry-after: -1\r\n\r\n",
        "HTTP/1.1 204 No\r\ncontent-length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n{\"letters\":[",
        "HTTP/9.9 999 ?\r\n\r\n",
    ]);
    let mut runner = TestRunner::deterministic();
    let replies: Vec<Vec<u8>> = (0..32)
        .map(|_| {
            let head = head.new_tree(&mut runner).unwrap().current();
            let noise = noise.new_tree(&mut runner).unwrap().current();
            [head.as_bytes(), &noise].concat()
        })
        .collect();
    // Many inboxes at once, because each waits after an error.
    let servers: Vec<Server> = replies
        .into_iter()
        .map(|bad| {
            let asked = AtomicUsize::new(0);
            Server::start(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::Raw(bad.clone()),
                _ if seen.is("POST") => status(200),
                _ => letters(&["good"]),
            })
        })
        .collect();
    let tables: String = (0..servers.len())
        .map(|i| many(&servers[i], &format!("i{i}")) + &sends(&servers[i], i))
        .collect();
    let mut node = Node::start(&tables);
    let mut of = BTreeMap::new();
    while of.len() < servers.len() {
        let letter = node.letter();
        assert_eq!(letter.envelope, br#"{"payload":"good"}"#);
        node.taken(letter.number);
        of.insert(letter.inbox, ());
    }
    node.ping();
}

fn sends(server: &Server, i: usize) -> String {
    format!("[destination.d{i}]\nurl = \"{}\"\n", server.url("/d"))
}

#[test]
fn answers_of_a_destination_are_read_as_far_as_they_are_shown() {
    let server = Server::start(|_| Reply::Endless(500));
    let mut node = Node::start(&sends(&server, 1));
    node.deliver(1, "destination.d1", b"{}");
    let why = node.outcome(1).unwrap_err();
    assert!(why.reason.len() < 400, "{}", why.reason.len());
    let server = Server::start(|_| Reply::Endless(200));
    let mut node = Node::start(&sends(&server, 1));
    node.deliver(1, "destination.d1", b"{}");
    node.outcome(1).unwrap();
}

#[test]
fn a_slow_destination_has_neither_all_threads_nor_the_whole_queue() {
    let slow = Server::start(|_| Reply::Later(Duration::from_secs(20), 200));
    let quick = Server::start(|_| status(202));
    let tables = sends(&slow, 1) + &sends(&quick, 2);
    let mut node = Node::start(&tables);
    for parcel in 0..20 {
        node.deliver(parcel, "destination.d1", b"{}");
    }
    for parcel in 20..30 {
        node.deliver(parcel, "destination.d2", b"{}");
    }
    for parcel in 20..30 {
        node.outcome_within(parcel, Duration::from_secs(15))
            .expect("in time")
            .unwrap();
    }
    assert_eq!(slow.asked("POST", 4).len(), 4);
    // What is more than can wait is not delivered, and said at once.
    for parcel in 100..100 + PARCELS_MAX as u64 - 19 {
        node.deliver(parcel, "destination.d1", b"{}");
    }
    let last = 100 + PARCELS_MAX as u64 - 20;
    let why = node.outcome(last).unwrap_err();
    assert!(
        why.reason.contains("64 parcels already") && !why.refused,
        "{why:?}"
    );
    node.deliver(1000, "destination.nobody", b"{}");
    let why = node.outcome(1000).unwrap_err();
    assert!(
        why.reason.contains("nobody is configured") && !why.refused,
        "{why:?}"
    );
}
