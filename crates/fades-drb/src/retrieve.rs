//! One DTO: from its selector to batches and coverage.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::mtw::Dto;
use fades_task::result::RetrievalFailure;

use crate::batches::{BatchFile, Batches, Label, Lease, Urgency};
use crate::chunk::{Capacity, Chunk};
use crate::config::{Source, Sources, SourcesError};
use crate::csv::{CsvFiles, Fetch, Plan, ReadError};
use crate::pool::Pool;
use crate::selector::{self, Selector};
use crate::tally::Tally;

mod inspect;

/// The sources at work, and what retrieving from them needs.
pub(crate) struct Engine {
    sources: BTreeMap<Name, AtWork>,
    pool: Pool,
    batches: Batches,
}

/// A source at work.
enum AtWork {
    Csv(CsvFiles),
}

/// Why a retrieval ended early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Somebody asked for it, or nobody takes the batches any more.
    Stopped,
    /// It cannot be done.
    Failed(RetrievalFailure),
}

/// Takes the chunks of one DTO from its sources and makes batches of them.
pub(crate) struct Delivery<'a> {
    engine: &'a Engine,
    dto: &'a Dto,
    /// Index of the DTO in the task.
    index: u32,
    sequence: u32,
    source: Name,
    answered: HashSet<(Name, Arc<str>)>,
    tally: Tally,
    urgency: &'a (dyn Fn() -> Urgency + Sync),
    out: &'a mut dyn FnMut(BatchFile) -> Result<(), Halt>,
}

/// Where one DTO's batches go, and how urgent they are.
pub(crate) struct Outlet<'a> {
    /// Index of the DTO in the task.
    pub(crate) index: u32,
    /// What fits into a batch.
    pub(crate) capacity: Capacity,
    pub(crate) stop: &'a Arc<AtomicBool>,
    pub(crate) urgency: &'a (dyn Fn() -> Urgency + Sync),
    pub(crate) out: &'a mut dyn FnMut(BatchFile) -> Result<(), Halt>,
}

impl Engine {
    /// Sources that were checked; relative paths begin at `base`.
    pub(crate) fn new(
        sources: &Sources,
        base: &Path,
        pool: Pool,
        batches: Batches,
    ) -> Result<Self, SourcesError> {
        let at_work = sources.0.iter().map(|(name, source)| {
            let at_work = match source {
                Source::Csv(csv) => CsvFiles::new(csv, base).map(AtWork::Csv),
            };
            let failed = |e: crate::config::FieldError| e.of(name);
            Ok((name.clone(), at_work.map_err(failed)?))
        });
        Ok(Self {
            sources: at_work.collect::<Result<_, _>>()?,
            pool,
            batches,
        })
    }

    pub(crate) const fn batches(&self) -> &Batches {
        &self.batches
    }

    /// The sources that a DTO can mean.
    fn asked(&self, dto: &Dto, selector: &Selector) -> Result<Vec<(&Name, &AtWork)>, Halt> {
        if let Some(name) = &dto.source
            && !self.sources.contains_key(name)
        {
            return Err(Halt::Failed(RetrievalFailure::Selector {
                dto: dto.name.clone(),
                reason: format!(
                    "source {name} is none of this node: {}",
                    list(self.sources.keys().map(Name::as_str))
                ),
            }));
        }
        let asked = self.sources.iter().filter(|(name, at_work)| {
            dto.source.as_ref().is_none_or(|s| s == *name)
                && match at_work {
                    AtWork::Csv(csv) => csv.may_match(selector),
                }
        });
        Ok(asked.collect())
    }

    /// Fetches one DTO. The coverage is what was reached, also on failure.
    pub(crate) fn retrieve(&self, dto: &Dto, outlet: Outlet<'_>) -> (Coverage, Result<(), Halt>) {
        let mut coverage = Coverage::new(dto.name.clone());
        let done = self.retrieve_into(dto, outlet, &mut coverage);
        (coverage, done)
    }

