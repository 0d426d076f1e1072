//! One case after the other.

use super::*;

/// What both of two asks hear, and what the source was asked.
fn both(store: Store, first: &Ask, second: &Ask) -> (Heard, Heard, Vec<(i64, i64)>) {
    let store = Arc::new(store);
    let streams = Streams::new(MANY, LONG);
    let begun = open(&streams, &store, first);
    let joined = open(&streams, &store, second);
    let heard = (begun.end(), joined.end());
    let asked = store.asked();
    assert_eq!(heard.0, alone(&store, first));
    assert_eq!(heard.1, alone(&store, second));
    (heard.0, heard.1, asked)
}

#[test]
fn less_of_what_is_under_way_is_not_fetched_again() {
    let all = ask(&[], 0, 100);
    for second in [
        ask(&["t"], 20, 30),
        ask(&[], 99, 100),
        ask(&["none"], 0, 100),
        all.clone(),
    ] {
        let store = store(5, &["h", "t"], 0..100);
        let (heard, _, asked) = both(store, &all, &second);
        assert_eq!(heard.rows.len(), 10);
        assert_eq!(asked, [(0, 100)], "{second:?}");
    }
}

#[test]
fn what_is_not_all_there_is_fetched_apart() {
    for (first, second) in [
        (ask(&["t"], 0, 100), ask(&[], 0, 100)),
        (ask(&["t"], 0, 100), ask(&["h"], 0, 100)),
        // The rest would be more than what is saved.
        (ask(&[], 0, 49), ask(&[], 0, 100)),
        (ask(&[], 0, 10), ask(&[], 10, 20)),
    ] {
        let (_, _, asked) = both(store(5, &["h", "t"], 0..100), &first, &second);
        assert_eq!(asked.len(), 2, "{second:?}");
    }
}

#[test]
fn of_a_range_that_overlaps_only_the_rest_is_fetched() {
    for (second, rest) in [
        (ask(&[], 15, 130), vec![(100, 130)]),
        (ask(&["t"], -7, 55), vec![(-7, 10)]),
        (ask(&["t"], 0, 120), vec![(0, 10), (100, 120)]),
    ] {
        let store = Store {
            gaps: vec![(5, 12), (95, 105), (200, 300)],
            lost: (0..150).map(|t| (key("d1", "t"), t)).collect(),
            lost_apart: true,
            shuffles: true,
            ..store(5, &["h", "t"], -100..200)
        };
        let (_, heard, mut asked) = both(store, &ask(&[], 10, 100), &second);
        asked.remove(0);
        asked.sort_unstable();
        assert_eq!(asked, rest);
        let span = second.selector.to - second.selector.from;
        assert_eq!(heard.rows[&key("d1", "t")].len() as i64, span);
    }
}

#[test]
fn a_series_that_only_the_rest_has_is_there_too() {
    let mut store = store(3, &["t"], 0..150);
    let (a, b) = (key("d0", "t"), key("d1", "t"));
    store.rows.get_mut(&a).unwrap().retain(|r| r.0 >= 100);
    store
        .rows
        .get_mut(&b)
        .unwrap()
        .retain(|r| r.0 < 10 || r.0 >= 120);
    let (_, heard, _) = both(store, &ask(&[], 10, 100), &ask(&[], 0, 140));
    assert_eq!((heard.rows[&a].len(), heard.rows[&b].len()), (40, 30));
}

#[test]
fn who_cannot_be_told_apart_asks_alone() {
    let lost = Store {
        lost: vec![(key("d1", "t"), 50)],
        ..store(5, &["h", "t"], 0..100)
    };
    let (first, second, asked) = both(lost, &ask(&[], 0, 100), &ask(&["h"], 0, 100));
    assert_eq!(
        (first.lost.len(), second.lost.len(), asked.len()),
        (1, 0, 2)
    );
    let absent = Store {
        absent: Some(key("d1", "t")),
        ..store(5, &["h", "t"], 0..100)
    };
    let (first, second, asked) = both(absent, &ask(&[], 0, 100), &ask(&["h"], 0, 100));
    assert_eq!(
        (first.absent.len(), second.absent.len(), asked.len()),
        (1, 0, 2)
    );
}

