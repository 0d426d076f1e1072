//! The broker as a process of its own, from its first thread on.
//!
//! Without the usual harness: this program starts itself as a broker, with the
//! control channel as a descriptor, as root and as another user.
#![expect(unsafe_code, reason = "a descriptor is inherited")]
#![expect(clippy::print_stdout, reason = "tests report on the standard output")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::coverage::Coverage;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release};
use fades_task::mtw::{Dto, Take};
use fades_task::quantity::Size;
use fades_wire::Channel;

#[path = "it/modbus/plant.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod plant;

const CONTROL: &str = "FADES_TEST_CONTROL";
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    if let Ok(number) = std::env::var(CONTROL) {
        // SAFETY: whoever started this process left this descriptor for it.
        let control = unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) };
        let ended = fades_drb::process::run_confined(Channel::from(control));
        return ExitCode::from(u8::from(ended.is_err()));
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let tests: [(&str, fn()); 6] = [
        (
            "a_broker_that_is_not_root_gets_huge_pages_in_its_own_namespace",
            other_user,
        ),
        (
            "a_broker_reaches_what_its_sources_name_and_nothing_else",
            confined,
        ),
        (
            "a_broker_that_is_not_connected_says_so_in_time_and_begins_anew",
            not_connected,
        ),
        (
            "a_confined_broker_without_a_tmpfs_gives_what_can_only_be_read",
            without_tmpfs,
        ),
        ("a_broker_that_is_killed_leaves_nothing_behind", killed),
        ("a_broker_ends_well_when_the_orchestrator_does", ends),
    ];
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// A broker process and the orchestrator's end of its channel.
struct Started {
    child: Child,
    control: Channel,
    /// On which it asks for connections, if it was given the other end.
    dial: Option<Channel>,
    /// What the broker reads, where it may mount, and perhaps its program.
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

fn start(user: Option<u32>) -> (Started, BrokerReport) {
    start_with(user, user.is_some(), |folder| {
        std::fs::write(folder.join("rooms.csv"), "time,t\n2026-01-01,1\n").unwrap();
        Sources::guess(&folder.join("rooms.csv")).unwrap()
    })
}

/// A broker of the sources that `make` makes in its folder; one that `asks` for
/// connections does not get them.
fn start_with(
    user: Option<u32>,
    asks: bool,
    make: impl FnOnce(&Path) -> Sources,
) -> (Started, BrokerReport) {
    let folder = tempfile::Builder::new()
        .prefix("fades")
        .tempdir_in("/tmp")
        .unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let sources = make(folder.path());
    // Where another user can get at it.
    let program = folder.path().join("broker");
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
    let configure = BrokerRequest::Configure {
        folder: folder.path().join("mount").display().to_string(),
        budget: Size(16 << 20),
        chunk: Size(4 << 20),
        base: "/".to_owned(),
        readings: Some(folder.path().join("readings").display().to_string()),
        credentials: None,
    };
    let (dial, asked) = Channel::pair().unwrap();
    let started = Started {
        child,
        control,
        dial: Some(dial),
        folder,
    };
    let blob = serde_json::to_vec(&sources).unwrap();
    let given = [asked.as_fd()];
    let given = if asks { &given[..] } else { &[] };
    started.control.send(&configure, &blob, given).unwrap();
    let ready = started.control.receive(soon()).unwrap().unwrap().message;
    (started, ready)
}

impl Started {
    /// Starts a run and takes its batch.
    fn batch(&self) -> OwnedFd {
        let dto = serde_json::json!({
            "name": "d", "kind": [], "location": [], "device": [], "source": null,
            "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
            "need": null, "bad_rows": null,
        });
        let dtos = vec![serde_json::from_value(dto).unwrap()];
        let (tender, given) = Channel::pair().unwrap();
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos,
            window: Size(4 << 20),
            within: None,
            answers: Vec::new(),
        };
        self.control.send(&request, &[], &[given.as_fd()]).unwrap();
        let frame = tender.receive::<Feed>(soon()).unwrap().unwrap();
        assert!(matches!(frame.message, Feed::Batch { .. }));
        let [file] = <[_; 1]>::try_from(frame.descriptors).unwrap();
        file
    }

