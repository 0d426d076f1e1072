//! Readings as devices and servers may have them.

use std::fmt::Write;

use fades_task::coverage::LossReason;
use fades_task::mtw::Dto;
use fades_task::time::Time;

use super::daemon::Influxd;
use super::faults::{brief, rows_of, server};
use super::{BOARDS, good, table};
use crate::broker::{Broker, dto, sources, time};
use crate::limits::{alone, folder, most_memory};
use crate::web::Reply;

#[test]
fn a_clock_ahead_or_behind_keeps_its_times() {
    let Some(influxd) = Influxd::start("a_clock_ahead_or_behind_keeps_its_times") else {
        return;
    };
    let now = time("2026-03-01T12:00:00Z").0;
    let (behind, ahead) = (
        time("1970-01-01T00:00:07Z").0,
        time("2106-02-07T06:28:15Z").0,
    );
    influxd.write(&format!(
        "readings,board=right,type=t value=1 {now}\n\
         readings,board=behind,type=t value=2 {behind}\nreadings,board=behind,type=t value=3 {}\n\
         readings,board=ahead,type=t value=4 {ahead}\nreadings,board=ahead,type=t value=5 {}\n",
        now - 1,
        now + 1
    ));
    for parallel in [1, 4] {
        let rest = format!("{BOARDS}parallel = {parallel}\n");
        let (coverage, totals) = good(&influxd.url, &rest, dto("all"));
        assert_eq!(
            (coverage.matched, coverage.answered, totals.rows),
            (3, 3, 5)
        );
        assert_eq!(totals.of("behind", "t").times, [behind, now - 1]);
        assert_eq!(totals.of("ahead", "t").times, [now + 1, ahead]);
        // Until now: what says that it comes from the future waits for it.
        let until = Dto {
            to: Time(now + 1),
            ..dto("d")
        };
        let (coverage, totals) = good(&influxd.url, &rest, until);
        assert_eq!((coverage.matched, coverage.empty, totals.rows), (3, 1, 3));
        let since = Dto {
            from: Time(now),
            ..dto("d")
        };
        let (coverage, totals) = good(&influxd.url, &rest, since);
        assert_eq!((coverage.empty, totals.rows), (1, 3));
    }
}

#[test]
fn duplicates_are_kept_when_the_server_keeps_them() {
    let Some(influxd) = Influxd::start("duplicates_are_kept_when_the_server_keeps_them") else {
        return;
    };
    // The same series at the same time: the server itself keeps the last only.
    influxd.write("readings,board=a,type=t value=1 10\nreadings,board=a,type=t value=2 10");
    influxd.write("readings,board=a,type=t value=3 10");
    // Series that differ in a tag which is not mapped are one.
    influxd.write(
        "readings,board=b,type=t,host=x value=1 10\nreadings,board=b,type=t,host=y value=2 10\n\
         readings,board=b,type=t,host=z value=2 10",
    );
    let (coverage, totals) = good(&influxd.url, BOARDS, dto("all"));
    assert_eq!(totals.of("a", "t").values, [3.0]);
    let b = totals.of("b", "t");
    let mut values = b.values.clone();
    values.sort_by(f64::total_cmp);
    assert_eq!(
        (b.times.as_slice(), values.as_slice()),
        (&[10; 3][..], &[1.0, 2.0, 2.0][..])
    );
    assert_eq!(coverage.used, 4);
}

#[test]
fn readings_out_of_order_come_in_order() {
    let Some(influxd) = Influxd::start("readings_out_of_order_come_in_order") else {
        return;
    };
    let mut lines = String::new();
    for i in 0..5000_i64 {
        let at = i * 2741 % 5000;
        let _ = writeln!(lines, "readings,board=a,type=t value={at} {at}");
    }
    influxd.write(&lines);
    let (_, totals) = good(&influxd.url, BOARDS, dto("all"));
    let a = totals.of("a", "t");
    assert_eq!(a.times, (0..5000).collect::<Vec<i64>>());
    assert!(a.times.iter().zip(&a.values).all(|(&t, &v)| t as f64 == v));
    // A server that is no better than its devices.
    let web = server(|| {
        let rows = [(30, 3.0), (10, 1.0), (20, 2.0), (10, 1.5)];
        Reply::Body(rows_of(&rows, false))
    });
    let (_, totals) = good(&web.url, BOARDS, brief());
    let a = totals.of("a", "t");
    assert_eq!(
        (a.times.as_slice(), a.values.as_slice()),
        (&[10, 10, 20, 30][..], &[1.0, 1.5, 2.0, 3.0][..])
    );
}

