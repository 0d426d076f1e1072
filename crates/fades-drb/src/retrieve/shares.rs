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

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fades_task::identity::Name;
use fades_task::result::RetrievalFailure;

use super::production::{Done, Production};
use super::{Engine, Halt, Plans, Resolved};
use crate::batches::{BatchFile, Budget, Urgency};
use crate::chunk::Capacity;

/// How long files are kept after the last run took from them.
const KEPT: Duration = Duration::from_secs(3);

/// Everything that decides what is in the batches of a DTO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// Index of the DTO in its task, which stands in the header of a batch.
    pub(super) index: u32,
    pub(super) capacity: Capacity,
    pub(super) kind: Vec<String>,
    pub(super) location: Vec<String>,
    pub(super) device: Vec<String>,
    pub(super) from: i64,
    pub(super) to: i64,
    /// The sources that are asked, with the number of their files' state.
    pub(super) states: Vec<(Name, u64)>,
}

/// The retrievals that go on, and those whose files are kept.
pub(crate) struct Shares {
    table: Mutex<Table>,
    changed: Condvar,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Table {
    /// For numbers of retrievals and of takers.
    next: u64,
    retrievals: HashMap<u64, Retrieval>,
    questions: HashMap<Question, u64>,
}

struct Retrieval {
    /// Set while others can join: all files are still here.
    question: Option<Question>,
    files: VecDeque<Arc<BatchFile>>,
    /// Number of files before the first one that is still here.
    dropped: u32,
    work: Work,
    plans: Option<Arc<Plans>>,
    takers: Vec<Known>,
    /// Ends the making of a batch that nobody wants any more.
    stop: Arc<AtomicBool>,
    /// Takers that have nothing and wait for another to make a batch.
    hungry: Arc<AtomicU32>,
    used: Instant,
}

enum Work {
    /// Nobody is making a batch just now.
    Idle(Box<Production>),
    /// This taker is.
    With(u64),
    Done(Arc<Done>),
}

/// What is known of a taker.
struct Known {
    id: u64,
    /// Files that it has taken.
    taken: u32,
    stop: Arc<AtomicBool>,
}

/// A DTO's part in a retrieval.
pub(crate) struct Taker<'a> {
    engine: &'a Engine,
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

/// What a look at a retrieval says.
enum Look {
    Batch,
    Done(Arc<Done>),
    Make(Box<Production>, Arc<AtomicBool>, Arc<AtomicU32>),
    /// The next file was dropped; so many were taken.
    Dropped(Arc<Plans>, u32),
    Wait(Arc<AtomicU32>),
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

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn numbers(&self, which: impl Fn(&Retrieval) -> bool) -> Vec<u64> {
        let found = self.retrievals.iter().filter(|(_, r)| which(r));
        found.map(|(n, _)| *n).collect()
    }

    /// Of the retrievals that have files in nobody's hands, the one that was not
    /// used for longest.
    fn longest_unused(&self, needed_too: bool) -> Option<u64> {
        let is_kept = |f: &Arc<BatchFile>| Arc::strong_count(f) == 1;
        let has = |r: &Retrieval| {
            let mut files = r.files.iter().take(r.droppable(needed_too));
            files.any(is_kept)
        };
        let found = self.retrievals.iter().filter(|(_, r)| has(r));
        found.min_by_key(|(_, r)| r.used).map(|(n, _)| *n)
    }

    /// Nobody can join any more.
    fn close(&mut self, n: u64) {
        let question = self.retrievals.get_mut(&n).and_then(|r| r.question.take());
        if let Some(question) = question {
            self.questions.remove(&question);
        }
    }

    fn forget(&mut self, n: u64) -> Option<Retrieval> {
        self.close(n);
        self.retrievals.remove(&n)
    }

    /// Drops files from the first on, until `missing` bytes are given back; those
    /// that a taker still needs only if `needed_too`. Gives those that were in
    /// nobody's hands: the others end with whoever has them.
    fn thin(&mut self, n: u64, needed_too: bool, missing: u64) -> Vec<Arc<BatchFile>> {
        let mut freed = Vec::new();
        let Some(r) = self.retrievals.get_mut(&n) else {
            return freed;
        };
        let many = r.droppable(needed_too);
        let mut bytes = 0;
        for _ in 0..many {
            let Some(file) = r.files.pop_front() else {
                break;
            };
            r.dropped += 1;
            if Arc::strong_count(&file) == 1 {
                bytes += file.length;
                freed.push(file);
            }
            // Of what nobody needs, all: without its first file it serves nobody.
            if needed_too && bytes >= missing {
                break;
            }
        }
        self.close(n);
        if self.retrievals.get(&n).is_some_and(Retrieval::is_over) {
            self.forget(n);
        }
        freed
    }

