//! Functions that stay: between two windows they rest, and keep their memory.
//!
//! ```text
//! window due ─► queued ─► no machine: a new one, from the last checkpoint ─┐
//!                  └────► at rest: goes on ─────────────────────────────────┴─► answered
//!                            ▲                                                     │
//!                            └─── answer, checkpoint and state stored together ◄───┘
//! ```
//! A window that does not end with an answer costs the function its machine: what it
//! has in its memory then is not what was stored. What rests gives way to what runs;
//! it loses nothing by that but the time of a start.

use std::collections::HashMap;

use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::quantity::{Duration, Size};
use fades_trust::grant::Allowed;

use super::queue::Fit;
use super::room::Room;
use super::run::{Rest, Run};
use super::{Core, Effect, Need, Now, RunId, Task, Waiting};

/// A function's calendar, which it gets when it starts, reaches a year ahead.
const STAYS_MAX: Duration = Duration::from_secs(180 * 86_400);

/// Those at rest, by their tasks.
pub(super) type Resting = HashMap<Name, RunId>;

/// What a task takes of the room; its function may be there already.
pub(super) fn need(task: &Task, room: &Room, resting: &Resting) -> Need {
    let mut need = task.need(&room.capacity);
    let stays = task.resident_of();
    if stays.is_some_and(|task| resting.contains_key(task)) {
        need.memory = Size(0);
    }
    need
}

/// Whether there is room, and whether there would be without what rests.
pub(super) fn fits(room: &Room, need: Need) -> (Fit, bool) {
    let fit = room.fits(need);
    let asleep = fit == Fit::Later && room.without_rest().fits(need) == Fit::Now;
    (fit, asleep)
}

impl Core {
    /// A run has answered for its window.
    pub(super) fn rest(&mut self, now: Now, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.over = true;
        run.rest = Rest::Since(now.tick);
        self.room.rest(run.need);
        let service = run.task.service().clone();
        let task = run.task.parent.clone();
        self.quota.left(&service);
        self.open_lane(&service);
        if let Some(task) = task {
            let wanted = self.standings.has(&task);
            self.resting.insert(task.clone(), id);
            if !wanted {
                self.let_go(&task, effects);
            }
        }
    }

    /// The run in which the function of a task's next window is, if it is to go on.
    pub(super) fn at_rest(
        &mut self,
        now: Now,
        waiting: &Waiting,
        isolation: Isolation,
        effects: &mut Vec<Effect>,
    ) -> Option<RunId> {
        let task = waiting.task.resident_of()?;
        let id = *self.resting.get(task)?;
        let run = self.runs.get(&id)?;
        let young = run.born.after(STAYS_MAX) > now.tick;
        if young && run.isolation == Some(isolation) {
            return self.resting.remove(task);
        }
        self.let_go(task, effects);
        None
    }

    /// Hands a function at rest its next window.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        id: RunId,
        (waiting, allowed): (Waiting, Allowed),
        effects: &mut Vec<Effect>,
    ) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.resume(waiting, now);
        run.allowed = allowed;
        effects.push(super::run::More::StuckTimer.at(now.tick, run));
        self.room.wake(run.need);
        let service = run.task.service().clone();
        self.quota.began(&service);
        self.open_lane(&service);
    }

    /// Ends the function of a task that is at rest.
    pub(super) fn let_go(&mut self, task: &Name, effects: &mut Vec<Effect>) {
        if let Some(run) = self.resting.remove(task) {
            effects.push(Effect::KillTender { run });
        }
    }

    /// Ends all functions at rest.
    pub(super) fn let_all_go(&mut self, effects: &mut Vec<Effect>) {
        for (_, run) in self.resting.drain() {
            effects.push(Effect::KillTender { run });
        }
    }

    /// Ends the function that has been at rest the longest.
    pub(super) fn make_room(&mut self, effects: &mut Vec<Effect>) {
        let since = |run: &RunId| match self.runs.get(run).map(|run| run.rest) {
            Some(Rest::Since(since)) => Some(since),
            _ => None,
        };
        let longest = self.resting.iter().min_by_key(|(_, run)| since(run));
        if let Some(task) = longest.map(|(task, _)| task.clone()) {
            self.let_go(&task, effects);
        }
    }
}

impl Run {
    /// Goes on with the next window of its task.
    fn resume(&mut self, waiting: Waiting, now: Now) {
        self.task = waiting.task;
        self.accepted = waiting.accepted;
        self.started = now;
        self.ready = Some(now.tick);
        self.isolation_index = waiting.isolation;
        self.tender = super::run::Tender::Ready;
        self.retrieval = super::run::Retrieval::Active;
        self.coverage = Vec::new();
        self.over = false;
        self.rest = Rest::Not;
    }
}
