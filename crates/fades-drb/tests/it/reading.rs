//! What CSV files may look like, and what of them is lost.

use std::fs;
use std::io::{Seek, Write};
use std::path::Path;

use fades_drb::config::Sources;
use fades_task::coverage::{BadRow, Coverage, LossReason};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::broker::{Broker, Ended, Totals, dto, settled, sources, time};

/// Reads `files` (name and content) with the options in `table`.
fn read(table: &str, files: &[(&str, &[u8])]) -> (Ended, Totals) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let sources = sources(&format!("[source.s]\ntype = \"csv\"\n{table}"));
    Broker::start(&sources, folder.path()).run(&[dto("all")])
}

fn read_one(table: &str, content: &str) -> (Coverage, Totals) {
    let table = format!("files = \"*.csv\"\ntime = {{ column = \"time\" }}\n{table}");
    let (ended, totals) = read(&table, &[("a.csv", content.as_bytes())]);
    (ended.good(), totals)
}

const WIDE: &str = "device = \"{device}\"\npoints = [{ column = \"t\" }, { column = \"h\" }]\n";

#[test]
fn every_reason_for_a_loss_is_counted_and_cited_by_place() {
    let content = "time,device,t,h\n\
        2026-01-01T00:00:00Z,d,1,2\n\
        2026-01-01T00:00:01Z,d,3\n\
        2026-01-01T00:00:02Z,d,,4\n\
        2026-01-01T00:00:03Z,d,x,NaN\n\
        \n,,,\n\
        yesterday,d,5,6\n\
        2026-01-01T00:00:04Z,,7,8\n\
        2026-01-01T00:00:05Z,d,1e999,\"9\n";
    let (coverage, totals) = read_one(WIDE, content);
    let lost = [
        (LossReason::Truncated, 2),
        (LossReason::Empty, 1),
        (LossReason::NotANumber, 1),
        (LossReason::NotFinite, 2),
        (LossReason::BadTime, 2),
        (LossReason::Unnamed, 2),
    ];
    assert_eq!(coverage.lost, lost.into());
    assert_eq!((coverage.rows, coverage.read, coverage.used), (7, 14, 4));
    assert_eq!((coverage.matched, coverage.answered), (1, 1));
    assert_eq!(totals.of("d", "t").values, [1.0, 3.0]);
    let cited = |line, column: Option<&str>, reason| BadRow {
        file: "a.csv".into(),
        line,
        column: column.map(str::to_owned),
        reason,
    };
    assert_eq!(
        coverage.cited,
        [
            cited(3, Some("h"), LossReason::Truncated),
            cited(4, Some("t"), LossReason::Empty),
            cited(5, Some("h"), LossReason::NotFinite),
            cited(5, Some("t"), LossReason::NotANumber),
            cited(8, Some("time"), LossReason::BadTime),
        ]
    );
}

#[test]
fn text_in_another_encoding_is_bad_unless_it_is_configured() {
    let content = b"time,device,t,h\n2026-01-01,caf\xe9,1,2\n2026-01-02,d,1\xa0000,2\n";
    let table = format!("files = \"*\"\ntime = {{ column = \"time\" }}\n{WIDE}");
    let (ended, _) = read(&table, &[("a.csv", content)]);
    let Some(fades_task::result::RetrievalFailure::NothingMatches { .. }) = ended.failure else {
        panic!("{:?}", ended.failure)
    };
    let table = format!("{table}encoding = \"latin-1\"\nthousands = \"\u{a0}\"\n");
    let (ended, totals) = read(&table, &[("a.csv", content)]);
    assert_eq!(ended.good().used, 4);
    assert_eq!(totals.of("café", "t").values, [1.0]);
    assert_eq!(totals.of("d", "t").values, [1000.0]);
}

#[test]
fn missing_is_neither_read_nor_lost_and_outside_is_marked() {
    let table = "device = \"d\"\nmissing = [\"-200\", \"\"]\ndecimal = \",\"\ndelimiter = \";\"\n\
        points = [{ column = \"t\", valid = [0, 10] }, { column = \"h\", missing = [\"n/a\"] }]";
    let content = "time;t;h\n2026-01-01;-200,0;n/a\n2026-01-02;;-200\n2026-01-03;10,5;1\n\
        2026-01-04;10;2\n2026-01-05;-0,1;-199,9\n";
    let (coverage, totals) = read_one(table, content);
    assert_eq!((coverage.read, coverage.used, coverage.marked), (6, 6, 2));
    assert_eq!(totals.of("d", "t").values, [10.5, 10.0, -0.1]);
    assert_eq!(totals.of("d", "t").marked, 2);
    assert_eq!(totals.of("d", "h").marked, 0);
}

