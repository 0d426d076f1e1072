//! The threads that parse.
//!
//! One pool for the whole broker, as many threads as the host has cores, so that
//! the number of runs does not multiply threads and their memory. Each caller
//! keeps only a few pieces of work queued: runs take turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// A piece of work ended in a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Threads that work off a queue; they end when the pool is dropped.
pub(crate) struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool with one thread for each core.
    pub(crate) fn new() -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = (0..cores).map(|i| {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("parse-{i}"))
                .spawn(move || work_off(&jobs))
        });
        Ok(Self {
            threads: threads.collect::<Result<_, _>>()?,
            queue: Some(queue),
        })
    }

    /// Does `work` on each of `items` and gives the results in the order of the
    /// items. Must not be called from within work of the same pool.
    pub(crate) fn map<T, R>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> R + Send + Sync + 'static,
    ) -> Vec<Result<R, Panicked>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let work = Arc::new(work);
        let (done, results) = channel();
        let mut ordered: Vec<_> = items.iter().map(|_| Err(Panicked)).collect();
        let mut items = items.into_iter().enumerate();
        let mut queued = 0;
        loop {
            while queued <= 2 * self.threads.len()
                && let Some((i, item)) = items.next()
            {
                let (work, done) = (Arc::clone(&work), done.clone());
                self.push(Box::new(move || {
                    let result = catch_unwind(AssertUnwindSafe(|| work(item)));
                    // The caller waits for every result.
                    let _ = done.send((i, result.map_err(|_| Panicked)));
                }));
                queued += 1;
            }
            if queued == 0 {
                return ordered;
            }
            let Ok((i, result)) = results.recv() else {
                return ordered;
            };
            ordered[i] = result;
            queued -= 1;
        }
    }

    /// Does `work` on each of `items` in this thread, which is faster when there
    /// is little to do.
    pub(crate) fn here<T, R>(items: Vec<T>, work: impl Fn(T) -> R) -> Vec<Result<R, Panicked>> {
        let one = |item| catch_unwind(AssertUnwindSafe(|| work(item))).map_err(|_| Panicked);
        items.into_iter().map(one).collect()
    }

    fn push(&self, job: Job) {
        if let Some(queue) = &self.queue {
            // Threads end only when the queue is closed, which `drop` does.
            let _ = queue.send(job);
        }
    }
}

fn work_off(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Work cannot panic past `map`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Panicked, Pool};

    #[test]
    fn results_come_in_the_order_of_the_items_and_a_panic_costs_one() {
        let pool = Pool::new().unwrap();
        for _ in 0..2 {
            let results = pool.map((0..100).collect(), |i: i32| {
                assert!(i != 50, "as this test wants");
                i * 2
            });
            for (i, result) in (0..).zip(results) {
                let expected = if i == 50 { Err(Panicked) } else { Ok(i * 2) };
                assert_eq!(result, expected);
            }
        }
    }
}
