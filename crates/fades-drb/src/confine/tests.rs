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
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::calls::ALLOWED;
use fades_outside::confine::calls::When;
use fades_outside::confine::{Reach, calls, files, network, ports};
use fades_task::dial::{Address, Transport};

use super::BROKER;
use crate::config::Sources;

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
fn a_broker_that_asks_for_connections_has_no_network() {
    let listeners = ["127.0.0.1", "::1"].map(|host| TcpListener::bind((host, 0)));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = server.local_addr().unwrap().port().to_string();
    for listener in listeners.iter().flatten() {
        let port = listener.local_addr().unwrap().port().to_string();
        let what = match listener.local_addr().unwrap() {
            SocketAddr::V4(_) => "connect",
            SocketAddr::V6(_) => "connect by IPv6",
        };
        // Each of the three by itself.
        for layer in ["network", "no ports", "no sockets"] {
            only_refused_by(layer, what, &port);
        }
    }
    for layer in ["network", "no sockets"] {
        only_refused_by(layer, "have a server resolve a name", &server);
    }
}

#[test]
fn a_connection_that_was_given_leads_nowhere_else() {
    let [to, elsewhere] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |l: &TcpListener| l.local_addr().unwrap().port();
    let on = format!("{} {}", port(&to), port(&elsewhere));
    for layer in ["no ports", "no sockets"] {
        only_refused_by(layer, "connect the stream anew", &on);
    }
    // It belongs to the network in which it was made.
    assert_ne!(
        tried("network", "connect the stream anew", &on),
        Tried::Refused
    );
    let [to, elsewhere] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = |s: &UdpSocket| s.local_addr().unwrap().port();
    let on = format!("{} {}", port(&to), port(&elsewhere));
    only_refused_by("no sockets", "connect the datagrams anew", &on);
}

/// Sources beside the node's own files, as an operator has them.
fn node_sources() -> Sources {
    let text = "[source.s]\ntype = \"csv\"\nfiles = \"data/*.csv\"\ntime = { column = \"time\" }\n\
                device = \"d\"\npoints = [{ column = \"t\" }]\n[source.i]\ntype = \"influx\"\n\
                url = \"http://h\"\ndatabase = \"d\"\nmeasurement = \"m\"\nmap = { device = \"b\" }\n\
                auth = { user = \"u\", password-file = \"influx-password\" }\n";
    let table: serde_json::Value = toml::from_str(text).unwrap();
    Sources::parse(&table["source"]).unwrap()
}

#[test]
fn keys_and_database_of_the_node_are_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["data", "state", "keys"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in [
        "state/fades.db",
        "keys/node.key",
        "trust.toml",
        "node.toml",
        "data/a.csv",
        "influx-password",
    ] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let tried = |layer: &str, name: &str| {
        tried(
            layer,
            &format!("open {name}"),
            &folder.path().display().to_string(),
        )
    };
    for name in ["state/fades.db", "keys/node.key", "trust.toml", "node.toml"] {
        assert_eq!(tried("none", name), Tried::Possible, "{name}");
        match tried("files of a node", name) {
            Tried::NoLayer(reason) => println!("SKIPPED: {name}: no landlock: {reason}"),
            tried => assert_eq!(tried, Tried::Refused, "{name}"),
        }
    }
    let on = folder.path().display().to_string();
    if let Tried::NoLayer(reason) = self::tried("files beside the node's", "open data/a.csv", &on) {
        assert!(
            reason.contains("keys and database") || reason.contains("landlock"),
            "{reason}"
        );
    } else {
        panic!("files in the node's own folder are said to be kept from it");
    }
    for name in ["data/a.csv", "influx-password"] {
        assert_ne!(tried("files of a node", name), Tried::Refused, "{name}");
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
        let again = before.any(|(c, w, _)| c == call && (*w == When::Always || when == w));
        assert!(!again, "{call}");
        let same = ALLOWED.iter().filter(|(c, ..)| c == call).count();
        assert!(same == 1 || *when != When::Always, "{call}");
    }
}

