use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fades_task::coverage::LossReason;
use fades_task::mtw::Take;

use super::clock::Age;
use super::disk::Disk;
use super::gaps::GapReason;
use super::kept::Kept;
use super::power::{Op, Platter, Share, Survives};
use super::segment::DAY;
use super::{Readings, ReadingsError, send};
use crate::chunk::{Capacity, Segment};
use crate::config::Record;
use crate::flow::{Ahead, Ask, Assembly, Outcome, Outlet};
use crate::live::Heard;
use crate::selector::Selector;
use crate::series::SeriesKey;

mod bounds;
mod faults;
mod files;
mod processes;

/// Noon of a day.
const NOON: i64 = 20_000 * DAY + DAY / 2;
const SECOND: i64 = 1_000_000_000;

const FOREVER: Record = Record {
    keep: None,
    at_most: None,
};

fn key(device: &str) -> SeriesKey {
    SeriesKey {
        device: device.into(),
        location: "hall/1".into(),
        kind: "t".into(),
        unit: "Cel".into(),
    }
}

fn heard(device: &str, time: i64, value: f64) -> Heard {
    Heard {
        key: key(device),
        time: Some(time),
        value,
        mark: 0,
    }
}

fn open_on(disk: &Arc<Disk>, folder: &Path, record: &Record, now: i64) -> Kept {
    let source = "hall".parse().unwrap();
    Kept::open(disk, folder, &source, record, now).unwrap()
}

fn open(folder: &Path) -> Kept {
    open_on(&Arc::default(), folder, &FOREVER, NOON)
}

fn ask(from: i64, to: i64) -> Ask {
    let mut selector = Selector::all();
    (selector.from, selector.to) = (from, to);
    Ask {
        selector,
        take: Take::Range,
        aggregate: None,
        deadline: None,
        stop: Arc::default(),
    }
}

type Rows = Vec<(String, i64, f64)>;

/// What is sent, and what came of it.
fn sent(kept: &Kept, ask: &Ask) -> (Rows, Outcome) {
    let fetch = |out: &Outlet| send(kept, ask, out).map_err(|e| e.to_string());
    said(fetch, &ask.stop)
}

/// What a source says, and what came of it.
fn said(
    fetch: impl FnOnce(&Outlet) -> Result<(), String> + Send,
    stop: &Arc<AtomicBool>,
) -> (Rows, Outcome) {
    let (outlet, inlet) = Outlet::pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let fetched = fetch(&outlet);
            let _ = outlet.end(fetched);
        });
        let capacity = Capacity::of(fades_abi::INPUT_PAGE);
        let mut assembly = Assembly::new("hall".parse().unwrap(), inlet, None, capacity);
        let mut rows = Rows::new();
        while let Ahead::Bytes(_) = assembly.ahead(stop) {
            let chunk = assembly.chunk(0, stop).unwrap();
            for series in &chunk.series {
                for Segment { time, value, .. } in &series.segments {
                    let device = series.key.device.to_string();
                    let each = time.iter().zip(value);
                    rows.extend(each.map(|(t, v)| (device.clone(), *t, *v)));
                }
            }
        }
        (rows, assembly.outcome())
    })
}

/// Says that a test was not made; such lines are counted.
fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "SKIPPED: {test}: {why}");
}

fn all(kept: &Kept) -> Rows {
    let (rows, outcome) = sent(kept, &ask(i64::MIN, i64::MAX));
    assert_eq!(outcome.failure, None);
    rows
}

fn names(folder: &Path, ending: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|f| f.ends_with(ending)).collect();
    files.sort();
    files
}

/// A clock that is believed.
fn sure(now: i64) -> Age {
    Age { now, held: None }
}

/// A folder where waiting for the disk is short.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Lets the days pass: heads become segments, segments are merged.
fn pass(kept: &Kept, now: i64) {
    kept.log(now);
    kept.keep(now, &sure(now));
}