#[test]
fn the_long_form_takes_kind_and_unit_from_the_row() {
    let table = "device = \"{device}\"\nlocation = \"{folder}/{where}\"\nkind = \"{type}\"\nvalue = \"v\"\nunit = \"{u}\"\n\
        file-name = \"log-{where}\"\ntime = { column = \"time\", format = \"unix-s\" }\nfiles = \"**/*.csv\"\n\
        points = [{ kind = \"t\", unit = \"Cel\", valid = [0, 20] }]";
    let content = b"time,device,type,v,u\n1,a,t,21,C\n2,a,h,60,%\n3,b,t,19,C\n4,b,,1,x\n";
    let (ended, totals) = read(table, &[("site/log-hall.csv", content)]);
    let coverage = ended.good();
    assert_eq!(coverage.lost, [(LossReason::Unnamed, 1)].into());
    assert_eq!((coverage.matched, coverage.marked), (2, 1));
    assert_eq!(totals.of("a", "t").unit, "Cel");
    assert_eq!(totals.of("a", "h").unit, "%");
    assert!(totals.series.keys().all(|(_, l, _)| l == "site/hall"));
}

#[test]
fn rows_out_of_order_are_sorted_and_equal_times_keep_their_order() {
    let content = "time,device,t,h\n2026-01-03,d,3,30\n2026-01-01,d,1,10\n2026-01-03,d,4,31\n2026-01-02,d,2,20\n";
    let (coverage, totals) = read_one(WIDE, content);
    assert_eq!(coverage.used, 8);
    assert_eq!(totals.of("d", "t").values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(totals.of("d", "h").values, [10.0, 20.0, 30.0, 31.0]);
}

#[test]
fn headers_comments_and_lines_that_say_nothing_are_passed_over() {
    let table =
        "device = \"{file}\"\nskip-lines = 2\ncomment = \"#\"\npoints = [{ column = \"t\" }]";
    let content = "logger 7\nserial 1\n# made by hand\n\n time , t \r\n# more\n2026-01-01,1\r\n\r\n2026-01-02, 2 \n";
    let (coverage, totals) = read_one(table, content);
    assert_eq!((coverage.rows, coverage.used), (2, 2));
    assert_eq!(totals.of("a", "t").values, [1.0, 2.0]);
    let marked = "\u{feff}time,t\n2026-01-01,1\n";
    let (coverage, _) = read_one("device = \"d\"\npoints = [{ column = \"t\" }]", marked);
    assert_eq!(coverage.used, 1);
}

#[test]
fn an_empty_file_has_no_rows() {
    let table = format!("files = \"*\"\ntime = {{ column = \"time\" }}\n{WIDE}");
    let good = b"time,device,t,h\n2026-01-01,d,1,2\n";
    let (ended, _) = read(
        &table,
        &[("a.csv", b""), ("b.csv", good), ("c.csv", b"\n\n")],
    );
    assert_eq!(ended.good().used, 2);
}

fn packed(content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(content).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(content).unwrap();
    (gz.finish().unwrap(), xz.finish().unwrap())
}

#[test]
fn compressed_files_are_read_and_damaged_ones_named() {
    let table = "files = \"*\"\ntime = { column = \"time\" }\ndevice = \"{file}\"\npoints = [{ column = \"t\" }]\n";
    let content = b"time,t\n2026-01-01,1\n2026-01-02,2\n";
    let (gz, xz) = packed(content);
    let twice = [gz.clone(), packed(b"2026-01-03,3\n").0].concat();
    let (ended, totals) = read(
        table,
        &[("a.csv.gz", &twice), ("b.csv.xz", &xz), ("c.csv", content)],
    );
    assert_eq!(ended.good().used, 7);
    assert_eq!(totals.of("a", "t").values, [1.0, 2.0, 3.0]);
    for (name, damaged) in [
        ("a.csv.gz", gz[..gz.len() - 9].to_vec()),
        ("b.csv.xz", xz[..xz.len() - 20].to_vec()),
        ("c.csv.gz", b"time,t\n".to_vec()),
    ] {
        let (ended, _) = read(table, &[(name, &damaged)]);
        let text = ended.failure_text();
        assert!(text.contains(name) && text.contains("damaged"), "{text}");
        assert!(!ended.finished);
    }
}

#[test]
fn a_file_that_is_not_as_configured_is_named_with_the_remedy() {
    let base = "files = \"*\"\ntime = { column = \"time\" }\n";
    let cases: [(&str, &[u8], &[&str]); 4] = [
        (
            WIDE,
            b"time;device;t;h\n1;2;3;4\n",
            &["a.csv", "\"time\"", "time;device;t;h", "delimiter"],
        ),
        (
            "device = \"{board}\"\npoints = [{ column = \"t\" }]",
            b"time,t\n",
            &["a.csv", "\"board\""],
        ),
        (WIDE, b"\xff\xfet\0i\0m\0e\0", &["a.csv", "UTF-16"]),
        (
            "device = \"d\"\nfile-name = \"x-{n}\"\npoints = [{ column = \"t\" }]",
            b"time,t\n",
            &["a.csv", "file-name"],
        ),
    ];
    for (table, content, words) in cases {
        let (ended, _) = read(&format!("{base}{table}"), &[("a.csv", content)]);
        let text = ended.failure_text();
        for word in words {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn a_template_over_a_column_that_always_changes_is_refused() {
    let mut content = String::from("time,t\n");
    for i in 0..100_001 {
        content.push_str(&format!("{i},1\n"));
    }
    let table = "files = \"*\"\ntime = { column = \"time\", format = \"unix-s\" }\ndevice = \"{time}\"\npoints = [{ column = \"t\" }]";
    let (ended, _) = read(table, &[("a.csv", content.as_bytes())]);
    let text = ended.failure_text();
    assert!(
        text.contains("100000 series") && text.contains("a.csv"),
        "{text}"
    );
}

/// Writes rows of a few devices, mixed, into one large file.
fn large(path: &Path, rows: u32) -> Sources {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    writeln!(file, "time,device,t,padding").unwrap();
    for i in 0..rows {
        let bad = if i % 50_000 == 7 { "x" } else { "" };
        writeln!(
            file,
            "{},d{},{}{bad},{:060}",
            i / 2,
            i % 3,
            f64::from(i) / 4.0,
            0
        )
        .unwrap();
    }
    sources(
        "[source.s]\ntype = \"csv\"\nfiles = \"large.csv*\"\ntime = { column = \"time\", format = \"unix-s\" }\n\
         device = \"{device}\"\npoints = [{ column = \"t\" }]",
    )
}

#[test]
fn a_large_file_is_cut_without_losing_or_repeating_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.csv");
    let rows = 150_000;
    let sources = large(&path, rows);
    assert!(
        fs::metadata(&path).unwrap().len() > 2 * (4 << 20),
        "several blocks"
    );
    let (ended, totals) = Broker::start(&sources, folder.path()).run(&[dto("all")]);
    let coverage = ended.good();
    assert_eq!((coverage.rows, coverage.read), (rows.into(), rows.into()));
    assert_eq!(coverage.lost, [(LossReason::NotANumber, 3)].into());
    let lines: Vec<_> = coverage.cited.iter().map(|c| c.line).collect();
    assert_eq!(lines, [9, 50_009, 100_009]);
    for d in 0..3_u32 {
        let values = &totals.of(&format!("d{d}"), "t").values;
        let good = (0..rows).filter(|i| i % 3 == d && i % 50_000 != 7);
        assert!(values.iter().copied().eq(good.map(|i| f64::from(i) / 4.0)));
    }

    let (gz, _) = packed(&fs::read(&path).unwrap());
    fs::write(folder.path().join("large.csv.gz"), gz).unwrap();
    fs::remove_file(&path).unwrap();
    let (ended, same) = Broker::start(&sources, folder.path()).run(&[dto("all")]);
    assert_eq!(ended.good().cited.len(), 3);
    assert_eq!(same.series, totals.series);
}

#[test]
fn a_range_reads_only_the_parts_of_a_large_file_that_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let sources = large(&folder.path().join("large.csv"), 150_000);
    let broker = Broker::start(&sources, folder.path());
    let mut late = dto("late");
    late.from = time("1970-01-01T20:00:00Z");
    late.to = time("1970-01-01T20:00:10Z");
    let (ended, _) = broker.run(&[late]);
    let coverage = ended.good();
    assert_eq!(coverage.used, 20);
    assert!(
        coverage.rows < 100_000 && coverage.bytes < 6 << 20,
        "{coverage:?}"
    );
    let mut never = dto("never");
    never.from = time("1980-01-01");
    let (ended, _) = broker.run(&[never]);
    assert_eq!((ended.coverage[0].matched, ended.coverage[0].empty), (3, 3));
    assert!(
        ended
            .failure_text()
            .contains("0 of 3 devices answered, needed: one at least")
    );
}

#[test]
fn need_and_bad_rows_are_enforced() {
    let table = format!("files = \"*.csv\"\ntime = {{ column = \"time\" }}\n{WIDE}");
    let content = b"time,device,t,h\n2026-01-01,a,1,2\n2026-01-02,b,1,x\n";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), content).unwrap();
    let sources = sources(&format!("[source.s]\ntype = \"csv\"\n{table}"));
    let broker = Broker::start(&sources, folder.path());
    let run = |need: Option<&str>, bad: Option<&str>, to: &str| {
        let mut dto = dto("d");
        dto.need = need.map(|n| n.parse().unwrap());
        dto.bad_rows = bad.map(|n| n.parse().unwrap());
        dto.to = time(to);
        broker.run(&[dto]).0
    };
    let _ = run(Some("100%"), Some("25%"), "2027-01-01").good();
    let _ = run(Some("50%"), None, "2026-01-02").good();
    let text = run(Some("51%"), None, "2026-01-02").failure_text();
    assert!(
        text.contains("1 of 2 devices answered, needed: 51%"),
        "{text}"
    );
    let text = run(None, Some("24%"), "2027-01-01").failure_text();
    assert!(
        text.contains("1 of 4 readings are bad, allowed: 24%"),
        "{text}"
    );
    assert!(text.contains("a.csv:3 (h): not a number"), "{text}");
    let none = run(Some("0%"), None, "2020-01-01");
    assert_eq!(none.batches, 0);
    let _ = none.good();
}

