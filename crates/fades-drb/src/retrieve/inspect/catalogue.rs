//! What is known of a source, as people are shown it: devices, series, readings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fades_task::identity::Name;
use fades_task::resource::{Device, Reading, SeriesInfo};
use fades_task::time::Time;

use crate::csv::Plan;
use crate::series::SeriesKey;
use crate::source::{AtWork, Known, Worker};
use crate::units;

/// What is known of a series: readings (when they were counted), times of the
/// oldest and newest.
pub(super) type Extent = (Option<u64>, Option<i64>, Option<i64>);

/// What the indexes know of each series.
pub(super) fn indexed(plan: &Plan) -> HashMap<u32, Extent> {
    let mut known: HashMap<u32, Extent> = HashMap::new();
    let blocks = plan.files.iter().flat_map(|f| &f.blocks);
    for span in blocks.flat_map(|b| &b.spans) {
        let (readings, oldest, newest) = known.entry(span.series).or_default();
        *readings = Some(readings.unwrap_or_default() + span.readings);
        *oldest = Some(oldest.map_or(span.oldest, |o| o.min(span.oldest)));
        *newest = (*newest).max(Some(span.newest));
    }
    known
}

/// The series of a plan.
pub(super) fn planned(plan: &Plan, extents: &HashMap<u32, Extent>) -> Vec<Known> {
    let known = plan.series.iter().map(|s| {
        let extent = extents.get(&s.number).copied();
        let (readings, oldest, newest) = extent.unwrap_or((Some(0), None, None));
        Known {
            key: s.key.clone(),
            readings,
            oldest,
            newest,
        }
    });
    known.collect()
}

/// The devices of these series, a device at two locations twice.
pub(super) fn devices(source: &Name, at_work: Option<&AtWork>, known: Vec<Known>) -> Vec<Device> {
    let mut found: BTreeMap<(Arc<str>, Arc<str>), Vec<SeriesInfo>> = BTreeMap::new();
    for Known {
        key,
        readings,
        oldest,
        newest,
    } in known
    {
        let info = SeriesInfo {
            kind: key.kind.to_string(),
            unit: key.unit.to_string(),
            readings,
            oldest: oldest.map(Time),
            newest: newest.map(Time),
        };
        found
            .entry((key.device, key.location))
            .or_default()
            .push(info);
    }
    let live = match at_work.map(|a| &a.worker) {
        Some(Worker::Flow(flow)) => flow.live(),
        Some(Worker::Csv(_)) | None => None,
    };
    let device = |((device, location), series): ((Arc<str>, Arc<str>), Vec<SeriesInfo>)| {
        let note = at_work.and_then(|a| a.notes.of(&device));
        Device {
            source: source.clone(),
            device: device.to_string(),
            location: location.to_string(),
            labels: note.map(|n| n.labels.clone()).unwrap_or_default(),
            at: note.and_then(|n| n.at),
            liveness: live.map(|live| live.liveness(&device)),
            series,
        }
    };
    found.into_iter().map(device).collect()
}

pub(super) fn shown(key: &SeriesKey, time: i64, value: f64) -> Reading {
    Reading {
        time: Time(time),
        device: key.device.to_string(),
        location: key.location.to_string(),
        kind: key.kind.to_string(),
        value,
        unit: key.unit.to_string(),
    }
}

/// A reading in the unit that a DTO asks for; `None` when it cannot be.
pub(super) fn in_unit(mut reading: Reading, unit: Option<&str>) -> Option<Reading> {
    if let Some(unit) = unit {
        reading.value = units::conversion(&reading.unit, unit)?.of(reading.value);
        unit.clone_into(&mut reading.unit);
    }
    Some(reading)
}

pub(super) fn has_readings(device: &&Device) -> bool {
    let mut series = device.series.iter();
    series.any(|s| s.readings.is_some_and(|n| n > 0))
}
