//! What the orchestrator and the courier tell each other.
//!
//! ```text
//! inbox ─► courier ── Letter ──► orchestrator: check, store
//!       ◄──────────── Verdict ──
//!                     Deliver ◄── outbox
//! destination ◄────── Delivered, NotDelivered ──►
//! ```
//! The courier keeps nothing: what it was told and has not answered is told again
//! after it was started again. It makes one attempt for each [`Parcel`]; when the
//! next one is due is the orchestrator's to decide. The frames are those of
//! `fades-wire`, as for [`message`](crate::message).

use serde::{Deserialize, Serialize};

use crate::identity::Name;
use crate::logging::LogLevel;
use crate::message::Confinement;
use crate::quantity::Duration;
use crate::time::Time;

/// Descriptor that a courier inherits: its control channel.
pub const COURIER_CONTROL_FD: i32 = 3;

/// Most letters of all inboxes that wait for their verdict.
pub const LETTERS_MAX: usize = 32;

/// Most bytes of a letter.
pub const LETTER_MAX: usize = 1 << 20;

/// Most parcels whose outcome is not known; what is more is not delivered.
pub const PARCELS_MAX: usize = 64;

/// Orchestrator → courier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CourierRequest {
    /// The first message. Blob: inboxes and destinations as JSON. Descriptor, when
    /// the orchestrator makes the courier's connections: the courier's end of the
    /// channel on which it asks for them ([`dial`](crate::dial)).
    Configure {
        /// Name of the node, told to inboxes.
        node: Name,
        /// Version of the program, told to servers.
        version: String,
        /// Folder against which relative paths are resolved.
        base: String,
        /// Folder of systemd's credentials, in which secrets are looked for too.
        #[serde(default)]
        credentials: Option<String>,
    },
    /// Try to bring this to where it belongs. Blob: the body. Answered by
    /// [`CourierReport::Delivered`] or [`CourierReport::NotDelivered`], once.
    Deliver(Parcel),
    /// What became of a letter. What was taken is stored by now.
    Verdict {
        /// Number of the letter.
        letter: u64,
        /// What became of it.
        verdict: Verdict,
    },
    /// Log at this level from now on.
    Log {
        /// The level.
        level: LogLevel,
    },
    /// Are you there?
    Ping {
        /// Number of the request.
        id: u64,
    },
}

/// Courier → orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CourierReport {
    /// Configured and ready.
    Ready {
        /// What the courier can still do.
        confinement: Confinement,
    },
    /// The configuration cannot be used; the courier ends.
    Misconfigured {
        /// What is wrong, with the field and the remedy.
        reason: String,
    },
    /// Somebody sent a task. Blob: its envelope. Answered by
    /// [`CourierRequest::Verdict`].
    Letter {
        /// Number of the letter, unique in the life of the courier.
        letter: u64,
        /// Where it lay.
        inbox: Name,
    },
    /// The receiver has it.
    Delivered {
        /// Number of the parcel.
        parcel: u64,
    },
    /// The receiver does not have it, as far as is known.
    NotDelivered {
        /// Number of the parcel.
        parcel: u64,
        /// Why not.
        why: NotDelivered,
    },
    /// Something changed at an inbox.
    Inbox {
        /// The inbox.
        inbox: Name,
        /// How it is now.
        state: InboxState,
    },
    /// Answer to `Ping`.
    Pong {
        /// Number of the request.
        id: u64,
    },
}

/// Something to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Parcel {
    /// Its number in the outbox.
    pub parcel: u64,
    /// Whereto.
    pub to: Receiver,
    /// What receivers know the same thing by when it comes twice; fit for a file
    /// name.
    pub event: String,
    /// The task whose answer it is.
    pub task: Name,
    /// The task's name.
    pub name: Name,
    /// The service whose task it is.
    pub service: Name,
}

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receiver {
    /// A destination that the operator configured.
    Destination(Name),
    /// Back to the inbox out of which the task came.
    Inbox(Name),
}

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is a task, and stored; or it says whom the node trusts, and holds.
    Taken {
        /// The task's id; of what is no task `trust-VERSION` or `revocations-COUNTER`.
        task: Name,
    },
    /// It will never be taken: the inbox may forget it.
    Refused {
        /// The word for the problem, as after `urn:fades:` in the API's answers.
        problem: String,
        /// What is wrong, in words, with the remedy.
        detail: String,
    },
    /// It cannot be taken now: it stays in the inbox.
    Later {
        /// Why not.
        detail: String,
    },
}

/// Why a parcel did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NotDelivered {
    /// In words.
    pub reason: String,
    /// The receiver said that it will never take these bytes.
    pub refused: bool,
    /// The receiver asked to be left alone for so long.
    pub after: Option<Duration>,
}

/// How an inbox is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InboxState {
    /// Why it could not be asked the last time.
    pub error: Option<String>,
    /// When it was asked with success last.
    pub asked: Option<Time>,
}

impl Receiver {
    /// The name that the operator gave it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match self {
            Self::Destination(name) | Self::Inbox(name) => name,
        }
    }
}
