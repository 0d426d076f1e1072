//! What is to be brought to others, and when it is tried.
//!
//! ```text
//! commit ─► line of its receiver ─► under way ─► delivered
//!                 ▲                    │  └────► lost: refused for good
//!                 └── pause, doubled ──┘
//! ```
//! Each receiver has a line of its own, so that one that is away delays no other.
//! Within a line the parcels of a task go one after the other; those of different
//! tasks may overtake each other. A parcel stays stored until its receiver has it.
//! What does not fit any more is lost, the oldest of the longest line first, and is
//! counted: the answer itself stays in the store for whoever asks.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use fades_task::courier::{NotDelivered, PARCELS_MAX as PARCELS_UNDER_WAY, Receiver};
use fades_task::identity::Name;
use fades_task::quantity::{Duration, Size};
use fades_task::result::{TaskResult, TaskState};
use fades_task::schedule::task_of;
use fades_task::time::Time;
use serde_json::json;

use super::{Commit, Effect, Now, Task, Tick, Timer};

/// Parcels that are under way to a receiver that took the last one.
const AT_ONCE: usize = 4;

/// Pause after a receiver did not take a parcel; doubled each time.
pub const PAUSE: Duration = Duration(1_000_000_000);

/// The longest pause that is not the receiver's own wish.
pub const PAUSE_MAX: Duration = Duration(300_000_000_000);

/// A receiver may ask to be left alone for so long.
const AFTER_MAX: Duration = Duration(86_400_000_000_000);

/// A courier that has not said what became of a parcel by then does not work: each
/// attempt has a limit of its own, and `AT_ONCE` may be made one after the other.
pub const OVERDUE: Duration = Duration(3_600_000_000_000);

/// Most parcels that wait.
pub const PARCELS_MAX: usize = 100_000;

/// What a core has to know to send answers away.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Name of the node.
    pub node: Name,
    /// Most bytes that wait.
    pub at_most: Size,
}

/// A parcel that comes into being with the end of its task.
#[derive(Debug, Clone, PartialEq)]
pub struct NewParcel {
    /// Its number.
    pub parcel: u64,
    /// Whereto.
    pub receiver: Receiver,
    /// The same thing has the same, whoever gets it, and however often.
    pub event: String,
    /// The task within which order matters.
    pub stream: Name,
    /// A CloudEvent as JSON: the same bytes each time.
    pub body: Arc<[u8]>,
}

/// A parcel that waits, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredParcel {
    /// Its number.
    pub parcel: u64,
    /// Whereto.
    pub receiver: Receiver,
    /// The task within which order matters.
    pub stream: Name,
    /// Length of the body.
    pub bytes: u64,
    /// When it came into being.
    pub created: Time,
}

/// How a parcel left the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatch {
    /// The receiver has it.
    Delivered,
    /// The receiver will never have it: why.
    Lost(String),
}

/// A receiver, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineReport {
    /// Which.
    pub receiver: Receiver,
    /// Parcels that wait or are under way.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest came into being.
    pub oldest: Option<Time>,
    /// Why the last attempt failed; none after a success.
    pub error: Option<String>,
    /// When the next attempt is made, if one must be waited for.
    pub next: Option<Tick>,
}

#[derive(Debug)]
struct Kept {
    receiver: Receiver,
    stream: Name,
    bytes: u64,
    created: Time,
}

/// The parcels for one receiver.
#[derive(Debug)]
struct Line {
    /// All of them.
    all: BTreeSet<u64>,
    bytes: u64,
    /// Those that may go now: the first of each task.
    heads: BTreeSet<u64>,
    /// Those behind a first one.
    behind: HashMap<Name, VecDeque<u64>>,
    under_way: BTreeSet<u64>,
    /// How often in a row it took nothing.
    failures: u32,
    not_before: Tick,
    error: Option<String>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            all: BTreeSet::new(),
            bytes: 0,
            heads: BTreeSet::new(),
            behind: HashMap::new(),
            under_way: BTreeSet::new(),
            failures: 0,
            not_before: Tick(i64::MIN),
            error: None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    mail: Option<Mail>,
    next: u64,
    bytes: u64,
    parcels: BTreeMap<u64, Kept>,
    lines: BTreeMap<Receiver, Line>,
    up: bool,
    changed: bool,
}

impl Outbox {
    pub(super) fn new(mail: Option<Mail>) -> Self {
        Self {
            mail,
            ..Self::default()
        }
    }

