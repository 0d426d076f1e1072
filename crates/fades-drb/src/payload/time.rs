//! Times in messages.

use serde_json::{Number, Value};

use crate::config::TimeForm;

const SECOND: i64 = 1_000_000_000;

/// ns since 1970 UTC, if `value` is a time in that form and can be represented.
pub(super) fn read(value: &Value, form: TimeForm) -> Option<i64> {
    let unit = match form {
        TimeForm::Auto => None,
        TimeForm::UnixS => Some(SECOND),
        TimeForm::UnixMs => Some(1_000_000),
        TimeForm::UnixUs => Some(1_000),
        TimeForm::UnixNs => Some(1),
    };
    match (value, unit) {
        (Value::Number(number), unit) => counted(number, unit),
        (Value::String(text), None) => date(text),
        (Value::String(text), unit) => counted(&text.trim().parse().ok()?, unit),
        _ => None,
    }
}

/// RFC 3339, with an offset.
fn date(text: &str) -> Option<i64> {
    let stamp: jiff::Timestamp = text.trim().parse().ok()?;
    i64::try_from(stamp.as_nanosecond()).ok()
}

/// A count of `unit` ns.
fn counted(number: &Number, unit: Option<i64>) -> Option<i64> {
    if let Some(whole) = number.as_i64() {
        return whole.checked_mul(unit.unwrap_or_else(|| likely(whole as f64)));
    }
    let count = number.as_f64()?;
    nanoseconds(count, unit.unwrap_or_else(|| likely(count)))
}

/// The unit, in ns, that puts a count into the years 1973 to 5138.
fn likely(count: f64) -> i64 {
    match count.abs() {
        s if s < 1e11 => SECOND,
        ms if ms < 1e14 => 1_000_000,
        us if us < 1e17 => 1_000,
        _ => 1,
    }
}

/// A count with decimals; digits below 1 us, which a number of this size does not
/// have, are rounded.
pub(super) fn nanoseconds(count: f64, unit: i64) -> Option<i64> {
    let us = (count * (unit as f64 / 1e3)).round();
    // The largest count of us whose ns fit into 64 bits.
    (us.abs() < 9.2e15).then(|| us as i64 * 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;
    use crate::config::TimeForm::{Auto, UnixMs, UnixNs, UnixS, UnixUs};

    #[test]
    fn a_time_is_read_in_whatever_form_it_is_written() {
        let expected = Some(1_700_000_000_250_000_000);
        for (value, form) in [
            (json!("2023-11-14T22:13:20.25Z"), Auto),
            (json!("2023-11-14T23:13:20.250+01:00"), Auto),
            (json!(1_700_000_000.25), Auto),
            (json!(1_700_000_000_250_i64), Auto),
            (json!(1_700_000_000_250_000_i64), Auto),
            (json!(1_700_000_000_250_000_000_i64), Auto),
            (json!(1_700_000_000.25), UnixS),
            (json!("1700000000.25"), UnixS),
            (json!(1_700_000_000_250_i64), UnixMs),
            (json!(1_700_000_000_250_000_i64), UnixUs),
            (json!(1_700_000_000_250_000_000_i64), UnixNs),
        ] {
            assert_eq!(read(&value, form), expected, "{value} {form:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for value in [
            json!("yesterday"),
            json!("2023-11-14T22:13:20"),
            json!(1e300),
            json!(null),
            json!(true),
            json!([1]),
        ] {
            assert_eq!(read(&value, Auto), None, "{value}");
        }
        assert_eq!(read(&json!(i64::MAX), UnixS), None);
        assert_eq!(read(&json!("x"), UnixS), None);
    }
}
