//! One DTO: from its selector to batches and coverage.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fades_task::identity::Name;
use fades_task::mtw::{Dto, Take};
use fades_task::result::RetrievalFailure;

use crate::answers::{self, Earlier};
use crate::batches::Batches;
use crate::chunk::Capacity;
use crate::config::{Sources, SourcesError};
use crate::csv::{Plan, ReadError, Snapshot};
use crate::flow::{Streams, rounded};
use crate::hands::Hands;
use crate::pool::Pool;
use crate::selector::granted::{self, Reach};
use crate::selector::{self, Selector};
use crate::series::SeriesKey;
use crate::source::{AtWork, FRESH, Setting, SourceError, Worker};

mod asking;
mod inspect;
mod judge;
mod production;
mod shares;

pub(crate) use production::Done;
pub(crate) use shares::{Next, Shares, Taker};

use shares::Question;

/// The sources at work, and what retrieving from them needs.
pub(crate) struct Engine {
    sources: BTreeMap<Name, AtWork>,
    pool: Pool,
    hands: Hands,
    batches: Batches,
    shares: Shares,
    streams: Streams,
    /// Much was gathered since memory was given back.
    used: AtomicBool,
}

/// What sources said and is kept for others takes at most this part of what batch
/// files may take, beside them.
const STREAMS: u64 = 8;

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
    demands: Demands,
    asked: Vec<(Name, Asked)>,
}

/// What a run demands of a retrieval, besides its DTO.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands {
    /// Devices that have not answered by then are late.
    pub(crate) deadline: Option<Instant>,
    /// What earlier runs answered, when the DTO asks for that.
    pub(crate) earlier: Earlier,
}

/// A source that a DTO asks, as it is now.
#[derive(Clone)]
enum Asked {
    Files(Arc<Snapshot>),
    /// Number of the source's state; `None` of what is never the same twice.
    Flow(Option<u64>),
}

/// What the sources have for a DTO.
struct Plans {
    parts: Vec<Part>,
    /// Devices of files that match.
    matched: u64,
}

/// What one source has.
struct Part {
    name: Name,
    has: Has,
}

enum Has {
    Files(Plan),
    /// What it sends.
    Flow,
}

impl Engine {
    /// Sources that were checked.
    pub(crate) fn new(
        sources: &Sources,
        setting: &Setting,
        pool: Pool,
        hands: Hands,
        batches: Batches,
    ) -> Result<Self, SourcesError> {
        let at_work = sources.0.iter().map(|(name, source)| {
            let at_work =
                AtWork::new(name, source, setting).map_err(|e| SourcesError::of(name, e))?;
            Ok((name.clone(), at_work))
        });
        Ok(Self {
            sources: at_work.collect::<Result<_, _>>()?,
            pool,
            hands,
            shares: Shares::new(Arc::clone(batches.budget())),
            streams: Streams::new(batches.budget().total() / STREAMS, FRESH),
            batches,
            used: AtomicBool::new(false),
        })
    }

    pub(crate) const fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Drops what is kept for others and nobody came for. Whether any is left.
    pub(crate) fn expire(&self) -> bool {
        let streams = self.streams.expire();
        self.shares.expire() || streams
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
        self: &Arc<Self>,
        dto: &Dto,
        index: u32,
        capacity: Capacity,
        demands: Demands,
        stop: &Arc<AtomicBool>,
    ) -> Result<Taker, Halt> {
        let resolved = self.resolve(dto, index, capacity, demands)?;
        let question = resolved.question();
        Ok(Taker::enter(self, question, resolved, stop))
    }

    fn resolve(
        &self,
        dto: &Dto,
        index: u32,
        capacity: Capacity,
        demands: Demands,
    ) -> Result<Resolved, Halt> {
        if let Some(reason) = granted::untimely(dto) {
            return Err(not_granted(dto, reason));
        }
        let selector = compiled(dto)?;
        let with = |asked| Resolved {
            dto: dto.clone(),
            index,
            capacity,
            selector: selector.clone(),
            demands: demands.clone(),
            asked,
        };
        if dto.result.is_some() {
            let name = answers::SOURCE.parse();
            let asked = name.into_iter().map(|name| (name, Asked::Flow(None)));
            return Ok(with(asked.collect()));
        }
        let asked = self.asked(dto, &selector)?.into_iter();
        let asked = asked.map(|(name, at_work)| {
            let asked = match &at_work.worker {
                Worker::Csv(csv) => {
                    let snapshot = csv.snapshot();
                    Asked::Files(snapshot.map_err(|e| read_failed(dto, name, e))?)
                }
                Worker::Flow(flow) => Asked::Flow(flow.state(dto.take)),
            };
            Ok((name.clone(), asked))
        });
        Ok(with(asked.collect::<Result<_, _>>()?))
    }