#[test]
fn nan_and_infinities_are_lost_and_counted() {
    let web = server(|| {
        let rows = [
            (1, 1.0),
            (2, f64::NAN),
            (3, f64::INFINITY),
            (4, f64::NEG_INFINITY),
            (5, -0.0),
            (6, f64::MAX),
            (7, f64::MIN_POSITIVE / 4.0),
        ];
        Reply::Body(rows_of(&rows, false))
    });
    let (coverage, totals) = good(&web.url, BOARDS, brief());
    assert_eq!(totals.of("a", "t").times, [1, 5, 6, 7]);
    assert_eq!(
        totals.of("a", "t").values[2..],
        [f64::MAX, f64::MIN_POSITIVE / 4.0]
    );
    let lost = [(LossReason::NotANumber, 1), (LossReason::NotFinite, 2)];
    assert_eq!(coverage.lost, lost.into());
}

#[test]
fn a_unit_that_changes_makes_two_series_or_is_converted() {
    let Some(influxd) = Influxd::start("a_unit_that_changes") else {
        return;
    };
    // The board was set to the other unit and back.
    influxd.write(
        "readings,board=a,type=t,unit=degF value=50 10\nreadings,board=a,type=t,unit=degF value=68 20\n\
         readings,board=a,type=t,unit=Cel value=21 30\nreadings,board=a,type=t,unit=degF value=77 40\n\
         readings,board=a,type=t,unit=hPa value=7 50",
    );
    let broker = Broker::start(&sources(&table(&influxd.url, BOARDS)), "/".as_ref());
    let mut units = Vec::new();
    let ended = broker.run_with(&[dto("all")], |batch| {
        units.extend(batch.series().map(|s| (s.unit.to_owned(), s.time.to_vec())));
    });
    assert_eq!(ended.good().matched, 1);
    let own = |unit: &str, times: &[i64]| (unit.to_owned(), times.to_vec());
    units.sort();
    assert_eq!(
        units,
        [
            own("Cel", &[30]),
            own("[degF]", &[10, 20, 40]),
            own("hPa", &[50])
        ]
    );
    let celsius = Dto {
        unit: Some("Cel".into()),
        ..dto("d")
    };
    let mut read = Vec::new();
    let ended = broker.run_with(&[celsius], |batch| {
        for s in batch.series() {
            assert_eq!(s.unit, "Cel");
            assert!(s.time.is_sorted());
            read.extend(s.time.iter().copied().zip(s.value.iter().copied()));
        }
    });
    let coverage = ended.good();
    assert_eq!(coverage.lost, [(LossReason::Unit, 1)].into());
    read.sort_by_key(|(t, _)| *t);
    let expected = [(10, 10.0), (20, 20.0), (30, 21.0), (40, 25.0)];
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(expected) {
        assert!(
            read.0 == expected.0 && (read.1 - expected.1).abs() < 1e-9,
            "{read:?}"
        );
    }
}

#[test]
fn many_series() {
    let Some(_) = folder() else { return };
    let Some(influxd) = Influxd::start("a_hundred_thousand_series_take_bounded_memory") else {
        println!("found: 0");
        return;
    };
    let mut lines = String::new();
    for begin in (0..100_000).step_by(10_000) {
        lines.clear();
        for i in begin..begin + 10_000 {
            let _ = writeln!(
                lines,
                "readings,board=b{i},type=t,room=r/{} value={i} 7",
                i % 100
            );
        }
        influxd.write(&lines);
    }
    drop(lines);
    let broker = Broker::with_memory(
        &sources(&table(&influxd.url, BOARDS)),
        "/".as_ref(),
        64 << 20,
        8 << 20,
    );
    let before = most_memory();
    let mut rows = 0;
    let ended = broker.run_with(&[dto("all")], |batch| rows += batch.rows());
    assert_eq!((ended.good().answered, rows), (100_000, 100_000));
    println!("found: {}", most_memory() - before);
}

#[test]
fn a_hundred_thousand_series_take_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let found: u64 = alone("influx::quality::many_series", folder.path())
        .parse()
        .unwrap();
    println!("memory of 100,000 series: {found}");
    assert!(found < 96 << 20, "{found}");
}