#[test]
fn a_selector_without_match_says_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "time,t\n2026-01-01,1\n").unwrap();
    let sources = sources(
        "[source.s]\ntype = \"csv\"\nfiles = \"*.csv\"\ntime = { column = \"time\" }\ndevice = \"d\"\nlocation = \"hall/1\"\n\
         points = [{ column = \"t\", kind = \"temperature\" }]\n\
         [source.none]\ntype = \"csv\"\nfiles = \"none/*.csv\"\ntime = { column = \"time\" }\ndevice = \"d\"\npoints = [{ column = \"t\" }]",
    );
    let broker = Broker::start(&sources, folder.path());
    let mut wrong = dto("w");
    wrong.kind = vec!["humidity".into()];
    let text = broker.run(&[wrong.clone()]).0.failure_text();
    for word in [
        "kind humidity",
        "kinds temperature",
        "locations hall/1",
        "none/*.csv",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    wrong.kind = vec!["a[".into()];
    let text = broker.run(&[wrong.clone()]).0.failure_text();
    assert!(text.contains("no glob"), "{text}");
    wrong.source = Some("nowhere".parse().unwrap());
    wrong.kind = vec![];
    let text = broker.run(&[wrong]).0.failure_text();
    assert!(
        text.contains("source nowhere is none of this node: none, s"),
        "{text}"
    );
}

