//! The smallest function that shows whether an isolation works.
#![expect(unsafe_code, reason = "assembles the text of a function")]

use std::arch::global_asm;

use fades_abi::boot::BootInfo;
use fades_abi::gate::{Event, Mailbox, op};
use std::mem::offset_of;

use crate::address::{GuestAddr, PAGE};
use crate::assembled::assembled;
use crate::image::{About, Access, Image, Segment};

global_asm!(
    ".pushsection .rodata.fades_probe_function, \"a\"",
    ".global fades_probe_function",
    ".global fades_probe_function_end",
    "fades_probe_function:",
    "mov rbx, [rdi + {gate}]",
    "mov rbp, [rdi + {mailbox}]",
    // The first event: a batch.
    "mov dword ptr [rbp + {op}], {next}",
    "call rbx",
    // Tells the sum of its first and its last word, added as a float.
    "mov rsi, [rbp + {event} + {address}]",
    "mov rcx, [rbp + {event} + {length}]",
    "movsd xmm0, [rsi]",
    "addsd xmm0, [rsi + rcx - 8]",
    "movsd [rbp + {args}], xmm0",
    "mov dword ptr [rbp + {op}], {next}",
    "call rbx",
    // The batch is still there, and must not be writable.
    "mov [rsi], rax",
    "ud2",
    "fades_probe_function_end:",
    ".popsection",
    gate = const offset_of!(BootInfo, gate),
    mailbox = const offset_of!(BootInfo, mailbox),
    op = const offset_of!(Mailbox, op),
    args = const offset_of!(Mailbox, args),
    event = const offset_of!(Mailbox, event),
    address = const offset_of!(Event, address),
    length = const offset_of!(Event, length),
    next = const op::NEXT,
);

assembled! {
    /// The function's text.
    pub(crate) fn text = fades_probe_function .. fades_probe_function_end
}

/// An image of nothing but the text.
pub(crate) fn image() -> Image {
    let start = GuestAddr(crate::image::ADDRESSES.start);
    Image {
        about: About {
            name: "probe".to_owned(),
            stack: PAGE,
            memory_min: 0,
            checkpoints: false,
        },
        entry: start,
        segments: vec![Segment {
            start,
            length: PAGE,
            access: Access::Execute,
            lead: 0,
            file: 0..text().len(),
        }],
    }
}
