//! Modbus devices as a source: over TCP, or on a serial bus (RTU).
//!
//! ```text
//! config ─► line (where), unit + register (what)
//! sample ─► Question ─► bus ─► port ─► unit
//!                        │      plan: neighbours in one request
//!                        └─► Live
//! ```
//! A source is one bus. Its requests go strictly one after the other, because
//! that is how the wire behind most gateways works.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fades_task::coverage::{BadRow, LossReason};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::chunk::Segment;
use crate::config::{FieldError, ModbusSource};
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::Live;
use crate::selector::Selector;
use crate::series::SeriesKey;
use crate::source::Setting;

mod bus;
mod line;
mod plan;
mod port;
mod register;
mod unit;

pub(crate) use line::Line;

use bus::{Answer, Bus, Question};
use register::Said;
use unit::{Came, Unit};

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModbusError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// More questions than the bus can take.
    #[error("too many questions wait for {0}: ask less often")]
    Busy(String),
    /// A defect ended the queue of the bus.
    #[error("the queue of {0} has ended by a defect of the broker: restart it")]
    Ended(String),
}

/// Questions that wait to be looked at.
const QUESTIONS: usize = 64;

/// How long units may take when the task does not say.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a look is taken at whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A source of Modbus devices at work.
#[derive(Debug)]
pub(crate) struct Modbus {
    line: Line,
    live: Arc<Live>,
    /// Series, place in words and number of each register of each unit.
    units: Vec<(u8, Vec<(SeriesKey, String)>)>,
    questions: Sender<Question>,
}

impl Modbus {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(
        config: &ModbusSource,
        setting: &Setting,
        live: Arc<Live>,
    ) -> Result<Self, FieldError> {
        let line = Line::parse(config)?;
        let units: Vec<Unit> = config.units.iter().map(|u| Unit::new(config, u)).collect();
        live.expect(units.iter().flat_map(|u| u.keys.iter().cloned()));
        let known = units.iter().map(|u| {
            let places = u.registers.iter().map(register::Register::place);
            (u.id, u.keys.iter().cloned().zip(places).collect())
        });
        let known = known.collect();
        let (questions, asked) = tokio::sync::mpsc::channel(QUESTIONS);
        let times = [config.timeout, config.every].map(|d| d.as_std());
        let bus = Bus::new(
            (line.clone(), setting.dial.clone()),
            times,
            &live,
            units,
            asked,
        );
        if let Some(runtime) = &setting.runtime {
            runtime.spawn(bus.run());
        }
        Ok(Self {
            line,
            live,
            units: known,
            questions,
        })
    }

    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn reads(&self) -> String {
        self.line.to_string()
    }

    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        let mut keys = self.units.iter().flat_map(|(_, keys)| keys);
        keys.any(|(key, _)| selector.matches(key))
    }

    /// Asks the units that match, now, and sends what they say.
    pub(crate) fn sample(&self, ask: &Ask, out: &Outlet) -> Result<(), ModbusError> {
        let mut open = self.matching(&ask.selector);
        for unit in open.keys() {
            out.device(self.device(*unit))?;
        }
        let until = ask.deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        let (reply, answers) = mpsc::channel();
        let question = Question {
            units: open.clone().into_iter().collect(),
            until,
            stop: Arc::clone(&ask.stop),
            reply,
        };
        self.questions.try_send(question).map_err(|e| match e {
            TrySendError::Full(_) => ModbusError::Busy(self.reads()),
            TrySendError::Closed(_) => ModbusError::Ended(self.reads()),
        })?;
        while !open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left.min(LOOK)) {
                Ok(answer) => {
                    open.remove(&answer.unit);
                    self.pass_on(answer, out)?;
                }
                Err(_) if ask.is_stopped() => return Err(Stopped.into()),
                Err(_) if left.is_zero() => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    // The rest was dropped because its time was over.
                    break;
                }
            }
        }
        for unit in open.keys() {
            let device = self.device(*unit);
            let reason = format!(
                "unit {} was not asked or did not answer in time",
                self.units[*unit].0
            );
            out.late(device, self.live.last_seen(device), reason)?;
        }
        Ok(())
    }

    /// Which registers of which units match.
    fn matching(&self, selector: &Selector) -> BTreeMap<usize, Vec<usize>> {
        let units = self.units.iter().enumerate().map(|(u, (_, keys))| {
            let matching = keys.iter().enumerate();
            let matching = matching.filter(|(_, (key, _))| selector.matches(key));
            (u, matching.map(|(i, _)| i).collect::<Vec<_>>())
        });
        units.filter(|(_, wanted)| !wanted.is_empty()).collect()
    }

    fn device(&self, unit: usize) -> &Arc<str> {
        // Every unit has a register.
        &self.units[unit].1[0].0.device
    }

    fn pass_on(&self, answer: Answer, out: &Outlet) -> Result<(), Stopped> {
        let device = self.device(answer.unit);
        let (id, keys) = &self.units[answer.unit];
        let came = match answer.came {
            Ok(came) => came,
            Err(reason) => {
                let since = self.live.last_seen(device);
                return out.failed(device, since, format!("unit {id}: {reason}"));
            }
        };
        out.fetched(came.len() as u64, answer.bytes)?;
        let mut refused = Vec::new();
        let all = came.len();
        for (i, came) in came {
            let (key, place) = &keys[i];
            match came {
                Came::Said(time, Said::Value { value, mark }) => {
                    let mut segment = Segment::default();
                    segment.push(time, value, mark);
                    out.readings(key, segment)?;
                }
                Came::Said(_, Said::Missing) => {}
                Came::Refused(reason) => {
                    refused.push(reason);
                    let cited = BadRow {
                        file: format!("{} unit {id}", self.line),
                        line: 1,
                        column: Some(place.clone()),
                        reason: LossReason::Refused,
                    };
                    out.lost(LossReason::Refused, 1, Some(cited))?;
                }
            }
        }
        if refused.len() == all {
            let since = self.live.last_seen(device);
            let reason = refused.into_iter().next().unwrap_or_default();
            out.failed(device, since, format!("unit {id}: {reason}"))?;
        }
        Ok(())
    }
}
