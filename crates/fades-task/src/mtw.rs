//! The metadata task wrapper (MTW): what a submitter signs.
//!
//! [`Mtw`] is the one form of a task: JSON on the wire (and below the
//! signature), TOML in files. Unknown fields are refused. At acceptance the
//! node turns each [`Retrieve`] into a [`Dto`] whose times are absolute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::{ImageRef, Name};
use crate::limits::{Isolation, Limits};
use crate::quantity::{Duration, Share};
use crate::time::{Time, Zone};

/// A task as it is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mtw {
    /// Who asks, for whom, until when.
    pub task: Credentials,
    /// The data, one entry for each data retrieval operation (DTO).
    #[serde(default)]
    pub retrieve: Vec<Retrieve>,
    /// The function and its limits.
    pub function: Function,
    /// Where the answer goes besides being kept for whoever may read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliver: Vec<Deliver>,
}

/// The `task` part: MTW credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credentials {
    /// Unique id that the submitter chose; the same id is the same task.
    pub id: Name,
    /// A name for people.
    pub name: Name,
    /// The service that asks; must be one that the signing key speaks for.
    pub service: Name,
    /// Audience: names or labels of nodes.
    pub r#for: Vec<Name>,
    /// After this time no node accepts the task.
    pub expires: Time,
    /// Higher runs earlier where the node's policy looks at it.
    #[serde(default)]
    pub priority: i32,
    /// A run that is not done this long after acceptance fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within: Option<Duration>,
    /// What a "day" is; times are UTC all the same.
    #[serde(default)]
    pub zone: Zone,
}

/// One text, or several of which any matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Patterns {
    /// One glob.
    One(String),
    /// Globs of which any matches.
    Any(Vec<String>),
}

impl Patterns {
    /// The globs.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(p) => std::slice::from_ref(p),
            Self::Any(p) => p,
        }
    }
}

/// One `retrieve` entry: a DTO as the submitter writes it.
///
/// `from` and `to` are absolute, `last` is relative to acceptance; without any
/// of them all readings are meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retrieve {
    /// Name of the DTO, unique in the task.
    pub name: Name,
    /// Kinds of readings, globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Patterns>,
    /// Locations, globs; `*` does not cross `/`, `**` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Patterns>,
    /// Devices, globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Patterns>,
    /// Only this source of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Name>,
    /// Start of the range, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// End of the range, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// The time before acceptance; excludes `from` and `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Duration>,
    /// Share of the devices matched that must answer; without it, one at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Share>,
    /// Share of the rows read that may be bad; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_rows: Option<Share>,
}

/// The `function` part: DMF metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Function {
    /// The function and its digest.
    pub image: ImageRef,
    /// How long it lives.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Isolations that the submitter accepts; the node uses the strongest that
    /// it has.
    #[serde(default = "any_isolation")]
    pub isolation: Vec<Isolation>,
    /// Parameters; become deterministic CBOR.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Limits of the run.
    #[serde(default)]
    pub limits: Limits,
}

fn any_isolation() -> Vec<Isolation> {
    vec![Isolation::Microvm, Isolation::Process]
}

/// How long a function lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// One run.
    #[default]
    Ephemeral,
}

/// A destination of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Name of a destination that the operator configured.
    pub to: Name,
}

/// A DTO as the broker gets it: a [`Retrieve`] with absolute times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dto {
    /// Name of the DTO.
    pub name: Name,
    /// Kinds; empty means all.
    pub kind: Vec<String>,
    /// Locations; empty means all.
    pub location: Vec<String>,
    /// Devices; empty means all.
    pub device: Vec<String>,
    /// Only this source.
    pub source: Option<Name>,
    /// Start of the range, inclusive.
    pub from: Time,
    /// End of the range, exclusive.
    pub to: Time,
    /// Share of the devices matched that must answer.
    pub need: Option<Share>,
    /// Share of the rows read that may be bad.
    pub bad_rows: Option<Share>,
}

/// What is wrong with a task although its syntax is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MtwError {
    /// `last` beside `from` or `to`.
    #[error("retrieve {0}: \"last\" excludes \"from\" and \"to\": remove one of them")]
    TwoRanges(Name),
    /// `from` not before `to`.
    #[error("retrieve {0}: \"from\" ({1}) is not before \"to\" ({2})")]
    EmptyRange(Name, Time, Time),
    /// A name used twice.
    #[error("retrieve {0}: the name is used twice: give each entry its own")]
    SameName(Name),
    /// More entries than a task may have.
    #[error("a task has at most {max} retrieve entries, this one has {have}")]
    TooMany {
        /// How many there are.
        have: usize,
        /// How many there may be.
        max: usize,
    },
    /// No audience.
    #[error("task.for is empty: name the node that shall run the task")]
    NoAudience,
    /// No isolation.
    #[error("function.isolation is empty: accept \"microvm\", \"process\" or both")]
    NoIsolation,
    /// A pattern that is no glob or empty.
    #[error("retrieve {name}: {pattern:?} in {field} is no pattern: {reason}")]
    Pattern {
        /// Name of the entry.
        name: Name,
        /// Field of the entry.
        field: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Mtw {
    /// Most `retrieve` entries of a task.
    pub const RETRIEVE_MAX: usize = 32;

    /// Longest parameters as deterministic CBOR, bytes; what a function's
    /// address space has room for.
    pub const PARAMS_MAX: usize = 64 * 1024;

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), MtwError> {
        if self.task.r#for.is_empty() {
            return Err(MtwError::NoAudience);
        }
        if self.function.isolation.is_empty() {
            return Err(MtwError::NoIsolation);
        }
        if self.retrieve.len() > Self::RETRIEVE_MAX {
            return Err(MtwError::TooMany {
                have: self.retrieve.len(),
                max: Self::RETRIEVE_MAX,
            });
        }
        for (i, r) in self.retrieve.iter().enumerate() {
            r.check()?;
            if self.retrieve[..i].iter().any(|other| other.name == r.name) {
                return Err(MtwError::SameName(r.name.clone()));
            }
        }
        Ok(())
    }
}

