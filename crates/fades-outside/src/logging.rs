//! The level at which this process logs, which may change while it runs.
//!
//! Whoever writes the lines asks [`level`]; a process has one.

use std::sync::atomic::{AtomicU8, Ordering};

use fades_task::logging::LogLevel;

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Warn as u8);

/// The level now.
#[must_use]
pub fn level() -> LogLevel {
    let now = LEVEL.load(Ordering::Relaxed);
    let found = LogLevel::ALL.into_iter().find(|level| *level as u8 == now);
    found.unwrap_or(LogLevel::Warn)
}

/// From now on, this level.
pub fn set(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    // Who asked before remembers what the answer was.
    tracing::callsite::rebuild_interest_cache();
}
