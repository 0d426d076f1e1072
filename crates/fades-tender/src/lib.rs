//! Runs one FADES function, in a microVM or as a process under seccomp.
//!
//! One tender process runs one image and ends. It is started with three
//! descriptors (control channel, data channel, image), is told what to run
//! ([`fades_task::message::Start`]), and reports how it ended. Nothing that a
//! function does is an error of the tender: it is a value of
//! [`fades_task::exit::Exit`].
//!
//! ```text
//! tend ─ load ─ image    checks the file
//!             ├ layout   plans the address space, the same for every isolation
//!             ├ boot     what the function is told
//!             └ machine ─ microvm   KVM
//!                       └ process   a child under seccomp
//!      ├ watch           both clocks, and the orchestrator's end
//!      ├ confine         what the tender itself may still do
//!      └ session         serves the gate (rules: contract) until the end
//! ```
//! [`probe::Probe`] is what `fades-tender --probe` finds out about a host.
//! The host's side of every address of a function is a number
//! (`address::GuestAddr`); memory is copied in and out (`memory`), never
//! borrowed.

mod address;
mod boot;
mod confine;
mod contract;
mod fault;
mod image;
mod journal;
mod layout;
mod load;
mod machine;
mod memory;
mod microvm;
pub mod probe;
mod process;
mod session;
mod symbols;
mod tender;
mod watch;

pub use tender::{Inheritance, TenderError, tend};

/// Exit code of a tender whose orchestrator went away.
pub const EXIT_ORPHANED: i32 = 3;
