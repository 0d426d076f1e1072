//! From the fork of the tender to the function: what the new process does
//! before it leaves the tender's memory behind.
//!
//! It shares nothing with the tender but copies of its memory, in which other
//! threads may have held locks: it makes plain system calls, and neither
//! allocates nor returns.
#![expect(
    unsafe_code,
    reason = "forks, and makes system calls that replace the process"
)]

use std::arch::{asm, global_asm};
use std::io;
use std::os::fd::RawFd;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::code::TRAMPOLINE;
use crate::image::Access;
use crate::layout::Layout;

/// Where setting up can fail; sent to the supervisor with `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    /// It has given up its rights and waits for a function.
    Waiting,
    /// The function is in place.
    Ready,
    Parent,
    Descriptors,
    Limits,
    Privileges,
    Landlock,
    Map,
    Rseq,
}

impl Stage {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Waiting => "wait for its function",
            Self::Ready => "be ready",
            Self::Parent => "tie its life to the tender's",
            Self::Descriptors => "close descriptors",
            Self::Limits => "set resource limits",
            Self::Privileges => "give up privileges",
            Self::Landlock => "enter its landlock domain",
            Self::Map => "map the function's memory",
            Self::Rseq => "withdraw from restartable sequences",
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let all = [
            Self::Waiting,
            Self::Ready,
            Self::Parent,
            Self::Descriptors,
            Self::Limits,
            Self::Privileges,
            Self::Landlock,
            Self::Map,
            Self::Rseq,
        ];
        all.into_iter().find(|s| *s as u32 == number)
    }
}

/// What the process needs from the start.
pub(super) struct Plan {
    pub(super) socket: RawFd,
    pub(super) memory: RawFd,
    pub(super) landlock: Option<RawFd>,
}

/// Most regions of a function: those that every function has, and a segment for
/// each program header that an image may have.
const REGIONS_MAX: usize = 32;

/// Regions that every function has: those of [`crate::layout::Part`] that are no
/// segments and not the monitor's.
const REGIONS_ALWAYS: usize = 9;

const _: () = assert!(REGIONS_ALWAYS + crate::image::HEADERS_MAX as usize <= REGIONS_MAX);

/// A region as the child is told of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(super) struct Region {
    start: u64,
    length: u64,
    offset: u64,
    protection: u64,
}

/// Where everything of a function lies; what remains of the list is empty.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(super) struct Regions([Region; REGIONS_MAX]);

/// The regions of a layout that a function sees.
pub(super) fn spans(layout: &Layout) -> Regions {
    let mut regions = Regions::new_zeroed();
    let seen = layout.spans.iter().filter(|s| !s.is_monitors());
    for (region, span) in regions.0.iter_mut().zip(seen) {
        let protection = match span.access {
            Access::Read => libc::PROT_READ,
            Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        *region = Region {
            start: span.start.0,
            length: span.length,
            offset: span.offset.0,
            protection: protection as u64,
        };
    }
    regions
}

/// Forks. Returns the process's id to the tender; does not return to the
/// process.
pub(super) fn fork(plan: &Plan) -> io::Result<libc::pid_t> {
    // SAFETY: this is a fork: the process gets a copy of everything, and `live`
    // restrains itself to system calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        0 => live(plan),
        1.. => Ok(pid as libc::pid_t),
        _ => Err(io::Error::last_os_error()),
    }
}

fn live(plan: &Plan) -> ! {
    let (stage, errno, socket) = match give_up(plan) {
        Err((stage, errno)) => (stage, errno, plan.socket),
        Ok(()) => {
            tell(plan.socket, Stage::Waiting, 0);
            match set_up(plan) {
                // The last thing to be set up is the socket's number.
                Ok(()) => (Stage::Ready, 0, 0),
                Err((stage, errno)) => (stage, errno, plan.socket),
            }
        }
    };
    tell(socket, stage, errno);
    if stage == Stage::Ready && wait_for_supervisor(socket).is_ok() {
        // SAFETY: the gate is mapped; the trampoline needs no stack and never
        // returns.
        unsafe { asm!("jmp {}", in(reg) TRAMPOLINE.0, options(noreturn)) }
    }
    // SAFETY: ends the process without running anything of the tender's.
    unsafe { libc::_exit(1) }
}

fn tell(socket: RawFd, stage: Stage, errno: i32) {
    let mut report = [0_u8; 8];
    report[..4].copy_from_slice(&(stage as u32).to_le_bytes());
    report[4..].copy_from_slice(&errno.to_le_bytes());
    // SAFETY: `report` outlives the call.
    unsafe { libc::write(socket, report.as_ptr().cast(), report.len()) };
}

type Failed = (Stage, i32);

