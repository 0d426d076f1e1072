//! Runs a function on rows that a test writes down, through the same event
//! loop as an image.
//!
//! ```
//! # use fades_sdk::prelude::*;
//! # struct Rows(usize);
//! # impl Function for Rows {
//! #     fn new(_: &Params) -> Result<Self, Abort> { Ok(Self(0)) }
//! #     fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
//! #         self.0 += batch.rows();
//! #         Ok(())
//! #     }
//! #     fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
//! #         output.set("rows", self.0);
//! #         Ok(())
//! #     }
//! # }
//! use fades_sdk::testing::{Run, Series};
//!
//! let hall = Series::new("board-1", "temperature", "Cel", "hall").row(0, 20.5).row(10, 21.0);
//! let answer = Run::new().batch(&[hall]).answer::<Rows>().unwrap();
//! assert_eq!(answer.values["rows"], 2);
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::string::String;
use std::vec;
use std::vec::Vec;

use fades_abi::batch::{Draft, SeriesSpec, encoded_length, mark, order};
use fades_abi::gate::{Event, event};
use zerocopy::IntoBytes;

use crate::cbor;
use crate::context::Zone;
use crate::function::Function;
use crate::params::Params;
use crate::reduce;
use crate::serve::{Stop, serve};
use crate::value::{Map, Value};

mod harness;
mod mapped;
mod memory;
mod natively;
mod record;

use harness::Harness;
pub use memory::memory_left;
#[doc(hidden)]
pub use natively::natively;
pub(crate) use record::log;

/// A run in preparation.
#[derive(Debug, Clone)]
pub struct Run {
    params: Map,
    zone: Zone,
    dtos: Vec<String>,
    order: u32,
    steps: Vec<Step>,
    output: usize,
    memory: usize,
}

/// Rows of one series, as a test writes them down.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Identifier of the device.
    pub device: String,
    /// What was measured.
    pub kind: String,
    /// Unit; may be empty.
    pub unit: String,
    /// Where the device was; may be empty.
    pub location: String,
    /// Time, value, and whether the row is marked.
    pub rows: Vec<(i64, f64, bool)>,
}

/// What a function answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Values by name.
    pub values: Value,
    /// Readings.
    pub readings: Vec<Series>,
    /// Answers to windows, in order.
    pub windows: Vec<Answer>,
    /// Checkpoints, in order.
    pub checkpoints: Vec<Vec<u8>>,
    /// Lines of the log with their levels.
    pub log: Vec<(crate::log::Level, String)>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The function gave up; place and reason.
    Abort(String),
    /// The answer does not fit the output window; bytes needed.
    OutputFull(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Batch(u32, Vec<Series>),
    Plain(Event),
    Restore(Vec<u8>),
}

impl Series {
    /// A series without rows.
    #[must_use]
    pub fn new(device: &str, kind: &str, unit: &str, location: &str) -> Self {
        Self {
            device: device.into(),
            kind: kind.into(),
            unit: unit.into(),
            location: location.into(),
            rows: Vec::new(),
        }
    }

    /// The series with one more row; `time` in ns since 1970 UTC.
    #[must_use]
    pub fn row(mut self, time: i64, value: f64) -> Self {
        self.rows.push((time, value, false));
        self
    }

    /// The series with one more row, marked as outside of its valid range.
    #[must_use]
    pub fn marked(mut self, time: i64, value: f64) -> Self {
        self.rows.push((time, value, true));
        self
    }

    /// The series with more rows.
    #[must_use]
    pub fn rows(mut self, rows: impl IntoIterator<Item = (i64, f64)>) -> Self {
        let rows = rows.into_iter().map(|(time, value)| (time, value, false));
        self.rows.extend(rows);
        self
    }

    fn name(&self) -> [&str; 4] {
        [&self.device, &self.kind, &self.unit, &self.location]
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// A run without parameters and data, in UTC, with 1 MiB of output and
    /// memory without limit.
    #[must_use]
    pub fn new() -> Self {
        Self {
            params: Map::new(),
            zone: Zone::utc(),
            dtos: Vec::new(),
            order: order::SERIES,
            steps: Vec::new(),
            output: 1024 * 1024,
            memory: usize::MAX,
        }
    }

    /// Sets a parameter.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.params.set(name, value);
        self
    }

