//! JSON messages, by pointers (RFC 6901).

use fades_task::coverage::LossReason;
use serde_json::Value;

use super::{Decoded, Loss, PayloadError, Said, bounded, number, time};
use crate::config::TimeForm;

/// Where in a message is what.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layout {
    /// Values, with their kinds when the layout says them.
    pub(crate) values: Vec<(Option<String>, String)>,
    pub(crate) time: Option<(String, TimeForm)>,
    pub(crate) device: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) unit: Option<String>,
}

impl Layout {
    /// Decodes a message.
    pub(crate) fn decode(&self, payload: &[u8]) -> Result<Decoded, PayloadError> {
        bounded(payload)?;
        // serde_json ends at a depth of 128.
        let document: Value = serde_json::from_slice(payload).map_err(|e| no_json(&e))?;
        Ok(self.read(&document))
    }

    /// What a document that was parsed says.
    pub(crate) fn read(&self, document: &Value) -> Decoded {
        let mut decoded = Decoded::default();
        let text = |pointer: &Option<String>| text(document, pointer.as_deref()?);
        let time = self.time.as_ref().map(|(pointer, form)| {
            let value = document.pointer(pointer);
            value.and_then(|v| time::read(v, *form)).ok_or(pointer)
        });
        let (device, location) = (text(&self.device), text(&self.location));
        let (kind, unit) = (text(&self.kind), text(&self.unit));
        for (own, pointer) in &self.values {
            let mut lose = |reason, place: &String| {
                let place = place.clone();
                decoded.lost.push(Loss { reason, place });
            };
            let time = match time {
                Some(Err(pointer)) => {
                    lose(LossReason::BadTime, pointer);
                    continue;
                }
                Some(Ok(time)) => Some(time),
                None => None,
            };
            match value(document.pointer(pointer)) {
                Ok(value) => decoded.said.push(Said {
                    device: device.clone(),
                    location: location.clone(),
                    kind: own.clone().or_else(|| kind.clone()),
                    unit: unit.clone(),
                    time,
                    value,
                    sum: false,
                }),
                Err(reason) => lose(reason, pointer),
            }
        }
        decoded
    }
}

/// The error of a document, without its text.
fn no_json(e: &serde_json::Error) -> PayloadError {
    PayloadError::NoJson {
        reason: format!("{e}").chars().take(120).collect(),
    }
}

/// A number, or a text that is one.
fn value(value: Option<&Value>) -> Result<f64, LossReason> {
    match value {
        None => Err(LossReason::Truncated),
        Some(Value::Null) => Err(LossReason::Empty),
        Some(Value::Number(n)) => n.as_f64().ok_or(LossReason::NotANumber),
        Some(Value::String(text)) => number(text.as_bytes()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(LossReason::NotANumber),
    }
}

/// A text, or a whole number as a text: devices number themselves.
fn text(document: &Value, pointer: &str) -> Option<String> {
    match document.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) if n.is_i64() || n.is_u64() => Some(n.to_string()),
        _ => None,
    }
}