#[test]
fn addresses_are_those_that_the_sources_ask_for() {
    let text = r#"
        [source.i]
        type = "influx"
        url = "https://u.example:8086/x"
        database = "d"
        measurement = "m"
        device = "d"
        [source.h]
        type = "http"
        url = ["http://{device}.lan/now", "https://[::1]/x"]
        ask = ["One", "two"]
        kind = "t"
        value = "/v"
        device = "x"
        [source.m]
        type = "mqtt"
        url = "mqtts://hall"
        topic = "{device}/{kind}"
        [source.b]
        type = "modbus"
        url = "tcp://[fd00::7]"
        units = [{ id = 1, device = "m" }]
        registers = [{ table = "holding", address = 0, kind = "t" }]
        [source.c]
        type = "coap"
        devices-at = ["coap://[fd00::8]", "c:1"]
        path = "/{kind}"
    "#;
    let table: serde_json::Value = toml::from_str(text).unwrap();
    let sources = Sources::parse(&table["source"]).unwrap();
    let reach = super::reach(&sources, Path::new("/"), None);
    let shown = reach.addresses.iter();
    let shown: Vec<_> = shown
        .map(|a| format!("{} {} {}", a.source, a.host, a.port))
        .collect();
    assert_eq!(
        shown,
        [
            "b fd00::7 502",
            "c c 1",
            "c fd00::8 5683",
            "h ::1 443",
            "h one.lan 80",
            "h two.lan 80",
            "i u.example 8086",
            "m hall 8883",
        ]
    );
    assert!(reach.udp);
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
    let mut reach = Reach::nothing(&BROKER);
    let given = given(what, on);
    let entered = match layer {
        "files" => {
            reach.read = paths("read");
            reach.write = paths("write");
            files::enter(&reach, &[])
        }
        "ports" => ports::enter(&reach),
        "this port" => {
            let source = "s".parse().unwrap();
            let address = Address::new(&source, "any", on.parse().unwrap(), Transport::Tcp);
            reach.addresses.insert(address);
            ports::enter(&reach)
        }
        "network" => {
            reach.asks = true;
            network::enter(&reach)
        }
        "no ports" => {
            reach.asks = true;
            ports::enter(&reach)
        }
        "no sockets" => {
            reach.asks = true;
            calls::enter(&reach)
        }
        "files beside the node's" => {
            let path = Path::new(on).join("data");
            reach = super::reach(&node_sources(), &path, None);
            reach.read.insert(Path::new(on).to_path_buf());
            reach.note_own(&path);
            files::enter(&reach, &[])
        }
        "files of a node" => {
            reach = super::reach(&node_sources(), Path::new(on), None);
            files::enter(&reach, &[])
        }
        "calls" => calls::enter(&reach),
        "calls with UDP" => {
            reach.udp = true;
            calls::enter(&reach)
        }
        _ => Ok(String::new()),
    };
    let code = match entered.map(|_| given.map_or_else(|| attempt(what, on), |g| g.misuse())) {
        Err(e) => {
            println!("{e}");
            12
        }
        Ok(Ok(())) => 10,
        Ok(Err(e)) if e.kind() == ErrorKind::PermissionDenied => 11,
        // So says a network in which there is nothing.
        Ok(Err(e)) if e.kind() == ErrorKind::NetworkUnreachable => 11,
        Ok(Err(e)) if e.kind() == ErrorKind::AddrNotAvailable => 11,
        // Landlock says so of files that would be moved out of what it allows.
        Ok(Err(e)) if e.kind() == ErrorKind::CrossesDevices => 11,
        // Refused for another reason: nobody forbade it.
        Ok(Err(_)) => 10,
    };
    // SAFETY: ends this program, which is here for nothing else.
    unsafe { libc::_exit(code) }
}

/// What the orchestrator connected before the broker was confined, and another
/// address.
enum Given {
    Stream(TcpStream, SocketAddr),
    Datagrams(UdpSocket, SocketAddr),
}

fn given(what: &str, on: &str) -> Option<Given> {
    let (to, elsewhere) = on.split_once(' ')?;
    let at = |port: &str| SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    match what {
        "connect the stream anew" => {
            let stream = TcpStream::connect(at(to)).unwrap();
            Some(Given::Stream(stream, at(elsewhere)))
        }
        "connect the datagrams anew" => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(at(to)).unwrap();
            Some(Given::Datagrams(socket, at(elsewhere)))
        }
        _ => None,
    }
}

impl Given {
    /// Connects it to the other address.
    fn misuse(self) -> std::io::Result<()> {
        match self {
            Self::Stream(stream, to) => {
                rustix::net::connect_unspec(&stream)?;
                Ok(rustix::net::connect(&stream, &to)?)
            }
            Self::Datagrams(socket, to) => {
                socket.connect(to)?;
                socket.send(b"x").map(drop)
            }
        }
    }
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
        ("open", name) => fs::read(at(name)).map(drop),
        ("connect", "") => TcpStream::connect(("127.0.0.1", on.parse().unwrap())).map(drop),
        ("connect", _) => TcpStream::connect(("::1", on.parse().unwrap())).map(drop),
        ("thread", _) => {
            let started = std::thread::Builder::new().spawn(|| ())?;
            started.join().map_err(|_| Error::other("it panicked"))
        }
        ("file", _) => fs::read("/proc/self/status").map(drop),
        ("socket", "") => UdpSocket::bind("127.0.0.1:0").map_or_else(refused_bind, |_| Ok(())),
        _ if what == "have a server resolve a name" => {
            let server = ("127.0.0.1", on.parse::<u16>().unwrap());
            UdpSocket::bind("0.0.0.0:0")?
                .send_to(b"?", server)
                .map(drop)
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
