//! The contract between a *function* and the *tender* that runs it.
//!
//! Everything a function image and its host must agree on is here and nowhere
//! else: the note that an image carries ([`note`]), what the host tells the
//! function at start ([`boot`]), the way out of the function and the events
//! that come back through it ([`gate`]), and the layout of the data that the
//! function reads ([`batch`]). All integers are little-endian; all layouts are
//! `repr(C)` without padding and pinned by compile-time assertions, and by the
//! golden file `tests/layout.txt`.
//!
//! The crate is `no_std`, allocates nothing and has no `unsafe`: it gives
//! bytes a meaning and never touches memory that it was not handed.
//!
//! # Life of a function
//!
//! ```text
//! entry(boot) ── new(params) ── gate(NEXT) ─┬─ BATCH ──────┐
//!                                 ▲         ├─ END         │
//!                                 │         ├─ WINDOW_END ─┤ gate(ANSWER)
//!                                 │         ├─ SAVE ───────┤ gate(STATE)
//!                                 │         ├─ RESTORE     │
//!                                 └─────────┴──────────────┘
//!                                           └─ FINISH ── gate(ANSWER) ── gate(DONE)
//! ```
//! At any point the function may leave for good by `ABORT`, `PANIC`,
//! `OUT_OF_MEMORY` or `OUTPUT_FULL`.
#![no_std]

pub mod batch;
pub mod boot;
pub mod gate;
pub mod note;

/// Major version of the contract. An image and a host work together only when
/// theirs are equal.
pub const ABI_MAJOR: u16 = 1;

/// Minor version of the contract: the host must offer at least the minor
/// version that an image was built against.
pub const ABI_MINOR: u16 = 0;

/// The largest parameters (deterministic CBOR) a function can be given, bytes.
pub const PARAMS_MAX: usize = 64 * 1024;

/// Least unmapped space that the host leaves below the stack and between any
/// two regions of a function, bytes.
pub const GUARD_MIN: u64 = 64 * 1024;

/// Batches are mapped in pages of this size: a batch file's length and the
/// address of the input window are multiples of it, bytes.
pub const INPUT_PAGE: u64 = 2 * 1024 * 1024;
