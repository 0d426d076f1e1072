//! What the API says about scheduling, and about taking it anew from the
//! configuration.

use fades_task::allowance::Allowance;
use fades_task::identity::Name;
use fades_task::policy::Order;
use fades_task::quantity::{Duration, Size};
use fades_task::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/scheduling`: which of the tasks that wait is next, and
/// what services may use and use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scheduling {
    /// The order of tasks that wait.
    pub order: Order,
    /// The day to which what ends now is counted: its first moment.
    pub day: Time,
    /// The first moment of the next one.
    pub day_ends: Time,
    /// Services of which something is known, by name.
    pub services: Vec<ServiceUse>,
}

/// What a service may use, and uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceUse {
    /// The service.
    pub service: Name,
    /// What it may use.
    pub allowance: Allowance,
    /// Runs of it now.
    pub runs: usize,
    /// Tasks of it that could be started, were there room for them.
    pub waiting: usize,
    /// Processor time of the day.
    pub cpu: Duration,
    /// Bytes of answers of the day.
    pub bytes: Size,
    /// Nothing of it is started before the day ends.
    pub spent: bool,
}

/// Answer of `POST /v1/reload`: fields of `node.toml` that changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reloaded {
    /// The node goes by these from now on.
    pub changed: Vec<String>,
    /// These differ from what the node was started with, and need a restart.
    pub restart: Vec<String>,
    /// Parts of the node that had been given up and are started again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub started: Vec<String>,
}
