//! Times as loggers write them.
//!
//! A time that names neither offset nor zone is read in the zone configured.
//! When clocks are put back, an hour exists twice and the *earlier* one is
//! meant; when they are put forward, an hour does not exist and times in it
//! count on with the old offset (what RFC 5545 says).

use fades_task::time::Zone;
use jiff::civil;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;

use crate::config::FieldError;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// How times are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClockFormat {
    form: Form,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Year, month, day; perhaps hour, minute, second, fraction; perhaps an offset.
    Auto,
    /// A count since 1970 UTC, in units of so many ns.
    Unix(i64),
    /// Directives of `strptime`.
    Pattern(String),
}

impl ClockFormat {
    pub(crate) fn compile(format: &str, zone: &Zone) -> Result<Self, FieldError> {
        let form = match format {
            "auto" => Form::Auto,
            "unix-s" => Form::Unix(SECOND),
            "unix-ms" => Form::Unix(1_000_000),
            "unix-us" => Form::Unix(1_000),
            "unix-ns" => Form::Unix(1),
            pattern => {
                checked(pattern).map_err(|reason| {
                    let reason = format!(
                        "{pattern:?}: {reason}; write \"auto\", \"unix-s\", \"unix-ms\", \"unix-us\", \
                         \"unix-ns\" or directives such as \"%d/%m/%Y %H:%M:%S\""
                    );
                    FieldError::new("time.format", reason)
                })?;
                Form::Pattern(pattern.to_owned())
            }
        };
        // The zone was checked when the configuration was read.
        let zone = TimeZone::get(zone.name()).unwrap_or(TimeZone::UTC);
        Ok(Self { form, zone })
    }

    /// A reader, which remembers the last day.
    pub(crate) const fn clock(&self) -> Clock<'_> {
        Clock {
            format: self,
            day: None,
        }
    }
}

/// Whether a pattern can say a point in time: writes one and reads it back.
fn checked(pattern: &str) -> Result<(), String> {
    if !pattern.contains('%') {
        return Err("it has no directive".to_owned());
    }
    let sample = civil::date(2004, 3, 10)
        .at(18, 30, 0, 0)
        .to_zoned(TimeZone::UTC)
        .map_err(|e| e.to_string())?;
    let text = strtime::format(pattern, &sample).map_err(|e| e.to_string())?;
    patterned(pattern, &text, &TimeZone::UTC)
        .map(drop)
        .ok_or_else(|| "it does not say year, month and day".to_owned())
}

/// Reads times one after the other.
#[derive(Debug)]
pub(crate) struct Clock<'a> {
    format: &'a ClockFormat,
    day: Option<Day>,
}

/// The day that was read last: most rows share theirs with the row before.
#[derive(Debug, Clone, Copy)]
struct Day {
    text: [u8; 10],
    date: civil::Date,
    /// Midnight as if the zone were UTC, ns since 1970.
    midnight: i64,
    /// ns east of UTC, when the offset holds for the whole day.
    offset: Option<i64>,
}

impl Clock<'_> {
    /// The time that `text` (without blanks around it) means, ns since 1970
    /// UTC, if it is one and can be represented.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<i64> {
        match &self.format.form {
            Form::Auto => self.auto(text),
            Form::Unix(unit) => counted(text, *unit),
            Form::Pattern(pattern) => {
                patterned(pattern, std::str::from_utf8(text).ok()?, &self.format.zone)
            }
        }
    }

    fn auto(&mut self, text: &[u8]) -> Option<i64> {
        let (date, rest) = text.split_first_chunk::<10>()?;
        let day = match self.day {
            Some(day) if day.text == *date => day,
            _ => *self.day.insert(day(date, &self.format.zone)?),
        };
        let Some((b'T' | b't' | b' ', rest)) = rest.split_first() else {
            return rest.is_empty().then(|| self.local(day, 0)).flatten();
        };
        let (of_day, rest) = time_of_day(rest)?;
        match offset(rest)? {
            Some(offset) => day.midnight.checked_add(of_day)?.checked_sub(offset),
            None => self.local(day, of_day),
        }
    }

    /// `of_day` ns after midnight by the wall clock of the zone.
    fn local(&self, day: Day, of_day: i64) -> Option<i64> {
        let wall = day.midnight.checked_add(of_day)?;
        match day.offset {
            Some(offset) => wall.checked_sub(offset),
            None => {
                let of_day =
                    civil::Time::midnight().wrapping_add(jiff::SignedDuration::from_nanos(of_day));
                zoned(day.date.to_datetime(of_day), &self.format.zone)
            }
        }
    }
}

