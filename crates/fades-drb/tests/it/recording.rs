//! Recording, from a real MQTT broker to batches of later tasks.

use std::path::Path;
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::resource::Recording;
use fades_task::time::Time;

use crate::broker::{Broker, PATIENCE, Totals, dto, sources};
use crate::mqtt::mosquitto::{Mosquitto, Publisher};

mod faults;
mod killed;
mod many;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A source that is recorded and understands `{"v": …, "t": ms, "u": …}` below
/// `site`, and SenML below `pack`.
fn hall(port: u16, options: &str) -> Sources {
    sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topic = \"site/{{location}}/{{device}}/{{kind}}\"\nvalue = \"/v\"\n\
         time = {{ pointer = \"/t\", format = \"unix-ms\" }}\nunit = \"/u\"\n{options}"
    ))
}

fn packs(port: u16, options: &str) -> Sources {
    sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topic = \"pack\"\nformat = \"senml-json\"\n{options}"
    ))
}

/// A message of `hall`.
fn message(time: i64, value: f64, unit: &str) -> String {
    format!(
        r#"{{"v":{value},"t":{},"u":"{unit}"}}"#,
        time.div_euclid(1_000_000)
    )
}

/// A message of so many readings (device, s since 1970, value).
fn pack(readings: impl Iterator<Item = (String, i64, f64)>) -> String {
    let record = |(device, time, value): (String, i64, f64)| {
        format!(r#"{{"bn":"{device}/","n":"t","u":"Cel","t":{time},"v":{value}}}"#)
    };
    let records: Vec<String> = readings.map(record).collect();
    format!("[{}]", records.join(","))
}

fn range(from: i64, to: i64) -> Dto {
    Dto {
        from: Time(from),
        to: Time(to),
        ..dto("range")
    }
}

fn newest() -> Dto {
    Dto {
        take: Take::Now,
        ..dto("now")
    }
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_nanos() as i64
}

/// How recording goes; the source can be reached.
fn recording(broker: &Broker) -> Recording {
    let source = "hall".parse().unwrap();
    match broker.ask(&BrokerRequest::TestSource { id: 7, source }) {
        BrokerReport::Tested { report, .. } => report.unwrap().recording.unwrap(),
        other => panic!("{other:?}"),
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

/// Waits until so many readings are durable.
fn until_recorded(broker: &Broker, readings: u64) {
    until("the readings are recorded", || {
        recording(broker).recorded >= readings
    });
}

/// Connected, so that what is published from now on arrives.
fn listening(sources: &Sources, readings: &Path) -> Broker {
    let broker = Broker::recording(sources, "/".as_ref(), readings);
    let _ = recording(&broker);
    broker
}

/// Minutes of a day long ago, of two devices.
fn publish_minutes(publisher: &mut Publisher, start: i64, minutes: i64) {
    for i in 0..minutes {
        for (device, value) in [("d1", i as f64), ("d2", -0.5 * i as f64)] {
            let topic = format!("site/a/{device}/t");
            let message = message(start + i * 60 * SECOND, value, "Cel");
            publisher.publish(&topic, message);
        }
    }
}

#[test]
fn what_is_heard_is_found_by_its_time_also_by_later_brokers() {
    let Some(mosquitto) = Mosquitto::start("recording_found") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = hall(mosquitto.port, "record = {}");
    let start = now() / DAY * DAY - 3 * DAY;
    let check = |broker: &Broker| {
        let some = range(start + 600 * SECOND, start + 1200 * SECOND);
        let (ended, totals) = broker.run(&[some]);
        let coverage = ended.good();
        assert_eq!((coverage.matched, coverage.answered), (2, 2));
        assert_eq!((coverage.read, coverage.used), (20, 20));
        assert_eq!(coverage.gaps, [], "no gap is in the range");
        let d1 = totals.of("d1", "t");
        assert_eq!(d1.values, (10..20).map(f64::from).collect::<Vec<_>>());
        assert_eq!(
            (d1.times[0], d1.unit.as_str()),
            (start + 600 * SECOND, "Cel")
        );
        let (ended, totals) = broker.run(&[range(0, i64::MAX)]);
        assert_eq!((ended.good().used, totals.rows), (200, 200));
        // In the range nobody said anything, and that is known.
        let mut broken = broker.run(&[range(start - DAY, start)]).0;
        let coverage = broken.coverage.remove(0);
        assert_eq!((coverage.matched, coverage.empty, coverage.used), (2, 2, 0));
    };
    let broker = listening(&sources, folder.path());
    publish_minutes(&mut mosquitto.publisher(), start, 100);
    until_recorded(&broker, 200);
    check(&broker);
    let report = recording(&broker);
    assert_eq!((report.lost, report.expired, report.trouble), (0, 0, None));
    assert_eq!(report.oldest, Some(Time(start)));
    assert!(report.bytes > 200 && report.gaps.is_empty());
    assert!(broker.stop());
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    check(&broker);
    let (ended, _) = broker.run(&[range(0, i64::MAX)]);
    let gaps = ended.good().gaps;
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].readings, gaps[0].source.as_str()), (0, "hall"));
    assert!(
        gaps[0].reason.contains("the broker was not running"),
        "{gaps:?}"
    );
    assert_eq!(recording(&broker).gaps, gaps);
}

