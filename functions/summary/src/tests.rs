use fades_sdk::context::SECOND;
use fades_sdk::testing::{Answer, Failure, Run, Series};

use super::*;

fn series(device: &str, location: &str, values: &[f64]) -> Series {
    let rows = (0..).zip(values).map(|(i, &v)| (i * SECOND, v));
    Series::new(device, "temperature", "Cel", location).rows(rows)
}

fn answer(run: Run) -> Answer {
    run.answer::<Summary>().unwrap()
}

/// The values of a device whose series comes in two batches, so that the values
/// of the first have to be kept.
fn in_two_batches(run: Run, device: &str, values: &[f64]) -> Run {
    let (first, last) = values.split_at(values.len() / 2);
    run.batch(&[series(device, "x", first)])
        .batch(&[series(device, "x", last)])
}

#[test]
fn one_series_is_described_as_by_hand() {
    // 2 4 4 4 5 5 7 9: mean 5, squares of deviations 9+1+1+1+0+0+4+16 = 32,
    // sd = sqrt(32/7); ranks 3.5, 6.65 and 6.93 of 0..=7.
    let rows = series("d", "hall", &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
    let row = &answer(Run::new().batch(&[rows])).values["groups"][0];
    assert_eq!(row["kind"], "temperature");
    assert_eq!(row["unit"], "Cel");
    assert_eq!(row["device"], "d");
    assert_eq!(row["location"], "hall");
    assert_eq!(
        (&row["count"], &row["marked"]),
        (&Value::Int(8), &Value::Int(0))
    );
    assert_eq!(
        (&row["min"], &row["max"]),
        (&Value::Float(2.0), &Value::Float(9.0))
    );
    assert_eq!(
        (&row["mean"], &row["sum"]),
        (&Value::Float(5.0), &Value::Float(40.0))
    );
    assert_eq!(row["sd"], (32.0_f64 / 7.0).sqrt());
    assert_eq!(row["p50"], 4.5);
    let near = |name: &str, expected: f64| {
        let value = row[name].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-12, "{name} = {value}");
    };
    near("p95", 7.0 + 0.65 * 2.0);
    near("p99", 7.0 + 0.93 * 2.0);
}

#[test]
fn a_device_that_moves_is_two_groups_and_kinds_never_mix() {
    let moved = [series("d", "hall", &[1.0]), series("d", "yard", &[3.0])];
    let other = Series::new("d", "humidity", "%", "hall").row(0, 50.0);
    let run = Run::new().batch(&moved).batch(&[other]);
    let by = |by: &'static str| {
        let answer = answer(run.clone().param("by", by));
        let Value::Array(groups) = answer.values["groups"].clone() else {
            panic!("{answer:?}");
        };
        assert_eq!(answer.values["by"], by);
        groups
    };
    assert_eq!(by("device").len(), 3);
    assert_eq!(by("location").len(), 3);
    let kinds = by("kind");
    assert_eq!(kinds.len(), 2);
    assert_eq!(kinds[0]["kind"], "humidity");
    assert_eq!(kinds[1]["mean"], 2.0);
    let Value::Map(row) = &kinds[1] else { panic!() };
    assert!(row.get("device").is_none() && row.get("location").is_none());
}

#[test]
fn batches_in_any_order_give_the_same_answer() {
    let values: Vec<f64> = (0..500).map(|i| f64::from(i * 37 % 101)).collect();
    let whole = answer(Run::new().batch(&[series("a", "x", &values), series("b", "x", &[1.0])]));
    let (first, last) = values.split_at(200);
    let split = answer(
        Run::new()
            .batch(&[series("a", "x", first)])
            .batch(&[series("b", "x", &[1.0])])
            .batch(&[series("a", "x", last)]),
    );
    let (w, s) = (&whole.values["groups"], &split.values["groups"]);
    for name in ["count", "min", "max", "p50", "p95", "p99", "sum"] {
        assert_eq!(w[0][name], s[0][name], "{name}");
    }
    let sd = |v: &Value| v[0]["sd"].as_f64().unwrap();
    assert!((sd(w) - sd(s)).abs() < 1e-12);
}

#[test]
fn a_series_that_comes_in_two_dtos_is_whole() {
    let run = Run::new();
    let run = run.dto("a").batch(&[series("d", "x", &[1.0, 2.0])]);
    let run = run.dto("b").batch(&[series("d", "x", &[3.0])]);
    let row = &answer(run).values["groups"][0];
    assert_eq!(row["count"], 3);
    assert_eq!(row["p50"], 2.0);
}

#[test]
fn marked_readings_are_counted_and_left_out_when_asked() {
    let rows = series("d", "x", &[1.0, 3.0]).marked(5 * SECOND, 999.0);
    let run = Run::new().batch(&[rows]);
    let with = answer(run.clone()).values["groups"][0].clone();
    assert_eq!(
        (&with["count"], &with["marked"]),
        (&Value::Int(3), &Value::Int(1))
    );
    assert_eq!(with["max"], 999.0);
    let without = answer(run.param("marked", "exclude")).values["groups"][0].clone();
    assert_eq!(
        (&without["count"], &without["marked"]),
        (&Value::Int(2), &Value::Int(1))
    );
    assert_eq!(
        (&without["max"], &without["p99"]),
        (&Value::Float(3.0), &Value::Float(2.98))
    );
}