#[test]
fn a_file_that_grows_or_is_replaced_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "time,t\n2026-01-01,1\n").unwrap();
    let sources = sources(
        "[source.s]\ntype = \"csv\"\nfiles = \"*.csv\"\ntime = { column = \"time\" }\ndevice = \"d\"\npoints = [{ column = \"t\" }]",
    );
    let broker = Broker::start(&sources, folder.path());
    assert_eq!(broker.run(&[dto("a")]).1.of("d", "t").values, [1.0]);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"2026-01-02,2\n").unwrap();
    assert_eq!(broker.run(&[dto("a")]).1.of("d", "t").values, [1.0, 2.0]);
    fs::write(
        folder.path().join("b"),
        "time,t\n2026-01-01,7\n2026-01-02,8\n",
    )
    .unwrap();
    fs::rename(folder.path().join("b"), &path).unwrap();
    assert_eq!(broker.run(&[dto("a")]).1.of("d", "t").values, [7.0, 8.0]);
}

#[test]
fn a_change_that_keeps_inode_size_and_time_is_seen_by_the_next_task() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "time,t\n2026-01-01,1\n2026-01-02,2\n").unwrap();
    let sources = sources(
        "[source.s]\ntype = \"csv\"\nfiles = \"*.csv\"\ntime = { column = \"time\" }\ndevice = \"d\"\npoints = [{ column = \"t\" }]",
    );
    let broker = Broker::start(&sources, folder.path());
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let changed = file.metadata().unwrap().modified().unwrap();
    // At once, so that a stamp can be the same, and once stamps are old.
    for i in 3..9 {
        if i > 6 {
            settled(folder.path());
        }
        let _ = broker.run(&[dto("a")]).0.good();
        file.rewind().unwrap();
        writeln!(file, "time,t\n2026-01-01,{i}\n2026-01-02,0").unwrap();
        file.set_modified(changed).unwrap();
        let values = broker.run(&[dto("a")]).1.of("d", "t").values.clone();
        assert_eq!(values, [f64::from(i), 0.0]);
    }
}

