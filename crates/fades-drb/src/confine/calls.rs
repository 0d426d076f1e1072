//! The system calls that a broker makes, and no others.
//!
//! Others fail with `EPERM`: libraries then do without. Calls that begin or
//! inspect processes, mount, load code or reach the kernel's rarer corners are
//! not in the list.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{ConfineError, Reach};

/// When a call is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// When the broker connects by itself.
    Direct,
    /// When it does, and a source asks devices over UDP.
    Udp,
    /// Unless the third argument asks for executable memory.
    NotExecutable,
    /// A new thread, not a new process, and in no new namespace.
    Thread,
    /// When the argument of this number, masked, is this.
    Is(u8, u64, u64),
    /// `ioctl` with this request, when a source has a serial port.
    Serial(u64),
}

use When::{Always, Direct, Is, NotExecutable, Serial, Thread, Udp};

const WHOLE: u64 = u32::MAX as u64;
const INET: u64 = libc::AF_INET as u64;
const INET6: u64 = libc::AF_INET6 as u64;

/// What the broker may still do, and why.
pub(super) const ALLOWED: &[(i64, When, &str)] = &[
    (libc::SYS_openat, Always, "opens files of sources"),
    (libc::SYS_read, Always, "reads"),
    (libc::SYS_pread64, Always, "reads"),
    (libc::SYS_readv, Always, "reads"),
    (
        libc::SYS_write,
        Always,
        "writes batches, readings and its log",
    ),
    (libc::SYS_pwrite64, Always, "writes batches and readings"),
    (libc::SYS_writev, Always, "writes requests to devices"),
    (libc::SYS_lseek, Always, "goes to a place in a file"),
    (libc::SYS_close, Always, "closes"),
    (libc::SYS_fstat, Always, "sees whether a file changed"),
    (libc::SYS_newfstatat, Always, "sees whether a file changed"),
    (libc::SYS_statx, Always, "sees whether a file changed"),
    (
        libc::SYS_stat,
        Always,
        "the same, as some C libraries do it",
    ),
    (libc::SYS_lstat, Always, "the same"),
    (libc::SYS_access, Always, "asks whether a file is there"),
    (libc::SYS_faccessat, Always, "asks whether a file is there"),
    (libc::SYS_faccessat2, Always, "asks whether a file is there"),
    (libc::SYS_readlink, Always, "resolves paths"),
    (libc::SYS_readlinkat, Always, "resolves paths"),
    (libc::SYS_getcwd, Always, "resolves paths"),
    (libc::SYS_getdents64, Always, "lists folders"),
    (libc::SYS_statfs, Always, "asks how full a disk is"),
    (libc::SYS_fstatfs, Always, "asks how full a disk is"),
    (libc::SYS_mkdir, Always, "makes folders of readings"),
    (libc::SYS_mkdirat, Always, "makes folders of readings"),
    (
        libc::SYS_rename,
        Always,
        "puts finished readings in their place",
    ),
    (
        libc::SYS_renameat,
        Always,
        "puts finished readings in their place",
    ),
    (
        libc::SYS_renameat2,
        Always,
        "puts finished readings in their place",
    ),
    (libc::SYS_unlink, Always, "removes old readings"),
    (libc::SYS_unlinkat, Always, "takes names of batches away"),
    (libc::SYS_rmdir, Always, "removes folders of old readings"),
    (libc::SYS_ftruncate, Always, "makes room in a batch"),
    (libc::SYS_fallocate, Always, "makes room in a batch"),
    (libc::SYS_fsync, Always, "makes readings durable"),
    (libc::SYS_fdatasync, Always, "makes readings durable"),
    (libc::SYS_flock, Always, "locks readings and serial ports"),
    (libc::SYS_fadvise64, Always, "says how a file will be read"),
    (
        libc::SYS_fcntl,
        Always,
        "seals batches; duplicates descriptors",
    ),
    (
        libc::SYS_memfd_create,
        Always,
        "makes batches without a tmpfs",
    ),
    (
        libc::SYS_mmap,
        NotExecutable,
        "maps files and batches; allocates",
    ),
    (libc::SYS_mprotect, NotExecutable, "guards stacks"),
    (libc::SYS_munmap, Always, "unmaps; frees"),
    (libc::SYS_mremap, Always, "grows allocations"),
    (libc::SYS_madvise, Always, "gives memory back"),
    (libc::SYS_brk, Always, "allocates"),
    (libc::SYS_socketpair, Always, "wakes its own threads"),
    (libc::SYS_connect, Direct, "connects to sources"),
    (libc::SYS_bind, Udp, "has a port for answers"),
    (libc::SYS_getsockname, Always, "asks about a connection"),
    (libc::SYS_getpeername, Always, "asks about a connection"),
    (libc::SYS_getsockopt, Always, "asks about a connection"),
    (libc::SYS_setsockopt, Always, "sets limits of time"),
    (libc::SYS_sendto, Udp, "asks devices"),
    (
        libc::SYS_sendto,
        Is(4, u64::MAX, 0),
        "sends on a connection, to no other address",
    ),
    (libc::SYS_sendmsg, Always, "sends batches"),
    (libc::SYS_sendmmsg, Direct, "asks name servers"),
    (libc::SYS_recvfrom, Always, "receives"),
    (libc::SYS_recvmsg, Always, "receives requests"),
    (libc::SYS_recvmmsg, Always, "receives"),
    (libc::SYS_shutdown, Always, "ends connections"),
    (
        libc::SYS_ioctl,
        Is(1, WHOLE, libc::FIONBIO),
        "lets a socket not wait",
    ),
    (
        libc::SYS_ioctl,
        Is(1, WHOLE, libc::FIONREAD),
        "asks what has come",
    ),
    (
        libc::SYS_ioctl,
        Serial(libc::TCGETS),
        "sets up a serial port",
    ),
    (libc::SYS_ioctl, Serial(libc::TCSETS), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCSETSW), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCSETSF), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCGETS2), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCSETS2), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCSETSW2), "the same"),
    (libc::SYS_ioctl, Serial(libc::TCSETSF2), "the same"),
    (
        libc::SYS_ioctl,
        Serial(libc::TIOCEXCL),
        "has a serial port alone",
    ),
    (libc::SYS_ioctl, Serial(libc::TIOCNXCL), "gives it back"),
    (
        libc::SYS_ioctl,
        Serial(libc::TCFLSH),
        "drops what nobody waits for",
    ),
    (
        libc::SYS_ioctl,
        Serial(libc::TCSBRK),
        "waits until all is sent",
    ),
    (
        libc::SYS_ioctl,
        Serial(libc::TIOCMGET),
        "looks at the lines",
    ),
    (libc::SYS_ioctl, Serial(libc::TIOCMBIS), "sets lines"),
    (libc::SYS_ioctl, Serial(libc::TIOCMBIC), "clears lines"),
    (
        libc::SYS_ioctl,
        Serial(libc::TIOCOUTQ),
        "asks what is not sent yet",
    ),
    (libc::SYS_epoll_create1, Always, "waits for many"),
    (libc::SYS_epoll_ctl, Always, "waits for many"),
    (libc::SYS_epoll_wait, Always, "waits for many"),
    (libc::SYS_epoll_pwait, Always, "waits for many"),
    (libc::SYS_epoll_pwait2, Always, "waits for many"),
    (libc::SYS_eventfd2, Always, "wakes its own threads"),
    (libc::SYS_poll, Always, "waits"),
    (libc::SYS_ppoll, Always, "waits"),
    (libc::SYS_select, Always, "waits"),
    (libc::SYS_pselect6, Always, "waits"),
    (libc::SYS_futex, Always, "waits for its own threads"),
    (libc::SYS_clone, Thread, "starts a thread"),
    (libc::SYS_set_robust_list, Always, "starts a thread"),
    (libc::SYS_set_tid_address, Always, "starts a thread"),
    (libc::SYS_rseq, Always, "starts a thread"),
    (
        libc::SYS_prctl,
        Is(0, WHOLE, libc::PR_SET_NAME as u64),
        "names a thread",
    ),
    (libc::SYS_sched_getaffinity, Always, "counts cores"),
    (libc::SYS_sched_yield, Always, "lets others go first"),
    (
        libc::SYS_prlimit64,
        Is(2, u64::MAX, 0),
        "asks how large stacks are",
    ),
    (libc::SYS_getrlimit, Always, "the same"),
    (libc::SYS_sysinfo, Always, "asks how much memory there is"),
    (libc::SYS_uname, Always, "resolves names"),
    (libc::SYS_getpid, Always, "says who it is"),
    (libc::SYS_gettid, Always, "says who it is"),
    (libc::SYS_getuid, Always, "says who it is"),
    (libc::SYS_geteuid, Always, "says who it is"),
    (libc::SYS_getgid, Always, "says who it is"),
    (libc::SYS_getegid, Always, "says who it is"),
    (
        libc::SYS_getrandom,
        Always,
        "seeds hash tables and keys of connections",
    ),
    (libc::SYS_clock_gettime, Always, "reads clocks"),
    (libc::SYS_clock_getres, Always, "reads clocks"),
    (libc::SYS_clock_nanosleep, Always, "sleeps"),
    (libc::SYS_nanosleep, Always, "sleeps"),
    (libc::SYS_gettimeofday, Always, "reads clocks"),
    (libc::SYS_time, Always, "reads clocks"),
    (
        libc::SYS_rt_sigaction,
        Always,
        "ends when a stack overflows",
    ),
    (libc::SYS_rt_sigprocmask, Always, "starts a thread"),
    (libc::SYS_rt_sigreturn, Always, "returns from a signal"),
    (libc::SYS_sigaltstack, Always, "starts a thread"),
    (
        libc::SYS_restart_syscall,
        Always,
        "goes on waiting after a stop",
    ),
    (libc::SYS_exit, Always, "ends a thread"),
    (libc::SYS_exit_group, Always, "ends"),
];

