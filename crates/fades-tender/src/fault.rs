//! Faults in words.

use fades_task::exit::Fault;

use crate::address::GuestAddr;
use crate::layout::Layout;
use crate::symbols::Symbols;

/// What a machine knows about a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    /// x86 exception vector, where known.
    pub(crate) vector: Option<u8>,
    /// What happened.
    pub(crate) what: String,
    /// The address accessed, where the fault has one.
    pub(crate) address: Option<GuestAddr>,
    /// The instruction pointer, where known.
    pub(crate) rip: Option<u64>,
}

impl Raw {
    /// An exception, with its error code and, for page faults, the address.
    pub(crate) fn exception(vector: u8, error: u64, rip: u64, address: u64) -> Self {
        let is_page_fault = vector == 14;
        let what = if is_page_fault {
            page_fault(error).to_owned()
        } else {
            name(vector).to_owned()
        };
        Self {
            vector: Some(vector),
            what,
            address: is_page_fault.then_some(GuestAddr(address)),
            rip: Some(rip),
        }
    }

    /// Adds what layout and symbols say about the addresses; `input` is the
    /// length of the batch that was mapped.
    pub(crate) fn describe(self, layout: &Layout, symbols: &Symbols, input: u64) -> Fault {
        Fault {
            vector: self.vector,
            what: self.what,
            address: self.address.map(|a| a.0),
            place: self.address.map(|a| layout.place(a, input)),
            rip: self.rip,
            symbol: self.rip.and_then(|rip| symbols.name(rip)),
        }
    }
}

/// What an access was, from the error code of a page fault.
const fn page_fault(error: u64) -> &'static str {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    if error & FETCH != 0 {
        "page fault on execution"
    } else if error & WRITE != 0 {
        "page fault on write"
    } else {
        "page fault on read"
    }
}

/// Name of an exception.
pub(crate) const fn name(vector: u8) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid instruction",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 error",
        17 => "unaligned access",
        18 => "machine check",
        19 => "SIMD floating-point error",
        _ => "exception",
    }
}
