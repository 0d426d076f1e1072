//! TCP with certificates of both sides: who gets in, as whom, and what others
//! are told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use fades_orc::api::types::{Reloaded, TaskList};
use rustix::process::Signal;
use serde_json::json;

use crate::certificates::{Authority, Shown, Stream};
use crate::client::{Answer, PATIENCE, over_tls};
use crate::site::{Running, Site, task};

const OPERATOR: &[&str] = &["urn:fades:operator"];
const CITY: &[&str] = &["urn:fades:service:city-air"];

fn get(address: SocketAddr, shown: &Shown, path: &str) -> Answer {
    over_tls(address, shown, ("GET", path), None, b"").unwrap()
}

/// What TLS says to whom it does not let in.
#[track_caller]
fn kept_out(address: SocketAddr, shown: &Shown) -> String {
    let asked = over_tls(address, shown, ("GET", "/v1/node"), None, b"");
    asked.unwrap_err().to_string()
}

#[test]
fn a_certificate_says_who_asks_and_what_they_may() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().with("parallel", json!(4)).listening(&authority);
    let mut node = site.start();
    node.takes(&task("t1", |t| {
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    node.wait_for_tender("t1");
    let [city, noise, both] = [
        CITY,
        &["urn:fades:service:noise"],
        &["urn:fades:service:noise", "urn:fades:reader"],
    ]
    .map(|uris| authority.client(uris));
    let operator = authority.client(OPERATOR);
    let post = |shown: &Shown, path| over_tls(address, shown, ("POST", path), None, b"").unwrap();
    let tasks = |shown| {
        get(address, shown, "/v1/tasks")
            .json::<TaskList>()
            .tasks
            .len()
    };
    assert_eq!((tasks(&city), tasks(&noise)), (1, 0));
    assert_eq!((tasks(&both), tasks(&operator)), (1, 1));
    get(address, &noise, "/v1/scheduling").refuses(403, "urn:fades:reader");
    assert_eq!(get(address, &both, "/v1/scheduling").status, 200);
    for shown in [&city, &both] {
        post(shown, "/v1/reload").refuses(403, "urn:fades:operator");
    }
    post(&noise, "/v1/tasks/t1/cancel").refuses(404, "no task t1");
    post(&both, "/v1/tasks/t1/cancel").refuses(403, "may not cancel tasks of city-air");
    assert_eq!(post(&operator, "/v1/reload").status, 200);
    // Tasks are signed, whoever connects.
    let plain = serde_json::to_vec(&task("t2", |_| ())).unwrap();
    let handed = over_tls(address, &operator, ("POST", "/v1/tasks"), None, &plain);
    handed.unwrap().refuses(400, "");
    assert_eq!(post(&city, "/v1/tasks/t1/cancel").status, 200);
    let by = node.result("t1").failure.unwrap().to_string();
    assert!(by.contains("service city-air's certificate"), "{by}");
    let odd = authority.client(&["urn:fades:admin"]);
    get(address, &odd, "/v1/node").refuses(401, "urn:fades:admin");
    assert_eq!(get(address, &odd, "/v1/openapi.json").status, 200);
}

#[test]
fn who_has_no_certificate_of_the_right_ca_does_not_get_in() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let _node = site.start();
    let good = authority.client(OPERATOR);
    assert_eq!(get(address, &good, "/v1/node").status, 200);
    let said = kept_out(address, &good.nothing());
    assert!(said.contains("CertificateRequired"), "{said}");
    let mut stranger = Authority::new("strangers").client(OPERATOR);
    stranger.trusted = good.trusted.clone();
    let said = kept_out(address, &stranger);
    assert!(said.contains("UnknownCA"), "{said}");
    let said = kept_out(address, &authority.expired(OPERATOR));
    assert!(said.contains("CertificateExpired"), "{said}");
    // The node is judged as well.
    let mut wary = good.clone();
    wary.trusted = Authority::new("others").pem().to_owned();
    let said = kept_out(address, &wary);
    assert!(said.contains("UnknownIssuer"), "{said}");
    assert_eq!(get(address, &good, "/v1/node").status, 200);
}

#[test]
fn plain_http_is_told_to_use_tls() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let _node = site.start();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // More than the node reads before it answers.
    let request = format!(
        "GET /v1/node HTTP/1.1\r\nhost: x\r\nx: {}\r\n",
        "y".repeat(9000)
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("https://") && answer.contains("certificate"),
        "{answer}"
    );
}

#[test]
fn who_connects_and_says_nothing_is_sent_away_and_delays_nobody() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let _node = site.start();
    let client = authority.client(OPERATOR);
    let begun = Instant::now();
    let mut first = TcpStream::connect(address).unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    // More than there are places for handshakes and for connections.
    let silent: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(get(address, &client, "/v1/node").status, 200);
    // The oldest made room, before its time was over.
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    // The last ones have their time, and no more.
    let mut last = silent.last().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
    assert!(begun.elapsed() < PATIENCE);
}

fn opened(address: SocketAddr, shown: &Shown) -> Stream {
    let mut stream = shown.connect(address).unwrap();
    stream
        .write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[test]
fn one_certificate_does_not_take_the_places_of_others() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let mut node = site.start();
    let greedy = authority.client(OPERATOR);
    let held: Vec<Stream> = (0..64).map(|_| opened(address, &greedy)).collect();
    let more = get(address, &greedy, "/v1/node");
    more.refuses(503, "64 connections open already");
    let other = authority.client(OPERATOR);
    assert_eq!(get(address, &other, "/v1/node").status, 200);
    drop(held);
    node.wait_until("there is room again", |_| {
        get(address, &greedy, "/v1/node").status == 200
    });
}