#[test]
fn readings_are_there_at_once_and_after_they_became_segments_and_anew() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(folder.path());
    let rows = [
        ("a", -5, 1.5),
        ("a", 3, 2.5),
        ("b", 0, 1e-9),
        ("c", 1, f64::MAX),
    ];
    let mut expected: Rows = Vec::new();
    for (device, offset, value) in rows {
        kept.take(&[heard(device, NOON + offset, value)], NOON);
        expected.push((device.to_owned(), NOON + offset, value));
    }
    assert_eq!(all(&kept), expected);
    kept.log(NOON);
    assert_eq!(all(&kept), expected);
    assert_eq!(all(&open(folder.path())), expected);
    pass(&kept, NOON + DAY);
    assert_eq!(names(folder.path(), ".head"), [""; 0]);
    assert_eq!(names(folder.path(), ".parquet").len(), 1);
    assert_eq!(all(&kept), expected);
    kept.end(NOON + DAY);
    let kept = open(folder.path());
    assert_eq!(all(&kept), expected);
    let known = kept.known();
    let counts: Vec<_> = known.iter().map(|k| (k.readings, k.oldest)).collect();
    assert_eq!(counts[0], (Some(2), Some(NOON - 5)));
    assert_eq!(known.len(), 3);
}

#[test]
fn a_range_and_a_selector_give_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(folder.path());
    for i in 0..1000 {
        let time = NOON + i * 3600 * SECOND;
        kept.take(&[heard("a", time, 1.0), heard("b", time, 2.0)], time);
    }
    for (from, to) in [(0, 100), (55, 56), (7, 7), (900, 2000)] {
        let (start, end) = (NOON + from * 3600 * SECOND, NOON + to * 3600 * SECOND);
        for _ in 0..2 {
            let (rows, outcome) = sent(&kept, &ask(start, end));
            assert_eq!(rows.len() as i64, 2 * (to.min(1000) - from), "{from} {to}");
            assert!(rows.iter().all(|r| (start..end).contains(&r.1)));
            assert_eq!(outcome.asked.len(), 2);
            pass(&kept, NOON + 1001 * 3600 * SECOND);
        }
    }
}

#[test]
fn out_of_order_and_twice_is_in_order_and_once_and_nan_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(folder.path());
    for (i, offset) in [9, 2, 2, 5, 2, 9].into_iter().enumerate() {
        let now = NOON + i as i64 * DAY;
        kept.take(&[heard("a", NOON + offset, 1.0)], now);
        kept.take(&[heard("a", NOON + 7, f64::NAN)], now);
        if i % 2 == 1 {
            pass(&kept, now);
        }
    }
    for _ in 0..2 {
        let (rows, outcome) = sent(&kept, &ask(i64::MIN, i64::MAX));
        let times: Vec<i64> = rows.iter().map(|r| r.1 - NOON).collect();
        assert_eq!(times, [2, 5, 9]);
        assert_eq!(outcome.tally.lost, [(LossReason::NotFinite, 1)].into());
        pass(&kept, NOON + 30 * DAY);
    }
    assert_eq!(
        names(folder.path(), ".parquet").len(),
        1,
        "they were merged"
    );
}

#[test]
fn days_that_are_too_old_or_too_much_go_and_are_counted() {
    let record = |keep: Option<&str>, most: Option<u64>| Record {
        keep: keep.map(|k| k.parse().unwrap()),
        at_most: most.map(fades_task::quantity::Size),
    };
    for (record, left) in [
        (record(Some("3d"), None), 3),
        (record(None, Some(8_000)), 4),
        (record(None, None), 9),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let kept = open_on(&Arc::default(), folder.path(), &record, NOON);
        for day in 0..9 {
            let now = NOON + day * DAY;
            let rows = (0..100).map(|i| heard("a", now + i, (i as f64).sin()));
            kept.take(&rows.collect::<Vec<_>>(), now);
            pass(&kept, now);
            pass(&kept, now + DAY / 2 + DAY / 10);
        }
        let now = NOON + 9 * DAY;
        pass(&kept, now);
        let days: std::collections::BTreeSet<i64> = all(&kept).iter().map(|r| r.1 / DAY).collect();
        let state = kept.state();
        assert_eq!(days.len(), left, "{state:?}");
        assert_eq!(days.last(), Some(&((NOON + 8 * DAY) / DAY)));
        assert_eq!(state.expired, 100 * (9 - left as u64));
        assert_eq!(names(folder.path(), ".parquet").len(), left);
        let bytes = record.at_most.map_or(u64::MAX, |b| b.0);
        assert!(state.bytes <= bytes, "{state:?}");
    }
}

