//! Requests and reports: runs side by side, cancelled, abandoned; inspections.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_drb::process::ProcessError;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release};
use fades_task::quantity::Size;
use fades_wire::{Channel, WireError};

use crate::broker::{Broker, Ended, Totals, drain, dto, soon, sources, time};

/// Rooms with a file each and `rows` rows.
fn rooms(folder: &std::path::Path, rooms: u32, rows: u32) -> Sources {
    for room in 0..rooms {
        let path = folder.join(format!("room-{room}.csv"));
        let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
        writeln!(file, "time,t,h").unwrap();
        for i in 0..rows {
            writeln!(file, "{i},{room},{i}").unwrap();
        }
    }
    sources(
        "[source.rooms]\ntype = \"csv\"\nfiles = \"room-*.csv\"\ntime = { column = \"time\", format = \"unix-s\" }\n\
         device = \"{file}\"\nlocation = \"house/{file}\"\n\
         points = [{ column = \"t\", kind = \"temperature\", unit = \"Cel\" }, { column = \"h\", kind = \"humidity\" }]",
    )
}

const CHUNK: u64 = 2 << 20;

/// A broker whose batches are small, and rooms that fill many of them.
fn many_batches() -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let sources = rooms(folder.path(), 6, 50_000);
    let broker = Broker::with_memory(&sources, folder.path(), 4 * CHUNK, CHUNK);
    (folder, broker)
}

#[test]
fn dtos_are_fed_in_order_with_an_end_each_and_then_finish() {
    let (_folder, broker) = many_batches();
    let mut dtos = ["humidity", "temperature"].map(dto);
    for d in &mut dtos {
        d.kind = vec![d.name.to_string()];
    }
    let channel = broker.begin(7, &dtos);
    let (mut order, mut sequence) = (Vec::new(), [0; 2]);
    let mut totals = [Totals::default(), Totals::default()];
    let fed = drain(&channel, |batch| {
        let dto = batch.dto() as usize;
        assert_eq!(batch.sequence(), sequence[dto]);
        sequence[dto] += 1;
        order.push(dto);
        totals[dto].add(batch);
    });
    assert!(fed.finished && order.is_sorted());
    assert_eq!(fed.ends, [0, 1]);
    let BrokerReport::RetrieveEnded {
        run: 7,
        coverage,
        failure: None,
        stopped: false,
    } = broker.report()
    else {
        panic!()
    };
    assert_eq!(coverage.len(), 2);
    for (totals, coverage) in totals.iter().zip(&coverage) {
        assert_eq!((totals.rows, coverage.used), (300_000, 300_000));
        assert_eq!(totals.series.len(), 6);
    }
}

#[test]
fn a_run_without_dtos_finishes_at_once() {
    let (_folder, broker) = many_batches();
    let channel = broker.begin(1, &[]);
    assert!(drain(&channel, |_| ()).finished);
    let ended = Ended::of(broker.report());
    assert!(ended.failure.is_none() && ended.coverage.is_empty());
}

#[test]
fn no_third_batch_is_sent_before_the_first_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let sources = rooms(folder.path(), 6, 50_000);
    let broker = Broker::with_memory(&sources, folder.path(), 64 * CHUNK, CHUNK);
    let channel = broker.begin(1, &[dto("all")]);
    for _ in 0..2 {
        let frame = channel.receive::<Feed>(soon()).unwrap().unwrap();
        assert!(matches!(frame.message, Feed::Batch { .. }));
    }
    let briefly = Some(Instant::now() + Duration::from_millis(300));
    assert!(matches!(
        channel.receive::<Feed>(briefly),
        Err(WireError::Deadline)
    ));
    channel.send(&Release::Batch, &[], &[]).unwrap();
    assert!(channel.receive::<Feed>(soon()).unwrap().is_some());
}

#[test]
fn several_runs_share_a_small_budget_and_all_end() {
    let (_folder, broker) = many_batches();
    let tenders: Vec<_> = (0..4)
        .map(|run| {
            let channel = broker.begin(run, &[dto("a"), dto("b")]);
            std::thread::spawn(move || drain(&channel, |_| ()))
        })
        .collect();
    for tender in tenders {
        let fed = tender.join().unwrap();
        assert!(fed.finished && fed.batches > 4);
    }
    let mut runs: Vec<u64> = (0..4)
        .map(|_| match broker.report() {
            BrokerReport::RetrieveEnded {
                run,
                failure: None,
                stopped: false,
                ..
            } => run,
            other => panic!("{other:?}"),
        })
        .collect();
    runs.sort_unstable();
    assert_eq!(runs, [0, 1, 2, 3]);
}

