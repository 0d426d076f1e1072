//! InfluxDB: a real server of 1.x, and what servers may do wrong.

use std::collections::BTreeMap;

use fades_task::coverage::{Coverage, LossReason};
use fades_task::mtw::{Aggregate, AggregateKind, Dto};
use fades_task::quantity::Duration;
use fades_task::time::Time;

use crate::broker::{Broker, Ended, Totals, dto, sources};

mod bounds;
mod daemon;
mod faults;
mod large;
mod parts;
mod played;
mod quality;
mod second;
mod shared;

use daemon::Influxd;

/// The table of a source on `url`.
fn table(url: &str, rest: &str) -> String {
    format!("[source.lab]\ntype = \"influx\"\nurl = \"{url}\"\n{rest}")
}

const BOARDS: &str = "database = \"lab\"\nmeasurement = \"readings\"\n\
    map = { device = \"board\", kind = \"type\", location = \"room\", unit = \"unit\" }\n";

fn ask(url: &str, rest: &str, dtos: &[Dto]) -> (Ended, Totals) {
    let folder = tempfile::tempdir().unwrap();
    Broker::start(&sources(&table(url, rest)), folder.path()).run(dtos)
}

fn good(url: &str, rest: &str, dto: Dto) -> (Coverage, Totals) {
    let (ended, totals) = ask(url, rest, &[dto]);
    (ended.good(), totals)
}

fn devices(totals: &Totals) -> Vec<&str> {
    totals.series.keys().map(|(d, _, _)| d.as_str()).collect()
}

#[test]
fn readings_come_as_they_were_written() {
    let Some(influxd) = Influxd::start("readings_come_as_they_were_written") else {
        return;
    };
    influxd.write(
        "readings,board=a,type=temperature,room=1/a,unit=°C value=21.5 1000\n\
         readings,board=a,type=temperature,room=1/a,unit=°C value=22.5 2000\n\
         readings,board=a,type=count,room=1/a value=7 1500\n\
         readings,board=b,type=temperature,room=2,unit=degF,host=x value=70 1000\n\
         readings,board=b,type=temperature,room=2,unit=degF,host=y value=71 500\n\
         readings,board=c,type=temperature,unit=°C value=-3 -1000\n\
         readings,type=temperature,room=2 value=9 1\n\
         other,board=z value=1 1",
    );
    let (coverage, totals) = good(&influxd.url, BOARDS, dto("all"));
    assert_eq!((coverage.matched, coverage.answered), (3, 3));
    assert_eq!((coverage.rows, coverage.used), (7, 6));
    assert_eq!(coverage.lost, [(LossReason::Unnamed, 1)].into());
    assert!(coverage.bytes > 100);
    let a = totals.of("a", "temperature");
    assert_eq!(
        (a.times.as_slice(), a.values.as_slice()),
        (&[1000, 2000][..], &[21.5, 22.5][..])
    );
    assert_eq!(a.unit, "Cel");
    let b = totals.of("b", "temperature");
    assert_eq!(
        (b.times.as_slice(), b.values.as_slice()),
        (&[500, 1000][..], &[71.0, 70.0][..])
    );
    assert_eq!(b.unit, "[degF]");
    assert_eq!(totals.of("c", "temperature").times, [-1000]);

    let one = Dto {
        kind: vec!["temp*".into()],
        from: Time(1000),
        to: Time(2000),
        ..dto("d")
    };
    let (coverage, totals) = good(&influxd.url, BOARDS, one);
    // Board c matches and has nothing in this range.
    assert_eq!(
        (coverage.matched, coverage.answered, coverage.empty),
        (3, 2, 1)
    );
    assert_eq!(totals.rows, 2);
    let here = Dto {
        location: vec!["1/*".into()],
        unit: Some("Cel".into()),
        ..dto("d")
    };
    let (coverage, totals) = good(&influxd.url, BOARDS, here);
    assert_eq!((devices(&totals), coverage.matched), (vec!["a"], 1));
    assert_eq!(coverage.lost, [(LossReason::Unit, 1)].into());
    let nowhere = Dto {
        location: vec!["".into(), "**".into()],
        ..dto("d")
    };
    assert_eq!(good(&influxd.url, BOARDS, nowhere).0.matched, 3);
}

