//! Overlapping tasks at the same time, of a real server: it is asked once for what
//! they have in common, and none gets what it did not ask for.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fades_task::coverage::Coverage;
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::Dto;
use fades_task::time::Time;

use super::{BOARDS, Influxd, table};
use crate::broker::{Broker, Ended, Totals, drain, dto, sources};
use crate::web::{Asked, Reply, Web};

const SECOND: i64 = 1_000_000_000;

/// Tasks may come so late that the first is not joined any more: a host that is busy.
const ATTEMPTS: usize = 50;

/// Four boards with two kinds, a reading a second for twenty minutes, and a value now
/// and then that is none.
fn filled(test: &str) -> Option<Influxd> {
    let influxd = Influxd::start(test)?;
    let mut lines = String::new();
    for i in 0..1200 {
        for board in ["a", "b", "c", "d"] {
            for (kind, value) in [("t", i), ("h", 2 * i)] {
                let time = i * SECOND;
                lines +=
                    &format!("readings,board={board},type={kind},room=1 value={value} {time}\n");
            }
        }
        if i % 100 == 0 {
            lines += &format!("readings,type=t,room=1 value=1 {}\n", i * SECOND);
        }
    }
    influxd.write(&lines);
    Some(influxd)
}

/// Hands everything on to the server; `before` each question.
fn counting(influxd: &Influxd, before: impl Fn(&Asked) + Send + Sync + 'static) -> Web {
    let (agent, url) = (influxd.agent().clone(), format!("{}/query", influxd.url));
    Web::start(move |asked| {
        before(asked);
        let form = [
            ("db", "lab"),
            ("epoch", "ns"),
            ("chunked", "true"),
            ("chunk_size", "10000"),
            ("q", &asked.body),
        ];
        let request = agent.post(&url).header("accept", "application/x-msgpack");
        let mut answer = request.send_form(form).unwrap();
        Reply::Body(answer.body_mut().read_to_vec().unwrap())
    })
}

fn wants_readings(asked: &Asked) -> bool {
    asked.body.starts_with("SELECT \"value\"")
}

/// The ranges of the readings that a server was asked for, s.
fn ranges(web: &Web) -> Vec<(i64, i64)> {
    let asked = web.asked().into_iter().filter(wants_readings);
    let mut ranges: Vec<_> = asked
        .map(|asked| {
            let number = |after: &str| {
                let (_, rest) = asked.body.split_once(after).unwrap();
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-');
                let number: i64 = rest[..end.unwrap_or(rest.len())].parse().unwrap();
                number / SECOND
            };
            (number("time >= "), number("time < "))
        })
        .collect();
    ranges.sort_unstable();
    ranges
}

