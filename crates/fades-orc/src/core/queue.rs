//! Tasks that wait, in the order in which they are started.
//!
//! ```text
//!             a pause before it       its time has come
//!  (insert) ─────────────────▶ paused ─────────────────▶ lane of its ──▶ (next)
//!       └───────────────────────────────────────────────▶  service
//! ```
//! Of each lane that is not closed, the first task is among the *heads*; the
//! first of those is the first of all. A lane is closed while its service may
//! have nothing more started. A key never changes
//! while its task waits, not even with age, so nothing is ever sorted anew:
//! all that happens to one task takes a time that grows with the logarithm of
//! their number.
//!
//! A task that does not fit beside what runs may be passed by a later one that
//! does, one of the next [`WINDOW`] tasks, for [`PASSED_FOR`] after it was
//! first found not to fit. Then nothing behind it is started, so that what
//! runs ends and makes room. A task that would not even fit alone, because the
//! operator has taken room away, is put aside until there is another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use fades_task::identity::Name;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::Duration;

use super::{Task, Tick, Waiting};

/// A task that does not fit is passed for this long.
pub const PASSED_FOR: Duration = Duration::from_secs(5);

/// So many tasks are looked at for one that fits.
pub const WINDOW: usize = 32;

/// Whether there is room for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Fit {
    /// Beside what runs.
    Now,
    /// Once something has ended.
    Later,
    /// Not even alone.
    Never,
}

/// What [`Queue::next`] finds.
enum Choice {
    Start(i64),
    PutAside(i64),
}

/// Where a task stands: smaller is earlier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: Rank,
    seq: i64,
}

/// What a policy orders by; all keys of a queue have the same kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Accepted,
    At(Tick),
    Id(Name),
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    key: Key,
    /// It was first found not to fit then.
    unfit_since: Option<Tick>,
}

/// The tasks of a service that could be started.
#[derive(Debug, Default)]
struct Lane {
    ready: BTreeSet<Key>,
    /// What stands for the lane among the heads.
    head: Option<Key>,
}

/// All tasks that wait.
#[derive(Debug)]
pub(super) struct Queue {
    order: Order,
    tasks: HashMap<i64, Entry>,
    ids: HashMap<Name, i64>,
    /// Those that are not to be started before a time.
    paused: BTreeSet<(Tick, i64)>,
    /// Those for which there is no room at all.
    aside: BTreeSet<i64>,
    lanes: HashMap<Name, Lane>,
    /// Services of which nothing is to be started.
    closed: HashSet<Name>,
    /// The first of each lane that is not closed, and its service.
    heads: BTreeMap<Key, Name>,
}

/// Where a task stands under an order. That a task that waits gains a level of
/// priority every `ageing` means that each level is worth `ageing` of waiting:
/// the difference of two tasks does not change with time.
fn key(order: Order, waiting: &Waiting) -> Key {
    let task = &waiting.task.mtw.task;
    let rank = match order.policy {
        Policy::Fifo => Rank::Accepted,
        Policy::Priority => {
            let levels = task
                .priority
                .clamp(-Order::PRIORITY_MAX, Order::PRIORITY_MAX);
            let step = i64::try_from(order.ageing.0).unwrap_or(i64::MAX);
            let ahead = step.saturating_mul(levels.into());
            Rank::At(Tick(waiting.accepted.0.saturating_sub(ahead)))
        }
        Policy::Deadline => {
            let within = task.finish_within.unwrap_or(Order::WITHOUT_DEADLINE);
            Rank::At(waiting.accepted.after(within))
        }
        Policy::Id => Rank::Id(task.id.clone()),
    };
    let seq = waiting.task.seq;
    Key { rank, seq }
}

