//! The one table of what the API serves: out of it the router is made, and the
//! [document](super::openapi) that describes it, so that they cannot differ.

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post, put};
use fades_task::identity::Name;
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::resource::SourceReport;
use fades_task::result::{TaskResult, TaskState};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::server::Api;
use super::types::{
    Bundle, BundleTaken, FunctionInfo, FunctionList, LIST_MAX, LogInfo, LogLines, LogSetting, Logs,
    NodeInfo, Plan, PreviewRequest, Previews, Publish, Reloaded, Resources, Scheduling, Snapshot,
    TaskDetail, TaskList, TaskSummary, TrustInfo, TrustTaken,
};
use super::{
    backup, bundle, events, functions, logging, metrics, openapi, operator, plan, scheduling,
    tasks, trust,
};

/// Makes the schema of a type.
pub(super) type Make = fn(&mut SchemaGenerator) -> Schema;

/// What is sent, either way.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// JSON of this type.
    Json(Make),
    /// Bytes.
    Bytes,
    /// OpenMetrics.
    Metrics,
    /// Server-sent events.
    Events,
    /// JSON of this type or, when asked for, server-sent events.
    JsonOrEvents(Make),
}

/// A parameter of a query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) means: &'static str,
    pub(super) schema: Make,
}

/// A path with a method.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Name of the operation, for programs.
    pub(super) id: &'static str,
    pub(super) means: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) body: Option<Content>,
    pub(super) answers: &'static [(u16, Content)],
    /// Statuses of problems, besides those that every route has.
    pub(super) problems: &'static [u16],
    pub(super) serve: fn() -> MethodRouter<Arc<Api>>,
}

/// Statuses of problems that every route has.
pub(super) const PROBLEMS: [u16; 5] = [400, 401, 403, 500, 503];

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": LIST_MAX })
}

/// A DSSE envelope, as `fades_trust` reads it.
fn envelope(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "A DSSE envelope with one Ed25519 signature.",
        "properties": {
            "payloadType": { "type": "string" },
            "payload": { "type": "string", "contentEncoding": "base64" },
            "signatures": {
                "type": "array", "minItems": 1, "maxItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "keyid": { "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" },
                        "sig": { "type": "string", "contentEncoding": "base64" }
                    },
                    "required": ["keyid", "sig"],
                    "additionalProperties": false
                }
            }
        },
        "required": ["payloadType", "payload", "signatures"],
        "additionalProperties": false
    })
}

/// The same with the signatures of several.
fn joint_envelope(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = envelope(generator);
    schema.insert(
        "description".to_owned(),
        "A DSSE envelope with 1 to 16 Ed25519 signatures.".into(),
    );
    if let Some(most) = schema.pointer_mut("/properties/signatures/maxItems") {
        *most = fades_trust::joint::SIGNATURES_MAX.into();
    }
    schema
}

fn envelope_or_task(generator: &mut SchemaGenerator) -> Schema {
    let (envelope, task) = (envelope(generator), of::<Mtw>(generator));
    json_schema!({ "anyOf": [envelope, task] })
}