#[test]
fn what_a_server_says_is_recorded_without_anybody_asking() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let web = crate::web::Web::start(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crate::web::Reply::json(serde_json::json!({ "v": n, "at": 1_700_000_000 + n }))
    });
    let folder = tempfile::tempdir().unwrap();
    let sources = sources(&format!(
        "[source.hall]\ntype = \"http\"\nurl = \"{}\"\ndevice = \"d\"\nkind = \"t\"\n\
         value = \"/v\"\ntime = \"/at\"\nevery = \"100ms\"\nrecord = {{}}",
        web.url
    ));
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let all = range(1_700_000_000 * SECOND, 1_700_000_005 * SECOND);
    until("five readings came", || {
        let (ended, totals) = broker.run(std::slice::from_ref(&all));
        ended.failure.is_none()
            && totals.rows == 5
            && totals.of("d", "t").values == [0.0, 1.0, 2.0, 3.0, 4.0]
    });
}

#[test]
fn readings_come_in_order_and_once_in_one_unit_whatever_the_devices_clocks_say() {
    let Some(mosquitto) = Mosquitto::start("recording_clocks") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let broker = listening(&hall(mosquitto.port, "record = {}"), folder.path());
    let mut publisher = mosquitto.publisher();
    let start = now() / DAY * DAY - 3 * DAY;
    let mut say = |device: &str, time: i64, value: f64, unit: &str| {
        let topic = format!("site/a/{device}/t");
        publisher.publish(&topic, message(time, value, unit));
    };
    for minute in [5, 3, 9, 3, 5, 3] {
        say("order", start + minute * SECOND, minute as f64, "Cel");
    }
    // The same moment, another value: that is another reading.
    say("order", start + 3 * SECOND, 0.0, "Cel");
    for (i, (value, unit)) in [
        (20.0, "Cel"),
        (68.0, "[degF]"),
        (21.0, "Cel"),
        (69.8, "[degF]"),
    ]
    .into_iter()
    .enumerate()
    {
        say("unit", start + i as i64 * SECOND, value, unit);
    }
    let soon = now() / SECOND * SECOND + 3600 * SECOND;
    say("ahead", soon, 1.0, "Cel");
    say("ahead", now() + 2 * DAY, 2.0, "Cel");
    say("behind", 5 * SECOND, 3.0, "Cel");
    until_recorded(&broker, 7 + 4 + 2);
    let celsius = |mut dto: Dto| {
        dto.unit = Some("Cel".to_owned());
        broker.run(&[dto])
    };
    let (ended, totals) = celsius(range(start, start + DAY));
    assert_eq!(ended.good().used, 4 + 4);
    assert_eq!(totals.of("order", "t").values, [0.0, 3.0, 5.0, 9.0]);
    let unit = totals.of("unit", "t");
    let rounded: Vec<i64> = unit
        .values
        .iter()
        .map(|v| (v * 10.0).round() as i64)
        .collect();
    assert_eq!(rounded, [200, 200, 210, 210]);
    assert!(unit.times.windows(2).all(|w| w[1] - w[0] == SECOND));
    let (_, totals) = celsius(range(soon, soon + SECOND));
    assert_eq!(
        (totals.rows, &totals.of("ahead", "t").values[..]),
        (1, &[1.0][..])
    );
    let (ended, totals) = celsius(range(0, DAY));
    assert_eq!((ended.good().gaps, totals.rows), (vec![], 1));
    // Whoever asks for today is told that a reading was too far ahead.
    let (ended, _) = celsius(range(now() - DAY, i64::MAX));
    let coverage = ended.good();
    assert_eq!(coverage.lost, [(LossReason::Overflow, 1)].into());
    let gap = &coverage.gaps[0];
    assert!(gap.readings == 1 && gap.reason.contains("more than a day ahead"));
    assert_eq!(recording(&broker).lost, 1);
}

/// Segments are made of so many readings.
const HEAD: u64 = 128 << 10;

#[test]
fn segments_of_one_node_are_a_parquet_source_of_another_with_their_marks() {
    let Some(mosquitto) = Mosquitto::start("recording_parquet") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = packs(mosquitto.port, "record = {}\nvalid = { t = [-10, 10] }");
    let broker = listening(&sources, folder.path());
    let mut publisher = mosquitto.publisher();
    let start = now() / SECOND - 2 * DAY / SECOND;
    let readings = HEAD as i64 + 1_000;
    for first in (0..readings).step_by(1_000) {
        let some =
            (first..first + 1_000).map(|i| (format!("d{}", i % 2), start + i, (i % 13) as f64));
        publisher.surely("pack", pack(some));
    }
    until_recorded(&broker, readings as u64);
    let ours = folder.path().join("hall");
    until("segments are made", || !ours.join("00000001.head").exists());
    let copied = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(&ours).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "parquet") {
            std::fs::copy(&path, copied.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let (_, recorded) = broker.run(&[range(0, i64::MAX)]);
    let table = "[source.archive]\ntype = \"parquet\"\nfiles = \"*.parquet\"\n\
        location = \"{location}\"\nkind = \"{kind}\"\nvalue = \"value\"\nunit = \"{unit}\"\n";
    for (mark, marked) in [("mark = \"mark\"\n", true), ("", false)] {
        let archive = Broker::start(&self::sources(&format!("{table}{mark}")), copied.path());
        let (ended, totals) = archive.run(&[range(0, i64::MAX)]);
        assert!(ended.good().used >= HEAD);
        for device in ["d0", "d1"] {
            let (theirs, ours) = (totals.of(device, "t"), recorded.of(device, "t"));
            let n = theirs.values.len();
            assert_eq!(theirs.values, ours.values[..n]);
            assert_eq!(theirs.times, ours.times[..n]);
            let outside = theirs.values.iter().filter(|v| **v > 10.0).count() as u64;
            assert_eq!(theirs.marked, if marked { outside } else { 0 });
            assert_eq!(theirs.unit, "Cel");
        }
    }
    drop(broker);
}

/// All values of all series.
fn values(totals: &Totals) -> Vec<f64> {
    totals
        .series
        .values()
        .flat_map(|t| t.values.clone())
        .collect()
}
