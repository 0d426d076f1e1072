use fades_sdk::context::SECOND;
use fades_sdk::testing::{Answer, Failure, Run, Series};

use super::*;

const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Readings every ten minutes of the hours `hours`.
fn readings(kind: &str, location: &str, hours: core::ops::Range<i64>, value: f64) -> Series {
    let times = (hours.start * 6..hours.end * 6).map(|i| i * HOUR / 6);
    Series::new("d", kind, "ug/m3", location).rows(times.map(|t| (t, value)))
}

fn answer(run: Run) -> Answer {
    run.answer::<AirQuality>().unwrap()
}

fn rows(answer: &Answer, name: &str) -> Vec<Value> {
    let Value::Map(values) = &answer.values else {
        panic!()
    };
    match values.get(name) {
        Some(Value::Array(rows)) => rows.clone(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_day_has_the_index_of_its_worse_kind() {
    let batch = [
        readings("pm10", "aberdeen/1", 0..24, 70.0),
        readings("pm2.5", "aberdeen/1", 0..24, 20.0),
    ];
    let answer = answer(Run::new().batch(&batch));
    let days = rows(&answer, "days");
    let [day] = &days[..] else { panic!("{days:?}") };
    assert_eq!(
        (&day["location"], &day["day"]),
        (&Value::from("aberdeen/1"), &Value::from("1970-01-01"))
    );
    assert_eq!(
        (&day["pm2.5"], &day["pm10"]),
        (&Value::Float(20.0), &Value::Float(70.0))
    );
    assert_eq!(
        (&day["aqi"], &day["by"]),
        (&Value::Int(71), &Value::from("pm2.5"))
    );
    assert_eq!(day["category"], "moderate");
    let sums = &rows(&answer, "locations")[0];
    assert_eq!(
        (&sums["pm2.5-days"], &sums["pm2.5-above-who"]),
        (&Value::Int(1), &Value::Int(1))
    );
    assert_eq!(
        (&sums["pm10-days"], &sums["pm10-above-who"]),
        (&Value::Int(1), &Value::Int(1))
    );
    assert_eq!(sums["aqi-max"], 71);
    assert_eq!(answer.values["used"], 288);
}

#[test]
fn a_day_needs_eighteen_of_its_hours() {
    let with = |hours: i64| {
        let answer = answer(Run::new().batch(&[readings("pm10", "x", 0..hours, 10.0)]));
        let sums = rows(&answer, "locations")[0].clone();
        (rows(&answer, "days").len(), sums["pm10-incomplete"].clone())
    };
    assert_eq!(with(17), (0, Value::Int(1)));
    assert_eq!(with(18), (1, Value::Int(0)));
}

#[test]
fn a_day_of_23_hours_needs_eighteen_and_one_of_25_nineteen() {
    let with = |zone: &Zone, hours: i64| {
        let run = Run::new().zone(zone.clone());
        let answer = answer(run.batch(&[readings("pm10", "x", 0..hours, 10.0)]));
        rows(&answer, "days").len()
    };
    let spring = Zone::new("X", vec![(i64::MIN, 0), (HOUR, 3600)]).unwrap();
    assert_eq!((with(&spring, 17), with(&spring, 18)), (0, 1));
    // Midnight is at 23:00Z of the day before: the hours given are 1 to 24.
    let autumn = Zone::new("X", vec![(i64::MIN, 3600), (HOUR, 0)]).unwrap();
    assert_eq!((with(&autumn, 18), with(&autumn, 19)), (0, 1));
}

#[test]
fn an_hour_needs_three_of_its_quarters_unless_told_otherwise() {
    let once = |offsets: &[i64]| {
        let times = (0..24).flat_map(|h| offsets.iter().map(move |o| h * HOUR + o * HOUR / 60));
        Series::new("d", "pm10", "ug/m3", "x").rows(times.map(|t| (t, 10.0)))
    };
    let days = |run: Run| rows(&answer(run), "days").len();
    let half = Run::new().batch(&[once(&[0, 5, 14, 20, 29])]);
    assert_eq!(days(half.clone()), 0);
    assert_eq!(days(half.param("quarters", 2)), 1);
    assert_eq!(days(Run::new().batch(&[once(&[0, 20, 40])])), 1);
    let hourly = Run::new().batch(&[once(&[30])]);
    assert_eq!(days(hourly.clone()), 0);
    assert_eq!(days(hourly.param("quarters", 1)), 1);
}

#[test]
fn the_mean_of_a_day_is_that_of_its_hours_not_of_its_readings() {
    // One hour with ten times the readings counts as one hour.
    let many = (0..600).map(|i| (i * 6 * SECOND, 100.0));
    let dense = Series::new("e", "pm10", "ug/m3", "x").rows(many);
    let batch = [dense, readings("pm10", "x", 1..24, 4.0)];
    let answer = answer(Run::new().batch(&batch));
    let mean = rows(&answer, "days")[0]["pm10"].as_f64().unwrap();
    assert!((mean - (100.0 + 23.0 * 4.0) / 24.0).abs() < 1e-12, "{mean}");
}

#[test]
fn devices_of_a_location_are_averaged_and_locations_kept_apart() {
    let mut other = readings("pm10", "x", 0..24, 30.0);
    other.device = "e".into();
    let batch = [readings("pm10", "x", 0..24, 10.0), other];
    let run = Run::new()
        .batch(&batch)
        .batch(&[readings("pm10", "a", 0..24, 1.0)]);
    let days = rows(&answer(run), "days");
    let found: Vec<_> = days.iter().map(|d| (&d["location"], &d["pm10"])).collect();
    let expected = [
        (&Value::from("a"), &Value::Float(1.0)),
        (&Value::from("x"), &Value::Float(20.0)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn marked_readings_are_left_out_unless_told_otherwise() {
    let batch = [readings("pm10", "x", 0..24, 10.0).marked(24 * HOUR - 1, 1000.0)];
    let run = Run::new().batch(&batch);
    let without = answer(run.clone());
    assert_eq!(rows(&without, "days")[0]["pm10"], 10.0);
    assert_eq!(
        (&without.values["used"], &without.values["marked"]),
        (&Value::Int(144), &Value::Int(1))
    );
    let with = answer(run.param("marked", "include"));
    assert!(rows(&with, "days")[0]["pm10"].as_f64().unwrap() > 10.0);
    assert_eq!(with.values["used"], 145);
}

#[test]
fn days_follow_the_zone() {
    let zone = Zone::new("Asia/Kolkata", vec![(i64::MIN, 5 * 3600 + 1800)]).unwrap();
    let run = Run::new()
        .zone(zone)
        .batch(&[readings("pm2.5", "x", 0..48, 5.0)]);
    let answer = answer(run);
    let days: Vec<_> = rows(&answer, "days")
        .iter()
        .map(|d| d["day"].clone())
        .collect();
    // 05:30 of the first to 05:30 of the third: 19 valid hours on the first.
    assert_eq!(days, [Value::from("1970-01-01"), Value::from("1970-01-02")]);
    assert_eq!(answer.values["zone"], "Asia/Kolkata");
}

#[test]
fn without_the_list_only_the_sums_are_answered() {
    let run = Run::new().batch(&[readings("pm10", "x", 0..240, 46.0)]);
    let answer = answer(run.param("days", "count"));
    assert!(rows(&answer, "days").is_empty());
    assert_eq!(rows(&answer, "locations")[0]["pm10-above-who"], 10);
}

#[test]
fn other_kinds_are_counted_and_other_units_refused() {
    let other = Series::new("d", "humidity", "%", "x").row(DAY, 50.0);
    assert_eq!(answer(Run::new().batch(&[other])).values["other-kinds"], 1);
    let bare = Series::new("d", "pm10", "", "x").row(DAY, 50.0);
    let bare = answer(Run::new().batch(&[bare])).values;
    assert_eq!(
        (&bare["without-unit"], &bare["used"]),
        (&Value::Int(1), &Value::Int(1))
    );
    let wrong = Series::new("d", "pm10", "mg/m3", "x").row(0, 0.05);
    let Err(Failure::Abort(text)) = Run::new().batch(&[wrong]).answer::<AirQuality>() else {
        panic!();
    };
    assert!(
        text.contains("`mg/m3`") && text.contains("`ug/m3`"),
        "{text}"
    );
    let refused = Run::new().param("quarters", 5).answer::<AirQuality>();
    assert!(matches!(refused, Err(Failure::Abort(text)) if text.contains("`quarters`")));
}
