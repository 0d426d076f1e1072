//! The orchestrator of a FADES node.
//!
//! Takes signed tasks, keeps them so that neither a crash nor a power cut
//! loses one, runs each in a tender of its own, and commits exactly one answer
//! or failure for each. Start reading at [`core`], which decides everything
//! and does nothing; the driver performs what it decides.
//!
//! Raw readings never pass through here: broker and tender share a socket pair
//! that this process makes and hands away.

pub mod admission;
pub mod api;
mod cgroup;
mod clock;
pub mod config;
pub mod core;
pub mod dial;
mod driver;
mod feed;
mod metrics;
pub mod node;
pub mod notify;
#[cfg(test)]
mod samples;
mod shared;
pub mod shell;
pub mod store;
pub mod tls;
mod trust;
