//! Long ranges of 2.x, which are fetched in parts.

use std::time::Instant;

use fades_task::mtw::{Aggregate, AggregateKind, Dto};
use fades_task::quantity::Duration;
use fades_task::time::Time;

use super::played::{
    BEGIN, Flux, Gate, HOUR, Recorded, answer, between, bucket, honest, ranges, recorded, server,
};
use super::{ask, good};
use crate::broker::{Totals, dto};
use crate::web::{Reply, Web};

/// What of the recorded readings is in a range, compared with what came.
fn compare(totals: &Totals, from: i64, to: i64) {
    let mut all = 0;
    for series in recorded() {
        let readings = series.readings.iter();
        let within = readings.filter(|(time, _)| from <= *time && *time < to);
        let (times, values): (Vec<i64>, Vec<f64>) = within
            .map(|(time, value)| (*time, value.parse::<f64>().unwrap()))
            .unzip();
        all += times.len() as u64;
        if times.is_empty() {
            continue;
        }
        let came = totals.of(series.board, series.kind);
        assert_eq!(came.times, times, "{} of {}", series.kind, series.board);
        assert_eq!(came.values, values, "{} of {}", series.kind, series.board);
    }
    assert_eq!(totals.rows, all);
}

/// The ranges are one after the other, without overlap or gap.
fn cover(ranges: &[(i64, i64)], from: i64, to: i64) {
    assert_eq!(ranges.first().map(|r| r.0), Some(from));
    assert_eq!(ranges.last().map(|r| r.1), Some(to));
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1, pair[1].0);
    }
    assert!(ranges.iter().all(|(from, to)| from < to));
}

#[test]
fn parts_are_the_range_and_every_reading_comes_once() {
    let newest = |r: Recorded| r.readings.last().map(|r| r.0);
    let newest = recorded().into_iter().filter_map(newest).max().unwrap();
    for parallel in [1, 2, 3, 8] {
        let web = honest(recorded());
        // The ends of the range and of most parts are at readings.
        let (from, to) = (BEGIN + HOUR, BEGIN + 41 * HOUR);
        let (coverage, totals) = good(&web.url, &bucket(parallel), between(from, to));
        assert_eq!((coverage.matched, coverage.answered), (3, 3));
        compare(&totals, from, to);
        assert_eq!(ranges(&web).len(), usize::from(parallel));
        cover(&ranges(&web), from, to);
        // A range without ends is cut where there are readings.
        let web = honest(recorded());
        let (_, totals) = good(&web.url, &bucket(parallel), dto("all"));
        compare(&totals, i64::MIN, i64::MAX);
        if parallel > 1 {
            cover(&ranges(&web), BEGIN, newest + 1);
            assert_eq!(ranges(&web).len(), usize::from(parallel));
        }
    }
    let web = honest(recorded());
    let short = between(BEGIN + 5, BEGIN + HOUR);
    good(&web.url, &bucket(8), short);
    assert_eq!(
        ranges(&web),
        [(BEGIN + 5, BEGIN + HOUR)],
        "a short range is one part"
    );
}

#[test]
fn parts_are_asked_for_at_the_same_time() {
    let gate = Gate::of(4);
    let at_the_gate = gate.clone();
    let web = server(recorded(), move |_, text| match at_the_gate.pass() {
        true => Reply::Body(text.into_bytes()),
        false => Reply::Status(500, Vec::new(), b"the others did not come".to_vec()),
    });
    let rest = bucket(4).replace("\"2s\"", "\"60s\"");
    let (_, totals) = good(&web.url, &rest, dto("all"));
    compare(&totals, i64::MIN, i64::MAX);
}

#[test]
fn parts_of_an_aggregate_end_where_its_steps_do() {
    let every = 7 * HOUR / 6;
    let web = honest(recorded());
    let (from, to) = (BEGIN + HOUR / 7, BEGIN + 40 * HOUR + 5);
    let counts = Dto {
        aggregate: Some(Aggregate {
            of: AggregateKind::Count,
            every: Duration(every as u64),
        }),
        ..between(from, to)
    };
    let (_, totals) = good(&web.url, &bucket(4), counts);
    cover(&ranges(&web), from, to);
    for (_, border) in &ranges(&web)[..3] {
        assert_eq!(border.rem_euclid(every), 0);
    }
    for series in recorded() {
        let within = |t: &i64| from <= *t && *t < to;
        let readings = series.readings.iter().map(|r| r.0).filter(within).count();
        let came = totals.of(series.board, series.kind);
        assert_eq!(came.values.iter().sum::<f64>() as usize, readings);
        assert!(
            came.times.windows(2).all(|t| t[0] < t[1]),
            "no step in two parts"
        );
        assert_eq!(came.unit, "1");
    }
}

#[test]
fn the_order_of_series_is_the_servers_own() {
    let mut series = recorded();
    series.rotate_left(2);
    series.swap(0, 1);
    let web = honest(series);
    let (_, totals) = good(&web.url, &bucket(4), dto("all"));
    compare(&totals, i64::MIN, i64::MAX);
    // Another order in one of the parts would leave holes.
    let web = server(recorded(), |flux, text| {
        let mut series = recorded();
        if flux.from > BEGIN {
            series.reverse();
            return Reply::Body(answer(&series, flux).into_bytes());
        }
        Reply::Body(text.into_bytes())
    });
    let (ended, _) = ask(&web.url, &bucket(2), &[dto("all")]);
    let text = ended.failure_text();
    assert!(
        text.contains("another order") && text.contains("parallel = 1"),
        "{text}"
    );
    assert!(!ended.finished);
}