    /// The sources that a DTO can mean.
    fn asked(&self, dto: &Dto, selector: &Selector) -> Result<Vec<(&Name, &AtWork)>, Halt> {
        let reach = reach(dto)?;
        if let Some(name) = dto.source.as_ref().filter(|name| !reach.has(name.as_str())) {
            return Err(not_granted(dto, format!("source {name}")));
        }
        if let Some(name) = &dto.source
            && !self.sources.contains_key(name)
        {
            let known = self.sources.keys().map(Name::as_str);
            let known: Vec<&str> = known.filter(|name| reach.has(name)).collect();
            return Err(Halt::Failed(RetrievalFailure::Selector {
                dto: dto.name.clone(),
                reason: format!(
                    "source {name} is none of this node: {}",
                    list(known.into_iter())
                ),
            }));
        }
        let named = dto.source.is_some();
        let asked = self.sources.iter().filter(|(name, at_work)| {
            reach.has(name.as_str())
                && dto.source.as_ref().is_none_or(|s| s == *name)
                && match &at_work.worker {
                    Worker::Csv(csv) => (named || is_plain_range(dto)) && csv.may_match(selector),
                    Worker::Flow(flow) => flow.may_match(selector, dto.take, named),
                }
        });
        Ok(asked.collect())
    }

    /// What the sources have for a DTO.
    fn plans(&self, resolved: &Resolved, stop: &Arc<AtomicBool>) -> Result<Plans, Halt> {
        let Resolved { dto, selector, .. } = resolved;
        let parts = resolved.asked.iter().map(|(name, asked)| {
            let has = match (self.sources.get(name), asked) {
                (Some(AtWork { notes, worker }), Asked::Files(snapshot)) => {
                    let Worker::Csv(csv) = worker else {
                        unreachable!("only files have a snapshot")
                    };
                    unable(dto, name)?;
                    let selector = selector.with(notes);
                    let plan = csv.plan(&self.pool, snapshot, &selector, stop);
                    Has::Files(plan.map_err(|e| read_failed(dto, name, e))?)
                }
                _ => Has::Flow,
            };
            let name = name.clone();
            Ok(Part { name, has })
        });
        let parts = parts.collect::<Result<Vec<_>, Halt>>()?;
        let matched = parts.iter().map(|p| p.devices().len() as u64);
        let matched = matched.sum();
        let flows = parts.iter().any(|p| matches!(p.has, Has::Flow));
        if matched == 0 && !flows {
            return Err(self.nothing(dto, selector, stop));
        }
        Ok(Plans { parts, matched })
    }

    /// Nothing matches.
    fn nothing(&self, dto: &Dto, selector: &Selector, stop: &Arc<AtomicBool>) -> Halt {
        Halt::Failed(RetrievalFailure::NothingMatches {
            dto: dto.name.clone(),
            selector: selector::words(dto),
            known: match dto.result {
                Some(_) => "a service's tasks that answered with readings".to_owned(),
                None => self.known(dto, &selector.bounds(), stop),
            },
        })
    }