#[test]
fn what_cannot_be_kept_is_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<Disk> = Arc::default();
    let kept = open_on(&disk, folder.path(), &FOREVER, NOON);
    let ahead = heard("a", NOON + 2 * DAY, 1.0);
    kept.take(&[ahead], NOON);
    kept.log(NOON);
    assert_eq!(kept.gaps()[0].reason, GapReason::Clock);
    disk.watch.set_room(Some(0));
    let many: Vec<Heard> = (0..super::kept::HEAD as i64)
        .map(|i| heard("a", NOON + i, i as f64))
        .collect();
    for i in 0..6 {
        let rows: Vec<Heard> = many
            .iter()
            .map(|h| heard("a", h.time.unwrap() + i * SECOND, h.value))
            .collect();
        kept.take(&rows, NOON);
        kept.log(NOON);
    }
    let trouble = kept.state().trouble.unwrap();
    assert!(trouble.contains("cannot be written"), "{trouble}");
    let gap = *kept.gaps().last().unwrap();
    let lost = 2 * many.len() as u64;
    assert_eq!((gap.reason, gap.readings), (GapReason::Disk, lost));
    disk.watch.set_room(None);
    pass(&kept, NOON + SECOND);
    assert_eq!(kept.state().trouble, None);
    let (rows, outcome) = sent(&kept, &ask(i64::MIN, i64::MAX));
    assert_eq!(rows.len(), 4 * many.len());
    assert_eq!(
        outcome.tally.lost,
        [(LossReason::Overflow, lost + 1)].into()
    );
    kept.end(NOON + SECOND);
    assert_eq!(open(folder.path()).gaps()[..2], kept.gaps());
}

#[test]
fn a_disk_that_is_full_at_any_byte_costs_nothing_that_was_durable() {
    for room in (0..6_000).step_by(97) {
        let folder = in_memory();
        let disk: Arc<Disk> = Arc::default();
        let kept = open_on(&disk, folder.path(), &FOREVER, NOON);
        disk.watch.set_room(Some(room));
        for day in 0..4 {
            for i in 0..20 {
                let now = NOON + day * DAY + i * SECOND;
                kept.take(&[heard("a", now, 0.1 + i as f64)], now);
                pass(&kept, now);
            }
        }
        assert_eq!(all(&kept).len(), 80, "{room}");
        let found = open(folder.path());
        let durable = kept.state().recorded;
        assert!(all(&found).len() as u64 >= durable, "{room}");
        drop(found);
        disk.watch.set_room(None);
        pass(&kept, NOON + 9 * DAY);
        kept.end(NOON + 9 * DAY);
        assert_eq!(kept.state().trouble, None);
        assert_eq!(all(&open(folder.path())).len(), 80, "{room}");
        assert_eq!(names(folder.path(), ".tmp"), [""; 0]);
    }
}

/// Records for some days; every reading has the number of those before it as its
/// value.
fn history(disk: &Arc<Disk>, folder: &Path) -> usize {
    let kept = open_on(disk, folder, &FOREVER, NOON);
    let mut count = 0;
    for day in 0..4 {
        for i in 0..3 {
            let now = NOON + day * DAY + i * SECOND;
            for device in ["a", "b"] {
                // Also late ones, of the days before.
                let time = now - i * (DAY / 2);
                kept.take(&[heard(device, time, f64::from(count))], now);
                count += 1;
            }
            kept.log(now);
            disk.watch.acknowledge(count as usize);
        }
        {
            let at = NOON + day * DAY + SECOND * 4;
            kept.keep(at, &sure(at))
        };
    }
    pass(&kept, NOON + 6 * DAY);
    kept.end(NOON + 6 * DAY);
    count as usize
}

/// Every state that a disk could be in is opened: what was acknowledged is there
/// once, also after the store went on with it.
#[test]
fn the_power_may_go_at_any_moment() {
    let origin = tempfile::tempdir().unwrap();
    let disk: Arc<Disk> = Arc::default();
    disk.watch.begin();
    let count = history(&disk, origin.path());
    let ops = disk.watch.ops();
    let merges = |op: &&Op| matches!(op, Op::Rename(_, to) if is_merged(to));
    assert!(ops.iter().filter(merges).count() > 0, "nothing was merged");
    let mut platter = Platter::default();
    let mut acknowledged = 0;
    for (i, op) in ops.iter().enumerate() {
        platter.apply(op);
        if let Op::Acknowledge(n) = op {
            acknowledged = *n;
        }
        for bytes in [Share::None, Share::Half, Share::All] {
            for (zeros, names) in [(false, false), (false, true), (true, true)] {
                let survives = Survives {
                    bytes,
                    zeros,
                    names,
                };
                let folder = in_memory();
                platter.settle(survives, origin.path(), folder.path());
                let what = format!("cut after {i} ({op:?}), {survives:?}");
                check(folder.path(), acknowledged, count, &what);
            }
        }
    }
    assert_eq!(acknowledged, count);
}

