//! JSON over HTTP: a server that behaves well, and one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fades_task::coverage::LossReason;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;
use serde_json::json;

use crate::broker::{Broker, Ended, Totals, dto, sources, time};
use crate::web::{Reply, Web};

mod bounds;
mod long;
mod pages;
mod tls;

const ONE: &str = "device = \"/id\"\nvalue = { temperature = \"/t\", humidity = \"/h\" }\n\
    units = { temperature = \"Cel\", humidity = \"%\" }\n";

fn table(url: &str, rest: &str) -> String {
    format!("[source.web]\ntype = \"http\"\nurl = {url:?}\n{rest}")
}

fn start(url: &str, rest: &str) -> Broker {
    Broker::start(&sources(&table(url, rest)), "/".as_ref())
}

fn now() -> Dto {
    Dto {
        take: Take::Now,
        ..dto("now")
    }
}

fn ask(url: &str, rest: &str) -> (Ended, Totals) {
    start(url, rest).run(&[now()])
}

/// A run whose devices are late after so many seconds.
fn within(broker: &Broker, seconds: u64) -> Ended {
    let (ours, theirs) = fades_wire::Channel::pair().unwrap();
    let request = BrokerRequest::Retrieve {
        of: None,
        run: 1,
        dtos: vec![now()],
        window: fades_task::quantity::Size(64 << 20),
        within: Some(fades_task::quantity::Duration::from_secs(seconds)),
        answers: Vec::new(),
    };
    let descriptors = &[std::os::fd::AsFd::as_fd(&theirs)];
    broker.control.send(&request, &[], descriptors).unwrap();
    drop(theirs);
    crate::broker::drain(&ours, |_| {});
    drop(ours);
    Ended::of(broker.report())
}

fn until(mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !met() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_answer_has_several_readings() {
    let web = Web::start(|asked| {
        assert_eq!(asked.header("accept"), Some("application/json"));
        assert_eq!(asked.header("x-key"), Some("k"));
        Reply::json(json!({ "id": "d1", "t": 21.5, "h": "x", "at": 1_767_225_600_000_i64 }))
    });
    let rest = format!(
        "{ONE}time = \"/at\"\nlocation = \"roof\"\nheaders = {{ X-Key = \"k\" }}\nvalid = {{ temperature = [0, 20] }}\n"
    );
    let (ended, totals) = ask(&web.url, &rest);
    let coverage = ended.good();
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.used),
        (1, 1, 1)
    );
    assert_eq!(coverage.lost, [(LossReason::NotANumber, 1)].into());
    assert!(coverage.bytes > 20);
    let t = totals.of("d1", "temperature");
    assert_eq!((t.unit.as_str(), t.values[0], t.marked), ("Cel", 21.5, 1));
    assert_eq!(t.times[0], time("2026-01-01T00:00:00Z").0);
}

#[test]
fn a_list_has_many_devices_of_which_the_newest_readings_count() {
    let web = Web::start(|_| {
        let entry = |id: &str, t: f64, at: &str| json!({ "id": id, "t": t, "h": null, "at": at });
        Reply::json(json!({ "data": { "list": [
            entry("a", 1.0, "2026-01-01T00:00:00Z"), entry("b", 2.0, "2026-01-01T00:00:00Z"),
            entry("a", 3.0, "2026-01-01T00:02:00Z"), entry("a", 2.5, "2026-01-01T00:01:00Z"),
            { "t": 4, "at": "2026-01-01T00:00:00Z" },
        ] } }))
    });
    let rest =
        "items = \"/data/list\"\ndevice = \"/id\"\nvalue = \"/t\"\nkind = \"t\"\ntime = \"/at\"\n";
    let (ended, totals) = ask(&web.url, rest);
    let coverage = ended.good();
    assert_eq!((coverage.matched, totals.rows), (2, 2));
    assert_eq!(coverage.lost, [(LossReason::Unnamed, 1)].into());
    assert_eq!(totals.of("a", "t").values, [3.0]);
    let one = Dto {
        device: vec!["b".into()],
        ..now()
    };
    let (_, totals) = start(&web.url, rest).run(&[one]);
    assert_eq!(totals.rows, 1);
    let (ended, _) = ask(&web.url, &rest.replace("/data/list", "/data"));
    assert!(
        ended.failure_text().contains("no list at \"/data\""),
        "{}",
        ended.failure_text()
    );
}

