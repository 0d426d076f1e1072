//! What there is, without fetching it: resources, a source's test, previews.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fades_task::coverage::Coverage;
use fades_task::gauge::Gauges;
use fades_task::identity::Name;
use fades_task::mtw::{Dto, Take};
use fades_task::quantity::Size;
use fades_task::resource::{Device, Preview, Reading, SourceReport};
use fades_task::result::RetrievalFailure;

use self::catalogue::{devices, has_readings, in_unit, indexed, planned, shown};
use super::production::settle;
use super::{Demands, Engine, Halt, Has, Part, Resolved, chain, read_failed, source_failed};
use crate::answers::Earlier;
use crate::chunk::{Capacity, ChunkSeries};
use crate::csv::{CsvFiles, Fetch, Plan, ReadError};
use crate::flow::{Ahead, Ask, Assembly, Outcome};
use crate::selector::Selector;
use crate::series::SeriesKey;
use crate::source::{AtWork, Flowing, Known, Worker};

mod catalogue;

/// Rows that a source's test shows.
const SAMPLE: usize = 3;

/// How long a test or a preview lets a source talk.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// All devices. A source that fails is left out and said in the log; its
    /// test says what is wrong.
    pub(crate) fn resources(&self, stop: &Arc<AtomicBool>) -> Vec<Device> {
        let mut found = Vec::new();
        for (name, at_work) in &self.sources {
            match self.devices_of(name, at_work, stop) {
                Ok(devices) => found.extend(devices),
                Err(e) => tracing::warn!("source {name}: {e}"),
            }
        }
        found
    }

    fn devices_of(
        &self,
        name: &Name,
        at_work: &AtWork,
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Device>, String> {
        match &at_work.worker {
            Worker::Csv(csv) => {
                let plan = csv.plan_now(&self.pool, &Selector::all(), stop);
                let plan = plan.map_err(|e| e.to_string())?;
                Ok(devices(
                    name,
                    Some(at_work),
                    planned(&plan, &indexed(&plan)),
                ))
            }
            Worker::Flow(flow) => {
                let known = flow.known(stop).map_err(|e| chain(&e))?;
                Ok(devices(name, Some(at_work), known))
            }
        }
    }

    /// What there is, in numbers; nothing is read or asked for them.
    pub(crate) fn gauges(&self) -> Gauges {
        let live = self.sources.iter().filter_map(|(name, at_work)| {
            let Worker::Flow(flow) = &at_work.worker else {
                return None;
            };
            Some((name.clone(), flow.live()?.gauge()))
        });
        Gauges {
            batches: Size(self.batches.budget().used()),
            budget: Size(self.batches.budget().total()),
            sources: live.collect(),
        }
    }

    /// Writes what was recorded; nothing is recorded any more.
    pub(crate) fn end_recording(&self) {
        for at_work in self.sources.values() {
            let Worker::Flow(flow) = &at_work.worker else {
                continue;
            };
            if let Some(recorder) = flow.live().and_then(|live| live.recorder()) {
                recorder.end();
            }
        }
    }

    /// Tries a source and says what is in it.
    pub(crate) fn test(
        self: &Arc<Self>,
        source: &Name,
        stop: &Arc<AtomicBool>,
    ) -> Result<SourceReport, String> {
        let Some(at_work) = self.sources.get(source) else {
            let names = self.sources.keys().map(Name::as_str);
            return Err(format!(
                "source {source} is none of this node: {}",
                super::list(names)
            ));
        };
        match &at_work.worker {
            Worker::Csv(csv) => {
                let tested = self.tested(source, at_work, csv, stop);
                tested.map_err(|e| e.to_string())
            }
            Worker::Flow(flow) => {
                let tried = self.tried(source, at_work, flow, stop);
                tried.map_err(|e| with_trouble(e, flow))
            }
        }
    }

    /// Reads the whole of a source of files.
    fn tested(
        &self,
        source: &Name,
        at_work: &AtWork,
        csv: &CsvFiles,
        stop: &Arc<AtomicBool>,
    ) -> Result<SourceReport, ReadError> {
        let selector = Selector::all();
        let plan = csv.plan_now(&self.pool, &selector, stop)?;
        let tally = csv.check(&self.fetch(&selector, stop), &plan)?;
        let mut coverage = Coverage::new(source.clone());
        let devices = devices(source, Some(at_work), planned(&plan, &indexed(&plan)));
        let mut names: Vec<&str> = devices.iter().map(|d| d.device.as_str()).collect();
        names.dedup();
        coverage.matched = names.len() as u64;
        let mut heard: Vec<&str> = devices
            .iter()
            .filter(has_readings)
            .map(|d| d.device.as_str())
            .collect();
        heard.dedup();
        settle(&mut coverage, heard.len(), &tally);
        let sample = csv.sample(&plan, &selector, SAMPLE)?.into_iter();
        let sample = sample.map(|s| shown(&s.key, s.time, s.value));
        Ok(SourceReport {
            source: source.clone(),
            reads: csv.reads(),
            files: plan.files.len() as u64,
            sample: sample.collect(),
            devices,
            coverage,
            recording: None,
        })
    }

    /// Asks a source that sends, until some rows have come.
    fn tried(
        self: &Arc<Self>,
        source: &Name,
        at_work: &AtWork,
        flow: &Flowing,
        stop: &Arc<AtomicBool>,
    ) -> Result<SourceReport, String> {
        let take = match flow.live() {
            Some(_) => Take::Now,
            None => Take::Range,
        };
        let dto = Dto {
            take,
            ..Dto::all(source.clone())
        };
        let deadline = Instant::now() + PATIENCE;
        let ask = Ask {
            selector: Selector::all(),
            take,
            aggregate: None,
            deadline: Some(deadline),
            stop: Arc::clone(stop),
        };
        flow.try_out(&ask).map_err(|e| chain(&e))?;
        let demands = Demands {
            deadline: Some(deadline),
            earlier: Earlier::default(),
        };
        let heard = self.heard(source, &dto, SAMPLE, demands, stop)?;
        let known = flow.known(stop).map_err(|e| chain(&e))?;
        if let (Some(reason), true) = (&heard.outcome.failure, known.is_empty()) {
            return Err(reason.clone());
        }
        let devices = devices(source, Some(at_work), known);
        let mut coverage = Coverage::new(source.clone());
        let mut names: Vec<&str> = devices.iter().map(|d| d.device.as_str()).collect();
        names.dedup();
        let answered = heard.outcome.answered.len();
        coverage.matched = names.len().max(heard.outcome.asked.len()) as u64;
        coverage.absent = heard.outcome.absent.into_values().collect();
        coverage.failed = coverage.absent.iter().filter(|a| !a.late).count() as u64;
        coverage.late = coverage.absent.len() as u64 - coverage.failed;
        settle(&mut coverage, answered, &heard.outcome.tally);
        Ok(SourceReport {
            source: source.clone(),
            reads: flow.reads(),
            files: 0,
            sample: heard.sample,
            devices,
            coverage,
            recording: flow.recording(),
        })
    }

    /// What these DTOs would fetch.
    pub(crate) fn preview(
        self: &Arc<Self>,
        dtos: &[Dto],
        earlier: Vec<Earlier>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Preview>, RetrievalFailure> {
        let previews = dtos.iter().zip(earlier);
        let previews = previews.map(|(dto, earlier)| self.preview_of(dto, earlier, stop));
        let previews: Result<Vec<_>, Halt> = previews.collect();
        previews.map_err(|halt| match halt {
            Halt::Failed(failure) => failure,
            Halt::Stopped => RetrievalFailure::Selector {
                dto: dtos[0].name.clone(),
                reason: "the broker is ending".to_owned(),
            },
        })
    }

    fn preview_of(
        self: &Arc<Self>,
        dto: &Dto,
        earlier: Earlier,
        stop: &Arc<AtomicBool>,
    ) -> Result<Preview, Halt> {
        let demands = Demands {
            deadline: Some(Instant::now() + PATIENCE),
            earlier,
        };
        let resolved = self.resolve(dto, 0, self.batches.capacity(), demands)?;
        let mut preview = Preview {
            name: dto.name.clone(),
            devices: Vec::new(),
            readings: 0,
            batch_bytes: 0,
            exact: true,
            sample: Vec::new(),
            absent: Vec::new(),
        };
        for part in &self.plans(&resolved, stop)?.parts {
            match &part.has {
                Has::Files(plan) => {
                    self.preview_files(&mut preview, &resolved, part, plan, stop)?
                }
                Has::Flow => self.preview_flow(&mut preview, &resolved, part, stop)?,
            }
        }
        if preview.devices.is_empty() && preview.absent.is_empty() {
            return Err(self.nothing(dto, &resolved.selector, stop));
        }
        Ok(preview)
    }

    fn preview_files(
        &self,
        preview: &mut Preview,
        resolved: &Resolved,
        part: &Part,
        plan: &Plan,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Halt> {
        let Part { name, .. } = part;
        let at_work = &self.sources[name];
        let Worker::Csv(csv) = &at_work.worker else {
            return Ok(());
        };
        let selector = resolved.selector.with(&at_work.notes);
        let fetch = self.fetch(&selector, stop);
        let counts = csv
            .count(&fetch, plan)
            .map_err(|e| read_failed(&resolved.dto, name, e))?;
        let mut known = indexed(plan);
        for (series, known) in &mut known {
            known.0 = Some(counts.get(series).copied().unwrap_or_default());
        }
        let numbers = plan.series.iter().map(|s| &s.number);
        preview.readings += numbers.filter_map(|n| counts.get(n)).sum::<u64>();
        preview.batch_bytes += plan.batch_bytes(fetch.capacity, &counts);
        let room = SAMPLE.saturating_sub(preview.sample.len());
        let sample = csv
            .sample(plan, &selector, room)
            .map_err(|e| read_failed(&resolved.dto, name, e))?;
        let unit = resolved.dto.unit.as_deref();
        let sample = sample.iter().map(|s| shown(&s.key, s.time, s.value));
        let sample = sample.filter_map(|reading| in_unit(reading, unit));
        preview.sample.extend(sample.take(room));
        let found = devices(name, Some(at_work), planned(plan, &known));
        preview.devices.extend(found);
        Ok(())
    }

    fn preview_flow(
        self: &Arc<Self>,
        preview: &mut Preview,
        resolved: &Resolved,
        part: &Part,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Halt> {
        let (dto, name) = (&resolved.dto, &part.name);
        let demands = resolved.demands.clone();
        let heard = self
            .heard(name, dto, usize::MAX, demands, stop)
            .map_err(|reason| source_failed(dto, name, reason))?;
        if let Some(reason) = heard.outcome.failure {
            return Err(source_failed(dto, name, reason));
        }
        preview.readings += heard.known.iter().filter_map(|k| k.readings).sum::<u64>();
        preview.batch_bytes += heard.batch_bytes;
        preview.exact &= heard.ended;
        preview.absent.extend(heard.outcome.absent.into_values());
        let room = SAMPLE.saturating_sub(preview.sample.len());
        preview.sample.extend(heard.sample.into_iter().take(room));
        let at_work = self.sources.get(name);
        preview.devices.extend(devices(name, at_work, heard.known));
        Ok(())
    }

    /// Lets a source that sends answer a DTO, until it has sent `most` readings or
    /// time is over.
    fn heard(
        self: &Arc<Self>,
        source: &Name,
        dto: &Dto,
        most: usize,
        demands: Demands,
        stop: &Arc<AtomicBool>,
    ) -> Result<HeardOf, String> {
        let capacity = self.batches.capacity();
        let mut dto = dto.clone();
        if dto.result.is_none() {
            dto.source = Some(source.clone());
        }
        let deadline = demands.deadline;
        let resolved = self
            .resolve(&dto, 0, capacity, demands)
            .map_err(|_| "its selector cannot be used".to_owned())?;
        // It shall say how the source itself does, whatever others have of it.
        let inlet = self.flow(source, None, &resolved, stop);
        let unit = dto.unit.as_deref();
        // Small chunks, so that time is looked at often.
        let capacity = Capacity::of(fades_abi::INPUT_PAGE);
        let mut assembly = Assembly::new(source.clone(), inlet, unit, capacity);
        let mut heard = HeardOf::default();
        let mut series: BTreeMap<SeriesKey, (u64, i64, i64)> = BTreeMap::new();
        let mut readings = 0;
        let in_time = || deadline.is_none_or(|d| Instant::now() < d);
        while readings < most && in_time() && !stop.load(Ordering::Relaxed) {
            let (Ahead::Bytes(_), Some(chunk)) = (assembly.ahead(stop), assembly.chunk(0, stop))
            else {
                heard.ended = true;
                break;
            };
            for s in &chunk.series {
                readings += s.rows();
                heard.show(s);
                let times = s.segments.iter().flat_map(|s| &s.time);
                let extent = series
                    .entry(s.key.clone())
                    .or_insert((0, i64::MAX, i64::MIN));
                extent.0 += s.rows() as u64;
                for &time in times {
                    extent.1 = extent.1.min(time);
                    extent.2 = extent.2.max(time);
                }
            }
        }
        let cost = series.iter().map(|(key, e)| Capacity::cost(key, e.0)).sum();
        if readings > 0 {
            heard.batch_bytes = Capacity::bytes(cost).next_multiple_of(fades_abi::INPUT_PAGE);
        }
        heard.known = series
            .into_iter()
            .map(|(key, (readings, oldest, newest))| Known {
                key,
                readings: Some(readings),
                oldest: Some(oldest),
                newest: Some(newest),
            })
            .collect();
        heard.outcome = assembly.outcome();
        Ok(heard)
    }

    fn fetch<'a>(&'a self, selector: &'a Selector, stop: &'a Arc<AtomicBool>) -> Fetch<'a> {
        Fetch {
            pool: &self.pool,
            selector,
            capacity: self.batches.capacity(),
            stop,
            first_id: 0,
        }
    }
}

/// What a source sent when it was asked to look at it.
#[derive(Default)]
struct HeardOf {
    known: Vec<Known>,
    sample: Vec<Reading>,
    batch_bytes: u64,
    /// It said all that it has.
    ended: bool,
    outcome: Outcome,
}

impl HeardOf {
    fn show(&mut self, series: &ChunkSeries) {
        let rows = series.segments.iter();
        let rows = rows.flat_map(|s| s.time.iter().zip(&s.value));
        let room = SAMPLE.saturating_sub(self.sample.len());
        let rows = rows.take(room).map(|(t, v)| shown(&series.key, *t, *v));
        self.sample.extend(rows);
    }
}

/// What is wrong with a source, and with recording it.
fn with_trouble(reason: String, flow: &Flowing) -> String {
    match flow.recording().and_then(|recording| recording.trouble) {
        Some(trouble) => format!("{reason}; {trouble}"),
        None => reason,
    }
}
