use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Child, Program};

const SHELL: &str = "/bin/sh";

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

/// Runs `script` with the writing end of a pipe as descriptor 3, and returns
/// the child and what it wrote.
fn said_by(script: &str) -> (Child, String) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let child = Program::new(Path::new(SHELL))
        .argument("-c")
        .argument(script)
        .variable("GIVEN", "value")
        .descriptor(write.as_fd())
        .spawn()
        .unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    (child, text)
}

#[test]
fn a_program_has_only_what_it_was_given() {
    let listing = "set -- /proc/self/fd/*; echo \"$@\" >&3; echo \"$GIVEN\" \"$HOME\" >&3; \
                   ends=$(/usr/bin/readlink /proc/$$/fd/0 /proc/$$/fd/1); echo \"$ends\" >&3; \
                   read -r pid name state parent group rest </proc/$$/stat; \
                   [ $pid = $group ] && echo leads >&3";
    // Descriptors of the test that would show if they were inherited.
    let leaky = inheritable();
    let (mut child, said) = said_by(listing);
    drop(leaky);
    let lines: Vec<_> = said.lines().collect();
    // 4 is the folder that the shell is reading just then.
    let descriptors = (0..=4).map(|n| format!("/proc/self/fd/{n}"));
    assert_eq!(lines[0], descriptors.collect::<Vec<_>>().join(" "));
    assert_eq!(lines[1..], ["value ", "/dev/null", "/dev/null", "leads"]);
    assert!(child.wait(soon()).unwrap().unwrap().success());
}

#[test]
fn what_it_says_of_errors_goes_where_it_should() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut child = Program::new(Path::new(SHELL))
        .argument("-c")
        .argument("echo wrong >&2; set -- /proc/self/fd/*; echo \"$@\" >&2")
        .error(write.as_fd())
        .spawn()
        .unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    // 3 is the folder that the shell is reading just then.
    let descriptors = (0..=3).map(|n| format!("/proc/self/fd/{n}"));
    let descriptors = descriptors.collect::<Vec<_>>().join(" ");
    assert_eq!(text, format!("wrong\n{descriptors}\n"));
    assert!(child.wait(soon()).unwrap().unwrap().success());
}

/// A descriptor without close-on-exec.
fn inheritable() -> OwnedFd {
    let file = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    file.into()
}

#[test]
fn descriptors_keep_their_order_even_when_they_lie_in_each_others_places() {
    let files: Vec<_> = (0..3)
        .map(|i| {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, format!("{i}").as_bytes()).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            file
        })
        .collect();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut program = Program::new(Path::new(SHELL))
        .argument("-c")
        .argument("cat <&5 >&6; cat <&4 >&6; cat <&3 >&6");
    for file in files.iter().rev() {
        program = program.descriptor(file.as_fd());
    }
    let mut child = program
        .variable("PATH", "/usr/bin:/bin")
        .descriptor(write.as_fd())
        .spawn()
        .unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "012");
    assert!(child.wait(soon()).unwrap().unwrap().success());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Program::new(Path::new("/nowhere/tender"))
        .spawn()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/nowhere/tender"), "{error}");
}

#[test]
fn the_end_of_a_program_is_told_with_its_code_or_signal() {
    use std::os::unix::process::ExitStatusExt;
    let (mut child, _) = said_by("exit 7");
    assert_eq!(child.wait(soon()).unwrap().unwrap().code(), Some(7));
    assert_eq!(
        child.wait(soon()).unwrap().unwrap().code(),
        Some(7),
        "again"
    );
    let (mut child, _) = said_by("exec 3>&-; while :; do :; done");
    child.kill();
    assert_eq!(child.wait(soon()).unwrap().unwrap().signal(), Some(9));
}

#[test]
fn waiting_ends_at_the_deadline_and_dropping_kills() {
    let (mut child, said) = said_by("echo $$ >&3; exec 3>&-; while :; do :; done");
    let at_once = Some(Instant::now());
    assert_eq!(child.wait(at_once).unwrap(), None);
    assert_eq!(said.trim(), child.id().to_string());
    let process = format!("/proc/{}", child.id());
    assert!(Path::new(&process).exists());
    drop(child);
    assert!(!Path::new(&process).exists());
}

#[test]
fn a_program_survives_the_thread_that_asked_for_it() {
    let asked = std::thread::spawn(|| said_by("exec 3>&-; while :; do :; done"));
    let (mut child, _) = asked.join().unwrap();
    let a_moment = Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(child.wait(a_moment).unwrap(), None);
}

#[test]
fn a_program_dies_with_the_process_that_started_it() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    // Its only job is to start a program that holds the pipe, and to hang.
    let middle = Program::new(&std::env::current_exe().unwrap())
        .argument("--exact")
        .argument("spawn::tests::starts_a_program_and_hangs")
        .variable("FADES_WIRE_HANG", "1")
        .descriptor(write.as_fd())
        .spawn()
        .unwrap();
    drop(write);
    let mut pipe = File::from(read);
    let mut first = [0];
    pipe.read_exact(&mut first).unwrap();
    middle.kill();
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut fds, Some(&timeout)).unwrap(),
        1,
        "the grandchild lives"
    );
    assert_eq!(pipe.read(&mut first).unwrap(), 0);
}

/// A part of the test above; nothing by itself.
#[test]
fn starts_a_program_and_hangs() {
    if std::env::var_os("FADES_WIRE_HANG").is_none() {
        return;
    }
    // SAFETY: the test that starts this one has put a pipe there.
    let pipe = unsafe { BorrowedFd::borrow_raw(super::FIRST_DESCRIPTOR) };
    let _child = Program::new(Path::new(SHELL))
        .argument("-c")
        .argument("echo >&3; while :; do :; done")
        .descriptor(pipe)
        .spawn()
        .unwrap();
    // SAFETY: nobody uses the number any more.
    drop(unsafe { OwnedFd::from_raw_fd(super::FIRST_DESCRIPTOR) });
    loop {
        std::thread::park();
    }
}
