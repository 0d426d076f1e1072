use fades_sdk::context::SECOND;
use fades_sdk::testing::{self, Answer, Failure, Run};

use super::*;

const HOUR: i64 = 3600 * SECOND;

fn readings(rows: &[(i64, f64)]) -> testing::Series {
    testing::Series::new("d", "temperature", "Cel", "hall").rows(rows.iter().copied())
}

fn all() -> Value {
    ["mean", "min", "max", "last"].to_vec().into()
}

fn rows(answer: &Answer, kind: &str) -> Vec<(i64, f64)> {
    let series = answer.readings.iter().find(|s| s.kind == kind).unwrap();
    series.rows.iter().map(|r| (r.0, r.1)).collect()
}

#[test]
fn an_hour_becomes_one_reading_of_each_kind() {
    let minute = 60 * SECOND;
    let batch = [readings(&[
        (0, 1.0),
        (59 * minute, 4.0),
        (60 * minute, 10.0),
        (119 * minute, 7.0),
        (240 * minute, -5.0),
    ])];
    let run = Run::new().param("every", "1h").param("aggregates", all());
    let answer = run.batch(&batch).answer::<Downsample>().unwrap();
    let at = [0, HOUR, 4 * HOUR];
    let with = |values: [f64; 3]| at.into_iter().zip(values).collect::<Vec<_>>();
    assert_eq!(rows(&answer, "temperature.mean"), with([2.5, 8.5, -5.0]));
    assert_eq!(rows(&answer, "temperature.min"), with([1.0, 7.0, -5.0]));
    assert_eq!(rows(&answer, "temperature.max"), with([4.0, 10.0, -5.0]));
    assert_eq!(rows(&answer, "temperature.last"), with([4.0, 7.0, -5.0]));
    let first = &answer.readings[0];
    assert_eq!((&*first.unit, &*first.location), ("Cel", "hall"));
    assert_eq!(
        (&answer.values["stretches"], &answer.values["used"]),
        (&Value::Int(3), &Value::Int(5))
    );
}

#[test]
fn a_stretch_that_comes_in_parts_and_out_of_order_is_whole() {
    let run = Run::new().param("every", "1h").param("aggregates", all());
    let answer = run
        .batch(&[readings(&[(HOUR, 9.0), (HOUR + 2, 1.0)])])
        .batch(&[readings(&[(3, 5.0)])])
        .batch(&[readings(&[(HOUR + 1, 2.0)])])
        .answer::<Downsample>()
        .unwrap();
    assert_eq!(rows(&answer, "temperature.mean"), [(0, 5.0), (HOUR, 4.0)]);
    assert_eq!(rows(&answer, "temperature.last"), [(0, 5.0), (HOUR, 1.0)]);
}

#[test]
fn whole_days_are_days_of_the_zone_also_when_clocks_change() {
    // Clocks go forward at 01:00Z of day 1: it lasts 23 hours.
    let change = 25 * HOUR;
    let zone = Zone::new("X", vec![(i64::MIN, 0), (change, 3600)]).unwrap();
    let times = [0, 23 * HOUR, 24 * HOUR, 46 * HOUR, 47 * HOUR, 70 * HOUR];
    let batch = [readings(&times.map(|t| (t, 1.0)))];
    let run = Run::new().param("every", "1d").zone(zone).batch(&batch);
    let answer = run.answer::<Downsample>().unwrap();
    let starts: Vec<_> = rows(&answer, "temperature.mean")
        .iter()
        .map(|r| r.0)
        .collect();
    assert_eq!(starts, [0, 24 * HOUR, 47 * HOUR]);
}

#[test]
fn stretches_before_1970_begin_before_their_readings() {
    let run = Run::new()
        .param("every", "1h")
        .batch(&[readings(&[(-1, 2.0)])]);
    let answer = run.answer::<Downsample>().unwrap();
    assert_eq!(rows(&answer, "temperature.mean"), [(-HOUR, 2.0)]);
}

#[test]
fn marked_readings_are_left_out_when_asked() {
    let batch = [readings(&[(0, 1.0)]).marked(1, 99.0).marked(2 * HOUR, 99.0)];
    let run = Run::new().param("every", "1h").batch(&batch);
    let with = run.clone().answer::<Downsample>().unwrap();
    assert_eq!(
        rows(&with, "temperature.mean"),
        [(0, 50.0), (2 * HOUR, 99.0)]
    );
    let without = run
        .param("marked", "exclude")
        .answer::<Downsample>()
        .unwrap();
    assert_eq!(rows(&without, "temperature.mean"), [(0, 1.0)]);
}

#[test]
fn an_answer_beyond_its_limit_says_how_much_it_needs() {
    let batch = [readings(&[(0, 1.0), (HOUR, 1.0), (2 * HOUR, 1.0)])];
    let run = Run::new().param("every", "1h").batch(&batch);
    let Err(Failure::OutputFull(needed)) = run.clone().output(256).answer::<Downsample>() else {
        panic!();
    };
    assert!(run.clone().output(needed).answer::<Downsample>().is_ok());
    assert!(run.output(needed - 1).answer::<Downsample>().is_err());
}

#[test]
fn senseless_parameters_are_refused_by_name() {
    let refused = |run: Run| match run.answer::<Downsample>() {
        Err(Failure::Abort(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refused(Run::new()).contains("`every` is missing"));
    for every in ["0s", "1", "h", "1 h", "-1h", "9999999999999h", "1y"] {
        assert!(refused(Run::new().param("every", every)).contains("`every` must be"));
    }
    let run = Run::new()
        .param("every", 1)
        .param("aggregates", vec!["mean", "median"]);
    assert!(refused(run).contains("not the text median"));
}