fn reload(node: &Running<'_>) -> Answer {
    node.post("/v1/reload", b"")
}

#[test]
fn certificates_are_taken_anew_and_bad_ones_leave_the_old() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let mut node = site.start();
    let old = authority.numbered(OPERATOR, 7);
    let mut kept = old.connect(address).unwrap();
    let ask = b"GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n";
    let first = |stream: &mut Stream| {
        stream.write_all(ask).unwrap();
        let mut answer = vec![0; 64 << 10];
        let read = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    assert!(first(&mut kept).starts_with("HTTP/1.1 200"));
    assert!(
        !reload(&node)
            .json::<Reloaded>()
            .changed
            .contains(&"certificates".to_owned())
    );

    let other = Authority::new("others");
    let mismatched = Shown {
        key: other.node().key,
        ..authority.node()
    };
    site.certify(&mismatched);
    reload(&node).refuses(422, "does not belong to the certificate");
    assert_eq!(get(address, &old, "/v1/node").status, 200);

    // Both sides by another CA.
    site.certify(&other.node());
    std::fs::write(site.path("tls/clients.crt"), other.pem()).unwrap();
    node.signal(Signal::HUP);
    let new = other.numbered(OPERATOR, 8);
    node.wait_until("the node shows its new certificate", |_| {
        over_tls(address, &new, ("GET", "/v1/node"), None, b"").is_ok()
    });
    let said = kept_out(
        address,
        &Shown {
            trusted: new.trusted.clone(),
            ..old
        },
    );
    assert!(said.contains("UnknownCA"), "{said}");
    // What was let in before is not let do anything any more.
    let refused = first(&mut kept);
    assert!(
        refused.starts_with("HTTP/1.1 401") && refused.contains("no longer taken"),
        "{refused}"
    );

    std::fs::write(site.path("tls/revoked.crl"), other.revoked(&[8])).unwrap();
    assert!(
        reload(&node)
            .json::<Reloaded>()
            .changed
            .contains(&"certificates".to_owned())
    );
    let said = kept_out(address, &new);
    assert!(said.contains("CertificateRevoked"), "{said}");
    assert_eq!(
        get(address, &other.numbered(OPERATOR, 9), "/v1/node").status,
        200
    );
}

#[test]
fn a_stream_ends_with_the_trust_in_its_certificate() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let node = site.start();
    let mut stream = authority.client(CITY).connect(address).unwrap();
    let request = b"GET /v1/events HTTP/1.0\r\nhost: x\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first[9..], b"200");
    let others = Authority::new("others");
    std::fs::write(site.path("tls/clients.crt"), others.pem()).unwrap();
    assert_eq!(reload(&node).status, 200);
    let mut rest = String::new();
    let deadline = Instant::now() + PATIENCE;
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        assert!(Instant::now() < deadline, "the stream goes on");
        rest += &String::from_utf8_lossy(&piece[..n]);
    }
    assert!(rest.contains("no longer trusted"), "{rest}");
}

#[test]
fn a_node_says_what_is_wrong_with_its_certificates_before_it_starts() {
    let authority = Authority::new("clients");
    let good = authority.node();
    type Spoil = fn(&Site, &Authority);
    let spoils: &[(Spoil, &[&str])] = &[
        (
            |s, _| std::fs::remove_file(s.path("tls/node.crt")).unwrap(),
            &["certificate", "node.crt cannot be read"],
        ),
        (
            |s, _| std::fs::remove_file(s.path("tls/node.key")).unwrap(),
            &["key", "node.key cannot be read"],
        ),
        (
            |s, _| std::fs::write(s.path("tls/node.crt"), "?").unwrap(),
            &["holds no certificate in PEM form"],
        ),
        (
            |s, _| std::fs::write(s.path("tls/node.key"), "?").unwrap(),
            &["holds no key in PEM form"],
        ),
        (
            |s, _| std::fs::write(s.path("tls/clients.crt"), "").unwrap(),
            &["clients.crt holds no certificate"],
        ),
        (
            |s, _| std::fs::write(s.path("tls/revoked.crl"), "?").unwrap(),
            &["holds no list of revoked"],
        ),
        (
            |s, _| {
                let open = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(s.path("tls/node.key"), open).unwrap();
            },
            &["mode 0644", "chmod 600"],
        ),
        (
            |s, a| {
                s.certify(&Shown {
                    key: a.node().key,
                    ..a.node()
                })
            },
            &["does not belong to the certificate"],
        ),
        (
            |s, a| s.certify(&a.expired(&[])),
            &["expired at 2021-01-01", "renewed"],
        ),
        (
            |s, a| {
                s.certify(&a.issue(|p| {
                    p.not_before = rcgen::date_time_ymd(2090, 1, 1);
                    p.not_after = rcgen::date_time_ymd(2091, 1, 1);
                }))
            },
            &["not valid before 2090-01-01", "clock"],
        ),
    ];
    let (site, _) = Site::new().listening(&authority);
    for (spoil, words) in spoils {
        site.certify(&good);
        std::fs::write(site.path("tls/clients.crt"), authority.pem()).unwrap();
        spoil(&site, &authority);
        let said = site.fails_to_start();
        for word in *words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
        let _ = std::fs::remove_file(site.path("tls/revoked.crl"));
    }
    site.certify(&good);
    site.start_bare();
}
