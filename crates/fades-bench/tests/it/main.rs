//! The program as a whole: what it says when something is missing, and that it
//! leaves nothing behind.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A tender that starts another process, says which, and never answers.
const STUCK: &str = "#!/bin/sh\nsleep 1000 &\necho $! > \"$0.pid\"\nwait\n";

const WITHIN: Duration = Duration::from_secs(30);

/// A folder with the program alone in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("fades-bench");
    fs::copy(env!("CARGO_BIN_EXE_fades-bench"), program).unwrap();
    folder
}

fn place(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

fn start(folder: &Path, words: &[&str]) -> Child {
    let mut bench = Command::new(folder.join("fades-bench"));
    bench
        .args(["--images", "images", "--natively", "natively"])
        .args(["--out", "out", "--commit", "0123abcd"])
        .args(words)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A process that another test starts may hold the copy's descriptor until it
    // executes its own program.
    wait_for(|| match bench.spawn() {
        Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => None,
        started => Some(started.unwrap()),
    })
}

fn run(folder: &Path, words: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = start(folder, words).wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), said)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// What `look` finds, as soon as it finds something.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_that_was_not_built_is_named_with_the_remedy() {
    let folder = folder();
    let (code, said) = run(folder.path(), &["start"]);
    assert_eq!(code, 2);
    assert!(said.contains("cargo xtask bench"), "{said}");
    assert!(is_empty(&folder.path().join("out")), "{said}");
}

#[test]
fn a_name_that_is_none_is_refused_before_anything_is_made() {
    let folder = folder();
    let (code, said) = run(folder.path(), &["strat"]);
    assert_eq!(code, 2);
    assert!(said.contains("transfer-socket"), "{said}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn told_to_end_it_ends_everything_that_it_started_and_takes_its_folder_away() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = folder();
        place(folder.path(), "fades", "");
        place(folder.path(), "plain-aberdeen", "");
        place(folder.path(), "fades-tender", STUCK);
        let child = start(folder.path(), &["start"]);
        let written = folder.path().join("fades-tender.pid");
        let grandchild = wait_for(|| fs::read_to_string(&written).ok()?.trim().parse().ok());
        let grandchild = Pid::from_raw(grandchild).unwrap();
        assert!(test_kill_process(grandchild).is_ok());

        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait_with_output().unwrap().status;
        assert_eq!(status.code(), Some(130));
        assert!(test_kill_process(grandchild).is_err());
        assert!(is_empty(&folder.path().join("out")));
    }
}
