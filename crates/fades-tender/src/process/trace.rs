//! Seeing how a process faults, by being its tracer where that is allowed.
#![expect(unsafe_code, reason = "ptrace has no safe form")]

use std::io;

use crate::address::GuestAddr;
use crate::fault::Raw;

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is about to get a signal, and waits for its tracer.
    Stopped(i32),
    /// It was stopped as its group was, or by its tracer; nothing of interest.
    Paused,
    /// A signal ended it.
    Signalled(i32),
    /// It exited.
    Exited(i32),
}

/// Becomes the tracer of a child. The child dies with its tracer.
pub(super) fn attach(pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: seizing changes nothing in this process.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, libc::PTRACE_O_EXITKILL) };
    if seized == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What became of a child since the last time, if anything did.
pub(super) fn change(pid: libc::pid_t, block: bool) -> io::Result<Option<Change>> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is written here.
    match unsafe { libc::waitpid(pid, &raw mut status, flags) } {
        0 => return Ok(None),
        -1 => return Err(io::Error::last_os_error()),
        _ => {}
    }
    Ok(Some(if libc::WIFEXITED(status) {
        Change::Exited(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Change::Signalled(libc::WTERMSIG(status))
    } else if status >> 16 != 0 {
        Change::Paused
    } else {
        Change::Stopped(libc::WSTOPSIG(status))
    }))
}

/// Lets a paused child go on.
pub(super) fn resume(pid: libc::pid_t) {
    // SAFETY: changes the child alone. If it is gone, waiting tells.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, 0) };
}

/// What a stopped child is about to be told by `signal`.
pub(super) fn fault(pid: libc::pid_t, signal: i32) -> Raw {
    let Ok((info, registers)) = details(pid) else {
        return without_details(signal);
    };
    // SAFETY: these signals carry an address where the kernel has one.
    let address = GuestAddr(unsafe { info.si_addr() } as u64);
    let from_kernel = info.si_code > 0;
    let has_address = from_kernel && info.si_code != libc::SI_KERNEL;
    let mut raw = Raw {
        vector: None,
        what: words(signal),
        address: None,
        rip: Some(registers.rip),
    };
    match signal {
        libc::SIGSEGV if has_address => {
            let execution = address.0 == registers.rip;
            let how = if execution { " on execution" } else { "" };
            raw.what = format!("page fault{how} (SIGSEGV)");
            raw.address = Some(address);
        }
        // The kernel has no address for what is not one.
        libc::SIGSEGV => raw.what = "general protection fault (SIGSEGV)".to_owned(),
        libc::SIGBUS if has_address => raw.address = Some(address),
        libc::SIGSYS => {
            raw.what = format!("system call {} (SIGSYS)", registers.orig_rax as i64);
            raw.rip = Some(registers.rip.saturating_sub(2));
        }
        _ => {}
    }
    raw
}

fn details(pid: libc::pid_t) -> io::Result<(libc::siginfo_t, libc::user_regs_struct)> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is written here.
    let told = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info) };
    // SAFETY: `registers` is written here.
    let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut registers) };
    if told == 0 && read == 0 {
        Ok((info, registers))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a signal says by itself.
pub(super) fn without_details(signal: i32) -> Raw {
    Raw {
        vector: None,
        what: words(signal),
        address: None,
        rip: None,
    }
}

/// Signals by which the processor's faults, and the filter, show.
pub(super) const fn is_fault(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    )
}

fn words(signal: i32) -> String {
    match signal {
        libc::SIGSEGV => "memory fault (SIGSEGV)".to_owned(),
        libc::SIGBUS => "access to memory that is not there (SIGBUS)".to_owned(),
        libc::SIGFPE => "division error (SIGFPE)".to_owned(),
        libc::SIGILL => "invalid instruction (SIGILL)".to_owned(),
        libc::SIGTRAP => "breakpoint (SIGTRAP)".to_owned(),
        libc::SIGSYS => "forbidden system call (SIGSYS)".to_owned(),
        other => format!("signal {other}"),
    }
}
