//! Modbus devices through the broker: real servers over TCP and on a pseudo
//! terminal, and devices that answer wrongly.

mod crowded;
mod faults;
mod plant;
mod refused;
mod serial;

use std::time::{Duration, Instant};

use fades_task::coverage::{Coverage, LossReason};
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;

use crate::broker::{Broker, Ended, Totals, drain, dto, soon, sources};
use plant::Plant;

/// A source of `units` with these options and registers.
fn source(options: &str, units: &[u8], registers: &str) -> fades_drb::config::Sources {
    let unit =
        |id: &u8| format!("{{ id = {id}, device = \"meter-{id}\", location = \"hall/{id}\" }}");
    let units: Vec<String> = units.iter().map(unit).collect();
    sources(&format!(
        "[source.plant]\ntype = \"modbus\"\n{options}\nunits = [{}]\nregisters = [{registers}]\n",
        units.join(", ")
    ))
}

fn start(options: &str, units: &[u8], registers: &str) -> Broker {
    Broker::start(&source(options, units, registers), "/".as_ref())
}

const ONE: &str = "{ table = \"holding\", address = 0, kind = \"t\", unit = \"Cel\", scale = 0.1 }";

fn now() -> Dto {
    Dto {
        take: Take::Now,
        ..dto("d")
    }
}

fn asked(broker: &Broker, dto: Dto, within: &str) -> (Coverage, Totals) {
    let (ours, theirs) = fades_wire::Channel::pair().unwrap();
    let request = BrokerRequest::Retrieve {
        of: None,
        run: 1,
        dtos: vec![dto],
        window: fades_task::quantity::Size(64 << 20),
        within: Some(within.parse().unwrap()),
        answers: Vec::new(),
    };
    let theirs = [std::os::fd::AsFd::as_fd(&theirs)];
    broker.control.send(&request, &[], &theirs).unwrap();
    let mut totals = Totals::default();
    drain(&ours, |batch| totals.add(batch));
    drop(ours);
    let ended = Ended::of(broker.report());
    (ended.coverage.into_iter().next().unwrap(), totals)
}

