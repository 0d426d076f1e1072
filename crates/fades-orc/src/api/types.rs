//! What the API under `/v1` takes and gives, as JSON.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/tasks` | DSSE envelope of a task | 201 or, the same again, 200: [`TaskSummary`] |
//! | `POST /v1/tasks?wait=30s` | the same | as the task's result, for who may read it |
//! | `GET /v1/tasks?state=&service=&name=&of=&limit=&after=` | | [`TaskList`], newest first |
//! | `GET /v1/tasks/{id}` | | [`TaskDetail`] |
//! | `GET /v1/tasks/{id}/result?wait=30s` | | 200: a final [`TaskResult`]; 202: one that is not final yet |
//! | `GET /v1/tasks/{id}/logs` | | [`Logs`] |
//! | `GET /v1/tasks/{id}/logs?follow=true` | | events: [`LogLine`], [`LogAgain`], [`LogEnd`] |
//! | `GET /v1/tasks/{id}/readings` | | the readings in batch layout, `application/octet-stream` |
//! | `POST /v1/tasks/{id}/cancel` | | [`TaskResult`], once the task has ended |
//! | `POST /v1/functions` | [`Publish`] | 201 or, the same again, 200: [`FunctionInfo`] |
//! | `GET /v1/functions` | | [`FunctionList`], newest first |
//! | `POST /v1/bundles?check=` | [`Bundle`] | [`BundleTaken`] |
//! | `GET /v1/resources` | | [`Resources`] |
//! | `POST /v1/sources/{name}/test` | | [`SourceReport`](fades_task::resource::SourceReport) |
//! | `POST /v1/plan` | DSSE envelope, or the task as plain JSON | [`Plan`] |
//! | `GET /v1/node` | | [`NodeInfo`] |
//! | `GET /v1/events?task=` | | events: [`TaskSummary`], [`NodeHealth`], [`StreamNote`] |
//! | `GET /v1/scheduling` | | [`Scheduling`] |
//! | `POST /v1/reload` | | [`Reloaded`] |
//! | `POST /v1/backup` | | [`Snapshot`] |
//! | `GET /v1/trust` | | [`TrustInfo`] |
//! | `PUT /v1/trust` | DSSE envelope of a trust update | [`TrustTaken`] |
//! | `PUT /v1/revocations` | DSSE envelope of a revocation list | [`TrustTaken`] |
//!
//! Everything else is a [`Problem`] with the media type [`PROBLEM_TYPE`].

use std::collections::BTreeMap;

use fades_task::courier::Receiver;
use fades_task::identity::{Digest, ImageRef, Name};
use fades_task::limits::{Isolation, Limits};
use fades_task::logging::LogLevel;
use fades_task::mtw::{Mtw, Retrieve};
use fades_task::quantity::{Duration, Size};
use fades_task::resource::{Device, Preview, Recording};
use fades_task::result::Breakdown;
pub use fades_task::result::{TaskResult, TaskState};
use fades_task::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod bundle;
mod scheduling;
mod trust;

pub use self::bundle::{
    BUNDLE_FUNCTIONS_MAX, BUNDLE_MAX, BUNDLE_TASKS_MAX, BUNDLE_TRUST_MAX, Bundle, BundleFormat,
    BundleKind, BundlePart, BundleTaken,
};
pub use self::scheduling::{Reloaded, Scheduling, ServiceUse};
pub use self::trust::{RevokedKey, TrustInfo, TrustKeyInfo, TrustState, TrustTaken};

/// Longest body of a request, bytes, but for `POST /v1/functions` and `POST /v1/bundles`.
pub const BODY_MAX: usize = fades_trust::envelope::ENVELOPE_MAX;

/// Longest body of `POST /v1/functions`, bytes.
pub const PUBLISH_MAX: usize = 32 << 20;

/// Longest that `?wait=` waits.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Most tasks in one [`TaskList`].
pub const LIST_MAX: u32 = 500;

/// Tasks in one [`TaskList`] when `limit` does not say.
pub const LIST_DEFAULT: u32 = 50;

