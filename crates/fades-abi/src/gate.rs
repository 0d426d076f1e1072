//! The way out of a function, and what comes back through it.
//!
//! A call fills [`Mailbox::op`] and [`Mailbox::args`], calls the gate, and
//! finds [`Mailbox::event`] (after [`op::NEXT`]) when the gate returns. The
//! mailbox is ordinary memory of the function: the host copies it, checks the
//! copy and acts on the copy only. A call that breaks a rule below ends the
//! function; there are no error codes to ignore.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a function asks of its host, [`Mailbox::op`].
pub mod op {
    /// Asks for the next event; releases the batch of the last one.
    pub const NEXT: u32 = 1;
    /// `(level, address, length)`: a line of text for the log. Levels are
    /// 1 error, 2 warn, 3 info, 4 debug. At most 4096 bytes of UTF-8; more, and
    /// what exceeds the task's limit for log bytes, is cut and counted.
    pub const LOG: u32 = 2;
    /// `(result length, readings offset, readings length)`: the answer lies in
    /// the output window: CBOR from its start, readings in batch layout at
    /// an offset that is a multiple of 64 (length 0 when there are none).
    /// Allowed once after each `window_end` and once after `finish`.
    pub const ANSWER: u32 = 3;
    /// `(length)`: the checkpoint lies at the start of the output window.
    /// Allowed after `save` only.
    pub const STATE: u32 = 4;
    /// Ends the function well. Allowed after `finish` only. Does not return.
    pub const DONE: u32 = 5;
    /// `(address, length)`: the function cannot answer and says why. Does not
    /// return.
    pub const ABORT: u32 = 6;
    /// `(address, length)`: a panic, with its message and source location.
    /// Does not return.
    pub const PANIC: u32 = 7;
    /// `(size, alignment, address, length)`: an allocation that the heap could
    /// not serve, and where a list of 8-byte code addresses lies from which it
    /// was made, innermost first; a hint for people, length 0 when there is
    /// none. Does not return.
    pub const OUT_OF_MEMORY: u32 = 8;
    /// `(bytes needed)`: the answer does not fit the output window. Does not
    /// return.
    pub const OUTPUT_FULL: u32 = 9;
}

/// What happened, [`Event::kind`]. A kind that a function does not know ends
/// it with an abort: kinds are added with minor versions of the contract.
pub mod event {
    /// A batch of DTO `dto` lies at `address`, `length` bytes.
    pub const BATCH: u32 = 1;
    /// DTO `dto` has no more batches.
    pub const END: u32 = 2;
    /// Window `id`, times `[from, to)` in ns since 1970 UTC, is complete.
    pub const WINDOW_END: u32 = 3;
    /// The host wants a checkpoint.
    pub const SAVE: u32 = 4;
    /// A checkpoint of an earlier life lies at `address`, `length` bytes.
    pub const RESTORE: u32 = 5;
    /// Nothing comes any more: answer and end.
    pub const FINISH: u32 = 6;
}

/// Longest text of one `LOG`, `ABORT` or `PANIC`, bytes.
pub const TEXT_MAX: u64 = 4096;

/// An event as the function finds it in the mailbox. 56 bytes.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Event {
    /// One of [`event`].
    pub kind: u32,
    /// Index of the DTO, for `BATCH` and `END`.
    pub dto: u32,
    /// Where the batch or the checkpoint lies.
    pub address: u64,
    /// How long it is, bytes.
    pub length: u64,
    /// Number of the window.
    pub id: u64,
    /// Start of the window, ns since 1970 UTC, inclusive.
    pub from: i64,
    /// End of the window, ns since 1970 UTC, exclusive.
    pub to: i64,
    /// Zero.
    pub reserved: u64,
}

/// The mailbox. 128 bytes at the start of a page of its own.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Mailbox {
    /// One of [`op`].
    pub op: u32,
    /// Zero.
    pub reserved: u32,
    /// Arguments of the call.
    pub args: [u64; 4],
    /// Written by the host in answer to [`op::NEXT`].
    pub event: Event,
    /// Bytes of the heap in use at their highest, kept by the function's
    /// allocator; a hint for people, not trusted.
    pub heap_peak: u64,
    /// Zero.
    pub spare: [u64; 3],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Event>() == 56);
    assert!(size_of::<Mailbox>() == 128);
    assert!(offset_of!(Mailbox, args) == 8);
    assert!(offset_of!(Mailbox, event) == 40);
    assert!(offset_of!(Mailbox, heap_peak) == 96);
};
