//! Taking the place of a task that runs again, and giving it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Name;

/// Of which task this one takes the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Replace {
    /// Name or id of a task of the same service that stands.
    pub task: Name,
    /// The task before stands again when so many runs in a row have failed.
    #[serde(default = "failures", skip_serializing_if = "is_default")]
    pub after_failures: u32,
}

const FAILURES: u32 = 3;

const fn failures() -> u32 {
    FAILURES
}

const fn is_default(failures: &u32) -> bool {
    *failures == FAILURES
}

/// What is wrong with a replacement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// By a task that runs once.
    #[error(
        "replace: only a task that runs again can take the place of one: give it a [schedule] or a [window]"
    )]
    Once,
    /// Never, or practically never.
    #[error("replace.after-failures is {0}: write 1 to {max}", max = Replace::FAILURES_MAX)]
    Failures(u32),
}

impl Replace {
    /// Most failures that can be waited for.
    pub const FAILURES_MAX: u32 = 1_000;

    /// Takes the place of `task`.
    #[must_use]
    pub const fn of(task: Name) -> Self {
        Self {
            task,
            after_failures: FAILURES,
        }
    }

    /// Checks what the types cannot. `stands`: whether the task runs again.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub const fn check(&self, stands: bool) -> Result<(), ReplaceError> {
        if !stands {
            return Err(ReplaceError::Once);
        }
        match self.after_failures {
            1..=Self::FAILURES_MAX => Ok(()),
            other => Err(ReplaceError::Failures(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::mtw::Mtw;

    const GOOD: &str = r#"{
        "task": {"id": "1", "name": "air", "service": "city", "for": ["harbour-07"],
                 "expires": "2026-12-01T00:00:00Z"},
        "schedule": {"every": "1m"}, "replace": {"task": "air"},
        "function": {"image": "summary"}
    }"#;

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        let checked = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            let mtw: Mtw = serde_json::from_str(&GOOD.replace(from, to)).unwrap();
            let again = serde_json::to_string(&mtw).unwrap();
            assert_eq!(serde_json::from_str::<Mtw>(&again).unwrap(), mtw);
            mtw.check().map_err(|e| e.to_string())
        };
        checked("", "").unwrap();
        let cases = [
            (r#""schedule": {"every": "1m"},"#, "", "[window]"),
            (r#""air"}"#, r#""air", "after-failures": 0}"#, "1 to 1000"),
            (
                r#""air"}"#,
                r#""air", "after-failures": 1001}"#,
                "1 to 1000",
            ),
        ];
        for (from, to, words) in cases {
            let said = checked(from, to).unwrap_err();
            assert!(said.contains(words), "{to}: {said}");
        }
    }
}
