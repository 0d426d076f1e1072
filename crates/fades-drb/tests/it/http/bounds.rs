//! What a source asks at most, and what an answer may come to.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;
use serde_json::json;

use super::{ONE, ask, now, start, table, within};
use crate::broker::sources;
use crate::limits::{alone, folder, most_memory};
use crate::web::{Reply, Web};

const LIST: &str = "items = \"/data\"\ndevice = \"/id\"\nvalue = \"/v\"\nkind = \"t\"\n";

/// Why a table is refused.
fn refused(url: &str, rest: &str) -> String {
    let table: serde_json::Value = toml::from_str(&table(url, rest)).unwrap();
    let error = Sources::parse(&table["source"]).unwrap_err();
    error.to_string()
}

fn boards(n: usize) -> String {
    let names: Vec<String> = (0..n).map(|i| format!("\"b{i}\"")).collect();
    format!("ask = [{}]\n", names.join(","))
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_asks() {
    let url = "http://10.0.0.1/{device}";
    let value = "value = { t = \"/t\" }\n";
    let _ = sources(&table(url, &format!("{}{value}", boards(256))));
    let one = format!("ask = [\"b\"]\n{value}");
    let cases: [(&str, String, &str); 12] = [
        (
            url,
            format!("{}{value}", boards(257)),
            "more than 256 addresses",
        ),
        (url, value.to_owned(), "which devices {device} stands for"),
        (url, format!("ask = [\"b\", \"b\"]\n{value}"), "none twice"),
        (
            url,
            format!("ask = [\"../x\"]\n{value}"),
            "cannot stand in an address",
        ),
        (
            url,
            format!("ask = [\"a b\"]\n{value}"),
            "cannot stand in an address",
        ),
        (url, format!("{one}pages = 0\n"), "from 1 to 100"),
        (url, format!("{one}pages = 101\n"), "from 1 to 100"),
        (url, format!("{one}every = \"0s\"\n"), "longer than nothing"),
        (
            url,
            format!("{one}headers = {{ Authorization = \"x\" }}\n"),
            "place in auth",
        ),
        (
            url,
            format!("{one}headers = {{ X = \"a\\nb\" }}\n"),
            "no value of a header",
        ),
        (url, format!("{one}items = \"data\"\n"), "no JSON pointer"),
        ("http://u:geheim@10.0.0.1/x", ONE.to_owned(), "use auth"),
    ];
    for (url, rest, words) in cases {
        let text = refused(url, &rest);
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn all_addresses_are_asked_at_the_same_time() {
    let web = Web::start(|asked| {
        std::thread::sleep(Duration::from_millis(100));
        Reply::json(json!({ "t": asked.path.len() }))
    });
    let rest = format!("{}value = {{ t = \"/t\" }}\n", boards(256));
    let begun = Instant::now();
    let (ended, totals) = ask(&format!("{}/{{device}}", web.url), &rest);
    assert_eq!((ended.good().matched, totals.rows), (256, 256));
    // One after the other would be 26 s.
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn entries(n: usize) -> Reply {
    let entries: Vec<_> = (0..n)
        .map(|i| json!({ "id": format!("d{i}"), "v": i }))
        .collect();
    Reply::json(json!({ "data": entries }))
}

#[test]
fn an_answer_has_ten_thousand_readings_at_most() {
    let web = Web::start(|_| entries(10_000));
    assert_eq!(ask(&web.url, LIST).0.good().matched, 10_000);
    let web = Web::start(|_| entries(10_001));
    let text = ask(&web.url, LIST).0.failure_text();
    assert!(text.contains("more than 10000 records"), "{text}");
    // On several pages, and when they are of no use.
    let web = Web::start(|asked| {
        let bad: Vec<_> = (0..6_000).map(|_| json!({ "id": "d", "v": "x" })).collect();
        let link = ("Link".to_owned(), "</2>; rel=next".to_owned());
        let links = if asked.path == "/2" {
            vec![]
        } else {
            vec![link]
        };
        let body = json!({ "data": bad }).to_string();
        Reply::Status(200, links, body.into_bytes())
    });
    let text = ask(&web.url, &format!("{LIST}pages = 2\n"))
        .0
        .failure_text();
    assert!(text.contains("more than 10000 records"), "{text}");
}

#[test]
fn an_entry_and_an_answer_have_a_greatest_length() {
    let padded = |n: usize| json!({ "data": [{ "id": "d", "v": 1, "x": "x".repeat(n) }] });
    let web = Web::start(move |_| Reply::json(padded(200_000)));
    assert_eq!(ask(&web.url, LIST).0.good().used, 1);
    let web = Web::start(move |_| Reply::json(padded(270_000)));
    let text = ask(&web.url, LIST).0.failure_text();
    assert!(text.contains("more than the 262144"), "{text}");
    // What is no entry may be long, up to 16 MiB on all pages.
    let page = |n: usize| {
        move |asked: &crate::web::Asked| {
            let body = json!({ "other": "x".repeat(n), "data": [{ "id": "d", "v": 1 }] });
            let link = ("Link".to_owned(), "</2>; rel=next".to_owned());
            let links = if asked.path == "/2" {
                vec![]
            } else {
                vec![link]
            };
            Reply::Status(200, links, body.to_string().into_bytes())
        }
    };
    let rest = format!("{LIST}pages = 2\n");
    let web = Web::start(page(7 << 20));
    assert_eq!(ask(&web.url, &rest).0.good().rows, 2);
    let web = Web::start(page(9 << 20));
    let text = ask(&web.url, &rest).0.failure_text();
    assert!(text.contains("is longer than"), "{text}");
}

#[test]
fn a_list_of_millions_of_nothings() {
    if folder().is_none() {
        return;
    }
    // As values, each of these would take some dozen bytes.
    let web = Web::start(|_| {
        let mut body = String::from("{\"other\":[1");
        for _ in 0..7 << 20 {
            body.push_str(",1");
        }
        let _ = write!(body, "],\"data\":[{{\"id\":\"d\",\"v\":1}}]}}");
        Reply::Body(body.into_bytes())
    });
    let before = most_memory();
    let patient = format!("{LIST}timeout = \"100s\"\n");
    assert_eq!(ask(&web.url, &patient).0.good().used, 1);
    println!("found: {}", most_memory() - before);
}

#[test]
fn a_long_answer_costs_little_more_memory_than_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let name = "http::bounds::a_list_of_millions_of_nothings";
    let found: u64 = alone(name, folder.path()).parse().unwrap();
    // The text itself on both sides, which grows by doubling.
    assert!(found < 160 << 20, "{found}");
}

#[test]
fn a_compressed_answer_is_short_on_the_way_and_not_without_end() {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    let gzip = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let encoded = |body: Vec<u8>| {
        let header = ("Content-Encoding".to_owned(), "gzip".to_owned());
        Reply::Status(200, vec![header], body)
    };
    let list: Vec<_> = (0..5000)
        .map(|i| json!({ "id": format!("d{i}"), "v": 1 }))
        .collect();
    let text = json!({ "data": list }).to_string();
    let good = gzip(text.as_bytes());
    let (sent, length) = (good.clone(), text.len() as u64);
    let web = Web::start(move |asked| {
        assert_eq!(asked.header("accept-encoding"), Some("gzip"));
        encoded(sent.clone())
    });
    let coverage = ask(&web.url, LIST).0.good();
    assert_eq!(coverage.matched, 5000);
    assert!(
        coverage.bytes < length / 3,
        "{} of {length}",
        coverage.bytes
    );
    let fails = |body: Vec<u8>, words: &str| {
        let web = Web::start(move |_| encoded(body.clone()));
        let text = ask(&web.url, LIST).0.failure_text();
        assert!(text.contains(words), "{words}: {text}");
    };
    // A gigabyte of blanks in a megabyte.
    fails(gzip(&vec![b' '; 64 << 20]), "is longer than");
    fails(good[..good.len() / 2].to_vec(), "in the middle");
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 0x55;
    fails(damaged, "127.0.0.1");
    fails(b"{\"data\":[]}".to_vec(), "127.0.0.1");
}

#[test]
fn an_address_that_is_late_is_late_for_the_devices_it_had() {
    let silent = Arc::new(AtomicBool::new(true));
    let is_silent = Arc::clone(&silent);
    let web = Web::start(move |_| match is_silent.load(Ordering::Relaxed) {
        true => Reply::Silent,
        false => Reply::json(json!({ "id": "d", "t": 1, "h": 2 })),
    });
    // Before anybody knows which devices there are, nobody in particular is late.
    let broker = start(&web.url, &format!("{ONE}timeout = \"60s\"\n"));
    let text = within(&broker, 1).failure_text();
    assert!(text.contains("has not answered yet"), "{text}");
    drop(broker);
    silent.store(false, Ordering::Relaxed);
    let broker = start(&web.url, &format!("{ONE}timeout = \"60s\"\n"));
    assert_eq!(within(&broker, 60).coverage[0].answered, 1);
    silent.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(1100));
    let ended = within(&broker, 1);
    let coverage = &ended.coverage[0];
    assert_eq!((coverage.matched, coverage.late), (1, 1));
    let absent = &coverage.absent[0];
    assert_eq!(absent.device, "d");
    assert!(
        absent.late && absent.reason.contains("has not answered yet"),
        "{absent:?}"
    );
    assert!(absent.since.is_some(), "it was heard before");
}

#[test]
fn a_server_that_is_slow_without_end_is_left() {
    let fails = |bytes: &'static [u8], words: &str| {
        let web = Web::start(move |_| Reply::Drip(bytes.to_vec(), Duration::from_millis(50)));
        let begun = Instant::now();
        let text = ask(&web.url, &format!("{ONE}timeout = \"500ms\"\n"))
            .0
            .failure_text();
        assert!(text.contains(words), "{words}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    };
    // Never silent for long, never at its end.
    fails(b"HTTP/1.1 200 OK\r\n\r\n[", "to send all of its answer");
    fails(b"HTTP/1.1 200 OK\r\nX: ", "begin to answer");
    // Of an error, no more is read than is shown.
    let web = Web::start(move |_| {
        let head = b"HTTP/1.1 500 Broken\r\n\r\nbroken".to_vec();
        Reply::Drip(head, Duration::from_millis(5))
    });
    let text = ask(&web.url, ONE).0.failure_text();
    assert!(text.contains("answered 500: broken"), "{text}");
    let web = Web::start(|asked| {
        std::thread::sleep(Duration::from_millis(300));
        let page: u32 = asked.path.trim_start_matches('/').parse().unwrap_or(0);
        let link = ("Link".to_owned(), format!("</{}>; rel=next", page + 1));
        Reply::Status(
            200,
            vec![link],
            b"{\"data\":[{\"id\":\"d\",\"v\":1}]}".to_vec(),
        )
    });
    let rest = format!("{LIST}pages = 100\ntimeout = \"500ms\"\n");
    let text = ask(&web.url, &rest).0.failure_text();
    assert!(
        text.contains("to send all of its answer"),
        "half a list is none: {text}"
    );
}

#[test]
fn a_length_that_is_wrong_is_noticed_or_harms_nobody() {
    let fails = |head: &str, body: &[u8], words: &str| {
        let bytes = [head.as_bytes(), b"\r\n\r\n", body].concat();
        let web = Web::start(move |_| Reply::Raw(bytes.clone()));
        let text = ask(&web.url, &format!("{ONE}timeout = \"1s\"\n"))
            .0
            .failure_text();
        assert!(text.contains(words), "{words}: {text}");
    };
    let body = br#"{"id":"d","t":1,"h":2}"#;
    fails("HTTP/1.1 200 OK\r\nContent-Length: 5", body, "no JSON");
    fails(
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999",
        body,
        "took longer",
    );
    fails("HTTP/1.1 200 OK\r\nContent-Length: -1", body, "127.0.0.1");
    fails(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        b"zz\r\n{}\r\n",
        "127.0.0.1",
    );
    fails(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        b"5\r\n{\"id\"",
        "took longer",
    );
    fails("HTTP/9 what", body, "127.0.0.1");
    fails(
        &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)),
        body,
        "127.0.0.1",
    );
    // What follows the length is the answer to no later question.
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"id\":\"e\",\"t\":6,\"h\":6}";
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"id\":\"d\",\"t\":1,\"h\":2}";
    let web = Web::start(move |_| Reply::Raw([good, evil].concat().into_bytes()));
    let broker = start(&web.url, ONE);
    for _ in 0..2 {
        let (ended, totals) = broker.run(&[now()]);
        assert_eq!(ended.good().matched, 1);
        assert_eq!(totals.of("d", "temperature").values, [1.0]);
        std::thread::sleep(Duration::from_millis(1100));
    }
}

#[test]
fn who_cannot_be_reached_or_does_not_let_in_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let at = |url: String| {
        let rest = "ask = [\"b\"]\nvalue = { t = \"/t\" }\ntimeout = \"5s\"\n";
        let (ended, _) = ask(&format!("{url}/{{device}}"), rest);
        let absent = &ended.coverage[0].absent[0];
        assert_eq!((absent.device.as_str(), absent.late), ("b", false));
        absent.reason.clone()
    };
    let text = at(format!("http://127.0.0.1:{port}"));
    assert!(
        text.contains("nothing listens at") && text.contains(&port.to_string()),
        "{text}"
    );
    let text = at("http://no-such-host.invalid".to_owned());
    assert!(text.contains("no-such-host.invalid"), "{text}");
    let web = Web::start(|_| Reply::Status(401, Vec::new(), b"who?".to_vec()));
    let text = at(web.url.clone());
    assert!(
        text.contains("401: who?") && text.contains("check auth"),
        "{text}"
    );
}

#[test]
fn readings_that_cannot_be_used_are_counted() {
    let web = Web::start(|_| {
        Reply::json(json!({ "data": [
            { "id": "d", "v": 1 }, { "id": "d" }, { "id": "d", "v": null }, { "id": "d", "v": [1] },
            { "id": "d", "v": "1e999" }, { "v": 1 }, { "id": "x".repeat(300), "v": 1 }, 7, null,
        ] }))
    });
    let (ended, totals) = ask(&web.url, LIST);
    let coverage = ended.good();
    assert_eq!((totals.rows, coverage.used), (1, 1));
    let lost = [
        (LossReason::Truncated, 3),
        (LossReason::Empty, 1),
        (LossReason::NotANumber, 1),
        (LossReason::NotFinite, 1),
        (LossReason::Unnamed, 2),
    ];
    assert_eq!(coverage.lost, lost.into());
}
