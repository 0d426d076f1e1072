//! The readings store by itself, for benchmarks: what a live source hands to it, and
//! what a task gets out of it. Nothing else uses this.

use std::path::Path;
use std::sync::Arc;

use crate::chunk::Capacity;
use crate::config::Record;
use crate::flow::{Ahead, Ask, Assembly, Outlet};
use crate::live::Heard;
use crate::readings::{Readings, ReadingsError, Recorder};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// Why the store cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It cannot be used.
    #[error("{0}")]
    Store(String),
    /// Not all of it could be read.
    #[error("it cannot be read: {0}")]
    Read(String),
}

impl From<ReadingsError> for MeasureError {
    fn from(e: ReadingsError) -> Self {
        Self::Store(e.to_string())
    }
}

/// A store with one source.
#[derive(Debug)]
pub struct Store {
    readings: Readings,
    recorder: Recorder,
    series: Vec<SeriesKey>,
}

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Index of its series.
    pub series: u32,
    /// ns since 1970 UTC.
    pub time: i64,
    /// The value.
    pub value: f64,
}

/// Bytes that were written to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// As readings arrived.
    pub log: u64,
    /// To make segments of them.
    pub flush: u64,
    /// To merge segments.
    pub merge: u64,
    /// On disk now.
    pub stored: u64,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scanned {
    /// Readings.
    pub readings: u64,
    /// Sum of their values.
    pub sum: f64,
}

impl Store {
    /// Opens a store. A series is a device, location, kind and unit.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(folder: &Path, series: &[[String; 4]]) -> Result<Self, MeasureError> {
        let readings = Readings::open(folder)?;
        let record = Record {
            keep: None,
            at_most: None,
        };
        let source = "measured".parse();
        let source = source.map_err(|_| MeasureError::Store("its name is none".to_owned()))?;
        let key = |[device, location, kind, unit]: &[String; 4]| SeriesKey {
            device: device.as_str().into(),
            location: location.as_str().into(),
            kind: kind.as_str().into(),
            unit: unit.as_str().into(),
        };
        Ok(Self {
            recorder: readings.recorder(&source, &record)?,
            readings,
            series: series.iter().map(key).collect(),
        })
    }

    /// Hands readings to the store as a live source does. Never waits; those for
    /// which there is no room are lost.
    pub fn record(&self, samples: &[Sample]) {
        let heard = samples.iter().map(|sample| Heard {
            key: self.series[sample.series as usize].clone(),
            time: Some(sample.time),
            value: sample.value,
            mark: 0,
        });
        let heard: Vec<Heard> = heard.collect();
        self.recorder.record(&heard, crate::live::now());
    }

    /// Readings that are not durable yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.recorder.state().waiting
    }

    /// Readings that are not in segments yet.
    #[must_use]
    pub fn in_heads(&self) -> u64 {
        self.recorder.state().in_heads
    }

    /// Readings that were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.recorder.gaps().iter().map(|gap| gap.readings).sum()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let written = self.readings.written();
        Bytes {
            log: written.log,
            flush: written.flush,
            merge: written.merge,
            stored: self.recorder.state().bytes,
        }
    }

    /// Reads everything, as for a task: up to the memory of batches, but not into it.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn scan(&self) -> Result<Scanned, MeasureError> {
        let ask = Ask {
            selector: Selector::all(),
            take: fades_task::mtw::Take::Range,
            aggregate: None,
            deadline: None,
            stop: Arc::default(),
        };
        let (outlet, inlet) = Outlet::pair();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let outlet = outlet;
                let read = self.recorder.read(&ask, &outlet);
                // Whoever takes them is below.
                let _ = outlet.end(read.map_err(|e| e.to_string()));
            });
            let source = "measured".parse();
            let source = source.map_err(|_| MeasureError::Store("its name is none".to_owned()))?;
            let capacity = Capacity::of(64 << 20);
            let mut assembly = Assembly::new(source, inlet, None, capacity);
            let mut scanned = Scanned {
                readings: 0,
                sum: 0.0,
            };
            while let Ahead::Bytes(_) = assembly.ahead(&ask.stop)
                && let Some(chunk) = assembly.chunk(0, &ask.stop)
            {
                let segments = chunk.series.iter().flat_map(|s| &s.segments);
                for segment in segments {
                    scanned.readings += segment.rows() as u64;
                    scanned.sum += segment.value.iter().sum::<f64>();
                }
            }
            match assembly.outcome().failure {
                Some(reason) => Err(MeasureError::Read(reason)),
                None => Ok(scanned),
            }
        })
    }
}