#[test]
fn files_that_come_and_go_are_seen_by_the_next_task() {
    let folder = tempfile::tempdir().unwrap();
    let sources = sources(
        "[source.s]\ntype = \"csv\"\nfiles = [\"*/*.csv\", \"one/exactly\"]\ntime = { column = \"time\" }\ndevice = \"{file}\"\npoints = [{ column = \"t\" }]",
    );
    let broker = Broker::start(&sources, folder.path());
    let devices = || {
        let (_, totals) = broker.run(&[dto("a")]);
        totals
            .series
            .keys()
            .map(|k| k.0.clone())
            .collect::<Vec<_>>()
    };
    for settle in [false, true] {
        let wait = || {
            if settle {
                settled(folder.path());
            }
        };
        let row = "time,t\n2026-01-01,1\n";
        let at = |name: &str| folder.path().join(name);
        wait();
        assert_eq!(devices(), [""; 0]);
        fs::create_dir(at("one")).unwrap();
        fs::write(at("one/a.csv"), row).unwrap();
        assert_eq!(devices(), ["a"]);
        wait();
        fs::write(at("one/exactly"), row).unwrap();
        assert_eq!(devices(), ["a", "exactly"]);
        wait();
        fs::rename(at("one"), at("two")).unwrap();
        assert_eq!(devices(), ["a"]);
        wait();
        fs::write(at("two/b.csv"), row).unwrap();
        assert_eq!(devices(), ["a", "b"]);
        wait();
        fs::remove_file(at("two/a.csv")).unwrap();
        assert_eq!(devices(), ["b"]);
        fs::remove_dir_all(at("two")).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_a_file_holds_every_reading_is_used_or_lost(
        rows in prop::collection::vec((0_i64..40, 0..3_u8, prop::sample::select(
            vec!["1", "-2.5", "", "x", "nan", "\"3\"", "\"4", "1,2", "é", "\u{0}"])), 0..60),
        noise in any::<Vec<u8>>(),
        cut in 0_usize..20,
    ) {
        let mut content = b"time,device,t\n".to_vec();
        for (time, device, value) in &rows {
            content.extend(format!("{time},d{device},{value}\n").bytes());
        }
        content.extend(&noise);
        content.truncate(content.len().saturating_sub(cut).max(14));
        let table = "files = \"*\"\ntime = { column = \"time\", format = \"unix-s\" }\ndevice = \"{device}\"\npoints = [{ column = \"t\" }]";
        let (ended, totals) = read(table, &[("a.csv", &content)]);
        let coverage = &ended.coverage[0];
        assert_eq!(coverage.read, coverage.used + coverage.lost_total());
        assert_eq!(coverage.used, totals.rows);
        assert!(coverage.read <= coverage.rows);
    }
}
