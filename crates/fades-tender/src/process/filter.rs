//! The system calls that a function's process may make: those of the gate.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::ProcessError;
use crate::layout::{INPUT, INPUT_MAX};

/// The descriptor over which the process talks to its supervisor.
const SOCKET: u64 = 0;

/// A condition on an argument.
#[derive(Debug, Clone, Copy)]
enum Must {
    Be(u64),
    AtMost(u64),
}

/// Calls, with what their arguments must be. Everything else ends the process.
/// The gate needs each of them:
const ALLOWED: [(i64, &[(u8, Must)]); 5] = [
    // to ring its supervisor;
    (libc::SYS_write, &[(0, Must::Be(SOCKET))]),
    // to hear the answer and receive a batch;
    (libc::SYS_recvmsg, &[(0, Must::Be(SOCKET))]),
    // to map the batch, into the input window and for reading;
    (
        libc::SYS_mmap,
        &[
            (0, Must::Be(INPUT.0)),
            (1, Must::AtMost(INPUT_MAX)),
            (2, Must::Be(libc::PROT_READ as u64)),
            (3, Must::Be((libc::MAP_SHARED | libc::MAP_FIXED) as u64)),
        ],
    ),
    // to take the batch away;
    (
        libc::SYS_munmap,
        &[(0, Must::Be(INPUT.0)), (1, Must::AtMost(INPUT_MAX))],
    ),
    // to keep no descriptor of a batch.
    (libc::SYS_close, &[]),
];

/// The filter as the kernel takes it. What is not allowed raises `SIGSYS`, which
/// nobody can handle or block here; a tracer sees it first and can say which
/// call it was.
pub(super) fn program() -> Result<BpfProgram, ProcessError> {
    let rules = ALLOWED.iter().map(|(call, conditions)| {
        let conditions: Result<Vec<_>, _> = conditions.iter().map(condition).collect();
        let rules = match conditions? {
            none if none.is_empty() => vec![],
            all => vec![SeccompRule::new(all)?],
        };
        Ok((*call, rules))
    });
    let rules: Result<BTreeMap<_, _>, seccompiler::BackendError> = rules.collect();
    let filter = SeccompFilter::new(
        rules?,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

fn condition((argument, must): &(u8, Must)) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (op, value) = match must {
        Must::Be(value) => (SeccompCmpOp::Eq, *value),
        Must::AtMost(value) => (SeccompCmpOp::Le, *value),
    };
    SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, op, value)
}
