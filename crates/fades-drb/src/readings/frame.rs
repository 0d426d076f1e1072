//! Frames of the head: bytes ⇄ what they say.
//!
//! ```text
//! frame   = length of the body (u32) · CRC-32 of the body (u32) · body
//! body    = 0 · time of the last arrival (i64) · series · readings
//!         | 1 · time of a clean end (i64)
//! series  = count · (device, location, kind, unit)*    numbered on from those before
//! reading = series number and flags · time since the one before · value · mark
//! ```
//! Numbers are little-endian; counts, numbers, times and lengths of texts are
//! variable in length. A value that is a whole number of thousandths is written
//! as such, which takes two or three bytes instead of eight.

use std::sync::Arc;

use crate::series::SeriesKey;

/// A reading in a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) time: i64,
    pub(super) value: f64,
    pub(super) series: u32,
    pub(super) mark: u8,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Rows {
        /// When the last of them arrived, ns since 1970 UTC.
        at: i64,
        series: Vec<SeriesKey>,
        rows: Vec<Row>,
    },
    /// The broker ended, and wrote everything before.
    Closed { at: i64 },
}

/// Most bytes of a body: what claims to be longer is none.
const LONGEST: usize = 64 << 20;

/// Before a body.
const PREFIX: usize = 8;

const ROWS: u8 = 0;
const CLOSED: u8 = 1;

const MARKED: u64 = 1;
const THOUSANDTHS: u64 = 2;
const FLAGS: u32 = 2;

/// Adds a frame of readings. `number` gives the number in the file of a series.
pub(super) fn put_rows<'a>(
    out: &mut Vec<u8>,
    at: i64,
    series: &[&SeriesKey],
    rows: impl ExactSizeIterator<Item = &'a Row>,
    number: impl Fn(u32) -> u32,
) {
    put(out, |out| {
        out.push(ROWS);
        out.extend(at.to_le_bytes());
        put_number(out, series.len() as u64);
        for key in series {
            for text in [&key.device, &key.location, &key.kind, &key.unit] {
                put_number(out, text.len() as u64);
                out.extend(text.as_bytes());
            }
        }
        put_number(out, rows.len() as u64);
        let mut before = 0_i64;
        for row in rows {
            put_row(out, row, number(row.series), &mut before);
        }
    });
}

fn put_row(out: &mut Vec<u8>, row: &Row, number: u32, before: &mut i64) {
    let thousandths = (row.value * 1e3).round();
    // By way of an integer, which has no negative zero.
    let back = thousandths as i64 as f64 / 1e3;
    let short = thousandths.abs() < 1e12 && back.to_bits() == row.value.to_bits();
    let marked = if row.mark == 0 { 0 } else { MARKED };
    let short_flag = if short { THOUSANDTHS } else { 0 };
    put_number(out, u64::from(number) << FLAGS | marked | short_flag);
    put_number(out, zigzag(row.time.wrapping_sub(*before)));
    *before = row.time;
    if short {
        put_number(out, zigzag(thousandths as i64));
    } else {
        out.extend(row.value.to_le_bytes());
    }
    if row.mark != 0 {
        out.push(row.mark);
    }
}

/// Adds the last frame of a broker that ends.
pub(super) fn put_closed(out: &mut Vec<u8>, at: i64) {
    put(out, |out| {
        out.push(CLOSED);
        out.extend(at.to_le_bytes());
    });
}

fn put(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; PREFIX]);
    body(out);
    let body = &out[start + PREFIX..];
    let (length, sum) = (body.len() as u32, checksum(body));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + PREFIX].copy_from_slice(&sum.to_le_bytes());
}

