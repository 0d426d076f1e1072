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

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// For one isolation.
    With(Isolation),
    /// Unless the third argument asks for executable memory.
    NotExecutable,
    /// `ioctl` with this request, for microVMs.
    Request(u64),
}

use Isolation::{Microvm, Process};
use When::{Always, NotExecutable, Request, With};

/// KVM's requests by number: `KVM_RUN`, `KVM_GET_REGS`, `KVM_GET_SREGS`,
/// `KVM_SET_USER_MEMORY_REGION`.
const KVM_RUN: u64 = 0xae80;
const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const KVM_SET_USER_MEMORY_REGION: u64 = 0x4020_ae46;

/// What the tender may still do, and why.
const ALLOWED: &[(i64, When, &str)] = &[
    (libc::SYS_ioctl, Request(KVM_RUN), "runs the function"),
    (
        libc::SYS_ioctl,
        Request(KVM_GET_REGS),
        "says where it faulted",
    ),
    (
        libc::SYS_ioctl,
        Request(KVM_GET_SREGS),
        "says which address it touched",
    ),
    (
        libc::SYS_ioctl,
        Request(KVM_SET_USER_MEMORY_REGION),
        "makes the input window",
    ),
    (
        libc::SYS_ptrace,
        With(Process),
        "sees how the function faulted",
    ),
    (
        libc::SYS_wait4,
        With(Process),
        "hears that the function ended",
    ),
    (
        libc::SYS_pidfd_send_signal,
        With(Process),
        "ends the function",
    ),
    (libc::SYS_recvfrom, With(Process), "hears the function ring"),
    (libc::SYS_recvmsg, Always, "receives batches"),
    (libc::SYS_sendmsg, Always, "sends reports"),
    (libc::SYS_sendto, Always, "sends the rest of a report"),
    (
        libc::SYS_read,
        Always,
        "reads signals of the function's process",
    ),
    (
        libc::SYS_write,
        Always,
        "wakes the watch; says why the tender failed",
    ),
    (libc::SYS_writev, Always, "says why the tender failed"),
    (libc::SYS_poll, Always, "waits for messages and for clocks"),
    (libc::SYS_ppoll, Always, "waits for messages and for clocks"),
    (libc::SYS_close, Always, "lets go of a batch"),
    (libc::SYS_fcntl, Always, "checks that a batch is read-only"),
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
    (libc::SYS_mmap, NotExecutable, "maps batches; allocates"),
    (libc::SYS_munmap, Always, "unmaps batches; frees"),
    (libc::SYS_mremap, Always, "grows allocations"),
    (
        libc::SYS_mprotect,
        NotExecutable,
        "grows the heap of a thread",
    ),
    (libc::SYS_brk, Always, "allocates"),
    (libc::SYS_madvise, Always, "frees"),
    (
        libc::SYS_mincore,
        Always,
        "measures how much memory the function touched",
    ),
    (libc::SYS_getrandom, Always, "seeds hash tables"),
    (libc::SYS_futex, Always, "waits for the watch"),
    (
        libc::SYS_clock_gettime,
        Always,
        "reads the clocks of the function",
    ),
    (libc::SYS_tgkill, Always, "interrupts the function"),
    (libc::SYS_getpid, Always, "names the thread to interrupt"),
    (libc::SYS_gettid, Always, "names the thread to interrupt"),
    (
        libc::SYS_rt_sigreturn,
        Always,
        "returns from the interruption",
    ),
    (libc::SYS_rt_sigprocmask, Always, "starts and ends threads"),
    (libc::SYS_sigaltstack, Always, "ends threads"),
    (
        libc::SYS_restart_syscall,
        Always,
        "goes on waiting after a stop",
    ),
    (libc::SYS_sched_yield, Always, "waits for a lock"),
    (libc::SYS_exit, Always, "ends the watch"),
    (libc::SYS_exit_group, Always, "ends the tender"),
];

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

/// The steps that every later thread inherits. Takes effect at once.
pub(crate) fn enter() -> Result<(), ConfineError> {
    for (option, value, what) in [
        (libc::PR_SET_NO_NEW_PRIVS, 1, "give up privileges"),
        (libc::PR_SET_DUMPABLE, 0, "hide from other processes"),
    ] {
        // SAFETY: changes this process alone.
        if unsafe { libc::prctl(option, value, 0, 0, 0) } != 0 {
            return Err(failed(what)(io::Error::last_os_error()));
        }
    }
    domain()?.restrict_self()?;
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
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

/// The last step, for all threads at once.
pub(crate) fn filter(isolation: Isolation) -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter_all_threads(&program(isolation)?)?)
}

fn program(isolation: Isolation) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, when, _) in ALLOWED {
        let condition = match when {
            Always => None,
            With(only) if *only == isolation => None,
            Request(number) if isolation == Microvm => {
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
            With(_) | Request(_) => continue,
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
