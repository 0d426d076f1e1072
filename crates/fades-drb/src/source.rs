//! Sources at work.
//!
//! Files of rows ([`CsvFiles`]) know what they have before it is read. All
//! others are *flows*: they are asked, and send what they have (see
//! [`flow`](crate::flow)). Flows are either *stores*, which keep their readings
//! themselves, or *live*, whose readings come and go (see [`live`](crate::live)).

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fades_task::identity::Name;
use fades_task::mtw::Take;
use fades_task::resource::Recording;

use crate::client::{Means, Room};
use crate::coap::{Coap, CoapError};
use crate::config::{FieldError, Kind, Source};
use crate::csv::CsvFiles;
use crate::dial::Dial;
use crate::flow::{Ask, Outlet, Stopped};
use crate::http::{Http, HttpError};
use crate::influx::{Influx, InfluxError};
use crate::live::Live;
use crate::modbus::{Modbus, ModbusError};
use crate::mqtt::{Mqtt, MqttError};
use crate::notes::Notes;
use crate::parquet::{ParquetError, ParquetFiles};
use crate::readings::{Readings, ReadingsError};
use crate::secret::{SecretError, Secrets};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// A source at work, and what the operator said of its devices.
pub(crate) struct AtWork {
    pub(crate) notes: Arc<Notes>,
    pub(crate) worker: Worker,
}

/// How a source is read.
pub(crate) enum Worker {
    Csv(Box<CsvFiles>),
    Flow(Box<Flowing>),
}

/// A source that sends what it has.
#[derive(Debug)]
pub(crate) struct Flowing {
    kind: FlowKind,
    fresh: Mutex<Fresh>,
}

#[derive(Debug)]
enum FlowKind {
    Parquet(ParquetFiles),
    Influx(Influx),
    Mqtt(Mqtt),
    Modbus(Modbus),
    Http(Http),
    Coap(Coap),
}

/// What sources are made with.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// Where relative names begin.
    pub(crate) base: PathBuf,
    pub(crate) secrets: Secrets,
    /// Where readings are recorded; `None`: nowhere.
    pub(crate) readings: Option<Arc<Readings>>,
    /// How connections are had.
    pub(crate) dial: Dial,
    /// Where long answers have a place.
    pub(crate) room: Arc<Room>,
    /// Runs what waits for devices; there when a live source is.
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

/// A series that a source knows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) key: SeriesKey,
    /// Readings, when they were counted.
    pub(crate) readings: Option<u64>,
    /// Times of the oldest and newest, ns since 1970 UTC, when known.
    pub(crate) oldest: Option<i64>,
    pub(crate) newest: Option<i64>,
}

/// Why a source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Readings(#[from] ReadingsError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error(transparent)]
    Influx(#[from] InfluxError),
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    #[error(transparent)]
    Modbus(#[from] ModbusError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Coap(#[from] CoapError),
    /// A range of a source that keeps nothing.
    #[error(
        "its readings are not kept: add record to the source, or ask for \"now\" or \"collect\""
    )]
    NotRecorded,
    /// A live question to a source that only keeps readings.
    #[error("it does not hear devices: ask for a range (\"from\", \"to\", \"last\") instead")]
    NotLive,
    /// An aggregate of a source that makes none.
    #[error("it makes no aggregates: leave \"aggregate\" out and let the function make them")]
    NoAggregate,
}

/// A question that is asked again within this time gets the same answer.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// Numbers the states of a source that cannot say whether it changed.
#[derive(Debug, Default)]
struct Fresh {
    number: u64,
    since: Option<Instant>,
}

