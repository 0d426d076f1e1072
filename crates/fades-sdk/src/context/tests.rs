use super::*;

const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Berlin in 2018: summer time from 25 March to 28 October, 01:00Z.
fn berlin() -> Zone {
    let (spring, autumn) = (1_521_939_600 * SECOND, 1_540_688_400 * SECOND);
    let offsets = vec![(i64::MIN, 3600), (spring, 7200), (autumn, 3600)];
    Zone::new("Europe/Berlin", offsets).unwrap()
}

#[test]
fn offsets_change_at_their_moment() {
    let zone = berlin();
    let spring = 1_521_939_600 * SECOND;
    assert_eq!((zone.offset(spring - 1), zone.offset(spring)), (3600, 7200));
    assert_eq!(zone.offset(i64::MIN), 3600);
    assert_eq!(zone.offset(i64::MAX), 3600);
    assert_eq!(zone.local(spring) - zone.local(spring - 1), HOUR + 1);
}

#[test]
fn midnights_are_found_around_changes_of_the_clocks() {
    let zone = berlin();
    let midnight = |day: i64| zone.utc_of(day * DAY);
    // 2018-03-25 is day 17615, 2018-10-28 day 17832.
    assert_eq!(midnight(17616) - midnight(17615), 23 * HOUR);
    assert_eq!(midnight(17833) - midnight(17832), 25 * HOUR);
    for day in 17600..17900 {
        assert_eq!(zone.day(midnight(day)), day);
        assert_eq!(zone.day(midnight(day) - 1), day - 1);
    }
}

#[test]
fn a_time_that_clocks_skip_is_the_moment_of_the_change() {
    let (zone, spring) = (berlin(), 1_521_939_600 * SECOND);
    // 02:30 on 25 March 2018 does not exist, 02:30 on 28 October comes twice.
    assert_eq!(zone.utc_of(17615 * DAY + 2 * HOUR + HOUR / 2), spring);
    let twice = zone.utc_of(17832 * DAY + 2 * HOUR + HOUR / 2);
    assert_eq!(zone.offset(twice), 7200);
}

#[test]
fn a_zone_needs_offsets_that_ascend_from_the_beginning_of_time() {
    assert!(Zone::new("X", vec![]).is_none());
    assert!(Zone::new("X", vec![(0, 0)]).is_none());
    assert!(Zone::new("X", vec![(i64::MIN, 0), (5, 0), (5, 1)]).is_none());
}

#[test]
fn dates_follow_the_calendar() {
    assert_eq!(date(0), (1970, 1, 1));
    assert_eq!(date(-1), (1969, 12, 31));
    assert_eq!(date(17615), (2018, 3, 25));
    assert_eq!(date(11016), (2000, 2, 29));
    assert_eq!(date(11017), (2000, 3, 1));
    assert_eq!(date(-25508), (1900, 3, 1));
    assert_eq!(date(-25509), (1900, 2, 28));
    assert_eq!(date(19782), (2024, 2, 29));
    let mut expected = (1970, 1, 1);
    for day in 0..200_000 {
        assert_eq!(date(day), expected);
        let leap = expected.0 % 4 == 0 && (expected.0 % 100 != 0 || expected.0 % 400 == 0);
        let last = match expected.1 {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        expected = match expected {
            (y, 12, d) if d == last => (y + 1, 1, 1),
            (y, m, d) if d == last => (y, m + 1, 1),
            (y, m, d) => (y, m, d + 1),
        };
    }
}

#[test]
fn a_context_is_read_as_it_was_written() {
    let (zone, dtos) = (
        berlin(),
        vec!["pm".to_owned(), String::new(), "räume".to_owned()],
    );
    let bytes = encode(&zone, &dtos);
    assert_eq!(Context::read(words(&bytes)), Some(Context { zone, dtos }));
}

/// The bytes at an address that fits the layout, as a host maps them.
fn words(bytes: &[u8]) -> &'static [u8] {
    use zerocopy::IntoBytes;
    let words = vec![0_u64; bytes.len().div_ceil(8)].leak();
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    &words.as_bytes()[..bytes.len()]
}

#[test]
fn a_context_that_breaks_its_layout_is_refused() {
    let bytes = encode(&berlin(), &["pm".to_owned()]);
    for length in 0..bytes.len() {
        assert_eq!(
            Context::read(words(&bytes[..length])),
            None,
            "{length} bytes"
        );
    }
    for at in 0..16 {
        let mut broken = bytes.clone();
        broken[at] = 0xff;
        let _ = Context::read(words(&broken));
    }
    assert_eq!(Context::read(&words(&bytes)[1..]), None);
}