#[test]
fn senml_is_understood() {
    let web = Web::start(|asked| {
        assert_eq!(asked.header("accept"), Some("application/senml+json"));
        Reply::json(json!([
            { "bn": "urn:dev:ow:1/", "bt": 1_767_225_600, "n": "temperature", "u": "Cel", "v": 21.5 },
            { "n": "humidity", "u": "%RH", "v": 40 },
        ]))
    });
    let (ended, totals) = ask(&web.url, "format = \"senml-json\"\ndevice = \"d\"\n");
    assert_eq!((ended.good().used, totals.rows), (2, 2));
}

#[test]
fn pages_are_followed_on_the_same_server_only() {
    let web = Web::start(|asked| {
        let page: u32 = asked.path.rsplit('=').next().unwrap().parse().unwrap_or(1);
        let to = match page {
            3 if asked.path.starts_with("/away") => "http://127.0.0.2:1/x".to_owned(),
            page => format!("?page={}", page + 1),
        };
        let link = ("Link".to_owned(), format!("<{to}>; rel=\"next\""));
        let body = json!([{ "id": format!("d{page}"), "t": 1, "h": 2 }]).to_string();
        Reply::Status(200, vec![link], body.into_bytes())
    });
    let rest = format!("{ONE}items = \"\"\npages = 4\n");
    let (ended, _) = ask(&format!("{}/list", web.url), &rest);
    assert_eq!(ended.good().matched, 4, "an endless list has an end");
    assert_eq!(web.asked().len(), 4);
    let (ended, _) = ask(&format!("{}/away", web.url), &rest);
    assert!(
        ended.failure_text().contains("another server"),
        "{}",
        ended.failure_text()
    );
    let (ended, _) = ask(&format!("{}/list", web.url), &rest.replace("pages = 4", ""));
    assert_eq!(ended.good().matched, 1);
}

#[test]
fn what_was_asked_a_moment_ago_is_not_asked_again() {
    let web = Web::start(|_| Reply::json(json!({ "id": "d", "t": 1, "h": 2 })));
    let broker = start(&web.url, ONE);
    let kind = |kind: &str| Dto {
        kind: vec![kind.into()],
        ..now()
    };
    for kind in [kind("temperature"), kind("humidity")] {
        assert_eq!(broker.run(&[kind]).0.good().used, 1);
    }
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn a_server_that_knows_versions_is_asked_for_changes() {
    let web = Web::start(|asked| {
        if asked.header("if-none-match") == Some("\"v1\"") {
            return Reply::Status(304, Vec::new(), Vec::new());
        }
        let tag = ("ETag".to_owned(), "\"v1\"".to_owned());
        let body = json!({ "id": "d", "t": 1, "h": 2 }).to_string();
        Reply::Status(200, vec![tag], body.into_bytes())
    });
    let broker = start(&web.url, ONE);
    assert_eq!(broker.run(&[now()]).0.good().used, 2);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(
        broker.run(&[now()]).0.good().used,
        2,
        "the answer is still known"
    );
    let asked = web.asked();
    assert_eq!(
        (asked.len(), asked[1].header("if-none-match")),
        (2, Some("\"v1\""))
    );
}

#[test]
fn a_dead_device_fails_alone_and_is_asked_less_often() {
    let dead = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dead);
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/b/status" => {
            count.fetch_add(1, Ordering::Relaxed);
            Reply::Status(500, Vec::new(), b"broken".to_vec())
        }
        "/c/status" => Reply::Silent,
        _ => Reply::json(json!({ "t": 1, "h": 2 })),
    });
    let rest = "ask = [\"a\", \"b\", \"c\"]\nevery = \"1s\"\ntimeout = \"20s\"\nvalue = { temperature = \"/t\" }\n";
    let broker = start(&format!("{}/{{device}}/status", web.url), rest);
    let begun = Instant::now();
    let ended = within(&broker, 2);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let coverage = &ended.coverage[0];
    assert_eq!(
        (
            coverage.matched,
            coverage.answered,
            coverage.failed,
            coverage.late
        ),
        (3, 1, 1, 1)
    );
    let absent = |device: &str| coverage.absent.iter().find(|a| a.device == device).unwrap();
    assert!(
        absent("b").reason.contains("answered 500: broken"),
        "{}",
        absent("b").reason
    );
    assert!(
        absent("c").reason.contains("has not answered yet"),
        "{}",
        absent("c").reason
    );
    // Asked without end, it would be asked every second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        let dead = Dto {
            device: vec!["b".into()],
            ..now()
        };
        broker.run(&[dead]);
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = dead.load(Ordering::Relaxed);
    assert!((3..=7).contains(&asked), "{asked}");
    let request = BrokerRequest::TestSource {
        id: 1,
        source: "web".parse().unwrap(),
    };
    let BrokerReport::Tested { report, .. } = broker.ask(&request) else {
        panic!()
    };
    let devices = report.unwrap().devices;
    assert_eq!(devices.len(), 3);
    assert!(broker.stop());
}

