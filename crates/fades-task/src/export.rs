//! What may leave a node as an answer, where a grant bounds it.
//!
//! *Export* is everything that reaches whoever asked or a destination: the answer,
//! readings as an answer, log lines, what a crash tells, bad rows that are cited. What
//! is not given here does not leave.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::coverage::Coverage;
use crate::exit::{Exit, Fault};
use crate::quantity::Size;
use crate::result::{Failure, RetrievalFailure, TaskResult};

/// What has to stand behind an answer, and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Export {
    /// Readings that each entry of a task has at least.
    #[serde(default)]
    pub min_readings: u64,
    /// Devices that each entry of a task has readings of at least.
    #[serde(default)]
    pub min_devices: u64,
    /// Fields that an answer may have, and what is in them. Others do not leave.
    pub fields: BTreeMap<String, FieldType>,
    /// A function may answer with readings.
    #[serde(default)]
    pub readings: bool,
    /// Bytes of an answer, readings included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Bytes of all answers to the service in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<Size>,
    /// Log lines of the function.
    #[serde(default)]
    pub logs: bool,
    /// What a function says or does when it ends badly, besides the kind of its end.
    #[serde(default)]
    pub crash_reports: bool,
    /// Rows that could not be used, and devices that did not answer, by name.
    #[serde(default)]
    pub bad_rows: bool,
}

/// What is in a field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// True or false.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A list of numbers.
    Numbers,
    /// A text.
    Text,
    /// Anything.
    Any,
}

impl FieldType {
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Numbers => {
                let list = value.as_array();
                list.is_some_and(|list| list.iter().all(Value::is_number))
            }
            Self::Text => value.is_string(),
            Self::Any => true,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Numbers => "a list of numbers",
            Self::Text => "a text",
            Self::Any => "anything",
        }
    }
}

/// An answer, as far as it is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The answer, when there is one besides readings.
    pub value: Option<&'a Value>,
    /// Bytes of it, and of readings.
    pub bytes: u64,
    /// Bytes of readings.
    pub readings: u64,
    /// Bytes of the service's answers of today, without this one.
    pub today: u64,
}

impl Export {
    /// Whether an answer may leave.
    ///
    /// # Errors
    /// The first limit that it does not keep, in words that have nothing of it.
    pub fn check(&self, answered: Answered<'_>) -> Result<(), String> {
        if answered.readings > 0 && !self.readings {
            return Err("it answered with readings, and export.readings is not given".to_owned());
        }
        if let Some(value) = answered.value {
            self.check_fields(value)?;
        }
        if let Some(most) = self.bytes.filter(|most| answered.bytes > most.0) {
            return Err(format!(
                "it answered with more than export.bytes = \"{most}\""
            ));
        }
        let day = answered.today.saturating_add(answered.bytes);
        if let Some(most) = self.bytes_per_day.filter(|most| day > most.0) {
            return Err(format!(
                "with it there would be more than export.bytes-per-day = \"{most}\""
            ));
        }
        Ok(())
    }

    /// A function can name a field as it likes: the name of one that is not allowed is
    /// not repeated.
    fn check_fields(&self, value: &Value) -> Result<(), String> {
        let Some(fields) = value.as_object() else {
            return Err("its answer has no fields, so it has none out of export.fields".to_owned());
        };
        if fields.keys().any(|name| !self.fields.contains_key(name)) {
            return Err("its answer has a field that is not in export.fields".to_owned());
        }
        let wrong = self.fields.iter().find(|(name, kind)| {
            let value = fields.get(*name);
            value.is_some_and(|value| !kind.admits(value))
        });
        match wrong {
            None => Ok(()),
            Some((name, kind)) => Err(format!(
                "field {name:?} of its answer is not {}, as export.fields says",
                kind.words()
            )),
        }
    }

    /// Leaves out of a result what is not given, but for the answer itself, which was
    /// checked. What the function used of time and memory it can choose itself.
    pub fn reduce(&self, result: &mut TaskResult) {
        (result.memory, result.cpu_us, result.log_cut) = (None, 0, 0);
        result.input_bytes = 0;
        if let Some(failure) = result.failure.take() {
            // How far it came tells of what is there.
            result.coverage.clear();
            result.failure = Some(self.reduced(failure));
        }
        if !self.bad_rows {
            result.coverage.iter_mut().for_each(bare);
        }
    }

    fn reduced(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Function { exit } if !self.crash_reports => Failure::Function {
                exit: kind_of(exit),
            },
            Failure::Retrieval(failure) if !self.bad_rows => match failure {
                RetrievalFailure::TooFewAnswered { .. } => withheld("too few devices answered"),
                RetrievalFailure::TooManyBad { .. } => withheld("too many readings are bad"),
                RetrievalFailure::Source { .. } => withheld("a source failed"),
                told => Failure::Retrieval(told),
            },
            told => told,
        }
    }
}

fn withheld(reason: &str) -> Failure {
    Failure::Withheld {
        reason: format!("{reason}; more is not told"),
    }
}

fn bare(coverage: &mut Coverage) {
    coverage.cited.clear();
    coverage.absent.clear();
}

