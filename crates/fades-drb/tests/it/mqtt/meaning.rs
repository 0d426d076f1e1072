//! What DTOs mean over messages: collections, ranges, places, units and clocks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;
use fades_task::mtw::{Dto, Near, Take};
use fades_task::time::Time;

use super::mosquitto::Mosquitto;
use super::{Ticking, broker, devices, hall, now, tested, until};
use crate::broker::{Broker, dto};

fn clock() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

/// How many readings of a device are recorded.
fn recorded(broker: &Broker, device: &str) -> u64 {
    let found = devices(broker).into_iter().filter(|d| d.device == device);
    let series = found.flat_map(|d| d.series);
    series.filter_map(|s| s.readings).sum()
}

const SECOND: i64 = 1_000_000_000;

/// What arrives from now on for this long, or until there are so many.
fn collect(count: Option<u64>, time: Duration) -> Dto {
    Dto {
        take: Take::Live { count },
        to: Time(clock() + i64::try_from(time.as_nanos()).unwrap()),
        ..dto("collect")
    }
}

#[test]
fn a_collection_ends_with_its_time_or_its_count_whichever_comes_first() {
    let Some(mosquitto) = Mosquitto::start("mqtt_collection") else {
        return;
    };
    let mut publisher = mosquitto.publisher();
    publisher.retain("site/a/silent/t", "1");
    let broker = broker(&hall(mosquitto.port, ""));
    let _ = tested(&broker).unwrap();
    let _ticking = Ticking::start(&mosquitto, "site/a/d1/t", false);
    let began = clock();
    let (ended, totals) = broker.run(&[collect(Some(7), Duration::from_secs(60))]);
    let taken = clock() - began;
    let coverage = ended.good();
    assert_eq!(
        (coverage.used, coverage.lost_total(), totals.rows),
        (7, 0, 7)
    );
    assert!(taken < 30 * SECOND, "the count is enough");
    // Who said nothing meanwhile is late, since it was heard last.
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.late),
        (2, 1, 1)
    );
    let absent = &coverage.absent[0];
    assert_eq!(
        (absent.device.as_str(), absent.reason.as_str()),
        ("silent", "nothing arrived")
    );
    assert!(absent.since.is_some_and(|s| s.0 <= began));
    let began = clock();
    let (ended, totals) = broker.run(&[collect(Some(1_000_000), Duration::from_millis(700))]);
    let taken = clock() - began;
    let coverage = ended.good();
    assert!(coverage.used > 7 && coverage.used < 1_000, "{coverage:?}");
    assert!(taken >= 7 * SECOND / 10, "{taken}: the time is not over");
    assert!(totals.of("d1", "t").times.iter().all(|&t| t >= began));
    // The task's own time ends it too.
    let began = clock();
    let (ended, _) = broker.run_in(
        &[collect(Some(1_000_000), Duration::from_secs(60))],
        "500ms",
    );
    assert!(ended.good().used > 0);
    assert!(clock() - began < 30 * SECOND, "it waited for the range");
}

/// A source whose messages say a time.
fn timed(port: u16, options: &str) -> Sources {
    let options = format!("value = \"/v\"\ntime = \"/at\"\n{options}");
    hall(port, &options)
}

#[test]
fn a_range_is_of_the_devices_own_times_and_ends_before_its_end() {
    let Some(mosquitto) = Mosquitto::start("mqtt_range") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = timed(mosquitto.port, "record = { keep = \"3650d\" }");
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let _ = tested(&broker).unwrap();
    let mut publisher = mosquitto.publisher();
    let base = clock() / SECOND - 3600;
    for i in 0..10 {
        publisher.publish("site/a/d1/t", format!("{{\"v\":{i},\"at\":{}}}", base + i));
    }
    until("all are recorded", || {
        let series = devices(&broker).into_iter().flat_map(|d| d.series);
        series.filter_map(|s| s.readings).sum::<u64>() == 10
    });
    let range = |from: i64, to: i64| Dto {
        from: Time((base + from) * SECOND),
        to: Time((base + to) * SECOND),
        ..dto("range")
    };
    let (ended, totals) = broker.run(&[range(3, 7)]);
    assert_eq!(ended.good().used, 4);
    assert_eq!(totals.of("d1", "t").values, [3.0, 4.0, 5.0, 6.0]);
    // One that has readings, but not in the range, is empty.
    let (ended, _) = broker.run(&[range(100, 200)]);
    assert_eq!((ended.coverage[0].matched, ended.coverage[0].empty), (1, 1));
    assert!(ended.failure_text().contains("0 of 1 devices answered"));
}

