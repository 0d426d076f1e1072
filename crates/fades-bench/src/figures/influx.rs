//! `influx`: readings of an InfluxDB 1.x server into batches.
//!
//! Timed from before a DTO is handed to a broker until its last batch has been
//! released; nobody looks at the batches. Each time the range begins at another
//! moment before the first reading, so that no batches of an earlier answer can
//! be used. Compared with `curl` of the same readings in the same form
//! (MessagePack in chunks) to `/dev/null`, which is as fast as the server can be
//! asked with one question. The broker asks for one part, which is how it asks
//! unless told otherwise, and for two parts of the range at the same time; the three
//! take turns. `processor` is the processor's time of the broker with whoever takes
//! its batches, beside the server's in the same runs.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use fades_drb::config::Sources;
use fades_drb::process::ProcessError;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::Channel;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::Taken;
use crate::bench::{Bench, output, wait_until};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;
use crate::turns::timed;

const SERIES: i64 = 25;

/// Readings of each series that are written at once.
const STEP: i64 = 8000;

/// The first reading's time, ns since 1970 UTC.
const BEGIN: i64 = 1_500_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Over curl, and over the server's time of the processor.
const AIM: f64 = 1.10;
const AIM_PROCESSOR: f64 = 0.35;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    for (program, package) in [("influxd", "influxdb"), ("curl", "curl")] {
        if Command::new(program).arg("--help").output().is_err() {
            taken.skip(
                "influx",
                &format!("no {program}; apt-get install {package}"),
            );
            return Ok(());
        }
    }
    let readings = bench.either(3_000_000, 300_000);
    let folder = bench.subfolder("influx")?;
    let influxd = Influxd::start(&folder)?;
    influxd.write(&folder, readings)?;
    influxd.come_to_rest();
    let mut ways = [
        Way::start("one part", 1, &influxd, &folder)?,
        Way::start("two parts", 2, &influxd, &folder)?,
    ];
    let mut curl = Samples::default();
    bench.rounds((6, 70), (3, 15)).each(|counts| {
        for way in &mut ways {
            way.round(&influxd, readings, counts)?;
        }
        let (spent, done) = timed(|| influxd.curl(readings));
        done?;
        if counts {
            curl.push(spent);
        }
        Ok::<_, Fault>(())
    })?;
    for (way, aim) in ways.into_iter().zip([Aim::Ratio(AIM), Aim::Report]) {
        let what = format!("{readings} readings, {}", way.what);
        let figure = Figure::new(what, None, "us", &way.wall);
        taken.add(figure.map(|f| f.against("curl to /dev/null", &curl).aiming(aim)));
        let figure = Figure::new(format!("processor, {}", way.what), None, "us", &way.ours);
        taken.add(figure.map(|f| {
            f.against("influxd's own", &way.servers)
                .aiming(Aim::Ratio(AIM_PROCESSOR))
        }));
        way.broker.stop()?;
    }
    Ok(())
}

/// One way to ask, and what it took.
struct Way {
    what: &'static str,
    broker: Broker,
    wall: Samples,
    ours: Samples,
    servers: Samples,
}

impl Way {
    fn start(
        what: &'static str,
        parallel: u8,
        influxd: &Influxd,
        folder: &Path,
    ) -> Result<Self, Fault> {
        Ok(Self {
            what,
            broker: Broker::start(&influxd.url, parallel, &folder.join(what))?,
            wall: Samples::default(),
            ours: Samples::default(),
            servers: Samples::default(),
        })
    }

    fn round(&mut self, influxd: &Influxd, readings: i64, counts: bool) -> Result<(), Fault> {
        let (own, server) = (own_time(), influxd.time());
        let (spent, rows) = timed(|| self.broker.fetch());
        same(rows?, readings)?;
        if counts {
            self.wall.push(spent);
            self.ours.push(own_time() - own);
            self.servers.push(influxd.time() - server);
        }
        Ok(())
    }
}

fn same(found: u64, written: i64) -> Result<(), Fault> {
    if i64::try_from(found) == Ok(written) {
        return Ok(());
    }
    Err(Fault::Differs {
        what: "readings".to_owned(),
        ours: found.to_string(),
        theirs: written.to_string(),
    })
}

/// The processor's time of this process, microseconds.
fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

struct Influxd {
    url: String,
    child: Child,
}

