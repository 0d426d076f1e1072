//! Numbers with as many digits as help.

use fades_task::time::Time;

/// Digits of the largest number of a column that are shown.
const DIGITS: i32 = 6;

/// A column of floats with one number of decimals: as many as the largest
/// needs for six digits, fewer when all the rest are zeros.
pub(crate) fn column(values: &[f64]) -> Vec<String> {
    let largest = values
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest != 0.0 && !(1e-4..1e15).contains(&largest) {
        return values.iter().map(|v| format!("{v:e}")).collect();
    }
    let whole = if largest < 1.0 {
        1
    } else {
        largest.log10().floor() as i32 + 1
    };
    let most = (DIGITS - whole).clamp(0, DIGITS) as usize;
    let shown: Vec<String> = values.iter().map(|v| format!("{v:.most$}")).collect();
    let zeros = |text: &String| text.len() - text.trim_end_matches('0').len();
    let spare = shown.iter().map(zeros).min().unwrap_or(0).min(most);
    let decimals = most - spare;
    values.iter().map(|v| format!("{v:.decimals$}")).collect()
}

/// One float.
pub(crate) fn float(value: f64) -> String {
    column(&[value]).pop().unwrap_or_default()
}

/// A count with its thousands apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in the unit that suits it.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", three_digits(us as f64 / 1e3)),
        1_000_000..120_000_000 => format!("{} s", three_digits(us as f64 / 1e6)),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

/// A number of bytes in the unit that suits it.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{n} B"),
        _ => format!("{} {unit}", three_digits(value)),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A time to the second.
pub(crate) fn moment(time: Time) -> String {
    let second = Time(time.0 - time.0.rem_euclid(1_000_000_000));
    second.to_string().replace('T', " ").replace('Z', "")
}

#[cfg(test)]
mod tests {
    use super::{bytes, column, count, float, micros, moment};

    #[test]
    fn a_column_has_one_number_of_decimals_and_no_spare_zeros() {
        assert_eq!(column(&[1.5, 20.25, 300.0]), ["1.50", "20.25", "300.00"]);
        assert_eq!(column(&[1.0, 2.0]), ["1", "2"]);
        assert_eq!(column(&[1999.9, 0.123_456]), ["1999.90", "0.12"]);
        assert_eq!(column(&[0.000_123_4]), ["0.00012"]);
        assert_eq!(column(&[1e20, 1.0]), ["1e20", "1e0"]);
        assert_eq!(column(&[0.0]), ["0"]);
        assert_eq!(float(12.345_678_9), "12.3457");
        assert_eq!(column(&[100.0, 200.0]), ["100", "200"]);
    }

    #[test]
    fn counts_times_and_sizes_are_readable() {
        assert_eq!(count(4_377_761), "4,377,761");
        assert_eq!(count(999), "999");
        assert_eq!(micros(749), "749 us");
        assert_eq!(micros(1_500), "1.5 ms");
        assert_eq!(micros(12_340_000), "12.3 s");
        assert_eq!(micros(190_000_000), "3 min 10 s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
    }

    #[test]
    fn a_moment_is_shown_to_the_second() {
        let time = "2026-11-02T12:00:00.987Z".parse().unwrap();
        assert_eq!(moment(time), "2026-11-02 12:00:00");
    }
}
