use fades_sdk::prelude::*;
use fades_sdk::testing::{Answer, Run, Series};

use crate::Cusum;

const MINUTE: i64 = 60_000_000_000;

/// A reading a minute: a level, and a wobble of deviation 1 around it.
fn hall(levels: impl IntoIterator<Item = (i64, f64)>) -> Series {
    let wobble = |i: i64| if i % 2 == 0 { 1.0 } else { -1.0 };
    let rows = levels.into_iter();
    let rows = rows.map(|(i, level)| (i * MINUTE, level + wobble(i)));
    Series::new("board-1", "temperature", "Cel", "hall").rows(rows)
}

fn shifts(answer: &Answer) -> Vec<(i64, i64, String)> {
    let Value::Map(values) = &answer.values else {
        panic!("{answer:?}");
    };
    let Some(Value::Array(rows)) = values.get("shifts") else {
        return Vec::new();
    };
    let row = |row: &Value| {
        let time = |name: &str| match row[name] {
            Value::Int(time) => time / MINUTE,
            ref other => panic!("{other:?}"),
        };
        let direction = row["direction"].as_str().unwrap().to_owned();
        (time("time"), time("since"), direction)
    };
    rows.iter().map(row).collect()
}

/// 20 readings to learn from, then 20, then 20 that are higher by three deviations.
fn climb(i: i64) -> (i64, f64) {
    (i, if i < 40 { 20.0 } else { 23.0 })
}

fn run() -> Run {
    Run::new().param("learn", 20)
}

#[test]
fn a_shift_is_told_soon_after_it_happened_and_learned_anew() {
    let answer = run().batch(&[hall((0..100).map(climb))]);
    let answer = answer.answer::<Cusum>().unwrap();
    // The sum of z − 0.5 is 3.4, 4.8, 8.2.
    assert_eq!(shifts(&answer), [(42, 40, "up".to_owned())]);
    assert_eq!(answer.values["learning"], 0);
    assert_eq!(answer.values["used"], 100);
    let fall = (0..100).map(|i| (i, if i < 40 { 20.0 } else { 14.0 }));
    let answer = run().batch(&[hall(fall)]).answer::<Cusum>().unwrap();
    assert_eq!(shifts(&answer)[0].2, "down");
}

#[test]
fn what_does_not_shift_is_not_told() {
    let answer = run().batch(&[hall((0..10_000).map(|i| (i, 20.0)))]);
    let answer = answer.answer::<Cusum>().unwrap();
    assert_eq!(shifts(&answer), []);
    // A series that never changes, until it does.
    let flat = (0..100).map(|i| (i * MINUTE, if i < 60 { 5.0 } else { 5.1 }));
    let flat = Series::new("board-2", "door", "", "hall").rows(flat);
    let answer = run().batch(&[flat]).answer::<Cusum>().unwrap();
    assert_eq!(shifts(&answer), [(60, 60, "up".to_owned())]);
}

#[test]
fn a_life_that_was_interrupted_answers_as_one_that_was_not() {
    let window = |run: Run, n: i64| {
        let rows = hall((10 * n..10 * (n + 1)).map(climb));
        let (from, to) = (10 * n * MINUTE, 10 * (n + 1) * MINUTE);
        let id = n as u64;
        run.batch(&[rows]).window_end(id, from, to).save()
    };
    let whole = (0..10).fold(run(), window).answer::<Cusum>().unwrap();
    for cut in 1..10 {
        let first = (0..cut).fold(run(), window).answer::<Cusum>().unwrap();
        let checkpoint = first.checkpoints.last().unwrap();
        let second = run().restore(checkpoint);
        let second = (cut..10).fold(second, window).answer::<Cusum>().unwrap();
        let windows = [first.windows, second.windows].concat();
        assert_eq!(windows, whole.windows);
        assert_eq!(second.checkpoints.last(), whole.checkpoints.last());
    }
    let told: Vec<_> = whole.windows.iter().flat_map(shifts).collect();
    assert_eq!(told, [(42, 40, "up".to_owned())]);
}

#[test]
fn readings_of_windows_that_overlap_count_once() {
    let twice = run().batch(&[hall((0..50).map(climb))]);
    let twice = twice
        .window_end(1, 0, 1)
        .batch(&[hall((25..100).map(climb))]);
    let twice = twice.window_end(2, 0, 1).answer::<Cusum>().unwrap();
    assert_eq!(twice.windows[1].values["used"], 50);
    assert_eq!(twice.windows[1].values["repeated"], 25);
    let told: Vec<_> = twice.windows.iter().flat_map(shifts).collect();
    assert_eq!(told, [(42, 40, "up".to_owned())]);
}

#[test]
fn series_that_come_later_do_not_take_the_shifts_of_others() {
    let other = Series::new("board-0", "temperature", "Cel", "hall");
    let batches = run().batch(&[hall((0..60).map(climb))]);
    let answer = batches
        .batch(&[other.row(0, 1.0)])
        .answer::<Cusum>()
        .unwrap();
    assert_eq!(answer.values["shifts"][0]["device"], "board-1");
    assert_eq!(answer.values["series"], 2);
    assert_eq!(answer.values["learning"], 2, "one new, one at a new level");
}

#[test]
fn a_checkpoint_of_something_else_and_senseless_parameters_are_refused() {
    for bytes in [&b""[..], b"x", &[2, 0, 0, 0], &[1, 0, 0, 0, 9]] {
        let failed = run().restore(bytes).answer::<Cusum>().unwrap_err();
        assert!(format!("{failed:?}").contains("none of this function"));
    }
    for (name, value) in [("learn", 7.0), ("shift", 0.0), ("decide", -1.0)] {
        let run = match name {
            "learn" => Run::new().param(name, 7),
            _ => Run::new().param(name, value),
        };
        let failed = run.answer::<Cusum>().unwrap_err();
        assert!(format!("{failed:?}").contains(name), "{failed:?}");
    }
}
