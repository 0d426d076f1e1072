//! Retrievals that several runs take part in.
//!
//! ```text
//! DTO ─► question ─┬─ known: join ──┐
//!                  └─ new: begin ───┴─► next, next, … ─► done
//! ```
//! Runs whose DTOs ask the same question of the same state of the same files get
//! the same batch files. Nobody retrieves for the others: whoever needs a batch
//! that does not exist yet, and finds nobody making it, makes it. So the fastest
//! sets the pace, and a run that ends, however it ends, leaves the others where
//! they are.
//!
//! Files stay for a short time for runs that ask the same, and for slower runs as
//! long as there is room. When a file is dropped that a slow run has not taken
//! yet, that run makes it and the rest for itself: it pays, and not those who
//! would have to wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fades_task::identity::Name;
use fades_task::result::RetrievalFailure;

use super::production::{Done, Production};
use super::{Engine, Halt, Plans, Resolved};
use crate::batches::{BatchFile, Budget, Urgency};

mod table;

pub(super) use table::Question;

use table::{Look, Retrieval, Table, Work};

/// How long files are kept after the last run took from them.
const KEPT: Duration = Duration::from_secs(3);

/// The retrievals that go on, and those whose files are kept.
pub(crate) struct Shares {
    table: Mutex<Table>,
    changed: Condvar,
    budget: Arc<Budget>,
}

/// A DTO's part in a retrieval.
pub(crate) struct Taker {
    engine: Arc<Engine>,
    resolved: Resolved,
    id: u64,
    retrieval: u64,
    stop: Arc<AtomicBool>,
}

/// What is next for a taker.
pub(crate) enum Next {
    /// A batch is there to be taken.
    Batch,
    Done(Arc<Done>),
}

impl Shares {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            table: Mutex::default(),
            changed: Condvar::new(),
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change is complete when the lock is given back.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all who wait look again: a run wants a batch more urgently, or gave
    /// one back.
    pub(crate) fn look_again(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        drop(self.lock());
        self.changed.notify_all();
        self.budget.wake();
    }

    /// Makes all who wait look again, because a run was stopped. What nobody
    /// wants any more ends.
    pub(crate) fn wake(&self) {
        let table = self.lock();
        for r in table.retrievals.values() {
            let mut takers = r.takers.iter();
            if !r.takers.is_empty() && takers.all(|t| t.stop.load(Ordering::Relaxed)) {
                r.stop.store(true, Ordering::Relaxed);
            }
        }
        drop(table);
        self.changed.notify_all();
        self.budget.wake();
    }

    /// Drops files that nobody came for in time. Whether any are left.
    pub(crate) fn expire(&self) -> bool {
        let now = Instant::now();
        let mut table = self.lock();
        let old = |r: &Retrieval| r.takers.is_empty() && now.duration_since(r.used) >= KEPT;
        let old: Vec<u64> = table.numbers(old);
        let dropped: Vec<_> = old.into_iter().filter_map(|n| table.forget(n)).collect();
        let left = !table.retrievals.is_empty();
        // Files are closed without the lock.
        drop(table);
        drop(dropped);
        left
    }

    /// Drops files to give `missing` bytes back: first those that no run needs,
    /// longest unused first; when it is urgent, those too that slow runs have not
    /// taken yet. Whether it gave any.
    fn reclaim(&self, missing: u64, urgency: Urgency) -> bool {
        let mut table = self.lock();
        let mut freed = Vec::new();
        let mut bytes = 0;
        for needed_too in [false, true] {
            if needed_too && urgency != Urgency::Now {
                break;
            }
            while bytes < missing
                && let Some(n) = table.longest_unused(needed_too)
            {
                for file in table.thin(n, needed_too, missing - bytes) {
                    bytes += file.length;
                    freed.push(file);
                }
            }
        }
        drop(table);
        if bytes > 0 {
            self.changed.notify_all();
        }
        !freed.is_empty()
    }
}

impl Taker {
    /// Takes part in the retrieval of `question`, if there is one and somebody
    /// retrieves the same; otherwise begins it.
    pub(super) fn enter(
        engine: &Arc<Engine>,
        question: Option<Question>,
        resolved: Resolved,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let begin = || Production::new(resolved.clone());
        let (id, retrieval) = engine.shares.lock().enter(question, stop, begin);
        Self {
            engine: Arc::clone(engine),
            resolved,
            id,
            retrieval,
            stop: Arc::clone(stop),
        }
    }

    /// Whether there is another batch, or what the retrieval came to. Waits for
    /// room as `urgency` says. Until it is taken, the batch is in nobody's hands
    /// and can make room for what others need more.
    pub(crate) fn next(&mut self, urgency: &dyn Fn() -> Urgency) -> Result<Next, Halt> {
        loop {
            let mut table = self.engine.shares.lock();
            if self.stop.load(Ordering::Relaxed) {
                return Err(Halt::Stopped);
            }
            let retrieval = table.retrievals.get_mut(&self.retrieval);
            match retrieval.and_then(|r| r.look(self.id)) {
                Some(Look::Batch) => return Ok(Next::Batch),
                Some(Look::Done(done)) => return Ok(Next::Done(done)),
                Some(Look::Wait(hungry)) => self.wait(table, urgency, &hungry),
                Some(Look::Make(production, stop, hungry)) => {
                    drop(table);
                    self.make(production, &stop, &hungry, urgency)?;
                }
                Some(Look::Dropped(plans, taken)) => {
                    drop(table);
                    self.part(plans, taken);
                }
                None => return Err(Halt::Stopped),
            }
        }
    }