#[test]
fn every_form_of_series_is_read() {
    let Some(influxd) = Influxd::start("every_form_of_series_is_read") else {
        return;
    };
    influxd.write(
        "wide,id=1 t=20.5,h=40i,on=true,s=\"x\" 10\nwide,id=1 t=21.5,h=41i,on=false 20\n\
         wide,id=2 h=50i 10\npressure,id=1 value=1013 10\nnoise,id=1 value=30i 10\n\
         noise,id=1 value=300000000i 11\nnoise,id=1 value=-3i 12\ntext,id=1 value=\"loud\" 10",
    );
    let wide = "database = \"lab\"\nmeasurement = \"wide\"\nmap = { device = \"id\" }\n\
        points = [{ field = \"t\", kind = \"temperature\", unit = \"°C\" }, { field = \"h\" }, { field = \"on\" }]";
    let (coverage, totals) = good(&influxd.url, wide, dto("d"));
    assert_eq!((coverage.matched, coverage.used), (2, 7));
    assert_eq!(totals.of("1", "temperature").values, [20.5, 21.5]);
    assert_eq!(totals.of("1", "temperature").unit, "Cel");
    assert_eq!(totals.of("1", "h").values, [40.0, 41.0]);
    assert_eq!(totals.of("1", "on").values, [1.0, 0.0]);
    let one = Dto {
        kind: vec!["h".into()],
        ..dto("d")
    };
    assert_eq!(good(&influxd.url, wide, one).1.rows, 3);

    let measurements = "database = \"lab\"\nmeasurement = [\"pressure\", \"noise\", \"none\"]\nmap = { device = \"id\" }";
    let (_, totals) = good(&influxd.url, measurements, dto("d"));
    assert_eq!(totals.of("1", "pressure").values, [1013.0]);
    assert_eq!(totals.of("1", "noise").values, [30.0, 3e8, -3.0]);

    let text = "database = \"lab\"\nmeasurement = \"text\"\nmap = { device = \"id\" }";
    let (ended, totals) = ask(&influxd.url, text, &[dto("d")]);
    assert_eq!(totals.rows, 0);
    assert_eq!(ended.coverage[0].lost, [(LossReason::NotANumber, 1)].into());

    let fixed = "database = \"lab\"\nmeasurement = \"pressure\"\ndevice = \"all\"\nkind = \"p\"\nunit = \"hPa\"\nlocation = \"x\"";
    let (_, totals) = good(&influxd.url, fixed, dto("d"));
    assert_eq!(totals.of("all", "p").unit, "hPa");
    let both = "database = \"lab\"\nmeasurement = [\"pressure\", \"noise\"]\nmap = { device = \"id\" }\nkind = \"k\"";
    let (ended, _) = ask(&influxd.url, both, &[dto("d")]);
    assert!(
        ended
            .failure_text()
            .contains("two series that are both k of 1"),
        "{}",
        ended.failure_text()
    );
}

/// Names that mean something to one of the languages on the way.
const NAMES: [&str; 10] = [
    "b c",
    "d,e=f",
    "g'h\"i",
    "j\\\\k",
    "/l/",
    "m*n",
    "$\\{o}",
    "p;q--",
    "ü°",
    "r) OR (1=1",
];

#[test]
fn whatever_a_task_says_is_a_name_and_nothing_else() {
    let Some(influxd) = Influxd::start("whatever_a_task_says_is_a_name_and_nothing_else") else {
        return;
    };
    let escaped = |name: &str| {
        name.replace(',', "\\,")
            .replace('=', "\\=")
            .replace(' ', "\\ ")
    };
    let lines = NAMES
        .iter()
        .map(|n| format!("readings,board={},type=t value=1 5", escaped(n)));
    influxd.write(&lines.collect::<Vec<_>>().join("\n"));
    let broker = Broker::start(&sources(&table(&influxd.url, BOARDS)), "/".as_ref());
    let (ended, totals) = broker.run(&[dto("all")]);
    assert_eq!(ended.good().matched, 10);
    let known: Vec<String> = totals.series.keys().map(|k| k.0.clone()).collect();
    let glob = |name: &str| {
        name.chars()
            .map(|c| {
                if c.is_alphanumeric() {
                    c.to_string()
                } else {
                    format!("\\{c}")
                }
            })
            .collect::<String>()
    };
    for name in &known {
        for pattern in [glob(name), name.replace(['\\', '*', '{', '}'], "?")] {
            let one = Dto {
                device: vec![pattern.clone()],
                ..dto("d")
            };
            let (ended, totals) = broker.run(&[one]);
            assert_eq!(ended.failure, None, "{pattern}");
            assert_eq!(devices(&totals), [name], "{pattern}");
        }
    }
    let evil = [
        "x' OR 'a' = 'a",
        "x'; DROP SERIES FROM readings; --",
        "\\'; DROP MEASUREMENT readings; --",
        "x\\\\' OR 1 = 1 --",
        "*/ OR board =~ /.*",
        "*\\/ OR board =~ /.",
        "x\n' OR 1=1",
        "*\u{1}/",
        "x\0' OR true",
        "?*\0",
    ];
    for pattern in evil {
        let one = Dto {
            device: vec![pattern.into()],
            ..dto("d")
        };
        let (ended, totals) = broker.run(&[one]);
        assert_eq!(totals.rows, 0, "{pattern:?}");
        let text = ended.failure_text();
        assert!(
            text.contains("nothing on this node matches"),
            "{pattern:?}: {text}"
        );
    }
    assert_eq!(broker.run(&[dto("all")]).0.good().matched, 10);
}

