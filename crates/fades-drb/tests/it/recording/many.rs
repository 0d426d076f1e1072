//! As many series as there may be, and more.

use super::{now, pack, packs, range, recording, until, until_recorded};
use crate::broker::{Broker, dto};
use crate::mqtt::mosquitto::Mosquitto;

/// Most series of a source.
const SERIES: i64 = 100_000;

#[test]
fn a_hundred_thousand_series_are_recorded_and_read_in_order() {
    let Some(mosquitto) = Mosquitto::start("recording_many") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = packs(mosquitto.port, "record = {}");
    let broker = super::listening(&sources, folder.path());
    let mut publisher = mosquitto.publisher();
    let start = now() / 1_000_000_000 - 3_600;
    // Twice, so that a head is full and becomes a segment, and one more series.
    for time in [start, start + 60] {
        for first in (0..=SERIES).step_by(1_000) {
            let last = (first + 1_000).min(SERIES + 50);
            let some = (first..last).map(|i| (format!("d{i:06}"), time, i as f64));
            publisher.surely("pack", pack(some));
        }
    }
    until_recorded(&broker, 2 * SERIES as u64);
    let check = |broker: &Broker| {
        let (ended, totals) = broker.run(&[range(0, i64::MAX)]);
        let coverage = ended.good();
        assert_eq!((coverage.matched, coverage.used), (100_000, 200_000));
        let in_order = totals.series.values().enumerate();
        assert!(in_order.clone().all(|(i, t)| t.values == [i as f64; 2]));
        let mut one = dto("one");
        one.device = vec!["d099999".to_owned()];
        let (ended, totals) = broker.run(&[one]);
        assert_eq!((ended.good().matched, totals.rows), (1, 2));
    };
    check(&broker);
    drop(broker);
    check(&Broker::recording(&sources, "/".as_ref(), folder.path()));
}

#[test]
fn a_flood_of_topics_does_not_take_more_and_more_memory() {
    let Some(mosquitto) = Mosquitto::start("recording_flood") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sources = crate::broker::sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         topic = \"site/{{location}}/{{device}}/{{kind}}\"\nrecord = {{}}",
        mosquitto.port
    ));
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let _ = recording(&broker);
    let mut publisher = mosquitto.publisher();
    let mut flood = |from: i64, to: i64| {
        publisher.flood((from..to).map(|i| (format!("site/a/d{i}/t"), i.to_string())));
        let mut first = super::newest();
        first.device = vec!["d0".to_owned()];
        until("the flood has passed", || {
            publisher.publish("site/a/d0/t", to.to_string());
            let (_, totals) = broker.run(std::slice::from_ref(&first));
            totals.rows == 1 && totals.of("d0", "t").values == [to as f64]
        });
    };
    let series = || {
        let (ended, _) = broker.run(&[super::newest()]);
        ended.good().matched
    };
    let mut from = 0;
    until("there are as many series as there may be", || {
        flood(from, from + SERIES + 20_000);
        from += SERIES + 20_000;
        series() == SERIES as u64
    });
    let before = broker.memory();
    flood(from, from + 3 * SERIES);
    assert_eq!(series(), SERIES as u64);
    let grown = broker.memory().saturating_sub(before);
    // Three times as many series would take three times as much; what is read and
    // waits for the disk meanwhile takes some as well.
    assert!(grown < before, "{grown} bytes beside {before}");
}
