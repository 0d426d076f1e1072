//! Heads that are damaged, clocks that jump, and bounds that hold.

use std::path::Path;
use std::sync::Arc;

use fades_task::quantity::Size;

use super::{DAY, FOREVER, NOON, SECOND, all, heard, in_memory, names, open, open_on, pass, sure};
use crate::config::Record;
use crate::live::Heard;
use crate::readings::clock::Age;
use crate::readings::gaps::GapReason;
use crate::readings::kept::Kept;
use crate::series::SeriesKey;

/// A head of several frames; how many readings are durable in each first part of it.
fn head(folder: &Path) -> (Vec<u8>, Vec<(usize, usize)>) {
    let kept = open(folder);
    let path = folder.join("00000001.head");
    let mut parts = vec![(0, 0)];
    for i in 0..6_i64 {
        let now = NOON + i * SECOND;
        // Later frames have series of their own and those of earlier ones.
        let rows = (0..=i).map(|d| heard(&format!("d{d}"), now, 0.5 + (6 * i + d) as f64));
        kept.take(&rows.collect::<Vec<_>>(), now);
        kept.log(now);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        parts.push((length, all(&kept).len()));
    }
    (std::fs::read(path).unwrap(), parts)
}

/// Opens what is left of a head: so many readings are there, and recording goes on.
fn found(bytes: &[u8], expected: usize, what: &str) {
    let folder = in_memory();
    std::fs::write(folder.path().join("00000001.head"), bytes).unwrap();
    let kept = open_on(&Arc::default(), folder.path(), &FOREVER, NOON + DAY / 4);
    assert_eq!(all(&kept).len(), expected, "{what}");
    let gaps = kept.gaps();
    assert_eq!(gaps.len(), usize::from(expected > 0), "{what}");
    assert!(gaps.iter().all(|g| g.reason == GapReason::Crash), "{what}");
    kept.take(&[heard("new", NOON, 1.0)], NOON);
    kept.log(NOON);
    drop(kept);
    let kept = open(folder.path());
    assert_eq!(all(&kept).len(), expected + 1, "{what}: it goes on");
    pass(&kept, NOON + DAY);
    pass(&kept, NOON + 2 * DAY);
    assert_eq!(all(&kept).len(), expected + 1, "{what}: as a segment");
}

#[test]
fn a_head_that_is_cut_or_garbled_at_any_byte_has_what_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, parts) = head(folder.path());
    assert_eq!(parts.last().unwrap().1, 21);
    let before = |at: usize| parts.iter().rfind(|p| p.0 <= at).unwrap().1;
    for at in 0..bytes.len() {
        found(&bytes[..at], before(at), &format!("cut at {at}"));
        let mut zeros = bytes[..at].to_vec();
        zeros.resize(bytes.len(), 0);
        found(&zeros, before(at), &format!("zeros from {at}"));
        for flip in [0x01, 0x80, 0xff] {
            let mut garbled = bytes.clone();
            garbled[at] ^= flip;
            found(&garbled, before(at), &format!("{flip:x} at {at}"));
        }
    }
}

#[test]
fn names_of_a_hundred_megabytes_at_once_are_found_again() {
    let folder = in_memory();
    let kept = open(folder.path());
    let long = |what: &str, i: usize| format!("{what}{i:0>250}").into();
    let rows = (0..100_000).map(|i| Heard {
        key: SeriesKey {
            device: long("d", i),
            location: long("l", i),
            kind: long("k", i),
            unit: long("u", i),
        },
        ..heard("a", NOON, i as f64)
    });
    let rows: Vec<Heard> = rows.collect();
    kept.take(&rows, NOON);
    kept.log(NOON);
    assert_eq!(kept.state().waiting, 0);
    assert!(kept.state().bytes > 90 << 20);
    drop(kept);
    let kept = open(folder.path());
    assert_eq!(kept.state().in_heads, 100_000);
    assert_eq!(kept.known().len(), 100_000);
}

