//! Holds what a node answers against the document that it gives of its API.

use std::sync::OnceLock;

use boon::{Compiler, Draft, Schemas};
use fades_orc::api::openapi::document;
use serde_json::Value;

use crate::client::{Answer, Told};

fn api() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(document)
}

/// Asserts that `value` is as the schema at `place` in the document says.
#[track_caller]
pub(crate) fn fits(value: &Value, place: &str) {
    let mut compiler = Compiler::new();
    let mut schemas = Schemas::new();
    compiler.set_default_draft(Draft::V2020_12);
    let name = "http://node/openapi.json";
    compiler.add_resource(name, api().clone()).unwrap();
    let place = place.replace('{', "%7B").replace('}', "%7D");
    let schema = compiler.compile(&format!("{name}#{place}"), &mut schemas);
    let schema = schema.unwrap_or_else(|e| panic!("{place}: {e:#}"));
    if let Err(e) = schemas.validate(value, schema) {
        panic!("{place}: {e:#}: {value}");
    }
}

/// The path of the document that `path` is one of.
fn template(path: &str) -> Option<&'static String> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    api()["paths"].as_object()?.keys().find(|known| {
        let known: Vec<&str> = known.split('/').collect();
        let same = |(k, p): (&&str, &&str)| k == p || (k.starts_with('{') && !p.is_empty());
        known.len() == parts.len() && known.iter().zip(&parts).all(same)
    })
}

/// Asserts that the document has this answer.
#[track_caller]
pub(crate) fn holds((method, path): (&str, &str), answer: &Answer) {
    let method = method.to_lowercase();
    let operation = template(path).filter(|t| !api()["paths"][*t][&method].is_null());
    let Some(template) = operation else {
        assert!(
            matches!(answer.status, 404 | 405),
            "{method} {path}: {answer:?}"
        );
        fits(&answer.json(), "/components/schemas/Problem");
        return;
    };
    let status = answer.status.to_string();
    let known = &api()["paths"][template][&method]["responses"][&status]["content"];
    let kind = &answer.kind;
    assert!(
        !known[kind].is_null(),
        "{method} {path}: no {status} with {kind:?}"
    );
    if kind == "application/json" || kind == "application/problem+json" {
        let escaped = |text: &str| text.replace('~', "~0").replace('/', "~1");
        let (path, kind) = (escaped(template), escaped(kind));
        fits(
            &answer.json(),
            &format!("/paths/{path}/{method}/responses/{status}/content/{kind}/schema"),
        );
    }
}

/// Asserts that the document has this event.
#[track_caller]
pub(crate) fn tells(told: &Told) {
    let name = match told.name.as_str() {
        "task" => "TaskSummary",
        "node" => "NodeHealth",
        "line" => "LogLine",
        "again" => "LogAgain",
        "end" if told.data["state"].is_string() => "LogEnd",
        "end" | "missed" => "StreamNote",
        other => panic!("no event {other}"),
    };
    fits(&told.data, &format!("/components/schemas/{name}"));
}
