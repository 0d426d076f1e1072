//! Which retrievals there are, who takes part in them, and which of their files
//! are still here. Nothing in here waits, reads or writes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use fades_task::identity::Name;

use crate::batches::BatchFile;
use crate::chunk::Capacity;
use crate::retrieve::Plans;
use crate::retrieve::production::{Done, Production};

/// Everything that decides what is in the batches of a DTO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::retrieve) struct Question {
    /// Index of the DTO in its task, which stands in the header of a batch.
    pub(in crate::retrieve) index: u32,
    pub(in crate::retrieve) capacity: Capacity,
    /// What the DTO says, without its name.
    pub(in crate::retrieve) asks: String,
    /// The sources that are asked, with the number of their state.
    pub(in crate::retrieve) states: Vec<(Name, u64)>,
    /// How long devices may take, if it matters, [`rounded`](crate::flow::rounded): who waits longer shall not be told that one
    /// is late because somebody else could not wait.
    pub(in crate::retrieve) patience: Option<(u32, u64)>,
}

#[derive(Default)]
pub(super) struct Table {
    /// For numbers of retrievals and of takers.
    pub(super) next: u64,
    pub(super) retrievals: HashMap<u64, Retrieval>,
    pub(super) questions: HashMap<Question, u64>,
}

pub(super) struct Retrieval {
    /// Set while others can join: all files are still here.
    pub(super) question: Option<Question>,
    pub(super) files: VecDeque<Arc<BatchFile>>,
    /// Number of files before the first one that is still here.
    pub(super) dropped: u32,
    pub(super) work: Work,
    pub(super) plans: Option<Arc<Plans>>,
    /// A file that was dropped can be made again.
    pub(super) repeatable: bool,
    pub(super) takers: Vec<Known>,
    /// Ends the making of a batch that nobody wants any more.
    pub(super) stop: Arc<AtomicBool>,
    /// Takers that have nothing and wait for another to make a batch.
    pub(super) hungry: Arc<AtomicU32>,
    pub(super) used: Instant,
}

pub(super) enum Work {
    /// Nobody is making a batch just now.
    Idle(Box<Production>),
    /// This taker is.
    With(u64),
    Done(Arc<Done>),
}

/// What is known of a taker.
pub(super) struct Known {
    pub(super) id: u64,
    /// Files that it has taken.
    pub(super) taken: u32,
    pub(super) stop: Arc<AtomicBool>,
}

/// What a look at a retrieval says.
pub(super) enum Look {
    Batch,
    Done(Arc<Done>),
    Make(Box<Production>, Arc<AtomicBool>, Arc<AtomicU32>),
    /// The next file was dropped; so many were taken.
    Dropped(Arc<Plans>, u32),
    Wait(Arc<AtomicU32>),
}

impl Table {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn numbers(&self, which: impl Fn(&Retrieval) -> bool) -> Vec<u64> {
        let found = self.retrievals.iter().filter(|(_, r)| which(r));
        found.map(|(n, _)| *n).collect()
    }

    /// Of the retrievals that have files in nobody's hands, the one that was not
    /// used for longest.
    pub(super) fn longest_unused(&self, needed_too: bool) -> Option<u64> {
        let is_kept = |f: &Arc<BatchFile>| Arc::strong_count(f) == 1;
        let has = |r: &Retrieval| {
            let mut files = r.files.iter().take(r.droppable(needed_too));
            files.any(is_kept)
        };
        let found = self.retrievals.iter().filter(|(_, r)| has(r));
        found.min_by_key(|(_, r)| r.used).map(|(n, _)| *n)
    }

    /// Nobody can join any more.
    pub(super) fn close(&mut self, n: u64) {
        let question = self.retrievals.get_mut(&n).and_then(|r| r.question.take());
        if let Some(question) = question {
            self.questions.remove(&question);
        }
    }

    pub(super) fn forget(&mut self, n: u64) -> Option<Retrieval> {
        self.close(n);
        self.retrievals.remove(&n)
    }

    /// Drops files from the first on, until `missing` bytes are given back; those
    /// that a taker still needs only if `needed_too`. Gives those that were in
    /// nobody's hands: the others end with whoever has them.
    pub(super) fn thin(&mut self, n: u64, needed_too: bool, missing: u64) -> Vec<Arc<BatchFile>> {
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
    pub(super) fn is_stopped(&self, n: u64) -> bool {
        let retrieval = self.retrievals.get(&n);
        retrieval.is_none_or(|r| r.stop.load(Ordering::Relaxed))
    }

    /// Adds a taker to the retrieval of `question`, or to a new one.
    pub(super) fn enter(
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
    pub(super) fn new(question: Option<Question>, production: Production) -> Self {
        Self {
            question,
            files: VecDeque::new(),
            dropped: 0,
            plans: production.plans().cloned(),
            repeatable: production.is_repeatable(),
            work: Work::Idle(Box::new(production)),
            takers: Vec::new(),
            stop: Arc::default(),
            hungry: Arc::default(),
            used: Instant::now(),
        }
    }

    /// How many files from the first on can be dropped.
    pub(super) fn droppable(&self, needed_too: bool) -> usize {
        let least = self.takers.iter().map(|t| t.taken).min();
        let passed = match least {
            Some(taken) if !(needed_too && self.repeatable) => {
                taken.saturating_sub(self.dropped) as usize
            }
            _ => self.files.len(),
        };
        passed.min(self.files.len())
    }

    /// Nobody takes part, and nobody can.
    pub(super) fn is_over(&self) -> bool {
        self.takers.is_empty() && self.question.is_none()
    }

    /// What taker `id` can do next.
    pub(super) fn look(&mut self, id: u64) -> Option<Look> {
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
    pub(super) fn take(&mut self, id: u64) -> Option<Arc<BatchFile>> {
        let taker = self.takers.iter_mut().find(|t| t.id == id)?;
        let at = taker.taken.checked_sub(self.dropped)?;
        let file = self.files.get(at as usize)?;
        taker.taken += 1;
        Some(Arc::clone(file))
    }

    pub(super) fn kept(&self) -> u64 {
        self.files.iter().map(|f| f.length).sum()
    }
}

impl Table {
    /// Of a retrieval that nobody can join: the files that all have taken.
    pub(super) fn pass(&mut self, n: u64) -> Vec<Arc<BatchFile>> {
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
