//! What servers and operators may do wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::Dto;
use fades_task::time::Time;

use super::daemon::Influxd;
use super::{BOARDS, ask, table};
use crate::broker::{Broker, Ended, dto, sources};
use crate::web::{Reply, Web};

fn fails(url: &str, rest: &str, base: &Path, words: &[&str]) {
    let broker = Broker::start(&sources(&table(url, rest)), base);
    let (ended, _) = broker.run(&[dto("d")]);
    let text = ended.failure_text();
    for word in words {
        assert!(text.contains(word), "{text}");
    }
    assert!(!ended.finished);
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn users_and_certificates_are_checked_by_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let issued = rcgen::generate_simple_self_signed(["influx.lab".to_owned()]).unwrap();
    let wrong = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let right =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])
            .unwrap();
    for (name, made) in [("issued", &issued), ("wrong", &wrong), ("right", &right)] {
        std::fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(at(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    std::fs::write(at("password"), "geheim!\n").unwrap();
    std::fs::write(at("old"), "geheim?\n").unwrap();
    let serve = |name: &str| {
        let http = format!(
            "auth-enabled = true\nhttps-enabled = true\nhttps-certificate = \"{}\"\nhttps-private-key = \"{}\"\n",
            at(&format!("{name}.pem")).display(),
            at(&format!("{name}.key")).display()
        );
        Influxd::with(
            "users_and_certificates_are_checked_by_both_sides",
            &http,
            "https",
        )
    };
    let Some(influxd) = serve("right") else {
        return;
    };
    influxd.query("CREATE USER root WITH PASSWORD 'geheim!' WITH ALL PRIVILEGES");
    let url = format!("{}/query?u=root&p=geheim!", influxd.url);
    let agent = influxd.agent();
    let made = agent
        .post(url)
        .send_form([("q", "CREATE DATABASE lab")])
        .unwrap();
    assert!(made.status().is_success());
    influxd.write_as("readings,board=a,type=t value=1 10", "&u=root&p=geheim!");

    let tls = |ca: &str| format!("[source.lab.tls]\nca-file = \"{ca}\"\n");
    let user = |file: &str| {
        format!("{BOARDS}[source.lab.auth]\nuser = \"root\"\npassword-file = \"{file}\"\n")
    };
    let good = format!("{}{}", user("password"), tls("right.pem"));
    let broker = Broker::start(&sources(&table(&influxd.url, &good)), folder.path());
    let (ended, totals) = broker.run(&[dto("d")]);
    assert_eq!((ended.good().matched, totals.rows), (1, 1));

    let fails = |rest: String, words: &[&str]| fails(&influxd.url, &rest, folder.path(), words);
    fails(
        format!("{}{}", user("old"), tls("right.pem")),
        &["127.0.0.1", "401", "authorization failed", "check auth"],
    );
    fails(
        format!("{BOARDS}{}", tls("right.pem")),
        &["401", "check auth"],
    );
    fails(
        format!("{}{}", user("none"), tls("right.pem")),
        &["none", "No such file"],
    );
    fails(
        format!("{}{}", user("password"), tls("wrong.pem")),
        &["not trusted", "ca-file"],
    );
    fails(user("password"), &["not trusted", "ca-file"]);
    fails(
        format!("{}{}", user("password"), tls("password")),
        &["password", "no certificate"],
    );
    let half = format!(
        "{}certificate-file = \"right.pem\"\nkey-file = \"wrong.key\"\n",
        good
    );
    fails(half, &["wrong.key", "does not fit right.pem"]);
    let plain = influxd.url.replace("https", "http");
    self::fails(
        &plain,
        &user("password"),
        folder.path(),
        &["127.0.0.1", "400"],
    );

    let Some(other) = serve("issued") else {
        return;
    };
    let rest = format!("{}{}", user("password"), tls("issued.pem"));
    self::fails(
        &other.url,
        &rest,
        folder.path(),
        &["another name", "influx.lab"],
    );
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}");
    fails(&url, BOARDS, "/".as_ref(), &["nothing listens at", &url]);
    fails(
        "http://no-such-host.invalid:1",
        BOARDS,
        "/".as_ref(),
        &["no-such-host.invalid", "check"],
    );
    let Some(influxd) = Influxd::start("a_server_that_is_not_there_is_named") else {
        return;
    };
    let other = BOARDS.replace("\"lab\"", "\"nodb\"");
    fails(
        &influxd.url,
        &other,
        "/".as_ref(),
        &["refuses the question", "database not found: nodb"],
    );
    fails(
        &influxd.url.replace("http", "https"),
        BOARDS,
        "/".as_ref(),
        &["no secure connection", "TLS"],
    );
}

/// `{results: [{statement_id: 0, …` with the rest of the result's map.
fn message(entries: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    bytes.extend(b"\xa7results\x91");
    bytes.push(0x80 + entries);
    bytes.extend(rest);
    bytes
}

const PARTIAL: &[u8] = b"\xa7partial\xc3";

/// Rows of board a, each with its time and a value of 1.
fn rows(times: &[i64], partial: bool) -> Vec<u8> {
    let rows: Vec<(i64, f64)> = times.iter().map(|&t| (t, 1.0)).collect();
    rows_of(&rows, partial)
}

/// Rows of board a.
pub(super) fn rows_of(rows: &[(i64, f64)], partial: bool) -> Vec<u8> {
    series_of("a", "t", rows, partial)
}

/// Rows of a series.
pub(super) fn series_of(board: &str, kind: &str, rows: &[(i64, f64)], partial: bool) -> Vec<u8> {
    tagged(&[("board", board), ("type", kind)], rows, partial)
}

/// Rows of a series with these tags.
pub(super) fn tagged(tags: &[(&str, &str)], rows: &[(i64, f64)], partial: bool) -> Vec<u8> {
    let mut rest = b"\xa6series\x91\x84\xa4name\xa8readings\xa4tags".to_vec();
    rest.push(0x80 + tags.len() as u8);
    for text in tags.iter().flat_map(|(name, value)| [name, value]) {
        rest.push(0xda);
        rest.extend((text.len() as u16).to_be_bytes());
        rest.extend(text.as_bytes());
    }
    rest.extend(b"\xa7columns\x92\xa4time\xa5value\xa6values\xdd");
    rest.extend((rows.len() as u32).to_be_bytes());
    for (time, value) in rows {
        rest.extend([0x92, 0xd3]);
        rest.extend(time.to_be_bytes());
        rest.push(0xcb);
        rest.extend(value.to_be_bytes());
    }
    if partial {
        rest.extend(PARTIAL);
    }
    message(if partial { 2 } else { 1 }, &rest)
}

/// The list of these series.
pub(super) fn listing(keys: &[String]) -> Vec<u8> {
    let mut rest = b"\xa6series\x91\x82\xa7columns\x91\xa3key\xa6values\xdd".to_vec();
    rest.extend((keys.len() as u32).to_be_bytes());
    for key in keys {
        rest.extend([0x91, 0xda]);
        rest.extend((key.len() as u16).to_be_bytes());
        rest.extend(key.as_bytes());
    }
    message(1, &rest)
}

/// A server that knows board a, and answers questions for readings by `answer`.
pub(super) fn server(answer: impl Fn() -> Reply + Send + Sync + 'static) -> Web {
    Web::start(move |asked| match asked.body.starts_with("SHOW SERIES") {
        true => Reply::Body(listing(&["readings,board=a,type=t".to_owned()])),
        false => answer(),
    })
}

pub(super) fn brief() -> Dto {
    Dto {
        from: Time(0),
        to: Time(1000),
        ..dto("d")
    }
}

pub(super) fn answered(web: &Web) -> Ended {
    ask(&web.url, &format!("{BOARDS}timeout = \"1s\"\n"), &[brief()]).0
}

#[test]
fn answers_that_are_none_are_noticed() {
    let ended = answered(&server(|| {
        Reply::Body([rows(&[1, 2], true), rows(&[3], false)].concat())
    }));
    assert_eq!(ended.good().used, 3);
    let error = |text: &str| {
        let mut rest = b"\xa5error\xa4".to_vec();
        rest.extend(text.as_bytes());
        message(1, &rest)
    };
    let mut huge = b"\x81\xa7results\x91\x81\xa5error\xdb".to_vec();
    huge.extend([0xff; 4]);
    let cases: [(Vec<Vec<u8>>, &[&str]); 11] = [
        (
            vec![rows(&[1, 2], true), error("boom")],
            &["refuses the question", "boom"],
        ),
        (
            vec![b"\x81\xa5error\xa4boom".to_vec()],
            &["refuses the question", "boom"],
        ),
        (
            vec![rows(&[1, 2], true)],
            &["ends where more should follow"],
        ),
        (vec![], &["ends where more should follow"]),
        (vec![rows(&[1, 1000], false)], &["outside of the range"]),
        (vec![rows(&[-1], false)], &["outside of the range"]),
        (
            vec![b"{\"results\":[]}".to_vec()],
            &["no map where one belongs", "version 1.x"],
        ),
        (vec![huge], &["more than 64 KiB"]),
        (
            vec![b"\x81\xa3new".to_vec(), vec![0x91; 100_000]],
            &["lists in lists"],
        ),
        (
            vec![b"\x81\xa3new\xdd\xff\xff\xff\xff".to_vec()],
            &["too many entries"],
        ),
        (
            vec![b"\xdf\xff\xff\xff\xff".to_vec()],
            &["too many entries"],
        ),
    ];
    for (body, words) in cases {
        let body = body.concat();
        let text = answered(&server(move || Reply::Body(body.clone()))).failure_text();
        for word in words {
            assert!(
                text.contains(word) && text.contains("127.0.0.1"),
                "{word}: {text}"
            );
        }
    }
}

#[test]
fn connections_that_end_or_stall_are_noticed() {
    let cut = answered(&server(|| Reply::Cut(rows(&[1, 2], false)))).failure_text();
    assert!(cut.contains("closed the connection in the middle"), "{cut}");
    let begun = Instant::now();
    for reply in [|| Reply::Stall(rows(&[1], true)), || Reply::Silent] {
        let text = answered(&server(reply)).failure_text();
        assert!(text.contains("took longer than 1 s"), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let status = |code: u16, name: &str, value: &str, body: &str| {
        let (headers, body) = (
            vec![(name.to_owned(), value.to_owned())],
            body.as_bytes().to_vec(),
        );
        answered(&server(move || {
            Reply::Status(code, headers.clone(), body.clone())
        }))
        .failure_text()
    };
    let text = status(503, "X", "y", &format!("busy\n{}", "x".repeat(1000)));
    assert!(
        text.contains("answered 503: busy x") && text.len() < 500,
        "{text}"
    );
    let text = status(307, "Location", "http://10.0.0.1/x", "");
    assert!(text.contains("307"), "{text}");
}

#[test]
fn an_endless_answer_ends_when_nobody_wants_it() {
    let times: Vec<i64> = vec![5; 10_000];
    let web = server(move || Reply::Endless(Vec::new(), rows(&times, true)));
    let source = sources(&table(&web.url, BOARDS));
    let broker = Broker::start(&source, "/".as_ref());
    let tender = broker.begin(1, &[brief()]);
    // The first batch shows that it flows; it is not released.
    let frame = tender
        .receive::<fades_task::message::Feed>(crate::broker::soon())
        .unwrap();
    assert!(frame.is_some());
    broker
        .control
        .send(&BrokerRequest::Cancel { run: 1 }, &[], &[])
        .unwrap();
    let BrokerReport::RetrieveEnded { stopped, .. } = broker.report() else {
        panic!()
    };
    assert!(stopped);
    // A question that waits for its first byte is ended as soon.
    let silent = server(|| Reply::Silent);
    let broker = Broker::start(&sources(&table(&silent.url, BOARDS)), "/".as_ref());
    let tender = broker.begin(1, &[brief()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while silent.asked().len() < 2 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    let begun = Instant::now();
    drop(tender);
    broker
        .control
        .send(&BrokerRequest::Cancel { run: 1 }, &[], &[])
        .unwrap();
    broker.report();
    assert!(broker.stop());
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn more_series_than_a_source_may_have_are_an_error_in_words() {
    let names: Vec<String> = (0..100_001)
        .map(|i| format!("readings,board=b{i},type=t"))
        .collect();
    let list = listing(&names);
    let web = Web::start(move |_| Reply::Body(list.clone()));
    let text = ask(&web.url, BOARDS, &[brief()]).0.failure_text();
    assert!(
        text.contains("more than 100000 series") && text.contains("ask for fewer"),
        "{text}"
    );
}

#[test]
fn a_connection_is_used_again() {
    let web = server(|| Reply::Body(rows(&[1], false)));
    let broker = Broker::start(&sources(&table(&web.url, BOARDS)), "/".as_ref());
    for _ in 0..3 {
        broker.run(&[brief()]).0.good();
    }
    assert_eq!(web.connections(), 1);
    let accept = web.asked()[1].header("accept").map(str::to_owned);
    assert_eq!(accept.as_deref(), Some("application/x-msgpack"));
    assert_eq!(web.asked()[1].header("accept-encoding"), Some("identity"));
}