#[test]
fn the_first_can_go() {
    let store = Arc::new(store(5, &["h", "t"], 0..100));
    store.let_go(Some(3));
    let streams = Streams::new(MANY, LONG);
    let mut first = open(&streams, &store, &ask(&[], 0, 100));
    first.series(2);
    let second = ask(&["t"], 10, 200);
    let mut joined = open(&streams, &store, &ask(&["t"], 10, 100));
    joined.series(1);
    drop(first);
    store.let_go(None);
    assert_eq!(joined.end(), alone(&store, &second));
    assert_eq!(store.asked(), [(0, 100), (10, 200)]);
}

#[test]
fn what_nobody_wants_any_more_ends() {
    let store = Arc::new(store(5, &["h", "t"], 0..100));
    store.let_go(Some(0));
    let streams = Streams::new(MANY, LONG);
    let first = open(&streams, &store, &ask(&[], 0, 100));
    let second = open(&streams, &store, &ask(&["t"], 0, 50));
    drop((first, second));
    let until = Instant::now() + PATIENCE;
    while store.stopped.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "it goes on");
        std::thread::yield_now();
    }
    store.let_go(None);
    let third = open(&streams, &store, &ask(&["t"], 0, 50)).end();
    assert_eq!(third.rows.len(), 5);
    assert_eq!(store.asked().len(), 2, "what was given up is not joined");
}

#[test]
fn a_failure_reaches_all_who_depend_on_it_and_nobody_else() {
    let store = Arc::new(Store {
        fails_at: Some(key("d3", "h")),
        ..store(5, &["h", "t"], 0..100)
    });
    let all = ask(&[], 0, 100);
    let streams = Streams::new(MANY, LONG);
    let first = open(&streams, &store, &all);
    let same = open(&streams, &store, &all);
    let less = open(&streams, &store, &ask(&["h"], 0, 90));
    let other = open(&streams, &store, &ask(&["t"], 0, 90));
    for failed in [first.end(), same.end(), less.end()] {
        assert_eq!(failed.ended, Some(Err("as this test wants".to_owned())));
    }
    assert_eq!(other.end(), alone(&store, &ask(&["t"], 0, 90)));
}

#[test]
fn a_source_that_is_gone_is_told_to_all() {
    let streams = Streams::new(MANY, LONG);
    let begin = Begin::new(|_, _| {});
    let open = || Listener::of(streams.open(&name(), 1, ask(&[], 0, 10), &begin));
    for heard in [open(), open()] {
        assert!(heard.end().ended.unwrap().is_err());
    }
}

#[test]
fn a_slow_taker_holds_nobody_up_and_gets_everything() {
    let store = Arc::new(Store {
        lost: (0..10).map(|t| (key("d0", "t"), t)).collect(),
        lost_apart: true,
        gaps: vec![(20, 30)],
        shuffles: true,
        ..store(50, &["h", "t"], 0..100)
    });
    let all = ask(&[], 0, 100);
    // A small part of it.
    let streams = Streams::new(60_000, LONG);
    let mut slow = open(&streams, &store, &all);
    let fast = open(&streams, &store, &all);
    slow.series(1);
    let stuck = slow.heard.rows.clone();
    assert_eq!(fast.end(), alone(&store, &all));
    assert_eq!(slow.heard.rows, stuck);
    assert_eq!(store.asked().len(), 2, "one fetch for both");
    slow.rest();
    assert_eq!(slow.heard, alone(&store, &all));
    let asked = store.asked();
    assert_eq!(
        asked.len(),
        5,
        "the series that it was in, and the rest: {asked:?}"
    );
    drop(slow);
    emptied(&streams);
}

