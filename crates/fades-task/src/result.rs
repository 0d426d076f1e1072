//! What a run gives back.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::exit::Exit;
use crate::identity::{ImageRef, Name};
use crate::limits::Isolation;
use crate::quantity::Size;
use crate::time::Time;

/// State of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Has a schedule: it has a run for each time that is due.
    Standing,
    /// Accepted and stored; waits for its turn.
    Queued,
    /// A function works on it.
    Running,
    /// Answered.
    Done,
    /// Ended without an answer.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl TaskState {
    /// No state follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standing => "standing",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why a task has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Failure {
    /// The function ended in another way than by answering.
    Function {
        /// How.
        exit: Exit,
    },
    /// The data could not be had.
    Retrieval(RetrievalFailure),
    /// None of the isolations that the task accepts works on this node.
    Isolation {
        /// What was accepted.
        accepted: Vec<Isolation>,
        /// Why it is not to be had.
        reason: String,
    },
    /// The image could not be loaded although its digest is right.
    Image {
        /// What is wrong with it.
        reason: String,
    },
    /// `finish-within` passed.
    TooLate,
    /// What it came to may not leave the node.
    Withheld {
        /// Which bound of the grant, in words that have nothing of what is withheld.
        reason: String,
    },
    /// No grant of the node allows it any more.
    NotGranted {
        /// What is missing.
        reason: String,
    },
    /// It was tried as often as a task is tried, and a part of the node died
    /// each time.
    Attempts {
        /// How often.
        attempts: u32,
        /// What happened the last time.
        last: String,
    },
    /// Its runs failed, and the task whose place it had taken stands again.
    Withdrawn {
        /// How many runs in a row.
        failures: u32,
        /// The task that stands again.
        previous: Name,
    },
    /// Somebody asked for it to end.
    Cancelled {
        /// The service that asked.
        by: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function { exit } => write!(f, "{exit}"),
            Self::Retrieval(failure) => write!(f, "{failure}"),
            Self::Isolation { accepted, reason } => {
                let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "no isolation out of {} works here: {reason}",
                    accepted.join(", ")
                )
            }
            Self::Image { reason } => write!(f, "the image cannot be run: {reason}"),
            Self::Withheld { reason } => write!(f, "withheld: {reason}"),
            Self::NotGranted { reason } => write!(f, "not granted: {reason}"),
            Self::TooLate => write!(f, "not finished within task.finish-within"),
            Self::Attempts { attempts, last } => {
                write!(
                    f,
                    "tried {attempts} times, a part of the node failed each time: {last}"
                )
            }
            Self::Withdrawn { failures, previous } => write!(
                f,
                "{failures} of its runs failed one after the other, and {previous} stands again in its place"
            ),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
        }
    }
}

/// Why data could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(
    tag = "what",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum RetrievalFailure {
    /// No device of the node matches.
    #[error("retrieve {dto}: nothing on this node matches {selector}; known: {known}")]
    NothingMatches {
        /// The DTO.
        dto: Name,
        /// The selector in words.
        selector: String,
        /// Kinds or sources that the node knows, in words.
        known: String,
    },
    /// Devices match, and too few have readings in the range.
    #[error("retrieve {dto}: {answered} of {matched} devices answered, needed: {needed}")]
    TooFewAnswered {
        /// The DTO.
        dto: Name,
        /// Devices with readings.
        answered: u64,
        /// Devices that match.
        matched: u64,
        /// What the task needs, in words.
        needed: String,
    },
    /// More bad rows than the task tolerates.
    #[error("retrieve {dto}: {bad} of {read} readings are bad, allowed: {allowed}; first: {first}")]
    TooManyBad {
        /// The DTO.
        dto: Name,
        /// Bad readings.
        bad: u64,
        /// Readings looked at.
        read: u64,
        /// What the task tolerates, in words.
        allowed: String,
        /// The first bad row, in words.
        first: String,
    },
    /// A source failed.
    #[error("retrieve {dto}: source {source_name}: {reason}")]
    Source {
        /// The DTO.
        dto: Name,
        /// The source.
        source_name: Name,
        /// What failed, with the file and the remedy.
        reason: String,
    },
    /// Batch files could not be made.
    #[error("retrieve {dto}: no room for input: {reason}")]
    NoRoom {
        /// The DTO.
        dto: Name,
        /// What failed, with the place and the remedy.
        reason: String,
    },
    /// Less stands behind it than the grant demands.
    #[error(
        "retrieve {dto}: fewer {of} than export.min-{of} = {least} of grant {grant}: ask for more at once"
    )]
    TooLittle {
        /// The DTO.
        dto: Name,
        /// `readings` or `devices`.
        of: String,
        /// How many there have to be.
        least: u64,
        /// The grant.
        grant: Name,
    },
    /// It asks for more than is granted.
    #[error("retrieve {dto}: not granted: {reason}")]
    NotGranted {
        /// The DTO.
        dto: Name,
        /// What is not.
        reason: String,
    },
    /// A name in the DTO is not one of this node.
    #[error("retrieve {dto}: {reason}")]
    Selector {
        /// The DTO.
        dto: Name,
        /// What is wrong.
        reason: String,
    },
}

/// Where the time of a run went, microseconds. The five parts are disjoint and
/// add up to the time from acceptance to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Breakdown {
    /// From acceptance to the start of the run.
    pub queue_us: u64,
    /// The function waited for data.
    pub retrieve_us: u64,
    /// From the start of the run to the function's first event, and the messages
    /// between the processes.
    pub boot_us: u64,
    /// Batches were mapped for the function, the answer was copied out.
    pub transfer_us: u64,
    /// The function computed.
    pub compute_us: u64,
}

/// Memory of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MemoryUse {
    /// The limit.
    pub limit: Size,
    /// Pages that the function touched at the most, bytes, as the host saw it.
    /// Beyond the first 2 MiB of the heap a page may have 2 MiB.
    pub high_water: Size,
}

/// A task and what became of it: the one committed answer or failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskResult {
    /// Id of the task.
    pub id: Name,
    /// Its name.
    pub name: Name,
    /// Its service.
    pub service: Name,
    /// Its state; final when there is an answer or a failure.
    pub state: TaskState,
    /// The function, with its digest.
    pub function: ImageRef,
    /// How often it was started.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted: Time,
    /// When its last attempt was started.
    pub started: Option<Time>,
    /// When it reached its final state.
    pub finished: Option<Time>,
    /// The isolation that was really used.
    pub isolation: Option<Isolation>,
    /// The answer, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
    /// Bytes of readings in batch layout that the function answered with.
    pub readings_bytes: u64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// One entry for each DTO.
    pub coverage: Vec<Coverage>,
    /// Where the time went.
    pub breakdown: Breakdown,
    /// Memory of the function.
    pub memory: Option<MemoryUse>,
    /// Processor time of the function, microseconds; 0 where it was ended from
    /// outside.
    #[serde(default)]
    pub cpu_us: u64,
    /// Bytes of input that were mapped for the function.
    pub input_bytes: u64,
    /// Bytes of the answer as CBOR.
    pub answer_bytes: u64,
    /// Bytes of log lines that were cut.
    pub log_cut: u64,
}
