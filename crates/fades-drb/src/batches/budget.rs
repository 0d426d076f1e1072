//! The bytes that batch files may take together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes for batch files, and who waits for some.
///
/// Reservations cannot block each other for ever: what a run needs *now*, because
/// its function has nothing to work on, waits only for batches that functions are
/// working on, one each; what is fetched ahead leaves half of the budget free.
/// Files that are merely kept for later make room for both.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// Counts changes, so that none is missed between looking and waiting.
    changes: u64,
}

/// How urgent a reservation is; asked again whenever something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The function waits for it, or soon will.
    Now,
    /// It is for later.
    Ahead,
    /// It is not wanted any more.
    Never,
}

/// Bytes that were reserved; dropping gives them back.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) const fn new(total: u64) -> Self {
        Self {
            total,
            state: Mutex::new(State {
                free: total,
                changes: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Reserves bytes, waiting until they are there; `None` once `urgency` says
    /// that they are not wanted. `reclaim` is asked to give bytes back that are
    /// merely kept; it says whether it gave any.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        urgency: impl Fn() -> Urgency,
        reclaim: impl Fn(u64, Urgency) -> bool,
    ) -> Option<Lease> {
        loop {
            let urgent = urgency();
            let keep = match urgent {
                Urgency::Never => return None,
                Urgency::Now => 0,
                Urgency::Ahead => self.total / 2,
            };
            let wanted = bytes.saturating_add(keep);
            let mut state = self.lock();
            if state.free >= wanted {
                state.free -= bytes;
                let budget = Arc::clone(self);
                return Some(Lease { budget, bytes });
            }
            let (seen, missing) = (state.changes, wanted - state.free);
            drop(state);
            if reclaim(missing, urgent) || urgency() != urgent {
                continue;
            }
            let mut state = self.lock();
            while state.changes == seen {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Makes all who wait look at their urgency again, and at what can be
    /// reclaimed.
    pub(crate) fn wake(&self) {
        self.lock().changes += 1;
        self.changed.notify_all();
    }

    /// All bytes, reserved ones included.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are reserved.
    pub(crate) fn used(&self) -> u64 {
        self.total - self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers are whole whatever happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.free += bytes;
        state.changes += 1;
        drop(state);
        self.changed.notify_all();
    }
}

impl Lease {
    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.budget.give_back(surplus);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Lease, Urgency};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread;

    fn reserve(budget: &Arc<Budget>, bytes: u64, urgency: Urgency) -> Lease {
        budget
            .reserve(bytes, || urgency, |_, _| false)
            .expect("it is wanted")
    }

    #[test]
    fn a_lease_comes_back_when_it_is_dropped_or_shrunk() {
        let budget = Arc::new(Budget::new(10));
        let mut a = reserve(&budget, 8, Urgency::Now);
        a.shrink(3);
        let b = reserve(&budget, 7, Urgency::Now);
        drop((a, b));
        assert_eq!(budget.lock().free, 10);
    }

    #[test]
    fn what_is_fetched_ahead_leaves_half_for_what_is_needed() {
        let budget = Arc::new(Budget::new(10));
        let ahead = reserve(&budget, 5, Urgency::Ahead);
        let waits = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || drop(reserve(&budget, 1, Urgency::Ahead)))
        };
        let now = reserve(&budget, 5, Urgency::Now);
        drop(now);
        drop(ahead);
        waits.join().unwrap();
    }

    #[test]
    fn who_waits_can_be_told_to_give_up() {
        let budget = Arc::new(Budget::new(1));
        let _all = reserve(&budget, 1, Urgency::Now);
        let stop = Arc::new(AtomicBool::new(false));
        let waits = {
            let (budget, stop) = (Arc::clone(&budget), Arc::clone(&stop));
            thread::spawn(move || {
                let urgency = || match stop.load(Ordering::Relaxed) {
                    true => Urgency::Never,
                    false => Urgency::Now,
                };
                budget.reserve(1, urgency, |_, _| false)
            })
        };
        stop.store(true, Ordering::Relaxed);
        budget.wake();
        assert!(waits.join().unwrap().is_none());
    }

    #[test]
    fn what_is_merely_kept_makes_room_before_anybody_waits() {
        let budget = Arc::new(Budget::new(10));
        let kept = Mutex::new(Some(reserve(&budget, 10, Urgency::Now)));
        let reclaim = |missing, _| {
            assert_eq!(missing, 4);
            kept.lock().unwrap().take().is_some()
        };
        assert!(budget.reserve(4, || Urgency::Now, reclaim).is_some());
    }
}
