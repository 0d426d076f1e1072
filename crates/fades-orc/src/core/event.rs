//! What happens to a core.

use std::sync::Arc;

use fades_task::courier::NotDelivered;
use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::{Ended, Refused};
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::result::RetrievalFailure;
use fades_task::time::Time;
use fades_trust::grant::Asked;

use super::Rules;
use super::outbox::StoredParcel;

/// A point of a monotonic clock, nanoseconds; may be before the clock's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub i64);

impl Tick {
    /// `self + d`.
    #[must_use]
    pub const fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(d.0))
    }

    /// Microseconds from `earlier` to here; 0 when it is later.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0) / 1000
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What people and tasks mean by time; may be set back.
    pub time: Time,
    /// What waiting is measured by.
    pub tick: Tick,
}

/// Number of a run, unique in the life of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// A task as the core needs it.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// What was signed.
    pub mtw: Arc<Mtw>,
    /// When it was accepted.
    pub accepted: Time,
    /// How often it was started already.
    pub attempts: u32,
    /// Isolations that it accepts and this node has, strongest first.
    pub isolations: Vec<Isolation>,
    /// The inbox out of which it came; its answer goes back there.
    pub inbox: Option<Name>,
    /// The task with a schedule whose run it is.
    pub parent: Option<Name>,
    /// Of a run, the time that was due; of a task with a schedule, until when
    /// everything is run or left out.
    pub due: Option<Time>,
    /// Of a task with a schedule, whose place it has, or who has its.
    pub place: Place,
}

/// How a task that runs again stands to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// It takes the place of this task.
    pub replaces: Option<Name>,
    /// This task has its place; it may get it back.
    pub held_by: Option<Name>,
    /// Runs that failed since the last that did not.
    pub failures: u32,
}

impl Task {
    /// Whether it runs again and again, each run being a task of its own.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.parent.is_none() && self.mtw.stands()
    }

    /// The task whose function stays and has this run for one of its windows.
    pub(super) fn resident_of(&self) -> Option<&Name> {
        self.parent.as_ref().filter(|_| self.mtw.window.is_some())
    }

    /// What it asks of a node.
    pub(super) fn request(&self) -> Asked<'_> {
        Asked {
            mtw: &self.mtw,
            accepted: self.accepted,
            at: self.due.unwrap_or(self.accepted),
        }
    }

    pub(super) fn id(&self) -> &Name {
        &self.mtw.task.id
    }

    pub(super) fn service(&self) -> &Name {
        &self.mtw.task.service
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The node is ready to begin.
    Start,
    /// A task was stored, just now or in an earlier life of the node.
    Accepted(Task),
    /// A run could not be stored, because its id is taken.
    LeftOut {
        /// Whose run it would have been.
        task: Name,
    },
    /// Somebody wants a task to end.
    Cancel {
        /// The task.
        id: Name,
        /// Who asks.
        by: String,
    },
    /// Whoever vouched for a task is trusted no longer: it ends. The task whose place
    /// it had taken stands again.
    Revoke {
        /// The task.
        id: Name,
        /// Which key, and why.
        by: String,
    },
    /// A tender has something to say.
    Tender {
        /// Its run.
        run: RunId,
        /// What.
        event: TenderEvent,
    },
    /// The broker is done with a run.
    RetrieveEnded {
        /// The run.
        run: RunId,
        /// One entry for each DTO, as far as it came.
        coverage: Vec<Coverage>,
        /// Why there is no more, when it failed.
        failure: Option<RetrievalFailure>,
    },
    /// A part is ready.
    Up(Part),
    /// A part answered a ping.
    Pong(Part),
    /// A part is gone, or could not be started.
    Lost {
        /// Which.
        part: Part,
        /// How it ended.
        reason: String,
    },
    /// What an earlier life of the node left in the outbox, oldest first; before
    /// anything else is accepted.
    Outbox(Vec<StoredParcel>),
    /// The courier brought a parcel to its receiver.
    Delivered {
        /// The parcel's number.
        parcel: u64,
    },
    /// The courier could not.
    NotDelivered {
        /// The parcel's number.
        parcel: u64,
        /// Why not.
        why: NotDelivered,
    },
    /// A timer that an effect set.
    Timer(Timer),
    /// The operator decided otherwise.
    Rules(Rules),
    /// The clock can be gone by, or not: schedules wait then.
    Clock {
        /// Whether it is set.
        set: bool,
    },
    /// The operator wants parts started that were given up.
    Revive,
    /// The node is about to end: what runs may run to its end, nothing is
    /// started any more.
    Drain,
    /// End in an orderly way: what runs is queued again.
    Shutdown,
}

/// What a tender has to say.
#[derive(Debug)]
pub enum TenderEvent {
    /// It was told what to run. Until then, the run waits for a tender, and no
    /// time that a tender has for anything runs out.
    Given,
    /// The function asked for its first event.
    Ready {
        /// Isolation in use.
        isolation: Isolation,
    },
    /// A function that stays is done with a window, and rests.
    Window {
        /// What the window took.
        ended: Box<Ended>,
        /// The answer as CBOR, readings, the checkpoint.
        blob: Vec<u8>,
        /// Bytes of the checkpoint.
        checkpoint: u64,
    },
    /// The function ended.
    Ended {
        /// How.
        ended: Box<Ended>,
        /// The answer as CBOR, then readings.
        blob: Vec<u8>,
    },
    /// The image could not be run at all.
    Refused(Refused),
    /// The tender has nothing to do with the run any more: it is clean again,
    /// is gone, or never was; always the last event of a run.
    Gone {
        /// How it ended, when it did.
        reason: String,
    },
}

/// Something to be reminded of. A timer that is no longer of interest comes to
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timer {
    /// A task's `finish-within` has passed.
    TooLate(Name),
    /// A task may be tried again.
    Retry,
    /// Another day may have begun, with new allowances.
    Day,
    /// A run's function should have asked for data.
    Start(RunId),
    /// A run's tender should have ended its function.
    Stuck(RunId),
    /// A run's retrieval should have ended.
    Retrieval(RunId),
    /// A run's tender should have gone.
    Leave(RunId),
    /// A part may be started again.
    Restart(Part),
    /// A part, as it was started the nth time, should have become ready.
    PartReady(Part, u32),
    /// A part, as it was started the nth time, is due for a ping.
    PartPing(Part, u32),
    /// Something may be due.
    Schedule,
    /// A receiver may be tried again.
    Resend,
    /// The courier should have said what became of a parcel.
    Overdue(u64),
}

/// A process that the node keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Fetches data.
    Broker,
    /// Fetches tasks and brings answers away.
    Courier,
}