#[test]
fn a_series_that_begins_while_others_are_fetched_waits_for_the_next_question() {
    let web = server(recorded(), |flux, _| {
        let mut series = recorded();
        let new = Recorded {
            board: "aa",
            ..series[1].clone()
        };
        series.insert(2, new);
        Reply::Body(answer(&series, flux).into_bytes())
    });
    let (coverage, totals) = good(&web.url, &bucket(4), dto("all"));
    assert_eq!(coverage.matched, 3);
    compare(&totals, i64::MIN, i64::MAX);
}

/// A server whose last part goes wrong.
fn wrong_at_the_end(reply: impl Fn(String) -> Reply + Send + Sync + 'static) -> Web {
    server(recorded(), move |flux, text| {
        match flux.from > BEGIN + 24 * HOUR {
            true => reply(text),
            false => Reply::Body(text.into_bytes()),
        }
    })
}

const ERROR: &str = "\r\n#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n\
    ,error,reference\r\n,memory allocation limit reached,576\r\n";

#[test]
fn one_part_that_fails_fails_the_whole() {
    let fails = |web: &Web, words: &str| {
        let (ended, _) = ask(&web.url, &bucket(4), &[dto("all")]);
        let text = ended.failure_text();
        assert!(
            text.contains(words) && text.contains("127.0.0.1"),
            "{words}: {text}"
        );
        assert!(!ended.finished, "half an answer is none");
    };
    fails(
        &wrong_at_the_end(|text| Reply::Body((text + ERROR).into_bytes())),
        "refuses the question: memory allocation limit",
    );
    fails(
        &wrong_at_the_end(|_| Reply::Body(ERROR.trim_start().as_bytes().to_vec())),
        "refuses the question: memory allocation limit",
    );
    fails(
        &wrong_at_the_end(|text| Reply::Cut(text.as_bytes()[..text.len() / 2].to_vec())),
        "closed the connection in the middle",
    );
    fails(
        &wrong_at_the_end(|text| Reply::Stall(text.as_bytes()[..text.len() / 2].to_vec())),
        "took longer than 2 s",
    );
    fails(&wrong_at_the_end(|_| Reply::Silent), "took longer than 2 s");
    fails(
        &wrong_at_the_end(|_| Reply::Status(503, Vec::new(), b"busy".to_vec())),
        "answered 503: busy",
    );
    // Readings of another part would come twice.
    let web = server(recorded(), |flux, text| match flux.from > BEGIN {
        true => {
            let earlier = Flux {
                from: BEGIN,
                ..flux.clone()
            };
            Reply::Body(answer(&recorded(), &earlier).into_bytes())
        }
        false => Reply::Body(text.into_bytes()),
    });
    fails(&web, "outside of the range");
}

#[test]
fn the_first_part_that_fails_ends_the_others_at_once() {
    // The first part is awaited for a minute, by then it has said nothing or something.
    for reply in [
        |_: String| Reply::Silent,
        |text: String| Reply::Stall(text.as_bytes()[..text.len() / 2].to_vec()),
    ] {
        let web = server(recorded(), move |flux, text| {
            let hours = (flux.from - BEGIN) / HOUR;
            match hours {
                ..6 => reply(text),
                6..24 => Reply::Body(text.into_bytes()),
                _ => Reply::Status(503, Vec::new(), b"busy".to_vec()),
            }
        });
        let patient = bucket(4).replace("\"2s\"", "\"60s\"");
        let begun = Instant::now();
        let (ended, _) = ask(&web.url, &patient, &[dto("all")]);
        let text = ended.failure_text();
        assert!(text.contains("answered 503: busy"), "{text}");
        assert!(!ended.finished);
        assert!(begun.elapsed().as_secs() < 40);
    }
}

#[test]
fn tables_may_change_their_columns_in_the_middle_of_an_answer() {
    // As a server writes results with other types, and as it may write them.
    let text = "#datatype,string,long,dateTime:RFC3339,double,string,string\n\
        #group,false,false,false,false,true,true\n#default,0000,,,,,\n\
        ,result,table,_time,_value,board,type\n\
        ,,0,2026-01-01T00:00:00Z,1.5,a,t\n,,1,2026-01-01T00:00:00Z,2.5,b,t\n\n\
        #datatype,string,string,long,string,unsignedLong,dateTime:RFC3339,string\n\
        #group,false,true,false,true,false,false,false\n#default,0000,,,count,,,\n\
        ,result,board,table,type,_value,_time,more\n\
        ,,a,2,,18446744073709551615,2026-01-01T00:00:01+01:00,x\n\n\
        #datatype,string,long,dateTime:RFC3339,boolean,string\n#group,true,false,false,false,true\n\
        ,result,table,_time,_value,board\n,0000,3,2026-01-01T00:00:02Z,true,c\n";
    let web = Web::start(move |_| Reply::Body(text.replace('\n', "\r\n").into_bytes()));
    let (coverage, totals) = good(&web.url, &bucket(1), dto("all"));
    assert_eq!(totals.of("a", "t").values, [1.5]);
    assert_eq!(totals.of("b", "t").values, [2.5]);
    let count = totals.of("a", "count");
    assert_eq!(count.values, [u64::MAX as f64]);
    assert_eq!(
        Time(count.times[0]),
        "2025-12-31T23:00:01Z".parse().unwrap()
    );
    // Board c has no kind: no default of another table is its own.
    assert_eq!(totals.rows, 3, "{totals:?}");
    assert_eq!(coverage.lost_total(), 1);
    // A row that does not fit its own header is none of the header before.
    let long = text.replace(",true,c", ",true,c,t");
    let web = Web::start(move |_| Reply::Body(long.clone().into_bytes()));
    let text = ask(&web.url, &bucket(1), &[dto("all")]).0.failure_text();
    assert!(text.contains("a row of another length"), "{text}");
}
