//! Many readings and many series, compared with what was written.

use std::fmt::Write;

use fades_task::mtw::Dto;
use fades_task::time::Time;

use super::daemon::Influxd;
use super::{BOARDS, table};
use crate::broker::{Broker, dto, sources};

const SERIES: i64 = 25;
const SECOND: i64 = 1_000_000_000;

fn value(series: i64, i: i64) -> f64 {
    ((i * 31 + series * 7) % 1000) as f64 / 8.0
}

/// Sum and number of rows by series, and whether all times were in order.
fn read(broker: &Broker, dto: Dto) -> Vec<(u64, f64)> {
    let mut sums = vec![(0_u64, 0.0); SERIES as usize];
    let mut last = vec![i64::MIN; SERIES as usize];
    let mut begun: Vec<usize> = Vec::new();
    let ended = broker.run_with(&[dto], |batch| {
        for s in batch.series() {
            let number: usize = s.device.trim_start_matches('b').parse().unwrap();
            if begun.last() != Some(&number) {
                assert!(!begun.contains(&number), "a series comes whole");
                begun.push(number);
            }
            for (&time, &v) in s.time.iter().zip(s.value) {
                assert!(time > last[number]);
                last[number] = time;
                sums[number].0 += 1;
                sums[number].1 += v;
            }
        }
    });
    ended.good();
    sums
}

#[test]
fn three_million_readings_arrive_as_they_were_written() {
    let Some(influxd) = Influxd::start("three_million_readings_arrive_as_they_were_written") else {
        return;
    };
    let each = 3_000_000 / SERIES;
    let mut lines = String::new();
    for begin in (0..each).step_by(2000) {
        lines.clear();
        for s in 0..SERIES {
            for i in begin..begin + 2000 {
                let _ = writeln!(
                    lines,
                    "readings,board=b{s},type=t value={} {}",
                    value(s, i),
                    i * SECOND
                );
            }
        }
        influxd.write(&lines);
    }
    let expected = |from: i64, to: i64| -> Vec<(u64, f64)> {
        let sum = |s: i64| (from..to).map(|i| value(s, i)).sum();
        (0..SERIES).map(|s| ((to - from) as u64, sum(s))).collect()
    };
    for (parallel, gzip) in [(1, false), (2, false), (4, true)] {
        let rest = format!("{BOARDS}parallel = {parallel}\ngzip = {gzip}\n");
        let broker = Broker::start(&sources(&table(&influxd.url, &rest)), "/".as_ref());
        assert_eq!(read(&broker, dto("all")), expected(0, each), "{parallel}");
        let (from, to) = (1234, each - 777);
        let part = Dto {
            from: Time(from * SECOND),
            to: Time(to * SECOND),
            ..dto("part")
        };
        assert_eq!(read(&broker, part), expected(from, to), "{parallel}");
    }
}

#[test]
fn as_many_series_as_a_source_may_have_are_read() {
    let Some(influxd) = Influxd::start("as_many_series_as_a_source_may_have_are_read") else {
        return;
    };
    let mut lines = String::new();
    for begin in (0..100_000).step_by(10_000) {
        lines.clear();
        for i in begin..begin + 10_000 {
            let _ = writeln!(lines, "readings,board=b{i},type=t value={i} {}", i % 3);
        }
        influxd.write(&lines);
    }
    let broker = Broker::start(&sources(&table(&influxd.url, BOARDS)), "/".as_ref());
    let (mut rows, mut sum) = (0, 0.0);
    let ended = broker.run_with(&[dto("all")], |batch| {
        for s in batch.series() {
            assert_eq!(
                s.device.trim_start_matches('b').parse::<f64>().unwrap(),
                s.value[0]
            );
            rows += s.time.len();
            sum += s.value[0];
        }
    });
    let coverage = ended.good();
    assert_eq!(
        (coverage.matched, coverage.answered, rows),
        (100_000, 100_000, 100_000)
    );
    assert_eq!(sum, 99_999.0 * 50_000.0);
    influxd.write("readings,board=more,type=t value=1 1");
    let text = broker.run(&[dto("other")]).0.failure_text();
    assert!(text.contains("more than 100000 series"), "{text}");
    let few = Dto {
        device: vec!["b77*".into()],
        ..dto("few")
    };
    assert_eq!(broker.run(&[few]).0.good().matched, 1111);
}
