//! Runs that ask the same get the same files.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fades_abi::batch::Batch;
use fades_drb::config::Sources;
use fades_task::message::{BrokerRequest, Feed, Release};
use fades_task::mtw::Dto;
use fades_task::time::Time;
use fades_wire::Channel;

use crate::broker::{Broker, Ended, Totals, bytes, content, drain, dto, settled, soon, sources};

const CHUNK: u64 = 2 << 20;

/// Eight devices whose readings fill many batches of [`CHUNK`] bytes, or one.
fn folder(rows: u32) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    for d in 0..8 {
        let path = folder.path().join(format!("{d}.csv"));
        let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
        writeln!(file, "time,a").unwrap();
        for i in 0..rows {
            writeln!(file, "{i},{d}").unwrap();
        }
    }
    settled(folder.path());
    let table = "[source.s]\ntype = \"csv\"\nfiles = \"*.csv\"\ndevice = \"{file}\"\n\
         time = { column = \"time\", format = \"unix-s\" }\npoints = [{ column = \"a\" }]";
    (folder, sources(table))
}

fn few() -> (tempfile::TempDir, Broker) {
    let (folder, sources) = folder(100);
    let broker = Broker::start(&sources, folder.path());
    (folder, broker)
}

fn many(budget: u64) -> (tempfile::TempDir, Broker) {
    let (folder, sources) = folder(100_000);
    let broker = Broker::with_memory(&sources, folder.path(), budget, CHUNK);
    (folder, broker)
}

/// The next batch of a run, which is not released.
fn batch(tender: &Channel) -> (OwnedFd, u64) {
    let frame = tender.receive::<Feed>(soon()).unwrap().unwrap();
    let Feed::Batch { length, .. } = frame.message else {
        panic!("{:?}", frame.message)
    };
    let [file] = <[_; 1]>::try_from(frame.descriptors).unwrap();
    (file, length)
}