    /// Whether there is a courier at all.
    pub(super) const fn is_used(&self) -> bool {
        self.mail.is_some()
    }

    /// Adds to an end what has to be brought away once it is stored.
    pub(super) fn add(&mut self, commit: &mut Commit) {
        let Some(mail) = &self.mail else {
            return;
        };
        if commit.receivers.is_empty() {
            return;
        }
        let result = &commit.result;
        let body = event(&mail.node, result);
        let created = result.finished.unwrap_or(result.accepted);
        let stream = task_of(&result.id);
        for receiver in &commit.receivers {
            self.next += 1;
            let parcel = self.next;
            self.keep(StoredParcel {
                parcel,
                receiver: receiver.clone(),
                stream: stream.clone(),
                bytes: body.len() as u64,
                created,
            });
            commit.parcels.push(NewParcel {
                parcel,
                receiver: receiver.clone(),
                event: result.id.to_string(),
                stream: stream.clone(),
                body: Arc::clone(&body),
            });
        }
    }

    /// What an earlier life of the node left.
    pub(super) fn load(&mut self, parcels: Vec<StoredParcel>) {
        for parcel in parcels {
            self.next = self.next.max(parcel.parcel);
            self.keep(parcel);
        }
    }

    fn keep(&mut self, parcel: StoredParcel) {
        let StoredParcel {
            parcel,
            receiver,
            stream,
            bytes,
            created,
        } = parcel;
        let line = self.lines.entry(receiver.clone()).or_default();
        line.all.insert(parcel);
        line.bytes += bytes;
        self.bytes += bytes;
        match line.behind.get_mut(&stream) {
            Some(behind) => behind.push_back(parcel),
            None => {
                line.behind.insert(stream.clone(), VecDeque::new());
                line.heads.insert(parcel);
            }
        }
        let kept = Kept {
            receiver,
            stream,
            bytes,
            created,
        };
        self.parcels.insert(parcel, kept);
        self.changed = true;
    }

    /// The parcel has left, or is lost.
    fn forget(&mut self, parcel: u64) -> Option<Kept> {
        let kept = self.parcels.remove(&parcel)?;
        self.changed = true;
        self.bytes -= kept.bytes;
        let line = self.lines.get_mut(&kept.receiver)?;
        line.bytes -= kept.bytes;
        line.all.remove(&parcel);
        line.under_way.remove(&parcel);
        let was_first = line.heads.remove(&parcel) || !is_behind(line, &kept.stream, parcel);
        if let Some(behind) = line.behind.get_mut(&kept.stream) {
            if !was_first {
                behind.retain(|p| *p != parcel);
            } else if let Some(next) = behind.pop_front() {
                line.heads.insert(next);
            } else {
                line.behind.remove(&kept.stream);
            }
        }
        Some(kept)
    }

    pub(super) fn delivered(&mut self, now: Now, parcel: u64) -> Option<Effect> {
        let kept = self.forget(parcel)?;
        if let Some(line) = self.lines.get_mut(&kept.receiver) {
            line.failures = 0;
            line.error = None;
            line.not_before = now.tick;
        }
        let outcome = Dispatch::Delivered;
        Some(Effect::Dispatched { parcel, outcome })
    }

    pub(super) fn not_delivered(
        &mut self,
        now: Now,
        parcel: u64,
        why: NotDelivered,
    ) -> Option<Effect> {
        if why.refused {
            let kept = self.forget(parcel)?;
            let line = self.lines.get_mut(&kept.receiver)?;
            line.error = Some(why.reason.clone());
            let outcome = Dispatch::Lost(why.reason);
            return Some(Effect::Dispatched { parcel, outcome });
        }
        let line = self.lines.get_mut(&self.parcels.get(&parcel)?.receiver)?;
        if !line.under_way.remove(&parcel) {
            return None;
        }
        self.changed = true;
        line.heads.insert(parcel);
        line.error = Some(why.reason);
        // Those that were under way together failed together.
        let again = line.not_before > now.tick;
        line.failures += u32::from(!again);
        let asked = why.after.map_or(0, |d| d.0.min(AFTER_MAX.0));
        let pause = Duration(pause(line.failures, parcel).0.max(asked));
        line.not_before = line.not_before.max(now.tick.after(pause));
        Some(Effect::SetTimer {
            at: line.not_before,
            timer: Timer::Resend,
        })
    }

    pub(super) fn courier(&mut self, up: bool) {
        self.up = up;
        self.changed = true;
        if up {
            return;
        }
        for line in self.lines.values_mut() {
            line.heads.append(&mut line.under_way);
        }
    }

