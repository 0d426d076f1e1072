//! Making the batches of one DTO, one after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fades_task::coverage::{Absent, Coverage};
use fades_task::identity::Name;
use fades_task::result::RetrievalFailure;

use super::{Engine, Halt, Has, Plans, Resolved, read_failed, source_failed};
use crate::batches::{BatchFile, Label, Lease};
use crate::chunk::{Chunk, ChunkSeries};
use crate::csv::{Fetch, Plan, Walk};
use crate::flow::{Ahead, Assembly};
use crate::source::Worker;
use crate::tally::Tally;
use crate::units;

/// So many readings leave memory behind that is worth giving back.
const MANY_ROWS: usize = 64 << 10;

/// Most absent devices that are named.
const MOST_ABSENT: usize = 20;

/// Most gaps that are told: the newest.
const MOST_GAPS: usize = 20;

/// A retrieval, as far as it has come. Whoever has it can make the next batch.
pub(super) struct Production {
    resolved: Resolved,
    /// What the sources have, once somebody looked.
    plans: Option<Arc<Plans>>,
    /// What the sources send, by the index of their part; they send all at the
    /// same time.
    flows: Vec<Option<Assembly>>,
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
    absent: Vec<Absent>,
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
            flows: Vec::new(),
            at: 0,
            walk: Walk::default(),
            first_id: 0,
            sequence: 0,
            skip: 0,
            coverage: Coverage::new(resolved.dto.name.clone()),
            answered: HashSet::new(),
            absent: Vec::new(),
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
            if let Has::Files(plan) = &part.has {
                self.tally.add(plan.tally.clone());
            }
        }
        self.plans = Some(plans);
    }

    pub(super) const fn plans(&self) -> Option<&Arc<Plans>> {
        self.plans.as_ref()
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.resolved.is_repeatable()
    }

    /// Makes the next batch; `None` when there are no more. `reserve` waits for
    /// room for a file of so many bytes, so that the budget bounds what is
    /// gathered too; when it gives up, nothing was begun.
    pub(super) fn next(
        &mut self,
        engine: &Arc<Engine>,
        stop: &Arc<AtomicBool>,
        reserve: impl Fn(u64) -> Option<Lease>,
    ) -> Result<Option<BatchFile>, Halt> {
        let plans = match &self.plans {
            Some(plans) => Arc::clone(plans),
            None => {
                let plans = Arc::new(engine.plans(&self.resolved, stop)?);
                self.begin(Arc::clone(&plans));
                self.open(engine, &plans, stop);
                plans
            }
        };
        while let Some(part) = plans.parts.get(self.at) {
            let made = match &part.has {
                Has::Files(plan) => self.of_files(engine, stop, &part.name, plan, &reserve)?,
                Has::Flow => self.of_flow(engine, stop, &reserve)?,
            };
            match made {
                Made::Batch(batch) => return Ok(Some(*batch)),
                Made::Nothing => {}
                Made::End => self.at += 1,
            }
        }
        if self.coverage.matched == 0 {
            return Err(engine.nothing(&self.resolved.dto, &self.resolved.selector, stop));
        }
        Ok(None)
    }

    /// Lets all sources that send begin.
    fn open(&mut self, engine: &Arc<Engine>, plans: &Plans, stop: &Arc<AtomicBool>) {
        let (unit, capacity) = (self.resolved.dto.unit.as_deref(), self.resolved.capacity);
        let flows = plans.parts.iter().map(|part| match part.has {
            Has::Files(_) => None,
            Has::Flow => {
                let number = self.resolved.number(&part.name);
                let inlet = engine.flow(&part.name, number, &self.resolved, stop);
                Some(Assembly::new(part.name.clone(), inlet, unit, capacity))
            }
        });
        self.flows = flows.collect();
    }

    fn of_files(
        &mut self,
        engine: &Engine,
        stop: &Arc<AtomicBool>,
        source: &Name,
        plan: &Plan,
        reserve: &impl Fn(u64) -> Option<Lease>,
    ) -> Result<Made, Halt> {
        let Some(bytes) = self.walk.ahead(plan, self.resolved.capacity) else {
            self.first_id += plan.series.len() as u32;
            self.walk = Walk::default();
            return Ok(Made::End);
        };
        let lease = if self.sequence < self.skip {
            None
        } else {
            let length = bytes.next_multiple_of(fades_abi::INPUT_PAGE);
            Some(reserve(length).ok_or(Halt::Stopped)?)
        };
        let at_work = &engine.sources[source];
        let Worker::Csv(csv) = &at_work.worker else {
            return Ok(Made::End);
        };
        let selector = self.resolved.selector.with(&at_work.notes);
        let fetch = Fetch {
            pool: &engine.pool,
            selector: &selector,
            capacity: self.resolved.capacity,
            stop,
            first_id: self.first_id,
        };
        let gathered = csv.gather(&fetch, plan, &mut self.walk);
        let (mut chunk, tally) = gathered.map_err(|e| {
            let devices = plan.series.iter().map(|s| &s.key.device);
            self.coverage.failed += devices.collect::<HashSet<_>>().len() as u64;
            read_failed(&self.resolved.dto, source, e)
        })?;
        self.tally.add(tally);
        if let Some(unit) = &self.resolved.dto.unit {
            units::convert(&mut chunk, unit, &mut self.tally);
        }
        let heard = chunk.series.iter().filter(|s| s.rows() > 0);
        self.answered
            .extend(heard.map(|s| (source.clone(), Arc::clone(&s.key.device))));
        self.batch(engine, chunk, lease)
    }

    fn of_flow(
        &mut self,
        engine: &Engine,
        stop: &Arc<AtomicBool>,
        reserve: &impl Fn(u64) -> Option<Lease>,
    ) -> Result<Made, Halt> {
        let Some(flow) = self.flows.get_mut(self.at).and_then(Option::as_mut) else {
            return Ok(Made::End);
        };
        let bytes = match flow.ahead(stop) {
            Ahead::Bytes(bytes) => bytes,
            Ahead::Stopped => return Err(Halt::Stopped),
            Ahead::End => {
                self.end_flow()?;
                return Ok(Made::End);
            }
        };
        let length = bytes.next_multiple_of(fades_abi::INPUT_PAGE);
        let lease = reserve(length).ok_or(Halt::Stopped)?;
        let chunk = flow.chunk(self.first_id, stop).ok_or(Halt::Stopped)?;
        self.batch(engine, chunk, Some(lease))
    }

    /// Counts what a source that sends came to.
    fn end_flow(&mut self) -> Result<(), Halt> {
        let Some(flow) = self.flows.get_mut(self.at).and_then(Option::take) else {
            return Ok(());
        };
        self.first_id += flow.series();
        let source = flow.source().clone();
        let outcome = flow.outcome();
        self.coverage.matched += outcome.asked.len() as u64;
        self.tally.add(outcome.tally);
        self.coverage.gaps.extend(outcome.gaps);
        let absent = outcome.absent.into_iter();
        let absent: Vec<_> = absent
            .filter(|(device, _)| !outcome.answered.contains(device))
            .collect();
        self.coverage.late += absent.iter().filter(|(_, a)| a.late).count() as u64;
        self.coverage.failed += absent.iter().filter(|(_, a)| !a.late).count() as u64;
        if let Some(reason) = outcome.failure {
            // With `need` it is told what is enough, and who did not answer.
            let known = !outcome.asked.is_empty() && self.resolved.dto.need.is_some();
            let silent = outcome.asked.len() - outcome.answered.len() - absent.len();
            self.coverage.failed += silent as u64;
            if !known {
                return Err(source_failed(&self.resolved.dto, &source, reason));
            }
            let silent = outcome.asked.iter().filter(|d| {
                !outcome.answered.contains(*d) && !absent.iter().any(|(known, _)| known == *d)
            });
            self.absent.extend(silent.map(|device| Absent {
                source: source.clone(),
                device: device.to_string(),
                late: false,
                since: None,
                reason: reason.clone(),
            }));
        }
        self.absent.extend(absent.into_iter().map(|(_, a)| a));
        let answered = outcome.answered.into_iter();
        self.answered.extend(answered.map(|d| (source.clone(), d)));
        Ok(())
    }

    /// Makes a batch of a chunk, unless it has no reading or is to be skipped.
    fn batch(&mut self, engine: &Engine, chunk: Chunk, lease: Option<Lease>) -> Result<Made, Halt> {
        let rows: usize = chunk.series.iter().map(ChunkSeries::rows).sum();
        if rows == 0 {
            return Ok(Made::Nothing);
        }
        let label = Label {
            dto: self.resolved.index,
            sequence: self.sequence,
        };
        self.sequence += 1;
        let Some(lease) = lease else {
            return Ok(Made::Nothing);
        };
        if rows > MANY_ROWS {
            engine.used.store(true, Ordering::Relaxed);
        }
        let batch = engine.batches.write(label, chunk, lease);
        let batch = batch.map_err(|e| {
            Halt::Failed(RetrievalFailure::NoRoom {
                dto: self.resolved.dto.name.clone(),
                reason: e.to_string(),
            })
        })?;
        Ok(Made::Batch(Box::new(batch)))
    }

    /// What it came to, when there is no more or `failure` ended it.
    pub(super) fn done(mut self, failure: Option<RetrievalFailure>) -> Done {
        self.absent.sort_unstable();
        self.absent.truncate(MOST_ABSENT);
        self.coverage.absent = self.absent;
        let gaps = &mut self.coverage.gaps;
        gaps.sort_unstable_by_key(|gap| gap.to);
        gaps.drain(..gaps.len().saturating_sub(MOST_GAPS));
        settle(&mut self.coverage, self.answered.len(), &self.tally);
        Done {
            coverage: self.coverage,
            failure,
        }
    }
}

/// What a step came to.
enum Made {
    Batch(Box<BatchFile>),
    /// Nothing to show, and there may be more.
    Nothing,
    /// The source at hand has no more.
    End,
}

/// Writes what was counted into the coverage.
pub(super) fn settle(coverage: &mut Coverage, answered: usize, tally: &Tally) {
    coverage.answered = answered as u64;
    let silent = coverage.matched - coverage.answered;
    coverage.late = coverage.late.min(silent);
    coverage.failed = coverage.failed.min(silent - coverage.late);
    coverage.empty = silent - coverage.late - coverage.failed;
    coverage.used = tally.used;
    coverage.marked = tally.marked;
    coverage.lost.clone_from(&tally.lost);
    coverage.read = tally.used + tally.lost_total();
    coverage.cited = tally.cited();
    coverage.rows = tally.rows;
    coverage.bytes = tally.bytes;
}
