//! Nobody who has the descriptor of a batch can change it.
#![expect(unsafe_code, reason = "mappings are tried that must not be writable")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest, Feed};
use fades_task::quantity::Size;
use fades_wire::Channel;

use crate::broker::{content, dto, soon, sources};

const DESCRIPTOR: &str = "FADES_TEST_DESCRIPTOR";

/// Tries every way to write that a process with the descriptor has; names of
/// those that worked.
fn try_to_write(file: &File) -> Vec<&'static str> {
    let n = file.as_raw_fd();
    let mut worked = Vec::new();
    let mut note = |how: &'static str, done: bool| {
        if done {
            worked.push(how);
        }
    };
    let wrote = |file: std::io::Result<File>| file.and_then(|f| f.write_at(b"x", 0)).is_ok();
    note("pwrite", file.write_at(b"x", 0).is_ok());
    note("ftruncate", file.set_len(0).is_ok());
    let paths = [
        format!("/proc/self/fd/{n}"),
        format!("/dev/fd/{n}"),
        format!("/proc/thread-self/fd/{n}"),
    ];
    for path in &paths {
        note(
            "reopen for writing",
            wrote(OpenOptions::new().write(true).open(path)),
        );
        note(
            "reopen for both",
            wrote(OpenOptions::new().read(true).write(true).open(path)),
        );
        note(
            "reopen to append",
            OpenOptions::new()
                .append(true)
                .open(path)
                .and_then(|mut f| f.write_all(b"x"))
                .is_ok(),
        );
        note(
            "reopen to cut",
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(path)
                .is_ok(),
        );
        note(
            "cut by name",
            rustix::fs::open(
                path.as_str(),
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::TRUNC,
                rustix::fs::Mode::empty(),
            )
            .is_ok_and(|_| file.metadata().unwrap().len() == 0),
        );
    }
    let _ = file.set_permissions(fs::Permissions::from_mode(0o666));
    note(
        "chmod and reopen",
        wrote(OpenOptions::new().write(true).open(&paths[0])),
    );
    // SAFETY: the mapping is not read through a reference while it is written.
    let mapped = unsafe { memmap2::MmapMut::map_mut(file) };
    note("map shared and writable", mapped.is_ok());
    // SAFETY: as above.
    let mapped = unsafe { memmap2::Mmap::map(file) };
    note(
        "make a mapping writable",
        mapped.is_ok_and(|m| m.make_mut().is_ok()),
    );
    note(
        "punch a hole",
        rustix::fs::fallocate(
            file,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            0,
            4096,
        )
        .is_ok(),
    );
    let other = tempfile::tempfile().unwrap();
    note(
        "copy into it",
        rustix::fs::copy_file_range(&other, None, file, None, 1).is_ok_and(|n| n > 0),
    );
    worked
}

/// Not a test: what runs in another process, perhaps as another user.
#[test]
fn another_process_with_the_descriptor() {
    let Ok(number) = std::env::var(DESCRIPTOR) else {
        return;
    };
    // SAFETY: the starting process left this descriptor open for this one.
    let file = unsafe { File::from_raw_fd(number.parse().unwrap()) };
    println!("worked: {:?}", try_to_write(&file));
}

/// What another process achieves with the descriptor.
fn in_another_process(file: &OwnedFd, user: Option<u32>) -> String {
    let inherited = file.try_clone().unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let test = "batches::another_process_with_the_descriptor";
    let binary = std::env::current_exe().unwrap();
    let copy;
    let mut command = match user {
        None => Command::new(binary),
        Some(user) => {
            // Where another user can get at it.
            copy = tempfile::Builder::new()
                .prefix("fades")
                .tempdir_in("/tmp")
                .unwrap();
            fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let there = copy.path().join("it");
            fs::copy(binary, &there).unwrap();
            let mut command = Command::new(there);
            command.uid(user).gid(user).current_dir("/");
            command
        }
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(DESCRIPTOR, inherited.as_raw_fd().to_string());
    let output = started(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|l| l.split_once("worked: "));
    line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
        .1
        .to_owned()
}

/// Runs a program that was written a moment ago. A child that another test
/// forked meanwhile holds it open for writing until it executes something
/// itself, and as long nobody can execute it.
fn started(command: &mut Command) -> std::process::Output {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match command.output() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            output => return output.unwrap(),
        }
    }
}