/// Media type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Why a request was not served (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of problem: `urn:fades:` and a word that programs can compare.
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The reason and the remedy.
    pub detail: String,
    /// Seconds after which the same request is worth another try, when that is
    /// known; as in `Retry-After`.
    #[serde(
        default,
        rename = "retry-after",
        skip_serializing_if = "Option::is_none"
    )]
    pub retry_after: Option<u64>,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskSummary {
    /// Id of the task.
    pub id: Name,
    /// Its name.
    pub name: Name,
    /// Its service.
    pub service: Name,
    /// Name of the trusted key that signed it.
    pub signer: Name,
    /// Its state.
    pub state: TaskState,
    /// The function, with its digest.
    pub function: ImageRef,
    /// How often it was started.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted: Time,
    /// When its last attempt was started.
    pub started: Option<Time>,
    /// When it reached its final state.
    pub finished: Option<Time>,
    /// Of a run of a task with a schedule, the time that was due; of such a task,
    /// until when everything is run or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
    /// Of a task with a schedule, how many times were left out.
    #[serde(default)]
    pub skipped: u64,
    /// Another task has taken its place; it has no runs meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Where its time went, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
    /// Why it has no answer, in words, once it has ended without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl TaskSummary {
    /// A task that has not ended, in the form of a result.
    #[must_use]
    pub fn into_result(self) -> TaskResult {
        TaskResult {
            id: self.id,
            name: self.name,
            service: self.service,
            state: self.state,
            function: self.function,
            attempts: self.attempts,
            accepted: self.accepted,
            started: self.started,
            finished: self.finished,
            isolation: None,
            answer: None,
            readings_bytes: 0,
            failure: None,
            coverage: Vec::new(),
            breakdown: self.breakdown.unwrap_or_default(),
            memory: None,
            cpu_us: 0,
            input_bytes: 0,
            answer_bytes: 0,
            log_cut: 0,
        }
    }
}

/// Answer of `GET /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskList {
    /// The tasks, newest first.
    pub tasks: Vec<TaskSummary>,
    /// Value of `after` that gives the next ones, when there are more.
    pub next: Option<Name>,
}

/// Answer of `GET /v1/tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskDetail {
    /// Its state.
    pub summary: TaskSummary,
    /// What was signed.
    pub task: Mtw,
}

/// Answer of `GET /v1/tasks/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Logs {
    /// Lines of the last attempt, in order.
    pub lines: Vec<LogLine>,
    /// Bytes of lines that were cut at `limits.log`.
    pub cut: u64,
}

/// A key that is not trusted for much longer, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EndingKey {
    /// Its name in the table of trusted keys.
    pub name: Name,
    /// From then on it is not trusted.
    pub not_after: Time,
}

/// Answer of `GET /v1/node/log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogInfo {
    /// What the node and its parts log.
    pub level: LogLevel,
    /// Until when, when it is for a time; then as at the node's start.
    pub until: Option<Time>,
}

/// Answer of `GET /v1/node/log/lines`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogLines {
    /// What the node and its parts logged last, in the order in which it came.
    pub lines: Vec<String>,
    /// Lines before them that are not kept any more.
    pub left_out: u64,
}

/// Body of `PUT /v1/node/log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogSetting {
    /// What to log.
    pub level: LogLevel,
    /// For how long; until the node ends otherwise.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

/// A line that a function logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogLine {
    /// 1 error, 2 warn, 3 info, 4 debug.
    pub level: u32,
    /// The text.
    pub text: String,
}

/// Body of `POST /v1/functions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Publish {
    /// The DSSE envelope of the function's statement, as text.
    pub envelope: String,
    /// The image, standard base64.
    pub image: String,
    /// Symbols for crash reports: lines of `address size name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<String>,
}

/// A function that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FunctionInfo {
    /// Its name.
    pub name: Name,
    /// Digest of the image.
    pub digest: Digest,
    /// Length of the image.
    pub size: Size,
    /// Name of the trusted key that signed it.
    pub signer: Name,
    /// Id of that key.
    pub signer_key: Digest,
    /// When it came to this node.
    pub published: Time,
    /// When a run of it was last started, to the minute.
    pub last_use: Option<Time>,
    /// Crash reports name the function's symbols.
    pub symbols: bool,
}

/// Answer of `GET /v1/functions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FunctionList {
    /// The functions, newest first.
    pub functions: Vec<FunctionInfo>,
}

/// Answer of `GET /v1/resources`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resources {
    /// The devices that the node knows.
    pub devices: Vec<Device>,
    /// How recording goes, of each source that is recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recording: BTreeMap<Name, Recording>,
}

