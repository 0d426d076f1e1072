//! Questions about real data: answers equal to what another program, in another
//! language, computes from the same files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::data::{aberdeen, packed, rooms};
use crate::stage::{Node, Stage};

/// The table of `docs/sources/csv.md` for a source, reading from `folder`.
fn table(name: &str, folder: &Path) -> String {
    let page = include_str!("../../../../docs/sources/csv.md");
    let tables = page.split("```toml\n").skip(1);
    let head = format!("[source.{name}]");
    let table = tables
        .filter_map(|t| t.split("```").next())
        .find(|t| t.contains(&head))
        .unwrap();
    table.replace("files = \"", &format!("files = \"{}/", folder.display()))
}

fn node_with(name: &str, folder: &Path, functions: &[&str]) -> (Stage, Node) {
    let stage = Stage::with_node();
    let config = format!(
        "[node]\nname = \"here\"\nmemory = \"1GiB\"\n\n{}",
        table(name, folder)
    );
    stage.write("fades-node/node.toml", config);
    let node = stage.node();
    stage.publish(functions);
    (stage, node)
}

/// Runs the independent computation.
fn independent(question: &str, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/answers.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(question)
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn near(ours: &Value, theirs: &Value, what: &str) {
    let (a, b) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
    let scale = a.abs().max(b.abs()).max(1e-300);
    assert!((a - b).abs() / scale < 1e-9, "{what}: {a} and {b}");
}

/// Rows of an answer, found by the fields that name them.
fn row<'a>(rows: &'a Value, names: &[&str], wanted: &Value) -> &'a Value {
    let mut rows = rows.as_array().unwrap().iter();
    let found = rows.find(|row| names.iter().all(|n| row[*n] == wanted[*n]));
    found.unwrap_or_else(|| panic!("no row for {wanted}"))
}

fn compare(ours: &Value, theirs: &Value, names: &[&str]) {
    let (count, expected) = (
        ours.as_array().unwrap().len(),
        theirs.as_array().unwrap().len(),
    );
    assert_eq!(count, expected);
    for wanted in theirs.as_array().unwrap() {
        let found = row(ours, names, wanted);
        for (field, value) in wanted.as_object().unwrap() {
            let what = format!("{field} of {wanted}");
            match value {
                Value::Number(n) if n.is_f64() => near(&found[field], value, &what),
                _ => assert_eq!(found[field], *value, "{what}, ours is {found}"),
            }
        }
    }
}

#[test]
fn summary_of_aberdeen_equals_an_independent_computation() {
    let Some(packed) = packed("summary_of_aberdeen_equals_an_independent_computation") else {
        return;
    };
    let folder = aberdeen(&packed);
    let (stage, _node) = node_with("citizen", folder, &["summary"]);
    let words = [
        "summary", "--kind", "pm*", "--memory", "128MiB", "--answer", "256KiB",
    ];
    let result = stage.ask(&words);
    assert_eq!(result["state"], "done", "{result}");

    let coverage = &result["coverage"][0];
    assert_eq!(coverage["rows"], 2_188_884);
    assert_eq!(coverage["read"], 4_377_768);
    assert_eq!(coverage["used"], 4_377_761);
    let lost = coverage["lost"].as_object().unwrap();
    let lost: u64 = lost.values().filter_map(Value::as_u64).sum();
    assert_eq!(lost, 7);
    let lines = coverage["cited"].as_array().unwrap();
    let cited: std::collections::BTreeSet<String> = lines
        .iter()
        .map(|l| format!("{}:{}", l["file"], l["line"]))
        .collect();
    assert!(cited.len() >= 4, "{lines:?}");
    assert_eq!(coverage["matched"], 24);
    assert_eq!(coverage["answered"], 24);

    let rows = &result["answer"]["groups"];
    assert_eq!(rows.as_array().unwrap().len(), 52);
    let theirs = independent("summary", folder);
    compare(rows, &theirs, &["device", "location", "kind"]);

    let shown = stage.run(&["result"]).good().out;
    for word in [
        "pm10 [ug/m3]",
        "pm2.5 [ug/m3]",
        "24 of 24 answered",
        "4,377,761 used of 4,377,768, 7 lost",
        "5331/2019-01-17_sds011_sensor_5331.csv:",
        "outside their valid range",
        "retrieve",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn air_quality_of_aberdeen_equals_an_independent_computation() {
    let Some(packed) = packed("air_quality_of_aberdeen_equals_an_independent_computation") else {
        return;
    };
    let folder = aberdeen(&packed);
    let (stage, _node) = node_with("citizen", folder, &["air-quality"]);
    let words = [
        "air-quality",
        "--kind",
        "pm*",
        "--zone",
        "Europe/London",
        "--memory",
        "64MiB",
        "--answer",
        "4MiB",
    ];
    let result = stage.ask(&words);
    assert_eq!(result["state"], "done", "{result}");
    let theirs = independent("air-quality", folder);
    compare(
        &result["answer"]["days"],
        &theirs["days"],
        &["location", "day"],
    );
    compare(
        &result["answer"]["locations"],
        &theirs["locations"],
        &["location"],
    );
}

#[test]
fn summary_of_rooms_by_kind_equals_an_independent_computation() {
    let Some(packed) = packed("summary_of_rooms_by_kind_equals_an_independent_computation") else {
        return;
    };
    let folder = rooms(&packed);
    let (stage, _node) = node_with("rooms", folder, &["summary"]);
    let words = [
        "summary", "--kind", "*", "--param", "by=kind", "--memory", "64MiB",
    ];
    let result = stage.ask(&words);
    assert_eq!(result["state"], "done", "{result}");
    assert_eq!(result["coverage"][0]["used"], 2_395_035);
    compare(
        &result["answer"]["groups"],
        &independent("rooms", folder),
        &["kind"],
    );
}
