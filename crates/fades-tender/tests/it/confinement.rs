//! What the tender and its function's process may still do, seen from outside.

use std::collections::BTreeMap;

use fades_task::limits::Isolation;

use crate::on_every_isolation;
use crate::tending::{Deed, Tending};

on_every_isolation! {
    the_tender_is_confined_before_the_function_starts,
}

/// A tender whose function waits for its first event.
fn ready(on: Isolation) -> Tending {
    let tending = Deed::new(on, "nothing").begin();
    assert_eq!(tending.wait_until_ready(), on);
    tending
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(field).collect()
}

fn the_tender_is_confined_before_the_function_starts(on: Isolation) {
    let tending = ready(on);
    let pid = tending.shell.child.id();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for thread in threads {
        let thread = thread.unwrap().file_name().into_string().unwrap();
        let status = status(thread.parse().unwrap());
        assert_eq!(status["Seccomp"], "2", "thread {thread}");
        assert_eq!(status["NoNewPrivs"], "1", "thread {thread}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Ids of the children of a process.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

#[test]
fn the_functions_process_has_nothing_of_its_tender() {
    let tending = ready(Isolation::Process);
    let [child] = children(tending.shell.child.id())[..] else {
        panic!("not exactly one child");
    };
    let status = status(child);
    assert_eq!(
        (status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()),
        ("2", "1")
    );
    let maps = std::fs::read_to_string(format!("/proc/{child}/maps")).unwrap();
    for line in maps.lines() {
        let foreign = !line.contains("memfd:fades-function") && !line.contains("[vsyscall]");
        assert!(!foreign, "{line}");
        let rights = line.split_whitespace().nth(1).unwrap();
        assert!(!rights.contains("wx"), "{line}");
    }
    let open = std::fs::read_dir(format!("/proc/{child}/fd"))
        .unwrap()
        .count();
    assert_eq!(open, 1, "its socket and nothing else");
}

#[test]
fn the_functions_process_dies_with_its_tender() {
    let tending = ready(Isolation::Process);
    let [child] = children(tending.shell.child.id())[..] else {
        panic!("not exactly one child");
    };
    let pid = rustix::process::Pid::from_raw(child as i32).unwrap();
    let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    tending.shell.child.kill();
    let mut fds = [rustix::event::PollFd::new(
        &held,
        rustix::event::PollFlags::IN,
    )];
    let timeout = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1);
}
