//! Many units, many questions, and many dead ones on one bus.

use std::time::{Duration, Instant};

use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;

use super::plant::Plant;
use super::{ONE, asked, now, start, until};
use crate::broker::{Ended, drain, dto, each, soon};

#[test]
fn questions_that_overlap_are_one_and_each_gets_what_it_asked_for() {
    let plant = Plant::tcp();
    let registers = format!("{ONE}, {{ table = \"input\", address = 1, kind = \"p\" }}");
    let broker = start(&plant.url(), &[1, 2, 3], &registers);
    let of = |device: &str, kind: &str| Dto {
        device: vec![device.to_owned()],
        kind: vec![kind.to_owned()],
        ..now()
    };
    let one = broker.begin_in(1, &[of("meter-[12]", "p"), of("meter-2", "*")], "20s");
    let two = broker.begin_in(2, &[of("meter-[23]", "t")], "20s");
    let (_, totals) = each(&one, 2);
    let found = |i: usize| -> Vec<String> {
        let keys = totals[i].series.keys();
        keys.map(|(d, _, k)| format!("{d} {k}")).collect()
    };
    assert_eq!(found(0), ["meter-1 p", "meter-2 p"]);
    assert_eq!(found(1), ["meter-2 p", "meter-2 t"]);
    let (_, totals) = each(&two, 1);
    assert_eq!(totals[0].devices(), ["meter-2", "meter-3"]);
    for _ in 0..2 {
        assert_eq!(Ended::of(broker.report()).failure, None);
    }
    let mut requests = plant.requests();
    requests.sort();
    let once = [
        "1 input 1+1",
        "2 holding 0+1",
        "2 input 1+1",
        "3 holding 0+1",
    ];
    assert_eq!(requests, once);
}

#[test]
fn need_counts_units_that_failed_and_says_its_numbers() {
    let plant = Plant::tcp();
    plant.die(&[4, 5]);
    let options = format!("{}\ntimeout = \"50ms\"", plant.url());
    let broker = start(&options, &[1, 2, 3, 4, 5], ONE);
    let need = |share: &str| Dto {
        need: Some(share.parse().unwrap()),
        ..now()
    };
    let (ended, totals) = broker.run_in(&[need("60%")], "20s");
    let coverage = ended.good();
    assert_eq!((coverage.answered, coverage.failed), (3, 2));
    assert_eq!(totals[0].rows, 3);
    let names: Vec<&str> = coverage.absent.iter().map(|a| a.device.as_str()).collect();
    assert_eq!(names, ["meter-4", "meter-5"]);
    assert!(
        coverage
            .absent
            .iter()
            .all(|a| a.reason.contains("no answer within 50ms"))
    );
    let (ended, _) = broker.run_in(&[need("61%")], "20s");
    let words = ended.failure_text();
    assert!(
        words.contains("3 of 5 devices answered, needed: 61%"),
        "{words}"
    );
}

#[test]
fn many_dead_units_together_take_a_small_share_of_the_time() {
    let plant = Plant::tcp();
    let dead: Vec<u8> = (2..=9).collect();
    plant.die(&dead);
    let options = format!("{}\ntimeout = \"100ms\"\nevery = \"10ms\"", plant.url());
    let broker = start(&options, &(1..=9).collect::<Vec<_>>(), ONE);
    let until_end = Dto {
        take: Take::Live { count: None },
        to: Time(i64::MAX),
        ..dto("d")
    };
    let collecting = broker.begin_in(1, &[until_end], "100s");
    let probes = || dead.iter().map(|d| plant.asked(*d)).sum::<usize>();
    let deadline = soon().unwrap();
    // Three times each until they are known to be broken.
    while probes() < 3 * dead.len() {
        assert!(Instant::now() < deadline, "{}", probes());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (before, began) = (probes(), Instant::now());
    std::thread::sleep(Duration::from_secs(9));
    let share = (probes() - before) as f64 * 0.1 / began.elapsed().as_secs_f64();
    // Without a bound each would be asked again after 1, 2 and 4 s: a quarter.
    assert!(share <= 0.045, "{share}");
    assert!(probes() > before, "they may live again");
    drop(collecting);
    let _ = broker.report();
}

#[test]
fn questions_that_a_bus_cannot_take_are_refused_in_words() {
    let plant = Plant::tcp();
    plant.die(&(1..=247).collect::<Vec<_>>());
    let options = format!("{}\ntimeout = \"2s\"", plant.url());
    let broker = start(&options, &(1..=247).collect::<Vec<_>>(), ONE);
    // All different, so that none is answered with another's.
    let ask = |n: u64| Dto {
        from: Time(n as i64),
        ..now()
    };
    let runs: Vec<_> = (0..90)
        .map(|n| broker.begin_in(n, &[ask(n)], "5s"))
        .collect();
    for run in &runs {
        drain(run, |_| ());
    }
    let ended: Vec<Ended> = runs.iter().map(|_| Ended::of(broker.report())).collect();
    let said = |words: &str| {
        let of = |e: &&Ended| {
            let absent = e.coverage.iter().flat_map(|c| &c.absent);
            let mut reasons: Vec<String> = absent.map(|a| a.reason.clone()).collect();
            reasons.extend(e.failure.as_ref().map(ToString::to_string));
            reasons.iter().any(|r| r.contains(words))
        };
        ended.iter().filter(of).count()
    };
    // So many questions wait to be looked at, and so many units to be asked.
    assert!(said("too many questions wait for tcp://") > 0);
    assert!(said("too many questions wait for this bus") > 0);
    // The bus works as soon as it can.
    plant.revive();
    until(&broker, |c| c.answered > 0);
}

#[test]
fn an_address_that_swallows_connections_is_given_up() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Its queue is full, and nobody takes from it: further ones get no answer.
    let full: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))
            })
        })
        .map(|t| t.join().unwrap())
        .collect();
    assert!(full.iter().any(Result::is_err), "its queue is not full");
    let options = format!("url = \"tcp://{address}\"\ntimeout = \"50ms\"");
    let broker = start(&options, &[1, 2], ONE);
    let began = Instant::now();
    let (coverage, _) = asked(&broker, now(), "30s");
    assert_eq!(coverage.failed, 2, "{coverage:?}");
    let reason = &coverage.absent[0].reason;
    assert!(reason.contains("no connection within 3s"), "{reason}");
    // Two units, one attempt.
    assert!(
        began.elapsed() < Duration::from_millis(5_500),
        "{:?}",
        began.elapsed()
    );
    drop((full, entered));
}
