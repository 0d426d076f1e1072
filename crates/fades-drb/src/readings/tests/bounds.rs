//! Bounds of memory, files and what is told.

use std::sync::Arc;

use fades_task::coverage::LossReason;

use super::{
    DAY, FOREVER, NOON, SECOND, all, ask, heard, in_memory, names, open, open_on, pass, sent,
};
use crate::live::Heard;
use crate::readings::disk::Disk;
use crate::readings::gaps::GapReason;
use crate::readings::kept::{HEAD, Kept};
use crate::readings::power::Op;
use crate::readings::report;
use crate::series::MAX_SERIES;

/// Readings of one device, a second apart.
fn many(from: usize, to: usize) -> Vec<Heard> {
    let times = (from..to).map(|i| NOON - (to - i) as i64 * SECOND);
    times.map(|time| heard("a", time, 1.0)).collect()
}

#[test]
fn two_heads_wait_in_memory_and_the_next_one_grows() {
    let folder = in_memory();
    let kept = open(folder.path());
    for i in 0..4 {
        kept.take(&many(i * HEAD, (i + 1) * HEAD), NOON);
        kept.log(NOON);
    }
    assert_eq!(names(folder.path(), ".head").len(), 3);
    assert_eq!(kept.state().in_heads, 4 * HEAD as u64);
    assert_eq!(kept.state().recorded, 4 * HEAD as u64, "none is lost");
    // As soon as they became segments, the third one follows.
    kept.keep(NOON, &super::sure(NOON));
    pass(&kept, NOON);
    assert_eq!(kept.state().in_heads, 0);
}

#[test]
fn a_head_is_sealed_when_it_is_full_or_ten_minutes_after_midnight() {
    const MINUTE: i64 = 60 * SECOND;
    let folder = in_memory();
    let kept = open(folder.path());
    let midnight = NOON + DAY / 2;
    kept.take(&[heard("a", NOON, 1.0)], NOON);
    kept.log(midnight + 9 * MINUTE);
    assert!(!kept.is_due());
    kept.log(midnight + 10 * MINUTE);
    assert!(kept.is_due());
    pass(&kept, midnight + 10 * MINUTE);
    kept.take(&many(1, HEAD), midnight + 11 * MINUTE);
    kept.log(midnight + 11 * MINUTE);
    assert!(!kept.is_due(), "one is missing");
    kept.take(&many(0, 1), midnight + 11 * MINUTE);
    kept.log(midnight + 11 * MINUTE);
    assert!(kept.is_due());
}

#[test]
fn there_are_so_many_series_and_readings_of_more_are_lost() {
    let folder = in_memory();
    let kept = open(folder.path());
    let rows = (0..MAX_SERIES).map(|i| heard(&i.to_string(), NOON, 1.0));
    kept.take(&rows.collect::<Vec<_>>(), NOON);
    kept.log(NOON);
    assert!(kept.gaps().is_empty());
    kept.take(&[heard("more", NOON, 1.0), heard("0", NOON + 1, 2.0)], NOON);
    kept.log(NOON);
    let gaps = kept.gaps();
    assert_eq!((gaps.len(), gaps[0].readings), (1, 1));
    assert_eq!(gaps[0].reason, GapReason::Overflow);
    assert_eq!(kept.state().in_heads, MAX_SERIES as u64 + 1);
    assert_eq!(kept.known().len(), MAX_SERIES);
}

/// Times of a device whose clock is anywhere: a reading each, on so many days.
fn strays(days: std::ops::Range<i64>) -> Vec<Heard> {
    let times = days.map(|day| (day - 10_000) * DAY);
    times.map(|time| heard("stray", time, 1.0)).collect()
}

#[test]
fn a_clock_that_is_anywhere_makes_no_flood_of_files_and_is_told() {
    let folder = in_memory();
    let kept = open(folder.path());
    kept.take(&strays(0..700), NOON);
    // Others are not affected, with times of now or of days ago.
    let good = (0..30).map(|day| heard("good", NOON - day * DAY, 1.0));
    kept.take(&good.collect::<Vec<_>>(), NOON);
    // Nor are more readings of the same days.
    kept.take(&[heard("late", -10_000 * DAY, 1.0)], NOON);
    kept.log(NOON);
    let gaps = kept.gaps();
    assert_eq!((gaps.len(), gaps[0].readings), (1, 700 - 512));
    assert_eq!(gaps[0].reason, GapReason::Days);
    // Also when the broker was started anew in between.
    kept.end(NOON);
    let kept = open(folder.path());
    kept.take(&strays(600..601), NOON);
    kept.log(NOON);
    assert_eq!(kept.gaps().last().unwrap().readings, 1);
    pass(&kept, NOON + DAY);
    assert_eq!(names(folder.path(), ".parquet").len(), 512 + 30);
    assert_eq!(all(&kept).len(), 512 + 30 + 1);
    // The next head has room again.
    kept.take(&strays(512..700), NOON + DAY);
    assert_eq!(kept.state().in_heads, 188);
    let (_, outcome) = sent(&kept, &ask(i64::MIN, i64::MAX));
    assert_eq!(outcome.tally.lost, [(LossReason::Overflow, 189)].into());
    let told = outcome.gaps.iter().map(|g| &*g.reason);
    let words = "devices gave times of too many days that are long past";
    assert_eq!(told.filter(|reason| *reason == words).count(), 2);
}

