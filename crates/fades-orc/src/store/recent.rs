//! What is known of tasks without asking the disk.
//!
//! The connection is busy while a group is synced. Those who hand tasks in and
//! wait for results ask for just the tasks that are open or ended a moment
//! ago: these are here, so that nobody waits for somebody else's sync. Only
//! what is stored comes here, after it is stored.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fades_task::identity::Name;
use fades_task::result::TaskState;
use fades_task::time::Time;
use tokio::sync::oneshot;

use super::group::Ending;
use crate::api::types::{TaskCounts, TaskSummary};
use crate::core::Change;
use crate::core::standing::Spawn;

/// Most bytes of results that are kept; what a result takes besides its JSON
/// is counted as [`ENTRY`].
const KEPT_MAX: usize = 4 << 20;

/// What a task takes besides the JSON of its result, bytes, about.
const ENTRY: usize = 1 << 10;

/// The JSON of a result, to the one who waits for it.
type Waiter = oneshot::Sender<Arc<str>>;

/// What is known of a task.
#[derive(Debug)]
pub enum Known {
    /// It has ended.
    Ended {
        /// The task in short.
        summary: Box<TaskSummary>,
        /// Its result as JSON.
        result: Arc<str>,
    },
    /// It has not.
    Open {
        /// The task in short.
        summary: Box<TaskSummary>,
        /// Its result as JSON, when it ends.
        result: oneshot::Receiver<Arc<str>>,
    },
}

impl Known {
    /// The task in short.
    #[must_use]
    pub const fn summary(&self) -> &TaskSummary {
        match self {
            Self::Ended { summary, .. } | Self::Open { summary, .. } => summary,
        }
    }
}

#[derive(Debug)]
enum Stage {
    Open(Vec<Waiter>),
    Ended(Arc<str>),
}

#[derive(Debug)]
struct Entry {
    summary: TaskSummary,
    stage: Stage,
}

/// All tasks that have not ended, and the last that have.
#[derive(Debug, Default)]
pub(super) struct Recent {
    tasks: HashMap<Name, Entry>,
    /// Those that have ended, oldest first.
    ended: VecDeque<Name>,
    kept: usize,
    counts: TaskCounts,
}

fn counted(counts: &mut TaskCounts, state: TaskState) -> &mut u64 {
    match state {
        TaskState::Standing => &mut counts.standing,
        TaskState::Queued => &mut counts.queued,
        TaskState::Running => &mut counts.running,
        TaskState::Done => &mut counts.done,
        TaskState::Failed => &mut counts.failed,
        TaskState::Cancelled => &mut counts.cancelled,
    }
}

impl Recent {
    /// What a store has when it is opened: all open tasks, and how many there
    /// are in each state.
    pub(super) fn new(open: Vec<TaskSummary>, counts: TaskCounts) -> Self {
        let entry = |summary: TaskSummary| {
            let stage = Stage::Open(Vec::new());
            (summary.id.clone(), Entry { summary, stage })
        };
        Self {
            tasks: open.into_iter().map(entry).collect(),
            counts,
            ..Self::default()
        }
    }

    pub(super) const fn counts(&self) -> TaskCounts {
        self.counts
    }

    pub(super) fn summary(&self, id: &Name) -> Option<TaskSummary> {
        self.tasks.get(id).map(|entry| entry.summary.clone())
    }

    /// Looks a task up; of one that is open, also asks to be told its result.
    pub(super) fn look(&mut self, id: &Name) -> Option<Known> {
        let entry = self.tasks.get_mut(id)?;
        let summary = Box::new(entry.summary.clone());
        Some(match &mut entry.stage {
            Stage::Ended(result) => {
                let result = Arc::clone(result);
                Known::Ended { summary, result }
            }
            Stage::Open(waiters) => {
                waiters.retain(|waiter| !waiter.is_closed());
                let (waiter, result) = oneshot::channel();
                waiters.push(waiter);
                Known::Open { summary, result }
            }
        })
    }