#[test]
fn when_there_is_no_room_who_comes_later_asks_apart() {
    let store = Arc::new(store(50, &["h", "t"], 0..100));
    let all = ask(&[], 0, 100);
    let streams = Streams::new(20_000, LONG);
    let mut first = open(&streams, &store, &all);
    first.series(60);
    // What waits to be taken, and not what was.
    assert!(streams.kept() < 20_000, "{}", streams.kept());
    let second = open(&streams, &store, &ask(&["t"], 0, 100));
    assert_eq!(second.end(), alone(&store, &ask(&["t"], 0, 100)));
    assert_eq!(first.end(), alone(&store, &all));
    assert_eq!(store.asked().len(), 4);
    emptied(&streams);
}

#[test]
fn a_rest_that_has_no_room_is_fetched_with_all() {
    let store = Arc::new(store(50, &["h", "t"], 0..100));
    let streams = Streams::new(40_000, LONG);
    let first = open(&streams, &store, &ask(&["t"], 0, 1));
    drop(first.end());
    let mut first = open(&streams, &store, &ask(&[], 0, 60));
    first.hear(PATIENCE);
    let second = ask(&[], 0, 100);
    assert_eq!(
        open(&streams, &store, &second).end(),
        alone(&store, &second)
    );
    let asked = store.asked();
    assert!(asked.contains(&(60, 100)), "{asked:?}");
    assert_eq!(
        asked.iter().filter(|a| **a == (0, 100)).count(),
        2,
        "{asked:?}"
    );
}

#[test]
fn what_was_fetched_a_while_ago_or_of_another_state_is_fetched_anew() {
    let store = Arc::new(store(2, &["t"], 0..10));
    let all = ask(&[], 0, 10);
    let streams = Streams::new(MANY, Duration::ZERO);
    let first = open(&streams, &store, &all);
    drop(open(&streams, &store, &all).end());
    drop(first.end());
    assert_eq!(store.asked().len(), 2);
    let streams = Streams::new(MANY, LONG);
    for (i, number) in [1, 1, 2].into_iter().enumerate() {
        let inlet = streams.open(&name(), number, all.clone(), &store.begin());
        drop(Listener::of(inlet).end());
        assert_eq!(store.asked().len(), [3, 3, 4][i]);
    }
    let other = "other".parse().unwrap();
    drop(Listener::of(streams.open(&other, 2, all.clone(), &store.begin())).end());
    assert_eq!(store.asked().len(), 5);
    assert!(streams.expire() && streams.kept() > 0);
}

#[test]
fn nothing_stays_when_its_time_is_over() {
    let store = Arc::new(store(2, &["t"], 0..10));
    let streams = Streams::new(MANY, Duration::from_millis(20));
    drop(open(&streams, &store, &ask(&[], 0, 10)).end());
    let until = Instant::now() + PATIENCE;
    while streams.expire() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    emptied(&streams);
}

#[test]
fn who_waits_longer_does_not_join_who_waits_less() {
    let store = Arc::new(store(2, &["t"], 0..10));
    let streams = Streams::new(MANY, LONG);
    let within = |seconds| Ask {
        deadline: Some(Instant::now() + Duration::from_secs(seconds)),
        ..ask(&[], 0, 10)
    };
    for (ask, fetches) in [
        (within(100), 1),
        (within(100), 1),
        (within(10), 1),
        (within(200), 2),
        (ask(&[], 0, 10), 3),
        (within(2000), 3),
    ] {
        drop(open(&streams, &store, &ask).end());
        assert_eq!(store.asked().len(), fetches);
    }
}

#[test]
fn who_caused_a_fetch_is_told_what_it_cost() {
    let store = Arc::new(store(2, &["t"], 0..100));
    let streams = Streams::new(MANY, LONG);
    let asks = [ask(&[], 0, 50), ask(&[], 0, 50), ask(&[], 10, 55)];
    let listeners = asks.map(|ask| open(&streams, &store, &ask));
    let fetched = listeners.map(|mut listener| {
        listener.rest();
        listener.fetched
    });
    assert_eq!(fetched, [100, 0, 10]);
}