    /// Takes the next batch, unless it made room for others.
    pub(crate) fn take(&self) -> Option<Arc<BatchFile>> {
        let mut table = self.engine.shares.lock();
        let file = table.retrievals.get_mut(&self.retrieval)?.take(self.id)?;
        let passed = table.pass(self.retrieval);
        drop(table);
        drop(passed);
        Some(file)
    }

    /// Waits until something changes.
    fn wait(
        &self,
        table: MutexGuard<'_, Table>,
        urgency: &dyn Fn() -> Urgency,
        hungry: &AtomicU32,
    ) {
        let is_hungry = urgency() == Urgency::Now;
        if is_hungry {
            hungry.fetch_add(1, Ordering::Relaxed);
            // Whoever makes the batch may be waiting for room less urgently.
            self.engine.shares.budget.wake();
        }
        drop(
            self.engine
                .shares
                .changed
                .wait(table)
                .unwrap_or_else(PoisonError::into_inner),
        );
        if is_hungry {
            hungry.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes the next batch for everybody.
    fn make(
        &self,
        mut production: Box<Production>,
        stop: &Arc<AtomicBool>,
        hungry: &AtomicU32,
        urgency: &dyn Fn() -> Urgency,
    ) -> Result<(), Halt> {
        let shares = &self.engine.shares;
        let urgent = || match urgency() {
            Urgency::Ahead if hungry.load(Ordering::Relaxed) > 0 => Urgency::Now,
            urgency => urgency,
        };
        let reclaim = |missing, urgency| shares.reclaim(missing, urgency);
        let reserve = |bytes| shares.budget.reserve(bytes, urgent, reclaim);
        let made = production.next(&self.engine, stop, reserve);
        let mut table = shares.lock();
        let Some(r) = table.retrievals.get_mut(&self.retrieval) else {
            return Err(Halt::Stopped);
        };
        r.plans = production.plans().cloned();
        let mut ended = Ok(());
        let mut close = false;
        r.work = match made {
            Ok(Some(file)) => {
                r.files.push_back(Arc::new(file));
                close = r.kept() > shares.budget.total() / 2;
                Work::Idle(production)
            }
            Ok(None) => Work::Done(Arc::new(production.done(None))),
            Err(Halt::Failed(failure)) => {
                close = true;
                Work::Done(Arc::new(production.done(Some(failure))))
            }
            Err(Halt::Stopped) => {
                // Stopped while waiting for room, nothing was begun and others
                // go on from here; otherwise nobody was left.
                ended = Err(Halt::Stopped);
                if stop.load(Ordering::Relaxed) {
                    close = true;
                }
                Work::Idle(production)
            }
        };
        if close {
            table.close(self.retrieval);
        }
        let passed = table.pass(self.retrieval);
        drop(table);
        shares.changed.notify_all();
        drop(passed);
        ended
    }

    /// Goes on alone: others were so much faster that the next file is gone.
    fn part(&mut self, plans: Arc<Plans>, taken: u32) {
        let production = Production::again(self.resolved.clone(), plans, taken);
        self.leave();
        let mut table = self.engine.shares.lock();
        let (id, n) = table.enter(None, &self.stop, || production);
        if let Some(r) = table.retrievals.get_mut(&n) {
            r.dropped = taken;
            if let Some(taker) = r.takers.first_mut() {
                taker.taken = taken;
            }
        }
        (self.id, self.retrieval) = (id, n);
    }

    fn leave(&self) {
        let mut table = self.engine.shares.lock();
        let Some(r) = table.retrievals.get_mut(&self.retrieval) else {
            return;
        };
        r.takers.retain(|t| t.id != self.id);
        r.used = Instant::now();
        if matches!(r.work, Work::With(id) if id == self.id) {
            // Only a panic leaves it so; it was printed where it happened.
            r.work = Work::Done(Arc::new(defect(&self.resolved.dto.name)));
            table.close(self.retrieval);
        }
        let mut gone = None;
        if let Some(r) = table.retrievals.get(&self.retrieval)
            && r.takers.is_empty()
            && (r.question.is_none() || !matches!(r.work, Work::Done(_)))
        {
            gone = table.forget(self.retrieval);
        }
        let passed = table.pass(self.retrieval);
        drop(table);
        self.engine.shares.changed.notify_all();
        drop((gone, passed));
        self.engine.shares.budget.wake();
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.leave();
    }
}

fn defect(dto: &Name) -> Done {
    Done {
        coverage: fades_task::coverage::Coverage::new(dto.clone()),
        failure: Some(RetrievalFailure::Selector {
            dto: dto.clone(),
            reason: "a defect of the broker ended this retrieval".to_owned(),
        }),
    }
}