#[test]
fn a_group_without_a_valid_reading_has_no_numbers() {
    let rows = Series::new("d", "k", "", "").marked(0, 1.0);
    let run = Run::new().batch(&[rows]).param("marked", "exclude");
    let row = answer(run).values["groups"][0].clone();
    assert_eq!(row["count"], 0);
    for name in ["min", "max", "mean", "sd", "p50"] {
        assert_eq!(row[name], Value::Null, "{name}");
    }
}

#[test]
fn without_data_there_are_no_groups() {
    let Value::Map(values) = answer(Run::new()).values else {
        panic!();
    };
    assert!(values.get("groups").is_none());
    assert_eq!(values["quantiles"], "exact");
}

#[test]
fn short_memory_leads_to_a_sketch_within_its_stated_error() {
    let values: Vec<f64> = (1..=200_000).map(|i| f64::from(i) / 10.0).collect();
    let run = in_two_batches(Run::new(), "d", &values);
    let run = run.batch(&[series("e", "x", &[5.0])]);
    let exact = answer(run.clone());
    assert_eq!(exact.values["quantiles"], "exact");
    let sketched = answer(run.memory(1024 * 1024));
    let how = &sketched.values["quantiles"];
    assert_eq!(how["sketch"], "ddsketch");
    assert_eq!(how["relative-error"], 0.004);
    assert_eq!(sketched.log.len(), 1, "said once");
    let (e, s) = (&exact.values["groups"][0], &sketched.values["groups"][0]);
    assert_eq!(s["exact"], Value::Bool(false));
    for name in ["p50", "p95", "p99"] {
        let (e, s) = (e[name].as_f64().unwrap(), s[name].as_f64().unwrap());
        assert!((e - s).abs() <= 0.004 * e, "{name}: {e} and {s}");
        assert_ne!(e, s);
    }
    assert_eq!(e["mean"], s["mean"]);
}

#[test]
fn a_series_that_comes_whole_needs_no_memory_for_its_values() {
    let values: Vec<f64> = (0..200_000).map(f64::from).rev().collect();
    let run = Run::new().batch(&[series("a", "x", &values), series("b", "x", &values)]);
    let answer = answer(run.memory(256 * 1024));
    assert_eq!(answer.values["quantiles"], "exact");
    assert_eq!(answer.values["groups"][1]["p50"], 99_999.5);
}

#[test]
fn values_are_the_same_whether_they_are_kept_or_not() {
    let values: Vec<f64> = (0..9999)
        .map(|i| f64::from(i * 7919 % 10_007) / 7.0)
        .collect();
    let whole = answer(Run::new().batch(&[series("d", "x", &values)]));
    let kept = answer(in_two_batches(Run::new(), "d", &values));
    let (w, k) = (&whole.values["groups"][0], &kept.values["groups"][0]);
    for name in ["count", "min", "max", "p50", "p95", "p99"] {
        assert_eq!(w[name], k[name], "{name}");
    }
}

#[test]
fn a_series_that_was_complete_before_memory_grew_short_stays_exact() {
    let long: Vec<f64> = (0..200_000).map(f64::from).collect();
    let run = Run::new().batch(&[series("a", "x", &[1.0, 2.0, 3.0])]);
    let run = in_two_batches(run, "b", &long).memory(1024 * 1024);
    let answer = answer(run);
    let groups = &answer.values["groups"];
    assert_eq!(
        (&groups[0]["exact"], &groups[0]["p50"]),
        (&Value::Bool(true), &Value::Float(2.0))
    );
    assert_eq!(groups[1]["exact"], Value::Bool(false));
    assert_eq!(answer.values["quantiles"]["groups"], 1);
}

#[test]
fn quantiles_are_named_by_their_percentage() {
    let list: Vec<Value> = [0.25, 0.999, 0.00001].map(Value::Float).to_vec();
    let run = Run::new().param("quantiles", Value::Array(list));
    let row = answer(run.batch(&[series("d", "x", &[1.0, 2.0, 3.0])]));
    let row = &row.values["groups"][0];
    assert_eq!(row["p25"], 1.5);
    assert!(row["p99.9"].as_f64().is_some() && row["p0.001"].as_f64().is_some());
}

#[test]
fn senseless_parameters_are_refused_by_name() {
    let refused = |name: &'static str, value: Value| match Run::new()
        .param(name, value)
        .answer::<Summary>()
    {
        Err(Failure::Abort(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refused("by", Value::Text("room".into()));
    assert!(
        text.contains("`by`") && text.contains("`location`"),
        "{text}"
    );
    for value in [0.0, 1.0, 0.123_456_7, -1.0] {
        assert!(refused("quantiles", Value::Float(value)).contains("`quantiles`"));
    }
    assert!(refused("quantile", Value::Float(0.5)).contains("`quantile` is unknown"));
}
