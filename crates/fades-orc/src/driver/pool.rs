//! Clean shells, made ahead of need, and who works in which.
//!
//! ```text
//!           made                a run            Ended             Clean
//!  (maker) ──────▶ idle ──────────────────▶ busy ──────▶ busy, ended ──────▶ idle
//!                   │  dies, is too many      │  dies, says what it must not  │
//!                   └────────────────▶ (reaper) ◀──────────────────────────────┘
//! ```
//! A run waits until there is a template and a clean shell for it; both are
//! made when there are none, so that a run never fails because the pool is
//! empty. A shell that ended in any way but [`Exit::Done`] is never used
//! again. One that is lost before it has read what to run is replaced, and the
//! run knows nothing of it.
//!
//! The pool lives on the driver's thread, which never waits for a process:
//! [`workers`] make shells and see them off, [`listener`] hears what they say.
//! How many wait is decided by [`demand`].

mod demand;
mod listener;
mod serve;
mod supply;
mod templates;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::message::TenderReport;
use fades_task::mtw::Mtw;
use fades_task::time::Time;
use tracing::{info, warn};

use self::demand::Demand;
pub(crate) use self::demand::Kind;
use self::listener::Listener;
use self::supply::Shortage;
pub(crate) use self::templates::Key;
use self::templates::Templates;
pub(crate) use self::workers::TemplateError;
use self::workers::{Farewell, Workers};
use super::Input;
use super::tender::{Job, Plan, Retrieval};
use crate::api::types::{LogLine, ShellsInfo};
use crate::cgroup::Groups;
use crate::config::NodeConfig;
use crate::core::{Event, RunId, TenderEvent};
use crate::shared::Shared;
use crate::shell::{Shell, ShellError, Template};
use crate::store::Store;

/// Waiting shells may take this part of the memory for functions.
const BUDGET_PART: u64 = 8;

/// Number of a shell, unique in the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShellId(pub(super) u64);

/// Something that reached the pool.
#[derive(Debug)]
pub(crate) enum News {
    /// A shell was made, or was not.
    Shell {
        kind: Kind,
        made: Result<Shell, ShellError>,
    },
    /// A template was made, or was not.
    Template {
        key: Key,
        made: Result<Template, TemplateError>,
    },
    /// A shell said something.
    Said {
        shell: ShellId,
        report: TenderReport,
        blob: Vec<u8>,
    },
    /// A shell's channel has ended; the last that is heard of it.
    Left {
        shell: ShellId,
        said: String,
        /// It has not read what it was last sent.
        unread: bool,
    },
    /// A shell was seen off.
    Gone { shell: ShellId, how: String },
}

/// What follows from it for the driver.
#[derive(Debug)]
pub(super) enum Heard {
    /// For the core.
    Tender { run: RunId, event: TenderEvent },
    /// The retrieval of this run, which could not begin before, can.
    Retrieve(RunId),
}

/// A shell of the pool.
#[derive(Debug)]
struct Member {
    shell: Shell,
    kind: Kind,
    /// The template that it ran last.
    template: u64,
    /// When it last became idle, in the order of all that did.
    idle_since: u64,
    work: Option<Work>,
}

/// What a shell works on.
#[derive(Debug)]
struct Work {
    job: Box<Job>,
    phase: Phase,
    killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It was told, and has said nothing yet.
    Told,
    /// It has said something about this run.
    Heard,
    /// The function ended; whether the shell will be clean.
    Ended { clean: bool },
}

