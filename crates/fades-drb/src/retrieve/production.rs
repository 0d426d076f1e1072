//! Making the batches of one DTO, one after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::result::RetrievalFailure;

use super::{AtWork, Engine, Halt, Plans, Resolved, source_failed};
use crate::batches::{BatchFile, Label, Lease};
use crate::chunk::ChunkSeries;
use crate::csv::{Fetch, Walk};
use crate::tally::Tally;

/// So many readings leave memory behind that is worth giving back.
const MANY_ROWS: usize = 64 << 10;

/// A retrieval, as far as it has come. Whoever has it can make the next batch.
pub(super) struct Production {
    resolved: Resolved,
    /// What the sources have, once somebody looked.
    plans: Option<Arc<Plans>>,
    /// Index of the source at hand, and the way through its plan.
    at: usize,
    walk: Walk,
    /// Number in the run of that source's first series.
    first_id: u32,
    sequence: u32,
    /// Batches that are counted and not made.
    skip: u32,
    coverage: Coverage,
    answered: HashSet<(Name, Arc<str>)>,
    tally: Tally,
}

/// What a retrieval came to.
#[derive(Debug)]
pub(crate) struct Done {
    /// Under the name of the DTO that began it.
    pub(super) coverage: Coverage,
    pub(super) failure: Option<RetrievalFailure>,
}

impl Production {
    pub(super) fn new(resolved: Resolved) -> Self {
        Self {
            plans: None,
            at: 0,
            walk: Walk::default(),
            first_id: 0,
            sequence: 0,
            skip: 0,
            coverage: Coverage::new(resolved.dto.name.clone()),
            answered: HashSet::new(),
            tally: Tally::default(),
            resolved,
        }
    }

    /// The same batches again, of which the first `skip` are not wanted.
    pub(super) fn again(resolved: Resolved, plans: Arc<Plans>, skip: u32) -> Self {
        let mut production = Self::new(resolved);
        production.skip = skip;
        production.begin(plans);
        production
    }

    fn begin(&mut self, plans: Arc<Plans>) {
        self.coverage.matched = plans.matched;
        for part in &plans.parts {
            self.tally.add(part.plan.tally.clone());
        }
        self.plans = Some(plans);
    }

    pub(super) const fn plans(&self) -> Option<&Arc<Plans>> {
        self.plans.as_ref()
    }

    /// Makes the next batch; `None` when there are no more. `reserve` waits for
    /// room for a file of so many bytes, so that the budget bounds what is
    /// gathered too; when it gives up, nothing was begun.
    pub(super) fn next(
        &mut self,
        engine: &Engine,
        stop: &Arc<AtomicBool>,
        reserve: impl Fn(u64) -> Option<Lease>,
    ) -> Result<Option<BatchFile>, Halt> {
        let plans = match &self.plans {
            Some(plans) => Arc::clone(plans),
            None => {
                let plans = Arc::new(engine.plans(&self.resolved, stop)?);
                self.begin(Arc::clone(&plans));
                plans
            }
        };
        let capacity = self.resolved.capacity;
        while let Some(part) = plans.parts.get(self.at) {
            let Some(bytes) = self.walk.ahead(&part.plan, capacity) else {
                self.at += 1;
                self.first_id += part.plan.series.len() as u32;
                self.walk = Walk::default();
                continue;
            };
            let lease = if self.sequence < self.skip {
                None
            } else {
                let length = bytes.next_multiple_of(fades_abi::INPUT_PAGE);
                Some(reserve(length).ok_or(Halt::Stopped)?)
            };
            if let Some(batch) = self.batch(engine, stop, &part.name, &part.plan, lease)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Gathers the next chunk and makes a batch of it, unless it has no reading
    /// or is to be skipped.
    fn batch(
        &mut self,
        engine: &Engine,
        stop: &Arc<AtomicBool>,
        source: &Name,
        plan: &crate::csv::Plan,
        lease: Option<Lease>,
    ) -> Result<Option<BatchFile>, Halt> {
        let AtWork::Csv(csv) = &engine.sources[source];
        let fetch = Fetch {
            pool: &engine.pool,
            selector: &self.resolved.selector,
            capacity: self.resolved.capacity,
            stop,
            first_id: self.first_id,
        };
        let gathered = csv.gather(&fetch, plan, &mut self.walk);
        let (chunk, tally) = gathered.map_err(|e| {
            self.coverage.failed += super::devices(source, plan).len() as u64;
            source_failed(&self.resolved.dto, source, e)
        })?;
        self.tally.add(tally);
        let mut heard = chunk.series.iter().filter(|s| s.rows() > 0).peekable();
        if heard.peek().is_none() {
            return Ok(None);
        }
        self.answered
            .extend(heard.map(|s| (source.clone(), Arc::clone(&s.key.device))));
        let label = Label {
            dto: self.resolved.index,
            sequence: self.sequence,
        };
        self.sequence += 1;
        let Some(lease) = lease else { return Ok(None) };
        let rows: usize = chunk.series.iter().map(ChunkSeries::rows).sum();
        if rows > MANY_ROWS {
            engine.used.store(true, Ordering::Relaxed);
        }
        let batch = engine.batches.write(label, chunk, lease);
        batch.map(Some).map_err(|e| {
            Halt::Failed(RetrievalFailure::NoRoom {
                dto: self.resolved.dto.name.clone(),
                reason: e.to_string(),
            })
        })
    }

    /// What it came to, when there is no more or `failure` ended it.
    pub(super) fn done(mut self, failure: Option<RetrievalFailure>) -> Done {
        super::settle(&mut self.coverage, &self.answered, &self.tally);
        Done {
            coverage: self.coverage,
            failure,
        }
    }
}
