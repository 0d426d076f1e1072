use std::thread;

use fades_abi::INPUT_PAGE;

use super::*;
use crate::flow::Outlet;

fn key(device: &str, unit: &str) -> SeriesKey {
    SeriesKey {
        device: device.into(),
        location: "".into(),
        kind: "t".into(),
        unit: unit.into(),
    }
}

fn segment(rows: std::ops::Range<i64>) -> Segment {
    Segment {
        time: rows.clone().collect(),
        value: rows.map(|i| i as f64).collect(),
        mark: Vec::new(),
    }
}

/// All chunks of what `source` says, with the bytes that were asked for each.
fn chunks(
    unit: Option<&str>,
    source: impl FnOnce(Outlet) -> Result<(), String> + Send,
) -> (Vec<(u64, Chunk)>, Outcome) {
    let (outlet, inlet) = Outlet::pair();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let ending = outlet.clone();
            let ended = source(outlet);
            let _ = ending.end(ended);
        });
        let name = "s".parse().unwrap();
        let capacity = Capacity::of(INPUT_PAGE);
        let mut assembly = Assembly::new(name, inlet, unit, capacity);
        let mut chunks = Vec::new();
        while let Ahead::Bytes(bytes) = assembly.ahead(&stop) {
            chunks.push((bytes, assembly.chunk(7, &stop).unwrap()));
        }
        (chunks, assembly.outcome())
    })
}

#[test]
fn little_asks_for_no_more_than_it_needs() {
    let (chunks, outcome) = chunks(None, |out| {
        out.readings(&key("a", ""), segment(0..10)).unwrap();
        out.readings(&key("a", ""), segment(10..20)).unwrap();
        out.readings(&key("b", ""), segment(0..5)).unwrap();
        out.device(&"c".into()).unwrap();
        Ok(())
    });
    let [(bytes, chunk)] = &chunks[..] else {
        panic!("{} chunks", chunks.len())
    };
    assert!(*bytes < 4096, "{bytes}");
    let series: Vec<_> = chunk.series.iter().map(|s| (s.id, s.rows())).collect();
    assert_eq!(series, [(7, 20), (8, 5)]);
    assert!(chunk.series.iter().all(|s| s.complete));
    assert_eq!((outcome.asked.len(), outcome.answered.len()), (3, 2));
    assert_eq!(outcome.tally.used, 25);
}

#[test]
fn a_series_larger_than_a_batch_goes_on_under_its_number() {
    let (chunks, outcome) = chunks(None, |out| {
        for i in 0..30 {
            let rows = i * 10_000..(i + 1) * 10_000;
            out.readings(&key("a", ""), segment(rows)).unwrap();
        }
        out.readings(&key("b", ""), segment(0..1)).unwrap();
        Ok(())
    });
    assert_eq!(chunks.len(), 3);
    let parts = chunks.iter().flat_map(|(_, c)| &c.series);
    let parts: Vec<_> = parts.map(|s| (s.id, s.complete)).collect();
    assert_eq!(parts, [(7, false), (7, false), (7, true), (8, true)]);
    let series = chunks.iter().map(|(_, c)| &c.series[0]);
    let times = series.flat_map(|s| s.segments.iter().flat_map(|s| s.time.clone()));
    assert!(times.eq(0..300_000));
    assert_eq!(outcome.tally.used, 300_001);
    for (bytes, chunk) in &chunks {
        let cost: u64 = chunk
            .series
            .iter()
            .map(|s| Capacity::cost(&s.key, s.rows() as u64))
            .sum();
        assert!(Capacity::bytes(cost) <= *bytes && *bytes <= INPUT_PAGE);
    }
}

#[test]
fn what_is_not_finite_or_of_another_unit_is_counted() {
    let (chunks, outcome) = chunks(Some("Cel"), |out| {
        let mut some = segment(0..4);
        some.value = vec![32.0, f64::NAN, f64::INFINITY, 212.0];
        out.readings(&key("a", "[degF]"), some).unwrap();
        out.readings(&key("b", "Pa"), segment(0..3)).unwrap();
        Ok(())
    });
    let series = &chunks[0].1.series;
    assert_eq!(series.len(), 1);
    assert_eq!((&*series[0].key.unit, series[0].rows()), ("Cel", 2));
    let values = &series[0].segments[0].value;
    assert!(values[0].abs() < 1e-9 && (values[1] - 100.0).abs() < 1e-9);
    let lost = &outcome.tally.lost;
    assert_eq!(lost[&LossReason::NotFinite], 2);
    assert_eq!(lost[&LossReason::Unit], 3);
}

#[test]
fn how_a_source_ended_is_known() {
    let (_, outcome) = chunks(None, |out| {
        out.failed(&"a".into(), None, "refused".into()).unwrap();
        Err("the server is gone".to_owned())
    });
    assert_eq!(outcome.failure.as_deref(), Some("the server is gone"));
    assert_eq!(outcome.absent.len(), 1);
    let (outlet, inlet) = Outlet::pair();
    drop(outlet);
    let mut assembly = Assembly::new("s".parse().unwrap(), inlet, None, Capacity::of(INPUT_PAGE));
    assert_eq!(assembly.ahead(&AtomicBool::new(false)), Ahead::End);
    assert!(assembly.outcome().failure.unwrap().contains("defect"));
}

#[test]
fn stopping_ends_the_waiting_for_a_source_that_says_nothing() {
    let (outlet, inlet) = Outlet::pair();
    let name = "s".parse().unwrap();
    let mut assembly = Assembly::new(name, inlet, None, Capacity::of(INPUT_PAGE));
    assert_eq!(assembly.ahead(&AtomicBool::new(true)), Ahead::Stopped);
    drop(outlet);
}