fn is_merged(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    super::segment::SegmentName::parse(&name).is_some_and(|n| n.is_merged())
}

fn check(folder: &Path, acknowledged: usize, count: usize, what: &str) {
    let kept = open_on(&Arc::default(), folder, &FOREVER, NOON + 7 * DAY);
    let numbers = |kept: &Kept| {
        let mut numbers: Vec<usize> = all(kept).iter().map(|r| r.2 as usize).collect();
        numbers.sort_unstable();
        numbers
    };
    let found = numbers(&kept);
    let there: Vec<usize> = (0..found.len()).collect();
    assert_eq!(found, there, "{what}: in order of arrival, each once");
    assert!(
        found.len() >= acknowledged && found.len() <= count,
        "{what}"
    );
    if acknowledged > 0 {
        let gap = *kept.gaps().last().unwrap();
        assert!(
            gap.from >= NOON && gap.to == NOON + 7 * DAY,
            "{what}: {gap:?}"
        );
    }
    let now = NOON + 7 * DAY;
    kept.take(&[heard("z", now, found.len() as f64)], now);
    pass(&kept, now);
    pass(&kept, now + 2 * DAY);
    assert_eq!(numbers(&kept).len(), found.len() + 1, "{what}: it goes on");
    drop(kept);
    assert_eq!(
        numbers(&open(folder)).len(),
        found.len() + 1,
        "{what}: anew"
    );
}

#[test]
fn a_folder_is_used_by_one_broker() {
    let folder = tempfile::tempdir().unwrap();
    let first = Readings::open(folder.path()).unwrap();
    let error = Readings::open(folder.path()).unwrap_err();
    assert!(matches!(error, ReadingsError::InUse(_)));
    assert!(error.to_string().contains("in use by another broker"));
    drop(first);
    Readings::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Readings::open(&folder.path().join("file")).unwrap_err();
    assert!(error.to_string().contains("cannot be used"), "{error}");
}

#[test]
fn readings_are_durable_within_a_second_without_asking() {
    let folder = tempfile::tempdir().unwrap();
    let readings = Readings::open(folder.path()).unwrap();
    let recorder = readings
        .recorder(&"hall".parse().unwrap(), &FOREVER)
        .unwrap();
    let now = crate::live::now();
    recorder.record(&[heard("a", now, 1.0)], now);
    let begin = std::time::Instant::now();
    while recorder.state().waiting > 0 {
        assert!(begin.elapsed().as_secs() < 20);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let found = open(&folder.path().join("hall"));
    assert_eq!(all(&found).len(), 1);
    assert!(readings.written().log > 0);
}

#[test]
fn what_is_shared_is_what_is_heard_alone_gaps_and_all() {
    let folder = in_memory();
    let kept = open(folder.path());
    let second = 1_000_000_000;
    for i in 0..100 {
        kept.take(&[heard("a", NOON + i * second, 1.0)], NOON);
        kept.take(&[heard("b", NOON - i * second, 2.0)], NOON);
    }
    // Those of clocks that are wrong are lost, between these times.
    kept.take(&[heard("a", NOON + 9 * DAY, 1.0)], NOON + 5 * second);
    kept.take(&[heard("a", NOON + 9 * DAY, 1.0)], NOON + 15 * second);
    kept.log(NOON + 20 * second);
    let gaps = sent(&kept, &ask(NOON, NOON + DAY)).1.gaps;
    assert!(gaps.iter().any(|gap| gap.readings == 2), "{gaps:?}");
    let ranges = [
        (-90, 90),
        (-10, 10),
        (0, 30),
        (10, 100),
        (21, 90),
        (-100, 80),
    ];
    let asks = ranges.map(|(from, to)| ask(NOON + from * second, NOON + to * second));
    let fetch = move |ask: &Ask, out: &Outlet| send(&kept, ask, out).map_err(|e| e.to_string());
    let fetches = crate::flow::fetches_of_pairs(fetch, &asks);
    assert_eq!(fetches[..6], [1, 1, 1, 2, 1, 2]);
}
