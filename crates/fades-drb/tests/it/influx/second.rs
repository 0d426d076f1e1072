//! InfluxDB 2.x: answers in the form in which such a server gives them.

use fades_task::coverage::LossReason;
use fades_task::mtw::{Aggregate, AggregateKind, Dto};
use fades_task::quantity::Duration;
use fades_task::time::Time;

use super::{ask, good};
use crate::broker::{dto, time};
use crate::web::{Asked, Reply, Web};

const BUCKET: &str = "version = 2\norg = \"uni lab\"\nbucket = \"lab\"\nmeasurement = \"readings\"\n\
    map = { device = \"board\", kind = \"type\", location = \"room\" }\nunit = \"Cel\"\n";

const LAST: &str = include_str!("last.csv");
const READINGS: &str = include_str!("readings.csv");
const ERROR: &str = include_str!("error.csv");

/// As a server sends it, whose lines end in CR LF.
fn csv(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn query(asked: &Asked) -> String {
    let question: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(question["type"], "flux");
    question["query"].as_str().unwrap().to_owned()
}

fn server(readings: impl Fn() -> Reply + Send + Sync + 'static) -> Web {
    Web::start(move |asked| {
        assert_eq!(asked.path, "/api/v2/query?org=uni%20lab");
        match query(asked).contains("|> last()") {
            true => Reply::Body(csv(LAST)),
            false => readings(),
        }
    })
}

#[test]
fn annotated_tables_become_series() {
    let web = server(|| Reply::Body(csv(READINGS)));
    let day = Dto {
        device: vec!["a".into(), "b*".into(), "\"x${y}".into()],
        from: time("2026-01-01T00:00:00Z"),
        to: time("2026-01-02T00:00:00Z"),
        ..dto("d")
    };
    let (coverage, totals) = good(&web.url, BUCKET, day);
    // Board b has no readings of this day.
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.empty),
        (2, 1, 1)
    );
    let a = totals.of("a", "temperature");
    assert_eq!(a.values, [21.5, -3e-7]);
    let begin = time("2026-01-01T00:00:00Z").0;
    assert_eq!(a.times, [begin + 123_456_789, begin + 10_000_000_000]);
    assert_eq!(totals.of("a", "on").values, [1.0, 0.0]);
    assert_eq!(
        coverage.lost,
        [(LossReason::NotANumber, 1), (LossReason::NotFinite, 1)].into()
    );
    let asked = web.asked();
    let text = query(&asked[1]);
    for part in [
        "from(bucket: \"lab\") |> range(start: time(v: 1767225600000000000), stop: time(v: 1767312000000000000))",
        "r._measurement == \"readings\" and r._field == \"value\"",
        "and (r[\"board\"] == \"a\" or r[\"board\"] =~ /(?s)^(?:b[^\\/]*)$/ or r[\"board\"] =~ /(?s)^(?:\\\"x\\$(?:y))$/)",
        "|> group(columns: [\"board\", \"room\", \"type\"]) |> sort(columns: [\"_time\"])",
        "|> keep(columns: [\"_time\", \"_value\", \"board\", \"room\", \"type\"]) |> yield(name: \"0000\")",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn the_server_makes_aggregates() {
    let web = server(|| Reply::Body(csv(READINGS)));
    let every = Duration::from_secs(3600);
    let of = AggregateKind::Mean;
    let hours = Dto {
        kind: vec!["temperature".into()],
        aggregate: Some(Aggregate { of, every }),
        ..dto("d")
    };
    let (_, totals) = good(&web.url, BUCKET, hours);
    let begin = time("2026-01-01T00:00:00Z").0;
    assert_eq!(totals.of("a", "temperature").times, [begin, begin]);
    let text = query(&web.asked()[1]);
    let window = "|> aggregateWindow(every: 3600000000000ns, fn: mean, createEmpty: false, timeSrc: \"_start\")";
    assert!(text.contains(window), "{text}");
}

#[test]
fn a_token_is_sent_and_a_refusal_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "geheim\n").unwrap();
    let web = Web::start(|asked| {
        assert_eq!(asked.header("authorization"), Some("Token geheim"));
        let words = br#"{"code":"unauthorized","message":"unauthorized access"}"#;
        Reply::Status(401, Vec::new(), words.to_vec())
    });
    let rest = format!(
        "{BUCKET}[source.lab.auth]\ntoken-file = \"{}\"\n",
        folder.path().join("token").display()
    );
    let text = ask(&web.url, &rest, &[dto("d")]).0.failure_text();
    assert!(
        text.contains("401") && text.contains("unauthorized access") && text.contains("check auth"),
        "{text}"
    );
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn tables_of_errors_and_broken_tables_are_noticed() {
    let day = |web: &Web| {
        let from = Time(0);
        ask(&web.url, BUCKET, &[Dto { from, ..dto("d") }])
            .0
            .failure_text()
    };
    let text = day(&server(|| {
        Reply::Body(csv(&format!("{READINGS}\n{ERROR}")))
    }));
    assert!(
        text.contains("refuses the question: memory allocation limit"),
        "{text}"
    );
    let cut = READINGS.find("21.5").unwrap();
    let text = day(&server(move || Reply::Cut(csv(&READINGS[..cut]))));
    assert!(
        text.contains("closed the connection in the middle"),
        "{text}"
    );
    let text = day(&server(|| {
        Reply::Body(csv(&READINGS.replace("2026-01-01T00:00:10Z", "soon")))
    }));
    assert!(text.contains("a row without time"), "{text}");
    let text = day(&server(|| {
        Reply::Body(csv(&READINGS.replace("0000", "_result")))
    }));
    assert!(text.contains("a result without number"), "{text}");
    let text = day(&server(|| Reply::Endless(csv(READINGS), vec![b'x'; 65536])));
    assert!(text.contains("a line of more than 1 MiB"), "{text}");
}