fn day(text: &[u8; 10], zone: &TimeZone) -> Option<Day> {
    let [y1, y2, y3, y4, s1, m1, m2, s2, d1, d2] = *text;
    if s1 != s2 || !matches!(s1, b'-' | b'/') {
        return None;
    }
    let year = i16::from(two(y1, y2)?) * 100 + i16::from(two(y3, y4)?);
    let date = civil::Date::new(year, two(m1, m2)?, two(d1, d2)?).ok()?;
    let midnight = zoned(date.to_datetime(civil::Time::midnight()), &TimeZone::UTC)?;
    Some(Day {
        text: *text,
        date,
        midnight,
        offset: offset_all_day(date, zone),
    })
}

/// The offset (ns east) that holds from midnight to midnight, if one does.
fn offset_all_day(date: civil::Date, zone: &TimeZone) -> Option<i64> {
    let start = zone
        .to_ambiguous_timestamp(date.to_datetime(civil::Time::midnight()))
        .unambiguous()
        .ok()?;
    let offset = i64::from(zone.to_offset(start).seconds()) * SECOND;
    let end = i64::try_from(start.as_nanosecond())
        .ok()?
        .checked_add(DAY)?;
    let changes = zone
        .following(start)
        .next()
        .is_some_and(|t| t.timestamp().as_nanosecond() <= end.into());
    (!changes).then_some(offset)
}

fn zoned(local: civil::DateTime, zone: &TimeZone) -> Option<i64> {
    let stamp = zone.to_ambiguous_timestamp(local).compatible().ok()?;
    i64::try_from(stamp.as_nanosecond()).ok()
}

/// Two digits.
fn two(a: u8, b: u8) -> Option<i8> {
    (a.is_ascii_digit() && b.is_ascii_digit()).then(|| ((a - b'0') * 10 + (b - b'0')) as i8)
}

/// `HH:MM`, `HH:MM:SS` or with a fraction; ns after midnight, and what follows.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[h1, h2, b':', m1, m2], rest) = text.split_first_chunk()? else {
        return None;
    };
    let (hour, minute) = (i64::from(two(h1, h2)?), i64::from(two(m1, m2)?));
    let (second, rest) = match rest.split_first_chunk() {
        Some((&[b':', s1, s2], rest)) => (i64::from(two(s1, s2)?), rest),
        _ => (0, rest),
    };
    // A leap second counts as the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = match rest.split_first() {
        Some((b'.' | b',', rest)) => fraction(rest, SECOND)?,
        _ => (0, rest),
    };
    Some((
        (hour * 3600 + minute * 60 + second) * SECOND + fraction,
        rest,
    ))
}

/// Digits after a decimal point, in units of `unit` ns; digits below 1 ns are
/// cut. At least one digit.
fn fraction(text: &[u8], unit: i64) -> Option<(i64, &[u8])> {
    let n = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if n == 0 {
        return None;
    }
    let (digits, rest) = text.split_at(n);
    let (mut value, mut scale) = (0, unit);
    for digit in digits {
        scale /= 10;
        value += i64::from(digit - b'0') * scale;
    }
    Some((value, rest))
}

/// `Z`, `+HH:MM`, `+HHMM` or `+HH`: ns east of UTC; nothing: `Some(None)`.
#[expect(clippy::option_option, reason = "absent and malformed differ")]
fn offset(text: &[u8]) -> Option<Option<i64>> {
    let (sign, digits) = match text {
        [] => return Some(None),
        b"Z" | b"z" => return Some(Some(0)),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h2] => (two(h1, h2)?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (two(h1, h2)?, two(m1, m2)?),
        _ => return None,
    };
    let valid = hours < 26 && minutes < 60;
    valid.then(|| Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60) * SECOND))
}

/// A decimal count of `unit` ns.
fn counted(text: &[u8], unit: i64) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        _ => (false, text),
    };
    let n = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (whole, rest) = digits.split_at(n);
    let whole: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
    let part = match rest.split_first() {
        None => 0,
        Some((b'.', rest)) => match fraction(rest, unit)? {
            (part, []) => part,
            _ => return None,
        },
        Some(_) => return None,
    };
    let ns = whole.checked_mul(unit)?.checked_add(part)?;
    Some(if negative { -ns } else { ns })
}

fn patterned(pattern: &str, text: &str, zone: &TimeZone) -> Option<i64> {
    let parsed = BrokenDownTime::parse(pattern, text).ok()?;
    if parsed.timestamp().is_some() || parsed.offset().is_some() {
        return i64::try_from(parsed.to_timestamp().ok()?.as_nanosecond()).ok();
    }
    let date = parsed.to_date().ok()?;
    let time = match parsed.hour() {
        Some(_) => parsed.to_time().ok()?,
        None => civil::Time::midnight(),
    };
    zoned(date.to_datetime(time), zone)
}

#[cfg(test)]
mod tests {
    use super::ClockFormat;
    use fades_task::time::Time;
    use proptest::prelude::{any, proptest};

    fn read(format: &str, zone: &str, text: &str) -> Option<String> {
        let format = ClockFormat::compile(format, &zone.parse().unwrap()).unwrap();
        let time = format.clock().read(text.as_bytes());
        time.map(|t| Time(t).to_string())
    }

