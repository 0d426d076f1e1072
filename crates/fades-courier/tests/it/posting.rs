//! Deliveries by HTTP and into folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::server::{Reply, Server};

#[test]
fn what_a_server_answers_decides() {
    let server = Server::start(|seen| {
        let status = seen.what.rsplit_once('/').unwrap().1.parse().unwrap();
        let said = format!(
            "because; you said {}",
            seen.header("authorization").unwrap()
        );
        Reply::Say(status, "Retry-After: 90\r\n", said.into_bytes())
    });
    let all = [
        200, 201, 202, 299, 400, 405, 406, 413, 415, 422, 301, 401, 403, 404, 408, 409, 410, 429,
        500, 502, 503, 504,
    ];
    let tables: String = all
        .iter()
        .map(|s| {
            let url = server.url(&format!("/{s}"));
            format!("[destination.d{s}]\nurl = \"{url}\"\ntoken-file = \"token\"\n")
        })
        .collect();
    let mut node = Node::start(&tables);
    for status in all {
        let body = format!("{{\"n\":{status}}}  ");
        node.deliver(status, &format!("destination.d{status}"), body.as_bytes());
        let outcome = node.outcome(status);
        match status {
            200..=299 => outcome.unwrap(),
            _ => {
                let why = outcome.unwrap_err();
                let refused = matches!(status, 400 | 405 | 406 | 413 | 415 | 422);
                assert_eq!(why.refused, refused, "{status}");
                assert_eq!(why.after.map(|a| a.as_std().as_secs()), Some(90));
                let words = format!(
                    "http://127.0.0.1:{} answered {status}: because; you said Bearer [secret]",
                    server.port
                );
                assert!(why.reason.starts_with(&words), "{}", why.reason);
            }
        }
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.what, format!("POST /{status}"));
        assert_eq!(seen.body, body.as_bytes(), "unchanged");
        assert_eq!(
            seen.header("content-type"),
            Some("application/cloudevents+json")
        );
        assert_eq!(seen.header("user-agent"), Some("fades/1.2.3"));
    }
}

#[test]
fn what_does_not_answer_is_not_delivered_and_tried_again() {
    let hangs = Server::start(|_| Reply::Later(Duration::from_secs(60), 200));
    let cut = Server::start(|_| Reply::Raw(b"HTTP/1.1 200".to_vec()));
    let dribbles = Server::start(|_| Reply::Raw(Vec::new()));
    let tables = format!(
        "[destination.hangs]\nurl = \"{}\"\ntimeout = \"1s\"\n\
         [destination.cut]\nurl = \"{}\"\n[destination.empty]\nurl = \"{}\"\n\
         [destination.gone]\nurl = \"http://127.0.0.1:1\"\n\
         [destination.none]\nurl = \"https://no-such-host.invalid/\"\n",
        hangs.url("/"),
        cut.url("/"),
        dribbles.url("/")
    );
    let mut node = Node::start(&tables);
    for (parcel, (name, words)) in [
        ("hangs", "took longer than 1 s"),
        ("cut", "127.0.0.1"),
        ("empty", "127.0.0.1"),
        ("gone", "nothing listens at http://127.0.0.1:1"),
        ("none", "no-such-host.invalid"),
    ]
    .into_iter()
    .enumerate()
    {
        let begun = Instant::now();
        node.deliver(parcel as u64, &format!("destination.{name}"), b"{}");
        let why = node.outcome(parcel as u64).unwrap_err();
        assert!(!why.refused, "{name}");
        assert_eq!(why.after, None);
        assert!(why.reason.contains(words), "{name}: {}", why.reason);
        assert!(begun.elapsed() < Duration::from_secs(30), "{name}");
    }
}

#[test]
fn a_folder_gets_a_whole_file_for_each_event() {
    let mut node =
        Node::start("[destination.disk]\nfolder = \"a/b\"\n[inbox.drop]\nfolder = \"i\"");
    let names = |node: &Node, folder: &str| {
        let mut names: Vec<String> = fs::read_dir(node.path(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    node.deliver_event(1, "destination.disk", "0a1b.1", b"one ");
    node.deliver_event(2, "destination.disk", "0a1b.2", b"two");
    node.outcome(1).unwrap();
    node.outcome(2).unwrap();
    assert_eq!(names(&node, "a/b"), ["0a1b.1.json", "0a1b.2.json"]);
    assert_eq!(fs::read(node.path("a/b/0a1b.1.json")).unwrap(), b"one ");
    // The same event again is the same file.
    node.deliver_event(3, "destination.disk", "0a1b.1", b"one ");
    node.outcome(3).unwrap();
    assert_eq!(names(&node, "a/b").len(), 2);
    node.deliver_event(4, "inbox.drop", "0a1b.4", b"four");
    node.outcome(4).unwrap();
    assert_eq!(
        fs::read(node.path("i/answers/0a1b.4.json")).unwrap(),
        b"four"
    );
    let long = "x".repeat(151);
    for event in ["../x", ".x", "a/b", "", "a b", long.as_str()] {
        node.deliver_event(5, "destination.disk", event, b"x");
        let why = node.outcome(5).unwrap_err();
        assert!(
            why.refused && why.reason.contains("no name for a file"),
            "{why:?}"
        );
    }
    node.deliver_event(6, "destination.disk", &long[1..], b"x");
    node.outcome(6).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_says_so_and_keeps_no_pieces() {
    let mut node = Node::start("[destination.disk]\nfolder = \"a\"\n");
    // What is not whole would come under this name.
    fs::create_dir(node.path("a/e.json")).unwrap();
    node.deliver_event(1, "destination.disk", "e", b"x");
    let why = node.outcome(1).unwrap_err();
    assert!(!why.refused, "{why:?}");
    assert_eq!(fs::read_dir(node.path("a")).unwrap().count(), 1);
    // Nor is anything written where a link leads to.
    fs::write(node.path("own"), "own").unwrap();
    std::os::unix::fs::symlink(node.path("own"), node.path("a/.f.disk.tmp")).unwrap();
    node.deliver_event(2, "destination.disk", "f", b"x");
    node.outcome(2).unwrap_err();
    assert_eq!(fs::read(node.path("own")).unwrap(), b"own");
    fs::rename(node.path("a"), node.path("b")).unwrap();
    node.deliver_event(3, "destination.disk", "g", b"x");
    let why = node.outcome(3).unwrap_err();
    assert!(why.reason.contains("No such file"), "{why:?}");
    fs::rename(node.path("b"), node.path("a")).unwrap();
    node.deliver_event(3, "destination.disk", "g", b"x");
    node.outcome(3).unwrap();
    let mode = fs::metadata(node.path("a/g.json")).unwrap().permissions();
    assert_eq!(
        mode.mode() & 0o133,
        0,
        "nobody else writes, nobody executes"
    );
}