/// Asks until `is` holds.
fn until(broker: &Broker, mut is: impl FnMut(&Coverage) -> bool) -> Coverage {
    let deadline = soon().unwrap();
    loop {
        let (coverage, _) = asked(broker, now(), "5s");
        if is(&coverage) {
            return coverage;
        }
        assert!(Instant::now() < deadline, "{coverage:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const ALL: &str = r#"
    { table = "holding", address = 0, type = "i16", scale = 0.1, kind = "t", unit = "°C", valid = [-10, 30], missing = -32768 },
    { table = "holding", address = 1, type = "f32", order = "cdab", kind = "p", unit = "W" },
    { table = "holding", address = 5, type = "u64", kind = "e", unit = "Wh" },
    { table = "input", address = 65535, kind = "last" },
    { table = "coil", address = 9, kind = "on" },
    { table = "discrete", address = 12, kind = "open" },
"#;

#[test]
fn values_of_all_tables_arrive_in_few_requests() {
    let plant = Plant::tcp();
    let w = 230.5_f32.to_bits();
    plant.set(
        3,
        &[
            (0, 412),
            (1, w as u16),
            (2, (w >> 16) as u16),
            (5, 0),
            (6, 0),
            (7, 1),
            (8, 2),
        ],
    );
    plant.set(3, &[(65535, 7), (9, 1), (12, 0)]);
    plant.set(4, &[(0, 0x8000), (1, 0), (2, 0xFF80), (65535, 1)]);
    let broker = start(&plant.url(), &[3, 4], ALL);
    let (coverage, totals) = asked(&broker, now(), "5s");
    assert_eq!(
        (coverage.matched, coverage.answered),
        (2, 2),
        "{coverage:?}"
    );
    assert_eq!((coverage.used, coverage.marked), (10, 1));
    // Minus infinity.
    assert_eq!(coverage.lost, [(LossReason::NotFinite, 1)].into());
    let of = |kind: &str| totals.of("meter-3", kind);
    assert_eq!((of("t").values[0], of("t").marked), (412.0 * 0.1, 1));
    assert_eq!(of("t").unit, "Cel");
    assert_eq!(of("p").values, [230.5]);
    assert_eq!(of("e").values, [65538.0]);
    assert_eq!(of("e").unit, "W.h");
    assert_eq!((of("on").values[0], of("open").values[0]), (1.0, 0.0));
    let devices: Vec<String> = totals
        .series
        .keys()
        .map(|(d, l, k)| format!("{d} {l} {k}"))
        .collect();
    assert!(devices.contains(&"meter-3 hall/3 last".to_owned()));
    assert!(
        !devices.contains(&"meter-4 hall/4 t".to_owned()),
        "it is missing"
    );
    let asked: Vec<String> = plant
        .requests()
        .into_iter()
        .filter(|r| r.starts_with("3 "))
        .collect();
    assert_eq!(
        asked,
        [
            "3 coil 9+1",
            "3 discrete 12+1",
            "3 holding 0+9",
            "3 input 65535+1"
        ]
    );
}

#[test]
fn a_question_is_about_what_it_names_and_asked_once_a_second() {
    let plant = Plant::tcp();
    let registers = format!("{ONE}, {{ table = \"input\", address = 1, kind = \"p\" }}");
    let broker = start(&plant.url(), &[1, 2, 3], &registers);
    let some = Dto {
        device: vec!["meter-[12]".into()],
        kind: vec!["p".into()],
        ..now()
    };
    let (coverage, _) = asked(&broker, some, "5s");
    assert_eq!((coverage.matched, coverage.answered), (2, 2));
    assert_eq!(plant.requests(), ["1 input 1+1", "2 input 1+1"]);
    let one = Dto {
        device: vec!["meter-2".into()],
        ..now()
    };
    let (coverage, _) = asked(&broker, one, "5s");
    assert_eq!(coverage.used, 2);
    let fresh = ["1 input 1+1", "2 input 1+1", "2 holding 0+1"];
    assert_eq!(
        plant.requests(),
        fresh,
        "what was read a moment ago is not read again"
    );
    let none = Dto {
        kind: vec!["x".into()],
        ..now()
    };
    let (ended, _) = broker.run(&[none]);
    assert!(
        ended.failure_text().contains("kind x"),
        "{}",
        ended.failure_text()
    );
}

#[test]
fn a_refused_register_is_found_once_and_only_it_is_lost() {
    let plant = Plant::tcp();
    plant.refuse(&[5]);
    let register = |a: u16| format!("{{ table = \"holding\", address = {a}, kind = \"k{a}\" }}");
    let registers: Vec<String> = (0..16).map(register).collect();
    let broker = start(&plant.url(), &[1], &registers.join(", "));
    let (coverage, _) = asked(&broker, now(), "5s");
    assert_eq!((coverage.answered, coverage.used), (1, 15), "{coverage:?}");
    assert_eq!(coverage.lost, [(LossReason::Refused, 1)].into());
    assert_eq!(coverage.cited[0].column.as_deref(), Some("holding 5"));
    let searched = plant.requests().len();
    assert!((8..=10).contains(&searched), "{:?}", plant.requests());
    until(&broker, |_| plant.requests().len() > searched);
    let after = plant.requests()[searched..].to_vec();
    assert_eq!(after, ["1 holding 0+5", "1 holding 6+10"]);
    // A device of which nothing can be read has failed.
    let broker = start(&plant.url(), &[1], &register(5));
    let (coverage, _) = asked(&broker, now(), "5s");
    assert_eq!((coverage.failed, coverage.absent.len()), (1, 1));
    assert!(
        coverage.absent[0]
            .reason
            .contains("holding 5: Illegal data address"),
        "{coverage:?}"
    );
}

#[test]
fn what_lies_between_registers_is_not_read_when_the_unit_refuses_it() {
    let plant = Plant::tcp();
    plant.refuse(&[2]);
    let registers = "{ table = \"holding\", address = 1, kind = \"a\" }, \
                     { table = \"holding\", address = 3, kind = \"b\" }";
    let broker = start(&plant.url(), &[1], registers);
    let (coverage, _) = asked(&broker, now(), "5s");
    assert_eq!((coverage.used, coverage.lost.len()), (2, 0));
    assert_eq!(
        plant.requests(),
        ["1 holding 1+3", "1 holding 1+1", "1 holding 3+1"]
    );
    until(&broker, |_| plant.requests().len() > 3);
    assert_eq!(plant.requests()[3..], ["1 holding 1+1", "1 holding 3+1"]);
}

#[test]
fn a_dead_unit_costs_its_own_time_and_later_next_to_none() {
    let plant = Plant::tcp();
    plant.die(&[2]);
    let options = format!("{}\ntimeout = \"100ms\"", plant.url());
    let broker = start(&options, &[1, 2, 3], ONE);
    let (coverage, _) = asked(&broker, now(), "5s");
    assert_eq!((coverage.answered, coverage.failed), (2, 1), "{coverage:?}");
    assert_eq!(coverage.absent[0].device, "meter-2");
    assert!(
        coverage.absent[0]
            .reason
            .contains("unit 2: no answer within 100ms"),
        "{coverage:?}"
    );
    // Broken after three times; then it is not asked for a second at least.
    let coverage = until(&broker, |c| c.absent[0].reason.contains("asked again"));
    assert_eq!((coverage.answered, coverage.failed), (2, 1));
    // Whoever looks late meets it at the end of its first rest.
    let probes = plant.asked(2);
    assert!((3..=4).contains(&probes), "{probes}");
    let devices = resources(&broker);
    let state = |d: &str| devices.iter().find(|x| x.0 == d).unwrap().1.clone();
    assert_eq!(
        (state("meter-1"), state("meter-2")),
        ("alive".into(), "broken".into())
    );
    // While others work, dead ones take a small share of the time.
    let (before, began) = (plant.asked(2), Instant::now());
    while began.elapsed() < Duration::from_secs(6) {
        asked(&broker, now(), "5s");
    }
    let probes = plant.asked(2) - before;
    assert!((1..=2).contains(&probes), "{probes}");
    plant.revive();
    until(&broker, |c| c.answered == 3);
}

fn resources(broker: &Broker) -> Vec<(String, String)> {
    let report = broker.ask(&BrokerRequest::Resources { id: 1 });
    let BrokerReport::Resources { devices, .. } = report else {
        panic!("{report:?}")
    };
    let state = |d: &fades_task::resource::Device| {
        let state = d
            .liveness
            .as_ref()
            .map(|l| serde_json::to_value(l.state).unwrap());
        state.map_or(String::new(), |s| s.as_str().unwrap_or_default().to_owned())
    };
    devices
        .iter()
        .map(|d| (d.device.clone(), state(d)))
        .collect()
}

#[test]
fn a_slow_unit_is_late_and_a_stopped_question_is_not_asked() {
    let plant = Plant::tcp();
    plant.die(&[1]);
    let options = format!("{}\ntimeout = \"2s\"", plant.url());
    let broker = start(&options, &[1, 2, 3], ONE);
    let began = Instant::now();
    let (coverage, _) = asked(&broker, now(), "200ms");
    assert!(began.elapsed() < Duration::from_millis(1500));
    assert_eq!((coverage.late, coverage.answered), (3, 0), "{coverage:?}");
    until(&broker, |c| c.answered == 2);
    assert_eq!(
        plant.asked(2),
        1,
        "the late question was not asked after all"
    );
}

#[test]
fn units_are_read_by_themselves_while_somebody_collects() {
    let plant = Plant::tcp();
    plant.set(1, &[(0, 215)]);
    let options = format!("{}\nevery = \"20ms\"", plant.url());
    let broker = start(&options, &[1, 2], ONE);
    assert_eq!(
        plant.requests(),
        Vec::<String>::new(),
        "nobody wants it yet"
    );
    let collect = Dto {
        take: Take::Live { count: Some(10) },
        to: Time(i64::MAX),
        ..dto("d")
    };
    let (coverage, totals) = asked(&broker, collect, "20s");
    assert_eq!((coverage.answered, coverage.used), (2, 10), "{coverage:?}");
    assert_eq!(totals.of("meter-1", "t").values[0], 21.5);
    let at_rest = || {
        let before = plant.requests().len();
        std::thread::sleep(Duration::from_millis(200));
        plant.requests().len() == before
    };
    let deadline = soon().unwrap();
    while !at_rest() {
        assert!(
            Instant::now() < deadline,
            "units are read though nobody wants it"
        );
    }
}

#[test]
fn a_server_may_come_later_and_go_and_come_again() {
    let mut plant = Plant::tcp();
    let options = plant.url();
    plant.stop();
    let broker = start(&options, &[1, 2], ONE);
    let (coverage, _) = asked(&broker, now(), "5s");
    assert_eq!((coverage.failed, coverage.matched), (2, 2), "{coverage:?}");
    let reason = &coverage.absent[0].reason;
    assert!(
        reason.contains("no connection: Connection refused"),
        "{reason}"
    );
    plant.start();
    until(&broker, |c| c.answered == 2);
    plant.stop();
    until(&broker, |c| c.failed == 2);
    plant.start();
    until(&broker, |c| c.answered == 2);
}

#[test]
fn a_test_of_the_source_says_what_is_there() {
    let plant = Plant::tcp();
    plant.die(&[2]);
    let options = format!("{}\ntimeout = \"50ms\"", plant.url());
    let broker = start(&options, &[1, 2], ONE);
    let source = "plant".parse().unwrap();
    let BrokerReport::Tested { report, .. } =
        broker.ask(&BrokerRequest::TestSource { id: 1, source })
    else {
        panic!()
    };
    let report = report.unwrap();
    assert!(report.reads.starts_with("tcp://127.0.0.1:"));
    assert_eq!((report.coverage.matched, report.coverage.answered), (2, 1));
    assert_eq!(report.sample.len(), 1);
}

#[test]
fn a_serial_bus_works_over_a_pseudo_terminal() {
    let plant = Plant::rtu();
    plant.set(1, &[(0, 215)]);
    plant.set(9, &[(0, 65)]);
    plant.die(&[5]);
    let options = format!("{}\nbaud = 115200\ntimeout = \"200ms\"", plant.url());
    let broker = start(&options, &[1, 5, 9], ONE);
    let (coverage, totals) = asked(&broker, now(), "10s");
    assert_eq!((coverage.answered, coverage.failed), (2, 1), "{coverage:?}");
    assert_eq!(totals.of("meter-1", "t").values, [21.5]);
    assert_eq!(totals.of("meter-9", "t").values, [6.5]);
    assert!(
        coverage.absent[0]
            .reason
            .contains("unit 5: no answer within 200ms")
    );
    let gone = start("serial = \"/dev/does-not-exist\"", &[1], ONE);
    let (coverage, _) = asked(&gone, now(), "5s");
    assert!(
        coverage.absent[0].reason.contains("cannot be opened"),
        "{coverage:?}"
    );
}
