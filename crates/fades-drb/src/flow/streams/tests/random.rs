//! Any asks of any source, in any order: what is shared is what is not.

use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use proptest::test_runner::Config;

use super::*;

const KINDS: [&str; 3] = ["h", "t", "t2"];

fn stores() -> impl Strategy<Value = Store> {
    let keys = || (0..4_usize, 0..3_usize).prop_map(|(d, k)| key(&format!("d{d}"), KINDS[k]));
    let rows = prop::collection::vec((0..60_i64, 0..3_u8, 0..2_u8), 0..120);
    let rows = rows.prop_map(|rows| {
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|(t, v, m)| (t, f64::from(v), m))
            .collect();
        rows.sort_by_key(|r| r.0);
        rows
    });
    let what = (
        prop::collection::btree_map(keys(), rows, 0..8),
        prop::collection::vec((keys(), 0..60_i64), 0..6),
        prop::collection::btree_map(0..60_i64, 0..20_i64, 0..3),
    );
    let how = (
        prop::option::weighted(0.3, 1..20_i64),
        prop::option::weighted(0.2, keys()),
        prop::option::weighted(0.1, keys()),
        1..9_usize,
        any::<bool>(),
        prop::bool::weighted(0.8),
    );
    (what, how).prop_map(
        |((rows, lost, gaps), (step, fails_at, absent, piece, shuffles, lost_apart))| Store {
            rows,
            lost,
            gaps: gaps.into_iter().map(|(t, n)| (t, t + n)).collect(),
            step,
            fails_at,
            absent,
            piece,
            shuffles,
            lost_apart,
            ..Store::default()
        },
    )
}

fn asks() -> impl Strategy<Value = Ask> {
    let kinds = prop::sample::select(vec![vec![], vec![], vec!["t"], vec!["t", "h"], vec!["t*"]]);
    let devices = prop::sample::select(vec!["", "", "d1", "d[12]"]);
    let range = prop::sample::select(vec![(0, 60), (10, 50), (i64::MIN, i64::MAX), (-3, 31)]);
    let range = (range, -3..4_i64, -3..4_i64);
    (kinds, devices, range).prop_map(|(kinds, device, ((from, to), a, b))| {
        let kind = kinds.iter().map(|k| (*k).to_owned()).collect();
        let device = Some(device.to_owned()).filter(|d| !d.is_empty());
        let dto = Dto {
            kind,
            device: device.into_iter().collect(),
            from: Time(from.saturating_add(a)),
            to: Time(to.saturating_add(b)),
            ..Dto::all("d".parse().unwrap())
        };
        Ask {
            selector: Selector::compile(&dto).unwrap(),
            ..ask(&[], 0, 0)
        }
    })
}

#[derive(Debug, Clone)]
enum Deed {
    Open(Box<Ask>),
    Hear(usize, usize),
    Leave(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed =
        (0..8_usize, asks(), any::<usize>(), 1..40_usize).prop_map(
            |(which, ask, i, n)| match which {
                0..4 => Deed::Open(Box::new(ask)),
                4..7 => Deed::Hear(i, n),
                _ => Deed::Leave(i),
            },
        );
    prop::collection::vec(deed, 1..16)
}

/// The same whatever it is for: a failure may come sooner or later.
fn comparable(heard: Heard) -> Heard {
    match &heard.ended {
        Some(Err(_)) => Heard {
            ended: heard.ended,
            ..Heard::default()
        },
        _ => heard,
    }
}

proptest! {
    #![proptest_config(Config { cases: 300, ..Config::default() })]
    #[test]
    fn shared_answers_equal_those_that_are_not(
        store in stores(),
        deeds in deeds(),
        room in prop::sample::select(vec![0, 3_000, 10_000, MANY]),
    ) {
        let store = Arc::new(store);
        let streams = Streams::new(room, LONG);
        let mut listeners: Vec<(Ask, Listener)> = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Open(ask) => {
                    let listener = open(&streams, &store, &ask);
                    listeners.push((*ask, listener));
                }
                Deed::Hear(i, many) if !listeners.is_empty() => {
                    let i = i % listeners.len();
                    let (_, listener) = &mut listeners[i];
                    for _ in 0..many {
                        if listener.heard.ended.is_none() {
                            listener.hear(Duration::from_millis(1));
                        }
                    }
                }
                Deed::Leave(i) if !listeners.is_empty() => {
                    drop(listeners.swap_remove(i % listeners.len()));
                }
                Deed::Hear(..) | Deed::Leave(_) => {}
            }
        }
        for (ask, listener) in listeners {
            let heard = comparable(listener.end());
            prop_assert_eq!(heard, comparable(alone(&store, &ask)), "{:?}", ask);
        }
        streams.lock().clear();
        emptied(&streams);
    }
}