impl Queue {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            tasks: HashMap::new(),
            ids: HashMap::new(),
            paused: BTreeSet::new(),
            aside: BTreeSet::new(),
            lanes: HashMap::new(),
            closed: HashSet::new(),
            heads: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) const fn order(&self) -> Order {
        self.order
    }

    /// Whether a task could be started if there were room for it.
    pub(super) fn has_ready(&self, now: Tick) -> bool {
        let due = self.paused.first().is_some_and(|(at, _)| *at <= now);
        due || !self.heads.is_empty()
    }

    pub(super) fn insert(&mut self, waiting: Waiting) {
        let seq = waiting.task.seq;
        let key = key(self.order, &waiting);
        self.ids.insert(waiting.task.id().clone(), seq);
        self.paused.insert((waiting.not_before, seq));
        let unfit_since = None;
        let entry = Entry {
            waiting,
            key,
            unfit_since,
        };
        self.tasks.insert(seq, entry);
    }

    /// Takes a task out, wherever it stands.
    pub(super) fn remove(&mut self, id: &Name) -> Option<Waiting> {
        let seq = *self.ids.get(id)?;
        self.take(seq)
    }

    fn take(&mut self, seq: i64) -> Option<Waiting> {
        let Entry { waiting, key, .. } = self.tasks.remove(&seq)?;
        self.ids.remove(waiting.task.id());
        if !self.aside.remove(&seq) && !self.paused.remove(&(waiting.not_before, seq)) {
            self.leave_lane(waiting.task.service(), &key);
        }
        Some(waiting)
    }

    fn leave_lane(&mut self, service: &Name, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(service) {
            lane.ready.remove(key);
        }
        self.show(service);
    }

    fn put_aside(&mut self, seq: i64) {
        if let Some(entry) = self.tasks.get(&seq) {
            let (service, key) = (entry.waiting.task.service().clone(), entry.key.clone());
            self.aside.insert(seq);
            self.leave_lane(&service, &key);
        }
    }

    /// Looks again at what was put aside: there is another room.
    pub(super) fn reconsider(&mut self) {
        for seq in std::mem::take(&mut self.aside) {
            if let Some(entry) = self.tasks.get(&seq) {
                self.paused.insert((entry.waiting.not_before, seq));
            }
        }
    }

    /// Lets those in whose time has come.
    pub(super) fn wake(&mut self, now: Tick) {
        while let Some((at, seq)) = self.paused.first().copied() {
            if at > now {
                return;
            }
            self.paused.pop_first();
            let Some(entry) = self.tasks.get(&seq) else {
                continue;
            };
            let service = entry.waiting.task.service().clone();
            let lane = self.lanes.entry(service.clone()).or_default();
            lane.ready.insert(entry.key.clone());
            self.show(&service);
        }
    }

    /// Lets nothing of a service be started, or lets it again.
    pub(super) fn close(&mut self, service: &Name, closed: bool) {
        let changed = match closed {
            true => self.closed.insert(service.clone()),
            false => self.closed.remove(service),
        };
        if changed {
            self.show(service);
        }
    }

    /// Services of which a task could be started, or could be were they not
    /// closed.
    pub(super) fn services(&self) -> impl Iterator<Item = &Name> {
        self.lanes.keys()
    }

    /// Services of which nothing is to be started.
    pub(super) fn closed(&self) -> impl Iterator<Item = &Name> {
        self.closed.iter()
    }

    /// How many tasks of a service could be started, were there room for them.
    pub(super) fn ready_of(&self, service: &Name) -> usize {
        self.lanes.get(service).map_or(0, |lane| lane.ready.len())
    }

    /// Puts all tasks into another order.
    pub(super) fn reorder(&mut self, order: Order) {
        if order == self.order {
            return;
        }
        self.order = order;
        self.heads.clear();
        self.lanes.clear();
        self.aside.clear();
        for (seq, entry) in &mut self.tasks {
            entry.key = key(order, &entry.waiting);
            self.paused.insert((entry.waiting.not_before, *seq));
        }
    }

    /// Has the lane's first task among the heads, and no other of it.
    fn show(&mut self, service: &Name) {
        let Some(lane) = self.lanes.get_mut(service) else {
            return;
        };
        let first = lane
            .ready
            .first()
            .filter(|_| !self.closed.contains(service));
        if lane.head.as_ref() != first {
            let first = first.cloned();
            if let Some(head) = std::mem::replace(&mut lane.head, first.clone()) {
                self.heads.remove(&head);
            }
            self.heads.extend(first.map(|key| (key, service.clone())));
        }
        if lane.ready.is_empty() {
            self.lanes.remove(service);
        }
    }

    /// Takes the task that is to be started next, out of those that were let
    /// in and fit.
    pub(super) fn next(&mut self, now: Tick, fits: impl Fn(&Task) -> Fit) -> Option<Waiting> {
        loop {
            match self.choose(now, &fits)? {
                Choice::Start(seq) => return self.take(seq),
                Choice::PutAside(seq) => self.put_aside(seq),
            }
        }
    }

    fn choose(&mut self, now: Tick, fits: impl Fn(&Task) -> Fit) -> Option<Choice> {
        let mut heads = self.heads.iter().peekable();
        // Behind a head that was looked at, the next one of its lane.
        let mut behind: BTreeMap<&Key, &Name> = BTreeMap::new();
        for _ in 0..WINDOW {
            let next_head = heads.peek().map(|(key, _)| *key);
            let next_behind = behind.first_key_value().map(|(key, _)| *key);
            let (key, service) = match (next_head, next_behind) {
                (Some(head), Some(other)) if head > other => behind.pop_first(),
                (None, _) => behind.pop_first(),
                (Some(_), _) => heads.next(),
            }?;
            let entry = self.tasks.get_mut(&key.seq)?;
            match fits(&entry.waiting.task) {
                Fit::Now => return Some(Choice::Start(key.seq)),
                Fit::Never => return Some(Choice::PutAside(key.seq)),
                Fit::Later => {}
            }
            let unfit_since = *entry.unfit_since.get_or_insert(now);
            if unfit_since.after(PASSED_FOR) <= now {
                return None;
            }
            let after = (Bound::Excluded(key), Bound::Unbounded);
            let follower = self.lanes.get(service)?.ready.range(after).next();
            behind.extend(follower.map(|key| (key, service)));
        }
        None
    }
}

#[cfg(test)]
mod tests;
