//! Each layer alone: entered by this test program started once more, which then
//! tries what is forbidden. Without the layer the same is possible.
#![expect(
    unsafe_code,
    reason = "calls that no library makes, and a child that ends at once"
)]
#![expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Error, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::calls::ALLOWED;
use super::{Reach, calls, files, ports};

/// Says to the test below which layer to enter, what to try, and on what.
const TRY: &str = "FADES_BROKER_TRY";

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Possible,
    Refused,
    /// The host has no such layer.
    NoLayer(String),
}

fn tried(layer: &str, what: &str, on: &str) -> Tried {
    let output = Command::new(std::env::current_exe().unwrap())
        // In the only thread: landlock holds for the one that enters it.
        .args(["--exact", "confine::tests::tries_what_it_is_told"])
        .args(["--test-threads=1", "--nocapture"])
        .env(TRY, format!("{layer}|{what}|{on}"))
        .output()
        .unwrap();
    match output.status.code() {
        Some(10) => Tried::Possible,
        Some(11) => Tried::Refused,
        Some(12) => Tried::NoLayer(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => panic!("{layer} {what}: {output:?}"),
    }
}

/// Possible without the layer, refused with it. Whether the host has the layer.
fn only_refused_by(layer: &str, what: &str, on: &str) -> bool {
    assert_eq!(tried("none", what, on), Tried::Possible, "{what}");
    match tried(layer, what, on) {
        // Every kernel that runs a node has filters of system calls.
        Tried::NoLayer(reason) if layer != "calls" => {
            println!("SKIPPED: {what}: no {layer}: {reason}");
            false
        }
        tried => {
            assert_eq!(tried, Tried::Refused, "{layer}: {what}");
            true
        }
    }
}

/// A folder with one that is read, one that is written and one that is neither.
fn folders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["read", "write", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), "x").unwrap();
    }
    folder
}

#[test]
fn files_that_no_source_names_are_out_of_reach() {
    for what in [
        "read other",
        "list other",
        "write other",
        "write read",
        "remove read",
        "make read",
        "link out of read",
        "move out of write",
        "start a program",
    ] {
        let folder = folders();
        let on = folder.path().display().to_string();
        assert_eq!(tried("none", what, &on), Tried::Possible, "{what}");
        let folder = folders();
        let on = folder.path().display().to_string();
        match tried("files", what, &on) {
            Tried::NoLayer(reason) => println!("SKIPPED: {what}: no landlock: {reason}"),
            tried => assert_eq!(tried, Tried::Refused, "{what}"),
        }
    }
    for what in [
        "read read",
        "list read",
        "write write",
        "make write",
        "remove write",
    ] {
        let folder = folders();
        let on = folder.path().display().to_string();
        assert_ne!(tried("files", what, &on), Tried::Refused, "{what}");
    }
}

#[test]
fn ports_that_no_source_names_are_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    if only_refused_by("ports", "connect", &port) {
        assert_eq!(tried("this port", "connect", &port), Tried::Possible);
        assert_eq!(tried("ports", "listen on a port", ""), Tried::Refused);
    }
}

#[test]
fn calls_that_a_broker_does_not_make_are_refused() {
    let root = rustix::process::geteuid().is_root();
    for (what, needs_root) in [
        ("fork", false),
        ("execute", false),
        ("inspect", false),
        ("read another process", false),
        ("signal", false),
        ("unshare", false),
        ("mount", true),
        ("leave the root", true),
        ("executable memory", false),
        ("memory made executable", false),
        ("raw socket", true),
        ("packet socket", true),
        ("socket of this host", false),
        ("bind", false),
        ("listen", false),
        ("accept", false),
        ("send to any address", false),
        ("raise a limit", false),
        ("control a terminal", false),
        ("load a program into the kernel", false),
    ] {
        if needs_root && !root {
            println!("SKIPPED: {what}: not root");
            continue;
        }
        only_refused_by("calls", what, "");
    }
    for what in ["thread", "memory", "socket", "file"] {
        assert_eq!(tried("calls", what, ""), Tried::Possible, "{what}");
    }
    assert_eq!(tried("calls with UDP", "bind", ""), Tried::Possible);
    assert_eq!(
        tried("calls with UDP", "send to any address", ""),
        Tried::Possible
    );
    assert_eq!(tried("calls with UDP", "listen", ""), Tried::Refused);
}

#[test]
fn every_call_has_a_reason_and_is_there_once_or_with_conditions() {
    for (i, (call, when, reason)) in ALLOWED.iter().enumerate() {
        assert!(!reason.is_empty());
        let mut before = ALLOWED[..i].iter();
        let again = before.any(|(c, w, _)| c == call && (*w == calls::When::Always || when == w));
        assert!(!again, "{call}");
        let same = ALLOWED.iter().filter(|(c, ..)| c == call).count();
        assert!(same == 1 || *when != calls::When::Always, "{call}");
    }
}