/// A broker's report of readiness, and a batch of it.
fn batch(folder: &Path) -> (BrokerReport, OwnedFd, u64) {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("a.csv"), "time,t\n2026-01-01,1\n").unwrap();
    let sources = sources(
        "[source.s]\ntype = \"csv\"\nfiles = \"*.csv\"\ntime = { column = \"time\" }\ndevice = \"d\"\npoints = [{ column = \"t\" }]",
    );
    let (control, theirs) = Channel::pair().unwrap();
    let broker = std::thread::spawn(move || fades_drb::process::run(theirs));
    let configure = BrokerRequest::Configure {
        folder: folder.display().to_string(),
        budget: Size(16 << 20),
        chunk: Size(4 << 20),
        base: data.path().display().to_string(),
        readings: None,
        credentials: None,
    };
    control
        .send(&configure, &serde_json::to_vec(&sources).unwrap(), &[])
        .unwrap();
    let ready = control.receive(soon()).unwrap().unwrap().message;
    let (tender, given) = Channel::pair().unwrap();
    let request = BrokerRequest::Retrieve {
        of: None,
        run: 1,
        dtos: vec![dto("d")],
        window: Size(64 << 20),
        within: None,
        answers: Vec::new(),
    };
    control.send(&request, &[], &[given.as_fd()]).unwrap();
    let frame = tender.receive::<Feed>(soon()).unwrap().unwrap();
    let Feed::Batch { length, .. } = frame.message else {
        panic!("{:?}", frame.message)
    };
    let [file] = <[_; 1]>::try_from(frame.descriptors).unwrap();
    control.shut_down();
    broker.join().unwrap().unwrap();
    (ready, file, length)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn cannot_be_written(file: &OwnedFd, length: u64) {
    let before = content(file, length);
    let own = File::from(file.try_clone().unwrap());
    assert_eq!(try_to_write(&own), [""; 0], "in the same process");
    assert_eq!(in_another_process(file, None), "[]");
    if is_root() {
        assert_eq!(in_another_process(file, Some(65_534)), "[]");
    } else {
        println!("SKIPPED: writing to a batch as another user: only root can become another user");
    }
    assert_eq!(content(file, length), before);
}

#[test]
fn a_batch_with_huge_pages_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (ready, file, length) = batch(&folder.path().join("mount"));
    let BrokerReport::Ready {
        huge,
        advice,
        batches,
        ..
    } = ready
    else {
        panic!("{ready:?}")
    };
    if !huge {
        println!("SKIPPED: a batch with huge pages: no tmpfs can be mounted here: {advice:?}");
        return;
    }
    assert!(batches.contains("huge pages") && advice.is_none());
    let kind = rustix::fs::fstatfs(&file).unwrap().f_type;
    assert_eq!(kind, 0x0102_1994, "a tmpfs");
    assert_eq!(
        rustix::fs::fstat(&file).unwrap().st_nlink,
        0,
        "it has no name"
    );
    cannot_be_written(&file, length);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(folder.path().to_str().unwrap()),
        "nobody else sees the mount"
    );
}

#[test]
fn a_batch_in_anonymous_memory_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (ready, batch, length) = batch(&file.join("below a file nothing can be mounted"));
    let BrokerReport::Ready {
        huge,
        advice,
        batches,
        ..
    } = ready
    else {
        panic!("{ready:?}")
    };
    assert!(!huge && batches.contains("memfd"));
    let advice = advice.unwrap();
    assert!(
        advice.contains("root") && advice.contains("Not a directory"),
        "{advice}"
    );
    cannot_be_written(&batch, length);
}

#[test]
fn the_attempts_work_on_a_descriptor_that_is_merely_read_only() {
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.as_file().set_len(2 << 20).unwrap();
    let read_only = File::open(file.path()).unwrap();
    let worked = try_to_write(&read_only);
    for how in ["reopen for writing", "chmod and reopen", "reopen to cut"] {
        assert!(worked.contains(&how), "{how} in {worked:?}");
    }
    let own: OwnedFd = read_only.into();
    assert!(in_another_process(&own, None).contains("reopen for both"));
    let both = try_to_write(file.as_file());
    assert!(both.contains(&"map shared and writable") && both.contains(&"pwrite"));
}