    fn retrieve_into(
        &self,
        dto: &Dto,
        outlet: Outlet<'_>,
        coverage: &mut Coverage,
    ) -> Result<(), Halt> {
        let selector = compiled(dto)?;
        let plans = self.plans(dto, &selector, outlet.stop, coverage)?;
        let mut delivery = Delivery {
            engine: self,
            dto,
            index: outlet.index,
            sequence: 0,
            source: dto.name.clone(),
            answered: HashSet::new(),
            tally: Tally::default(),
            urgency: outlet.urgency,
            out: outlet.out,
        };
        let mut first_id = 0;
        let mut done = Ok(());
        for (name, AtWork::Csv(csv), plan) in &plans {
            delivery.source = (*name).clone();
            delivery.tally.add(plan.tally.clone());
            let fetch = Fetch {
                pool: &self.pool,
                selector: &selector,
                capacity: outlet.capacity,
                stop: outlet.stop,
                first_id,
            };
            first_id += plan.series.len() as u32;
            done = csv.fetch(&fetch, plan, &mut delivery).map_err(|e| match e {
                crate::csv::FetchError::Read(e) => {
                    coverage.failed += devices(name, plan).len() as u64;
                    source_failed(dto, name, e)
                }
                crate::csv::FetchError::Halt(halt) => halt,
            });
            if done.is_err() {
                break;
            }
        }
        let Delivery {
            answered, tally, ..
        } = delivery;
        settle(coverage, &answered, &tally);
        done?;
        enough(dto, coverage)
    }

    /// What the sources have for a DTO; counts the devices that match.
    fn plans(
        &self,
        dto: &Dto,
        selector: &Selector,
        stop: &Arc<AtomicBool>,
        coverage: &mut Coverage,
    ) -> Result<Vec<(&Name, &AtWork, Plan)>, Halt> {
        let mut plans = Vec::new();
        for (name, at_work) in self.asked(dto, selector)? {
            let AtWork::Csv(csv) = at_work;
            let plan = csv
                .plan(&self.pool, selector, stop)
                .map_err(|e| source_failed(dto, name, e))?;
            coverage.matched += devices(name, &plan).len() as u64;
            plans.push((name, at_work, plan));
        }
        if coverage.matched == 0 {
            return Err(Halt::Failed(RetrievalFailure::NothingMatches {
                dto: dto.name.clone(),
                selector: selector::words(dto),
                known: self.known(stop),
            }));
        }
        Ok(plans)
    }

    /// Kinds, locations and sources of the node, in words.
    fn known(&self, stop: &Arc<AtomicBool>) -> String {
        let (mut kinds, mut locations) = (BTreeSet::new(), BTreeSet::new());
        let mut silent = Vec::new();
        for (name, AtWork::Csv(csv)) in &self.sources {
            match csv.plan(&self.pool, &Selector::all(), stop) {
                Ok(plan) if plan.series.is_empty() => {
                    silent.push(format!("source {name} has no rows in {}", csv.reads()));
                }
                Ok(plan) => {
                    kinds.extend(plan.series.iter().map(|s| s.key.kind.to_string()));
                    locations.extend(plan.series.iter().map(|s| s.key.location.to_string()));
                }
                Err(e) => silent.push(format!("source {name}: {e}")),
            }
        }
        locations.remove("");
        let mut known = Vec::new();
        for (what, names) in [("kinds", &kinds), ("locations", &locations)] {
            if !names.is_empty() {
                known.push(format!("{what} {}", list(names.iter().map(String::as_str))));
            }
        }
        known.extend(silent);
        if self.sources.is_empty() {
            known.push("no source is configured".to_owned());
        }
        known.join("; ")
    }
}

/// Names in words, the first few of many.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let more = names.len().saturating_sub(MOST);
    let mut shown: Vec<String> = names.take(MOST).map(str::to_owned).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

fn compiled(dto: &Dto) -> Result<Selector, Halt> {
    Selector::compile(dto).map_err(|reason| {
        let dto = dto.name.clone();
        Halt::Failed(RetrievalFailure::Selector { dto, reason })
    })
}