/// Sockets of a broker that connects by itself: TCP and UDP, no raw ones, and none
/// that lead to other programs of this host.
const SOCKETS: [(u64, u64); 4] = [
    (INET, libc::SOCK_STREAM as u64),
    (INET, libc::SOCK_DGRAM as u64),
    (INET6, libc::SOCK_STREAM as u64),
    (INET6, libc::SOCK_DGRAM as u64),
];

/// The bits of a socket's type that say its type.
const TYPE: u64 = 0xf;

const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Installs the filter for all threads.
pub(super) fn enter(reach: &Reach) -> Result<String, ConfineError> {
    let main = program(reach)?;
    // First, because the other one allows no further filters.
    seccompiler::apply_filter_all_threads(&without_clone3()?)?;
    seccompiler::apply_filter_all_threads(&main)?;
    let calls = main_calls();
    let sockets = match reach.asks {
        true => "sockets",
        false => "listening or raw sockets",
    };
    Ok(format!(
        "{calls} system calls; no programs, processes, mounts, {sockets}"
    ))
}

fn main_calls() -> usize {
    let calls: std::collections::BTreeSet<i64> = ALLOWED.iter().map(|(call, ..)| *call).collect();
    calls.len()
}

fn is(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, ConfineError> {
    let length = if mask == u64::MAX {
        SeccompCmpArgLen::Qword
    } else {
        SeccompCmpArgLen::Dword
    };
    let op = SeccompCmpOp::MaskedEq(mask);
    Ok(SeccompCondition::new(argument, length, op, value)?)
}

pub(super) fn program(reach: &Reach) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // Its arguments are in memory; see `without_clone3`.
    rules.insert(libc::SYS_clone3, Vec::new());
    for (call, when, _) in ALLOWED {
        let thread = libc::CLONE_THREAD as u64;
        let condition = match *when {
            Always => None,
            // Allowed with whatever arguments.
            Direct if !reach.asks => Some(is(0, 0, 0)?),
            Udp if !reach.asks && reach.udp => Some(is(0, 0, 0)?),
            Serial(request) if !reach.serial.is_empty() => Some(is(1, WHOLE, request)?),
            NotExecutable => Some(is(2, libc::PROT_EXEC as u64, 0)?),
            Thread => Some(is(0, thread | NEW_NAMESPACES as u64, thread)?),
            Is(argument, mask, value) => Some(is(argument, mask, value)?),
            Direct | Udp | Serial(_) => continue,
        };
        let rules = rules.entry(*call).or_default();
        if let Some(condition) = condition {
            rules.push(SeccompRule::new(vec![condition])?);
        }
    }
    let sockets = SOCKETS
        .iter()
        .filter(|_| !reach.asks)
        .map(|&(family, kind)| {
            let conditions = vec![is(0, WHOLE, family)?, is(1, TYPE, kind)?];
            Ok::<_, ConfineError>(SeccompRule::new(conditions)?)
        });
    let sockets: Vec<_> = sockets.collect::<Result<_, _>>()?;
    if !sockets.is_empty() {
        rules.insert(libc::SYS_socket, sockets);
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// The C library then starts threads with `clone`, whose arguments can be seen.
fn without_clone3() -> Result<BpfProgram, ConfineError> {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}