/// Takes the next frame off `bytes`; `None` when there is no whole one.
/// `known`: how many series the file has before it.
pub(super) fn take(bytes: &mut &[u8], known: usize) -> Option<Body> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
    let length = u32::from_le_bytes(prefix[..4].try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(prefix[4..].try_into().ok()?);
    // A file that was made longer before it was written is full of zeros.
    if length == 0 || length > LONGEST {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    if checksum(body) != sum {
        return None;
    }
    let parsed = parse(body, known)?;
    *bytes = rest;
    Some(parsed)
}

fn parse(mut body: &[u8], known: usize) -> Option<Body> {
    let bytes = &mut body;
    let kind = take_bytes::<1>(bytes)?[0];
    let at = i64::from_le_bytes(take_bytes(bytes)?);
    match kind {
        ROWS => {
            let count = take_number(bytes)?;
            let series = (0..count).map(|_| take_key(bytes));
            let series: Vec<SeriesKey> = series.collect::<Option<_>>()?;
            let count = take_number(bytes)?;
            let numbers = (known + series.len()) as u64;
            let mut before = 0;
            let rows = (0..count).map(|_| take_row(bytes, numbers, &mut before));
            let rows = rows.collect::<Option<_>>()?;
            bytes.is_empty().then_some(Body::Rows { at, series, rows })
        }
        CLOSED => bytes.is_empty().then_some(Body::Closed { at }),
        _ => None,
    }
}

fn take_key(bytes: &mut &[u8]) -> Option<SeriesKey> {
    let mut text = || -> Option<Arc<str>> {
        let length = usize::try_from(take_number(bytes)?).ok()?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(std::str::from_utf8(text).ok()?.into())
    };
    Some(SeriesKey {
        device: text()?,
        location: text()?,
        kind: text()?,
        unit: text()?,
    })
}

fn take_row(bytes: &mut &[u8], numbers: u64, before: &mut i64) -> Option<Row> {
    let head = take_number(bytes)?;
    let number = head >> FLAGS;
    let time = before.wrapping_add(unzigzag(take_number(bytes)?));
    *before = time;
    let value = if head & THOUSANDTHS != 0 {
        unzigzag(take_number(bytes)?) as f64 / 1e3
    } else {
        f64::from_le_bytes(take_bytes(bytes)?)
    };
    let mark = if head & MARKED != 0 {
        take_bytes::<1>(bytes)?[0]
    } else {
        0
    };
    (number < numbers).then_some(Row {
        time,
        value,
        series: number as u32,
        mark,
    })
}

fn take_bytes<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_bytes(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Body, LONGEST, PREFIX, Row, put_closed, put_rows, take};
    use crate::series::SeriesKey;

    fn key(device: &str) -> SeriesKey {
        SeriesKey {
            device: device.into(),
            location: "hall/1".into(),
            kind: "t".into(),
            unit: "Cel".into(),
        }
    }

    fn rows(values: &[f64]) -> Vec<Row> {
        let rows = values.iter().enumerate().map(|(i, &value)| Row {
            time: 1_700_000_000_000_000_000 - i as i64 * 60_000_000_000,
            value,
            series: i as u32 % 2,
            mark: (i % 3 == 2) as u8,
        });
        rows.collect()
    }

    fn frame(rows: &[Row]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_rows(&mut bytes, 7, &[&key("a"), &key("b")], rows.iter(), |n| n);
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_short_values_are_short() {
        let values = [21.5, -0.0, 0.0, 1e300, -273.15, f64::INFINITY, 0.1 + 0.2];
        let written = rows(&values);
        let mut bytes = frame(&written);
        put_closed(&mut bytes, 9);
        let mut rest = &bytes[..];
        let Some(Body::Rows {
            at,
            series,
            rows: read,
        }) = take(&mut rest, 0)
        else {
            panic!("no frame")
        };
        assert_eq!((at, series), (7, vec![key("a"), key("b")]));
        let bits = |rows: &[Row]| rows.iter().map(|r| r.value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&written));
        assert_eq!(read, written);
        assert_eq!(take(&mut rest, 2), Some(Body::Closed { at: 9 }));
        assert_eq!(take(&mut rest, 2), None);
        let short = frame(&rows(&[21.5; 100])).len() - frame(&[]).len();
        assert!(short < 100 * 11, "{short}");
    }

    #[test]
    fn what_is_torn_or_changed_is_no_frame() {
        let bytes = frame(&rows(&[1.0, 2.0, 0.123_456]));
        for cut in 0..bytes.len() {
            assert_eq!(take(&mut &bytes[..cut], 0), None);
        }
        for i in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[i] ^= 1;
            assert_eq!(take(&mut &bytes[..], 0), None, "{i}");
        }
        assert_eq!(take(&mut &[0; 64][..], 0), None);
    }

    #[test]
    fn what_is_longer_than_any_frame_is_none() {
        let named = |length: usize| {
            let mut bytes = Vec::new();
            let long = key(&"x".repeat(length));
            put_rows(&mut bytes, 7, &[&long], rows(&[]).iter(), |n| n);
            bytes
        };
        let more = named(0).len() - PREFIX + 3;
        assert!(take(&mut &named(LONGEST - more)[..], 0).is_some());
        assert_eq!(take(&mut &named(LONGEST + 1 - more)[..], 0), None);
    }

    #[test]
    fn a_series_that_was_not_named_is_refused() {
        let mut bytes = Vec::new();
        put_rows(&mut bytes, 7, &[&key("a")], rows(&[1.0, 2.0]).iter(), |n| n);
        assert_eq!(take(&mut &bytes[..], 0), None);
        assert!(take(&mut &bytes[..], 1).is_some());
    }

    proptest! {
        #[test]
        fn whatever_is_there_is_read_without_panic(
            body in prop::collection::vec(any::<u8>(), 1..200)
        ) {
            let mut bytes = Vec::new();
            super::put(&mut bytes, |out| out.extend(&body));
            let _ = take(&mut &bytes[..], 3);
            let _ = take(&mut &body[..], 3);
        }
    }
}