/// All shells of a node, and the runs that wait for one.
#[derive(Debug)]
pub(super) struct Pool {
    config: Arc<NodeConfig>,
    shared: Arc<Shared>,
    inputs: Sender<Input>,
    groups: Arc<Groups>,
    workers: Workers,
    listener: Listener,
    demand: Demand,
    /// Most memory of idle shells, bytes.
    budget: u64,
    templates: Templates,
    members: BTreeMap<ShellId, Member>,
    /// Where each run is that was given a shell.
    places: HashMap<RunId, ShellId>,
    waiting: BTreeMap<RunId, Box<Job>>,
    /// Shells that are being made.
    making: HashMap<Kind, usize>,
    /// Shells that are being seen off, and the run that waits for their end.
    leaving: HashMap<ShellId, Option<RunId>>,
    /// Kinds of which no spare could be made, and until when none is tried.
    barren: HashMap<Kind, supply::Barren>,
    shortage: Option<Shortage>,
    /// When the demand's period ends; nothing while there is no demand.
    period_ends: Option<Instant>,
    next_shell: u64,
    idle_count: u64,
    ending: bool,
}

impl Pool {
    /// Starts the threads; shells are made when [`Self::open`] says so.
    pub(super) fn start(
        config: &Arc<NodeConfig>,
        store: &Arc<Store>,
        shared: &Arc<Shared>,
        inputs: &Sender<Input>,
    ) -> io::Result<Self> {
        let groups = Arc::new(Groups::find());
        shared.live().cgroup = groups.info().clone();
        let strongest = config.isolation.iter().find(|i| i.works);
        let strongest = strongest.map(|i| i.isolation);
        Ok(Self {
            workers: Workers::start(config, Arc::clone(&groups), store, inputs)?,
            groups,
            listener: Listener::start(inputs.clone())?,
            demand: Demand::new(config.parallel, strongest, config.broker.chunk),
            budget: config.memory.0 / BUDGET_PART,
            templates: Templates::default(),
            members: BTreeMap::new(),
            places: HashMap::new(),
            waiting: BTreeMap::new(),
            making: HashMap::new(),
            leaving: HashMap::new(),
            barren: HashMap::new(),
            shortage: None,
            period_ends: None,
            next_shell: 1,
            idle_count: 0,
            ending: false,
            config: Arc::clone(config),
            shared: Arc::clone(shared),
            inputs: inputs.clone(),
        })
    }

    /// Goes by what may change while the node runs.
    pub(super) fn reload(&mut self, config: &Arc<NodeConfig>) {
        self.demand.bound(config.parallel);
        self.budget = config.memory.0 / BUDGET_PART;
        self.config = Arc::clone(config);
    }

    /// Makes the first spares.
    pub(super) fn open(&mut self) {
        self.settle(&mut Vec::new());
    }

    /// Runs something as soon as there is a shell for it. All that follows
    /// comes as [`Heard`], also when nothing can be run.
    /// `resident`: with which checkpoint a function that stays goes on, if it has one.
    pub(super) fn begin(&mut self, plan: &Plan<'_>, resident: Option<Option<Vec<u8>>>) {
        let job = Job::new(plan, resident);
        self.waiting.insert(plan.run, Box::new(job));
        let mut heard = Vec::new();
        self.settle(&mut heard);
        self.put_off(heard);
    }

    /// A function that stays goes on with another window, if it is still there; its
    /// end is told otherwise.
    pub(super) fn go_on(&mut self, run: RunId, mtw: &Mtw, accepted: Time, at: Time) {
        let member = self.place_of(run);
        let Some(work) = member.and_then(|member| member.work.as_mut()) else {
            return;
        };
        work.job.go_on(mtw, accepted, at);
        if let Some(tender) = self.shared.live().tenders.get_mut(&run) {
            tender.task = mtw.task.id.clone();
        }
    }

    /// Ends a run, wherever it is.
    pub(super) fn kill(&mut self, run: RunId) {
        if let Some(job) = self.waiting.remove(&run) {
            self.over(&job);
            let reason = "it was not started".to_owned();
            let event = TenderEvent::Gone { reason };
            self.put_off(vec![Heard::Tender { run, event }]);
            self.show();
        } else if let Some(member) = self.place_of(run) {
            member.shell.child().kill();
            if let Some(work) = &mut member.work {
                work.killed = true;
            }
        }
    }

