//! Tasks with a schedule: they stand, and have a run for each time that is due.
//!
//! ```text
//! due ─► Spawn: the run and how far the schedule has come are stored together
//!          └─► Accepted(run) ─► … ─► its end ─► what is due next
//! ```
//! A task has one run at a time. What comes due meanwhile is missed, like what came
//! due while the node was down; the schedule says what becomes of it. Times are those
//! of the wall clock, which may step: how long to wait is thought over each minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fades_task::identity::Name;
use fades_task::quantity::Duration;
use fades_task::result::{Failure, TaskResult, TaskState};
use fades_task::schedule::{Due, run_id};
use fades_task::time::Time;

use super::{Effect, Now, Place, Task, Tick, Timer, outcome};

/// Longest time that is waited for without looking at the clock again.
const LOOK_EVERY: Duration = Duration(60_000_000_000);

#[derive(Debug)]
struct Standing {
    task: Task,
    /// Everything that was due until then is run or left out.
    done: Time,
    /// Where it is among those that wait; while a run is open, it is not.
    planned: Option<Time>,
    /// Runs that failed since the last that did not.
    failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Standings {
    tasks: BTreeMap<Name, Standing>,
    /// Those that wait, by the time of what is next.
    due: BTreeSet<(Time, Name)>,
    /// Those that were replaced, by who has their place.
    held: HashMap<Name, Task>,
    /// Open runs, and whose they are.
    runs: HashMap<Name, Name>,
    /// The clock is not set: nothing is due.
    clockless: bool,
    /// When the clock is looked at next.
    look: Option<Tick>,
}

impl Standings {
    pub(super) fn has(&self, id: &Name) -> bool {
        self.tasks.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.held.len()
    }

    /// Keeps a task whose place another has; gives it back when nobody does.
    pub(super) fn hold(&mut self, task: Task) -> Option<Task> {
        let by = task.place.held_by.as_ref();
        match by.filter(|by| self.has(by)).cloned() {
            Some(by) => self.held.insert(by, task),
            None => Some(task),
        }
    }

    /// A task takes the place of another. Gives that of which the other had taken
    /// the place: only one is kept.
    pub(super) fn replaced(&mut self, id: &Name, by: &Name) -> Option<Task> {
        self.unplan(id);
        if let Some(Standing { mut task, done, .. }) = self.tasks.remove(id) {
            task.due = Some(done);
            task.place.held_by = Some(by.clone());
            self.held.insert(by.clone(), task);
        }
        self.held.remove(id)
    }

    /// The task whose place this one had.
    pub(super) fn previous(&mut self, id: &Name) -> Option<Task> {
        self.held.remove(id)
    }

    /// Takes a task out whose place another has.
    pub(super) fn remove_held(&mut self, id: &Name) -> Option<Task> {
        let by = self.held.iter().find(|(_, task)| task.id() == id)?.0;
        let by = by.clone();
        self.held.remove(&by)
    }

    /// Takes a task with a schedule; `task.due` is how far it has come.
    pub(super) fn stand(&mut self, now: Now, task: Task) {
        let name = task.id().clone();
        let standing = Standing {
            done: task.due.unwrap_or(task.accepted),
            failures: task.place.failures,
            task,
            planned: None,
        };
        self.tasks.insert(name.clone(), standing);
        if !self.runs.values().any(|task| *task == name) {
            self.plan(now, &name);
        }
    }

    /// A run was stored, just now or in an earlier life of the node.
    pub(super) fn opened(&mut self, run: &Task) {
        if let Some(task) = &run.parent {
            self.runs.insert(run.id().clone(), task.clone());
            self.unplan(task);
        }
    }

    /// A task has ended; when it was a run, its task goes on. Gives that task when
    /// it has failed so often that the one before it is to stand again.
    pub(super) fn ended(&mut self, now: Now, result: &TaskResult) -> Option<Name> {
        let task = self.runs.remove(&result.id)?;
        let standing = self.tasks.get_mut(&task)?;
        match result.state {
            TaskState::Failed => standing.failures += 1,
            TaskState::Done => standing.failures = 0,
            _ => {}
        }
        let replace = standing.task.mtw.replace.as_ref();
        let enough = replace.is_some_and(|r| standing.failures >= r.after_failures);
        if enough && self.held.contains_key(&task) {
            return Some(task);
        }
        self.plan(now, &task);
        None
    }

    /// The open run of a task.
    pub(super) fn run_of(&self, id: &Name) -> Option<&Name> {
        let run = self.runs.iter().find(|(_, task)| *task == id);
        run.map(|(run, _)| run)
    }

    /// Whether another task waits for the place of this one.
    pub(super) fn has_previous(&self, id: &Name) -> bool {
        self.held.contains_key(id)
    }