/// The kind of an end, without anything that the function chose.
fn kind_of(exit: Exit) -> Exit {
    let untold = || "not told".to_owned();
    match exit {
        Exit::Aborted { .. } => Exit::Aborted { message: untold() },
        Exit::Panicked { .. } => Exit::Panicked { message: untold() },
        Exit::Misuse { .. } => Exit::Misuse { message: untold() },
        Exit::OutOfMemory { limit, .. } => Exit::OutOfMemory {
            requested: 0,
            limit,
            place: None,
        },
        Exit::OutputOverflow { limit, .. } => Exit::OutputOverflow { needed: 0, limit },
        Exit::Fault(_) => Exit::Fault(Fault {
            vector: None,
            what: "a fault".to_owned(),
            address: None,
            place: None,
            rip: None,
            symbol: None,
        }),
        told @ (Exit::Done | Exit::Deadline { .. } | Exit::Killed { .. }) => told,
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at least {} readings and {} devices in each entry",
            self.min_readings, self.min_devices
        )?;
        let fields = self.fields.iter();
        let fields: Vec<String> = fields
            .map(|(name, kind)| format!("{name} ({})", kind.words()))
            .collect();
        match fields.as_slice() {
            [] => write!(f, "; no field")?,
            fields => write!(f, "; fields {}", fields.join(", "))?,
        }
        if let Some(bytes) = self.bytes {
            write!(f, "; {bytes} an answer")?;
        }
        if let Some(bytes) = self.bytes_per_day {
            write!(f, "; {bytes} a day")?;
        }
        let more = [
            (self.readings, "readings"),
            (self.logs, "log lines"),
            (self.crash_reports, "crash reports"),
            (self.bad_rows, "bad rows"),
        ];
        for (given, what) in more {
            write!(f, "; {}{what}", if given { "" } else { "no " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Answered, Export};
    use crate::exit::Exit;
    use crate::result::{Failure, RetrievalFailure};

    fn export() -> Export {
        let export = json!({
            "fields": { "count": "integer", "mean": "number", "bins": "numbers" },
            "bytes": "100B", "bytes-per-day": "150B",
        });
        serde_json::from_value(export).unwrap()
    }

    fn check(export: &Export, value: &Value, bytes: u64, today: u64) -> Result<(), String> {
        export.check(Answered {
            value: Some(value),
            bytes,
            readings: 0,
            today,
        })
    }

    #[test]
    fn an_answer_has_the_fields_and_types_that_are_given_and_no_others() {
        let check = |value: Value| check(&export(), &value, 10, 0);
        for good in [
            json!({"count": 3, "mean": 1.5, "bins": [1, 2.5]}),
            json!({"mean": 2}),
            json!({}),
        ] {
            check(good).unwrap();
        }
        for (bad, words) in [
            (
                json!({"count": 1.5}),
                "field \"count\" of its answer is not a whole number",
            ),
            (
                json!({"mean": "secret"}),
                "field \"mean\" of its answer is not a number",
            ),
            (json!({"bins": [1, "secret"]}), "not a list of numbers"),
            (json!({"mean": {"secret": 1}}), "not a number"),
            (
                json!({"mean": 1, "secret": 1}),
                "a field that is not in export.fields",
            ),
            (json!(["secret"]), "no fields"),
            (json!(1), "no fields"),
        ] {
            let said = check(bad).unwrap_err();
            assert!(said.contains(words) && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn an_answer_is_no_longer_than_is_given_for_a_run_and_for_a_day() {
        let check = |bytes, today| check(&export(), &json!({}), bytes, today);
        check(100, 50).unwrap();
        assert!(
            check(101, 0)
                .unwrap_err()
                .contains("export.bytes = \"100B\"")
        );
        assert!(check(100, 51).unwrap_err().contains("export.bytes-per-day"));
    }

    #[test]
    fn readings_do_not_leave_unless_they_are_given() {
        let mut export = export();
        let check = |export: &Export| {
            export.check(Answered {
                value: None,
                bytes: 8,
                readings: 8,
                today: 0,
            })
        };
        assert!(check(&export).unwrap_err().contains("export.readings"));
        export.readings = true;
        check(&export).unwrap();
    }

    #[test]
    fn a_failure_tells_no_more_than_its_kind() {
        let secret = || "secret".to_owned();
        let dto = "pm".parse().unwrap();
        let failures = [
            Failure::Function {
                exit: Exit::Panicked { message: secret() },
            },
            Failure::Function {
                exit: Exit::Aborted { message: secret() },
            },
            Failure::Function {
                exit: Exit::Misuse { message: secret() },
            },
            Failure::Retrieval(RetrievalFailure::TooManyBad {
                dto,
                bad: 4711,
                read: 4711,
                allowed: "1%".to_owned(),
                first: secret(),
            }),
        ];
        for failure in failures {
            let told = export().reduced(failure.clone());
            let text = serde_json::to_string(&told).unwrap();
            assert!(!text.contains("secret") && !text.contains("4711"), "{text}");
            let mut open = export();
            (open.crash_reports, open.bad_rows) = (true, true);
            assert_eq!(open.reduced(failure.clone()), failure);
        }
    }
}