    /// Kinds, locations and sources of the node, as far as they are granted, in words.
    fn known(&self, dto: &Dto, selector: &Selector, stop: &Arc<AtomicBool>) -> String {
        let (mut kinds, mut locations) = (BTreeSet::new(), BTreeSet::new());
        let mut silent = Vec::new();
        // It was compiled before.
        let reach = reach(dto).unwrap_or_default();
        let sources = self.sources.iter();
        for (name, at_work) in sources.filter(|(name, _)| reach.has(name.as_str())) {
            let mut met = |key: &SeriesKey| {
                if selector.matches(key) {
                    kinds.insert(key.kind.to_string());
                    locations.insert(key.location.to_string());
                }
            };
            let found = match &at_work.worker {
                Worker::Csv(csv) => csv
                    .plan_now(&self.pool, &Selector::all(), stop)
                    .map(|plan| {
                        let keys = plan.series.iter().map(|s| &s.key);
                        keys.for_each(&mut met);
                        plan.series.len()
                    })
                    .map_err(|e| e.to_string()),
                Worker::Flow(flow) => flow
                    .known(stop)
                    .map(|known| {
                        let keys = known.iter().map(|k| &k.key);
                        keys.for_each(&mut met);
                        known.len()
                    })
                    .map_err(|e| chain(&e)),
            };
            match found {
                Ok(0) => silent.push(format!(
                    "source {name} has no readings in {}",
                    at_work.reads()
                )),
                Ok(_) => {}
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

fn not_granted(dto: &Dto, reason: String) -> Halt {
    let dto = dto.name.clone();
    Halt::Failed(RetrievalFailure::NotGranted { dto, reason })
}

/// The sources that may be asked for a DTO.
fn reach(dto: &Dto) -> Result<Reach, Halt> {
    Reach::of(dto).map_err(|reason| not_granted(dto, reason))
}

fn read_failed(dto: &Dto, source: &Name, e: ReadError) -> Halt {
    match e {
        ReadError::Stopped => Halt::Stopped,
        e => source_failed(dto, source, e.to_string()),
    }
}

fn source_failed(dto: &Dto, source: &Name, reason: String) -> Halt {
    Halt::Failed(RetrievalFailure::Source {
        dto: dto.name.clone(),
        source_name: source.clone(),
        reason,
    })
}

/// An error with what caused it, in words.
fn chain(e: &dyn std::error::Error) -> String {
    let mut words = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        words = format!("{words}: {e}");
        source = e.source();
    }
    words
}

/// Whether a DTO asks for readings that are there, as they are.
fn is_plain_range(dto: &Dto) -> bool {
    dto.take == Take::Range && dto.aggregate.is_none()
}

/// Files answer nothing but ranges.
fn unable(dto: &Dto, name: &Name) -> Result<(), Halt> {
    let error = match (dto.take, dto.aggregate) {
        (Take::Range, None) => return Ok(()),
        (Take::Range, Some(_)) => SourceError::NoAggregate,
        (Take::Now | Take::Live { .. }, _) => SourceError::NotLive,
    };
    Err(source_failed(dto, name, error.to_string()))
}

impl Part {
    /// Devices that match, as far as they are known beforehand.
    fn devices(&self) -> HashSet<&str> {
        match &self.has {
            Has::Files(plan) => plan.series.iter().map(|s| &*s.key.device).collect(),
            Has::Flow => HashSet::new(),
        }
    }
}

impl AtWork {
    fn reads(&self) -> String {
        match &self.worker {
            Worker::Csv(csv) => csv.reads(),
            Worker::Flow(flow) => flow.reads(),
        }
    }
}

impl Resolved {
    /// What to compare with other DTOs; `None` when the files changed so short a
    /// while ago that another change could look the same.
    fn question(&self) -> Option<Question> {
        let states = self.asked.iter().map(|(name, asked)| {
            let number = match asked {
                Asked::Files(snapshot) => snapshot.number,
                Asked::Flow(number) => *number,
            };
            Some((name.clone(), number?))
        });
        let states = states.collect::<Option<_>>()?;
        let mut asked = self.asked.iter();
        let waits = asked.any(|(_, asked)| matches!(asked, Asked::Flow(_)));
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        Some(Question {
            index: self.index,
            capacity: self.capacity,
            asks: asks(&self.dto),
            states,
            patience: self
                .demands
                .deadline
                .filter(|_| waits)
                .map(|d| rounded(left(d))),
        })
    }

    /// Whether the same batches can be made again: what sources send may be
    /// another the next time.
    fn is_repeatable(&self) -> bool {
        let mut asked = self.asked.iter();
        asked.all(|(_, asked)| matches!(asked, Asked::Files(_)))
    }
}

/// What a DTO asks for, in a form in which the same is equal.
fn asks(dto: &Dto) -> String {
    let mut same = dto.clone();
    // How it is called, and what is enough, makes no other batches.
    same.need = None;
    same.bad_rows = None;
    same.granted = same.granted.as_ref().and_then(granted::patterns_of);
    for patterns in [&mut same.kind, &mut same.location, &mut same.device] {
        patterns.sort_unstable();
        patterns.dedup();
    }
    let json = serde_json::to_value(&same).map(|mut json| {
        json["name"] = serde_json::Value::Null;
        if let Some(grant) = json.pointer_mut("/granted/grant") {
            *grant = serde_json::Value::Null;
        }
        json.to_string()
    });
    // A DTO always has a JSON form.
    json.unwrap_or_default()
}