/// A part of the tests above; nothing by itself.
#[test]
fn tries_what_it_is_told() {
    let Ok(told) = std::env::var(TRY) else {
        return;
    };
    let [layer, what, on] = told.split('|').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let paths = |name: &str| BTreeSet::from([Path::new(on).join(name)]);
    let mut reach = Reach::default();
    let entered = match layer {
        "files" => {
            reach.read = paths("read");
            reach.write = paths("write");
            files::enter(&reach, &[])
        }
        "ports" => ports::enter(&reach),
        "this port" => {
            reach.ports.insert(on.parse().unwrap());
            ports::enter(&reach)
        }
        "calls" => calls::enter(&reach),
        "calls with UDP" => {
            reach.udp = true;
            calls::enter(&reach)
        }
        _ => Ok(String::new()),
    };
    let code = match entered.map(|_| attempt(what, on)) {
        Err(e) => {
            println!("{e}");
            12
        }
        Ok(Ok(())) => 10,
        Ok(Err(e)) if e.kind() == ErrorKind::PermissionDenied => 11,
        // Landlock says so of files that would be moved out of what it allows.
        Ok(Err(e)) if e.kind() == ErrorKind::CrossesDevices => 11,
        // Refused for another reason: nobody forbade it.
        Ok(Err(_)) => 10,
    };
    // SAFETY: ends this program, which is here for nothing else.
    unsafe { libc::_exit(code) }
}

fn attempt(what: &str, on: &str) -> std::io::Result<()> {
    let at = |name: &str| -> PathBuf { Path::new(on).join(name) };
    match what.split_once(' ').unwrap_or((what, "")) {
        ("read", name) if !on.is_empty() => fs::read(at(name).join("file")).map(drop),
        ("list", name) => fs::read_dir(at(name)).map(drop),
        ("write", name) => fs::write(at(name).join("file"), "y"),
        ("make", name) => fs::write(at(name).join("new"), "y"),
        ("remove", name) => fs::remove_file(at(name).join("file")),
        ("link", _) => {
            let link = at("read").join("link");
            // It may be forbidden already.
            let _ = std::os::unix::fs::symlink(at("other").join("file"), &link);
            fs::read(link)
                .map(drop)
                .map_err(|_| ErrorKind::PermissionDenied.into())
        }
        ("move", _) => fs::rename(at("write").join("file"), at("other").join("moved")),
        ("start", _) => Command::new("/bin/true").status().map(drop),
        ("connect", _) => TcpStream::connect(("127.0.0.1", on.parse().unwrap())).map(drop),
        ("thread", _) => {
            let started = std::thread::Builder::new().spawn(|| ())?;
            started.join().map_err(|_| Error::other("it panicked"))
        }
        ("file", _) => fs::read("/proc/self/status").map(drop),
        ("socket", "") => {
            std::net::UdpSocket::bind("127.0.0.1:0").map_or_else(refused_bind, |_| Ok(()))
        }
        _ if what == "listen on a port" => TcpListener::bind("127.0.0.1:0").map(drop),
        _ => call(what),
    }
}

/// A socket is allowed where only binding it is not.
fn refused_bind(_: Error) -> std::io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    Ok(socket(AddressFamily::INET, SocketType::STREAM, None).map(drop)?)
}

fn call(what: &str) -> std::io::Result<()> {
    let exec = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let shared = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let none = u64::MAX;
    let nobody = i64::from(i32::MAX).cast_unsigned();
    let limit: [u64; 2] = [64, 64];
    let address = std::ptr::from_ref(&limit) as u64;
    let raw = libc::SOCK_RAW as u64;
    let stream = libc::SOCK_STREAM as u64;
    let (number, arguments): (i64, [u64; 6]) = match what {
        "fork" => return fork(),
        "execute" => (libc::SYS_execve, [address, 0, 0, 0, 0, 0]),
        "inspect" => (
            libc::SYS_ptrace,
            [libc::PTRACE_ATTACH.into(), nobody, 0, 0, 0, 0],
        ),
        "read another process" => (libc::SYS_process_vm_readv, [nobody, 0, 0, 0, 0, 0]),
        "signal" => (libc::SYS_kill, [nobody, 0, 0, 0, 0, 0]),
        "unshare" => (libc::SYS_unshare, [0; 6]),
        "mount" => (libc::SYS_mount, [0; 6]),
        "leave the root" => (libc::SYS_chroot, [0; 6]),
        "memory" => (libc::SYS_mmap, [0, 4096, 3, shared, none, 0]),
        "executable memory" => (libc::SYS_mmap, [0, 4096, exec, shared, none, 0]),
        "memory made executable" => (libc::SYS_mprotect, [0, 4096, exec, 0, 0, 0]),
        "raw socket" => (libc::SYS_socket, [libc::AF_INET as u64, raw, 1, 0, 0, 0]),
        "packet socket" => (libc::SYS_socket, [libc::AF_PACKET as u64, raw, 0, 0, 0, 0]),
        "socket of this host" => (libc::SYS_socket, [libc::AF_UNIX as u64, stream, 0, 0, 0, 0]),
        "bind" => (libc::SYS_bind, [none, 0, 0, 0, 0, 0]),
        "listen" => (libc::SYS_listen, [none, 0, 0, 0, 0, 0]),
        "accept" => (libc::SYS_accept4, [none, 0, 0, 0, 0, 0]),
        "send to any address" => (libc::SYS_sendto, [none, address, 1, 0, address, 16]),
        "raise a limit" => (
            libc::SYS_prlimit64,
            [0, libc::RLIMIT_CORE.into(), address, 0, 0, 0],
        ),
        "control a terminal" => (libc::SYS_ioctl, [none, libc::TIOCSTI, 0, 0, 0, 0]),
        "load a program into the kernel" => (libc::SYS_bpf, [none, 0, 0, 0, 0, 0]),
        other => panic!("{other}"),
    };
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the calls have no effect on memory that is in use: they name
    // processes, descriptors and places that do not exist, or make new ones.
    let done = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if done == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

fn fork() -> std::io::Result<()> {
    // SAFETY: the child ends at once.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        // SAFETY: ends the child without running anything of the parent's.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}
