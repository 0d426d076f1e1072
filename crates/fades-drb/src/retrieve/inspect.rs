//! What there is, without fetching it: resources, a source's test, previews.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::mtw::Dto;
use fades_task::resource::{Device, Preview, Reading, SeriesInfo, SourceReport};
use fades_task::result::RetrievalFailure;
use fades_task::time::Time;

use super::{AtWork, Engine, Halt, Part, settle, source_failed};
use crate::csv::{CsvFiles, Fetch, Plan, ReadError};
use crate::selector::Selector;

/// Rows that a source's test shows.
const SAMPLE: usize = 3;

/// Readings, oldest and newest time of one series.
type Known = (u64, i64, i64);

impl Engine {
    /// All devices. A source that fails is left out and said in the log; its
    /// test says what is wrong.
    pub(crate) fn resources(&self, stop: &Arc<AtomicBool>) -> Vec<Device> {
        let mut found = Vec::new();
        for (name, AtWork::Csv(csv)) in &self.sources {
            match csv.plan_now(&self.pool, &Selector::all(), stop) {
                Ok(plan) => found.extend(devices(name, &plan, &indexed(&plan))),
                Err(e) => tracing::warn!("source {name}: {e}"),
            }
        }
        found
    }

    /// Reads the whole of a source and says what is in it.
    pub(crate) fn test(
        &self,
        source: &Name,
        stop: &Arc<AtomicBool>,
    ) -> Result<SourceReport, String> {
        let Some(AtWork::Csv(csv)) = self.sources.get(source) else {
            let names = self.sources.keys().map(Name::as_str);
            return Err(format!(
                "source {source} is none of this node: {}",
                super::list(names)
            ));
        };
        self.tested(source, csv, stop).map_err(|e| e.to_string())
    }

    fn tested(
        &self,
        source: &Name,
        csv: &CsvFiles,
        stop: &Arc<AtomicBool>,
    ) -> Result<SourceReport, ReadError> {
        let selector = Selector::all();
        let plan = csv.plan_now(&self.pool, &selector, stop)?;
        let tally = csv.check(&self.fetch(&selector, stop), &plan)?;
        let mut coverage = Coverage::new(source.clone());
        let devices = devices(source, &plan, &indexed(&plan));
        coverage.matched = super::devices(source, &plan).len() as u64;
        let heard = devices.iter().filter(has_readings);
        let heard = heard.map(|d| (source.clone(), d.device.as_str().into()));
        settle(&mut coverage, &heard.collect(), &tally);
        let sample = csv.sample(&plan, SAMPLE)?.into_iter().map(|s| Reading {
            time: Time(s.time),
            device: s.key.device.to_string(),
            location: s.key.location.to_string(),
            kind: s.key.kind.to_string(),
            value: s.value,
            unit: s.key.unit.to_string(),
        });
        Ok(SourceReport {
            source: source.clone(),
            reads: csv.reads(),
            files: plan.files.len() as u64,
            devices,
            sample: sample.collect(),
            coverage,
        })
    }

    /// What these DTOs would fetch.
    pub(crate) fn preview(
        &self,
        dtos: &[Dto],
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Preview>, RetrievalFailure> {
        let previews = dtos.iter().map(|dto| self.preview_of(dto, stop));
        let previews: Result<Vec<_>, Halt> = previews.collect();
        previews.map_err(|halt| match halt {
            Halt::Failed(failure) => failure,
            Halt::Stopped => RetrievalFailure::Selector {
                dto: dtos[0].name.clone(),
                reason: "the broker is ending".to_owned(),
            },
        })
    }

    fn preview_of(&self, dto: &Dto, stop: &Arc<AtomicBool>) -> Result<Preview, Halt> {
        let resolved = self.resolve(dto, 0, self.batches.capacity())?;
        let mut preview = Preview {
            name: dto.name.clone(),
            devices: Vec::new(),
            readings: 0,
            batch_bytes: 0,
        };
        for Part { name, plan } in &self.plans(&resolved, stop)?.parts {
            let AtWork::Csv(csv) = &self.sources[name];
            let fetch = self.fetch(&resolved.selector, stop);
            let counts = csv
                .count(&fetch, plan)
                .map_err(|e| source_failed(dto, name, e))?;
            let mut known = indexed(plan);
            for (series, known) in &mut known {
                known.0 = counts.get(series).copied().unwrap_or_default();
            }
            preview.readings += plan
                .series
                .iter()
                .filter_map(|s| counts.get(&s.number))
                .sum::<u64>();
            preview.batch_bytes += plan.batch_bytes(fetch.capacity, &counts);
            preview.devices.extend(devices(name, plan, &known));
        }
        Ok(preview)
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

fn has_readings(device: &&Device) -> bool {
    let mut series = device.series.iter();
    series.any(|s| s.readings.is_some_and(|n| n > 0))
}

/// What the indexes know of each series.
fn indexed(plan: &Plan) -> HashMap<u32, Known> {
    let mut known = HashMap::new();
    let blocks = plan.files.iter().flat_map(|f| &f.blocks);
    for span in blocks.flat_map(|b| &b.spans) {
        let (readings, oldest, newest) =
            known.entry(span.series).or_insert((0, i64::MAX, i64::MIN));
        *readings += span.readings;
        *oldest = span.oldest.min(*oldest);
        *newest = span.newest.max(*newest);
    }
    known
}

/// The devices of a plan, a device at two locations twice.
fn devices(source: &Name, plan: &Plan, known: &HashMap<u32, Known>) -> Vec<Device> {
    let mut found: BTreeMap<(&str, &str), Vec<SeriesInfo>> = BTreeMap::new();
    for s in &plan.series {
        let known = known.get(&s.number);
        let info = SeriesInfo {
            kind: s.key.kind.to_string(),
            unit: s.key.unit.to_string(),
            readings: Some(known.map_or(0, |k| k.0)),
            oldest: known.map(|k| Time(k.1)),
            newest: known.map(|k| Time(k.2)),
        };
        found
            .entry((&s.key.device, &s.key.location))
            .or_default()
            .push(info);
    }
    let device = |((device, location), series): ((&str, &str), Vec<SeriesInfo>)| Device {
        source: source.clone(),
        device: device.to_owned(),
        location: location.to_owned(),
        series,
    };
    found.into_iter().map(device).collect()
}
