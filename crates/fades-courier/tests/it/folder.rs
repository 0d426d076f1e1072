//! The inbox that is a folder.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fades_task::courier::LETTER_MAX;

use crate::node::{Node, PATIENCE};

const TABLE: &str = "[inbox.drop]\nfolder = \"in\"\n";

/// As whoever writes a letter should: whole, or not there.
fn put(node: &Node, name: &str, text: &[u8]) {
    fs::write(node.path("in/.part"), text).unwrap();
    fs::rename(node.path("in/.part"), node.path(&format!("in/{name}"))).unwrap();
}

fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn letters_are_moved_to_where_their_verdicts_send_them() {
    let mut node = Node::start(TABLE);
    until(|| node.path("in").is_dir());
    put(&node, "a.json", b"{ \"a\": 1 }\n");
    let letter = node
        .letter_within(Duration::from_secs(20))
        .expect("told at once");
    assert_eq!(letter.inbox, "drop");
    assert_eq!(letter.envelope, b"{ \"a\": 1 }\n");
    node.taken(letter.number);
    until(|| node.path("in/taken/a.json").exists());
    assert!(!node.path("in/a.json").exists());
    put(&node, "b.json", b"b");
    let letter = node.letter();
    node.refused(letter.number);
    until(|| node.path("in/refused/b.json").exists());
    let problem = fs::read(node.path("in/refused/b.problem.json")).unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    let wanted = serde_json::json!(
        { "problem": "signature", "detail": "nobody knows the key: trust it" }
    );
    assert_eq!(problem, wanted);
    put(&node, "c.json", b"c");
    let letter = node.letter();
    node.later(letter.number);
    let again = node.letter();
    assert_eq!(again.envelope, b"c");
    assert!(node.path("in/c.json").exists());
    node.taken(again.number);
    until(|| node.path("in/taken/c.json").exists());
}

#[test]
fn only_whole_files_are_letters() {
    let mut node = Node::start(TABLE);
    until(|| node.path("in").is_dir());
    fs::write(node.path("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(node.path("secret"), node.path("in/link.json")).unwrap();
    fs::create_dir(node.path("in/folder.json")).unwrap();
    for name in [".hidden.json", "a.json.tmp", "a.json.part", "a.txt", "json"] {
        fs::write(node.path(&format!("in/{name}")), "x").unwrap();
    }
    let fifo = node.path("in/fifo.json");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let long = format!("in/{}.json", "x".repeat(240));
    fs::write(node.path(&long), "x").unwrap();
    put(&node, "z.json", b"z");
    let letter = node.letter();
    assert_eq!(letter.envelope, b"z");
    node.taken(letter.number);
    assert!(node.letter_within(Duration::from_secs(2)).is_none());
    for name in [
        "link.json",
        "folder.json",
        "fifo.json",
        "a.json.tmp",
        ".hidden.json",
    ] {
        assert!(
            fs::symlink_metadata(node.path(&format!("in/{name}"))).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_letter_that_is_too_long_is_refused_and_one_that_is_replaced_is_another() {
    let mut node = Node::start(TABLE);
    until(|| node.path("in").is_dir());
    put(&node, "big.json", &vec![b'x'; LETTER_MAX + 1]);
    until(|| node.path("in/refused/big.problem.json").exists());
    until(|| node.path("in/refused/big.json").exists());
    let problem = fs::read_to_string(node.path("in/refused/big.problem.json")).unwrap();
    assert!(problem.contains("too-large"), "{problem}");
    put(&node, "most.json", &vec![b'x'; LETTER_MAX]);
    let letter = node.letter();
    assert_eq!(letter.envelope.len(), LETTER_MAX);
    node.taken(letter.number);
    put(&node, "a.json", b"first");
    let first = node.letter();
    put(&node, "a.json", b"second");
    node.taken(first.number);
    let second = node.letter();
    assert_eq!(second.envelope, b"second");
    node.taken(second.number);
    until(|| fs::read(node.path("in/taken/a.json")).is_ok_and(|b| b == b"second"));
}

#[test]
fn a_letter_that_is_being_written_is_waited_for() {
    use std::io::Write;
    let mut node = Node::start(TABLE);
    until(|| node.path("in").is_dir());
    let mut file = fs::File::create(node.path("in/slow.json")).unwrap();
    for _ in 0..20 {
        file.write_all(b"piece ").unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(file);
    let letter = node.letter();
    assert_eq!(letter.envelope.len(), 120, "{:?}", letter.envelope);
    node.taken(letter.number);
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes() {
    let folder = crate::node::folder();
    let taken = folder.path().join("in/taken");
    fs::create_dir_all(&taken).unwrap();
    let count = |taken: &Path| fs::read_dir(taken).unwrap().count();
    fs::write(taken.join("oldest.json"), "x").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    for i in 0..1004 {
        fs::write(taken.join(format!("{i}.json")), "x").unwrap();
    }
    let mut node = Node::start_in(folder, TABLE);
    put(&node, "new.json", b"new");
    let letter = node.letter();
    node.taken(letter.number);
    until(|| count(&taken) == 1000);
    assert!(taken.join("new.json").exists());
    assert!(!taken.join("oldest.json").exists());
}

#[test]
fn a_folder_that_is_not_there_is_said_and_waited_for() {
    let mut node = Node::start(TABLE);
    node.inbox("drop", |_| true);
    fs::rename(node.path("in"), node.path("away")).unwrap();
    let error = node.inbox_error("drop");
    assert!(error.contains("/in: No such file"), "{error}");
    fs::create_dir(node.path("in")).unwrap();
    put(&node, "a.json", b"a");
    let letter = node.letter();
    assert_eq!(letter.envelope, b"a");
    node.taken(letter.number);
    until(|| node.path("in/taken/a.json").exists());
    assert_eq!(node.inbox("drop", |s| s.error.is_none()).error, None);
}

#[test]
fn letters_that_cannot_be_moved_are_not_handed_in_without_end() {
    let folder = crate::node::folder();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("in/taken"), "in the way").unwrap();
    let mut node = Node::start_in(folder, TABLE);
    put(&node, "a.json", b"a");
    let end = Instant::now() + Duration::from_secs(4);
    let mut seen = 0;
    while let Some(letter) = node.letter_within(end.saturating_duration_since(Instant::now())) {
        seen += 1;
        node.taken(letter.number);
    }
    assert!((1..=5).contains(&seen), "{seen}");
    assert!(node.inbox_error("drop").contains("Not a directory"));
}
