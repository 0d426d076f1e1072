//! What a broker may use: memory, room for batches, descriptors.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::message::{BrokerRequest, Feed, Release};
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::{Channel, WireError};

use crate::broker::{Broker, Ended, drain, drain_lengths, dto, soon, sources};

const FOLDER: &str = "FADES_TEST_FOLDER";
const ROWS: u32 = 1_500_000;

fn large(folder: &Path, device: &str) -> Sources {
    sources(&format!(
        "[source.s]\ntype = \"csv\"\nfiles = \"{}/*.csv\"\ntime = {{ column = \"time\", format = \"unix-s\" }}\n\
         device = \"{device}\"\npoints = [{{ column = \"a\" }}, {{ column = \"b\" }}, {{ column = \"c\" }}]",
        folder.display()
    ))
}

/// Most memory that this process has had, bytes.
pub(crate) fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

/// Runs a test in a process of its own, where it has a folder to work on; what it
/// printed.
pub(crate) fn alone(test: &str, folder: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found = text.lines().find_map(|l| l.split_once("found: "));
    found.unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

pub(crate) fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

#[test]
fn much_data_is_read_in_little_memory() {
    let Some(folder) = folder() else { return };
    let mut most = Vec::new();
    for device in ["{device}", "d"] {
        let sources = large(&folder, device);
        let broker = Broker::in_a_thread(&sources, &folder, 8 << 20, 2 << 20);
        let mut rows = 0;
        let ended = broker.run_with(&[dto("all")], |batch| rows += batch.rows());
        assert_eq!(ended.good().used, rows as u64);
        assert_eq!(rows, 3 * ROWS as usize);
        most.push(most_memory().to_string());
    }
    println!("found: {}", most.join(" "));
}

#[test]
fn data_much_larger_than_the_budget_is_streamed_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("large.csv")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    writeln!(file, "time,device,a,b,c").unwrap();
    for i in 0..ROWS {
        writeln!(file, "{i},{},1,2,3", i / (ROWS / 30)).unwrap();
    }
    drop(file);
    // 4.5 million readings take 76 MB; with all of them in memory once, the
    // process could not stay below this.
    let found = alone("limits::much_data_is_read_in_little_memory", folder.path());
    let most: Vec<u64> = found.split(' ').map(|m| m.parse().unwrap()).collect();
    println!(
        "most memory: whole series {}, one large series {}",
        most[0], most[1]
    );
    assert!(most.iter().all(|m| *m < 60 << 20), "{most:?}");
}

#[test]
fn runs_with_few_descriptors() {
    let Some(folder) = folder() else { return };
    let sources = large(&folder, "{device}");
    let limit = rustix::process::Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let broker = Broker::in_a_thread(&sources, &folder, 256 << 20, 64 << 20);
    let mut found = Vec::new();
    // With none, the run is refused; the broker lives on.
    for spare in 0..12 {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut taken = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - spare);
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos: vec![dto("d")],
            window: Size(64 << 20),
            within: None,
            answers: Vec::new(),
        };
        broker
            .control
            .send(&request, &[], &[theirs.as_fd()])
            .unwrap();
        let finished = loop {
            match ours.receive::<Feed>(soon()) {
                Ok(Some(frame)) if frame.message == Feed::Finish => break true,
                Ok(Some(_)) => {}
                // The last one for a batch may be missing on this side too.
                Ok(None) | Err(WireError::Frame(_)) => break false,
                Err(e) => panic!("{e}"),
            }
            drop(theirs.try_clone());
            if ours.send(&Release::Batch, &[], &[]).is_err() {
                break false;
            }
        };
        drop((ours, theirs));
        found.push(match Ended::of(broker.report()) {
            Ended { failure: None, .. } if finished => "done".to_owned(),
            Ended {
                failure: None,
                stopped: true,
                ..
            } => "left".to_owned(),
            ended => ended.failure_text(),
        });
    }
    println!("found: {}", found.join("|"));
}

