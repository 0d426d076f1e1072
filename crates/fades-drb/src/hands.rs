//! Threads that wait: for room, for a source, for a tender.
//!
//! Each piece of work gets a thread at once, one that has nothing to do or a new
//! one, because whatever it waits for may need another piece of work to go on.
//! Threads that had nothing to do for a while end, but for a few.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that are kept although they have nothing to do.
const KEPT: usize = 2;

/// How long others wait for work.
const PATIENCE: Duration = Duration::from_secs(5);

/// Threads for work that waits.
#[derive(Clone, Default)]
pub(crate) struct Hands(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl Hands {
    /// Starts `job`.
    ///
    /// # Errors
    /// When a thread is needed and the host gives none.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let mut state = self.0.lock();
        if state.idle > state.jobs.len() {
            state.jobs.push_back(Box::new(job));
            self.0.changed.notify_all();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new()
            .name("retrieve".to_owned())
            .spawn(move || shared.work(Box::new(job)));
        if let Err(e) = started {
            self.0.lock().threads -= 1;
            return Err(e);
        }
        Ok(())
    }

    /// Waits until all that was started has ended.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closing = true;
        self.0.changed.notify_all();
        while state.threads > 0 {
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            // The panic was printed where it happened; its run's guard tells.
            let _ = catch_unwind(AssertUnwindSafe(job));
            next = self.wait();
        }
    }

    /// The next piece of work; `None` when this thread shall end.
    fn wait(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let mut waited = false;
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break Some(job);
            }
            if state.closing || waited && state.idle > KEPT {
                break None;
            }
            let woken = self.changed.wait_timeout(state, PATIENCE);
            let (again, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            state = again;
            waited = timeout.timed_out();
        };
        state.idle -= 1;
        if job.is_none() {
            state.threads -= 1;
            self.changed.notify_all();
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::Hands;
    use std::sync::mpsc::channel;

    #[test]
    fn work_that_waits_for_later_work_does_not_hold_it_up() {
        let hands = Hands::default();
        let (last, mut next) = channel::<()>();
        for _ in 0..20 {
            let (told, waits) = channel();
            let before = std::mem::replace(&mut next, waits);
            hands
                .start(move || {
                    let _ = before.recv();
                    drop(told);
                })
                .unwrap();
        }
        drop(last);
        next.recv().unwrap_err();
        hands.close();
    }

    #[test]
    fn threads_are_used_again_and_a_panic_costs_none() {
        let hands = Hands::default();
        let (done, all) = channel::<()>();
        for i in 0..100 {
            let done = done.clone();
            hands
                .start(move || {
                    let _done = done;
                    assert!(i % 10 != 0, "as this test wants");
                })
                .unwrap();
            let is_busy = |s: &super::State| s.idle <= s.jobs.len();
            while is_busy(&hands.0.lock()) {
                std::thread::yield_now();
            }
        }
        drop(done);
        all.recv().unwrap_err();
        assert_eq!(hands.0.lock().threads, 1);
        hands.close();
        assert_eq!(hands.0.lock().threads, 0);
    }
}