    /// Whether the courier has not answered for this parcel.
    pub(super) fn is_under_way(&self, parcel: u64) -> bool {
        let receiver = self.parcels.get(&parcel).map(|k| &k.receiver);
        let line = receiver.and_then(|r| self.lines.get(r));
        line.is_some_and(|line| line.under_way.contains(&parcel))
    }

    /// Makes room, and sends what may go.
    pub(super) fn schedule(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.bound(effects);
        if !self.up {
            return;
        }
        let all: usize = self.lines.values().map(|l| l.under_way.len()).sum();
        let mut room = PARCELS_UNDER_WAY.saturating_sub(all);
        for line in self.lines.values_mut() {
            if line.not_before > now.tick {
                continue;
            }
            // After a failure one parcel finds out for all.
            let most = if line.failures > 0 { 1 } else { AT_ONCE };
            while line.under_way.len() < most
                && room > 0
                && let Some(parcel) = line.heads.pop_first()
            {
                room -= 1;
                line.under_way.insert(parcel);
                effects.push(Effect::Deliver { parcel });
                effects.push(Effect::SetTimer {
                    at: now.tick.after(OVERDUE),
                    timer: Timer::Overdue(parcel),
                });
            }
        }
    }

    /// The oldest of the longest line goes first; one that is under way may have
    /// arrived, and stays. What has no room beside the others does not push them out.
    fn bound(&mut self, effects: &mut Vec<Effect>) {
        let Some(most) = self.mail.as_ref().map(|m| m.at_most) else {
            return;
        };
        while self.bytes > most.0 || self.parcels.len() > PARCELS_MAX {
            let newest = self.parcels.last_key_value();
            let huge = newest.filter(|(_, kept)| kept.bytes > most.0 / 2);
            let longest = self.lines.values().max_by_key(|l| (l.bytes, l.all.len()));
            let oldest = longest.and_then(|l| l.all.difference(&l.under_way).next());
            let Some(&parcel) = huge.map(|(parcel, _)| parcel).or(oldest) else {
                return;
            };
            self.forget(parcel);
            let outcome = Dispatch::Lost(format!("the outbox is full ({most})"));
            effects.push(Effect::Dispatched { parcel, outcome });
        }
    }

    /// How the lines are, if anything changed since this was asked last.
    pub(super) fn news(&mut self) -> Option<Vec<LineReport>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let report = |(receiver, line): (&Receiver, &Line)| LineReport {
            receiver: receiver.clone(),
            waiting: line.all.len() as u64,
            bytes: line.bytes,
            oldest: line.all.first().map(|p| self.parcels[p].created),
            error: line.error.clone(),
            next: (line.failures > 0).then_some(line.not_before),
        };
        Some(self.lines.iter().map(report).collect())
    }
}

fn is_behind(line: &Line, stream: &Name, parcel: u64) -> bool {
    line.behind.get(stream).is_some_and(|b| b.contains(&parcel))
}

/// Doubled each time, and up to a quarter longer, so that what waits at many nodes
/// does not come back at one moment.
fn pause(failures: u32, parcel: u64) -> Duration {
    let doubled = PAUSE.0 << failures.saturating_sub(1).min(20);
    let pause = doubled.min(PAUSE_MAX.0);
    // Fibonacci hashing: neighbours are far apart.
    let spread = parcel.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    Duration(pause + pause / 4 / 256 * spread)
}

/// Where the end of a task is to be told.
pub(super) fn receivers(task: &Task) -> Vec<Receiver> {
    let inbox = task.inbox.iter().cloned().map(Receiver::Inbox);
    let named = task.mtw.deliver.iter();
    let named = named.map(|d| Receiver::Destination(d.to.clone()));
    let receivers: BTreeSet<Receiver> = inbox.chain(named).collect();
    receivers.into_iter().collect()
}

/// The result as a CloudEvent 1.0 in JSON.
fn event(node: &Name, result: &TaskResult) -> Arc<[u8]> {
    let kind = match result.state {
        TaskState::Done => "fades.answer",
        _ => "fades.failure",
    };
    let event = json!({
        "specversion": "1.0",
        "id": result.id,
        "source": format!("/fades/{node}"),
        "type": kind,
        "subject": result.id,
        "time": result.finished,
        "datacontenttype": "application/json",
        "data": result,
    });
    // Texts and numbers have a JSON form.
    serde_json::to_vec(&event).unwrap_or_default().into()
}
