//! The system calls that a kind of process makes, and no others.
//!
//! Others fail with `EPERM`: libraries then do without.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{ConfineError, Reach};

/// When a call is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With any arguments.
    Always,
    /// When the process connects by itself.
    Direct,
    /// When it does, and devices are asked over UDP.
    Udp,
    /// Unless the third argument asks for executable memory.
    NotExecutable,
    /// A new thread, not a new process, and in no new namespace.
    Thread,
    /// When the argument of this number, masked, is this.
    Is(u8, u64, u64),
    /// `ioctl` with this request, when there are serial ports.
    Serial(u64),
}

use When::{Always, Direct, Is, NotExecutable, Serial, Thread, Udp};

/// As the mask of [`When::Is`]: the argument is a C `int`.
pub const WHOLE: u64 = u32::MAX as u64;

const INET: u64 = libc::AF_INET as u64;
const INET6: u64 = libc::AF_INET6 as u64;

/// A system call, when it is allowed, and why it is needed.
pub type Call = (i64, When, &'static str);

/// Sockets of a process that connects by itself: TCP and UDP, no raw ones, and none
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
///
/// # Errors
/// Why it is not there.
pub fn enter(reach: &Reach) -> Result<String, ConfineError> {
    let main = program(reach)?;
    // First, because the other one allows no further filters.
    seccompiler::apply_filter_all_threads(&without_clone3()?)?;
    seccompiler::apply_filter_all_threads(&main)?;
    let calls = different(reach);
    let sockets = match reach.asks {
        true => "sockets",
        false => "listening or raw sockets",
    };
    Ok(format!(
        "{calls} system calls; no programs, processes, mounts, {sockets}"
    ))
}

/// How many calls there are.
fn different(reach: &Reach) -> usize {
    let calls = reach.subject.calls.iter();
    calls
        .map(|(call, ..)| *call)
        .collect::<BTreeSet<i64>>()
        .len()
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

fn program(reach: &Reach) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // Its arguments are in memory; see `without_clone3`.
    rules.insert(libc::SYS_clone3, Vec::new());
    for (call, when, _) in reach.subject.calls {
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
