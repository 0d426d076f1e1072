//! Every way in which a function can end.
//!
//! A function that misbehaves is a value of [`Exit`], never an error of the
//! host.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Duration, Size};

/// How a function ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Exit {
    /// It answered.
    Done,
    /// It said that it cannot answer, and why.
    Aborted {
        /// The function's words.
        message: String,
    },
    /// It panicked.
    Panicked {
        /// Message and source location.
        message: String,
    },
    /// Its heap could not serve an allocation.
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
        /// The limit of the run.
        limit: Size,
        /// The function's own code that asked, as symbol and offset, when
        /// symbols are there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// It did what its address space or its privileges do not allow.
    Fault(Fault),
    /// It ran longer than it may.
    Deadline {
        /// Which clock ran out.
        clock: Clock,
        /// The limit.
        limit: Duration,
    },
    /// Its answer is larger than it may be.
    OutputOverflow {
        /// Bytes that the answer needs.
        needed: u64,
        /// The limit of the run.
        limit: Size,
    },
    /// It broke the contract of the gate, or answered with bytes that are no
    /// answer.
    Misuse {
        /// Which rule it broke.
        message: String,
    },
    /// It was ended from outside.
    Killed {
        /// Why.
        reason: String,
    },
}

/// A clock that limits a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Wall time.
    Time,
    /// Processor time.
    Cpu,
}

/// An access or instruction that faulted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// x86 exception vector, where known (a process reports signals instead).
    pub vector: Option<u8>,
    /// What happened, such as `page fault` or `invalid opcode`.
    pub what: String,
    /// The address accessed, where the fault has one.
    pub address: Option<u64>,
    /// Which region that address lies in or next to, such as `text` or
    /// `below the stack`.
    pub place: Option<String>,
    /// The instruction pointer, where known.
    pub rip: Option<u64>,
    /// The function's symbol and offset, when symbols are there.
    pub symbol: Option<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Aborted { message } => write!(f, "the function gave up: {message}"),
            Self::Panicked { message } => write!(f, "the function panicked: {message}"),
            Self::OutOfMemory {
                requested,
                limit,
                place,
            } => {
                write!(f, "out of memory")?;
                if let Some(place) = place {
                    write!(f, " in {place}")?;
                }
                write!(
                    f,
                    ": {requested} bytes more do not fit limits.memory = \"{limit}\""
                )
            }
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Deadline {
                clock: Clock::Time,
                limit,
            } => {
                write!(f, "not done within limits.time = \"{limit}\"")
            }
            Self::Deadline {
                clock: Clock::Cpu,
                limit,
            } => {
                write!(f, "used more processor time than limits.cpu = \"{limit}\"")
            }
            Self::OutputOverflow { needed, limit } => {
                write!(
                    f,
                    "the answer needs {needed} bytes, limits.output is \"{limit}\""
                )
            }
            Self::Misuse { message } => write!(f, "the function broke its contract: {message}"),
            Self::Killed { reason } => write!(f, "killed: {reason}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        match (&self.symbol, self.rip) {
            (Some(symbol), _) => write!(f, " in {symbol}"),
            (None, Some(rip)) => write!(f, ", instruction {rip:#x}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Exit, Fault};
    use crate::quantity::{Duration, Size};

    #[test]
    fn every_exit_survives_the_way_to_json_and_back_and_has_words() {
        let fault = Fault {
            vector: Some(14),
            what: "page fault".to_owned(),
            address: Some(0x10),
            place: Some("text".to_owned()),
            rip: Some(0x40_0000),
            symbol: None,
        };
        let text = || "why".to_owned();
        for exit in [
            Exit::Done,
            Exit::Aborted { message: text() },
            Exit::Panicked { message: text() },
            Exit::OutOfMemory {
                requested: 1,
                limit: Size(1),
                place: Some(text()),
            },
            Exit::Fault(fault),
            Exit::Deadline {
                clock: Clock::Cpu,
                limit: Duration(1),
            },
            Exit::OutputOverflow {
                needed: 1,
                limit: Size(1),
            },
            Exit::Misuse { message: text() },
            Exit::Killed { reason: text() },
        ] {
            let json = serde_json::to_string(&exit).unwrap();
            assert_eq!(serde_json::from_str::<Exit>(&json).unwrap(), exit);
            assert!(!exit.to_string().is_empty());
        }
    }
}
