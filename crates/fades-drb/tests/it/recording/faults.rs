//! Disks that are full, and clocks that jump.

use std::path::Path;
use std::process::Command;

use fades_task::coverage::LossReason;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::Dto;

use super::killed::{OLD, history, nobody};
use super::{HEAD, newest, now, pack, packs, range, recording, until};
use crate::broker::Broker;
use crate::mqtt::mosquitto::Mosquitto;

/// A file system of its own.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// `None` when there may be none.
    fn mount(folder: &'a Path, test: &str) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder)
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            println!("SKIPPED: {test}: no tmpfs can be mounted; run as root");
            return None;
        }
        Some(Self(folder))
    }

    fn grow(&self) {
        let mount = Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(self.0)
            .status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_costs_what_does_not_fit_into_memory_and_nothing_else() {
    // More than fit into memory.
    const READINGS: i64 = 657_000;
    assert!(READINGS as u64 > 5 * HEAD);
    let test = "recording_full_disk";
    let folder = tempfile::tempdir().unwrap();
    let (Some(mosquitto), Some(disk)) = (Mosquitto::start(test), Disk::mount(folder.path(), test))
    else {
        return;
    };
    let mut sources = packs(mosquitto.port, "record = {}");
    let other = crate::broker::sources(&format!(
        "[source.other]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         topic = \"other/{{device}}/{{kind}}\"",
        mosquitto.port
    ));
    sources.0.extend(other.0);
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let _ = recording(&broker);
    let mut publisher = mosquitto.publisher();
    let start = now() / 1_000_000_000 - READINGS;
    let mut sent = 0;
    let mut send = |readings: i64| {
        let end = sent + readings;
        while sent < end {
            let some = (sent..sent + 1_000).map(|i| ("d".to_owned(), start + i, 0.1 * i as f64));
            publisher.surely("pack", pack(some));
            sent += 1_000;
        }
    };
    send(60_000);
    until("the disk is full", || recording(&broker).trouble.is_some());
    let words = recording(&broker).trouble.unwrap();
    assert!(
        words.contains("its readings cannot be written") && words.contains("No space left"),
        "{words}"
    );
    // Whoever looks at all devices sees it too, of each source that is recorded.
    let all = broker.ask(&BrokerRequest::Resources { id: 8 });
    let BrokerReport::Resources { recording: all, .. } = all else {
        panic!("{all:?}")
    };
    let all: Vec<_> = all.iter().map(|(s, r)| (s.as_str(), &r.trouble)).collect();
    assert_eq!(all, [("hall", &Some(words))]);
    // So do metrics, besides how many devices there are.
    let BrokerReport::Gauged { gauges, .. } = broker.ask(&BrokerRequest::Gauge { id: 9 }) else {
        panic!("no numbers")
    };
    let hall = &gauges.sources["hall"];
    assert!(hall.connected && hall.recording.as_ref().is_some_and(|r| r.trouble.is_some()));
    assert_eq!(
        (hall.devices.alive, gauges.sources["other"].devices.alive),
        (1, 0)
    );
    assert!(gauges.sources["other"].recording.is_none() && gauges.budget.0 > 0);
    // Live data and other sources go on.
    mosquitto.publisher().retain("other/x/t", "5");
    until("the other source goes on", || {
        let (ended, totals) = broker.run(&[Dto {
            source: Some("other".parse().unwrap()),
            ..newest()
        }]);
        ended.failure.is_none() && totals.rows == 1
    });
    send(5_000);
    let (ended, totals) = broker.run(&[Dto {
        source: Some("hall".parse().unwrap()),
        ..newest()
    }]);
    assert_eq!((ended.good().used, totals.rows), (1, 1));
    // And what waits for the disk is found as if it was there.
    until("all that was sent is found", || {
        let (ended, totals) = broker.run(&[range(0, i64::MAX)]);
        assert_eq!(ended.good().lost_total(), 0);
        totals.rows == 65_000
    });
    // So many wait in memory; what comes then is lost, and counted.
    send(READINGS - 65_000);
    let mut lost = 0;
    until(
        "each reading is durable, waits or is counted as lost",
        || {
            let report = recording(&broker);
            lost = report.lost;
            report.recorded + report.waiting + lost == READINGS as u64
        },
    );
    assert!(lost > 0);
    // The same question within a second may be given the answer of before.
    let mut last = None;
    until("a task is told of the loss", || {
        let (ended, totals) = broker.run(&[range(0, i64::MAX)]);
        let coverage = ended.good();
        let told = coverage.lost == [(LossReason::Overflow, lost)].into();
        last = Some((coverage, totals));
        told
    });
    let (coverage, totals) = last.unwrap();
    let mut gaps = coverage.gaps.iter();
    assert!(gaps.any(|g| g.reason.contains("the disk failed or was full")));
    assert_eq!(totals.rows + lost, READINGS as u64);
    // With room it goes on by itself.
    disk.grow();
    until("it recovers", || {
        let report = recording(&broker);
        report.trouble.is_none() && report.waiting == 0
    });
    drop(broker);
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    let (_, found) = broker.run(&[range(0, i64::MAX)]);
    assert_eq!(found.rows, totals.rows, "all that waited became durable");
    drop(broker);
}

/// Segments of the source `measured`.
fn segments(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder.join("measured")).unwrap();
    let paths = files.map(|f| f.unwrap().path());
    let of_days = paths.filter(|p| p.extension().is_some_and(|e| e == "parquet"));
    of_days.count()
}

#[test]
fn a_clock_that_is_far_from_what_is_expected_removes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    history(folder.path(), 150_000);
    assert!(segments(folder.path()) > 0);
    let sources = nobody("record = { keep = \"5d\" }");
    // What the broker believed when it ended.
    let believe = |time: i64| {
        let text = format!("{{\"time\":{time},\"held\":0}}");
        std::fs::write(folder.path().join(".clock.json"), text).unwrap();
    };
    let says = |broker: &Broker| {
        let source = "measured".parse().unwrap();
        match broker.ask(&BrokerRequest::TestSource { id: 7, source }) {
            BrokerReport::Tested { report, .. } => report.map(drop).unwrap_err(),
            other => panic!("{other:?}"),
        }
    };
    believe(OLD);
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    until("the jump is seen", || {
        says(&broker).contains("ahead of what was expected")
    });
    assert!(says(&broker).contains("not removed by that age for another 3d"));
    assert!(segments(folder.path()) > 0);
    let (ended, _) = broker.run(&[range(0, i64::MAX)]);
    assert_eq!(ended.good().used, 150_000);
    drop(broker);
    believe(now());
    let broker = Broker::recording(&sources, "/".as_ref(), folder.path());
    until("old days are removed", || segments(folder.path()) == 0);
    assert!(!says(&broker).contains("expected"));
}