#[test]
fn a_shortage_of_descriptors_is_a_failure_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "time,device,a,b,c\n1,d,1,2,3\n",
    )
    .unwrap();
    let found = alone("limits::runs_with_few_descriptors", folder.path());
    let (mut failed, mut done) = (0, 0);
    for found in found.split('|') {
        match found {
            "done" => done += 1,
            "left" => {}
            failure => {
                assert!(failure.contains("ulimit -n"), "{failure}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0 && done > 0, "{found}");
}

#[test]
fn a_series_larger_than_a_batch_is_the_same_as_in_one() {
    let folder = tempfile::tempdir().unwrap();
    // Three files that overlap in time, rows out of order, equal times, losses.
    for f in 0..3_u64 {
        let path = folder.path().join(format!("{f}.csv"));
        let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
        writeln!(file, "time,device,a,b,c").unwrap();
        for i in 0..200_000_u64 {
            let time = (i * 7919 + f * 31) % 50_000;
            let bad = if i % 1000 == f { "x" } else { "" };
            writeln!(file, "{time},d,{f}{i}{bad},{i},").unwrap();
        }
    }
    let sources = large(folder.path(), "d");
    let whole = Broker::start(&sources, folder.path()).run(&[dto("all")]);
    let parts = Broker::with_memory(&sources, folder.path(), 8 << 20, 2 << 20).run(&[dto("all")]);
    assert_eq!((whole.0.batches, parts.0.batches >= 10), (1, true));
    assert_eq!(whole.1.series, parts.1.series);
    let (whole, parts) = (whole.0.good(), parts.0.good());
    assert_eq!(whole, parts);
    assert_eq!(whole.lost_total(), 600_000 + 600);
    let mut range = dto("range");
    range.from = Time(10_000_000_000_000);
    range.to = Time(40_000_000_000_000);
    let broker = Broker::with_memory(&sources, folder.path(), 8 << 20, 2 << 20);
    let parts = broker.run(&[range.clone()]);
    let whole = Broker::start(&sources, folder.path()).run(&[range]);
    assert_eq!(whole.1.series, parts.1.series);
    assert_eq!(whole.0.good(), parts.0.good());
}

/// A file of 30,000 rows for each of some devices.
fn write_devices(folder: &Path, devices: usize) {
    for d in 0..devices {
        let path = folder.join(format!("{d}.csv"));
        let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
        writeln!(file, "time,device,a,b,c").unwrap();
        for i in 0..30_000 {
            writeln!(file, "{i},{d},1,2,3").unwrap();
        }
    }
}

#[test]
fn idle_tenders_together_get_no_more_than_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    write_devices(folder.path(), 4);
    let sources = large(folder.path(), "{device}");
    let (budget, chunk) = (8 << 20, 2 << 20);
    let broker = Broker::with_memory(&sources, folder.path(), budget, chunk);
    // Each asks something else, so that no file is shared.
    let asked = |i| {
        let mut dto = dto("a");
        dto.from = Time(i);
        dto
    };
    let tenders: Vec<_> = (0..6)
        .map(|run| broker.begin(run, &[asked(run as i64)]))
        .collect();
    let mut bytes = 0;
    let mut held = Vec::new();
    for tender in &tenders {
        let mut batches = Vec::new();
        let briefly = || Some(Instant::now() + Duration::from_millis(300));
        // One of them gets something, however long that takes.
        let patience = |bytes| if bytes == 0 { soon() } else { briefly() };
        while let Ok(Some(frame)) = tender.receive::<Feed>(patience(bytes)) {
            let Feed::Batch { length, .. } = frame.message else {
                panic!("{:?}", frame.message)
            };
            bytes += length;
            batches.push(frame.descriptors);
        }
        held.push(batches);
    }
    assert!((chunk..=budget).contains(&bytes), "{bytes}");
    // None has failed: they go on as room comes back.
    let working: Vec<_> = std::iter::zip(tenders, held)
        .map(|(tender, batches)| {
            std::thread::spawn(move || {
                for batch in batches {
                    drop(batch);
                    tender.send(&Release::Batch, &[], &[]).unwrap();
                }
                drain(&tender, |_| ()).finished
            })
        })
        .collect();
    assert!(working.into_iter().all(|w| w.join().unwrap()));
}

#[test]
fn a_run_of_which_nobody_takes_the_batches_does_not_hold_others_up() {
    let folder = tempfile::tempdir().unwrap();
    write_devices(folder.path(), 8);
    let sources = large(folder.path(), "{device}");
    let broker = Broker::with_memory(&sources, folder.path(), 8 << 20, 2 << 20);
    let idle = broker.begin(1, &[dto("a"), dto("b"), dto("c")]);
    let first = idle.receive::<Feed>(soon()).unwrap();
    let fed = drain(&broker.begin(2, &[dto("a")]), |_| ());
    assert!(fed.finished);
    drop((first, idle));
}

#[test]
fn no_batch_is_longer_than_the_chunk_or_the_input_window() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("a.csv")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    writeln!(file, "time,device,a,b,c").unwrap();
    // Rows whose length in a batch comes close to whole pages, marks included.
    for i in 0..400_000 {
        writeln!(file, "{i},{},1,2,3", i / 41_000).unwrap();
    }
    drop(file);
    let chunk = 8 << 20;
    for device in ["{device}", "d"] {
        let sources = large(folder.path(), device);
        let broker = Broker::with_memory(&sources, folder.path(), 4 * chunk, chunk);
        for window in [2 << 20, 4 << 20, 64 << 20] {
            let tender = broker.begin_within(1, &[dto("all")], window);
            let (mut rows, mut longest) = (0, 0);
            let fed = drain_lengths(&tender, |length, batch| {
                longest = longest.max(length);
                rows += batch.rows();
            });
            assert!(fed.finished);
            assert_eq!(rows, 1_200_000);
            assert_eq!(longest, window.min(chunk), "as long as it may be");
            let _ = Ended::of(broker.report());
        }
    }
}

#[test]
fn an_input_window_that_holds_no_batch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "time,device,a,b,c\n1,d,1,2,3\n",
    )
    .unwrap();
    let sources = large(folder.path(), "{device}");
    let broker = Broker::start(&sources, folder.path());
    for window in [0, 4096, (2 << 20) + 1] {
        let tender = broker.begin_within(1, &[dto("all")], window);
        assert!(!drain(&tender, |_| ()).finished);
        let text = Ended::of(broker.report()).failure_text();
        let said = format!("input window of {window} bytes");
        assert!(text.contains(&said) && text.contains("2097152"), "{text}");
    }
}

