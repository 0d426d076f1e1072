//! What a source may be, what an answer may come to, and what is held of it.

use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::coverage::LossReason;
use fades_task::mtw::Dto;

use super::daemon::Influxd;
use super::faults::{answered, brief, listing, rows_of, series_of, server, tagged};
use super::played::{BEGIN, HOUR, bucket, recorded};
use super::{BOARDS, ask, good, table};
use crate::broker::{Broker, dto, sources};
use crate::limits::{alone, folder, most_memory};
use crate::web::{Reply, Web};

#[test]
fn what_cannot_be_a_source_is_refused_before_anybody_asks() {
    let parsed = |url: &str, rest: &str| {
        let table: serde_json::Value = toml::from_str(&table(url, rest)).unwrap();
        Sources::parse(&table["source"]).map_err(|e| e.to_string())
    };
    let url = "http://10.0.0.1:8086";
    let measurements = |n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("\"m{i}\"")).collect();
        let many = format!("measurement = [{}]", names.join(","));
        BOARDS.replace("measurement = \"readings\"", &many)
    };
    parsed(url, &measurements(256)).unwrap();
    parsed(url, &format!("{BOARDS}parallel = 8\n")).unwrap();
    let cases: [(&str, String, &str); 12] = [
        (url, measurements(257), "more than 256 measurements"),
        (url, format!("{BOARDS}parallel = 0\n"), "from 1 to 8"),
        (url, format!("{BOARDS}parallel = 9\n"), "from 1 to 8"),
        (
            url,
            format!("{BOARDS}timeout = \"0s\"\n"),
            "longer than nothing",
        ),
        (url, format!("{BOARDS}version = 3\n"), "write 1 or 2"),
        (
            url,
            format!("{BOARDS}bucket = \"x\"\n"),
            "version 1 has none",
        ),
        (url, BOARDS.replace("lab", "la\\nb"), "control characters"),
        (
            url,
            BOARDS.replace("room", "ro\\u0000om"),
            "control characters",
        ),
        (
            url,
            format!("{BOARDS}kind = \"k\"\n"),
            "both kind and map.kind",
        ),
        (
            url,
            BOARDS.replace("device = \"board\",", ""),
            "name the tag",
        ),
        ("http://root:geheim@10.0.0.1", BOARDS.to_owned(), "use auth"),
        ("10.0.0.1:8086", BOARDS.to_owned(), "http"),
    ];
    for (url, rest, words) in cases {
        let text = parsed(url, &rest).unwrap_err();
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn series_that_nobody_listed_are_bounded_too() {
    let mut body = Vec::new();
    for i in 0..100_001 {
        body.extend_from_slice(&series_of(&format!("b{i}"), "t", &[(5, 1.0)], false));
    }
    let web = server(move || Reply::Body(body.clone()));
    let broker = Broker::start(&sources(&table(&web.url, BOARDS)), "/".as_ref());
    let text = broker.run_with(&[brief()], |_| ()).failure_text();
    assert!(text.contains("more than 100000 series"), "{text}");
    let again = || {
        let series = |board: &str| series_of(board, "t", &[(5, 1.0)], false);
        Reply::Body([series("a"), series("b"), series("a")].concat())
    };
    let text = answered(&server(again)).failure_text();
    assert!(text.contains("goes on after another one"), "{text}");
    let twice = || {
        let series = |unit: &str| {
            let tags = [("board", "a"), ("type", "t"), ("unit", unit)];
            tagged(&tags, &[(5, 1.0)], false)
        };
        Reply::Body([series("Cel"), series("°C")].concat())
    };
    let text = answered(&server(twice)).failure_text();
    assert!(text.contains("two series that are both t of a"), "{text}");
}

/// The newest readings of so many boards, as 2.x lists them.
fn boards(many: usize) -> Vec<u8> {
    let mut list = String::from(
        "#datatype,string,long,dateTime:RFC3339,double,string,string\n\
         #group,false,false,false,false,true,true\n#default,0000,,,,,\n\
         ,result,table,_time,_value,board,type\n",
    );
    for i in 0..many {
        list += &format!(",,{i},2026-01-01T00:00:00Z,1,b{i},t\n");
    }
    list.into_bytes()
}

#[test]
fn series_that_nobody_asked_for_are_bounded_too() {
    let [one, more] = [1, 100_001].map(boards);
    let rest = bucket(2).replace("\"2s\"", "\"100s\"");
    let of_b0 = || Dto {
        device: vec!["b0".into()],
        ..dto("d")
    };
    // In the list, beside those that match; and where the first readings are.
    for end in ["|> last()", "|> first()"] {
        let (one, more) = (one.clone(), more.clone());
        let web = Web::start(move |asked| match asked.body.contains(end) {
            true => Reply::Body(more.clone()),
            false => Reply::Body(one.clone()),
        });
        let text = ask(&web.url, &rest, &[of_b0()]).0.failure_text();
        assert!(text.contains("more than 100000 series"), "{text}");
    }
}

#[test]
fn names_that_are_too_long_are_lost_and_not_remembered() {
    let long = "x".repeat(257);
    let keys = vec![
        "readings,board=a,type=t".to_owned(),
        format!("readings,board={long},type=t"),
    ];
    let web = Web::start(move |asked| match asked.body.starts_with("SHOW SERIES") {
        true => Reply::Body(listing(&keys)),
        false => {
            let good = rows_of(&[(1, 1.0)], false);
            let bad = series_of(&long, "t", &[(1, 1.0), (2, 2.0)], false);
            Reply::Body([good, bad].concat())
        }
    });
    let (coverage, totals) = good(&web.url, BOARDS, brief());
    assert_eq!((coverage.matched, totals.rows), (1, 1));
    assert_eq!(coverage.lost, [(LossReason::Unnamed, 2)].into());
}

#[test]
fn many_long_names() {
    let Some(_) = folder() else { return };
    let web = Web::start(|asked| {
        let name = |i: u32| format!("{i}{}", "x".repeat(4000));
        Reply::Body(match asked.body.starts_with("SHOW SERIES") {
            true => listing(&["readings,board=a,type=t".to_owned()]),
            false => {
                let mut body = Vec::new();
                for i in 0..20_000 {
                    body.extend_from_slice(&series_of(&name(i), "t", &[(1, 1.0)], false));
                }
                body
            }
        })
    });
    // What the server holds of its own answer is there before.
    let before = most_memory();
    let (ended, _) = ask(&web.url, BOARDS, &[brief()]);
    assert_eq!(
        ended.coverage[0].lost,
        [(LossReason::Unnamed, 20_000)].into()
    );
    println!("found: {}", most_memory() - before);
}

#[test]
fn long_names_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let name = "influx::bounds::many_long_names";
    let found: u64 = alone(name, folder.path()).parse().unwrap();
    // 80 MB of names, which the server here holds twice while it makes them.
    assert!(found < 240 << 20, "{found}");
}

