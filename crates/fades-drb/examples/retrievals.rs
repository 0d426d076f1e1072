//! What retrievals cost a broker: plays orchestrator and tender.
//!
//! ```sh
//! cargo run --release -p fades-drb --example retrievals -- small 5000 [same]
//! cargo run --release -p fades-drb --example retrievals -- folder PATH/WITH/luftdaten 5
//! ```
//! `small`: 24 devices in one file of 1,000 rows, asked for again and again; each
//! time another range, or with `same` the same one. `folder`: all readings of the
//! Aberdeen data set, whose table is in docs/sources/csv.md.
#![expect(clippy::print_stdout, reason = "this program reports to people")]

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::Channel;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["small", n, rest @ ..] => small(n.parse()?, rest == ["same"]),
        ["folder", path, n] => folder(Path::new(path), n.parse()?),
        _ => Err("small N [same] | folder PATH N".into()),
    }
}

fn small(n: u32, same: bool) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut text = "time,device,t\n".to_owned();
    for i in 0..1000 {
        writeln!(text, "{},board-{},{}.5", 1_700_000_000 + i, i % 24, i % 40)?;
    }
    fs::write(folder.path().join("hall.csv"), text)?;
    let broker = Broker::start(
        folder.path(),
        r#"{"hall": {"type": "csv", "files": "*.csv", "device": "{device}",
            "time": {"column": "time", "format": "unix-s"}, "points": [{"column": "t"}]}}"#,
    )?;
    let mut dto = all();
    broker.run(&dto)?;
    let (started, used) = (Instant::now(), Used::now());
    for i in 0..n {
        if !same {
            dto.from = Time(i64::from(i));
        }
        broker.run(&dto)?;
    }
    let each = |d: Duration| d.as_secs_f64() * 1e6 / f64::from(n);
    let cpu = Used::now();
    println!(
        "{n} retrievals: {:.0} µs each; processor time of the broker {:.0} µs, of this client {:.0} µs",
        each(started.elapsed()),
        each(cpu.broker() - used.broker()),
        each(cpu.client - used.client),
    );
    Ok(())
}

fn folder(path: &Path, n: u32) -> Outcome<()> {
    let broker = Broker::start(
        path,
        r#"{"citizen": {"type": "csv", "files": "*/*.csv", "delimiter": ";",
            "time": {"column": "timestamp", "zone": "UTC"}, "device": "{sensor_id}",
            "location": "aberdeen/{location}", "points": [
            {"column": "P1", "kind": "pm10", "unit": "ug/m3", "valid": [0, 998.9]},
            {"column": "P2", "kind": "pm2.5", "unit": "ug/m3", "valid": [0, 998.9]}]}}"#,
    )?;
    let mut dto = all();
    for i in 0..=n {
        dto.from = Time(i64::from(i));
        let (started, used) = (Instant::now(), Used::now());
        let (first, bytes) = broker.run(&dto)?;
        println!(
            "{:.3} s, first batch after {:.3} s, processor time {:.3} s, {bytes} bytes of batches",
            started.elapsed().as_secs_f64(),
            (first - started).as_secs_f64(),
            (Used::now().broker() - used.broker()).as_secs_f64(),
        );
    }
    Ok(())
}

fn all() -> Dto {
    Dto {
        from: Time(0),
        ..Dto::all("all".parse().unwrap_or_else(|_| unreachable!()))
    }
}

struct Broker {
    control: Channel,
    _folder: tempfile::TempDir,
}

impl Broker {
    fn start(base: &Path, sources: &str) -> Outcome<Self> {
        let sources = Sources::parse(&serde_json::from_str(sources)?)?;
        let folder = tempfile::tempdir()?;
        let (control, theirs) = Channel::pair()?;
        std::thread::spawn(move || fades_drb::process::run(theirs));
        let configure = BrokerRequest::Configure {
            folder: folder.path().join("batches").display().to_string(),
            budget: Size(256 << 20),
            chunk: Size(64 << 20),
            base: base.display().to_string(),
            readings: None,
            credentials: None,
        };
        control.send(&configure, &serde_json::to_vec(&sources)?, &[])?;
        control.receive::<BrokerReport>(None)?.ok_or("it is gone")?;
        Ok(Self {
            control,
            _folder: folder,
        })
    }

    /// One retrieval to its end: when the first batch was there, and the bytes
    /// of all.
    fn run(&self, dto: &Dto) -> Outcome<(Instant, u64)> {
        let (tender, given) = Channel::pair()?;
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos: vec![dto.clone()],
            window: Size(64 << 20),
            within: None,
            answers: Vec::new(),
        };
        self.control.send(&request, &[], &[given.as_fd()])?;
        drop(given);
        let (mut first, mut bytes) = (None, 0);
        loop {
            let frame = tender.receive::<Feed>(None)?.ok_or("no more")?;
            match frame.message {
                Feed::Batch { length, .. } => {
                    first.get_or_insert_with(Instant::now);
                    bytes += length;
                    tender.send(&Release::Batch, &[], &[])?;
                }
                Feed::Finish => break,
                _ => {}
            }
        }
        drop(tender);
        let report = self.control.receive::<BrokerReport>(None)?;
        match report.ok_or("it is gone")?.message {
            BrokerReport::RetrieveEnded { failure: None, .. } => {}
            other => return Err(format!("{other:?}").into()),
        }
        Ok((first.ok_or("no batch")?, bytes))
    }
}

/// Processor time.
struct Used {
    process: Duration,
    /// Of the thread that asks.
    client: Duration,
}

impl Used {
    fn now() -> Self {
        let clock = |id| {
            let t = rustix::time::clock_gettime(id);
            Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
        };
        Self {
            process: clock(rustix::time::ClockId::ProcessCPUTime),
            client: clock(rustix::time::ClockId::ThreadCPUTime),
        }
    }

    fn broker(&self) -> Duration {
        self.process - self.client
    }
}
