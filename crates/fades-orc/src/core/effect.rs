//! What a core wants done.

use fades_task::courier::Receiver;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::result::TaskResult;
use fades_task::time::Time;

use super::event::{Part, RunId, Tick, Timer};
use super::outbox::{Dispatch, NewParcel};
use super::quota::Charge;
use super::standing::Spawn;

/// What shall be done. Effects are performed strictly in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Store a state that is not final.
    Persist {
        /// The task.
        id: Name,
        /// Its state.
        change: Change,
    },
    /// Store the one final state, and what belongs to it.
    Commit(Box<Commit>),
    /// Have a tender work on a run; its end comes as [`TenderEvent::Gone`](super::TenderEvent::Gone) in any case.
    StartTender {
        /// The run.
        run: RunId,
        /// Its task.
        id: Name,
        /// The isolation to use.
        isolation: Isolation,
    },
    /// Let a function at rest go on with a window; [`Effect::Retrieve`] follows.
    GoOn {
        /// The run in which it is.
        run: RunId,
        /// The task of the window.
        id: Name,
    },
    /// Kill a tender; [`TenderEvent::Gone`](super::TenderEvent::Gone) follows.
    KillTender {
        /// The run.
        run: RunId,
    },
    /// Let the broker fetch for a run whose tender was just started.
    Retrieve {
        /// The run.
        run: RunId,
    },
    /// Let the broker stop fetching.
    CancelRetrieve {
        /// The run.
        run: RunId,
    },
    /// Be reminded.
    SetTimer {
        /// When.
        at: Tick,
        /// Of what.
        timer: Timer,
    },
    /// Start a part; [`Up`](super::Event::Up) or [`Lost`](super::Event::Lost) follow.
    Start(Part),
    /// Ask a part whether it is there.
    Ping(Part),
    /// Kill a part; [`Lost`](super::Event::Lost) follows.
    Kill(Part),
    /// Ask a part to end what it does and to leave, which takes a moment;
    /// [`Lost`](super::Event::Lost) follows.
    End(Part),
    /// Say that a part died too often and is not started again.
    GiveUp(Part),
    /// Store a run of a task with a schedule, and how far the schedule has come;
    /// [`Accepted`](super::Event::Accepted) follows, or
    /// [`LeftOut`](super::Event::LeftOut) when its id is taken.
    Spawn(Spawn),
    /// Store that a task with a schedule has its place again, and until when
    /// everything is run or left out.
    Return {
        /// The task.
        task: Name,
        /// Until when.
        due: Time,
    },
    /// Let the courier try to deliver a parcel of the outbox.
    Deliver {
        /// Its number.
        parcel: u64,
    },
    /// Store that a parcel has left the outbox.
    Dispatched {
        /// Its number.
        parcel: u64,
        /// What became of it.
        outcome: Dispatch,
    },
}

impl Effect {
    /// Whether it only ends something: that is right even when what comes
    /// before it could not be stored.
    #[must_use]
    pub const fn lets_go(&self) -> bool {
        match self {
            Self::KillTender { .. }
            | Self::CancelRetrieve { .. }
            | Self::Kill(_)
            | Self::End(_)
            | Self::GiveUp(_) => true,
            Self::Persist { .. }
            | Self::Commit(_)
            | Self::StartTender { .. }
            | Self::GoOn { .. }
            | Self::Retrieve { .. }
            | Self::SetTimer { .. }
            | Self::Start(_)
            | Self::Ping(_)
            | Self::Spawn(_)
            | Self::Return { .. }
            | Self::Deliver { .. }
            | Self::Dispatched { .. } => false,
        }
    }
}

/// A state that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A run begins.
    Running {
        /// Which attempt this is, from 1.
        attempts: u32,
        /// When.
        at: Time,
    },
    /// A run ended without an outcome.
    Queued {
        /// Attempts that count.
        attempts: u32,
    },
}

/// A final state, and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The run, when there was one.
    pub run: Option<RunId>,
    /// The result.
    pub result: TaskResult,
    /// The answer as CBOR; empty without one.
    pub answer: Vec<u8>,
    /// Readings in batch layout; empty without any.
    pub readings: Vec<u8>,
    /// With what the function of the task whose run it is goes on, if it stays.
    pub checkpoint: Option<Vec<u8>>,
    /// Who is to be told.
    pub receivers: Vec<Receiver>,
    /// What is to be brought to them.
    pub parcels: Vec<NewParcel>,
    /// What the task used of what its service may use.
    pub charge: Charge,
}