    /// Gives its place back to the task before `id`, which ends: for that reason, or
    /// because its runs failed.
    pub(super) fn give_back(
        &mut self,
        now: Now,
        id: &Name,
        failure: Option<&Failure>,
        effects: &mut Vec<Effect>,
    ) {
        self.unplan(id);
        let Some(Standing {
            task,
            done,
            failures,
            ..
        }) = self.tasks.remove(id)
        else {
            return;
        };
        let Some(mut before) = self.held.remove(id) else {
            return;
        };
        let previous = before.id().clone();
        let failure = failure.cloned().unwrap_or_else(|| Failure::Withdrawn {
            failures,
            previous: previous.clone(),
        });
        effects.push(outcome::over(&task, now, Some(failure)));
        // What the other one was to run is not run again.
        effects.push(Effect::Return {
            task: previous,
            due: done,
        });
        before.due = Some(done);
        before.place = Place::default();
        self.stand(now, before);
    }

    /// A run could not be stored, because its id is taken: that time is left out.
    pub(super) fn left_out(&mut self, now: Now, task: &Name) {
        self.plan(now, task);
    }

    /// Takes a task out; with its open run, when it has one.
    pub(super) fn remove(&mut self, id: &Name) -> Option<(Task, Option<Name>)> {
        self.unplan(id);
        let standing = self.tasks.remove(id)?;
        Some((standing.task, self.run_of(id).cloned()))
    }

    fn plan(&mut self, now: Now, id: &Name) {
        let next = self.tasks.get(id).and_then(|s| s.due(now));
        self.put(id, next);
    }

    /// Without a next time, the task's end is what is due.
    fn put(&mut self, id: &Name, next: Option<Due>) {
        if let Some(standing) = self.tasks.get_mut(id) {
            let grace = standing.grace();
            let at = next.map_or(Time(i64::MIN), |due| due.at.after(grace));
            standing.planned = Some(at);
            self.due.insert((at, id.clone()));
        }
    }

    fn unplan(&mut self, id: &Name) {
        let planned = self.tasks.get_mut(id).and_then(|s| s.planned.take());
        if let Some(at) = planned {
            self.due.remove(&(at, id.clone()));
        }
    }

    /// Has everything that is due wait, or go on.
    pub(super) const fn go_by_clock(&mut self, set: bool) {
        self.clockless = !set;
        self.look = None;
    }

    /// The clock was looked at.
    pub(super) const fn looked(&mut self) {
        self.look = None;
    }

    /// Starts what is due, and gives the tasks whose time is over.
    pub(super) fn schedule(&mut self, now: Now, effects: &mut Vec<Effect>) -> Vec<Task> {
        let mut over = Vec::new();
        if self.clockless {
            return over;
        }
        while let Some((_, id)) = self.due.first().filter(|(at, _)| *at <= now.time).cloned() {
            self.unplan(&id);
            // The clock may have stepped since this was planned.
            let standing = self.tasks.get(&id);
            let next = standing.and_then(|s| s.due(now));
            let grace = standing.map_or(Duration(0), Standing::grace);
            match next.and_then(|due| Some((due, run_id(&id, due.at)?))) {
                None => over.extend(self.remove(&id).map(|(task, _)| task)),
                Some((due, _)) if due.at.after(grace) > now.time => self.put(&id, Some(due)),
                Some((due, run)) => {
                    if let Some(standing) = self.tasks.get_mut(&id) {
                        standing.done = due.at;
                    }
                    effects.push(Effect::Spawn(Spawn {
                        task: id,
                        run,
                        due: due.at,
                        skipped: due.skipped,
                    }));
                }
            }
        }
        effects.extend(self.look_again(now));
        over
    }

    /// Sees to it that the clock is looked at in time.
    fn look_again(&mut self, now: Now) -> Option<Effect> {
        let (first, _) = self.due.first()?;
        let wait = u64::try_from(first.0.saturating_sub(now.time.0)).unwrap_or(0);
        let at = now.tick.after(Duration(wait.min(LOOK_EVERY.0)));
        if self.look.is_some_and(|look| look <= at) {
            return None;
        }
        self.look = Some(at);
        let timer = Timer::Schedule;
        Some(Effect::SetTimer { at, timer })
    }
}

impl Standing {
    /// What is late has so long to arrive before a window is over.
    fn grace(&self) -> Duration {
        let window = self.task.mtw.window;
        window.map_or(Duration(0), |window| window.grace)
    }

    /// What is next; none when the task has come to its end.
    fn due(&self, now: Now) -> Option<Due> {
        let said = &self.task.mtw;
        let now = now.time.before(self.grace());
        let due = said.times()?.next(self.done, now, &said.task.zone)?;
        let over = due.at.max(now) >= said.task.expires;
        (!over).then_some(due)
    }
}

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// Whose run it is.
    pub task: Name,
    /// Its own id.
    pub run: Name,
    /// The time that was due.
    pub due: Time,
    /// Times before it that are left out.
    pub skipped: u64,
}