impl AtWork {
    /// Sets a source to work that was checked.
    pub(crate) fn new(name: &Name, source: &Source, setting: &Setting) -> Result<Self, FieldError> {
        let setting = &Setting {
            dial: setting.dial.of(name),
            ..setting.clone()
        };
        let notes = Arc::new(Notes::new(&source.common.devices));
        let live = || {
            let recorder = match (&source.common.record, &setting.readings) {
                (Some(record), Some(readings)) => {
                    let recorder = readings.recorder(name, record);
                    Some(recorder.map_err(|e| FieldError::new("record", e.to_string()))?)
                }
                _ => None,
            };
            Ok::<_, FieldError>(Arc::new(Live::new(name, &notes, recorder)))
        };
        let kind = match &source.kind {
            Kind::Csv(csv) => {
                let files = CsvFiles::new(csv, &setting.base)?;
                let worker = Worker::Csv(Box::new(files));
                return Ok(Self { notes, worker });
            }
            Kind::Parquet(parquet) => FlowKind::Parquet(ParquetFiles::new(parquet, setting)?),
            Kind::Influx(influx) => FlowKind::Influx(Influx::new(influx, setting)?),
            Kind::Mqtt(mqtt) => FlowKind::Mqtt(Mqtt::new(mqtt, setting, live()?)?),
            Kind::Modbus(modbus) => FlowKind::Modbus(Modbus::new(modbus, setting, live()?)?),
            Kind::Http(http) => FlowKind::Http(Http::new(http, setting, live()?)?),
            Kind::Coap(coap) => FlowKind::Coap(Coap::new(coap, setting, live()?)?),
        };
        let worker = Worker::Flow(Box::new(Flowing {
            kind,
            fresh: Mutex::default(),
        }));
        Ok(Self { notes, worker })
    }
}

impl Flowing {
    /// Whether the source can have readings that match, without asking it. A
    /// source that cannot answer such a question matches when it is `named`, and
    /// says why.
    pub(crate) fn may_match(&self, ask: &Selector, take: Take, named: bool) -> bool {
        let can = match (self.live(), take) {
            (Some(live), Take::Range) => live.recorder().is_some(),
            (Some(_), _) => true,
            (None, take) => take == Take::Range,
        };
        let may = match &self.kind {
            FlowKind::Parquet(parquet) => parquet.may_match(ask),
            FlowKind::Influx(influx) => influx.may_match(ask),
            FlowKind::Mqtt(mqtt) => mqtt.may_match(ask),
            FlowKind::Modbus(modbus) => modbus.may_match(ask),
            FlowKind::Http(http) => http.may_match(ask),
            FlowKind::Coap(coap) => coap.may_match(ask),
        };
        may && (can || named)
    }

    /// Sends what `ask` wants.
    pub(crate) fn fetch(&self, ask: &Ask, out: &Outlet) -> Result<(), SourceError> {
        if ask.aggregate.is_some() && !matches!(self.kind, FlowKind::Influx(_)) {
            return Err(SourceError::NoAggregate);
        }
        match (self.live(), ask.take) {
            (Some(live), Take::Range) => {
                let recorder = live.recorder().ok_or(SourceError::NotRecorded)?;
                Ok(recorder.read(ask, out)?)
            }
            (Some(live), Take::Live { .. }) => Ok(live.collect(ask, out)?),
            (Some(_), Take::Now) => self.sample(ask, out),
            (None, Take::Range) => self.range(ask, out),
            (None, _) => Err(SourceError::NotLive),
        }
    }

    fn range(&self, ask: &Ask, out: &Outlet) -> Result<(), SourceError> {
        match &self.kind {
            FlowKind::Parquet(parquet) => Ok(parquet.fetch(ask, out)?),
            FlowKind::Influx(influx) => Ok(influx.fetch(ask, out)?),
            FlowKind::Mqtt(_) | FlowKind::Modbus(_) | FlowKind::Http(_) | FlowKind::Coap(_) => {
                Err(SourceError::NotRecorded)
            }
        }
    }

    /// Sends one reading of each series, asking devices that can be asked.
    fn sample(&self, ask: &Ask, out: &Outlet) -> Result<(), SourceError> {
        match &self.kind {
            FlowKind::Mqtt(mqtt) => Ok(mqtt.sample(ask, out)?),
            FlowKind::Modbus(modbus) => Ok(modbus.sample(ask, out)?),
            FlowKind::Http(http) => Ok(http.sample(ask, out)?),
            FlowKind::Coap(coap) => Ok(coap.sample(ask, out)?),
            FlowKind::Parquet(_) | FlowKind::Influx(_) => Err(SourceError::NotLive),
        }
    }

