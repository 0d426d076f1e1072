//! What the processes of a node tell each other.
//!
//! The frames are those of `fades-wire`: the JSON part is one of these types,
//! blob and descriptors are named beside each variant. Orchestrator, broker
//! and tender are always of one build, so there is no version here; the
//! peers' *values* are checked all the same.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::exit::Exit;
use crate::gauge::Gauges;
use crate::identity::Name;
use crate::limits::{Isolation, Limits};
use crate::logging::LogLevel;
use crate::mtw::Dto;
use crate::quantity::{Duration, Size};
use crate::resource::{Device, Preview, Recording, SourceReport};
use crate::result::{Breakdown, RetrievalFailure};
use crate::shell::{Class, Needs};
use crate::time::Time;

/// Descriptor that a tender inherits: its control channel.
pub const TENDER_CONTROL_FD: i32 = 3;

/// Descriptor that a broker inherits: its control channel.
pub const BROKER_CONTROL_FD: i32 = 3;

/// Orchestrator → tender. A tender is told once what it is: it makes one
/// template and ends, or becomes a shell and is then sent one run after the
/// other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TenderRequest {
    /// Make a template. Descriptor: the image. Blob: the image's symbols for
    /// crash reports, lines of `address size name`; empty when there are none.
    /// Answered by [`TenderReport::Template`] or [`TenderReport::Refused`].
    Template(TemplateRequest),
    /// Become a shell: make the machine, and give up all rights. Answered by
    /// [`TenderReport::Shell`] or [`TenderReport::Refused`].
    Shell {
        /// Isolation to use; there is no fallback.
        isolation: Isolation,
        /// What it shall have room for.
        class: Class,
        /// Highest SIMD level to use, one of `fades_abi::boot::simd`.
        simd: u32,
    },
    /// Run a function. Blob: the parameters as deterministic CBOR; then, of a
    /// function that stays and goes on, its checkpoint.
    /// Descriptors: the tender's end of the data channel, and the template.
    /// Sent to a shell that is clean: after `Shell` and after each `Clean`.
    Start(Box<Start>),
}

/// What a template depends on, besides the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateRequest {
    /// A template is for one isolation.
    pub isolation: Isolation,
    /// Limits of the runs that will use it; `memory` and `output` decide.
    pub limits: Limits,
    /// Bytes that zone and DTO names may take, see [`Start::context_bytes`].
    pub context: Size,
}

impl TemplateRequest {
    /// What is to be asked for, so that `start` can be run with it.
    #[must_use]
    pub fn of(isolation: Isolation, start: &Start) -> Self {
        Self {
            isolation,
            limits: start.limits,
            context: start.context_bytes(),
        }
    }
}

/// What to run. Everything that differs from run to run; what does not is in
/// the template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Number of the template, chosen by the orchestrator. A shell that is
    /// sent the same number again has the template already.
    pub template: u64,
    /// Highest SIMD level that the function may be told, one of
    /// `fades_abi::boot::simd`; the shell lowers it to what works.
    pub simd: u32,
    /// Limits of the run.
    pub limits: Limits,
    /// The function stays in its machine and answers for each window; limits of
    /// time and log hold for each window, which begins with its first batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Resident>,
    /// Name of the task's zone.
    pub zone: String,
    /// UTC offsets: (ns since 1970 UTC from which it holds, seconds east).
    pub offsets: Vec<(i64, i32)>,
    /// Names of the DTOs, in order.
    pub dtos: Vec<Name>,
}

/// How a function stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resident {
    /// It is asked for a checkpoint after each window. A function that keeps none
    /// is refused.
    pub checkpoints: bool,
    /// Length of the checkpoint with which it goes on, bytes; it follows the
    /// parameters in the blob. None: it begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<u64>,
}

impl Start {
    /// What a function's context takes at most, bytes, in the steps in which
    /// templates differ.
    #[must_use]
    pub fn context_bytes(&self) -> Size {
        const HEAD: usize = 64;
        const ENTRY: usize = 16;
        let names: usize = self.dtos.iter().map(|d| ENTRY + d.as_str().len()).sum();
        let bytes = HEAD + self.zone.len() + self.offsets.len() * ENTRY + names;
        Size((bytes as u64).next_multiple_of(Self::CONTEXT_STEP))
    }

    /// Templates leave room for contexts in multiples of this, bytes.
    pub const CONTEXT_STEP: u64 = 64 << 10;
}

