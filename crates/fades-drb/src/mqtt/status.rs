//! How a source's connection does, for those who wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::flow::Ask;

/// After this long without a message that the broker kept, all of them have come.
const QUIET: Duration = Duration::from_millis(200);

/// How a connection does.
#[derive(Debug, Default)]
pub(super) struct Status {
    now: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone)]
pub(super) struct State {
    /// Attempts to connect that ended, well or not.
    pub(super) attempts: u64,
    /// Since when the broker sends what was asked for.
    pub(super) subscribed: Option<Instant>,
    /// When a message that the broker kept came last.
    pub(super) retained: Option<Instant>,
    /// Why there is no connection.
    pub(super) error: Option<String>,
    /// A topic that the broker does not give, and why.
    pub(super) refused: Option<(String, String)>,
    /// Messages that were of use, and those that were not.
    pub(super) good: u64,
    pub(super) bad: u64,
    /// The first of those.
    pub(super) first_bad: Option<String>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn now(&self) -> State {
        self.lock().clone()
    }

    /// Waits until `done`, the deadline of `ask`, `most` or a stop.
    pub(super) fn wait(&self, ask: &Ask, most: Duration, done: impl Fn(&State) -> bool) -> State {
        // So often a stop, and whether it is quiet, is looked at.
        const PATIENCE: Duration = Duration::from_millis(20);
        let end = Instant::now() + most;
        let end = ask.deadline.map_or(end, |d| d.min(end));
        let mut state = self.lock();
        while !done(&state) && !ask.is_stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(state, left.min(PATIENCE));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.clone()
    }
}

impl State {
    /// Whether what the broker kept has come.
    pub(super) fn is_settled(&self) -> bool {
        self.subscribed.is_some_and(|since| {
            let last = self.retained.map_or(since, |r| r.max(since));
            last.elapsed() >= QUIET
        })
    }

    /// Whether an attempt after number `attempts` ended.
    pub(super) const fn is_after(&self, attempts: u64) -> bool {
        self.attempts > attempts
    }
}