const NOTED: &str = r#"
    [[source.hall.devices]]
    device = "d1"
    labels = { floor = "3", room = "east" }
    at = [57.0, -2.0]
    [[source.hall.devices]]
    device = "d2"
    labels = { floor = "4" }
    at = [0.0, 179.999]
    [[source.hall.devices]]
    device = "d3"
    labels = { floor = "3", room = "west" }
"#;

#[test]
fn labels_and_places_choose_devices_and_those_without_are_not_chosen() {
    let Some(mosquitto) = Mosquitto::start("mqtt_places") else {
        return;
    };
    let mut publisher = mosquitto.publisher();
    for device in ["d1", "d2", "d3", "d4"] {
        publisher.retain(&format!("site/a/{device}/t"), "1");
    }
    let broker = broker(&hall(mosquitto.port, NOTED));
    let _ = tested(&broker).unwrap();
    let chosen = |dto: Dto| {
        let (ended, totals) = broker.run(&[dto]);
        let found: Vec<String> = totals.devices().iter().map(|d| (*d).to_owned()).collect();
        if found.is_empty() {
            assert!(ended.failure_text().contains("matches"), "{ended:?}");
        } else {
            assert_eq!(ended.good().matched, found.len() as u64);
        }
        found
    };
    let labels = |labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()]));
        chosen(Dto {
            labels: labels.collect(),
            ..now()
        })
    };
    assert_eq!(labels(&[("floor", "3")]), ["d1", "d3"]);
    assert_eq!(labels(&[("floor", "*")]), ["d1", "d2", "d3"]);
    assert_eq!(labels(&[("floor", "3"), ("room", "w*")]), ["d3"]);
    assert_eq!(labels(&[("colour", "*")]), [""; 0]);
    let near = |at: [f64; 2], within: &str| {
        let within = within.parse().unwrap();
        chosen(Dto {
            near: Some(Near { at, within }),
            ..now()
        })
    };
    // A hundredth of a degree of latitude is 1,111.95 m.
    assert_eq!(near([57.01, -2.0], "1112m"), ["d1"]);
    assert_eq!(near([57.01, -2.0], "1111m"), [""; 0]);
    // Two thousandths of a degree of the equator are 222.39 m, also where
    // longitudes begin anew.
    assert_eq!(near([0.0, -179.999], "223m"), ["d2"]);
    assert_eq!(near([0.0, -179.999], "222m"), [""; 0]);
    assert_eq!(
        near([0.0, 0.0], "30000km"),
        ["d1", "d2"],
        "d3 and d4 have no place"
    );
}

#[test]
fn readings_come_in_the_unit_that_is_asked_for_or_are_lost() {
    let Some(mosquitto) = Mosquitto::start("mqtt_units") else {
        return;
    };
    let mut publisher = mosquitto.publisher();
    publisher.retain("site/a/d1/t", "212");
    publisher.retain("site/a/d2/u", "100");
    publisher.retain("site/a/d3/h", "40");
    let units = "units = { t = \"°F\", u = \"Cel\", h = \"%\" }";
    let broker = broker(&hall(mosquitto.port, units));
    let celsius = Dto {
        unit: Some("Cel".to_owned()),
        ..now()
    };
    let (ended, totals) = broker.run(&[celsius]);
    let coverage = ended.good();
    assert_eq!(
        (coverage.used, coverage.matched, coverage.answered),
        (2, 3, 2)
    );
    assert_eq!(coverage.lost, [(LossReason::Unit, 1)].into());
    let (t, u) = (totals.of("d1", "t"), totals.of("d2", "u"));
    assert!((t.values[0] - 100.0).abs() < 1e-9, "{t:?}");
    assert_eq!((t.unit.as_str(), u.unit.as_str()), ("Cel", "Cel"));
    assert_eq!(u.values, [100.0]);
}

