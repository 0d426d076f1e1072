//! Runs one FADES function, in a microVM or as a process under seccomp.
//!
//! A tender is started with one descriptor, its control channel, and is told
//! what it is ([`fades_task::message::TenderRequest`]): it makes a template of an
//! image, or it becomes a *shell* that runs one function after the other. Nothing
//! that a function does is an error of the tender: it is a value of
//! [`fades_task::exit::Exit`].
//!
//! ```text
//! tend ─┬ template ─ image    checks the file
//!       │          └ layout   plans the address space, the same for every isolation
//!       ├ machine ─┬ microvm  KVM
//!       │          ├ process  a child under seccomp
//!       │          └ boot     what the function is told
//!       ├ watch               both clocks, and the orchestrator's end
//!       ├ confine             what the tender itself may still do
//!       └ session             serves the gate (rules: contract) until the end
//! ```
//! [`probe::Probe`] is what `fades-tender --probe` finds out about a host.
//! The host's side of every address of a function is a number
//! (`address::GuestAddr`); memory is copied in and out (`memory`), never
//! borrowed.

mod address;
mod assembled;
mod boot;
mod confine;
mod contract;
mod fault;
mod image;
mod journal;
mod layout;
mod machine;
mod memory;
mod microvm;
pub mod probe;
mod process;
mod session;
mod symbols;
mod template;
mod tender;
mod watch;

pub use tender::{Inheritance, TenderError, tend};

/// Exit code of a tender whose orchestrator went away.
pub const EXIT_ORPHANED: i32 = 3;