/// Which file it is.
fn file(batch: &(OwnedFd, u64)) -> (u64, u64) {
    let stat = rustix::fs::fstat(&batch.0).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// The file of a run that has one batch, and how the run ended.
fn only(broker: &Broker, dto: &Dto) -> ((OwnedFd, u64), Ended) {
    let tender = broker.begin(1, std::slice::from_ref(dto));
    let batch = batch(&tender);
    tender.send(&Release::Batch, &[], &[]).unwrap();
    assert!(drain(&tender, |_| ()).finished);
    (batch, Ended::of(broker.report()))
}

fn rows(batch: &(OwnedFd, u64)) -> usize {
    let memory = content(&batch.0, batch.1);
    Batch::open(bytes(&memory)).unwrap().rows()
}

#[test]
fn runs_that_ask_the_same_at_once_get_the_same_files() {
    let (_folder, broker) = many(64 * CHUNK);
    let tenders: Vec<_> = [dto("a"), dto("b"), dto("c")]
        .into_iter()
        .map(|d| broker.begin(1, &[d]))
        .collect();
    let mut count = 0;
    loop {
        let mut files = Vec::new();
        for tender in &tenders {
            let frame = tender.receive::<Feed>(soon()).unwrap().unwrap();
            if let Feed::Batch { length, .. } = frame.message {
                let [descriptor] = <[_; 1]>::try_from(frame.descriptors).unwrap();
                files.push(file(&(descriptor, length)));
                tender.send(&Release::Batch, &[], &[]).unwrap();
            }
        }
        if files.is_empty() {
            break;
        }
        assert_eq!(files, [files[0]; 3]);
        count += 1;
    }
    assert!(count > 4, "{count}");
    let mut names = Vec::new();
    for _ in &tenders {
        let ended = Ended::of(broker.report());
        assert!(ended.failure.is_none() && !ended.stopped);
        assert_eq!(ended.coverage[0].used, 800_000);
        names.push(ended.coverage[0].name.to_string());
    }
    names.sort();
    assert_eq!(names, ["a", "b", "c"], "each in its own words");
}

#[test]
fn a_run_that_asks_the_same_shortly_after_gets_the_same_file() {
    let (_folder, broker) = few();
    let (first, ended) = only(&broker, &dto("a"));
    let (second, other) = only(&broker, &dto("b"));
    assert_eq!(file(&first), file(&second));
    assert_eq!(ended.coverage[0].used, other.coverage[0].used);
}

#[test]
fn files_that_nobody_asks_for_are_given_up_after_a_short_time() {
    let (_folder, broker) = few();
    let (first, _) = only(&broker, &dto("a"));
    let deadline = soon().unwrap();
    // Whoever asks keeps them, so this asks ever more rarely.
    let mut pause = Duration::from_secs(3);
    loop {
        std::thread::sleep(pause);
        let (again, _) = only(&broker, &dto("a"));
        if file(&again) != file(&first) {
            break;
        }
        assert!(Instant::now() < deadline, "they are still kept");
        pause += Duration::from_secs(1);
    }
}

#[test]
fn a_changed_file_is_not_shared() {
    let (folder, broker) = few();
    let (first, _) = only(&broker, &dto("a"));
    assert_eq!(rows(&first), 800);
    let mut more = fs::OpenOptions::new()
        .append(true)
        .open(folder.path().join("3.csv"))
        .unwrap();
    writeln!(more, "1000,1").unwrap();
    let (second, _) = only(&broker, &dto("a"));
    assert_ne!(file(&first), file(&second));
    assert_eq!(rows(&second), 801);
    settled(folder.path());
    fs::write(folder.path().join("9.csv"), "time,a\n1,1\n").unwrap();
    assert_eq!(rows(&only(&broker, &dto("a")).0), 802);
}

#[test]
fn another_selection_or_range_is_not_shared() {
    let (_folder, broker) = few();
    let base = dto("a");
    let (first, _) = only(&broker, &base);
    let mut others = vec![base.clone(), base.clone(), base.clone(), base.clone()];
    others[0].from = Time(1);
    others[1].to = Time(1_000_000_000);
    others[2].device = vec!["[1-3]".into()];
    others[3].kind = vec!["a".into()];
    for other in &others {
        let (second, _) = only(&broker, other);
        assert_ne!(file(&first), file(&second), "{other:?}");
    }
    let tender = broker.begin_within(1, &[base], CHUNK);
    assert_ne!(file(&first), file(&batch(&tender)), "another window");
}

#[test]
fn equal_rows_at_another_place_in_the_task_have_their_own_header() {
    let (_folder, broker) = few();
    let mut seen = Vec::new();
    // `drain` compares the header with the announcement.
    let ended = broker.run_with(&[dto("a"), dto("b")], |batch| {
        seen.push((batch.dto(), batch.sequence(), batch.rows()));
    });
    let _ = ended.good();
    assert_eq!(seen, [(0, 0, 800), (1, 0, 800)]);
}

#[test]
fn a_run_that_is_cancelled_leaves_the_others_whole() {
    let (_folder, broker) = many(64 * CHUNK);
    for cancelled in [0, 1] {
        let mut tenders = [1, 2].map(|run| Some(broker.begin(run, &[dto("a")])));
        let first = tenders[cancelled].take().unwrap();
        let other = tenders[1 - cancelled].take().unwrap();
        let held = batch(&first);
        let run = cancelled as u64 + 1;
        let cancel = BrokerRequest::Cancel { run };
        broker.control.send(&cancel, &[], &[]).unwrap();
        let mut totals = Totals::default();
        assert!(drain(&other, |b| totals.add(b)).finished);
        assert_eq!(totals.rows, 800_000);
        let ended = [broker.report(), broker.report()].map(Ended::of);
        assert_eq!(ended.iter().filter(|e| e.stopped).count(), 1);
        assert!(rows(&held) > 0, "what it had is still whole");
    }
}

#[test]
fn need_and_bad_rows_are_judged_for_each_task() {
    let (folder, sources) = folder(10);
    fs::write(folder.path().join("8.csv"), "time,a\n1,x\n").unwrap();
    settled(folder.path());
    let broker = Broker::start(&sources, folder.path());
    let (mut all, mut good) = (dto("all"), dto("good"));
    all.need = Some("100%".to_owned().try_into().unwrap());
    good.bad_rows = Some("0%".to_owned().try_into().unwrap());
    let (first, ended) = only(&broker, &dto("any"));
    assert!(ended.failure.is_none());
    for (dto, word) in [
        (all, "retrieve all: 8 of 9"),
        (good, "retrieve good: 1 of 81"),
    ] {
        let tender = broker.begin(1, &[dto]);
        assert_eq!(file(&first), file(&batch(&tender)));
        assert!(!drain(&tender, |_| ()).finished);
        let text = Ended::of(broker.report()).failure_text();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn kept_files_make_room_for_what_runs_need() {
    let (_folder, broker) = many(8 * CHUNK);
    let mut small = dto("small");
    small.device = vec!["3".into()];
    let (first, _) = only(&broker, &small);
    assert_eq!(file(&first), file(&only(&broker, &small).0));
    // More than the budget, by runs that take all of it.
    let (ended, totals) = broker.run(&[dto("all")]);
    assert_eq!((ended.good().used, totals.rows), (800_000, 800_000));
    let tenders: Vec<_> = (1..=4)
        .map(|i| {
            let mut dto = dto("all");
            dto.from = Time(i);
            broker.begin(1, &[dto])
        })
        .collect();
    let held: Vec<_> = tenders.iter().map(batch).collect();
    assert_eq!(held.len(), 4);
    drop(tenders);
    for _ in 0..4 {
        let _ = broker.report();
    }
    assert_ne!(file(&first), file(&only(&broker, &small).0));
}

#[test]
fn a_run_that_does_not_keep_up_holds_nobody_up_and_gets_everything() {
    let (folder, broker) = many(4 * CHUNK);
    let slow = broker.begin(1, &[dto("slow")]);
    let held = [batch(&slow), batch(&slow)];
    let mut fast = Totals::default();
    assert!(drain(&broker.begin(2, &[dto("fast")]), |b| fast.add(b)).finished);
    assert_eq!(Ended::of(broker.report()).coverage[0].used, 800_000);
    let mut all = Totals::default();
    for (descriptor, length) in held {
        let memory = content(&descriptor, length);
        all.add(&Batch::open(bytes(&memory)).unwrap());
        slow.send(&Release::Batch, &[], &[]).unwrap();
    }
    assert!(drain(&slow, |b| all.add(b)).finished);
    assert_eq!(all.series, fast.series);
    assert_eq!(Ended::of(broker.report()).coverage[0].used, 800_000);
    drop(folder);
}

#[test]
fn runs_that_are_stuck_together_leave_room_for_another() {
    let (_folder, broker) = many(4 * CHUNK);
    let stuck = [1, 2].map(|run| broker.begin(run, &[dto("a"), dto("b")]));
    let held = stuck.each_ref().map(batch);
    assert_eq!(file(&held[0]), file(&held[1]));
    let mut other = dto("other");
    other.from = Time(1);
    assert!(drain(&broker.begin(3, &[other]), |_| ()).finished);
    drop((held, stuck));
}
