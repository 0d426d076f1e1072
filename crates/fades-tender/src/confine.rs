//! The tender's own confinement, entered before the function starts: whoever
//! broke out of a microVM, or took over the supervisor of a process, would find
//! itself in a process that can do next to nothing.
//!
//! Steps: no new privileges; a landlock domain without any file; no core dump,
//! few descriptors, no files to write, not to be inspected by others; and a
//! filter that allows the system calls in [`ALLOWED`] and kills the tender at
//! any other. `/proc` is out of reach with everything else that has a path.
#![expect(unsafe_code, reason = "prctl has no safe form")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use fades_task::limits::Isolation;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreated};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Why the tender could not be confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("the tender could not {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error("the tender's filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("the tender's filter of system calls could not be installed: {0}")]
    Install(#[from] seccompiler::Error),
    #[error("the tender's landlock domain: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ConfineError {
    move |source| ConfineError::System { what, source }
}

/// What a tender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Makes a template.
    Maker,
    /// Runs functions.
    Shell(Isolation),
}

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// For one role.
    For(Role),
    /// Unless the third argument asks for executable memory.
    NotExecutable,
    /// `ioctl` with this request, for microVMs.
    Request(u64),
}

use When::{Always, For, NotExecutable, Request};

const MAKER: Role = Role::Maker;
const MICROVM: Role = Role::Shell(Isolation::Microvm);
const PROCESS: Role = Role::Shell(Isolation::Process);

/// KVM's requests by number. None of them changes a machine's memory: that is
/// done before.
mod request {
    pub(super) const RUN: u64 = 0xae80;
    pub(super) const GET_REGS: u64 = 0x8090_ae81;
    pub(super) const SET_REGS: u64 = 0x4090_ae82;
    pub(super) const GET_SREGS: u64 = 0x8138_ae83;
    pub(super) const SET_SREGS: u64 = 0x4138_ae84;
    pub(super) const SET_XSAVE: u64 = 0x5000_aea5;
}

/// What the tender may still do, and why.
const ALLOWED: &[(i64, When, &str)] = &[
    (libc::SYS_ioctl, Request(request::RUN), "runs the function"),
    (
        libc::SYS_ioctl,
        Request(request::GET_REGS),
        "says where it faulted",
    ),
    (
        libc::SYS_ioctl,
        Request(request::GET_SREGS),
        "says which address it touched",
    ),
    (
        libc::SYS_ioctl,
        Request(request::SET_SREGS),
        "starts the next function, on KVMs that share no registers",
    ),
    (libc::SYS_ioctl, Request(request::SET_REGS), "the same"),
    (
        libc::SYS_ioctl,
        Request(request::SET_XSAVE),
        "takes away what a function left in vector registers",
    ),
    (
        libc::SYS_ptrace,
        For(PROCESS),
        "sees how the function faulted",
    ),
    (
        libc::SYS_wait4,
        For(PROCESS),
        "hears that the function ended",
    ),
    (
        libc::SYS_pidfd_send_signal,
        For(PROCESS),
        "ends the function",
    ),
    (libc::SYS_recvfrom, For(PROCESS), "hears the function ring"),
    (libc::SYS_memfd_create, For(MAKER), "makes the template"),
    (
        libc::SYS_ftruncate,
        For(MAKER),
        "makes room in the template",
    ),
    (libc::SYS_pwrite64, For(MAKER), "completes the template"),
    (libc::SYS_recvmsg, Always, "receives requests and batches"),
    (libc::SYS_sendmsg, Always, "sends reports"),
    (libc::SYS_sendto, Always, "sends the rest of a report"),
    (
        libc::SYS_read,
        Always,
        "reads an image, or signals of the function's process",
    ),
    (libc::SYS_pread64, Always, "reads what a template says"),
    (libc::SYS_write, Always, "says why the tender failed"),
    (libc::SYS_writev, Always, "says why the tender failed"),
    (libc::SYS_poll, Always, "waits for messages and for clocks"),
    (libc::SYS_ppoll, Always, "waits for messages and for clocks"),
    (libc::SYS_close, Always, "lets go of a batch"),
    (
        libc::SYS_fcntl,
        Always,
        "checks that a batch is read-only and a template sealed",
    ),
    (
        libc::SYS_fstat,
        Always,
        "checks that a batch is as long as announced",
    ),
    (
        libc::SYS_newfstatat,
        Always,
        "the same, as some C libraries do it",
    ),
    (libc::SYS_statx, For(MAKER), "asks how long an image is"),
    (
        libc::SYS_lseek,
        For(MAKER),
        "asks how much of an image is left",
    ),
    (
        libc::SYS_mmap,
        NotExecutable,
        "maps templates and batches; allocates",
    ),
    (libc::SYS_munmap, Always, "unmaps batches; frees"),
    (libc::SYS_mremap, Always, "grows allocations"),
    (libc::SYS_brk, Always, "allocates"),
    (
        libc::SYS_madvise,
        Always,
        "takes away what a function left in its memory; frees",
    ),
    (
        libc::SYS_mincore,
        Always,
        "measures how much memory the function touched",
    ),
    (
        libc::SYS_clock_gettime,
        Always,
        "reads the clocks of the function",
    ),
    (
        libc::SYS_timer_settime,
        Always,
        "is rung when a clock can have run out",
    ),
    (libc::SYS_timer_delete, Always, "takes the timer down"),
    (
        libc::SYS_rt_sigreturn,
        Always,
        "returns from an interruption",
    ),
    (libc::SYS_sigaltstack, Always, "ends the tender"),
    (
        libc::SYS_restart_syscall,
        Always,
        "goes on waiting after a stop",
    ),
    (libc::SYS_exit_group, Always, "ends the tender"),
];