impl Influxd {
    fn start(folder: &Path) -> Result<Self, Fault> {
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
            listener
                .map(|a| a.port())
                .map_err(Fault::system("find a port"))
        };
        let (bind, http) = (port()?, port()?);
        let path = folder.display();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{bind}\"\n\
             [meta]\ndir = \"{path}/meta\"\n[data]\ndir = \"{path}/data\"\n\
             wal-dir = \"{path}/wal\"\nquery-log-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n\
             [monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n"
        );
        let file = folder.join("influx.conf");
        std::fs::write(&file, config).map_err(Fault::file(&file, "write"))?;
        let child = Command::new("influxd")
            .arg("-config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Fault::system("start influxd"))?;
        let influxd = Self {
            url: format!("http://127.0.0.1:{http}"),
            child,
        };
        let ping = format!("{}/ping", influxd.url);
        let answers = || output(Command::new("curl").args(["-sf", &ping])).is_ok();
        wait_until(Duration::from_secs(20), answers);
        let create = ["--data-urlencode", "q=CREATE DATABASE lab"];
        let url = format!("{}/query", influxd.url);
        output(Command::new("curl").args(["-sf", &url]).args(create))?;
        Ok(influxd)
    }

    /// Writes readings of all series, some thousand of each at a time.
    fn write(&self, folder: &Path, readings: i64) -> Result<(), Fault> {
        use std::fmt::Write;
        let file = folder.join("lines");
        let url = format!("{}/write?db=lab", self.url);
        let each = readings / SERIES;
        let mut lines = String::new();
        for begin in (0..each).step_by(STEP as usize) {
            lines.clear();
            for series in 0..SERIES {
                for i in begin..each.min(begin + STEP) {
                    let value = ((i * 31 + series * 7) % 1000) as f64 / 8.0;
                    let time = BEGIN + i * SECOND;
                    // A string never fails to grow.
                    let _ = writeln!(lines, "pm,board=b{series},type=t value={value} {time}");
                }
            }
            std::fs::write(&file, &lines).map_err(Fault::file(&file, "write"))?;
            let data = format!("@{}", file.display());
            output(Command::new("curl").args(["-sf", &url, "--data-binary", &data]))?;
        }
        std::fs::remove_file(&file).map_err(Fault::file(&file, "remove"))
    }

    /// Asks for the same readings and looks at none.
    fn curl(&self, readings: i64) -> Result<(), Fault> {
        let url = format!("{}/query", self.url);
        let query = "q=SELECT \"value\" FROM \"pm\" GROUP BY \"board\",\"type\"";
        let mut curl = Command::new("curl");
        curl.args(["-sf", &url, "-o", "/dev/null", "-w", "%{size_download}"]);
        curl.args(["-H", "Accept: application/x-msgpack"]);
        for field in [
            "db=lab",
            "epoch=ns",
            "chunked=true",
            "chunk_size=10000",
            query,
        ] {
            curl.args(["--data-urlencode", field]);
        }
        let said = output(&mut curl)?;
        // A time and a value take so much at least; an error would take less.
        match said.trim().parse::<i64>() {
            Ok(bytes) if bytes >= 12 * readings => Ok(()),
            _ => Err(Fault::Meaningless(format!("curl received {said} bytes"))),
        }
    }

    /// Waits until the server has put away what was written.
    fn come_to_rest(&self) {
        wait_until(Duration::from_secs(20), || {
            let before = self.time();
            std::thread::sleep(Duration::from_millis(500));
            self.time() - before < 20_000.0
        });
    }

    /// The processor's time of the server, microseconds, in steps of its clock.
    fn time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = [11, 12].map(|i| fields.get(i).and_then(|f| f.parse::<f64>().ok()));
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        ticks.into_iter().flatten().sum::<f64>() / per_second * 1e6
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker in threads of this process.
struct Broker {
    control: Channel,
    thread: Option<JoinHandle<Result<(), ProcessError>>>,
    asked: i64,
}

impl Broker {
    fn start(url: &str, parallel: u8, folder: &Path) -> Result<Self, Fault> {
        let source = json!({ "lab": {
            "type": "influx", "url": url, "database": "lab", "measurement": "pm",
            "map": { "device": "board", "kind": "type" }, "parallel": parallel,
        } });
        let sources = Sources::parse(&source).map_err(|e| lost(&e.to_string()))?;
        let sources = serde_json::to_vec(&sources).map_err(Fault::json("the sources"))?;
        let (control, theirs) = Channel::pair().map_err(Fault::system("make a channel"))?;
        let thread = std::thread::spawn(move || fades_drb::process::run(theirs));
        let configure = BrokerRequest::Configure {
            folder: folder.join("batches").display().to_string(),
            budget: Size(512 << 20),
            chunk: Size(64 << 20),
            base: "/".to_owned(),
            readings: None,
            credentials: None,
        };
        let mut broker = Self {
            control,
            thread: Some(thread),
            asked: 0,
        };
        broker.control.send(&configure, &sources, &[])?;
        broker.report()?;
        Ok(broker)
    }

    fn report(&mut self) -> Result<BrokerReport, Fault> {
        let frame = self.control.receive::<BrokerReport>(None)?;
        Ok(frame.ok_or_else(|| lost("it ended"))?.message)
    }

    /// Fetches everything; gives the number of readings.
    fn fetch(&mut self) -> Result<u64, Fault> {
        self.asked += 1;
        let (ours, theirs) = Channel::pair().map_err(Fault::system("make a channel"))?;
        let name = "all".parse().map_err(|_| lost("no name"))?;
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos: vec![Dto {
                from: Time(self.asked),
                ..Dto::all(name)
            }],
            window: Size(64 << 20),
            within: None,
            answers: Vec::new(),
        };
        self.control.send(&request, &[], &[theirs.as_fd()])?;
        drop(theirs);
        while let Some(frame) = ours.receive::<Feed>(None)? {
            match frame.message {
                Feed::Batch { .. } => {
                    ours.send(&Release::Batch, &[], &[])?;
                }
                Feed::Finish => break,
                _ => {}
            }
        }
        drop(ours);
        match self.report()? {
            BrokerReport::RetrieveEnded {
                coverage,
                failure: None,
                ..
            } => Ok(coverage.iter().map(|c| c.used).sum()),
            other => Err(lost(&format!("{other:?}"))),
        }
    }

    fn stop(mut self) -> Result<(), Fault> {
        self.control.shut_down();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) => Ok(()),
            other => Err(lost(&format!("{other:?}"))),
        }
    }
}

fn lost(why: &str) -> Fault {
    Fault::Program {
        program: "the broker".to_owned(),
        said: why.to_owned(),
    }
}
