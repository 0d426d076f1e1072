//! What a run may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Duration, Size};

/// Limits of one run. Every field has a safe default; a node may cap them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory that the function can write: data, heap and stack together.
    pub memory: Size,
    /// Wall time from the first instruction to the end, waiting for data
    /// included.
    pub time: Duration,
    /// Processor time of the function.
    pub cpu: Duration,
    /// The answer, readings included.
    pub output: Size,
    /// Log lines; what exceeds it is cut and counted.
    pub log: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size(16 << 20),
            time: Duration::from_secs(60),
            cpu: Duration::from_secs(10),
            output: Size(64 << 10),
            log: Size(16 << 10),
        }
    }
}

impl Limits {
    /// The largest limits that a node of this version can enforce.
    pub const MAX: Self = Self {
        memory: Size(8 << 30),
        time: Duration::from_secs(7 * 86_400),
        cpu: Duration::from_secs(7 * 86_400),
        output: Size(32 << 20),
        log: Size(1 << 20),
    };

    /// The first field that exceeds `cap`, by name, with what was asked and
    /// what is allowed.
    #[must_use]
    pub fn exceeds(&self, cap: &Self) -> Option<(&'static str, String, String)> {
        let sizes = [
            ("memory", self.memory, cap.memory),
            ("output", self.output, cap.output),
            ("log", self.log, cap.log),
        ];
        let times = [("time", self.time, cap.time), ("cpu", self.cpu, cap.cpu)];
        let size = sizes.into_iter().find(|(_, asked, cap)| asked > cap);
        let time = times.into_iter().find(|(_, asked, cap)| asked > cap);
        size.map(|(n, a, c)| (n, a.to_string(), c.to_string()))
            .or_else(|| time.map(|(n, a, c)| (n, a.to_string(), c.to_string())))
    }
}

/// How a function is kept apart from its host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A microVM of its own under KVM.
    Microvm,
    /// A process of its own under seccomp.
    Process,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Microvm => "microvm",
            Self::Process => "process",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Size};

    #[test]
    fn the_first_limit_above_the_cap_is_named() {
        let asked = Limits {
            output: Size(1 << 30),
            ..Limits::default()
        };
        assert_eq!(
            asked.exceeds(&Limits::MAX),
            Some(("output", "1GiB".to_owned(), "32MiB".to_owned()))
        );
        assert_eq!(Limits::default().exceeds(&Limits::MAX), None);
    }
}