    /// All who took part were stopped: there may be half a batch.
    fn is_stopped(&self, n: u64) -> bool {
        let retrieval = self.retrievals.get(&n);
        retrieval.is_none_or(|r| r.stop.load(Ordering::Relaxed))
    }

    /// Adds a taker to the retrieval of `question`, or to a new one.
    fn enter(
        &mut self,
        question: Option<Question>,
        stop: &Arc<AtomicBool>,
        begin: impl FnOnce() -> Production,
    ) -> (u64, u64) {
        let id = self.number();
        let known = question.as_ref().and_then(|q| self.questions.get(q));
        let n = match known.copied().filter(|n| !self.is_stopped(*n)) {
            Some(n) => n,
            None => {
                let n = self.number();
                if let Some(question) = &question {
                    self.questions.insert(question.clone(), n);
                }
                self.retrievals.insert(n, Retrieval::new(question, begin()));
                n
            }
        };
        if let Some(r) = self.retrievals.get_mut(&n) {
            r.used = Instant::now();
            r.takers.push(Known {
                id,
                taken: 0,
                stop: Arc::clone(stop),
            });
        }
        (id, n)
    }
}

impl Retrieval {
    fn new(question: Option<Question>, production: Production) -> Self {
        Self {
            question,
            files: VecDeque::new(),
            dropped: 0,
            plans: production.plans().cloned(),
            work: Work::Idle(Box::new(production)),
            takers: Vec::new(),
            stop: Arc::default(),
            hungry: Arc::default(),
            used: Instant::now(),
        }
    }

    /// How many files from the first on can be dropped.
    fn droppable(&self, needed_too: bool) -> usize {
        let least = self.takers.iter().map(|t| t.taken).min();
        let passed = match least {
            Some(taken) if !needed_too => taken.saturating_sub(self.dropped) as usize,
            _ => self.files.len(),
        };
        passed.min(self.files.len())
    }

    /// Nobody takes part, and nobody can.
    fn is_over(&self) -> bool {
        self.takers.is_empty() && self.question.is_none()
    }

    /// What taker `id` can do next.
    fn look(&mut self, id: u64) -> Option<Look> {
        let taker = self.takers.iter_mut().find(|t| t.id == id)?;
        let Some(at) = taker.taken.checked_sub(self.dropped) else {
            return Some(Look::Dropped(Arc::clone(self.plans.as_ref()?), taker.taken));
        };
        if self.files.len() > at as usize {
            return Some(Look::Batch);
        }
        Some(match &self.work {
            Work::Done(done) => Look::Done(Arc::clone(done)),
            Work::With(_) => Look::Wait(Arc::clone(&self.hungry)),
            Work::Idle(_) => match std::mem::replace(&mut self.work, Work::With(id)) {
                Work::Idle(production) => {
                    Look::Make(production, Arc::clone(&self.stop), Arc::clone(&self.hungry))
                }
                other => {
                    self.work = other;
                    return None;
                }
            },
        })
    }

    /// The next file of taker `id`, unless it was dropped.
    fn take(&mut self, id: u64) -> Option<Arc<BatchFile>> {
        let taker = self.takers.iter_mut().find(|t| t.id == id)?;
        let at = taker.taken.checked_sub(self.dropped)?;
        let file = self.files.get(at as usize)?;
        taker.taken += 1;
        Some(Arc::clone(file))
    }

    fn kept(&self) -> u64 {
        self.files.iter().map(|f| f.length).sum()
    }
}

impl<'a> Taker<'a> {
    /// Takes part in the retrieval of `question`, if there is one and somebody
    /// retrieves the same; otherwise begins it.
    pub(super) fn enter(
        engine: &'a Engine,
        question: Option<Question>,
        resolved: Resolved,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let begin = || Production::new(resolved.clone());
        let (id, retrieval) = engine.shares.lock().enter(question, stop, begin);
        Self {
            engine,
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
        let made = production.next(self.engine, stop, reserve);
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

impl Table {
    /// Of a retrieval that nobody can join: the files that all have taken.
    fn pass(&mut self, n: u64) -> Vec<Arc<BatchFile>> {
        let mut passed = Vec::new();
        if let Some(r) = self.retrievals.get_mut(&n)
            && r.question.is_none()
        {
            while !r.files.is_empty() && r.takers.iter().all(|t| t.taken > r.dropped) {
                passed.extend(r.files.pop_front());
                r.dropped += 1;
            }
        }
        passed
    }
}

impl Drop for Taker<'_> {
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