    /// What a run came to that asks one source for one reading of each device.
    fn ask(&self, source: &str, now: bool) -> (Vec<Coverage>, Option<String>) {
        let take = if now { Take::Now } else { Take::Range };
        let dto = Dto {
            take,
            ..Dto::all(source.parse().unwrap())
        };
        let (tender, given) = Channel::pair().unwrap();
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 2,
            dtos: vec![Dto {
                source: Some(source.parse().unwrap()),
                ..dto
            }],
            window: Size(4 << 20),
            within: None,
            answers: Vec::new(),
        };
        self.control.send(&request, &[], &[given.as_fd()]).unwrap();
        drop(given);
        while let Some(frame) = tender.receive::<Feed>(soon()).unwrap() {
            match frame.message {
                Feed::Batch { .. } => tender.send(&Release::Batch, &[], &[]).unwrap(),
                Feed::Finish => break,
                _ => {}
            }
        }
        drop(tender);
        let report = self.control.receive(soon()).unwrap().unwrap().message;
        let BrokerReport::RetrieveEnded {
            coverage, failure, ..
        } = report
        else {
            panic!("{report:?}")
        };
        (coverage, failure.map(|f| f.to_string()))
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = soon().unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the broker does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left_behind(&self, path: &str) -> usize {
        let path: &Path = &self.folder.path().join(path);
        std::fs::read_dir(path).map_or(0, Iterator::count)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn reopened(file: &OwnedFd) -> std::io::Result<std::fs::File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new().write(true).open(path)
}

fn other_user() {
    let (started, ready) = start(is_root().then_some(NOBODY));
    let BrokerReport::Ready {
        huge,
        advice,
        confinement,
        ..
    } = ready
    else {
        panic!("{ready:?}")
    };
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    match network(&started.child.id().to_string()) {
        Ok(theirs) if confinement.network.enforced => {
            assert_ne!(theirs, network("self").unwrap());
        }
        other => println!("SKIPPED: a network of its own without root: {confinement:?} {other:?}"),
    }
    let file = started.batch();
    if !huge {
        println!("SKIPPED: huge pages without root: no tmpfs can be mounted here: {advice:?}");
        return;
    }
    assert_eq!(advice, None);
    let error = reopened(&file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

fn confined() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (tcp, rtu) = (plant::Plant::tcp(), plant::Plant::rtu());
    tcp.set(1, &[(0, 215)]);
    rtu.set(1, &[(0, 216)]);
    let (started, ready) = start_with(None, false, |folder| {
        let row = "time,t\n2026-01-01,1\n";
        for name in ["inside", "outside"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("inside/rooms.csv"), row).unwrap();
        std::fs::write(elsewhere.path().join("rooms.csv"), row).unwrap();
        let link = folder.join("outside/rooms.csv");
        std::os::unix::fs::symlink(elsewhere.path().join("rooms.csv"), link).unwrap();
        // By its name, which has to be resolved.
        let tcp = tcp.url().replace("127.0.0.1", "localhost");
        sources(folder, &tcp, &rtu.url())
    });
    let BrokerReport::Ready { confinement, .. } = ready else {
        panic!("{ready:?}")
    };
    assert!(confinement.calls.enforced, "{confinement:?}");
    for source in ["inside", "tcp", "rtu"] {
        let (coverage, failure) = started.ask(source, source != "inside");
        assert_eq!(failure, None, "{source}");
        assert_eq!((coverage[0].answered, coverage[0].used), (1, 1), "{source}");
    }
    if !(confinement.files.enforced && confinement.ports.enforced) {
        println!("SKIPPED: files and ports that no source names: {confinement:?}");
        return;
    }
    let (_, failure) = started.ask("outside", false);
    let failure = failure.unwrap();
    assert!(failure.contains("ermission denied"), "{failure}");
    assert!(confinement.ports.detail.starts_with("TCP to port "));
}

fn sources(folder: &Path, tcp: &str, rtu: &str) -> Sources {
    let csv = |name: &str| {
        let files = folder.join(name).join("*.csv");
        format!(
            "[source.{name}]\ntype = \"csv\"\nfiles = \"{}\"\ntime = {{ column = \"time\", \
             zone = \"Europe/Rome\" }}\ndevice = \"d\"\npoints = [{{ column = \"t\" }}]\n",
            files.display()
        )
    };
    let modbus = |name: &str, url: &str| {
        format!(
            "[source.{name}]\ntype = \"modbus\"\n{url}\nunits = [{{ id = 1, device = \"m\" }}]\n\
             registers = [{{ table = \"holding\", address = 0, kind = \"t\" }}]\nrecord = {{}}\n"
        )
    };
    let text = [
        csv("inside"),
        csv("outside"),
        modbus("tcp", tcp),
        modbus("rtu", rtu),
    ];
    let table: serde_json::Value = toml::from_str(&text.concat()).unwrap();
    Sources::parse(&table["source"]).unwrap()
}

fn not_connected() {
    let (mut started, ready) = start_with(None, true, |_| {
        let text = "[source.web]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\ntimeout = \"500ms\"\n\
                    device = \"d\"\nkind = \"t\"\nvalue = \"/v\"\n";
        let table: serde_json::Value = toml::from_str(text).unwrap();
        Sources::parse(&table["source"]).unwrap()
    });
    assert!(matches!(ready, BrokerReport::Ready { .. }), "{ready:?}");
    let begun = Instant::now();
    let (coverage, failure) = started.ask("web", true);
    let said = format!("{coverage:?} {failure:?}");
    assert!(said.contains("took longer"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{said}");
    // Nobody connects it any more: whoever supervises it starts another one.
    drop(started.dial.take());
    assert!(started.ended().success());
}

fn without_tmpfs() {
    let (started, ready) = start_with(None, false, |folder| {
        std::fs::write(folder.join("rooms.csv"), "time,t\n2026-01-01,1\n").unwrap();
        // Over a file no file system can be mounted.
        std::fs::write(folder.join("mount"), "").unwrap();
        Sources::guess(&folder.join("rooms.csv")).unwrap()
    });
    let BrokerReport::Ready {
        batches,
        confinement,
        ..
    } = ready
    else {
        panic!("{ready:?}")
    };
    assert!(batches.contains("memfd"), "{batches}");
    assert!(confinement.calls.enforced, "{confinement:?}");
    let file = started.batch();
    let mode = rustix::fs::fcntl_getfl(&file).unwrap() & rustix::fs::OFlags::RWMODE;
    assert_eq!(mode, rustix::fs::OFlags::RDONLY, "tenders refuse any other");
    assert!(file_is_sealed(&file));
}

fn killed() {
    let (mut started, _) = start(None);
    let file = started.batch();
    started.child.kill().unwrap();
    assert!(!started.ended().success());
    assert_eq!(started.left_behind("mount"), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(started.folder.path().to_str().unwrap()));
    assert!(
        reopened(&file).is_err() || file_is_sealed(&file),
        "still nobody can write"
    );
}

fn file_is_sealed(file: &OwnedFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|s| s.contains(rustix::fs::SealFlags::WRITE))
}

fn ends() {
    let (mut started, _) = start(None);
    let _file = started.batch();
    started.control.shut_down();
    assert!(started.ended().success());
    assert_eq!(started.left_behind("mount"), 0);
}