/// Waits until the server is asked for readings that end then, s.
fn until_asked(web: &Web, end: i64) {
    let late = Instant::now() + Duration::from_secs(60);
    while !ranges(web).iter().any(|(_, to)| *to == end) {
        assert!(Instant::now() < late, "not asked until {end}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn between(name: &str, from: i64, to: i64) -> Dto {
    Dto {
        from: Time(from * SECOND),
        to: Time(to * SECOND),
        ..dto(name)
    }
}

/// What can be compared: whoever causes a fetch is told what it cost.
fn told(coverage: Coverage) -> Coverage {
    Coverage {
        rows: 0,
        bytes: 0,
        ..coverage
    }
}

/// What a task gets that is alone.
fn alone(influxd: &Influxd, dto: &Dto) -> (Coverage, Totals) {
    let broker = Broker::start(&sources(&table(&influxd.url, BOARDS)), "/".as_ref());
    let (ended, totals) = broker.run(std::slice::from_ref(dto));
    (told(ended.good()), totals)
}

/// Hands two tasks in one after the other, until the server is asked `expected`; each time both
/// get what they get alone.
fn together(influxd: &Influxd, dtos: [Dto; 2], expected: &[(i64, i64)]) {
    let each = dtos.clone().map(|dto| alone(influxd, &dto));
    for _ in 0..ATTEMPTS {
        let web = counting(influxd, |_| ());
        let broker = Broker::start(&sources(&table(&web.url, BOARDS)), "/".as_ref());
        let mut tenders = Vec::new();
        for (i, dto) in dtos.iter().enumerate() {
            tenders.push(broker.begin(i as u64, std::slice::from_ref(dto)));
            if i == 0 {
                until_asked(&web, dto.to.0 / SECOND);
            }
        }
        for (tender, (_, totals)) in tenders.iter().zip(&each) {
            let mut got = Totals::default();
            assert!(drain(tender, |batch| got.add(batch)).finished);
            assert_eq!(got.rows, totals.rows);
            assert!(got.series.keys().eq(totals.series.keys()));
            for (got, expected) in got.series.values().zip(totals.series.values()) {
                assert_eq!(
                    (&got.times, &got.values),
                    (&expected.times, &expected.values)
                );
            }
        }
        for _ in &dtos {
            let mut ended = Ended::of(broker.report());
            assert_eq!(ended.failure, None);
            let coverage = told(ended.coverage.remove(0));
            let mut expected = each.iter().map(|(coverage, _)| coverage);
            assert!(expected.any(|e| *e == coverage), "{coverage:?}");
        }
        if ranges(&web) == expected {
            return;
        }
    }
    panic!("what overlaps is asked for twice");
}

#[test]
fn a_part_of_what_another_task_asks_for_is_not_asked_for_again() {
    let Some(influxd) = filled("influx_part_of_another") else {
        return;
    };
    let some = Dto {
        kind: vec!["t".into()],
        device: vec!["a".into(), "c".into()],
        ..between("some", 100, 200)
    };
    together(&influxd, [between("all", 0, 1200), some], &[(0, 1200)]);
}

#[test]
fn of_a_range_that_overlaps_another_only_the_rest_is_asked_for() {
    let Some(influxd) = filled("influx_overlap") else {
        return;
    };
    let second = between("more", 50, 1100);
    let expected = [(50, 100), (100, 1000), (1000, 1100)];
    together(&influxd, [between("first", 100, 1000), second], &expected);
}

#[test]
fn a_task_that_is_cancelled_takes_nothing_from_another() {
    let Some(influxd) = filled("influx_cancelled") else {
        return;
    };
    // Longer than the other task's: the question for the rest tells that it joined.
    let second = between("second", 300, 1300);
    let (coverage, totals) = alone(&influxd, &second);
    for _ in 0..ATTEMPTS {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = Arc::clone(&gate);
        let web = counting(&influxd, move |asked| {
            let mut open = held.0.lock().unwrap();
            while wants_readings(asked) && !*open {
                open = held.1.wait(open).unwrap();
            }
        });
        let broker = Broker::start(&sources(&table(&web.url, BOARDS)), "/".as_ref());
        let large = broker.begin(1, &[between("large", 0, 1200)]);
        until_asked(&web, 1200);
        let second = broker.begin(2, std::slice::from_ref(&second));
        until_asked(&web, 1300);
        let cancel = BrokerRequest::Cancel { run: 1 };
        broker.control.send(&cancel, &[], &[]).unwrap();
        let BrokerReport::RetrieveEnded { run, stopped, .. } = broker.report() else {
            panic!()
        };
        assert!(run == 1 && stopped);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let mut got = Totals::default();
        assert!(drain(&second, |batch| got.add(batch)).finished);
        assert_eq!(got.series, totals.series);
        assert_eq!(
            told(Ended::of(broker.report()).coverage.remove(0)),
            coverage
        );
        drop(large);
        if ranges(&web) == [(0, 1200), (1200, 1300)] {
            return;
        }
    }
    panic!("what was under way is not gone on with");
}

#[test]
fn what_was_written_a_while_ago_is_not_missed() {
    let Some(influxd) = filled("influx_fresh") else {
        return;
    };
    let web = counting(&influxd, |_| ());
    let broker = Broker::start(&sources(&table(&web.url, BOARDS)), "/".as_ref());
    let rows = |dto: Dto| broker.run(&[dto]).1.rows;
    assert_eq!(rows(between("all", 0, 2000)), 9600);
    influxd.write(&format!(
        "readings,board=a,type=t,room=1 value=1 {}",
        1500 * SECOND
    ));
    // What is shared is a second old at most.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(rows(between("some", 1000, 2000)), 1601);
}