#[test]
fn addresses_are_asked_at_regular_times_while_somebody_collects() {
    let value = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&value);
    let web = Web::start(move |_| {
        let n = counter.fetch_add(1, Ordering::Relaxed);
        // Each reading is said twice.
        Reply::json(json!({ "id": "d", "t": n / 2, "h": 1, "at": 1_700_000_000 + n / 2 }))
    });
    let rest = format!("{ONE}time = \"/at\"\nevery = \"1100ms\"\n");
    let broker = start(&web.url, &rest);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(web.asked().len(), 0, "nobody wants anything yet");
    let live = Dto {
        take: Take::Live { count: Some(3) },
        kind: vec!["temperature".into()],
        ..dto("live")
    };
    let (ended, totals) = broker.run(&[live]);
    assert_eq!(ended.good().used, 3);
    assert_eq!(
        totals.of("d", "temperature").values,
        [0.0, 1.0, 2.0],
        "each reading once"
    );
    let asked = web.asked().len();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(web.asked().len() <= asked + 1, "nobody wants it any more");
}

#[test]
fn a_source_without_known_devices_says_why_it_fails() {
    let fails = |reply: fn() -> Reply, words: &str| {
        let web = Web::start(move |_| reply());
        let text = ask(&web.url, &format!("{ONE}timeout = \"1s\"\n"))
            .0
            .failure_text();
        assert!(text.contains(words), "{words}: {text}");
    };
    fails(|| Reply::Body(b"{".to_vec()), "it is no JSON");
    fails(
        || Reply::Cut(b"{}".to_vec()),
        "closed the connection in the middle",
    );
    fails(|| Reply::Stall(b"{".to_vec()), "took longer than 1 s");
    fails(|| Reply::Silent, "took longer than 1 s");
    fails(
        || Reply::Status(404, Vec::new(), b"none".to_vec()),
        "answered 404: none",
    );
    fails(
        || Reply::Status(304, Vec::new(), Vec::new()),
        "nothing changed",
    );
    fails(|| Reply::Body(vec![b'['; 200_000]), "it is no JSON");
    fails(
        || Reply::Endless(b"[".to_vec(), vec![b' '; 65536]),
        "is longer than",
    );
    fails(
        || {
            Reply::Status(
                302,
                vec![("Location".into(), "http://127.0.0.2:1/".into())],
                Vec::new(),
            )
        },
        "sends to another server",
    );
    fails(
        || Reply::Status(302, vec![("Location".into(), "/again".into())], Vec::new()),
        "without end",
    );
}

#[test]
fn a_token_goes_to_the_server_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "geheim\n").unwrap();
    let leaked = Arc::new(AtomicBool::new(false));
    let other = {
        let leaked = Arc::clone(&leaked);
        Web::start(move |_| {
            leaked.store(true, Ordering::Relaxed);
            Reply::Body(Vec::new())
        })
    };
    let to = other.url.clone();
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/here" => Reply::Status(302, vec![("Location".into(), "/there".into())], Vec::new()),
        "/there" => {
            assert_eq!(asked.header("authorization"), Some("Bearer geheim"));
            Reply::json(json!({ "id": "d", "t": 1, "h": 2 }))
        }
        _ => Reply::Status(
            302,
            vec![("Location".into(), format!("{to}/x"))],
            Vec::new(),
        ),
    });
    let rest = format!("{ONE}[source.web.auth]\ntoken-file = \"token\"\n");
    let at = |path: &str| {
        let source = sources(&table(&format!("{}{path}", web.url), &rest));
        Broker::start(&source, folder.path()).run(&[now()]).0
    };
    assert_eq!(at("/here").good().used, 2);
    let text = at("/elsewhere").failure_text();
    assert!(
        text.contains("another server") && !text.contains("geheim"),
        "{text}"
    );
    assert!(!leaked.load(Ordering::Relaxed));
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let text = at("/here").failure_text();
    assert!(text.contains("token cannot be read"), "{text}");
}

#[test]
fn a_range_of_what_is_not_recorded_is_refused() {
    let web = Web::start(|_| Reply::Silent);
    let range = Dto {
        source: Some("web".parse().unwrap()),
        from: Time(0),
        ..dto("d")
    };
    let text = start(&web.url, ONE).run(&[range]).0.failure_text();
    assert!(text.contains("not kept"), "{text}");
    until(|| web.asked().is_empty());
}