    /// What the broker shall fetch for a run, and where it shall send it.
    /// Without a channel for it as yet, [`Heard::Retrieve`] follows.
    pub(super) fn for_broker(&mut self, run: RunId) -> Option<Retrieval> {
        if let Some(job) = self.waiting.get_mut(&run) {
            return job.for_broker();
        }
        let work = self.place_of(run)?.work.as_mut()?;
        work.job.for_broker()
    }

    fn place_of(&mut self, run: RunId) -> Option<&mut Member> {
        let shell = self.places.get(&run)?;
        self.members.get_mut(shell)
    }

    /// Deals with what happened.
    pub(super) fn take(&mut self, news: News) -> Vec<Heard> {
        let mut heard = Vec::new();
        match news {
            News::Shell { kind, made } => self.shell_made(kind, made, &mut heard),
            News::Template { key, made } => self.template_made(key, made, &mut heard),
            News::Said {
                shell,
                report,
                blob,
            } => self.said(shell, report, blob, &mut heard),
            News::Left {
                shell,
                said,
                unread,
            } => self.left(shell, said, unread, &mut heard),
            News::Gone { shell, how } => {
                if let Some(Some(run)) = self.leaving.remove(&shell) {
                    let event = TenderEvent::Gone { reason: how };
                    heard.push(Heard::Tender { run, event });
                }
            }
        }
        self.settle(&mut heard);
        heard
    }

