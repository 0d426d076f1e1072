//! CoAP with a real server, and with peers that misbehave.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::resource::{DeviceState, SourceReport};
use fades_task::time::Time;

use crate::broker::{Broker, PATIENCE, dto, sources};
use crate::mqtt::mosquitto::{free_port, is_there};

mod faults;
mod many;
mod observing;

struct Server {
    port: u16,
    child: Child,
}

impl Server {
    /// A server that takes new resources; `None` when there is none.
    fn start(test: &str) -> Option<Self> {
        is_there("coap-server-openssl", "libcoap3-bin", test).then(|| {
            let server = Self::at(free_port());
            let deadline = Instant::now() + PATIENCE;
            while !server.client(&["-B", "1"], "/.well-known/core").1 {
                assert!(Instant::now() < deadline, "coap-server does not start");
            }
            server
        })
    }

    fn at(port: u16) -> Self {
        let child = Command::new("coap-server-openssl")
            .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "50"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            port,
            child: child.unwrap(),
        }
    }

    /// What the client program printed, and whether it got an answer.
    fn client(&self, options: &[&str], path: &str) -> (String, bool) {
        let url = format!("coap://127.0.0.1:{}{path}", self.port);
        let output = Command::new("coap-client-openssl")
            .args(options)
            .arg(url)
            .output();
        let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        let answered = !text.is_empty();
        (text, answered)
    }

    /// Puts a value with a content format.
    fn put(&self, path: &str, format: &str, value: &[u8]) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, value).unwrap();
        let name = file.path().display().to_string();
        let _ = self.client(
            &["-m", "put", "-t", format, "-f", &name, "-b", "1024"],
            path,
        );
    }

    fn source(&self, options: &str) -> Sources {
        field(&[self.port], options)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A source of devices at these ports.
fn field(ports: &[u16], options: &str) -> Sources {
    let devices: Vec<String> = ports
        .iter()
        .map(|p| format!("n{p} = \"coap://127.0.0.1:{p}\""))
        .collect();
    sources(&format!(
        "[source.field]\ntype = \"coap\"\ndevices-at = {{ {} }}\n{options}",
        devices.join(", ")
    ))
}

fn broker(sources: &Sources) -> Broker {
    Broker::start(sources, "/".as_ref())
}

fn now() -> Dto {
    Dto {
        take: Take::Now,
        ..dto("now")
    }
}

fn tested(broker: &Broker) -> Result<Box<SourceReport>, String> {
    let source = "field".parse().unwrap();
    match broker.ask(&BrokerRequest::TestSource { id: 7, source }) {
        BrokerReport::Tested { report, .. } => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resources_are_found_and_read_in_every_form() {
    let Some(server) = Server::start("coap_forms") else {
        return;
    };
    server.put("/s/temperature", "0", b"21.5");
    server.put("/s/humidity", "50", br#"{"v":40}"#);
    server.put(
        "/s/pack",
        "110",
        br#"[{"n":"co2","u":"ppm","v":400},{"n":"door","vb":true}]"#,
    );
    let cbor = [
        0x81, 0xa2, 0x00, 0x65, b'n', b'o', b'i', b's', b'e', 0x02, 0x18, 33,
    ];
    server.put("/s/cbor", "112", &cbor);
    let options = "path = [\"/s/{kind}\"]\nvalue = \"/v\"\nlocation = \"yard\"\n\
        units = { temperature = \"Cel\" }\nvalid = { humidity = [50, 100] }";
    let broker = broker(&server.source(options));
    let (ended, totals) = broker.run(&[now()]);
    let coverage = ended.good();
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.used),
        (1, 1, 4)
    );
    assert_eq!((coverage.marked, coverage.lost_total()), (1, 1));
    let device = format!("n{}", server.port);
    let t = totals.of(&device, "temperature");
    assert_eq!((t.values[0], t.unit.as_str()), (21.5, "Cel"));
    assert_eq!(totals.of(&device, "humidity").values, [40.0]);
    // The path names the kind before the message does.
    assert_eq!(totals.of(&device, "pack").unit, "[ppm]");
    assert_eq!(totals.of(&device, "cbor").values, [33.0]);
    let mut one = now();
    one.kind = vec!["humi*".to_owned()];
    assert_eq!(broker.run(&[one.clone()]).1.rows, 1);
    one.device = vec!["other".to_owned()];
    assert!(broker.run(&[one]).0.failure.is_some());
    let report = tested(&broker).unwrap();
    assert_eq!((report.sample.len(), report.devices.len()), (3, 1));
    assert_eq!(report.reads, format!("coap://127.0.0.1:{}", server.port));
}

#[test]
fn a_long_answer_comes_block_by_block() {
    let Some(server) = Server::start("coap_blocks") else {
        return;
    };
    let records = (0..800).map(|i| format!("{{\"n\":\"k{i}\",\"v\":{i}}}"));
    let pack = format!("[{}]", records.collect::<Vec<_>>().join(","));
    assert!(pack.len() > 10 * 1024);
    server.put("/pack", "110", pack.as_bytes());
    let broker = broker(&server.source("path = \"/pack\""));
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!(ended.good().used, 800);
    let device = format!("n{}", server.port);
    assert_eq!(totals.of(&device, "k799").values, [799.0]);
}

#[test]
fn changes_are_told_and_what_is_not_observed_is_asked_again() {
    let Some(server) = Server::start("coap_observe") else {
        return;
    };
    server.put("/s/level", "0", b"0");
    let device = format!("n{}", server.port);
    for (options, least) in [
        ("every = \"1h\"", 3.0),
        ("observe = false\nevery = \"100ms\"", 1.0),
    ] {
        let options = format!("path = {{ level = \"/s/level\" }}\n{options}");
        let broker = broker(&server.source(&options));
        let collect = Dto {
            take: Take::Live { count: Some(4) },
            ..dto("collect")
        };
        let channel = broker.begin(1, &[collect]);
        let thread = std::thread::spawn(move || {
            let mut values = Vec::new();
            let fed = crate::broker::drain(&channel, |b| {
                values.extend(b.series().flat_map(|s| s.value.to_vec()));
            });
            assert!(fed.finished);
            values
        });
        let deadline = Instant::now() + PATIENCE;
        let mut value = 0;
        while !thread.is_finished() {
            assert!(Instant::now() < deadline);
            value += 1;
            server.put("/s/level", "0", value.to_string().as_bytes());
        }
        let mut values = thread.join().unwrap();
        assert_eq!(values.len(), 4);
        values.dedup();
        let distinct = values.len() as f64;
        assert!(distinct >= least, "{device}: {values:?}");
        let _ = broker.report();
    }
}

#[test]
fn a_device_that_is_away_fails_alone_and_a_server_that_comes_is_heard() {
    let Some(server) = Server::start("coap_absent") else {
        return;
    };
    server.put("/s/t", "0", b"1");
    let away = free_port();
    let options = "path = \"/s/{kind}\"";
    let broker = broker(&field(&[server.port, away], options));
    let start = Instant::now();
    let (ended, totals) = broker.run(&[now()]);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    let coverage = ended.good();
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.failed),
        (2, 1, 1)
    );
    assert!(
        coverage.absent[0].reason.contains("nobody listens"),
        "{:?}",
        coverage.absent
    );
    assert_eq!(totals.rows, 1);
    let alone = self::broker(&field(&[away], options));
    let report = tested(&alone).unwrap();
    assert_eq!(report.devices.len(), 0, "its resources are not known");
    assert_eq!((report.coverage.matched, report.coverage.failed), (1, 1));
    assert!(report.coverage.absent[0].reason.contains("nobody listens"));
    let fixed = self::broker(&field(&[away], "path = { t = \"/s/t\" }"));
    let report = tested(&fixed).unwrap();
    let state = report.devices[0].liveness.as_ref().unwrap().state;
    assert_eq!(
        (report.devices[0].series[0].kind.as_str(), state),
        ("t", DeviceState::Failing)
    );
    // It is collected from as soon as it is there.
    let soon = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + PATIENCE;
    let collect = Dto {
        take: Take::Live { count: Some(1) },
        to: Time(i64::try_from(soon.as_nanos()).unwrap()),
        ..dto("collect")
    };
    let channel = alone.begin(1, &[collect]);
    let late = Server::at(away);
    while !late.client(&["-B", "1"], "/.well-known/core").1 {
        assert!(start.elapsed() < PATIENCE);
    }
    late.put("/s/t", "0", b"7");
    let mut values = Vec::new();
    let fed = crate::broker::drain(&channel, |b| {
        values.extend(b.series().flat_map(|s| s.value.to_vec()));
    });
    assert!(fed.finished);
    assert_eq!(values, [7.0]);
}