#[test]
fn aggregates_are_the_servers_own_and_equal_those_of_the_readings() {
    let Some(influxd) = Influxd::start("aggregates_are_the_servers_own") else {
        return;
    };
    let minute = 60_000_000_000_i64;
    let value = |board: i64, i: i64| ((i * 7919 + board) % 1000) as f64;
    // Five hours with a gap, so that the range is cut.
    let at = |i: i64| minute / 4 * i + if i > 700 { 37 * minute } else { 0 };
    let lines = (0..2).flat_map(|b| {
        (0..1200).map(move |i| {
            format!(
                "readings,board={b},type=t,unit=Cel value={} {}",
                value(b, i),
                at(i)
            )
        })
    });
    influxd.write(&lines.collect::<Vec<_>>().join("\n"));
    let (from, to) = (3 * minute + 1, 290 * minute + 7);
    let every = 7 * minute;
    let rest = format!("{BOARDS}parallel = 2\n");
    let broker = Broker::start(&sources(&table(&influxd.url, &rest)), "/".as_ref());
    type Make = fn(&[f64]) -> f64;
    let kinds: [(AggregateKind, Make); 7] = [
        (AggregateKind::Mean, |v| {
            v.iter().sum::<f64>() / v.len() as f64
        }),
        (AggregateKind::Min, |v| {
            v.iter().copied().fold(f64::INFINITY, f64::min)
        }),
        (AggregateKind::Max, |v| {
            v.iter().copied().fold(0.0, f64::max)
        }),
        (AggregateKind::Sum, |v| v.iter().sum()),
        (AggregateKind::Count, |v| v.len() as f64),
        (AggregateKind::First, |v| v[0]),
        (AggregateKind::Last, |v| v[v.len() - 1]),
    ];
    for (of, make) in kinds {
        let aggregate = Some(Aggregate {
            of,
            every: Duration(every as u64),
        });
        let (ended, totals) = broker.run(&[Dto {
            aggregate,
            from: Time(from),
            to: Time(to),
            ..dto("d")
        }]);
        assert_eq!(ended.good().matched, 2);
        for b in 0..2 {
            let mut steps: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for i in (0..1200).filter(|&i| from <= at(i) && at(i) < to) {
                steps
                    .entry(at(i) / every * every)
                    .or_default()
                    .push(value(b, i));
            }
            let got = totals.of(&b.to_string(), "t");
            assert_eq!(
                got.times,
                steps.keys().copied().collect::<Vec<_>>(),
                "{of:?}"
            );
            let expected: Vec<f64> = steps.values().map(|v| make(v)).collect();
            for (got, expected) in got.values.iter().zip(&expected) {
                assert!(
                    (got - expected).abs() < 1e-9 * expected.abs().max(1.0),
                    "{of:?}"
                );
            }
            assert_eq!(
                got.unit,
                if of == AggregateKind::Count {
                    "1"
                } else {
                    "Cel"
                }
            );
        }
    }
}

#[test]
fn a_source_is_tried_and_says_what_it_has() {
    let Some(influxd) = Influxd::start("a_source_is_tried_and_says_what_it_has") else {
        return;
    };
    influxd.write("readings,board=a,type=t value=1 10\nreadings,board=a,type=t value=2 30\nreadings,board=b,type=t value=1 20");
    let broker = Broker::start(&sources(&table(&influxd.url, BOARDS)), "/".as_ref());
    let request = fades_task::message::BrokerRequest::TestSource {
        id: 7,
        source: "lab".parse().unwrap(),
    };
    let fades_task::message::BrokerReport::Tested { report, .. } = broker.ask(&request) else {
        panic!()
    };
    let report = report.unwrap();
    assert!(
        report.reads.contains("readings of lab at http://127.0.0.1"),
        "{}",
        report.reads
    );
    assert_eq!((report.devices.len(), report.coverage.matched), (2, 2));
    let series = &report.devices[0].series[0];
    assert_eq!(
        (series.oldest, series.newest),
        (Some(Time(10)), Some(Time(30)))
    );
    assert_eq!(report.sample.len(), 3);
}

#[test]
fn labels_choose_devices() {
    let Some(influxd) = Influxd::start("labels_choose_devices") else {
        return;
    };
    influxd.write("readings,board=a,type=t value=1 10\nreadings,board=b,type=t value=2 30");
    let rest =
        format!("{BOARDS}[[source.lab.devices]]\ndevice = \"b\"\nlabels = {{ floor = \"2\" }}\n");
    let two = Dto {
        labels: [("floor".to_owned(), vec!["2".to_owned()])].into(),
        ..dto("d")
    };
    let (coverage, totals) = good(&influxd.url, &rest, two);
    assert_eq!((coverage.matched, devices(&totals)), (1, vec!["b"]));
    assert_eq!(
        coverage.rows, 1,
        "the server is asked for these devices only"
    );
}