/// A server of 1.x that has readings of board a for four hours, and answers questions
/// for the first and the second half of them so.
fn halves(
    first: impl Fn() -> Reply + Send + Sync + 'static,
    second: impl Fn() -> Reply + Send + Sync + 'static,
) -> Web {
    Web::start(move |asked| {
        let body = &asked.body;
        match () {
            () if body.starts_with("SHOW SERIES") => {
                Reply::Body(listing(&["readings,board=a,type=t".to_owned()]))
            }
            () if body.contains("first(") => Reply::Body(rows_of(&[(0, 1.0)], false)),
            () if body.contains("last(") => Reply::Body(rows_of(&[(4 * HOUR, 1.0)], false)),
            () if body.contains("time >= 0 ") => first(),
            () => second(),
        }
    })
}

#[test]
fn a_part_that_fails_ends_the_others() {
    let broken = || Reply::Status(500, Vec::new(), b"boom".to_vec());
    let endless = |at: i64| {
        let rows = rows_of(&vec![(at, 1.0); 1000], true);
        move || Reply::Endless(Vec::new(), rows.clone())
    };
    for web in [
        halves(endless(5), broken),
        halves(broken, endless(3 * HOUR)),
        halves(broken, || Reply::Silent),
    ] {
        let begun = Instant::now();
        let rest = format!("{BOARDS}parallel = 2\ntimeout = \"100s\"\n");
        let (ended, _) = ask(&web.url, &rest, &[dto("all")]);
        let text = ended.failure_text();
        assert!(text.contains("boom"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_part_far_ahead() {
    let Some(_) = folder() else { return };
    // The first part says nothing; the second has no end.
    let rows = rows_of(&vec![(3 * HOUR, 1.0); 10_000], true);
    let endless = move || Reply::Endless(Vec::new(), rows.clone());
    let web = halves(|| Reply::Silent, endless);
    let before = most_memory();
    let rest = format!("{BOARDS}parallel = 2\ntimeout = \"4s\"\n");
    let (ended, _) = ask(&web.url, &rest, &[dto("all")]);
    assert!(ended.failure_text().contains("took longer than 4 s"));
    println!("found: {}", most_memory() - before);
}

#[test]
fn a_part_that_is_ahead_waits_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let name = "influx::bounds::a_part_far_ahead";
    let found: u64 = alone(name, folder.path()).parse().unwrap();
    assert!(found < 48 << 20, "{found}");
}

#[test]
fn columns_and_statements_that_nobody_asked_for_are_refused() {
    let three =
        b"\xa6series\x91\x82\xa7columns\x93\xa4time\xa1a\xa1b\xa6values\x91\x93\x01\x01\x01";
    let other = b"\xacstatement_id\x07\xa6series\x91\x82\xa7columns\x92\xa4time\xa1a\xa6values\x91\x92\x01\x01";
    let tags = {
        let mut rest = b"\xa6series\x91\x82\xa4tags\x82".to_vec();
        for name in ["x", "y"] {
            rest.extend([0xd9, 1, name.as_bytes()[0], 0xda]);
            rest.extend(40_000_u16.to_be_bytes());
            rest.extend(vec![b'v'; 40_000]);
        }
        rest
    };
    let one = |entries: u8, rest: &[u8]| {
        let mut bytes = b"\x81\xa7results\x91".to_vec();
        bytes.push(0x80 + entries);
        bytes.extend(rest);
        bytes
    };
    for (body, words) in [
        (one(1, three), "rows of other than two columns"),
        (one(2, other), "what nobody asked"),
        (one(1, &tags), "tags of more than 64 KiB"),
    ] {
        let text = answered(&server(move || Reply::Body(body.clone()))).failure_text();
        assert!(text.contains(words), "{words}: {text}");
    }
    let web = super::played::server(recorded(), |_, text| {
        Reply::Body(text.replace("0000", "0007").into_bytes())
    });
    let (ended, _) = ask(
        &web.url,
        &bucket(1),
        &[super::played::between(BEGIN, BEGIN + 9)],
    );
    let text = ended.failure_text();
    assert!(text.contains("what nobody asked"), "{text}");
}

#[test]
fn a_secret_that_cannot_be_read_or_sent_is_named() {
    let Some(influxd) = Influxd::start("a_secret_that_cannot_be_read_or_sent_is_named") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("empty", b"\n");
    write("bytes", b"geheim\xff");
    write("lines", b"geheim\nX-Other: 1\n");
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    for (file, words) in [
        ("none", "No such file"),
        ("empty", "it is empty"),
        ("bytes", "it is not text"),
        ("folder", "Is a directory"),
        ("lines", "no header can have"),
    ] {
        let rest = format!("{BOARDS}[source.lab.auth]\ntoken-file = \"{file}\"\n");
        let broker = Broker::start(&sources(&table(&influxd.url, &rest)), folder.path());
        let text = broker.run(&[dto("d")]).0.failure_text();
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}