/// Longest file that a maker can write, bytes.
const TEMPLATE_MAX: u64 = 2 << 30;

/// A landlock domain without files and ports; `None` where the kernel has no
/// landlock.
pub(crate) fn landlock_domain() -> Result<Option<OwnedFd>, ConfineError> {
    Ok(domain()?.into())
}

fn domain() -> Result<RulesetCreated, ConfineError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?;
    Ok(rules.create()?)
}

/// The steps before the filter. Takes effect at once.
pub(crate) fn enter(role: Role) -> Result<(), ConfineError> {
    for (option, value, what) in [
        (libc::PR_SET_NO_NEW_PRIVS, 1, "give up privileges"),
        (libc::PR_SET_DUMPABLE, 0, "hide from other processes"),
    ] {
        // SAFETY: changes this process alone.
        if unsafe { libc::prctl(option, value, 0, 0, 0) } != 0 {
            return Err(failed(what)(io::Error::last_os_error()));
        }
    }
    seed();
    domain()?.restrict_self()?;
    for (resource, most) in [
        (Resource::Core, 0),
        (
            Resource::Fsize,
            if role == MAKER { TEMPLATE_MAX } else { 0 },
        ),
        (Resource::Memlock, 0),
        (Resource::Nofile, 32),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(|e| failed("set resource limits")(e.into()))?;
    }
    Ok(())
}

/// Seeds this thread's hash tables, those to come included. A C library may need more
/// calls for it than one would think: glibc 2.41 sets up a generator of its own.
fn seed() {
    std::hint::black_box(std::hash::RandomState::new());
}

/// The last step. The tender has one thread of its own; a second one may be
/// KVM's, which never leaves the kernel.
pub(crate) fn filter(role: Role) -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter_all_threads(&program(role)?)?)
}

fn program(role: Role) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, when, _) in ALLOWED {
        let condition = match when {
            Always => None,
            For(only) if *only == role => None,
            Request(number) if role == MICROVM => {
                let op = SeccompCmpOp::Eq;
                Some(SeccompCondition::new(
                    1,
                    SeccompCmpArgLen::Dword,
                    op,
                    *number,
                )?)
            }
            NotExecutable => {
                let op = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
                Some(SeccompCondition::new(2, SeccompCmpArgLen::Qword, op, 0)?)
            }
            For(_) | Request(_) => continue,
        };
        let rules = rules.entry(*call).or_default();
        if let Some(condition) = condition {
            rules.push(SeccompRule::new(vec![condition])?);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests;