    /// Kills what there is. It is over when [`Self::is_empty`] says so.
    pub(super) fn close(&mut self) {
        self.ending = true;
        self.waiting.clear();
        for member in self.members.values() {
            member.shell.child().kill();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let making = self.making.values().sum::<usize>() + self.templates.making();
        self.members.is_empty() && self.leaving.is_empty() && making == 0
    }

    /// Sends what follows to the driver by way of its queue.
    fn put_off(&self, heard: Vec<Heard>) {
        for heard in heard {
            let input = match heard {
                Heard::Tender { run, event } => Input::Event(Event::Tender { run, event }),
                Heard::Retrieve(run) => Input::Retrieve(run),
            };
            // The driver holds the queue's other end.
            let _ = self.inputs.send(input);
        }
    }

    fn said(&mut self, id: ShellId, report: TenderReport, blob: Vec<u8>, heard: &mut Vec<Heard>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let isolation = member.kind.isolation;
        let Some(work) = &mut member.work else {
            return self.drop_liar(id);
        };
        if work.killed {
            return;
        }
        let run = work.job.run;
        if matches!(work.phase, Phase::Told) {
            work.phase = Phase::Heard;
            work.job.is_begun();
        }
        let event = match (report, work.phase) {
            (TenderReport::Log { level, text }, Phase::Heard) => {
                let limit = work.job.start.limits.log.0;
                let line = LogLine { level, text };
                self.shared.live().log(&work.job.task, line, limit);
                return;
            }
            (
                TenderReport::Ready {
                    isolation: used, ..
                },
                Phase::Heard,
            ) => {
                // Its run fails for that, and it must not become clean before
                // somebody says so.
                if used != isolation {
                    work.killed = true;
                    member.shell.child().kill();
                }
                TenderEvent::Ready { isolation: used }
            }
            (TenderReport::Refused(refused), Phase::Heard) => {
                work.phase = Phase::Ended { clean: false };
                TenderEvent::Refused(refused)
            }
            (
                TenderReport::Window {
                    ended,
                    checkpoint_bytes: Some(checkpoint),
                    ..
                },
                Phase::Heard,
            ) if work.job.start.resident.is_some() => TenderEvent::Window {
                ended,
                blob,
                checkpoint,
            },
            (TenderReport::Ended(ended), Phase::Heard) => {
                let clean = ended.exit == Exit::Done
                    && ended.isolation == isolation
                    && isolation == Isolation::Microvm;
                work.phase = Phase::Ended { clean };
                let kind = member.kind;
                self.is_fertile(kind);
                TenderEvent::Ended { ended, blob }
            }
            (TenderReport::Clean { .. }, Phase::Ended { clean: true }) => {
                return self.clean(id, heard);
            }
            _ => return self.drop_liar(id),
        };
        heard.push(Heard::Tender { run, event });
    }

    /// A shell that says what it was not asked is of no use any more, and
    /// nothing else that it may have said already counts.
    fn drop_liar(&mut self, id: ShellId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let pid = member.shell.child().id();
        warn!(pid, "a tender said what it was not asked; killing it");
        match &mut member.work {
            Some(work) => {
                work.killed = true;
                member.shell.child().kill();
            }
            None => self.dismiss(id),
        }
    }

    /// A shell can be used again.
    fn clean(&mut self, id: ShellId, heard: &mut Vec<Heard>) {
        let Some(work) = self.idle(id) else {
            return;
        };
        self.places.remove(&work.job.run);
        self.over(&work.job);
        let event = TenderEvent::Gone {
            reason: String::new(),
        };
        let run = work.job.run;
        heard.push(Heard::Tender { run, event });
    }

    /// Makes a shell wait; gives what it worked on.
    fn idle(&mut self, id: ShellId) -> Option<Work> {
        self.idle_count += 1;
        let member = self.members.get_mut(&id)?;
        member.idle_since = self.idle_count;
        member.work.take()
    }

    /// A run no longer wants a shell.
    fn over(&mut self, job: &Job) {
        self.shared.live().tenders.remove(&job.run);
        if let Some(kind) = job.kind {
            self.demand.ends(kind);
        }
    }

    fn left(&mut self, id: ShellId, said: String, unread: bool, heard: &mut Vec<Heard>) {
        let Some(mut member) = self.members.remove(&id) else {
            return;
        };
        let Some(mut work) = member.work.take() else {
            // At the end they are killed.
            if !self.ending {
                let pid = member.shell.child().id();
                warn!(pid, "a tender died while it waited");
                self.is_barren(member.kind, format!("it died while it waited {said}"));
            }
            return self.see_off(id, member.shell, said, None);
        };
        let run = work.job.run;
        self.places.remove(&run);
        let ended = matches!(work.phase, Phase::Ended { .. });
        if unread && work.phase == Phase::Told && !work.killed {
            info!(
                run = run.0,
                "a tender died before it read what to run; another will"
            );
            self.shared.live().tenders.remove(&run);
            work.job.lost += 1;
            let reason = "the tender died before it read what to run".to_owned();
            self.wait_again(work.job, reason, heard);
            return self.see_off(id, member.shell, said, None);
        }
        self.over(&work.job);
        if ended || work.killed {
            let reason = "it was killed".to_owned();
            let event = TenderEvent::Gone { reason };
            heard.push(Heard::Tender { run, event });
            self.see_off(id, member.shell, said, None);
        } else {
            self.see_off(id, member.shell, said, Some(run));
        }
    }

    /// Has the reaper end a shell; a run's end waits for how that goes.
    fn see_off(&mut self, id: ShellId, shell: Shell, said: String, run: Option<RunId>) {
        self.leaving.insert(id, run);
        self.workers.see_off(Farewell {
            id,
            shell,
            said,
            patient: run.is_some(),
        });
    }

    /// Lets the API see how things are.
    fn show(&self) {
        let busy = self.places.len();
        self.shared.live().shells = ShellsInfo {
            idle: self.members.len() - busy,
            busy,
            making: self.making.values().sum(),
            leaving: self.leaving.len(),
            waiting: self.waiting.len(),
            templates: self.templates.count(),
            template_bytes: fades_task::quantity::Size(self.templates.bytes()),
            shortage: self.shortage.as_ref().map(|s| s.reason.clone()),
            failing: self.failing(),
        };
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The makers' threads, which hold them too, may end after the process.
        self.groups.close();
    }
}

/// A pause that doubles while something keeps failing.
fn pause(first: Duration, failures: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(most)
}