/// Tender → orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TenderReport {
    /// The template, the last message of the tender that made it. Descriptor:
    /// a sealed file.
    Template {
        /// What it needs of a shell.
        needs: Needs,
    },
    /// The shell is made and confined, and waits for a run.
    Shell {
        /// SIMD level that was tried and works.
        simd: u32,
        /// From the start of the process to here, microseconds.
        made_us: u64,
    },
    /// The function asked for its first event.
    Ready {
        /// Isolation in use.
        isolation: Isolation,
        /// SIMD level that the function was told.
        simd: u32,
        /// From the arrival of the request to here, microseconds.
        boot_us: u64,
    },
    /// A log line of the function.
    Log {
        /// 1 error, 2 warn, 3 info, 4 debug.
        level: u32,
        /// The text; control characters replaced.
        text: String,
    },
    /// A function that stays is done with a window, and rests. Blob: its answer as
    /// CBOR, readings in batch layout, its checkpoint.
    Window {
        /// Number of the window.
        id: u64,
        /// What the window took; its `exit` is [`Exit::Done`].
        ended: Box<Ended>,
        /// Bytes of the blob that are the checkpoint, when one was asked for.
        checkpoint_bytes: Option<u64>,
    },
    /// The function ended; the last message about the run. Blob: the answer as
    /// CBOR, followed by readings in batch layout. [`TenderReport::Clean`]
    /// follows when the shell can be used again; otherwise the tender ends.
    Ended(Box<Ended>),
    /// The shell is as it was when it was made: nothing of the last run is
    /// left in it.
    Clean {
        /// What the reset took, microseconds.
        reset_us: u64,
    },
    /// The tender could not do what it was asked; it ends.
    Refused(Refused),
}

/// How a run ended, as the tender saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How the function ended.
    pub exit: Exit,
    /// The isolation that was really used.
    pub isolation: Isolation,
    /// Bytes of the blob that are the CBOR answer.
    pub answer_bytes: u64,
    /// Bytes of the blob that are readings.
    pub readings_bytes: u64,
    /// `queue_us` is zero; the orchestrator knows it.
    pub breakdown: Breakdown,
    /// Pages that the function touched, bytes.
    pub high_water: Size,
    /// Processor time of the function, microseconds.
    pub cpu_us: u64,
    /// Batches mapped.
    pub batches: u64,
    /// Bytes of batches mapped.
    pub input_bytes: u64,
    /// Bytes of log lines cut.
    pub log_cut: u64,
}

/// Why a tender did not start the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Refused {
    /// The image is none, or not for this host.
    Image {
        /// What is wrong with it.
        reason: String,
    },
    /// The isolation is not to be had.
    Isolation {
        /// What failed, with the remedy.
        reason: String,
    },
    /// The limits are too small for the image, or larger than can be enforced.
    Limits {
        /// Which, and what is needed.
        reason: String,
    },
}

impl Refused {
    /// What was wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Image { reason } | Self::Isolation { reason } | Self::Limits { reason } => reason,
        }
    }
}

/// Broker → tender, on the data channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Feed {
    /// A batch of DTO `dto`. Descriptor: the file, read-only. The tender
    /// answers [`Release`] when the function is done with it.
    Batch {
        /// Index of the DTO.
        dto: u32,
        /// Length of the file, bytes; a multiple of 2 MiB.
        length: u64,
    },
    /// DTO `dto` has no more batches.
    End {
        /// Index of the DTO.
        dto: u32,
    },
    /// A window is complete; only for a function that stays. What the function
    /// answers goes to the orchestrator.
    WindowEnd {
        /// Number of the window.
        id: u64,
        /// Start, ns since 1970 UTC, inclusive.
        from: i64,
        /// End, exclusive.
        to: i64,
    },
    /// All DTOs have ended: the function shall answer.
    Finish,
}

/// Tender → broker, on the data channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Release {
    /// The oldest batch that was not released yet is no longer mapped.
    Batch,
}

