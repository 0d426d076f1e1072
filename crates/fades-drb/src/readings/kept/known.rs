//! The series of a source: how many readings they have, and of what times.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::Kept;
use super::rows::Extent;
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

impl Kept {
    /// All series. What arrives meanwhile does not wait for it.
    pub(in crate::readings) fn known(&self) -> Vec<Known> {
        let mut cache = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        let (generation, segments) = (state.generation, state.segments.clone());
        let (keys, sealed) = (Arc::clone(&state.keys), state.sealed.clone());
        let head = state.rows.extents().clone();
        drop(state);
        if cache.generation != Some(generation) {
            cache.series = counted(&segments);
            cache.generation = Some(generation);
        }
        let mut series = cache.series.clone();
        drop(cache);
        for extents in sealed.iter().map(|s| s.extents()).chain([&head]) {
            for (key, extent) in keys.iter().zip(extents) {
                if let Some(extent) = extent {
                    add(&mut series, key.clone(), *extent);
                }
            }
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
    let known = series.entry(key);
    known.and_modify(|e| e.add(extent)).or_insert(extent);
}
