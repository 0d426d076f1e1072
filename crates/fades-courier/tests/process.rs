//! The courier as a process of its own, from its first thread on.
//!
//! Without the usual harness: this program starts itself as a courier, with the
//! control channel as a descriptor, as root and as another user.
#![expect(unsafe_code, reason = "a descriptor is inherited")]
#![expect(clippy::print_stdout, reason = "tests report on the standard output")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use fades_courier::config::Places;
use fades_task::courier::{CourierReport, CourierRequest, Parcel, Receiver, Verdict};
use fades_task::dial::{DialAnswer, DialFailure, DialRequest};
use fades_task::message::Confinement;
use fades_wire::Channel;

const CONTROL: &str = "FADES_TEST_CONTROL";
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    if let Ok(number) = std::env::var(CONTROL) {
        // SAFETY: whoever started this process left this descriptor for it.
        let control = unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) };
        let ended = fades_courier::process::run_confined(Channel::from(control));
        return ExitCode::from(u8::from(ended.is_err()));
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let tests: [(&str, fn()); 5] = [
        (
            "a_courier_reaches_what_is_configured_and_nothing_else",
            confined,
        ),
        (
            "a_courier_that_is_not_root_is_confined_where_the_host_allows_it",
            other_user,
        ),
        (
            "a_courier_that_is_not_connected_says_so_in_time_and_begins_anew",
            not_connected,
        ),
        ("a_courier_that_is_misconfigured_says_so", misconfigured),
        ("a_courier_ends_well_when_the_orchestrator_does", ends),
    ];
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// A courier process and the orchestrator's ends of its channels.
struct Started {
    child: Child,
    control: Channel,
    /// On which it asks for connections.
    dial: Option<Channel>,
    folder: tempfile::TempDir,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A courier of these tables, in a folder that is made first; its first report.
fn start(user: Option<u32>, tables: &str, make: impl FnOnce(&Path)) -> (Started, CourierReport) {
    let folder = tempfile::Builder::new()
        .prefix("fades")
        .tempdir_in("/tmp")
        .unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    make(folder.path());
    // Where another user can get at it.
    let program = folder.path().join("courier");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let (control, theirs) = Channel::pair().unwrap();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new(program);
    command.env(CONTROL, theirs.as_fd().as_raw_fd().to_string());
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    let child = command.spawn().unwrap();
    drop(theirs);
    let (dial, asked) = Channel::pair().unwrap();
    let started = Started {
        child,
        control,
        dial: Some(dial),
        folder,
    };
    let configure = CourierRequest::Configure {
        node: "harbour-07".parse().unwrap(),
        version: "1".to_owned(),
        base: started.folder.path().display().to_string(),
        credentials: None,
    };
    let blob = toml::from_str::<serde_json::Value>(tables).unwrap();
    let blob = serde_json::to_vec(&blob).unwrap();
    let sent = started.control.send(&configure, &blob, &[asked.as_fd()]);
    sent.unwrap();
    let first = started.control.receive(soon()).unwrap().unwrap();
    (started, first.message)
}

fn ready(first: CourierReport) -> Confinement {
    match first {
        CourierReport::Ready { confinement } => confinement,
        other => panic!("{other:?}"),
    }
}

impl Started {
    /// Connects whoever asks for `port`, and nobody else.
    fn connects(&mut self, port: u16) {
        let dial = self.dial.take().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(frame)) = dial.receive::<DialRequest>(None) {
                let DialRequest { id, to, .. } = frame.message;
                let stream = (to.port == port).then(|| TcpStream::connect(("127.0.0.1", port)));
                let (failure, stream) = match stream {
                    Some(Ok(stream)) => (None, Some(stream)),
                    _ => (Some(DialFailure::NotConfigured), None),
                };
                let given: Vec<_> = stream.iter().map(AsFd::as_fd).collect();
                let answer = DialAnswer { id, failure };
                dial.send(&answer, &[], &given).unwrap();
            }
        });
    }

    fn deliver(&self, parcel: u64, to: &str) {
        let request = CourierRequest::Deliver(Parcel {
            parcel,
            to: Receiver::Destination(to.parse().unwrap()),
            event: format!("e{parcel}"),
            task: "t".parse().unwrap(),
            name: "n".parse().unwrap(),
            service: "s".parse().unwrap(),
        });
        self.control.send(&request, b"{}", &[]).unwrap();
    }

    /// What became of a parcel. Letters that come meanwhile are taken.
    fn outcome(&self, wanted: u64) -> Result<(), String> {
        let deadline = soon();
        loop {
            let frame = self.control.receive::<CourierReport>(deadline).unwrap();
            match frame.expect("the courier is there").message {
                CourierReport::Delivered { parcel } if parcel == wanted => return Ok(()),
                CourierReport::NotDelivered { parcel, why } if parcel == wanted => {
                    return Err(why.reason);
                }
                CourierReport::Letter { letter, .. } => self.take(letter),
                _ => {}
            }
        }
    }

    fn take(&self, letter: u64) {
        let verdict = Verdict::Taken {
            task: "t".parse().unwrap(),
        };
        let request = CourierRequest::Verdict { letter, verdict };
        self.control.send(&request, &[], &[]).unwrap();
    }

    /// The names of inboxes from which letters come, until each of `wanted` has.
    fn letters(&self, wanted: &[&str]) {
        let mut left: Vec<&str> = wanted.to_vec();
        let deadline = soon();
        while !left.is_empty() {
            let frame = self.control.receive::<CourierReport>(deadline).unwrap();
            if let CourierReport::Letter { letter, inbox } = frame.unwrap().message {
                left.retain(|l| *l != inbox.as_str());
                self.take(letter);
            }
        }
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = soon().unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the courier does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A server that has a letter and takes everything.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut byte = [0];
                while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1)
                {
                    bytes.push(byte[0]);
                }
                let body = r#"{"letters":[{"id":"a","envelope":{}}]}"#;
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
                let _ = write!(stream, "{head} {length}\r\n\r\n{body}");
            });
        }
    });
    port
}