#[test]
fn a_clock_that_is_ahead_is_told_and_its_times_are_kept_as_they_are() {
    let Some(mosquitto) = Mosquitto::start("mqtt_clock") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = timed(mosquitto.port, "record = { keep = \"1d\" }");
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let _ = tested(&broker).unwrap();
    let mut publisher = mosquitto.publisher();
    // One hour ahead, and one that says no time that can be read.
    let at = clock() / SECOND + 3600;
    let channel = broker.begin(1, &[collect(Some(1), Duration::from_secs(60))]);
    let over = AtomicBool::new(false);
    let times: Vec<i64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                publisher.publish("site/a/d1/t", format!("{{\"v\":1,\"at\":{at}}}"));
                publisher.publish("site/a/d2/t", "{\"v\":1,\"at\":\"soon\"}");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut times = Vec::new();
        let fed = crate::broker::drain(&channel, |b| {
            times.extend(b.series().flat_map(|s| s.time.to_vec()));
        });
        over.store(true, Ordering::Relaxed);
        assert!(fed.finished);
        times
    });
    assert_eq!(times, [at * SECOND]);
    let _ = broker.report();
    until("it is recorded", || recorded(&broker, "d1") > 0);
    let found = devices(&broker);
    let d1 = found.iter().find(|d| d.device == "d1").unwrap();
    let liveness = d1.liveness.as_ref().unwrap();
    let ahead = liveness.clock_ahead.unwrap() / SECOND;
    assert!((3_500..=3_600).contains(&ahead), "{ahead}");
    let seen = liveness.last_seen.unwrap().0;
    assert!(seen <= clock(), "last seen is by the node's own clock");
    let range = |from: i64, to: i64| {
        let (ended, _) = broker.run(&[Dto {
            device: vec!["d1".to_owned()],
            from: Time(from * SECOND),
            to: Time(to * SECOND),
            ..dto("range")
        }]);
        ended.coverage[0].used
    };
    assert_eq!(range(at - 3700, at - 100), 0);
    assert!(range(at, at + 1) > 0);
}

#[test]
fn what_the_broker_kept_is_recorded_once_however_often_it_says_it() {
    let Some(mosquitto) = Mosquitto::start("mqtt_kept") else {
        return;
    };
    for version in ["3.1.1", "5"] {
        let mut publisher = mosquitto.publisher();
        publisher.retain("site/a/kept/t", "21.5");
        let line = super::Line::to(mosquitto.port);
        let folder = tempfile::tempdir().unwrap();
        // Without a session the broker says what it keeps after each break.
        let options = format!("version = \"{version}\"\nqos = 0\nrecord = {{ keep = \"1d\" }}");
        let sources = hall(line.port, &options);
        let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
        let recorded = |device: &str| recorded(&broker, device);
        until("it is recorded", || recorded("kept") == 1);
        for round in 0..2 {
            line.cut();
            line.mend();
            let other = format!("after-{round}");
            until("the connection is there again", || {
                publisher.publish(&format!("site/a/{other}/t"), "1");
                recorded(&other) > 0
            });
        }
        assert_eq!(recorded("kept"), 1, "{version}");
        // The same value is another reading when somebody says it anew.
        publisher.publish("site/a/kept/t", "21.5");
        until("it is recorded", || recorded("kept") == 2);
    }
}