/// Orchestrator → broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BrokerRequest {
    /// The first message. Blob: the sources' configuration as JSON. Descriptor, when
    /// the orchestrator makes the broker's connections: the broker's end of the
    /// channel on which it asks for them ([`dial`](crate::dial)).
    Configure {
        /// Folder in which batch files may be made when no better place is
        /// there.
        folder: String,
        /// Most bytes of batch files at any time.
        budget: Size,
        /// Bytes of a batch file at which a chunk ends.
        chunk: Size,
        /// Folder against which relative paths of sources are resolved.
        base: String,
        /// Folder of the readings that are recorded; none: nothing is recorded.
        #[serde(default)]
        readings: Option<String>,
        /// Folder of systemd's credentials, in which secrets are looked for too.
        #[serde(default)]
        credentials: Option<String>,
    },
    /// Fetch the DTOs of a run and feed them to a tender. Descriptor: the
    /// broker's end of the tender's data channel.
    Retrieve {
        /// Number of the run, chosen by the orchestrator, unique in its life.
        run: u64,
        /// The DTOs.
        dtos: Vec<Dto>,
        /// They are a window of a function that stays. The broker keeps its end of
        /// the data channel for the next one, which comes with the same number and
        /// without descriptor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Span>,
        /// The tender's input window, bytes: no batch may be longer.
        window: Size,
        /// Devices that have not answered by then are late, time from now; none:
        /// no limit but those of the sources.
        #[serde(default)]
        within: Option<Duration>,
        /// For DTOs that ask for what earlier runs answered: their readings, in
        /// the blob.
        #[serde(default)]
        answers: Vec<Answers>,
    },
    /// Stop fetching for a run; answered by its `RetrieveEnded` (once).
    Cancel {
        /// The run.
        run: u64,
    },
    /// List devices.
    Resources {
        /// Number of the request.
        id: u64,
    },
    /// How much, in numbers?
    Gauge {
        /// Number of the request.
        id: u64,
    },
    /// Log at this level from now on.
    Log {
        /// The level.
        level: LogLevel,
    },
    /// Test a source.
    TestSource {
        /// Number of the request.
        id: u64,
        /// The source.
        source: Name,
    },
    /// What would these DTOs fetch?
    Preview {
        /// Number of the request.
        id: u64,
        /// The DTOs.
        dtos: Vec<Dto>,
        /// As in `Retrieve`.
        #[serde(default)]
        answers: Vec<Answers>,
    },
    /// Are you there?
    Ping {
        /// Number of the request.
        id: u64,
    },
}

/// A window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Number of the window: how many of its task's came before it.
    pub id: u64,
    /// Start, inclusive.
    pub from: Time,
    /// End, exclusive.
    pub to: Time,
}

/// Where in a blob the readings are that earlier runs answered, for one DTO; the
/// pieces of all DTOs follow each other without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Index of the DTO.
    pub dto: u32,
    /// Bytes of each run's readings in batch form, newest run first.
    pub lengths: Vec<u64>,
}

impl Answers {
    /// Most bytes of such readings for one task.
    pub const MOST: u64 = 16 << 20;
}

/// What a broker can still do, layer by layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Confinement {
    /// Whether it has a network of its own, in which there is nothing.
    pub network: Layer,
    /// Which files it can reach.
    pub files: Layer,
    /// Which TCP ports it can reach.
    pub ports: Layer,
    /// Which system calls it can make.
    pub calls: Layer,
}

impl Confinement {
    /// All layers, with what they are about.
    #[must_use]
    pub fn layers(&self) -> [(&'static str, &Layer); 4] {
        [
            ("network", &self.network),
            ("files", &self.files),
            ("TCP ports", &self.ports),
            ("system calls", &self.calls),
        ]
    }
}

/// A layer of a confinement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layer {
    /// Whether the kernel enforces it.
    pub enforced: bool,
    /// What is allowed; or why it is not enforced.
    pub detail: String,
}

/// Broker → orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BrokerReport {
    /// Configured and ready.
    Ready {
        /// Where batch files live, in words.
        batches: String,
        /// Batch files use huge pages.
        huge: bool,
        /// What would be better, and the command for it, when something would.
        advice: Option<String>,
        /// What the broker can still do.
        #[serde(default)]
        confinement: Confinement,
    },
    /// The configuration cannot be used; the broker ends.
    Misconfigured {
        /// What is wrong, with the field and the remedy.
        reason: String,
    },
    /// A run's data has all been handed to the tender, or will not be.
    RetrieveEnded {
        /// The run.
        run: u64,
        /// One entry for each DTO, as far as it came.
        coverage: Vec<Coverage>,
        /// Why there is no more, when it failed.
        failure: Option<RetrievalFailure>,
        /// Stopped on request, or the tender went away.
        stopped: bool,
    },
    /// Answer to `Resources`.
    Resources {
        /// Number of the request.
        id: u64,
        /// The devices.
        devices: Vec<Device>,
        /// How recording goes, of each source that is recorded.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        recording: BTreeMap<Name, Recording>,
    },
    /// Answer to `Gauge`.
    Gauged {
        /// Number of the request.
        id: u64,
        /// The numbers.
        gauges: Gauges,
    },
    /// Answer to `TestSource`.
    Tested {
        /// Number of the request.
        id: u64,
        /// The report, or what failed.
        report: Result<Box<SourceReport>, String>,
    },
    /// Answer to `Preview`.
    Previewed {
        /// Number of the request.
        id: u64,
        /// One entry for each DTO, or what failed.
        previews: Result<Vec<Preview>, RetrievalFailure>,
    },
    /// Answer to `Ping`.
    Pong {
        /// Number of the request.
        id: u64,
    },
}
