//! The orchestrator of a FADES node.
//!
//! Takes signed tasks, keeps them so that neither a crash nor a power cut
//! loses one, runs each in a tender of its own, and commits exactly one answer
//! or failure for each.

pub mod api;