/// What can be done before it is known for which function.
fn give_up(plan: &Plan) -> Result<(), Failed> {
    // SAFETY: changes this process alone.
    let tied = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check(Stage::Parent, tied.into())?;
    wait_for_supervisor(plan.socket)?;
    for signal in 1..=31 {
        // SAFETY: changes this process alone. The runtime's handlers would run
        // in memory that is about to go.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
    set_limits()?;
    // SAFETY: changes this process alone.
    let kept = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check(Stage::Privileges, kept.into())?;
    if let Some(ruleset) = plan.landlock {
        // SAFETY: changes this process alone.
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
        check(Stage::Landlock, entered)?;
    }
    Ok(())
}

/// Waits for a function, and puts it into place.
fn set_up(plan: &Plan) -> Result<(), Failed> {
    let mut regions = Regions::new_zeroed();
    let length = size_of::<Regions>();
    // SAFETY: `regions` outlives the call, and any bytes are a value of it.
    let read = unsafe { libc::read(plan.socket, (&raw mut regions).cast(), length) };
    if read != length as isize {
        return Err((Stage::Parent, errno()));
    }
    for region in regions.0.iter().filter(|r| r.length > 0) {
        map(region, plan.memory)?;
    }
    leave_rseq()?;
    keep_only(plan.socket)
}

/// The supervisor says when it has attached itself, and when the function shall
/// start; if it is gone, so is this process.
fn wait_for_supervisor(socket: RawFd) -> Result<(), Failed> {
    let mut go = 0_u8;
    // SAFETY: `go` outlives the call.
    let read = unsafe { libc::read(socket, (&raw mut go).cast(), 1) };
    if read == 1 {
        Ok(())
    } else {
        Err((Stage::Parent, errno()))
    }
}

fn unblock_signals() {
    let none = 0_u64;
    // SAFETY: the kernel's signal set has 8 bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            0,
            8,
        )
    };
}

fn set_limits() -> Result<(), Failed> {
    for (resource, limit) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_NPROC, 0),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_MSGQUEUE, 0),
    ] {
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: `limit` outlives the call.
        let set = unsafe { libc::setrlimit(resource, &raw const limit) };
        check(Stage::Limits, set.into())?;
    }
    Ok(())
}

fn map(region: &Region, memory: RawFd) -> Result<(), Failed> {
    // SAFETY: replaces nothing: the kernel refuses where something is.
    let mapped = unsafe {
        libc::mmap(
            region.start as *mut libc::c_void,
            region.length as usize,
            region.protection as i32,
            libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
            memory,
            region.offset as libc::off_t,
        )
    };
    let failed = mapped as u64 != region.start;
    check(Stage::Map, if failed { -1 } else { 0 })
}

/// Makes the socket descriptor 0, and closes all others.
fn keep_only(socket: RawFd) -> Result<(), Failed> {
    // SAFETY: the descriptors of this process are its own.
    check(Stage::Descriptors, unsafe { libc::dup2(socket, 0) }.into())?;
    // SAFETY: as above.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0) };
    check(Stage::Descriptors, closed)
}

// Weak, so that the tender links with C libraries that know nothing of
// restartable sequences.
global_asm!(
    ".weak __rseq_offset",
    ".weak __rseq_size",
    ".global fades_rseq_offset",
    "fades_rseq_offset:",
    "mov rax, qword ptr [rip + __rseq_offset@GOTPCREL]",
    "ret",
    ".global fades_rseq_size",
    "fades_rseq_size:",
    "mov rax, qword ptr [rip + __rseq_size@GOTPCREL]",
    "ret",
);

unsafe extern "C" {
    fn fades_rseq_offset() -> *const isize;
    fn fades_rseq_size() -> *const u32;
}

/// The kernel writes into the area that the C library registered whenever it
/// preempts a thread. That area is about to be unmapped.
fn leave_rseq() -> Result<(), Failed> {
    const UNREGISTER: i32 = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    const SIZE_FIRST: u32 = 32;
    // SAFETY: returns an address, or null.
    let offset = unsafe { fades_rseq_offset() };
    // SAFETY: as above.
    let size = unsafe { fades_rseq_size() };
    // SAFETY: the C library's constants, when they are there.
    let (Some(offset), Some(size)) = (unsafe { offset.as_ref() }, unsafe { size.as_ref() }) else {
        return Ok(());
    };
    if *size == 0 {
        return Ok(());
    }
    let thread: *const u8;
    // SAFETY: reads the thread pointer, which x86-64 keeps at its own start.
    unsafe { asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, readonly)) };
    let area = thread.wrapping_offset(*offset);
    // The library says how much of the area is in use; it may have registered
    // more.
    for length in [SIZE_FIRST, *size, size.next_multiple_of(32), 64, 128] {
        // SAFETY: changes this thread's registration alone.
        let left = unsafe { libc::syscall(libc::SYS_rseq, area, length, UNREGISTER, SIGNATURE) };
        if left == 0 {
            return Ok(());
        }
    }
    Err((Stage::Rseq, errno()))
}

fn check(stage: Stage, result: libc::c_long) -> Result<(), Failed> {
    if result < 0 {
        Err((stage, errno()))
    } else {
        Ok(())
    }
}

fn errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}