    pub(super) fn accepted(&mut self, summary: TaskSummary) {
        *counted(&mut self.counts, summary.state) += 1;
        let stage = Stage::Open(Vec::new());
        let id = summary.id.clone();
        self.tasks.insert(id, Entry { summary, stage });
    }

    /// Gives the task as it is now.
    pub(super) fn changed(&mut self, id: &Name, change: &Change) -> Option<TaskSummary> {
        let entry = self.tasks.get_mut(id)?;
        let summary = &mut entry.summary;
        *counted(&mut self.counts, summary.state) -= 1;
        match change {
            Change::Running { attempts, at } => {
                summary.state = TaskState::Running;
                summary.attempts = *attempts;
                summary.started = Some(*at);
            }
            Change::Queued { attempts } => {
                summary.state = TaskState::Queued;
                summary.attempts = *attempts;
            }
        }
        *counted(&mut self.counts, summary.state) += 1;
        Some(summary.clone())
    }

    /// Another task has taken the place of this one, or it has it again and everything
    /// until `due` is run. Gives the task as it is now.
    pub(super) fn held(&mut self, id: &Name, held: bool, due: Option<Time>) -> Option<TaskSummary> {
        let summary = &mut self.tasks.get_mut(id)?.summary;
        summary.held = held;
        summary.due = due.or(summary.due);
        Some(summary.clone())
    }

    /// A run is its task, but for its id and its times. Gives the run.
    pub(super) fn spawned(&mut self, spawn: &Spawn, at: Time) -> Option<TaskSummary> {
        let task = self.tasks.get_mut(&spawn.task)?;
        task.summary.due = Some(spawn.due);
        task.summary.skipped += spawn.skipped;
        let run = TaskSummary {
            id: spawn.run.clone(),
            state: TaskState::Queued,
            accepted: at,
            skipped: 0,
            held: false,
            ..task.summary.clone()
        };
        self.accepted(run.clone());
        Some(run)
    }

    /// Tells whoever waits, and lets go of the oldest results. Gives the task
    /// as it is now.
    pub(super) fn ended(&mut self, ending: &Ending) -> Option<TaskSummary> {
        let entry = self.tasks.get_mut(&ending.id)?;
        let summary = &mut entry.summary;
        *counted(&mut self.counts, summary.state) -= 1;
        *counted(&mut self.counts, ending.state) += 1;
        summary.state = ending.state;
        summary.attempts = ending.attempts;
        summary.finished = Some(ending.finished);
        summary.breakdown = Some(ending.breakdown);
        summary.failure.clone_from(&ending.failure);
        let now = summary.clone();
        let ended = Stage::Ended(Arc::clone(&ending.shown));
        if let Stage::Open(waiters) = std::mem::replace(&mut entry.stage, ended) {
            for waiter in waiters {
                // Whoever waited may have gone.
                let _ = waiter.send(Arc::clone(&ending.shown));
            }
        }
        self.kept += ENTRY + ending.shown.len();
        self.ended.push_back(ending.id.clone());
        self.let_go();
        Some(now)
    }

