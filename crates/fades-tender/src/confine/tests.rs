//! The list, and the confinement itself: entered by this test program started
//! once more, which then tries what is forbidden.

use std::process::Command;

use super::{ALLOWED, MAKER, MICROVM, PROCESS, When, enter, filter, program};

#[test]
fn no_path_no_program_and_no_connection_is_allowed() {
    let forbidden = [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_fork,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_readlink,
        libc::SYS_io_uring_setup,
    ];
    for (call, _, reason) in ALLOWED {
        assert!(!forbidden.contains(call), "{call}");
        assert!(!reason.is_empty());
    }
}

#[test]
fn calls_with_and_without_conditions_are_never_mixed() {
    for (call, when, _) in ALLOWED {
        let same = ALLOWED.iter().filter(|(c, ..)| c == call);
        let all = same.clone().count();
        let requests = same
            .filter(|(_, w, _)| matches!(w, When::Request(_)))
            .count();
        assert!(all == 1 || requests == all, "{call}: {when:?}");
    }
    for role in [MAKER, MICROVM, PROCESS] {
        assert!(!program(role).unwrap().is_empty());
    }
}

/// Says to the test below what to try.
const TRY: &str = "FADES_TENDER_TRY";

/// What ends a process by a forbidden call, as shells write it.
const KILLED: i32 = 128 + libc::SIGSYS;

/// Starts this program to try `what` in confinement; its exit code.
fn tried(what: &str) -> i32 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::tests::tries_what_it_is_told"])
        .env(TRY, what)
        .output();
    output.unwrap().status.code().unwrap()
}

#[test]
fn files_are_out_of_reach_before_the_filter_is_there() {
    assert_eq!(tried("files"), 0);
}

#[test]
fn the_process_cannot_be_inspected_or_dump_its_memory() {
    assert_eq!(tried("inspection"), 0);
}

#[test]
fn forbidden_calls_kill_and_allowed_ones_do_not() {
    for what in [
        "open",
        "socket",
        "fork",
        "thread",
        "executable memory",
        "memory made executable",
        "other ioctl",
        "slot of memory",
    ] {
        assert_eq!(tried(what), KILLED, "{what}");
    }
    for what in ["memory", "register"] {
        assert_eq!(tried(what), 0, "{what}");
    }
}

/// A part of the tests above; nothing by itself.
#[test]
fn tries_what_it_is_told() {
    let Ok(what) = std::env::var(TRY) else {
        return;
    };
    // The harness has a thread of its own, whose calls would be judged as well. A
    // child has none but this one.
    // SAFETY: the child runs what follows and ends; nothing of the harness is used.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child, which is here for nothing else.
        unsafe { libc::_exit(i32::from(!holds(&what))) }
    }
    let mut status = 0;
    // SAFETY: `status` is written here.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    let code = match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    };
    // SAFETY: ends this program with the child's end.
    unsafe { libc::_exit(code) }
}

fn holds(what: &str) -> bool {
    let before = enter(PROCESS);
    match what {
        "files" => {
            let refused = |path| {
                let error = std::fs::File::open(path).err();
                error.is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
            };
            before.is_ok() && (refused("/etc/passwd") && refused("/proc/self/maps") || !landlock())
        }
        "inspection" => {
            // SAFETY: asks about this process.
            let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
            let core = rustix::process::getrlimit(rustix::process::Resource::Core);
            before.is_ok() && dumpable == 0 && core.maximum == Some(0)
        }
        "slot of memory" | "register" => filter(MICROVM).is_ok() && call(what),
        _ => filter(PROCESS).is_ok() && call(what),
    }
}

/// Whether this kernel has landlock at all.
fn landlock() -> bool {
    super::landlock_domain().is_ok_and(|d| d.is_some())
}

/// Makes one call that the filter judges.
fn call(what: &str) -> bool {
    let page = |protection| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        if mapped == libc::MAP_FAILED { -1 } else { 0 }
    };
    let result = match what {
        // SAFETY: the path is a string of C.
        "open" => unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) },
        // SAFETY: makes a descriptor.
        "socket" => unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) },
        // SAFETY: the child does nothing but end.
        "fork" => unsafe { libc::fork() },
        // SAFETY: asks about a terminal that is none.
        "other ioctl" => unsafe { libc::ioctl(0, libc::TIOCGWINSZ, 0) },
        // SAFETY: the child, which there is none, would do nothing but end.
        "thread" => unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_VM, 0, 0, 0, 0) as i32 },
        "memory made executable" => {
            // SAFETY: changes nothing: the call is forbidden.
            unsafe { libc::mprotect(std::ptr::null_mut(), 0, libc::PROT_EXEC) }
        }
        // KVM_SET_USER_MEMORY_REGION
        // SAFETY: the descriptor is none of KVM's.
        "slot of memory" => unsafe { libc::ioctl(0, 0x4020_ae46, 0) },
        // SAFETY: as above. It is refused, which is more than being killed.
        "register" => !unsafe { libc::ioctl(0, super::request::SET_REGS, 0) },
        "executable memory" => page(libc::PROT_READ | libc::PROT_EXEC),
        "memory" => page(libc::PROT_READ | libc::PROT_WRITE),
        _ => -1,
    };
    result >= 0
}