impl Retrieve {
    fn check(&self) -> Result<(), MtwError> {
        if self.last.is_some() && (self.from.is_some() || self.to.is_some()) {
            return Err(MtwError::TwoRanges(self.name.clone()));
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(MtwError::EmptyRange(self.name.clone(), from, to));
        }
        let fields = [
            ("kind", &self.kind),
            ("location", &self.location),
            ("device", &self.device),
        ];
        for (field, patterns) in fields {
            for pattern in patterns.iter().flat_map(|p| p.as_slice()) {
                let reason = match pattern.len() {
                    0 => "it is empty",
                    257.. => "it is longer than 256 bytes",
                    _ => continue,
                };
                let (name, pattern) = (self.name.clone(), pattern.clone());
                return Err(MtwError::Pattern {
                    name,
                    field,
                    pattern,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// The DTO that this entry means for a task accepted at `accepted`.
    #[must_use]
    pub fn resolve(&self, accepted: Time) -> Dto {
        let globs = |p: &Option<Patterns>| p.as_ref().map_or(vec![], |p| p.as_slice().to_vec());
        let (from, to) = match self.last {
            Some(last) => (accepted.before(last), accepted),
            None => (
                self.from.unwrap_or(Time(i64::MIN)),
                self.to.unwrap_or(Time(i64::MAX)),
            ),
        };
        Dto {
            name: self.name.clone(),
            kind: globs(&self.kind),
            location: globs(&self.location),
            device: globs(&self.device),
            source: self.source.clone(),
            from,
            to,
            need: self.need,
            bad_rows: self.bad_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mtw, MtwError};
    use crate::time::Time;

    const GOOD: &str = r#"{
        "task": {"id": "1", "name": "air", "service": "city", "for": ["harbour-07"],
                 "expires": "2026-12-01T00:00:00Z"},
        "retrieve": [{"name": "pm", "kind": ["pm10", "pm2.5"], "last": "24h"}],
        "function": {"image": "summary"}
    }"#;

    fn changed(from: &str, to: &str) -> Result<Mtw, serde_json::Error> {
        assert!(GOOD.contains(from));
        serde_json::from_str(&GOOD.replace(from, to))
    }

    #[test]
    fn a_task_has_safe_defaults_and_survives_the_way_to_json_and_back() {
        let mtw: Mtw = serde_json::from_str(GOOD).unwrap();
        assert_eq!(mtw.check(), Ok(()));
        assert_eq!(mtw.function.limits, crate::limits::Limits::default());
        let again = serde_json::to_string(&mtw).unwrap();
        assert_eq!(serde_json::from_str::<Mtw>(&again).unwrap(), mtw);
    }

    #[test]
    fn unknown_missing_and_wrong_fields_are_named() {
        let cases = [
            (
                r#""service": "city""#,
                r#""service": "city", "colour": 1"#,
                "colour",
            ),
            (r#""service": "city","#, "", "service"),
            (r#""last": "24h""#, r#""last": 24"#, "string"),
            (r#""last": "24h""#, r#""last": "24 hours""#, "no duration"),
            (
                r#""image": "summary""#,
                r#""image": "summary", "lifetime": "eternal""#,
                "eternal",
            ),
        ];
        for (from, to, named) in cases {
            let error = changed(from, to).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |from, to| changed(from, to).unwrap().check().unwrap_err();
        let both = r#""last": "24h", "from": "2018-01-01""#;
        assert!(matches!(
            check(r#""last": "24h""#, both),
            MtwError::TwoRanges(_)
        ));
        let empty = r#""from": "2018-01-02", "to": "2018-01-01""#;
        assert!(matches!(
            check(r#""last": "24h""#, empty),
            MtwError::EmptyRange(..)
        ));
        assert!(matches!(
            check(r#"["harbour-07"]"#, "[]"),
            MtwError::NoAudience
        ));
        assert!(matches!(
            check(r#""pm10""#, r#""""#),
            MtwError::Pattern { .. }
        ));
    }

    #[test]
    fn a_relative_range_counts_back_from_acceptance() {
        let mtw: Mtw = serde_json::from_str(GOOD).unwrap();
        let accepted: Time = "2026-11-02T12:00:00Z".parse().unwrap();
        let dto = mtw.retrieve[0].resolve(accepted);
        assert_eq!(dto.from.to_string(), "2026-11-01T12:00:00Z");
        assert_eq!(dto.to, accepted);
    }
}