#[test]
fn a_cancelled_run_ends_once_and_others_go_on() {
    let (_folder, broker) = many_batches();
    let cancelled = broker.begin(1, &[dto("a")]);
    assert!(cancelled.receive::<Feed>(soon()).unwrap().is_some());
    broker
        .control
        .send(&BrokerRequest::Cancel { run: 1 }, &[], &[])
        .unwrap();
    let ended = Ended::of(broker.report());
    assert!(ended.stopped && ended.failure.is_none());
    assert_eq!(ended.coverage.len(), 1);
    broker
        .control
        .send(&BrokerRequest::Cancel { run: 1 }, &[], &[])
        .unwrap();
    broker
        .control
        .send(&BrokerRequest::Cancel { run: 99 }, &[], &[])
        .unwrap();
    let fed = drain(&broker.begin(2, &[dto("b")]), |_| ());
    assert!(fed.finished, "the budget came back");
    let _ = Ended::of(broker.report());
}

#[test]
fn a_run_whose_tender_is_gone_ends() {
    let (_folder, broker) = many_batches();
    let tender = broker.begin(1, &[dto("a")]);
    let frame = tender.receive::<Feed>(soon()).unwrap();
    drop(tender);
    assert!(Ended::of(broker.report()).stopped);
    drop(frame);
    let fed = drain(&broker.begin(2, &[dto("b")]), |_| ());
    assert!(fed.finished, "the budget came back");
}

#[test]
fn a_tender_that_releases_what_it_does_not_have_is_left() {
    let (_folder, broker) = many_batches();
    let tender = broker.begin(1, &[dto("a")]);
    for _ in 0..4 {
        let _ = tender.send(&Release::Batch, &[], &[]);
    }
    assert!(Ended::of(broker.report()).stopped);
}

#[test]
fn a_file_that_vanishes_while_it_is_read_ends_the_run_with_its_name() {
    let (folder, broker) = many_batches();
    let tender = broker.begin(1, &[dto("a")]);
    assert!(tender.receive::<Feed>(soon()).unwrap().is_some());
    assert!(tender.receive::<Feed>(soon()).unwrap().is_some());
    fs::remove_file(folder.path().join("room-5.csv")).unwrap();
    for _ in 0..2 {
        tender.send(&Release::Batch, &[], &[]).unwrap();
    }
    assert!(!drain(&tender, |_| ()).finished);
    let ended = Ended::of(broker.report());
    let text = ended.failure_text();
    assert!(
        text.contains("room-5.csv") && text.contains("vanished"),
        "{text}"
    );
    assert!(text.contains("source rooms") && !ended.stopped);
    assert_eq!(ended.coverage[0].matched, 6);
}

#[test]
fn a_file_that_changes_while_it_is_read_ends_the_run_with_its_name() {
    let (folder, broker) = many_batches();
    let tender = broker.begin(1, &[dto("a")]);
    for _ in 0..2 {
        assert!(tender.receive::<Feed>(soon()).unwrap().is_some());
    }
    // The same size, but other rows than when it was indexed.
    let path = folder.path().join("room-5.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\n4999", "\t4999")).unwrap();
    for _ in 0..2 {
        tender.send(&Release::Batch, &[], &[]).unwrap();
    }
    assert!(!drain(&tender, |_| ()).finished);
    let text = Ended::of(broker.report()).failure_text();
    let said = "room-5.csv changed while it was read";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_ping_is_answered_while_a_source_is_read() {
    let (_folder, broker) = many_batches();
    let test = BrokerRequest::TestSource {
        id: 1,
        source: "rooms".parse().unwrap(),
    };
    broker.control.send(&test, &[], &[]).unwrap();
    let BrokerReport::Pong { id: 2 } = broker.ask(&BrokerRequest::Ping { id: 2 }) else {
        panic!("the answer to the ping comes first")
    };
    assert!(matches!(
        broker.report(),
        BrokerReport::Tested { id: 1, .. }
    ));
}

#[test]
fn resources_list_devices_with_what_they_measure() {
    let folder = tempfile::tempdir().unwrap();
    let sources = rooms(folder.path(), 2, 10);
    let broker = Broker::start(&sources, folder.path());
    let BrokerReport::Resources { id: 3, devices, .. } =
        broker.ask(&BrokerRequest::Resources { id: 3 })
    else {
        panic!()
    };
    let names: Vec<_> = devices.iter().map(|d| d.device.as_str()).collect();
    assert_eq!(names, ["room-0", "room-1"]);
    assert_eq!(devices[1].location, "house/room-1");
    let [humidity, temperature] = devices[1].series.as_slice() else {
        panic!()
    };
    assert_eq!(
        (humidity.kind.as_str(), temperature.unit.as_str()),
        ("humidity", "Cel")
    );
    assert_eq!(temperature.readings, Some(10));
    assert_eq!(temperature.newest, Some(time("1970-01-01T00:00:09Z")));
}

