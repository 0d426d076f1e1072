//! The bytes that batch files may take together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes for batch files, and who waits for some.
///
/// Reservations cannot block each other for ever: what a run needs *now*, because
/// its function has nothing to work on, waits only for batches that functions are
/// working on, one each; what is fetched ahead leaves half of the budget free.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    free: Mutex<u64>,
    changed: Condvar,
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
            free: Mutex::new(total),
            changed: Condvar::new(),
        }
    }

    /// Reserves bytes, waiting until they are there; `None` once `urgency` says
    /// that they are not wanted.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        urgency: impl Fn() -> Urgency,
    ) -> Option<Lease> {
        let mut free = self.lock();
        loop {
            let keep = match urgency() {
                Urgency::Never => return None,
                Urgency::Now => 0,
                Urgency::Ahead => self.total / 2,
            };
            if *free >= bytes.saturating_add(keep) {
                *free -= bytes;
                let budget = Arc::clone(self);
                return Some(Lease { budget, bytes });
            }
            free = self
                .changed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes all who wait look at their urgency again.
    pub(crate) fn wake(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let _free = self.lock();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is whole whatever happened.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, bytes: u64) {
        *self.lock() += bytes;
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
    use super::{Budget, Urgency};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_lease_comes_back_when_it_is_dropped_or_shrunk() {
        let budget = Arc::new(Budget::new(10));
        let mut a = budget.reserve(8, || Urgency::Now).unwrap();
        a.shrink(3);
        let b = budget.reserve(7, || Urgency::Now).unwrap();
        drop((a, b));
        assert_eq!(*budget.lock(), 10);
    }

    #[test]
    fn what_is_fetched_ahead_leaves_half_for_what_is_needed() {
        let budget = Arc::new(Budget::new(10));
        let ahead = budget.reserve(5, || Urgency::Ahead).unwrap();
        let waits = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.reserve(1, || Urgency::Ahead).is_some())
        };
        let now = budget.reserve(5, || Urgency::Now).unwrap();
        drop(now);
        drop(ahead);
        assert!(waits.join().unwrap());
    }

    #[test]
    fn who_waits_can_be_told_to_give_up() {
        let budget = Arc::new(Budget::new(1));
        let _all = budget.reserve(1, || Urgency::Now).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let waits = {
            let (budget, stop) = (Arc::clone(&budget), Arc::clone(&stop));
            thread::spawn(move || {
                budget.reserve(1, || {
                    if stop.load(Ordering::Relaxed) {
                        Urgency::Never
                    } else {
                        Urgency::Now
                    }
                })
            })
        };
        stop.store(true, Ordering::Relaxed);
        budget.wake();
        assert!(waits.join().unwrap().is_none());
    }
}