    #[test]
    fn rfc_3339_and_its_relatives_are_read() {
        for (text, time) in [
            ("2018-01-02T03:04:05", "2018-01-02T03:04:05Z"),
            ("2018-01-02 03:04:05.25", "2018-01-02T03:04:05.25Z"),
            ("2018/01/02 03:04", "2018-01-02T03:04:00Z"),
            ("2018-01-02", "2018-01-02T00:00:00Z"),
            ("2018-01-02T03:04:05Z", "2018-01-02T03:04:05Z"),
            (
                "2018-01-02T03:04:05.123456789999+02:00",
                "2018-01-02T01:04:05.123456789Z",
            ),
            ("2018-01-02T03:04:05-0130", "2018-01-02T04:34:05Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("1960-02-29T00:00:01", "1960-02-29T00:00:01Z"),
        ] {
            assert_eq!(read("auto", "UTC", text).as_deref(), Some(time), "{text}");
        }
        for text in [
            "",
            "2018",
            "2018-02-30",
            "2018-1-2",
            "2018-01-02X03:04",
            "2018-01-02T25:00",
            "2018-01-02T03:60",
            "2018-01-02T03:04:05.",
            "2018-01-02T03:04:05+1",
            "2018-01-02T",
            "2018-01/02",
            "9999-01-01",
            "1500-01-01",
            "2018-01-02T03:04:05Zx",
        ] {
            assert_eq!(read("auto", "UTC", text), None, "{text}");
        }
    }

    #[test]
    fn an_hour_that_exists_twice_is_the_earlier_and_one_that_does_not_counts_on() {
        for (text, time) in [
            ("2018-03-24T12:00", "2018-03-24T12:00:00Z"),
            ("2018-03-25T00:59", "2018-03-25T00:59:00Z"),
            ("2018-03-25T01:30", "2018-03-25T01:30:00Z"),
            ("2018-03-25T02:30", "2018-03-25T01:30:00Z"),
            ("2018-07-01T12:00", "2018-07-01T11:00:00Z"),
            ("2018-10-28T01:30", "2018-10-28T00:30:00Z"),
            ("2018-10-28T02:00", "2018-10-28T02:00:00Z"),
            ("2018-10-28T01:30Z", "2018-10-28T01:30:00Z"),
        ] {
            assert_eq!(
                read("auto", "Europe/London", text).as_deref(),
                Some(time),
                "{text}"
            );
        }
    }

    #[test]
    fn counts_since_1970_are_exact() {
        for (format, text, ns) in [
            ("unix-s", "1163438041.25", Some(1_163_438_041_250_000_000)),
            ("unix-ms", "1163438041250", Some(1_163_438_041_250_000_000)),
            ("unix-us", "-1", Some(-1_000)),
            ("unix-ns", "7", Some(7)),
            ("unix-s", "9999999999999", None),
            ("unix-s", "1e9", None),
            ("unix-s", "", None),
            ("unix-s", "1.", None),
        ] {
            let format = ClockFormat::compile(format, &"UTC".parse().unwrap()).unwrap();
            assert_eq!(format.clock().read(text.as_bytes()), ns, "{text}");
        }
    }

    #[test]
    fn patterns_are_read_in_the_zone_unless_they_name_an_offset() {
        let split = "%d/%m/%Y %H.%M.%S";
        let rome = read(split, "Europe/Rome", "10/03/2004 18.00.00");
        assert_eq!(rome.as_deref(), Some("2004-03-10T17:00:00Z"));
        let offset = read("%Y%m%d %H%M %z", "Europe/Rome", "20040310 1800 -0100");
        assert_eq!(offset.as_deref(), Some("2004-03-10T19:00:00Z"));
        let day = read("%d.%m.%Y", "UTC", "10.03.2004");
        assert_eq!(day.as_deref(), Some("2004-03-10T00:00:00Z"));
        assert_eq!(read(split, "UTC", "10/13/2004 18.00.00"), None);
    }

    #[test]
    fn a_format_that_says_no_time_is_refused_by_name() {
        for bad in ["iso", "%H:%M", "%Q9", "%"] {
            let error = ClockFormat::compile(bad, &"UTC".parse().unwrap()).unwrap_err();
            assert_eq!(error.field, "time.format");
            assert!(error.reason.contains(bad), "{}", error.reason);
        }
    }

    proptest! {
        #[test]
        fn what_this_project_writes_is_read_back(ns in any::<i64>()) {
            let format = ClockFormat::compile("auto", &"Asia/Kolkata".parse().unwrap()).unwrap();
            let text = Time(ns).to_string();
            assert_eq!(format.clock().read(text.as_bytes()), Some(ns), "{text}");
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in any::<Vec<u8>>()) {
            for format in ["auto", "unix-s", "%d/%m/%Y %H.%M.%S"] {
                let format = ClockFormat::compile(format, &"UTC".parse().unwrap()).unwrap();
                let _ = format.clock().read(&text);
            }
        }
    }
}
