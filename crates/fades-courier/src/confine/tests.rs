//! The courier's own list of calls, entered by this test program started once more.
//! The layers themselves are tested where brokers are.
#![expect(
    unsafe_code,
    reason = "calls that no library makes, and a child that ends at once"
)]
#![expect(
    clippy::print_stdout,
    reason = "the program that was started says what it found"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use fades_outside::confine::calls::{self, When};

use super::calls::ALLOWED;
use super::reach;
use crate::config::Places;

/// Says to the test below that it is the program that was started.
const TRY: &str = "FADES_COURIER_TRY";

fn places() -> Places {
    let text = r#"
        [inbox.drop]
        folder = "in"
        [inbox.city]
        url = "https://city.example/in"
        token-file = "secrets/token"
        [destination.disk]
        folder = "/srv/out"
        [destination.hall]
        url = "mqtts://hall"
        topic = "x"
        ca-file = "ca.pem"
    "#;
    let table: serde_json::Value = toml::from_str(text).unwrap();
    Places::parse(table.get("inbox"), table.get("destination")).unwrap()
}

#[test]
fn what_is_reached_is_what_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    std::fs::create_dir(base.join("secrets")).unwrap();
    std::fs::write(base.join("secrets/token"), "x").unwrap();
    std::fs::write(base.join("ca.pem"), "x").unwrap();
    let reach = reach(&places(), base, None);
    assert_eq!(
        reach.read,
        BTreeSet::from([base.join("ca.pem"), base.join("secrets")])
    );
    assert_eq!(
        reach.write,
        BTreeSet::from([base.join("in"), "/srv/out".into()])
    );
    assert_eq!((reach.addresses.len(), reach.own), (2, None));
}

#[test]
fn a_folder_with_the_nodes_own_files_in_it_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let above = folder.path().parent().unwrap();
    let table = serde_json::json!({ "a": { "folder": above } });
    let places = Places::parse(None, Some(&table)).unwrap();
    let reach = reach(&places, folder.path(), None);
    assert_eq!(reach.own.as_deref(), Some(above));
}

#[test]
fn every_call_has_a_reason_and_is_there_once() {
    let mut seen = BTreeSet::new();
    for (call, when, reason) in ALLOWED {
        assert!(!reason.is_empty());
        let again = !seen.insert(*call);
        assert!(!again || matches!(when, When::Is(..)), "{call}");
    }
}

#[test]
fn calls_that_a_courier_does_not_make_are_refused() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::tests::tries_what_is_forbidden"])
        .args(["--test-threads=1", "--nocapture"])
        .env(TRY, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{said}");
}

/// A part of the test above; nothing by itself.
#[test]
fn tries_what_is_forbidden() {
    if std::env::var(TRY).is_err() {
        return;
    }
    let before = attempts();
    let mut reach = reach(&places(), Path::new("/"), None);
    reach.asks = true;
    calls::enter(&reach).unwrap();
    let mut code = 10;
    for (what, number, arguments) in before {
        let refused = call(number, arguments) == Err(libc::EPERM);
        if !refused {
            println!("{what} is not refused");
            code = 11;
        }
    }
    for (what, number, arguments) in allowed() {
        if call(number, arguments) == Err(libc::EPERM) {
            println!("{what} is refused");
            code = 12;
        }
    }
    // SAFETY: ends this program, which is here for nothing else.
    unsafe { libc::_exit(code) }
}

type Attempt = (&'static str, i64, [u64; 6]);

/// Calls that could do harm, with arguments with which they do none.
fn attempts() -> Vec<Attempt> {
    let exec = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let (none, nobody) = (u64::MAX, i64::from(i32::MAX).cast_unsigned());
    let (inet, stream) = (libc::AF_INET as u64, libc::SOCK_STREAM as u64);
    vec![
        (
            "a process",
            libc::SYS_clone,
            [libc::SIGCHLD as u64, 0, 0, 0, 0, 0],
        ),
        ("a program", libc::SYS_execve, [0; 6]),
        (
            "inspection",
            libc::SYS_ptrace,
            [libc::PTRACE_ATTACH.into(), nobody, 0, 0, 0, 0],
        ),
        (
            "memory of others",
            libc::SYS_process_vm_readv,
            [nobody, 0, 0, 0, 0, 0],
        ),
        ("a signal", libc::SYS_kill, [nobody, 0, 0, 0, 0, 0]),
        ("a namespace", libc::SYS_unshare, [0; 6]),
        ("a mount", libc::SYS_mount, [0; 6]),
        (
            "executable memory",
            libc::SYS_mmap,
            [0, 4096, exec, private, none, 0],
        ),
        (
            "made executable",
            libc::SYS_mprotect,
            [0, 4096, exec, 0, 0, 0],
        ),
        ("a socket", libc::SYS_socket, [inet, stream, 0, 0, 0, 0]),
        (
            "a local socket",
            libc::SYS_socket,
            [libc::AF_UNIX as u64, stream, 0, 0, 0, 0],
        ),
        ("a connection", libc::SYS_connect, [none, 0, 0, 0, 0, 0]),
        ("a port", libc::SYS_bind, [none, 0, 0, 0, 0, 0]),
        ("listening", libc::SYS_listen, [none, 0, 0, 0, 0, 0]),
        ("any address", libc::SYS_sendto, [none, 0, 0, 0, 8, 16]),
        ("a file for others", libc::SYS_memfd_create, [0; 6]),
        ("a link", libc::SYS_symlinkat, [0; 6]),
        (
            "a limit",
            libc::SYS_prlimit64,
            [0, libc::RLIMIT_CORE.into(), 8, 0, 0, 0],
        ),
        (
            "a terminal",
            libc::SYS_ioctl,
            [none, libc::TIOCSTI, 0, 0, 0, 0],
        ),
        (
            "a program of the kernel",
            libc::SYS_bpf,
            [none, 0, 0, 0, 0, 0],
        ),
        ("a ring", libc::SYS_io_uring_setup, [0; 6]),
    ]
}

fn allowed() -> [Attempt; 3] {
    let (memory, none) = ((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64, u64::MAX);
    [
        ("memory", libc::SYS_mmap, [0, 4096, 3, memory, none, 0]),
        ("sending", libc::SYS_sendto, [none, 0, 0, 0, 0, 0]),
        ("watching", libc::SYS_inotify_init1, [0; 6]),
    ]
}

fn call(number: i64, [a, b, c, d, e, f]: [u64; 6]) -> Result<(), i32> {
    // SAFETY: the calls have no effect on memory that is in use: they name
    // processes, descriptors and places that do not exist, or make new ones.
    let done = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if done == 0 && number == libc::SYS_clone {
        // SAFETY: it is the child, which should not be; ends it.
        unsafe { libc::_exit(0) }
    }
    match done {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => Ok(()),
    }
}
