//! What the operator of a node decides about the order of tasks that wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Duration;

/// Which of the tasks that wait is started next. Where a policy makes no
/// difference between two, the one that was accepted earlier is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The order of acceptance.
    #[default]
    Fifo,
    /// The highest `task.priority` first. Each `ageing` for which a task has
    /// waited counts like one more, so none waits for ever.
    Priority,
    /// The one whose `task.finish-within` passes first. A task without one is
    /// ordered as if it had an hour, so none waits for ever.
    Deadline,
    /// The smallest `task.id`, as text. A task waits for as long as others with
    /// smaller ids arrive.
    Id,
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fifo => "fifo",
            Self::Priority => "priority",
            Self::Deadline => "deadline",
            Self::Id => "id",
        })
    }
}

/// The order of tasks that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "QueueOrder")]
pub struct Order {
    /// Which task is started next.
    pub policy: Policy,
    /// With the policy `priority`: waiting for this long counts like one level
    /// of priority.
    pub ageing: Duration,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            ageing: Duration::from_secs(60),
        }
    }
}

impl Order {
    /// Priorities beyond this, in either direction, count like this: nobody
    /// gets further ahead, or behind, than so many times `ageing`.
    pub const PRIORITY_MAX: i32 = 100;

    /// Where a task without `finish-within` stands among those with one.
    pub const WITHOUT_DEADLINE: Duration = Duration::from_secs(3600);
}
