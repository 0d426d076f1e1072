//! The node in numbers, as a collector reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::client::over_tls;
use crate::site::{Running, Site, header, task};

/// Prints each sample as JSON; fails when the text is not OpenMetrics.
const PARSER: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for s in family.samples:
        print(json.dumps([family.name, family.type, family.documentation, s.name, s.labels, s.value]))
";

fn text(node: &Running<'_>) -> String {
    let answer = node.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .kind
            .starts_with("application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.kind
    );
    String::from_utf8(answer.body).unwrap()
}

/// Values by series.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let split = lines.map(|l| l.rsplit_once(' ').unwrap());
    split
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

/// Python with the parser, where `FADES_METRICS_PYTHON` or `PATH` names it.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("FADES_METRICS_PYTHON").map(PathBuf::from);
    let named = named.unwrap_or_else(|| PathBuf::from("python3"));
    let tried = Command::new(&named)
        .args(["-c", "import prometheus_client"])
        .output();
    tried.is_ok_and(|o| o.status.success()).then_some(named)
}

#[test]
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn a_parser_of_others_understands_every_line() {
    let Some(python) = python() else {
        println!(
            "SKIPPED: a_parser_of_others_understands_every_line: no prometheus_client; pip install prometheus-client"
        );
        return;
    };
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let mut parser = Command::new(python)
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = text(&node);
    parser
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let done = parser.wait_with_output().unwrap();
    assert!(done.status.success(), "{text}");
    let lines = String::from_utf8(done.stdout).unwrap();
    let samples: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    // Nothing is lost on the way, and all of it says what it is.
    assert_eq!(samples.len(), series(&text).len());
    for sample in &samples {
        assert!(
            sample[0].as_str().unwrap().starts_with("fades_"),
            "{sample}"
        );
        assert_ne!(sample[1], "unknown", "{sample}");
        assert!(sample[2].as_str().unwrap().len() > 5, "{sample}");
    }
    let ended = json!(["fades_tasks_ended", "counter", "Tasks that have ended, by end and isolation.",
        "fades_tasks_ended_total", { "end": "done", "isolation": "process" }, 1]);
    assert!(samples.contains(&ended), "{samples:#?}");
}

#[test]
fn ends_phases_sources_and_the_store_are_told() {
    let site = Site::new();
    let node = site.start();
    let acting =
        |id: &str, act: &str| task(id, |t| t["function"]["params"] = json!({ "act": act }));
    for (id, act) in [
        ("t1", "answer"),
        ("t2", "panic"),
        ("t3", "refuse"),
        ("t4", "answer"),
    ] {
        node.takes(&acting(id, act));
        node.result(id);
    }
    let text = text(&node);
    let series = series(&text);
    for (name, value) in [
        ("fades_tasks{state=\"done\"}", 2.0),
        ("fades_tasks{state=\"failed\"}", 2.0),
        (
            "fades_tasks_ended_total{end=\"done\",isolation=\"process\"}",
            2.0,
        ),
        (
            "fades_tasks_ended_total{end=\"panicked\",isolation=\"process\"}",
            1.0,
        ),
        (
            "fades_tasks_ended_total{end=\"image\",isolation=\"none\"}",
            1.0,
        ),
        ("fades_task_phase_seconds_count{phase=\"queue\"}", 4.0),
        (
            "fades_task_phase_seconds_bucket{le=\"+Inf\",phase=\"compute\"}",
            4.0,
        ),
        ("fades_source_connected{source=\"hall\"}", 1.0),
        (
            "fades_source_devices{source=\"hall\",state=\"silent\"}",
            1.0,
        ),
        ("fades_recording_trouble{source=\"hall\"}", 1.0),
        ("fades_batches_bytes", f64::from(2 << 20)),
        ("fades_broker_up", 1.0),
        ("fades_store_writable", 1.0),
        ("fades_build_info{version=\"0\",node=\"harbour-07\"}", 1.0),
    ] {
        let told = series.get(name);
        assert_eq!(told, Some(&value), "{name}: {text}");
    }
    for positive in [
        "fades_store_bytes{part=\"database\"}",
        "fades_store_bytes{part=\"images\"}",
        "fades_process_resident_memory_bytes{process=\"broker\"}",
        "fades_process_resident_memory_bytes{process=\"node\"}",
        "fades_task_phase_seconds_sum{phase=\"boot\"}",
    ] {
        assert!(
            series.get(positive).is_some_and(|v| *v > 0.0),
            "{positive}: {text}"
        );
    }
}

