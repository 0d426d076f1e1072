//! Brokers that are killed, while recording and while somebody reads what they
//! recorded.

use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_drb::measure::{Sample, Store};
use fades_task::message::{Feed, Release};

use super::{SECOND, newest, now, range, recording, until, values};
use crate::broker::{Broker, sources};
use crate::mqtt::Ticking;
use crate::mqtt::mosquitto::Mosquitto;

#[test]
fn a_broker_that_is_killed_while_recording_loses_a_second_at_most_and_says_when() {
    let Some(mosquitto) = Mosquitto::start("recording_killed") else {
        return;
    };
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    // At most once: nothing comes again after the broker was away.
    let sources = sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\nqos = 0\n\
         topic = \"site/{{location}}/{{device}}/{{kind}}\"\nrecord = {{}}",
        mosquitto.port
    ));
    let _ticking = Ticking::start(&mosquitto, "site/a/d1/t", false);
    let mut within = 0;
    for attempt in 1..=5_usize {
        let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
        let _ = recording(&broker);
        let mut heard = -1.0;
        until("something is heard", || {
            let (_, totals) = broker.run(&[newest()]);
            heard = values(&totals).pop().unwrap_or(heard);
            heard >= 0.0
        });
        std::thread::sleep(Duration::from_secs(1));
        let killed = now();
        broker.kill();
        // Meanwhile nobody listens.
        let again = Broker::recording(&sources, "/".as_ref(), folder.path());
        let started = now();
        let (ended, totals) = again.run(&[range(0, i64::MAX)]);
        let coverage = ended.good();
        let gap = coverage.gaps.last().unwrap();
        assert!(gap.reason.contains("stopped without warning"), "{gap:?}");
        assert!(
            gap.from.0 < killed && killed < gap.to.0 && gap.to.0 <= started,
            "{gap:?}"
        );
        assert_eq!((gap.readings, coverage.lost.len()), (0, 0));
        assert_eq!(coverage.gaps.len(), 2 * attempt - 1, "one each time");
        let found = values(&totals);
        assert!(!found.is_empty());
        // Durable up to the gap, so nothing is missing before it.
        let before: Vec<f64> = totals
            .of("d1", "t")
            .times
            .iter()
            .zip(&found)
            .filter(|(t, _)| (killed - 30 * SECOND..=gap.from.0).contains(t))
            .map(|(_, v)| *v)
            .collect();
        within += u32::from(before.last().is_some_and(|last| *last >= heard));
        again.kill();
        if within > 0 {
            return;
        }
    }
    panic!("more than a second was lost each time")
}

/// The time of the first reading of [`history`].
pub(super) const OLD: i64 = 1_700_000_000 * SECOND;

/// A source `measured` whose devices cannot be reached; what was recorded of it can
/// be read all the same.
pub(super) fn nobody(options: &str) -> Sources {
    sources(&format!(
        "[source.measured]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         topic = \"+/{{device}}/{{kind}}\"\n{options}",
        crate::mqtt::mosquitto::free_port()
    ))
}

/// Readings of a day long ago, of a few series of the source `measured`.
pub(super) fn history(folder: &std::path::Path, readings: i64) {
    let names = |i: u32| {
        [
            format!("d{i}"),
            String::new(),
            "t".to_owned(),
            "Cel".to_owned(),
        ]
    };
    let series: Vec<_> = (0..4).map(names).collect();
    let store = Store::open(folder, &series).unwrap();
    let sample = |i: i64| Sample {
        series: (i % 4) as u32,
        time: OLD + i * 1_000_000,
        value: i as f64,
    };
    let deadline = Instant::now() + crate::broker::PATIENCE;
    for first in (0..readings).step_by(10_000) {
        let some: Vec<Sample> = (first..first + 10_000).map(sample).collect();
        while store.in_heads() > 300_000 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        store.record(&some);
    }
    while store.in_heads() >= super::HEAD {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.lost(), 0);
}

#[test]
fn a_broker_that_is_killed_while_somebody_reads_is_whole_again() {
    const READINGS: i64 = 500_000;
    let folder = tempfile::tempdir().unwrap();
    history(folder.path(), READINGS);
    let sources = nobody("record = {}");
    for batches in [0, 1, 2] {
        let broker = Broker::recording_in(&sources, folder.path(), 2 << 20);
        let channel = broker.begin(1, &[range(0, i64::MAX)]);
        for _ in 0..batches {
            let frame = channel
                .receive::<Feed>(crate::broker::soon())
                .unwrap()
                .unwrap();
            assert!(matches!(frame.message, Feed::Batch { .. }));
            channel.send(&Release::Batch, &[], &[]).unwrap();
        }
        broker.kill();
        // What had been sent is there, and then nothing: no end that looks whole.
        while let Ok(Some(frame)) = channel.receive::<Feed>(crate::broker::soon()) {
            assert!(!matches!(frame.message, Feed::Finish));
        }
    }
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let (ended, totals) = broker.run(&[range(0, i64::MAX)]);
    assert_eq!(ended.good().used, READINGS as u64);
    let mut found = values(&totals);
    found.sort_by(f64::total_cmp);
    assert!(found.iter().enumerate().all(|(i, v)| *v == i as f64));
    let left = std::fs::read_dir(folder.path().join("measured")).unwrap();
    let left = left.map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|f| f.ends_with(".tmp")).count(), 0);
}