fn source_failed(dto: &Dto, source: &Name, e: ReadError) -> Halt {
    match e {
        ReadError::Stopped => Halt::Stopped,
        e => Halt::Failed(RetrievalFailure::Source {
            dto: dto.name.clone(),
            source_name: source.clone(),
            reason: e.to_string(),
        }),
    }
}

fn devices<'a>(name: &'a Name, plan: &'a Plan) -> HashSet<(&'a Name, &'a str)> {
    let devices = plan.series.iter().map(|s| (name, &*s.key.device));
    devices.collect()
}

/// Writes what was counted into the coverage.
fn settle(coverage: &mut Coverage, answered: &HashSet<(Name, Arc<str>)>, tally: &Tally) {
    coverage.answered = answered.len() as u64;
    coverage.failed = coverage.failed.min(coverage.matched - coverage.answered);
    coverage.empty = coverage.matched - coverage.answered - coverage.failed;
    coverage.used = tally.used;
    coverage.marked = tally.marked;
    coverage.lost.clone_from(&tally.lost);
    coverage.read = tally.used + tally.lost_total();
    coverage.cited = tally.cited();
    coverage.rows = tally.rows;
    coverage.bytes = tally.bytes;
}

/// Whether the data is as complete and as good as the DTO wants.
fn enough(dto: &Dto, coverage: &Coverage) -> Result<(), Halt> {
    let lost = coverage.lost_total();
    if let Some(allowed) = dto.bad_rows
        && lost as f64 > allowed.fraction() * coverage.read as f64
    {
        let first = coverage.cited.first().map_or_else(String::new, |bad| {
            let column = bad
                .column
                .as_deref()
                .map_or(String::new(), |c| format!(" ({c})"));
            format!("{}:{}{column}: {}", bad.file, bad.line, bad.reason.words())
        });
        return Err(Halt::Failed(RetrievalFailure::TooManyBad {
            dto: dto.name.clone(),
            bad: lost,
            read: coverage.read,
            allowed: String::from(allowed),
            first,
        }));
    }
    let needed = match dto.need {
        // Rounded so that 80% of 5 is 4.
        Some(share) => (share.fraction() * coverage.matched as f64 - 1e-9).ceil() as u64,
        None => 1,
    };
    if coverage.answered < needed {
        return Err(Halt::Failed(RetrievalFailure::TooFewAnswered {
            dto: dto.name.clone(),
            answered: coverage.answered,
            matched: coverage.matched,
            needed: dto
                .need
                .map_or_else(|| "one at least".to_owned(), String::from),
        }));
    }
    Ok(())
}

impl Delivery<'_> {
    /// Waits for room for a batch of up to `bytes`. Whoever gathers readings
    /// reserves first, so that the budget bounds what is in memory too.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<Lease, Halt> {
        let length = bytes.next_multiple_of(fades_abi::INPUT_PAGE);
        self.engine
            .batches
            .budget()
            .reserve(length, self.urgency)
            .ok_or(Halt::Stopped)
    }

    /// Makes a batch of `chunk`, unless it is empty, and hands it on.
    pub(crate) fn take(&mut self, chunk: Chunk, tally: Tally, lease: Lease) -> Result<(), Halt> {
        self.tally.add(tally);
        let mut heard = chunk.series.iter().filter(|s| s.rows() > 0).peekable();
        if heard.peek().is_none() {
            return Ok(());
        }
        self.answered
            .extend(heard.map(|s| (self.source.clone(), Arc::clone(&s.key.device))));
        let label = Label {
            dto: self.index,
            sequence: self.sequence,
        };
        self.sequence += 1;
        let batch = self.engine.batches.write(label, chunk, lease);
        let batch = batch.map_err(|e| {
            Halt::Failed(RetrievalFailure::NoRoom {
                dto: self.dto.name.clone(),
                reason: e.to_string(),
            })
        })?;
        (self.out)(batch)
    }
}

/// What a run that was asked to stop wants of the budget.
pub(crate) fn unless_stopped(stop: &AtomicBool, otherwise: Urgency) -> Urgency {
    if stop.load(Ordering::Relaxed) {
        Urgency::Never
    } else {
        otherwise
    }
}