#[test]
fn a_thousand_tasks_make_no_further_series() {
    let site = Site::new().with("parallel", json!(8));
    let mut node = site.start();
    let named = |n: u32| {
        task(&format!("id-{n}"), |t| {
            t["task"]["name"] = format!("name-{n}").into();
            t["retrieve"][0]["name"] = format!("dto-{n}").into();
        })
    };
    let done = |node: &Running<'_>| node.info().tasks.done;
    node.takes(&named(0));
    node.result("id-0");
    let before = text(&node);
    for n in 1..1_000 {
        node.takes(&named(n));
    }
    node.wait_until("all have ended", |node| done(node) == 1_000);
    let after = text(&node);
    let names =
        |text: &str| -> BTreeSet<String> { series(text).keys().map(|s| (*s).to_owned()).collect() };
    assert_eq!(names(&before), names(&after));
    assert_eq!(
        series(&after)["fades_tasks_ended_total{end=\"done\",isolation=\"process\"}"],
        1_000.0
    );
}

#[test]
fn who_may_read_everything_may_read_metrics() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let node = site.start();
    let get = |claim: &str| {
        let shown = authority.client(&[claim]);
        over_tls(address, &shown, ("GET", "/metrics"), None, b"").unwrap()
    };
    let answer = get("urn:fades:reader");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("fades_certificate_expiry_seconds"), "{text}");
    let ends = "fades_key_expiry_seconds{key=\"audit\"}";
    assert!(text.contains(ends), "{text}");
    get("urn:fades:service:city-air").refuses(403, "urn:fades:reader");
    let signed = header(3, "GET", "/metrics", "n1");
    assert_eq!(node.ask_as(&signed, "GET", "/metrics").status, 200);
}

#[test]
fn without_a_broker_the_rest_is_told() {
    let site = Site::new();
    let mut node = site.start();
    let pid = node.info().broker.pid.unwrap();
    crate::site::signal_process(pid, rustix::process::Signal::STOP);
    let told = text(&node);
    assert_eq!(series(&told).get("fades_broker_up"), Some(&0.0), "{told}");
    assert!(!told.contains("fades_source_connected"));
    crate::site::signal_process(pid, rustix::process::Signal::CONT);
    node.wait_until("it is back", |node| {
        series(&text(node)).get("fades_broker_up") == Some(&1.0)
    });
}

/// The page names every metric, and no others.
#[test]
fn the_page_of_metrics_has_each_of_them() {
    let page = include_str!("../../../../docs/metrics.md");
    let code = concat!(
        include_str!("../../src/metrics.rs"),
        include_str!("../../src/api/metrics.rs")
    );
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|l| l.strip_prefix("| `fades_")?.split('`').next())
        .map(|name| name.split('{').next().unwrap())
        .collect();
    assert!(documented.len() > 30, "{documented:?}");
    for name in &documented {
        let bare = name.strip_suffix("_total").unwrap_or(name);
        // Units are added to the names of those that are registered with one.
        let units = ["", "_seconds", "_bytes"];
        let found = units.iter().any(|unit| {
            let stem = bare.strip_suffix(unit).unwrap_or(bare);
            code.contains(&format!("\"{stem}\""))
        });
        assert!(found, "{name} is documented and not told");
    }
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let text = text(&node);
    for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE fades_")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let total = format!("{name}_total");
        let told = if kind == "counter" {
            total.as_str()
        } else {
            name
        };
        assert!(
            documented.contains(told),
            "{told} is told and not documented"
        );
    }
}