#[test]
fn a_tender_that_keeps_what_it_released_fills_the_file_system_and_a_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    writeln!(file, "time,device,a,b,c").unwrap();
    for i in 0..240_000 {
        writeln!(file, "{i},{},1,2,3", i / 30_000).unwrap();
    }
    drop(file);
    let sources = large(folder.path(), "{device}");
    let broker = Broker::with_memory(&sources, folder.path(), 8 << 20, 2 << 20);
    let tender = broker.begin(1, &[dto("a")]);
    let mut kept = Vec::new();
    while let Some(frame) = tender.receive::<Feed>(soon()).unwrap() {
        if frame.message == Feed::Finish {
            break;
        }
        kept.extend(frame.descriptors);
        let _ = tender.send(&Release::Batch, &[], &[]);
    }
    let kind = rustix::fs::fstatfs(&kept[0]).unwrap();
    if kind.f_blocks * kind.f_bsize as u64 != 8 << 20 {
        println!("SKIPPED: a full file system: no tmpfs can be mounted here");
        return;
    }
    let text = Ended::of(broker.report()).failure_text();
    assert!(
        text.contains("No space left") && text.contains("node.memory"),
        "{text}"
    );
    drop((kept, tender));
    assert!(drain(&broker.begin(2, &[dto("a")]), |_| ()).finished);
    assert!(Ended::of(broker.report()).failure.is_none());
}

/// Descriptors, threads and memory (bytes) of this process.
fn held() -> (usize, usize, u64) {
    let count = |path| fs::read_dir(path).unwrap().count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    (
        count("/proc/self/fd"),
        count("/proc/self/task"),
        kib.parse::<u64>().unwrap() << 10,
    )
}

#[test]
fn thousands_of_retrievals() {
    let Some(folder) = folder() else { return };
    let sources = large(&folder, "{device}");
    let broker = Broker::in_a_thread(&sources, &folder, 32 << 20, 2 << 20);
    let mut asked = dto("d");
    let mut run = |n: i64| {
        for i in 0..n {
            // Some are shared, most are not; some are left, some ask for two.
            asked.from = Time(i / 3);
            let two = [asked.clone(), dto("other")];
            let dtos = if i % 7 == 0 { &two[..] } else { &two[..1] };
            let tender = broker.begin(1, dtos);
            if i % 11 != 0 {
                assert!(drain(&tender, |_| ()).finished);
            }
            drop(tender);
            let _ = Ended::of(broker.report());
        }
    };
    run(300);
    let before = held();
    run(2000);
    // Kept files and idle threads go within seconds.
    let deadline = soon().unwrap();
    let after = loop {
        let after = held();
        if after.0 <= before.0 && after.1 <= before.1 {
            break after;
        }
        assert!(Instant::now() < deadline, "{before:?} {after:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    println!("found: {} {}", before.2, after.2);
}

#[test]
fn thousands_of_retrievals_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "time,device,a,b,c\n".to_owned();
    for i in 0..1000 {
        text += &format!("{i},board-{},1,2,3\n", i % 24);
    }
    fs::write(folder.path().join("a.csv"), text).unwrap();
    let found = alone("limits::thousands_of_retrievals", folder.path());
    let (before, after) = found.split_once(' ').unwrap();
    let (before, after): (u64, u64) = (before.parse().unwrap(), after.parse().unwrap());
    println!("memory before {before}, after {after}");
    assert!(after < before + (4 << 20), "{before} {after}");
}
