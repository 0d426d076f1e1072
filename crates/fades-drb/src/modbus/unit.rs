//! What is known of one unit: its registers, which of them are bad, what they
//! said last, and how it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_modbus::ExceptionCode;

use super::plan::{Block, Bounds, blocks};
use super::register::{Register, Said};
use crate::breaker::{Breaker, Rule, chance};
use crate::config::{ModbusSource, ModbusUnit};
use crate::live::{Heard, Live, now};
use crate::series::SeriesKey;

/// What is asked again within this time gets the same answer.
const FRESH: Duration = Duration::from_secs(1);

/// A unit that fails three times in a row is left alone for longer and longer.
const RULE: Rule = Rule {
    breaks_at: 3,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(300),
};

/// A unit on the bus.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: u8,
    pub(super) device: Arc<str>,
    pub(super) registers: Arc<Vec<Register>>,
    pub(super) keys: Vec<SeriesKey>,
    bounds: Bounds,
    /// Registers that the unit refused, why, and until when this is believed.
    bad: BTreeMap<usize, (String, Instant)>,
    /// Registers that the unit does not give together with what is before them.
    apart: BTreeSet<usize>,
    said: BTreeMap<usize, (Instant, i64, Said)>,
    pub(super) breaker: Breaker,
    failed: Option<(Instant, String)>,
    /// When it is to be read while somebody wants what it says.
    pub(super) due: Instant,
}

/// What a register came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Came {
    /// At that time, ns since 1970 UTC.
    Said(i64, Said),
    /// The unit refuses this register.
    Refused(String),
}

impl Unit {
    /// Of a configuration that was checked.
    pub(super) fn new(config: &ModbusSource, unit: &ModbusUnit) -> Self {
        let registers = if unit.registers.is_empty() {
            &config.registers
        } else {
            &unit.registers
        };
        let registers: Vec<Register> = registers.iter().map(Register::new).collect();
        let device: Arc<str> = unit.device.as_str().into();
        let location: Arc<str> = unit.location.as_str().into();
        let key = |r: &Register| SeriesKey {
            device: Arc::clone(&device),
            location: Arc::clone(&location),
            kind: Arc::clone(&r.kind),
            unit: Arc::clone(&r.unit),
        };
        Self {
            id: unit.id,
            keys: registers.iter().map(key).collect(),
            device,
            registers: Arc::new(registers),
            bounds: Bounds::new(config),
            bad: BTreeMap::new(),
            apart: BTreeSet::new(),
            said: BTreeMap::new(),
            breaker: Breaker::new(RULE),
            failed: None,
            due: Instant::now(),
        }
    }

    /// Those of `wanted` that must be asked for.
    pub(super) fn stale(&self, wanted: &[usize], now: Instant) -> Vec<usize> {
        let is_fresh = |i: &usize| {
            let said = self.said.get(i).map(|(at, ..)| *at);
            said.is_some_and(|at| now - at < FRESH) || self.is_bad(*i, now)
        };
        wanted.iter().copied().filter(|i| !is_fresh(i)).collect()
    }

    /// Why it failed a moment ago, or why it is not asked now.
    pub(super) fn why_not(&self, now: Instant) -> Option<String> {
        let (at, reason) = self.failed.as_ref()?;
        let again = self.breaker.until().filter(|until| *until > now);
        match again {
            Some(until) => Some(format!(
                "{reason}; asked again in {} s",
                (until - now).as_secs() + 1
            )),
            None => (now - *at < FRESH).then(|| reason.clone()),
        }
    }

    pub(super) fn is_bad(&self, register: usize, now: Instant) -> bool {
        let bad = self.bad.get(&register);
        bad.is_some_and(|(_, until)| *until > now)
    }

    /// The requests for these registers.
    pub(super) fn blocks(&self, wanted: &[usize], now: Instant) -> Vec<Block> {
        let is_bad = |i| self.is_bad(i, now);
        blocks(&self.registers, wanted, &self.apart, is_bad, self.bounds)
    }

    /// Takes the answer to a request.
    pub(super) fn take(&mut self, block: &Block, words: &[u16], heard: &mut Vec<Heard>) {
        let (at, time) = (Instant::now(), now());
        for &i in &block.registers {
            let register = &self.registers[i];
            let Some(said) = register.read(block.words(register, words)) else {
                continue;
            };
            self.bad.remove(&i);
            self.said.insert(i, (at, time, said));
            if let Said::Value { value, mark } = said {
                heard.push(Heard {
                    key: self.keys[i].clone(),
                    time: None,
                    value,
                    mark,
                });
            }
        }
    }

    /// The unit refuses a register.
    pub(super) fn refuse(&mut self, register: usize, code: ExceptionCode, now: Instant) {
        let reason = format!("{}: {code}", self.registers[register].place());
        tracing::debug!("unit {}: {reason}", self.id);
        self.said.remove(&register);
        self.bad.insert(register, (reason, now + believed(code)));
    }

    /// The unit does not give a register together with what is before it.
    pub(super) fn part(&mut self, register: usize) {
        self.apart.insert(register);
    }

    /// It answered.
    pub(super) fn worked(&mut self) {
        self.breaker.worked();
        self.failed = None;
    }

    /// It did not answer as it should.
    pub(super) fn fail(&mut self, reason: &str, live: &Live) {
        let now = Instant::now();
        self.breaker.failed(now, chance());
        self.failed = Some((now, reason.to_owned()));
        live.failed(&self.device, reason, self.breaker.is_broken());
    }

    /// What `wanted` came to when they were asked last.
    pub(super) fn came(&self, wanted: &[usize], now: Instant) -> Vec<(usize, Came)> {
        let came = wanted.iter().filter_map(|&i| {
            let came = match (self.bad.get(&i), self.said.get(&i)) {
                (Some((reason, until)), _) if *until > now => Came::Refused(reason.clone()),
                (_, Some((_, time, said))) => Came::Said(*time, *said),
                _ => return None,
            };
            Some((i, came))
        });
        came.collect()
    }
}

/// Whether an exception is about the registers that were asked for, not about the
/// unit.
pub(super) const fn is_about_registers(code: ExceptionCode) -> bool {
    matches!(
        code,
        ExceptionCode::IllegalFunction
            | ExceptionCode::IllegalDataAddress
            | ExceptionCode::IllegalDataValue
            | ExceptionCode::ServerDeviceFailure
            | ExceptionCode::MemoryParityError
    )
}

/// How long a refusal is believed: what does not exist will not soon, what fails
/// may work again.
const fn believed(code: ExceptionCode) -> Duration {
    match code {
        ExceptionCode::ServerDeviceFailure | ExceptionCode::MemoryParityError => {
            Duration::from_secs(60)
        }
        _ => Duration::from_secs(3600),
    }
}