    /// What a live source hears; `None` of others.
    pub(crate) fn live(&self) -> Option<&Arc<Live>> {
        match &self.kind {
            FlowKind::Parquet(_) | FlowKind::Influx(_) => None,
            FlowKind::Mqtt(mqtt) => Some(mqtt.live()),
            FlowKind::Modbus(modbus) => Some(modbus.live()),
            FlowKind::Http(http) => Some(http.live()),
            FlowKind::Coap(coap) => Some(coap.live()),
        }
    }

    /// What it reads, in words: a glob or an address without secrets.
    pub(crate) fn reads(&self) -> String {
        let reads = match &self.kind {
            FlowKind::Parquet(parquet) => parquet.reads(),
            FlowKind::Influx(influx) => influx.reads(),
            FlowKind::Mqtt(mqtt) => mqtt.reads(),
            FlowKind::Modbus(modbus) => modbus.reads(),
            FlowKind::Http(http) => http.reads(),
            FlowKind::Coap(coap) => coap.reads(),
        };
        let unusable = self.live().and_then(|live| live.unusable_words());
        match unusable {
            Some(words) => format!("{reads}; {words}"),
            None => reads,
        }
    }

    /// How its readings are recorded, if they are.
    pub(crate) fn recording(&self) -> Option<Recording> {
        let recorder = self.live()?.recorder()?;
        Some(recorder.report())
    }

    /// Its series. Of live sources those heard, configured, discovered or
    /// recorded; others are asked.
    pub(crate) fn known(&self, stop: &Arc<AtomicBool>) -> Result<Vec<Known>, SourceError> {
        match (&self.kind, self.live()) {
            (FlowKind::Parquet(parquet), _) => Ok(parquet.known(stop)?),
            (FlowKind::Influx(influx), _) => Ok(influx.known(stop)?),
            (_, Some(live)) => Ok(heard(live)),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// Connects, and waits for what the devices say first, so that a source that
    /// does not work says why.
    pub(crate) fn try_out(&self, ask: &Ask) -> Result<(), SourceError> {
        match &self.kind {
            FlowKind::Mqtt(mqtt) => Ok(mqtt.try_out(ask)?),
            // The others are asked anyway.
            FlowKind::Parquet(_)
            | FlowKind::Influx(_)
            | FlowKind::Modbus(_)
            | FlowKind::Http(_)
            | FlowKind::Coap(_) => Ok(()),
        }
    }

    /// Number of its state: the same number twice means that a question need not
    /// be asked twice. `None` of what arrives, which is never the same.
    pub(crate) fn state(&self, take: Take) -> Option<u64> {
        if matches!(take, Take::Live { .. }) {
            return None;
        }
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.since.is_none_or(|since| since.elapsed() > FRESH) {
            fresh.number += 1;
            fresh.since = Some(Instant::now());
        }
        Some(fresh.number)
    }
}

/// The series of a live source: those recorded, and those that are heard.
fn heard(live: &Live) -> Vec<Known> {
    let mut known: std::collections::BTreeMap<SeriesKey, Known> = live
        .recorder()
        .map(|r| r.known())
        .unwrap_or_default()
        .into_iter()
        .map(|k| (k.key.clone(), k))
        .collect();
    for (key, newest) in live.newest(&Selector::all()) {
        let entry = known.entry(key.clone()).or_insert_with(|| Known {
            key,
            readings: None,
            oldest: None,
            newest: None,
        });
        entry.newest = entry.newest.max(newest.map(|n| n.time));
    }
    known.into_values().collect()
}

impl Setting {
    /// What talks to a server or a broker needs of it.
    pub(crate) fn means(&self) -> Means {
        Means {
            secrets: self.secrets.clone(),
            dial: self.dial.clone(),
        }
    }
}
