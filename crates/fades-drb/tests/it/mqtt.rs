//! MQTT with a real broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::resource::{Device, DeviceState, SourceReport};
use fades_task::time::Time;

use crate::broker::{Broker, PATIENCE, Totals, dto, sources};

mod bounds;
mod faults;
mod meaning;
pub(crate) mod mosquitto;

use mosquitto::{Line, Mosquitto};

/// A source at a broker, with further options.
fn hall(port: u16, options: &str) -> Sources {
    sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topic = \"site/{{location}}/{{device}}/{{kind}}\"\n{options}"
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

fn collect(count: u64) -> Dto {
    Dto {
        take: Take::Live { count: Some(count) },
        ..dto("collect")
    }
}

fn tested(broker: &Broker) -> Result<Box<SourceReport>, String> {
    let source = "hall".parse().unwrap();
    match broker.ask(&BrokerRequest::TestSource { id: 7, source }) {
        BrokerReport::Tested { report, .. } => report,
        other => panic!("{other:?}"),
    }
}

fn devices(broker: &Broker) -> Vec<Device> {
    match broker.ask(&BrokerRequest::Resources { id: 7 }) {
        BrokerReport::Resources { devices, .. } => devices,
        other => panic!("{other:?}"),
    }
}

/// Publishes the numbers from 0 on, until it is dropped.
pub(crate) struct Ticking {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticking {
    pub(crate) fn start(mosquitto: &Mosquitto, topic: &'static str, surely: bool) -> Self {
        let mut publisher = mosquitto.publisher();
        let over = Arc::<AtomicBool>::default();
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for i in 0.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                if surely {
                    publisher.surely(topic, i.to_string());
                } else {
                    publisher.publish(topic, i.to_string());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Waits until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_newest_readings_are_those_that_the_broker_kept_in_both_versions() {
    let Some(mosquitto) = Mosquitto::start("mqtt_newest") else {
        return;
    };
    let mut publisher = mosquitto.publisher();
    publisher.retain("site/a/d1/temperature", "21.5");
    publisher.retain("site/a/d2/temperature", " 99 ");
    publisher.retain("site/b/d1/humidity", "40");
    publisher.retain("other/b/d1/humidity", "41");
    for version in ["3.1.1", "5"] {
        let options = format!(
            "version = \"{version}\"\nunits = {{ temperature = \"°C\" }}\n\
             valid = {{ temperature = [-20, 60] }}"
        );
        let broker = broker(&hall(mosquitto.port, &options));
        let (ended, totals) = broker.run(&[now()]);
        let coverage = ended.good();
        assert_eq!(
            (coverage.matched, coverage.used, coverage.marked),
            (2, 3, 1)
        );
        let key = |d: &str, l: &str, k: &str| (d.to_owned(), l.to_owned(), k.to_owned());
        let one = &totals.series[&key("d1", "a", "temperature")];
        assert_eq!(
            (one.unit.as_str(), one.values.as_slice()),
            ("Cel", &[21.5][..])
        );
        assert_eq!(totals.series[&key("d1", "b", "humidity")].values, [40.0]);
        let report = tested(&broker).unwrap();
        assert_eq!((report.sample.len(), report.devices.len()), (3, 3));
        assert!(report.reads.contains("mqtt://"), "{}", report.reads);
    }
    let broker = broker(&hall(mosquitto.port, "retained = false"));
    let (ended, _) = broker.run(&[now()]);
    assert!(
        ended.failure_text().contains("matches"),
        "{}",
        ended.failure_text()
    );
}

#[test]
fn json_and_senml_messages_say_values_times_and_names() {
    let Some(mosquitto) = Mosquitto::start("mqtt_json") else {
        return;
    };
    let mut publisher = mosquitto.publisher();
    let json = r#"{"id":"x7","at":1700000000,"m":{"t":"20.5","h":55},"u":"%"}"#;
    publisher.retain("up/1", json);
    let senml = r#"[{"bn":"urn:dev:1:","bt":1.7e9,"n":"t","u":"Cel","v":3},{"n":"on","vb":true}]"#;
    publisher.retain("senml", senml);
    let url = format!("type = \"mqtt\"\nurl = \"127.0.0.1:{}\"\n", mosquitto.port);
    let broker = broker(&sources(&format!(
        "[source.json]\n{url}topic = [\"up/#\"]\ndevice = \"/id\"\nlocation = \"roof\"\n\
         value = {{ t = \"/m/t\", h = \"/m/h\" }}\ntime = \"/at\"\nunit = \"/u\"\n\
         [source.senml]\n{url}topic = \"senml\"\nformat = \"senml-json\""
    )));
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!(ended.good().used, 3);
    let (t, h) = (totals.of("x7", "t"), totals.of("x7", "h"));
    assert_eq!(
        (t.values[0], h.values[0], h.unit.as_str()),
        (20.5, 55.0, "%")
    );
    assert_eq!(t.times, [1_700_000_000_000_000_000]);
    let s = totals.of("urn:dev:1", "t");
    assert_eq!(
        (s.values[0], s.unit.as_str(), s.times[0]),
        (3.0, "Cel", t.times[0])
    );
}

#[test]
fn what_arrives_is_collected_by_count_and_by_time() {
    let Some(mosquitto) = Mosquitto::start("mqtt_collect") else {
        return;
    };
    let broker = broker(&hall(mosquitto.port, ""));
    let _ticking = Ticking::start(&mosquitto, "site/a/d1/t", false);
    let (ended, totals) = broker.run(&[collect(50)]);
    assert_eq!(ended.good().used, 50);
    let values = &totals.of("d1", "t").values;
    assert!(values.windows(2).all(|w| w[1] == w[0] + 1.0), "{values:?}");
    let nanoseconds = |d: Duration| i64::try_from(d.as_nanos()).unwrap();
    let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let time = Dto {
        take: Take::Live { count: None },
        to: Time(nanoseconds(start + Duration::from_millis(600))),
        ..dto("time")
    };
    let (ended, totals) = broker.run(&[time]);
    let coverage = ended.good();
    assert!((20..=400).contains(&coverage.used), "{coverage:?}");
    let last = *totals.of("d1", "t").times.last().unwrap();
    assert!(last <= nanoseconds(start + Duration::from_millis(700)));
}

#[test]
fn a_flood_is_taken_whole_and_series_end_at_their_bound() {
    let Some(mosquitto) = Mosquitto::start("mqtt_flood") else {
        return;
    };
    let broker = broker(&hall(mosquitto.port, ""));
    let _ = tested(&broker).unwrap();
    let mut publisher = mosquitto.publisher();
    publisher.flood((0..100_050).map(|i| (format!("site/a/d{i}/t"), i.to_string())));
    publisher.flood((0..10).map(|i| (format!("site/a/d{i}/t"), "-1".to_owned())));
    let mut only = now();
    only.device = vec!["d9".to_owned()];
    until("the flood has passed", || {
        let (_, totals) = broker.run(&[only.clone()]);
        totals.rows == 1 && totals.of("d9", "t").values == [-1.0]
    });
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!((ended.good().matched, totals.rows), (100_000, 100_000));
}

#[test]
fn a_session_that_is_recorded_outlives_a_cut_without_loss() {
    let Some(mosquitto) = Mosquitto::start("mqtt_session") else {
        return;
    };
    for version in ["3.1.1", "5"] {
        let line = Line::to(mosquitto.port);
        let folder = tempfile::tempdir().unwrap();
        let options = format!(
            "version = \"{version}\"\nclient-id = \"v{version}\"\nrecord = {{ keep = \"1d\" }}"
        );
        let sources = hall(line.port, &options);
        let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
        let _ = tested(&broker).unwrap();
        let _ticking = Ticking::start(&mosquitto, "site/a/d1/t", true);
        let channel = broker.begin(1, &[collect(2_000)]);
        until("the first have come", || !devices(&broker).is_empty());
        line.cut();
        until("the cut is seen", || {
            devices(&broker)[0].liveness.as_ref().unwrap().state == DeviceState::Failing
        });
        line.mend();
        let mut totals = Totals::default();
        let fed = crate::broker::drain(&channel, |batch| totals.add(batch));
        assert!(fed.finished);
        let _ = broker.report();
        let mut values = totals.of("d1", "t").values.clone();
        values.sort_by(f64::total_cmp);
        values.dedup();
        assert!(
            values.windows(2).all(|w| w[1] == w[0] + 1.0),
            "{version}: a gap"
        );
    }
}

#[test]
fn a_broker_that_comes_late_or_goes_is_waited_for() {
    let Some(mut mosquitto) = Mosquitto::prepare("mqtt_late") else {
        return;
    };
    let broker = broker(&hall(mosquitto.port, ""));
    let error = tested(&broker).unwrap_err();
    assert!(
        error.contains("refused") && error.contains("127.0.0.1"),
        "{error}"
    );
    let (ended, _) = broker.run(&[now()]);
    assert!(
        ended.failure_text().contains("refused"),
        "{}",
        ended.failure_text()
    );
    for _ in 0..2 {
        mosquitto.run();
        {
            let _ticking = Ticking::start(&mosquitto, "site/a/d1/t", false);
            let (ended, _) = broker.run(&[collect(5)]);
            assert_eq!(ended.good().used, 5);
        }
        let liveness = devices(&broker)[0].liveness.clone().unwrap();
        assert_eq!(liveness.state, DeviceState::Alive);
        mosquitto.kill();
        until("it is seen that the broker went", || {
            let liveness = devices(&broker)[0].liveness.clone().unwrap();
            liveness.state == DeviceState::Failing && liveness.error.is_some()
        });
        let (ended, _) = broker.run(&[now()]);
        let coverage = &ended.coverage[0];
        assert_eq!((coverage.matched, coverage.failed), (1, 1));
        assert!(coverage.absent[0].since.is_some());
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_cited_and_the_rest_goes_on() {
    let Some(mosquitto) = Mosquitto::start("mqtt_bad") else {
        return;
    };
    let broker = broker(&hall(mosquitto.port, ""));
    {
        let _bad = Ticking::start(&mosquitto, "site/a/d1/t", false);
        let mut publisher = mosquitto.publisher();
        let channel = broker.begin(1, &[collect(20)]);
        until("it is over", || {
            publisher.publish("site/a/d2/t", "secret-payload");
            publisher.publish("site/a/d2/t", "NaN");
            publisher.publish("site/a/d2/t", "");
            publisher.publish("site/a//t", "1");
            // Longer than a message may be, and longer than any packet may be.
            publisher.publish("site/a/d3/t", vec![b'1'; 300 << 10]);
            rustix::event::poll(
                &mut [rustix::event::PollFd::new(
                    &channel,
                    rustix::event::PollFlags::IN,
                )],
                Some(&rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                }),
            )
            .unwrap()
                > 0
        });
        let fed = crate::broker::drain(&channel, |_| ());
        assert!(fed.finished);
        let BrokerReport::RetrieveEnded { coverage, .. } = broker.report() else {
            panic!()
        };
        let lost = &coverage[0].lost;
        for reason in [
            LossReason::NotANumber,
            LossReason::NotFinite,
            LossReason::Unnamed,
            LossReason::Overflow,
        ] {
            assert!(lost.contains_key(&reason), "{reason:?} in {lost:?}");
        }
        let cited = &coverage[0].cited;
        assert!(cited.iter().any(|c| c.file == "site/a/d2/t"), "{cited:?}");
        assert!(!format!("{cited:?}").contains("secret-payload"));
    }
    let broker = self::broker(&hall(mosquitto.port, "value = \"/v\""));
    let mut publisher = mosquitto.publisher();
    publisher.retain("site/a/d2/t", "secret-payload");
    let error = tested(&broker).unwrap_err();
    assert!(
        error.contains("site/a/d2/t") && error.contains("no JSON"),
        "{error}"
    );
    assert!(!error.contains("secret-payload"));
}