/// Body of `POST /v1/preview`: what shall be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreviewRequest {
    /// The service that would ask; entries with `result` read its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Entries as a task has them.
    pub retrieve: Vec<Retrieve>,
}

/// Answer of `POST /v1/preview`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Previews {
    /// One for each entry.
    pub retrieve: Vec<Preview>,
}

/// Answer of `POST /v1/plan`: what would happen to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// Why the task would be refused, when it would.
    pub refusal: Option<String>,
    /// A signature was there and was checked; a plain task is planned as if
    /// it were signed by a key that may.
    pub signed: bool,
    /// The function, pinned to the digest that the node has.
    pub function: Option<ImageRef>,
    /// The isolation that would be used.
    pub isolation: Option<Isolation>,
    /// Memory that the run would be given.
    pub memory: Size,
    /// What each DTO would fetch.
    pub retrieve: Vec<Preview>,
    /// Why the broker cannot say what they would fetch, when it cannot.
    pub retrieve_refusal: Option<String>,
}

/// Answer of `POST /v1/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snapshot {
    /// Where on the node's host the copy of its store is. Whoever asked for it
    /// removes it.
    pub path: String,
}

/// Answer of `GET /v1/node`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeInfo {
    /// Name of the node.
    pub name: Name,
    /// Its labels.
    pub labels: Vec<Name>,
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: Time,
    /// For how long it has been up.
    pub uptime: Duration,
    /// What each isolation says of itself, strongest first.
    pub isolation: Vec<IsolationInfo>,
    /// Most tasks that run at once.
    pub parallel: usize,
    /// Memory for functions, all together.
    pub memory: Size,
    /// The largest limits that a task may ask for.
    pub caps: Limits,
    /// The broker.
    pub broker: BrokerInfo,
    /// The courier, where there are inboxes or destinations.
    #[serde(default)]
    pub courier: Option<CourierInfo>,
    /// The tenders that work on a task.
    pub tenders: Vec<TenderInfo>,
    /// The tenders that wait for one, and what else is ready for use.
    pub shells: ShellsInfo,
    /// What bounds tenders from outside.
    pub cgroup: CgroupInfo,
    /// Tasks by state.
    pub tasks: TaskCounts,
    /// Functions that can be asked for.
    pub functions: u64,
    /// Trusted keys that are for development only.
    pub development_keys: Vec<Name>,
    /// Trusted keys that end within 30 days, and those that have ended.
    #[serde(default)]
    pub ending_keys: Vec<EndingKey>,
    /// Which table of keys is in force, and what is revoked.
    #[serde(default)]
    pub trust: TrustState,
    /// Why the store cannot be written at the moment, when it cannot.
    pub store_error: Option<String>,
    /// Why schedules wait for the clock, when it is not set.
    #[serde(default)]
    pub clock: Option<String>,
    /// The node is about to end: what runs may run to its end, nothing is
    /// started any more.
    #[serde(default)]
    pub draining: bool,
}

/// What decides whether a node can do its work; data of the event `node`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeHealth {
    /// The broker is configured and ready.
    pub broker: bool,
    /// How the broker last ended, when it ended.
    pub broker_end: Option<String>,
    /// Why the broker is not started again, when it was given up.
    #[serde(default)]
    pub broker_stopped: Option<String>,
    /// Why the courier is not started again, when it was given up.
    #[serde(default)]
    pub courier_stopped: Option<String>,
    /// Why schedules wait for the clock, when it is not set.
    #[serde(default)]
    pub clock: Option<String>,
    /// The node is about to end: nothing is started any more.
    #[serde(default)]
    pub draining: bool,
    /// Why the store cannot be written at the moment, when it cannot.
    pub store_error: Option<String>,
    /// What the system is short of at the moment, when tenders cannot be made
    /// for want of it.
    pub shortage: Option<String>,
}

/// Data of the events `missed` and, of `GET /v1/events`, `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StreamNote {
    /// Why, and what to do.
    pub reason: String,
}

/// Data of the event `again`: the lines so far are those of an attempt that
/// was lost, and those of another follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogAgain {
    /// The attempt whose lines follow.
    pub attempt: u32,
}

/// Data of the event `end` of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogEnd {
    /// The task's state; not a final one when the node ends first.
    pub state: TaskState,
    /// Bytes of lines that were cut at `limits.log`.
    pub cut: u64,
    /// Why the log ends here, when the task has not ended.
    pub reason: Option<String>,
}

