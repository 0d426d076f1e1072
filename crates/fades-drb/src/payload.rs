//! What devices send in messages: bytes → readings, whatever brought the bytes.
//!
//! Pure: no socket, no clock; the time of arrival is an argument. All bytes are
//! hostile: what is too long, too deep or no such document is an error or a loss,
//! and memory is bounded by [`MOST_BYTES`] and [`MOST_RECORDS`].
//!
//! [`Meaning`] is where to start: it joins what the address of a message (topic,
//! path) says with what is in the message.

use fades_task::coverage::LossReason;

pub(crate) mod json;
mod meaning;
mod pattern;
pub(crate) mod senml;
mod time;

pub(crate) use meaning::{Meaning, Named, NamedBy, Names, Understood};
pub(crate) use pattern::Pattern;

/// Longest payload that is looked at, bytes.
pub(crate) const MOST_BYTES: usize = 256 << 10;

/// Most readings of one payload.
pub(crate) const MOST_RECORDS: usize = 10_000;

/// Longest name of a device, location or kind, bytes.
pub(crate) const MOST_NAME: usize = 256;

/// What one message says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) said: Vec<Said>,
    pub(crate) lost: Vec<Loss>,
}

/// One reading; what the message leaves open is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) device: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) kind: Option<String>,
    /// As the device spells it.
    pub(crate) unit: Option<String>,
    /// ns since 1970 UTC.
    pub(crate) time: Option<i64>,
    pub(crate) value: f64,
    /// The value is the sum over time of what `kind` says (SenML).
    pub(crate) sum: bool,
}

/// A reading that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) reason: LossReason,
    /// Where in the message: a JSON pointer, or the number of a record.
    pub(crate) place: String,
}

/// Why nothing of a message can be used. None of these repeats the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{found} bytes, more than the {MOST_BYTES} that are looked at")]
    TooLong { found: usize },
    #[error("more than {MOST_RECORDS} records")]
    TooMany,
    #[error("it is no number")]
    NoNumber,
    #[error("it is empty")]
    Empty,
    #[error("it is no JSON: {reason}")]
    NoJson { reason: String },
    #[error("it is no SenML: {reason}")]
    NoSenml { reason: String },
    /// RFC 8428, 4.4: such a field must be understood.
    #[error("its field {label:?} must be understood, and is not")]
    MustUnderstand { label: String },
    #[error(
        "its content format is {format}; 0 (text), 50 (JSON), 110 and 112 (SenML) are understood"
    )]
    Format { format: u32 },
    #[error("it is SenML of version {found}; versions up to 10 are understood")]
    Version { found: i64 },
}

impl PayloadError {
    /// What is counted.
    pub(crate) const fn loss(&self) -> LossReason {
        match self {
            Self::TooLong { .. } | Self::TooMany => LossReason::Overflow,
            Self::NoNumber => LossReason::NotANumber,
            Self::Empty => LossReason::Empty,
            Self::NoJson { .. }
            | Self::NoSenml { .. }
            | Self::MustUnderstand { .. }
            | Self::Format { .. }
            | Self::Version { .. } => LossReason::BadText,
        }
    }
}

/// A number in decimal digits, blanks around it aside.
pub(crate) fn number(text: &[u8]) -> Result<f64, LossReason> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(LossReason::Empty);
    }
    let value: f64 = fast_float2::parse(text).map_err(|_| LossReason::NotANumber)?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(LossReason::NotFinite)
    }
}

/// A message that is one number.
fn plain(payload: &[u8]) -> Result<Decoded, PayloadError> {
    let mut decoded = Decoded::default();
    match number(payload) {
        Ok(value) => decoded.said.push(Said {
            value,
            ..Said::default()
        }),
        Err(LossReason::Empty) => return Err(PayloadError::Empty),
        Err(LossReason::NotFinite) => decoded.lost.push(Loss {
            reason: LossReason::NotFinite,
            place: String::new(),
        }),
        Err(_) => return Err(PayloadError::NoNumber),
    }
    Ok(decoded)
}

fn bounded(payload: &[u8]) -> Result<(), PayloadError> {
    if payload.len() > MOST_BYTES {
        return Err(PayloadError::TooLong {
            found: payload.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
