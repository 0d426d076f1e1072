//! Sensor Measurement Lists (SenML, RFC 8428) in JSON and CBOR.
//!
//! Both forms become [`Record`]s, and [`resolve`] applies what base fields say of
//! the records after them.
//!
//! # Names
//! The name of a record is its base name and its own name put together; devices
//! and kinds are not told apart by the standard. Here the base name (without a
//! separator `:` or `/` at its end) is the device and the record's own name is the
//! kind; of a name that stands alone, what is after the last separator is the
//! kind, and all of it when there is none.

use fades_task::coverage::LossReason;

use super::{Decoded, Loss, MOST_NAME, MOST_RECORDS, PayloadError, Said, bounded, time};

mod cbor;
mod json;

/// Times below this (2^28 s) count from now (RFC 8428, 4.5.3).
const RELATIVE: f64 = 268_435_456.0;

/// The version of SenML that is understood (RFC 8428, 4.4).
const VERSION: i64 = 10;

/// Units of SenML (RFC 8428, 12.1; RFC 8798) whose UCUM code is another.
const UNITS: &[(&str, &str)] = &[
    ("/", "1"),
    ("%EL", "%"),
    ("EL", "s"),
    ("lat", "deg"),
    ("lon", "deg"),
    ("l", "L"),
    ("l/s", "L/s"),
    ("ml", "mL"),
    ("1/s", "Hz"),
    ("1/min", "/min"),
    ("beat/min", "/min"),
    ("VA", "V.A"),
    ("Ah", "A.h"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
];

/// Decodes a pack in JSON (`application/senml+json`) that came at `now` (ns since
/// 1970 UTC).
pub(crate) fn json(payload: &[u8], now: i64) -> Result<Decoded, PayloadError> {
    bounded(payload)?;
    resolve(json::records(payload)?, now)
}

/// Decodes a pack in CBOR (`application/senml+cbor`).
pub(crate) fn cbor(payload: &[u8], now: i64) -> Result<Decoded, PayloadError> {
    bounded(payload)?;
    resolve(cbor::records(payload)?, now)
}

/// A record as it stands in a pack.
#[derive(Debug, Clone, Default, PartialEq)]
struct Record {
    base_name: Option<String>,
    base_time: Option<f64>,
    base_unit: Option<String>,
    base_value: Option<f64>,
    base_sum: Option<f64>,
    version: Option<i64>,
    name: Option<String>,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
    time: Option<f64>,
    /// It has a value that is no number: a text, a boolean, bytes.
    other: bool,
    /// A field that is not known and must be.
    must: Option<String>,
}

/// What base fields say of the records after them.
#[derive(Debug, Default)]
struct Base {
    name: Option<String>,
    time: Option<f64>,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
}

fn resolve(records: Vec<Record>, now: i64) -> Result<Decoded, PayloadError> {
    let (mut base, mut decoded) = (Base::default(), Decoded::default());
    for (i, record) in records.into_iter().enumerate() {
        if let Some(label) = record.must {
            return Err(PayloadError::MustUnderstand { label });
        }
        if let Some(found) = record.version.filter(|&v| v > VERSION) {
            return Err(PayloadError::Version { found });
        }
        base.take(&record);
        let said = match base.said(&record, now) {
            Ok(said) => said,
            Err(reason) => {
                decoded.lose(reason, i);
                continue;
            }
        };
        if record.other {
            decoded.lose(LossReason::NotANumber, i);
        } else if let Some(value) = record.value.map(|v| v + base.value.unwrap_or_default()) {
            decoded.take(said.clone(), value, i);
        } else if let (Some(value), None) = (base.value, record.sum)
            && record.is_entry()
        {
            decoded.take(said.clone(), value, i);
        } else if record.sum.is_none() && record.is_entry() {
            decoded.lose(LossReason::Empty, i);
        }
        let sum = record.sum.map(|s| s + base.sum.unwrap_or_default());
        if let Some(sum) = sum {
            decoded.take(Said { sum: true, ..said }, sum, i);
        }
    }
    Ok(decoded)
}

impl Decoded {
    fn take(&mut self, said: Said, value: f64, record: usize) {
        if value.is_finite() {
            self.said.push(Said { value, ..said });
        } else {
            self.lose(LossReason::NotFinite, record);
        }
    }

    fn lose(&mut self, reason: LossReason, record: usize) {
        let place = format!("record {}", record + 1);
        self.lost.push(Loss { reason, place });
    }
}

impl Record {
    /// Whether it says something itself, not only of the records after it.
    const fn is_entry(&self) -> bool {
        self.name.is_some() || self.unit.is_some() || self.time.is_some()
    }
}

impl Base {
    fn take(&mut self, record: &Record) {
        fn replace<T: Clone>(old: &mut Option<T>, new: Option<&T>) {
            if let Some(new) = new {
                *old = Some(new.clone());
            }
        }
        replace(&mut self.name, record.base_name.as_ref());
        replace(&mut self.time, record.base_time.as_ref());
        replace(&mut self.unit, record.base_unit.as_ref());
        replace(&mut self.value, record.base_value.as_ref());
        replace(&mut self.sum, record.base_sum.as_ref());
    }

    /// Whose reading a record is, and of when.
    fn said(&self, record: &Record, now: i64) -> Result<Said, LossReason> {
        let long = |text: &&str| text.len() > MOST_NAME;
        let texts = [&self.name, &record.name, &self.unit, &record.unit];
        if texts
            .into_iter()
            .flatten()
            .map(String::as_str)
            .any(|t| long(&t))
        {
            return Err(LossReason::Unnamed);
        }
        let (device, kind) = names(
            self.name.as_deref().unwrap_or_default(),
            record.name.as_deref().unwrap_or_default(),
        );
        let time = match (self.time, record.time) {
            (None, None) => None,
            (base, own) => {
                let seconds = base.unwrap_or_default() + own.unwrap_or_default();
                Some(absolute(seconds, now).ok_or(LossReason::BadTime)?)
            }
        };
        let unit = record.unit.as_ref().or(self.unit.as_ref());
        Ok(Said {
            device: device.map(str::to_owned),
            kind: kind.map(str::to_owned),
            unit: unit.map(|u| ucum(u).to_owned()),
            time,
            ..Said::default()
        })
    }
}

/// The device and the kind that a name means.
fn names<'a>(base: &'a str, own: &'a str) -> (Option<&'a str>, Option<&'a str>) {
    let some = |text: &'a str| Some(text).filter(|t| !t.is_empty());
    if !base.is_empty() {
        return (some(base.trim_end_matches([':', '/'])), some(own));
    }
    match own.rsplit_once([':', '/']) {
        Some((device, kind)) => (some(device), some(kind)),
        None => (None, some(own)),
    }
}

fn absolute(seconds: f64, now: i64) -> Option<i64> {
    let time = time::nanoseconds(seconds, 1_000_000_000)?;
    if seconds < RELATIVE {
        now.checked_add(time)
    } else {
        Some(time)
    }
}

fn ucum(unit: &str) -> &str {
    let found = UNITS.iter().find(|(senml, _)| *senml == unit);
    found.map_or(unit, |(_, code)| code)
}

/// Whether a field that is not known must be understood.
fn must_be_understood(label: &str) -> bool {
    label.ends_with('_')
}

fn no_senml(reason: impl std::fmt::Display) -> PayloadError {
    PayloadError::NoSenml {
        reason: reason.to_string().chars().take(120).collect(),
    }
}

/// One record more, if there may be.
fn add(records: &mut Vec<Record>, record: Record) -> Result<(), PayloadError> {
    if records.len() >= MOST_RECORDS {
        return Err(PayloadError::TooMany);
    }
    records.push(record);
    Ok(())
}

#[cfg(test)]
mod tests;