/// An isolation on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IsolationInfo {
    /// Which.
    pub isolation: Isolation,
    /// Tasks can have it.
    pub works: bool,
    /// What it is, or why it does not work and what helps.
    pub detail: String,
}

/// The broker of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BrokerInfo {
    /// Configured and ready.
    pub up: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended, when it ended.
    pub last_end: Option<String>,
    /// Why it is not started again, when it was given up.
    #[serde(default)]
    pub stopped: Option<String>,
    /// Where batch files live, in words.
    pub batches: String,
    /// Batch files use huge pages.
    pub huge: bool,
    /// What would be better, and the command for it, when something would.
    pub advice: Option<String>,
    /// What it can still do.
    #[serde(default)]
    pub confinement: fades_task::message::Confinement,
}

/// The courier of a node, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CourierInfo {
    /// Configured and ready.
    pub up: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended, when it ended.
    pub last_end: Option<String>,
    /// Why it is not started again, when it was given up.
    #[serde(default)]
    pub stopped: Option<String>,
    /// What it can still do.
    pub confinement: fades_task::message::Confinement,
    /// Where tasks are fetched.
    pub inboxes: Vec<InboxInfo>,
    /// Where answers are brought, as far as there were any.
    pub receivers: Vec<ReceiverInfo>,
}

/// An inbox that a node asks for tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InboxInfo {
    /// Its name.
    pub name: Name,
    /// Why it could not be asked the last time.
    pub error: Option<String>,
    /// When it was asked with success last.
    pub asked: Option<Time>,
}

/// Where answers go, and how many wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReceiverInfo {
    /// `destination`, or `inbox` for answers that go back to where the task came
    /// from.
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// Answers that wait or are under way.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: Size,
    /// When the oldest of them was given.
    pub oldest: Option<Time>,
    /// Why the last attempt failed; none after a success.
    pub error: Option<String>,
    /// When the next attempt is made, where one is waited for.
    pub next: Option<Time>,
    /// Answers that it has.
    pub delivered: u64,
    /// Answers that it will never have.
    pub lost: u64,
    /// Why the last of those was lost.
    pub lost_reason: Option<String>,
}

impl ReceiverInfo {
    /// Nothing waits for it, and it has nothing.
    #[must_use]
    pub fn new(receiver: &Receiver) -> Self {
        let kind = match receiver {
            Receiver::Destination(_) => "destination",
            Receiver::Inbox(_) => "inbox",
        };
        Self {
            kind: kind.to_owned(),
            name: receiver.name().clone(),
            waiting: 0,
            bytes: Size(0),
            oldest: None,
            error: None,
            next: None,
            delivered: 0,
            lost: 0,
            lost_reason: None,
        }
    }
}

/// Tenders made ahead of need, and the templates of functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShellsInfo {
    /// Wait for a task.
    pub idle: usize,
    /// Work on one.
    pub busy: usize,
    /// Are being made.
    pub making: usize,
    /// Are ending.
    pub leaving: usize,
    /// Runs that wait for a tender or a template.
    pub waiting: usize,
    /// Templates at hand.
    pub templates: usize,
    /// Memory that they take.
    pub template_bytes: Size,
    /// What the system is short of at the moment, when tenders cannot be made
    /// for want of it.
    pub shortage: Option<String>,
    /// Why no tender can be made, when several attempts came to nothing.
    #[serde(default)]
    pub failing: Option<String>,
}

/// Control groups of tenders: a second bound, besides what each enforces
/// itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CgroupInfo {
    /// Memory is bounded.
    pub memory: bool,
    /// The number of processes is bounded.
    pub pids: bool,
    /// Where, and why not, with the remedy.
    pub detail: String,
}

/// A tender that works on a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TenderInfo {
    /// Its process.
    pub pid: u32,
    /// The task it works on.
    pub task: Name,
}

/// Tasks by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskCounts {
    /// Have a schedule.
    #[serde(default)]
    pub standing: u64,
    /// Wait for their turn.
    pub queued: u64,
    /// Run.
    pub running: u64,
    /// Answered.
    pub done: u64,
    /// Ended without an answer.
    pub failed: u64,
    /// Ended on request.
    pub cancelled: u64,
}
