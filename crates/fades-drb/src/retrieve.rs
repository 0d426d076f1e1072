//! One DTO: from its selector to batches and coverage.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::mtw::Dto;
use fades_task::result::RetrievalFailure;

use crate::batches::Batches;
use crate::chunk::Capacity;
use crate::config::{Source, Sources, SourcesError};
use crate::csv::{CsvFiles, Plan, ReadError, Snapshot};
use crate::pool::Pool;
use crate::selector::{self, Selector};
use crate::tally::Tally;

mod inspect;
mod production;
mod shares;

pub(crate) use production::Done;
pub(crate) use shares::{Next, Shares, Taker};

use shares::Question;

/// The sources at work, and what retrieving from them needs.
pub(crate) struct Engine {
    sources: BTreeMap<Name, AtWork>,
    pool: Pool,
    batches: Batches,
    shares: Shares,
    /// Much was gathered since memory was given back.
    used: AtomicBool,
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

/// A DTO whose selector is compiled, and its sources as they are now.
#[derive(Clone)]
struct Resolved {
    dto: Dto,
    /// Index of the DTO in the task.
    index: u32,
    capacity: Capacity,
    selector: Selector,
    asked: Vec<(Name, Arc<Snapshot>)>,
}

/// What the sources have for a DTO.
struct Plans {
    parts: Vec<Part>,
    /// Devices that match.
    matched: u64,
}

/// What one source has.
struct Part {
    name: Name,
    plan: Plan,
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
            shares: Shares::new(Arc::clone(batches.budget())),
            batches,
            used: AtomicBool::new(false),
        })
    }

    pub(crate) const fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Gives memory back, if there may be some: it takes long.
    pub(crate) fn trim(&self) {
        if self.used.swap(false, Ordering::Relaxed) {
            crate::memory::trim();
        }
    }

    pub(crate) const fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Takes part in retrieving what DTO number `index` of a task asks for, in
    /// batches of `capacity`.
    pub(crate) fn open(
        &self,
        dto: &Dto,
        index: u32,
        capacity: Capacity,
        stop: &Arc<AtomicBool>,
    ) -> Result<Taker<'_>, Halt> {
        let resolved = self.resolve(dto, index, capacity)?;
        let question = resolved.question();
        Ok(Taker::enter(self, question, resolved, stop))
    }

    fn resolve(&self, dto: &Dto, index: u32, capacity: Capacity) -> Result<Resolved, Halt> {
        let selector = compiled(dto)?;
        let asked = self.asked(dto, &selector)?.into_iter();
        let asked = asked.map(|(name, AtWork::Csv(csv))| {
            let snapshot = csv.snapshot().map_err(|e| source_failed(dto, name, e))?;
            Ok((name.clone(), snapshot))
        });
        Ok(Resolved {
            asked: asked.collect::<Result<_, _>>()?,
            dto: dto.clone(),
            index,
            capacity,
            selector,
        })
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

    /// What the sources have for a DTO.
    fn plans(&self, resolved: &Resolved, stop: &Arc<AtomicBool>) -> Result<Plans, Halt> {
        let Resolved { dto, selector, .. } = resolved;
        let parts = resolved.asked.iter().map(|(name, snapshot)| {
            let AtWork::Csv(csv) = &self.sources[name];
            let plan = csv.plan(&self.pool, snapshot, selector, stop);
            Ok(Part {
                name: name.clone(),
                plan: plan.map_err(|e| source_failed(dto, name, e))?,
            })
        });
        let parts = parts.collect::<Result<Vec<_>, Halt>>()?;
        let matched = parts.iter().map(|p| devices(&p.name, &p.plan).len() as u64);
        let matched = matched.sum();
        if matched == 0 {
            return Err(Halt::Failed(RetrievalFailure::NothingMatches {
                dto: dto.name.clone(),
                selector: selector::words(dto),
                known: self.known(stop),
            }));
        }
        Ok(Plans { parts, matched })
    }

    /// Kinds, locations and sources of the node, in words.
    fn known(&self, stop: &Arc<AtomicBool>) -> String {
        let (mut kinds, mut locations) = (BTreeSet::new(), BTreeSet::new());
        let mut silent = Vec::new();
        for (name, AtWork::Csv(csv)) in &self.sources {
            match csv.plan_now(&self.pool, &Selector::all(), stop) {
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

impl Resolved {
    /// What to compare with other DTOs; `None` when the files changed so short a
    /// while ago that another change could look the same.
    fn question(&self) -> Option<Question> {
        let sorted = |patterns: &[String]| {
            let mut patterns = patterns.to_vec();
            patterns.sort_unstable();
            patterns.dedup();
            patterns
        };
        let states = self.asked.iter();
        let states = states.map(|(name, s)| Some((name.clone(), s.number?)));
        Some(Question {
            index: self.index,
            capacity: self.capacity,
            kind: sorted(&self.dto.kind),
            location: sorted(&self.dto.location),
            device: sorted(&self.dto.device),
            from: self.dto.from.0,
            to: self.dto.to.0,
            states: states.collect::<Option<_>>()?,
        })
    }
}

impl Done {
    /// What the retrieval means for a DTO: coverage, and whether that is enough.
    pub(crate) fn judged(&self, dto: &Dto) -> (Coverage, Result<(), Halt>) {
        let mut coverage = self.coverage.clone();
        coverage.name.clone_from(&dto.name);
        let done = match &self.failure {
            Some(failure) => Err(Halt::Failed(renamed(failure.clone(), &dto.name))),
            None => enough(dto, &coverage),
        };
        (coverage, done)
    }
}

/// The failure of a retrieval, told of another DTO that took part.
fn renamed(mut failure: RetrievalFailure, name: &Name) -> RetrievalFailure {
    let (RetrievalFailure::NothingMatches { dto, .. }
    | RetrievalFailure::TooFewAnswered { dto, .. }
    | RetrievalFailure::TooManyBad { dto, .. }
    | RetrievalFailure::Source { dto, .. }
    | RetrievalFailure::NoRoom { dto, .. }
    | RetrievalFailure::Selector { dto, .. }) = &mut failure;
    dto.clone_from(name);
    failure
}
