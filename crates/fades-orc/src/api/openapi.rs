//! The description of the API in OpenAPI 3.1, made of the table of routes and
//! of the types that they take and give.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use fades_task::identity::Name;
use fades_task::resource::SourceReport;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::routes::{Content, PROBLEMS, ROUTES, Route};
use super::types::{LogAgain, LogEnd, LogLine, NodeHealth, PROBLEM_TYPE, Problem, StreamNote};
use crate::metrics::MEDIA;

/// Where the schemas of named types are.
const SCHEMAS: &str = "/components/schemas";

/// The document.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = SCHEMAS.into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    events(&mut generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "FADES node",
            "version": "1",
            "summary": "Tasks, results, functions and resources of a node.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) }
    })
}

/// Types of the data of events: no path refers to them.
fn events(generator: &mut SchemaGenerator) {
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
        generator.subschema_for::<T>();
    }
    add::<NodeHealth>(generator);
    add::<StreamNote>(generator);
    add::<LogLine>(generator);
    add::<LogAgain>(generator);
    add::<LogEnd>(generator);
    add::<SourceReport>(generator);
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.means,
        "parameters": parameters(route, generator),
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": content(body, generator),
        });
    }
    let mut answers = Map::new();
    for (status, what) in route.answers {
        let answer = json!({ "description": "Done.", "content": content(*what, generator) });
        answers.insert(status.to_string(), answer);
    }
    let problem = generator.subschema_for::<Problem>();
    let mut problems: Vec<u16> = PROBLEMS.iter().chain(route.problems).copied().collect();
    problems.sort_unstable();
    for status in problems {
        let answer = json!({
            "description": "The reason and the remedy.",
            "content": { PROBLEM_TYPE: { "schema": problem } },
        });
        answers.insert(status.to_string(), answer);
    }
    operation["responses"] = answers.into();
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let names = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{'));
    let in_path = names.map(|name| name.trim_end_matches('}'));
    let schema = generator.subschema_for::<Name>();
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schema }))
        .collect();
    for parameter in route.query {
        parameters.push(json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.means,
            "schema": (parameter.schema)(generator),
        }));
    }
    parameters
}

fn content(content: Content, generator: &mut SchemaGenerator) -> Value {
    let bytes = json!({});
    // Of each event; its data is JSON of the type that the event has.
    let events = json!({ "schema": {
        "type": "object",
        "properties": {
            "event": { "enum": ["task", "node", "missed", "line", "again", "end"] },
            "data": { "type": "string", "contentMediaType": "application/json" },
            "id": { "type": "string" },
        },
        "required": ["event", "data"],
    } });
    match content {
        Content::Json(make) => json!({ "application/json": { "schema": make(generator) } }),
        Content::Bytes => json!({ "application/octet-stream": bytes }),
        Content::Metrics => json!({ MEDIA: { "schema": { "type": "string" } } }),
        Content::Events => json!({ "text/event-stream": events }),
        Content::JsonOrEvents(make) => json!({
            "application/json": { "schema": make(generator) },
            "text/event-stream": events,
        }),
    }
}

/// `GET /v1/openapi.json`
pub(super) async fn describe() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, TEXT.as_str()).into_response()
}
