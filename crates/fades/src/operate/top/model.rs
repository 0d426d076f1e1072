//! What is known of the node; knows neither a screen nor a connection.

use std::collections::BTreeMap;

use fades_orc::api::types::{NodeHealth, NodeInfo, TaskState, TaskSummary};
use fades_task::identity::Name;
use fades_task::resource::{Device, DeviceState};
use fades_task::time::Time;

/// Most tasks that are kept, of those that are open and of those that ended.
const KEPT: usize = 200;

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    /// Tasks that are open or ended lately, as they are now; there is a link.
    Lists(Vec<TaskSummary>),
    /// A task has a new state.
    Task(Box<TaskSummary>),
    /// How the node is.
    Health(NodeHealth),
    /// The node about itself.
    Node(Box<NodeInfo>),
    /// The devices that it knows.
    Devices(Vec<Device>),
    /// There is no link, and why.
    Lost(String),
}

/// Whether what is known is so now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// It begins.
    Waiting,
    /// It is.
    Live,
    /// It was so then.
    Lost {
        /// When the link was lost.
        since: Time,
        /// Why.
        reason: String,
    },
}

/// What is known.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) node: NodeInfo,
    pub(super) health: Option<NodeHealth>,
    pub(super) devices: Vec<Device>,
    /// The broker has said which devices there are; of many files it takes its
    /// time.
    pub(super) devices_known: bool,
    pub(super) link: Link,
    open: BTreeMap<Name, TaskSummary>,
    /// The latest first.
    ended: Vec<TaskSummary>,
}

impl Model {
    pub(super) fn new(node: NodeInfo) -> Self {
        Self {
            node,
            health: None,
            devices: Vec::new(),
            devices_known: false,
            link: Link::Waiting,
            open: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// Takes notice.
    pub(super) fn take(&mut self, news: News, now: Time) {
        match news {
            News::Lists(tasks) => {
                self.link = Link::Live;
                self.open.clear();
                self.ended.clear();
                // The oldest first: the latest end comes on top.
                let mut tasks = tasks;
                tasks.sort_by_key(|t| (t.finished, t.accepted));
                tasks.into_iter().for_each(|t| self.task(t));
            }
            News::Task(task) => self.task(*task),
            News::Health(health) => self.health = Some(health),
            News::Node(node) => self.node = *node,
            News::Devices(mut devices) => {
                devices.sort_by_key(|d| (urgency(state(d)), d.source.clone(), d.device.clone()));
                self.devices = devices;
                self.devices_known = true;
            }
            News::Lost(reason) => {
                let since = match &self.link {
                    Link::Lost { since, .. } => *since,
                    Link::Waiting | Link::Live => now,
                };
                self.link = Link::Lost { since, reason };
            }
        }
    }

    fn task(&mut self, task: TaskSummary) {
        self.open.remove(&task.id);
        match task.state {
            // It is what its runs do.
            TaskState::Standing => {}
            TaskState::Queued | TaskState::Running => {
                if self.open.len() < KEPT || task.state == TaskState::Running {
                    self.open.insert(task.id.clone(), task);
                }
            }
            TaskState::Done | TaskState::Failed | TaskState::Cancelled => {
                self.ended.retain(|t| t.id != task.id);
                self.ended.insert(0, task);
                self.ended.truncate(KEPT);
            }
        }
    }

    /// Tasks as they are shown: what runs, what waits, what ended.
    pub(super) fn tasks(&self) -> Vec<&TaskSummary> {
        let mut open: Vec<&TaskSummary> = self.open.values().collect();
        open.sort_by_key(|t| (t.state != TaskState::Running, t.accepted));
        open.extend(&self.ended);
        open
    }

    /// Tasks that ended, the latest first.
    pub(super) fn ended(&self) -> &[TaskSummary] {
        &self.ended
    }

    /// How many devices do how.
    pub(super) fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for device in &self.devices {
            *states.entry(word(device)).or_default() += 1;
        }
        states
    }
}

fn state(device: &Device) -> Option<DeviceState> {
    device.liveness.as_ref().map(|l| l.state)
}

/// How a device does, in a word.
pub(super) fn word(device: &Device) -> &'static str {
    state(device).map_or("not watched", DeviceState::word)
}

/// What needs somebody comes first.
const fn urgency(state: Option<DeviceState>) -> u8 {
    match state {
        Some(DeviceState::Broken) => 0,
        Some(DeviceState::Failing) => 1,
        Some(DeviceState::Silent) => 2,
        Some(DeviceState::Unknown) => 3,
        Some(DeviceState::Alive) => 4,
        None => 5,
    }
}