fn summary_or_result(generator: &mut SchemaGenerator) -> Schema {
    let (summary, result) = (of::<TaskSummary>(generator), of::<TaskResult>(generator));
    json_schema!({ "anyOf": [summary, result] })
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

const WAIT: Parameter = Parameter {
    name: "wait",
    means: "Wait so long for the end of the task; a minute at the most.",
    schema: of::<Duration>,
};

use Content::{Bytes, Events, Json, JsonOrEvents};

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "get",
        path: "/v1/tasks",
        id: "list-tasks",
        means: "Tasks in short, newest first.",
        query: &[
            Parameter {
                name: "state",
                means: "Only tasks in this state.",
                schema: of::<TaskState>,
            },
            Parameter {
                name: "service",
                means: "Only tasks of this service.",
                schema: of::<Name>,
            },
            Parameter {
                name: "name",
                means: "Only tasks of this name.",
                schema: of::<Name>,
            },
            Parameter {
                name: "of",
                means: "Only runs of this task, which has a schedule.",
                schema: of::<Name>,
            },
            Parameter {
                name: "limit",
                means: "Most tasks in the answer; 50 otherwise.",
                schema: limit,
            },
            Parameter {
                name: "after",
                means: "Only tasks that are older than this one: `next` of the page before.",
                schema: of::<Name>,
            },
        ],
        body: None,
        answers: &[(200, Json(of::<TaskList>))],
        problems: &[],
        serve: || get(tasks::list),
    },
    Route {
        method: "post",
        path: "/v1/tasks",
        id: "submit-task",
        means: "Hands in a signed task. With `wait`, also gives its result.",
        query: &[WAIT],
        body: Some(Json(envelope)),
        answers: &[
            (200, Json(summary_or_result)),
            (201, Json(of::<TaskSummary>)),
            (202, Json(of::<TaskResult>)),
        ],
        problems: &[408, 409, 413, 422, 429, 507],
        serve: || post(tasks::submit),
    },
    Route {
        method: "get",
        path: "/v1/tasks/{id}",
        id: "show-task",
        means: "A task in short, and what was signed.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<TaskDetail>))],
        problems: &[404],
        serve: || get(tasks::show),
    },
    Route {
        method: "get",
        path: "/v1/tasks/{id}/result",
        id: "task-result",
        means: "The final result (200), or what is known so far (202).",
        query: &[WAIT],
        body: None,
        answers: &[(200, Json(of::<TaskResult>)), (202, Json(of::<TaskResult>))],
        problems: &[404],
        serve: || get(tasks::result),
    },
    Route {
        method: "get",
        path: "/v1/tasks/{id}/logs",
        id: "task-logs",
        means: "What the function logged; as events, as it is logged.",
        query: &[Parameter {
            name: "follow",
            means: "As server-sent events, until the task has ended.",
            schema: of::<bool>,
        }],
        body: None,
        answers: &[(200, JsonOrEvents(of::<Logs>))],
        problems: &[404],
        serve: || get(tasks::logs),
    },
    Route {
        method: "get",
        path: "/v1/tasks/{id}/readings",
        id: "task-readings",
        means: "Readings that the function answered with, in batch layout.",
        query: &[],
        body: None,
        answers: &[(200, Bytes)],
        problems: &[404],
        serve: || get(tasks::readings),
    },
    Route {
        method: "post",
        path: "/v1/tasks/{id}/cancel",
        id: "cancel-task",
        means: "Ends a task; its result, once it has ended.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<TaskResult>))],
        problems: &[404, 409],
        serve: || post(tasks::cancel),
    },
    Route {
        method: "get",
        path: "/v1/functions",
        id: "list-functions",
        means: "The functions that the node has, newest first.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<FunctionList>))],
        problems: &[],
        serve: || get(functions::list),
    },
    Route {
        method: "post",
        path: "/v1/functions",
        id: "publish-function",
        means: "Hands in a signed function with its image.",
        query: &[],
        body: Some(Json(of::<Publish>)),
        answers: &[
            (200, Json(of::<FunctionInfo>)),
            (201, Json(of::<FunctionInfo>)),
        ],
        problems: &[408, 413, 422, 507],
        serve: || post(functions::publish),
    },
    Route {
        method: "post",
        path: "/v1/bundles",
        id: "load-bundle",
        means: "Hands in trust, functions and tasks in one: all of it is judged before anything is taken.",
        query: &[Parameter {
            name: "check",
            means: "Only judge it.",
            schema: of::<bool>,
        }],
        body: Some(Json(of::<Bundle>)),
        answers: &[(200, Json(of::<BundleTaken>))],
        problems: &[408, 409, 413, 422, 429, 507],
        serve: || post(bundle::load),
    },
    Route {
        method: "get",
        path: "/v1/resources",
        id: "list-resources",
        means: "The devices that the broker knows.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<Resources>))],
        problems: &[],
        serve: || get(operator::resources),
    },
    Route {
        method: "post",
        path: "/v1/sources/{name}/test",
        id: "test-source",
        means: "What a source says when it is read.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<SourceReport>))],
        problems: &[422],
        serve: || post(operator::test_source),
    },
    Route {
        method: "post",
        path: "/v1/preview",
        id: "preview-readings",
        means: "What entries of a task would read, and a few of these readings.",
        query: &[],
        body: Some(Json(of::<PreviewRequest>)),
        answers: &[(200, Json(of::<Previews>))],
        problems: &[408, 413, 422],
        serve: || post(operator::preview),
    },
    Route {
        method: "post",
        path: "/v1/plan",
        id: "plan-task",
        means: "What would become of a task, signed or not.",
        query: &[],
        body: Some(Json(envelope_or_task)),
        answers: &[(200, Json(of::<Plan>))],
        problems: &[408, 413],
        serve: || post(plan::plan),
    },
    Route {
        method: "get",
        path: "/v1/node",
        id: "show-node",
        means: "The node about itself.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<NodeInfo>))],
        problems: &[],
        serve: || get(operator::node),
    },
    Route {
        method: "get",
        path: "/v1/node/log",
        id: "show-log-level",
        means: "How much the node logs.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<LogInfo>))],
        problems: &[],
        serve: || get(logging::show),
    },
    Route {
        method: "get",
        path: "/v1/node/log/lines",
        id: "list-log-lines",
        means: "What the node and its parts logged last.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<LogLines>))],
        problems: &[],
        serve: || get(logging::lines),
    },
    Route {
        method: "put",
        path: "/v1/node/log",
        id: "change-log-level",
        means: "Has the node and its parts log more or less, for a time or until it ends.",
        query: &[],
        body: Some(Json(of::<LogSetting>)),
        answers: &[(200, Json(of::<LogInfo>))],
        problems: &[408, 413],
        serve: || put(logging::change),
    },
    Route {
        method: "get",
        path: "/metrics",
        id: "metrics",
        means: "The node in numbers, for a collector: OpenMetrics.",
        query: &[],
        body: None,
        answers: &[(200, Content::Metrics)],
        problems: &[],
        serve: || get(metrics::metrics),
    },
    Route {
        method: "get",
        path: "/v1/scheduling",
        id: "show-scheduling",
        means: "Which task is next, and what services may use and use.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<Scheduling>))],
        problems: &[],
        serve: || get(scheduling::show),
    },
    Route {
        method: "post",
        path: "/v1/reload",
        id: "reload-configuration",
        means: "Has the node take from its configuration what needs no restart.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<Reloaded>))],
        problems: &[409, 422],
        serve: || post(scheduling::reload),
    },
    Route {
        method: "post",
        path: "/v1/backup",
        id: "copy-store",
        means: "Makes a copy of the store beside it, as it is at one moment.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<Snapshot>))],
        problems: &[507],
        serve: || post(backup::snapshot),
    },
    Route {
        method: "get",
        path: "/v1/trust",
        id: "show-trust",
        means: "Whom the node trusts, and which keys are revoked.",
        query: &[],
        body: None,
        answers: &[(200, Json(of::<TrustInfo>))],
        problems: &[],
        serve: || get(trust::show),
    },
    Route {
        method: "put",
        path: "/v1/trust",
        id: "update-trust",
        means: "Hands in a table of trusted keys that enough administrators signed.",
        query: &[],
        body: Some(Json(joint_envelope)),
        answers: &[(200, Json(of::<TrustTaken>))],
        problems: &[408, 409, 413, 422, 507],
        serve: || put(trust::update),
    },
    Route {
        method: "put",
        path: "/v1/revocations",
        id: "revoke-keys",
        means: "Hands in a list of revoked keys that administrators signed.",
        query: &[],
        body: Some(Json(joint_envelope)),
        answers: &[(200, Json(of::<TrustTaken>))],
        problems: &[408, 409, 413, 422, 507],
        serve: || put(trust::revoke),
    },
    Route {
        method: "get",
        path: "/v1/events",
        id: "watch-events",
        means: "New states of tasks, and of the node, as they are stored.",
        query: &[Parameter {
            name: "task",
            means: "Of this task only, until it has ended.",
            schema: of::<Name>,
        }],
        body: None,
        answers: &[(200, Events)],
        problems: &[404],
        serve: || get(events::events),
    },
    Route {
        method: "get",
        path: "/v1/openapi.json",
        id: "describe-api",
        means: "This document. Everybody may read it.",
        query: &[],
        body: None,
        answers: &[(200, Json(anything))],
        problems: &[],
        serve: || get(openapi::describe),
    },
];
