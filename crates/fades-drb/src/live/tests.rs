use std::thread;

use super::*;
use crate::config::DeviceNote;

fn live() -> Live {
    let note = DeviceNote {
        device: "slow".to_owned(),
        labels: BTreeMap::new(),
        at: None,
        expected: Some("1ms".parse().unwrap()),
    };
    Live::new(
        &"hall".parse().unwrap(),
        &Arc::new(Notes::new(&[note])),
        None,
    )
}

fn heard(device: &str, time: Option<i64>, value: f64) -> Heard {
    let key = SeriesKey {
        device: device.into(),
        location: "".into(),
        kind: "t".into(),
        unit: "".into(),
    };
    Heard {
        key,
        time,
        value,
        mark: 0,
    }
}

fn ask(count: Option<u64>, to: i64) -> Ask {
    let mut selector = Selector::all();
    selector.to = to;
    Ask {
        selector,
        take: Take::Live { count },
        aggregate: None,
        deadline: None,
        stop: Arc::default(),
    }
}

#[test]
fn the_newest_reading_is_that_with_the_latest_time() {
    let live = live();
    live.arrive(vec![heard("a", Some(5), 1.0), heard("a", Some(3), 2.0)]);
    let newest = live.newest(&Selector::all());
    assert_eq!(newest[0].1.unwrap().value, 1.0);
    live.arrive(vec![heard("a", Some(6), 3.0)]);
    assert_eq!(live.newest(&Selector::all())[0].1.unwrap().value, 3.0);
    assert!(live.liveness("a").clock_ahead.unwrap() < 0);
}

#[test]
fn a_device_is_unknown_alive_silent_failing_or_broken() {
    let live = live();
    let state = |device| live.liveness(device).state;
    live.expect([heard("slow", None, 0.0).key]);
    assert_eq!(state("slow"), DeviceState::Unknown);
    live.failed(&"slow".into(), "refused", false);
    assert_eq!(state("slow"), DeviceState::Failing);
    live.failed(&"slow".into(), "refused", true);
    assert_eq!(state("slow"), DeviceState::Broken);
    live.arrive(vec![heard("slow", None, 1.0), heard("a", None, 1.0)]);
    let seen = Instant::now();
    assert_eq!(state("a"), DeviceState::Alive);
    while seen.elapsed() < Duration::from_millis(4) {
        thread::yield_now();
    }
    assert_eq!(state("slow"), DeviceState::Silent);
    assert_eq!(state("a"), DeviceState::Alive);
}

/// What `ask` collects while readings arrive, as (series and rows, absent).
fn collected(live: &Live, ask: &Ask, arriving: &[Heard]) -> (Vec<(String, usize)>, usize) {
    use crate::chunk::Capacity;
    use crate::flow::{Ahead, Assembly};
    let (outlet, inlet) = Outlet::pair();
    thread::scope(|scope| {
        scope.spawn(move || {
            let ended = live.collect(ask, &outlet);
            let _ = outlet.end(ended.map_err(|e| e.to_string()));
        });
        let wanted = live.wanted();
        while !*wanted.borrow() {
            thread::yield_now();
        }
        live.arrive(arriving.to_vec());
        let source = "hall".parse().unwrap();
        let capacity = Capacity::of(fades_abi::INPUT_PAGE);
        let mut assembly = Assembly::new(source, inlet, None, capacity);
        let mut series = Vec::new();
        while let Ahead::Bytes(_) = assembly.ahead(&ask.stop) {
            let chunk = assembly.chunk(0, &ask.stop).unwrap();
            series.extend(
                chunk
                    .series
                    .iter()
                    .map(|s| (s.key.device.to_string(), s.rows())),
            );
        }
        (series, assembly.outcome().absent.len())
    })
}

#[test]
fn a_collection_ends_with_its_count_or_its_time_and_names_who_was_silent() {
    let live = live();
    live.expect([heard("dead", None, 0.0).key]);
    let arriving = [
        heard("b", None, 1.0),
        heard("a", None, 2.0),
        heard("b", None, 3.0),
    ];
    let (series, absent) = collected(&live, &ask(Some(2), i64::MAX), &arriving);
    assert_eq!(series, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(absent, 1);
    let soon = now() + 200_000_000;
    let (series, _) = collected(&live, &ask(None, soon), &arriving);
    assert_eq!(series, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert!(!*live.wanted().borrow(), "nobody collects any more");
}

#[test]
fn a_collection_that_is_stopped_ends() {
    let live = live();
    let ask = ask(None, i64::MAX);
    ask.stop.store(true, Ordering::Relaxed);
    let (outlet, _inlet) = Outlet::pair();
    assert_eq!(live.collect(&ask, &outlet), Err(Stopped));
}

#[test]
fn what_could_not_be_used_is_counted_with_the_first() {
    let live = live();
    assert_eq!(live.unusable_words(), None);
    for topic in ["site/a", "site/b"] {
        let bad = BadRow {
            file: topic.to_owned(),
            line: 1,
            column: None,
            reason: LossReason::NotANumber,
        };
        live.unusable(None, &bad, 2);
    }
    let words = live.unusable_words().unwrap();
    assert_eq!(
        words,
        "4 could not be used since the start, the first of site/a: not a number"
    );
}