fn confined() {
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("token"), "x").unwrap();
    let port = server();
    let url = format!("http://localhost:{port}");
    let tables = format!(
        "[inbox.web]\nurl = \"{url}/in\"\ntoken-file = \"secrets/token\"\n\
         [inbox.drop]\nfolder = \"in\"\n\
         [destination.web]\nurl = \"{url}/x\"\ntoken-file = \"secrets/token\"\n\
         [destination.disk]\nfolder = \"out\"\n\
         [destination.moved]\nfolder = \"moved\"\n\
         [destination.linked]\nurl = \"{url}/x\"\ntoken-file = \"secrets/link\"\n\
         [destination.other]\nurl = \"http://localhost:1/x\"\n\
         [destination.mqtt]\nurl = \"mqtt://localhost:1\"\ntopic = \"x\"\n"
    );
    let (mut started, first) = start(None, &tables, |folder| {
        std::fs::create_dir_all(folder.join("secrets")).unwrap();
        std::fs::create_dir_all(folder.join("in")).unwrap();
        std::fs::write(folder.join("secrets/token"), "hunter2").unwrap();
        std::fs::write(folder.join("in/a.json"), "{}").unwrap();
        let link = folder.join("secrets/link");
        std::os::unix::fs::symlink(elsewhere.path().join("token"), link).unwrap();
    });
    let confinement = ready(first);
    started.connects(port);
    assert!(confinement.calls.enforced, "{confinement:?}");
    started.letters(&["web", "drop"]);
    for (parcel, to) in [(1, "web"), (2, "disk"), (3, "moved")] {
        started.deliver(parcel, to);
        assert_eq!(started.outcome(parcel), Ok(()), "{to}");
    }
    for (parcel, to) in [(4, "other"), (5, "mqtt")] {
        started.deliver(parcel, to);
        let reason = started.outcome(parcel).unwrap_err();
        assert!(reason.contains("does not connect"), "{to}: {reason}");
    }
    let pid = started.child.id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    if confinement.network.enforced {
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_ne!(network(&pid.to_string()), network("self"));
        let words = &confinement.network.detail;
        assert!(
            words.contains("the 4 addresses that inboxes and destinations name"),
            "{words}"
        );
    } else {
        println!("SKIPPED: a network of its own: {confinement:?}");
    }
    if !confinement.files.enforced {
        println!("SKIPPED: files that are not configured: {confinement:?}");
        return;
    }
    let base = started.folder.path();
    std::fs::rename(base.join("moved"), base.join("away")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), base.join("moved")).unwrap();
    for (parcel, to) in [(6, "moved"), (7, "linked")] {
        started.deliver(parcel, to);
        let reason = started.outcome(parcel).unwrap_err();
        assert!(reason.contains("ermission denied"), "{to}: {reason}");
    }
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

fn other_user() {
    let (started, first) = start(
        is_root().then_some(NOBODY),
        "[destination.disk]\nfolder = \"out\"\n[inbox.drop]\nfolder = \"in\"\n",
        |_| {},
    );
    let confinement = ready(first);
    assert!(confinement.calls.enforced, "{confinement:?}");
    if !confinement.network.enforced {
        println!("SKIPPED: a network of its own without root: {confinement:?}");
    }
    started.deliver(1, "disk");
    assert_eq!(started.outcome(1), Ok(()));
    let part = started.folder.path().join("in/.part");
    std::fs::write(&part, "{}").unwrap();
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(part, started.folder.path().join("in/a.json")).unwrap();
    started.letters(&["drop"]);
}

fn not_connected() {
    let table = "[destination.web]\nurl = \"http://127.0.0.1:1/\"\ntimeout = \"1s\"\n";
    let (mut started, first) = start(None, table, |_| {});
    ready(first);
    started.deliver(1, "web");
    let reason = started.outcome(1).unwrap_err();
    assert!(reason.contains("took longer"), "{reason}");
    // Nobody connects it any more: whoever supervises it starts another one.
    drop(started.dial.take());
    assert!(started.ended().success());
}

fn misconfigured() {
    let table = "[destination.a]\nurl = \"http://example.org/\"\n";
    let (mut started, first) = start(None, table, |_| {});
    let CourierReport::Misconfigured { reason } = first else {
        panic!("{first:?}")
    };
    let table: serde_json::Value = toml::from_str(table).unwrap();
    let error = Places::parse(None, table.get("destination")).unwrap_err();
    assert_eq!(reason, error.to_string());
    assert!(!started.ended().success());
}

fn ends() {
    let port = server();
    let table = format!("[inbox.web]\nurl = \"http://127.0.0.1:{port}/\"\n");
    let (mut started, first) = start(None, &table, |_| {});
    ready(first);
    started.connects(port);
    // While a letter waits for its verdict.
    let frame = started.control.receive::<CourierReport>(soon()).unwrap();
    assert!(matches!(
        frame.unwrap().message,
        CourierReport::Letter { .. }
    ));
    started.control.shut_down();
    assert!(started.ended().success());
}
