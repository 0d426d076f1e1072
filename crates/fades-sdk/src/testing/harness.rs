//! The host of a function under test.

use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

use fades_abi::batch::Batch;
use fades_abi::gate::{Event, event};
use zerocopy::IntoBytes;

use super::{Answer, Series};
use crate::cbor;
use crate::output::Written;
use crate::serve::Host;
use crate::value::Value;

/// Plays events, and keeps what it is given.
pub(super) struct Harness {
    coming: VecDeque<(Event, Vec<u64>)>,
    data: Vec<u64>,
    /// What was `data`: freed while the function runs, it would count as memory
    /// that the function has given back.
    gone: Vec<Vec<u64>>,
    window: bool,
    last: Option<(Value, Vec<Series>)>,
    windows: Vec<Answer>,
    checkpoints: Vec<Vec<u8>>,
}

impl Harness {
    pub(super) fn new(coming: VecDeque<(Event, Vec<u64>)>) -> Self {
        Self {
            gone: Vec::with_capacity(coming.len()),
            coming,
            data: Vec::new(),
            window: false,
            last: None,
            windows: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    pub(super) fn answer(self, log: Vec<(crate::log::Level, String)>) -> Answer {
        let (values, readings) = self.last.unwrap_or((Value::Null, Vec::new()));
        Answer {
            values,
            readings,
            windows: self.windows,
            checkpoints: self.checkpoints,
            log,
        }
    }
}

impl Host for Harness {
    fn next(&mut self) -> Event {
        let finish = Event {
            kind: event::FINISH,
            ..Event::default()
        };
        let (event, data) = self.coming.pop_front().unwrap_or((finish, Vec::new()));
        self.window = event.kind == event::WINDOW_END;
        self.gone.push(core::mem::replace(&mut self.data, data));
        event
    }

    fn data(&self, event: &Event) -> &[u8] {
        &self.data.as_bytes()[..event.length as usize]
    }

    fn answer(&mut self, window: &[u8], written: Written) {
        let values = cbor::decode(&window[..written.values]).unwrap_or(Value::Null);
        let readings = &window[written.readings..][..written.readings_length];
        let readings = Batch::open(readings).map_or_else(|_| Vec::new(), |b| read(&b));
        if self.window {
            self.windows.push(Answer {
                values,
                readings,
                windows: Vec::new(),
                checkpoints: Vec::new(),
                log: Vec::new(),
            });
        } else {
            self.last = Some((values, readings));
        }
    }

    fn state(&mut self, window: &[u8], length: usize) {
        self.checkpoints.push(window[..length].to_vec());
    }
}

fn read(batch: &Batch<'_>) -> Vec<Series> {
    let series = batch.series().map(|s| Series {
        rows: (0..s.time.len())
            .map(|i| (s.time[i], s.value[i], s.mark.is_some_and(|m| m[i] != 0)))
            .collect(),
        ..Series::new(s.device, s.kind, s.unit, s.location)
    });
    series.collect()
}