    fn let_go(&mut self) {
        while self.kept > KEPT_MAX {
            let Some(oldest) = self.ended.pop_front() else {
                return;
            };
            if let Some(Stage::Ended(result)) = self.tasks.remove(&oldest).map(|e| e.stage) {
                self.kept -= ENTRY + result.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fades_task::quantity::{Duration, Size};
    use fades_task::result::{Breakdown, TaskState};

    use super::{ENTRY, KEPT_MAX, Known, Recent};
    use crate::api::types::{TaskCounts, TaskSummary};
    use crate::core::{Change, Charge, Used};
    use crate::samples::{mtw, name, now};
    use crate::store::group::Ending;

    fn summary(id: &str) -> TaskSummary {
        TaskSummary {
            id: name(id),
            name: name("air"),
            service: name("city-air"),
            signer: name("city"),
            state: TaskState::Queued,
            function: mtw(id).function.image,
            attempts: 0,
            accepted: now(),
            started: None,
            finished: None,
            due: None,
            skipped: 0,
            held: false,
            breakdown: None,
            failure: None,
        }
    }

    fn ending(id: &str, length: usize) -> Ending {
        Ending {
            id: name(id),
            service: name("city-air"),
            charge: Charge {
                day: now(),
                used: Used {
                    cpu: Duration(0),
                    bytes: Size(0),
                },
            },
            state: TaskState::Done,
            attempts: 1,
            finished: now(),
            breakdown: Breakdown::default(),
            failure: None,
            bare: String::new(),
            shown: "x".repeat(length).into(),
            answer: Vec::new(),
            readings: Vec::new(),
            checkpoint: None,
            log: String::new(),
            parcels: Vec::new(),
        }
    }

    #[test]
    fn whoever_waits_for_a_task_is_told_its_result_and_nobody_else_is() {
        let mut recent = Recent::new(vec![summary("a"), summary("b")], TaskCounts::default());
        recent.counts.queued = 2;
        let mut waiting = Vec::new();
        for id in ["a", "a", "b"] {
            match recent.look(&name(id)) {
                Some(Known::Open { result, .. }) => waiting.push(result),
                other => panic!("{other:?}"),
            }
        }
        recent.ended(&ending("a", 3));
        assert_eq!(waiting[0].try_recv().unwrap(), Arc::from("xxx"));
        assert_eq!(waiting[1].try_recv().unwrap(), Arc::from("xxx"));
        assert!(waiting[2].try_recv().is_err());
        assert!(matches!(recent.look(&name("a")), Some(Known::Ended { .. })));
        assert!(recent.look(&name("c")).is_none());
    }

    #[test]
    fn waiters_that_have_gone_are_forgotten_by_the_next_one() {
        let mut recent = Recent::new(vec![summary("a")], TaskCounts::default());
        for _ in 0..100 {
            drop(recent.look(&name("a")));
        }
        let super::Stage::Open(waiters) = &recent.tasks[&name("a")].stage else {
            panic!("it is open");
        };
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn the_oldest_results_make_room_and_open_tasks_stay() {
        let mut recent = Recent::default();
        recent.accepted(summary("open"));
        let length = KEPT_MAX / 10 - ENTRY;
        for n in 0..11 {
            let id = format!("t{n}");
            recent.accepted(summary(&id));
            recent.ended(&ending(&id, length));
        }
        assert!(recent.look(&name("t0")).is_none());
        assert!(matches!(
            recent.look(&name("t1")),
            Some(Known::Ended { .. })
        ));
        assert!(matches!(
            recent.look(&name("open")),
            Some(Known::Open { .. })
        ));
        assert_eq!((recent.kept, recent.ended.len()), (KEPT_MAX / 10 * 10, 10));
        recent.accepted(summary("large"));
        recent.ended(&ending("large", KEPT_MAX));
        assert_eq!((recent.kept, recent.ended.len()), (0, 0));
    }

    #[test]
    fn tasks_are_counted_by_their_states() {
        let mut recent = Recent::default();
        for id in ["a", "b", "c"] {
            recent.accepted(summary(id));
        }
        let running = Change::Running {
            attempts: 1,
            at: now(),
        };
        recent.changed(&name("a"), &running);
        recent.changed(&name("b"), &running);
        recent.changed(&name("b"), &Change::Queued { attempts: 1 });
        recent.ended(&ending("a", 1));
        let counts = TaskCounts {
            queued: 2,
            done: 1,
            ..TaskCounts::default()
        };
        assert_eq!(recent.counts(), counts);
        assert_eq!(recent.summary(&name("b")).unwrap().attempts, 1);
    }
}
