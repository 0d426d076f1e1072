//! What makes a program out of a function: entry, gate, heap, panic handler
//! and the memory functions that a compiler expects. Not there in tests.

mod callers;
mod entry;
mod gate;
mod heap;
mod memory;
mod panic;

pub use entry::run;
pub(crate) use gate::log;
pub use heap::memory_left;
