//! The series of a source: how many readings they have, and of what times.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Kept, State};
use crate::readings::segment::{SegmentReader, Stored};
use crate::series::SeriesKey;
use crate::source::Known;

/// The series in segments.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// State of the segments.
    generation: Option<u64>,
    series: BTreeMap<SeriesKey, Extent>,
}

/// Readings, times of the oldest and newest.
#[derive(Debug, Clone, Copy)]
struct Extent {
    readings: u64,
    oldest: i64,
    newest: i64,
}

impl Kept {
    /// All series.
    pub(in crate::readings) fn known(&self) -> Vec<Known> {
        let mut cache = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        let (generation, segments) = (state.generation, state.segments.clone());
        let fresh = state.fresh();
        drop(state);
        if cache.generation != Some(generation) {
            cache.series = counted(&segments);
            cache.generation = Some(generation);
        }
        let mut series = cache.series.clone();
        drop(cache);
        for (key, extent) in fresh {
            add(&mut series, key, extent);
        }
        let known = series.into_iter().map(|(key, extent)| Known {
            key,
            readings: Some(extent.readings),
            oldest: Some(extent.oldest),
            newest: Some(extent.newest),
        });
        known.collect()
    }
}

impl State {
    /// What is in heads.
    fn fresh(&self) -> Vec<(SeriesKey, Extent)> {
        let mut extents: Vec<Option<Extent>> = vec![None; self.keys.len()];
        let sealed = self.sealed.iter().flat_map(|s| &s.rows);
        for row in sealed.chain(&self.rows) {
            let extent = extents[row.series as usize].get_or_insert(Extent {
                readings: 0,
                oldest: row.time,
                newest: row.time,
            });
            extent.readings += 1;
            extent.oldest = extent.oldest.min(row.time);
            extent.newest = extent.newest.max(row.time);
        }
        let found = self.keys.iter().zip(extents);
        let found = found.filter_map(|(key, extent)| Some((key.clone(), extent?)));
        found.collect()
    }
}

/// What the footers say; those that cannot be read say nothing here, and why when
/// they are read.
fn counted(segments: &[Arc<Stored>]) -> BTreeMap<SeriesKey, Extent> {
    let mut series = BTreeMap::new();
    for segment in segments {
        let table = SegmentReader::open(&segment.path).and_then(|s| s.table());
        for entry in table.unwrap_or_default() {
            let extent = Extent {
                readings: entry.rows,
                oldest: entry.oldest,
                newest: entry.newest,
            };
            add(&mut series, entry.key, extent);
        }
    }
    series
}

fn add(series: &mut BTreeMap<SeriesKey, Extent>, key: SeriesKey, extent: Extent) {
    let known = series.entry(key).or_insert(Extent {
        readings: 0,
        ..extent
    });
    known.readings += extent.readings;
    known.oldest = known.oldest.min(extent.oldest);
    known.newest = known.newest.max(extent.newest);
}