#[test]
fn the_test_of_a_source_shows_devices_rows_and_what_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let sources = rooms(folder.path(), 1, 5);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.path().join("room-0.csv"))
        .unwrap();
    writeln!(file, "5,x,1\nnever,1,1").unwrap();
    let broker = Broker::start(&sources, folder.path());
    let ask = |source: &str| match broker.ask(&BrokerRequest::TestSource {
        id: 1,
        source: source.parse().unwrap(),
    }) {
        BrokerReport::Tested { id: 1, report } => report,
        other => panic!("{other:?}"),
    };
    let report = ask("rooms").unwrap();
    assert_eq!(
        (report.files, report.devices.len(), report.sample.len()),
        (1, 1, 6)
    );
    assert_eq!(report.reads, "room-*.csv");
    let c = &report.coverage;
    assert_eq!((c.rows, c.read, c.used, c.lost_total()), (7, 14, 11, 3));
    assert_eq!((c.matched, c.answered), (1, 1));
    assert_eq!(c.cited.iter().map(|b| b.line).collect::<Vec<_>>(), [7, 8]);
    assert!(ask("nowhere").unwrap_err().contains("rooms"));
    fs::write(folder.path().join("room-1.csv"), "a;b\n").unwrap();
    let error = ask("rooms").unwrap_err();
    assert!(
        error.contains("room-1.csv") && error.contains("delimiter"),
        "{error}"
    );
}

#[test]
fn a_preview_counts_exactly_what_a_run_fetches() {
    let (_folder, broker) = many_batches();
    let mut some = dto("some");
    some.kind = vec!["temp*".into()];
    some.location = vec!["house/room-[01]".into()];
    some.from = time("1970-01-01T00:00:10Z");
    some.to = time("1970-01-01T10:00:00Z");
    let preview = |dtos: Vec<_>| match broker.ask(&BrokerRequest::Preview {
        id: 9,
        dtos,
        answers: Vec::new(),
    }) {
        BrokerReport::Previewed { id: 9, previews } => previews,
        other => panic!("{other:?}"),
    };
    let previews = preview(vec![some.clone(), dto("all")]).unwrap();
    assert_eq!(previews[0].devices.len(), 2);
    let mut bytes = 0;
    let ended = broker.run_with(&[some.clone()], |_| bytes += CHUNK);
    assert_eq!(previews[0].readings, ended.good().used);
    assert_eq!(previews[0].batch_bytes, bytes);
    assert_eq!(previews[1].readings, 600_000);
    some.device = vec!["nobody".into()];
    assert!(
        preview(vec![some])
            .unwrap_err()
            .to_string()
            .contains("nobody")
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_and_ends_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    for (blob, budget, word) in [
        (&b"{"[..], 64 << 20, "EOF"),
        (br#"{"a": {"type": "csv"}}"#, 64 << 20, "files"),
        (
            br#"{"a": {"type": "csv", "files": "x", "time": {}, "device": "d"}}"#,
            64 << 20,
            "source.a.time",
        ),
        (b"{}", 1 << 20, "budget"),
    ] {
        let (control, theirs) = Channel::pair().unwrap();
        let broker = std::thread::spawn(move || fades_drb::process::run(theirs));
        let configure = BrokerRequest::Configure {
            folder: folder.path().display().to_string(),
            budget: Size(budget),
            chunk: Size(CHUNK),
            base: "/".to_owned(),
            readings: None,
            credentials: None,
        };
        control.send(&configure, blob, &[]).unwrap();
        let report = control
            .receive::<BrokerReport>(soon())
            .unwrap()
            .unwrap()
            .message;
        let BrokerReport::Misconfigured { reason } = report else {
            panic!("{report:?}")
        };
        assert!(reason.contains(word), "{word} in {reason}");
        let ended = broker.join().unwrap();
        assert!(matches!(ended, Err(ProcessError::Misconfigured(_))));
    }
}

#[test]
fn a_broker_that_is_not_configured_first_ends() {
    let (control, theirs) = Channel::pair().unwrap();
    control
        .send(&BrokerRequest::Ping { id: 1 }, &[], &[])
        .unwrap();
    assert!(matches!(
        fades_drb::process::run(theirs),
        Err(ProcessError::NotConfigured)
    ));
    let (control, theirs) = Channel::pair().unwrap();
    drop(control);
    assert!(fades_drb::process::run(theirs).is_ok());
}

#[test]
fn a_run_without_its_channel_ends_the_broker() {
    let (_folder, broker) = many_batches();
    let request = BrokerRequest::Retrieve {
        of: None,
        run: 1,
        dtos: vec![],
        window: Size(64 << 20),
        within: None,
        answers: Vec::new(),
    };
    broker.control.send(&request, &[], &[]).unwrap();
    assert!(!broker.stop());
}

#[test]
fn closing_the_control_channel_ends_a_broker_at_work() {
    let (_folder, broker) = many_batches();
    let (tender, theirs) = Channel::pair().unwrap();
    let request = BrokerRequest::Retrieve {
        of: None,
        run: 1,
        dtos: vec![dto("a")],
        window: Size(64 << 20),
        within: None,
        answers: Vec::new(),
    };
    broker
        .control
        .send(&request, &[], &[theirs.as_fd()])
        .unwrap();
    drop(theirs);
    assert!(tender.receive::<Feed>(soon()).unwrap().is_some());
    assert!(broker.stop());
    while tender.receive::<Feed>(soon()).unwrap().is_some() {}
}