#[test]
fn there_are_four_thousand_days_before_none_is_begun_any_more() {
    let folder = in_memory();
    for day in 0..4_095 {
        let name = crate::readings::segment::SegmentName {
            day,
            first: 1,
            last: 1,
        };
        std::fs::write(name.path(folder.path()), "").unwrap();
    }
    let kept = open(folder.path());
    let before = kept.gaps().len();
    kept.take(&strays(0..3), NOON);
    kept.take(&[heard("a", 7 * DAY, 1.0), heard("a", NOON, 1.0)], NOON);
    kept.log(NOON);
    assert_eq!(kept.state().in_heads, 3, "one more, one of old, and today");
    let gaps = kept.gaps();
    assert_eq!((gaps.len() - before, gaps.last().unwrap().readings), (1, 2));
}

#[test]
fn who_asks_what_there_is_walks_through_no_readings() {
    let folder = in_memory();
    let kept = open(folder.path());
    for i in 0..4 {
        kept.take(&many(i * HEAD, (i + 1) * HEAD), NOON);
        kept.log(NOON);
    }
    kept.take(
        &[heard("b", NOON - 5, 1.0), heard("b", NOON - 9, 1.0)],
        NOON,
    );
    let state = kept.state();
    assert_eq!(state.in_heads, 4 * HEAD as u64, "there is no room for more");
    let walked = kept.walked();
    let known = kept.known();
    let _ = (kept.state(), report::report(&kept));
    assert_eq!(kept.walked(), walked);
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].readings, Some(4 * HEAD as u64));
    assert_eq!(known[0].newest, Some(NOON - SECOND));
    assert_eq!(state.oldest, Some(NOON - HEAD as i64 * SECOND));
    // A task that reads does.
    let _ = sent(&kept, &ask(NOON, NOON + 1));
    assert!(kept.walked() > walked);
}

#[test]
fn gaps_are_written_at_most_every_ten_seconds_and_when_the_broker_ends() {
    let folder = in_memory();
    let disk: Arc<Disk> = Arc::default();
    let kept = open_on(&disk, folder.path(), &FOREVER, NOON);
    disk.watch.begin();
    let written = || {
        let ops = disk.watch.ops();
        let gaps = |op: &&Op| matches!(op, Op::Rename(_, to) if to.ends_with("gaps.jsonl"));
        ops.iter().filter(gaps).count()
    };
    let lose = |kept: &Kept, i: i64| {
        let now = NOON + i * SECOND;
        kept.take(&[heard("a", now + 2 * DAY, 1.0)], now);
        kept.log(now);
    };
    let begun = std::time::Instant::now();
    for i in 0..50 {
        lose(&kept, i);
    }
    // On a host that is very slow, one more each ten seconds.
    assert!(written() as u64 <= 1 + begun.elapsed().as_secs() / 10);
    kept.end(NOON);
    assert!(written() >= 2);
    assert_eq!(open(folder.path()).gaps()[0].readings, 50);
}

#[test]
fn an_operator_is_shown_the_newest_gaps_and_all_that_was_lost() {
    let folder = in_memory();
    let kept = open(folder.path());
    for i in 0..30 {
        // Minutes apart they are not one.
        let now = NOON + i * 120 * SECOND;
        kept.take(&[heard("a", now + 2 * DAY, 1.0)], now);
        kept.log(now);
    }
    assert_eq!(kept.gaps().len(), 30);
    let report = report::report(&kept);
    assert_eq!((report.gaps.len(), report.lost), (20, 30));
    assert_eq!(report.gaps[19].from.0, NOON + 29 * 120 * SECOND);
}

#[test]
fn segments_of_a_day_are_merged_when_there_are_eight_or_the_day_is_over_for_an_hour() {
    let folder = in_memory();
    let kept = open(folder.path());
    // Heads of full length, of which the day has its part.
    let head = |kept: &Kept, device: &str| {
        kept.take(&[heard(device, NOON, 1.0)], NOON);
        let old = (1..HEAD as i64).map(|i| heard("old", i, 1.0));
        kept.take(&old.collect::<Vec<_>>(), NOON);
        pass(kept, NOON);
    };
    let today = || {
        let all = names(folder.path(), ".parquet");
        all.iter().filter(|n| n.starts_with("2024-10-04")).count()
    };
    for i in 0..7 {
        head(&kept, &i.to_string());
    }
    assert_eq!(today(), 7);
    head(&kept, "7");
    assert_eq!(today(), 1);
    head(&kept, "8");
    assert_eq!(today(), 2);
    let midnight = NOON + DAY / 2;
    pass(&kept, midnight + 3_600 * SECOND);
    assert_eq!(today(), 2);
    pass(&kept, midnight + 3_600 * SECOND + 1);
    assert_eq!(today(), 1);
}

#[test]
fn a_broker_that_ended_is_told_from_one_that_stopped() {
    let folder = in_memory();
    let kept = open(folder.path());
    kept.take(&[heard("a", NOON, 1.0)], NOON);
    kept.end(NOON);
    drop(kept);
    let path = folder.path().join("00000001.head");
    let whole = std::fs::read(&path).unwrap();
    let reason = |bytes: &[u8]| {
        let folder = in_memory();
        std::fs::write(folder.path().join("00000001.head"), bytes).unwrap();
        let kept = open_on(&Arc::default(), folder.path(), &FOREVER, NOON + DAY);
        assert_eq!(all(&kept).len(), 1);
        kept.gaps()[0].reason
    };
    assert_eq!(reason(&whole), GapReason::Ended);
    // Something was written behind the end, or the end was not.
    assert_eq!(
        reason(&[&whole[..], b"\x05\0\0"].concat()),
        GapReason::Crash
    );
    assert_eq!(reason(&whole[..whole.len() - 1]), GapReason::Crash);
}