/// Days with readings that are left.
fn days(kept: &Kept) -> Vec<i64> {
    let mut days: Vec<i64> = all(kept)
        .iter()
        .map(|r| (r.1 - NOON).div_euclid(DAY))
        .collect();
    days.dedup();
    days
}

#[test]
fn while_the_clock_is_not_believed_age_is_judged_by_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let record = Record {
        keep: Some("3d".parse().unwrap()),
        at_most: None,
    };
    let kept = open_on(&Arc::default(), folder.path(), &record, NOON);
    for day in 0..3 {
        let now = NOON + day * DAY;
        kept.take(&[heard("a", now, 1.0)], now);
        pass(&kept, now + DAY);
    }
    let far = NOON + 3_650 * DAY;
    let held = |now: i64| Age {
        now,
        held: Some("jumped".to_owned()),
    };
    kept.log(far);
    kept.keep(far, &held(NOON + 3 * DAY));
    assert_eq!(days(&kept), [0, 1, 2]);
    assert_eq!(kept.state().trouble.as_deref(), Some("jumped"));
    // It goes on with the time that was expected.
    kept.keep(far, &held(NOON + 4 * DAY));
    assert_eq!(days(&kept), [1, 2]);
    assert_eq!(kept.state().expired, 1);
    kept.keep(far, &sure(far));
    assert_eq!(days(&kept), [0; 0]);
    assert_eq!(kept.state().trouble, None);
    // Who keeps everything is not troubled.
    let kept = open(&folder.path().join("forever"));
    kept.keep(far, &held(NOON));
    assert_eq!(kept.state().trouble, None);
}

#[test]
fn bytes_on_disk_stay_below_their_bound_and_the_newest_day_is_there() {
    const MOST: u64 = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let record = Record {
        keep: None,
        at_most: Some(Size(MOST)),
    };
    let kept = open_on(&Arc::default(), folder.path(), &record, NOON);
    let on_disk = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let sizes = files.map(|f| f.unwrap().metadata().unwrap().len());
        sizes.sum::<u64>()
    };
    let mut most = 0;
    for day in 0..40 {
        let now = NOON + day * DAY;
        let rows = (0..500).map(|i| heard("a", now + i, (i as f64 * 0.77).sin()));
        kept.take(&rows.collect::<Vec<_>>(), now);
        kept.log(now);
        // The head is not counted out; it is no segment yet.
        assert!(on_disk() <= MOST + 20_000);
        pass(&kept, now + DAY / 2 + DAY / 10);
        pass(&kept, now + DAY / 2 + DAY / 5);
        let state = kept.state();
        assert!(state.bytes <= MOST && on_disk() <= MOST, "{state:?}");
        most = most.max(state.bytes);
        let days = days(&kept);
        assert_eq!(days.last(), Some(&day), "the newest day is there");
        let all: Vec<i64> = (days[0]..=day).collect();
        assert_eq!(days, all, "the oldest went first");
    }
    assert!(most > MOST / 2, "room is used: {most}");
    assert!(kept.state().expired > 0);
    assert_eq!(
        kept.state().oldest,
        Some((NOON + days(&kept)[0] * DAY).div_euclid(DAY) * DAY)
    );
    drop(kept);
    // What was kept before counts from the start.
    let kept = open_on(&Arc::default(), folder.path(), &record, NOON + 40 * DAY);
    assert!(kept.state().bytes > 0 && kept.state().bytes <= MOST);
    let less = Record {
        keep: None,
        at_most: Some(Size(MOST / 2)),
    };
    drop(kept);
    let kept = open_on(&Arc::default(), folder.path(), &less, NOON + 40 * DAY);
    pass(&kept, NOON + 40 * DAY);
    assert!(on_disk() <= MOST / 2, "a smaller bound holds too");
    assert!(!names(folder.path(), ".parquet").is_empty());
}