    /// Sets the zone.
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
        self
    }

    /// Sets how the batches of each DTO follow each other, one of
    /// [`order`]; by default series after series.
    #[must_use]
    pub const fn order(mut self, order: u32) -> Self {
        self.order = order;
        self
    }

    /// Limits the answer, bytes.
    #[must_use]
    pub const fn output(mut self, bytes: usize) -> Self {
        self.output = bytes;
        self
    }

    /// Sets what [`crate::memory::left`] starts from, bytes. The limit is not
    /// enforced.
    #[must_use]
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Begins the next DTO: batches that follow are its. (Without this there is
    /// one DTO, `data`.)
    #[must_use]
    pub fn dto(mut self, name: &str) -> Self {
        self.end_of_dto();
        self.dtos.push(name.into());
        self
    }

    /// A batch with these series.
    #[must_use]
    pub fn batch(mut self, series: &[Series]) -> Self {
        if self.dtos.is_empty() {
            self.dtos.push("data".into());
        }
        let dto = self.dtos.len() as u32 - 1;
        self.steps.push(Step::Batch(dto, series.to_vec()));
        self
    }

    /// The end of a window.
    #[must_use]
    pub fn window_end(self, id: u64, from: i64, to: i64) -> Self {
        self.event(Event {
            kind: event::WINDOW_END,
            id,
            from,
            to,
            ..Event::default()
        })
    }

    /// Asks for a checkpoint.
    #[must_use]
    pub fn save(self) -> Self {
        self.event(Event {
            kind: event::SAVE,
            ..Event::default()
        })
    }

    /// Hands a checkpoint back.
    #[must_use]
    pub fn restore(mut self, checkpoint: &[u8]) -> Self {
        self.steps.push(Step::Restore(checkpoint.to_vec()));
        self
    }

    /// Any event, such as one that does not exist yet.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.steps.push(Step::Plain(event));
        self
    }

    fn end_of_dto(&mut self) {
        if let Some(dto) = self.dtos.len().checked_sub(1) {
            self.steps.push(Step::Plain(Event {
                kind: event::END,
                dto: dto as u32,
                ..Event::default()
            }));
        }
    }

    /// Runs `F` to its end.
    ///
    /// # Errors
    /// When it gives up, or its answer does not fit.
    pub fn answer<F: Function>(mut self) -> Result<Answer, Failure> {
        self.end_of_dto();
        let mut steps = core::mem::take(&mut self.steps);
        steps.push(Step::Plain(Event {
            kind: event::FINISH,
            ..Event::default()
        }));
        reduce::set_level(reduce::detect());
        record::start();
        let mut host = Harness::new(self.data(steps));
        let mut window = vec![0_u64; self.output.div_ceil(8)];
        let window = &mut window.as_mut_bytes()[..self.output];
        let params = self.params();
        // What a host has is not the function's memory.
        memory::start(self.memory);
        let served = serve::<F>(&mut host, &params, window);
        let log = record::take();
        match served {
            Ok(()) => Ok(host.answer(log)),
            Err(Stop::Abort(abort)) => Err(Failure::Abort(abort.text().into())),
            Err(Stop::OutputFull(full)) => Err(Failure::OutputFull(full.needed)),
        }
    }

    /// The batches alone, as files hold them.
    #[must_use]
    pub fn batches(mut self) -> Vec<Vec<u8>> {
        let mut steps = core::mem::take(&mut self.steps);
        steps.retain(|step| matches!(step, Step::Batch(..)));
        let data = self.data(steps);
        data.iter()
            .map(|(_, words)| words.as_bytes().into())
            .collect()
    }

    /// Parameters and context, encoded as a host does. They live as long as the
    /// tests, as they live as long as an image.
    fn params(&self) -> Params {
        let mut given = vec![0; 64 * 1024];
        let length = cbor::encode_map(&self.params, &mut given).unwrap_or_default();
        given.truncate(length);
        let context = crate::context::encode(&self.zone, &self.dtos);
        Params::new(given.leak(), context.leak())
    }

    fn data(&self, steps: Vec<Step>) -> VecDeque<(Event, Vec<u64>)> {
        let ids = Ids::of(&steps);
        let mut sequences = BTreeMap::new();
        let encode = |(at, step): (usize, Step)| match step {
            Step::Plain(event) => (event, Vec::new()),
            Step::Restore(bytes) => (
                Event {
                    kind: event::RESTORE,
                    length: bytes.len() as u64,
                    ..Event::default()
                },
                words(&bytes),
            ),
            Step::Batch(dto, series) => {
                let sequence = sequences.entry(dto).or_insert(0);
                let memory = self.encode(dto, *sequence, &ids.specs(at, dto, &series), &series);
                *sequence += 1;
                let event = Event {
                    kind: event::BATCH,
                    dto,
                    length: (memory.len() * 8) as u64,
                    ..Event::default()
                };
                (event, memory)
            }
        };
        steps.into_iter().enumerate().map(encode).collect()
    }

    fn encode(
        &self,
        dto: u32,
        sequence: u32,
        specs: &[SeriesSpec<'_>],
        series: &[Series],
    ) -> Vec<u64> {
        let rows = || series.iter().flat_map(|s| &s.rows);
        let marks = rows().any(|row| row.2);
        let mut memory = vec![0; encoded_length(specs, marks).div_ceil(8)];
        let bytes = memory.as_mut_bytes();
        if let Ok(draft) = Draft::new(bytes, dto, sequence, self.order, specs, marks) {
            for (i, row) in rows().enumerate() {
                (draft.time[i], draft.value[i]) = (row.0, row.1);
            }
            if let Some(cells) = draft.mark {
                for (cell, row) in cells.iter_mut().zip(rows()) {
                    *cell = if row.2 { mark::OUTSIDE } else { 0 };
                }
            }
        }
        memory
    }
}

/// Numbers of series, and where each comes for the last time.
struct Ids {
    ids: BTreeMap<(u32, Vec<String>), (u32, usize)>,
}

impl Ids {
    fn of(steps: &[Step]) -> Self {
        let mut ids = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            let Step::Batch(dto, series) = step else {
                continue;
            };
            for s in series {
                let next = ids.len() as u32;
                ids.entry(Self::key(*dto, s)).or_insert((next, at)).1 = at;
            }
        }
        Self { ids }
    }

    fn key(dto: u32, series: &Series) -> (u32, Vec<String>) {
        (dto, series.name().map(Into::into).to_vec())
    }

    fn specs<'s>(&self, at: usize, dto: u32, series: &'s [Series]) -> Vec<SeriesSpec<'s>> {
        let spec = |s: &'s Series| {
            let (id, last) = self.ids[&Self::key(dto, s)];
            SeriesSpec {
                id,
                device: &s.device,
                kind: &s.kind,
                unit: &s.unit,
                location: &s.location,
                rows: s.rows.len() as u64,
                complete: last == at,
            }
        };
        series.iter().map(spec).collect()
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    words
}
