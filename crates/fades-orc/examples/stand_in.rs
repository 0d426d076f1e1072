//! Stands in for the tender, the broker or the node in this crate's tests:
//! which of them is the name under which it is started. The real ones are
//! tested in their own crates and together from the command line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fades_orc::api::types::{IsolationInfo, Reloaded};
use fades_orc::config::{BrokerConfig, Listen, Logging, NodeConfig, Reread};
use fades_orc::node::Node;
use fades_orc::tls::TlsFiles;
use fades_task::cbor;
use fades_task::coverage::Coverage;
use fades_task::exit::Exit;
use fades_task::gauge::{DeviceCounts, Gauges, SourceGauge};
use fades_task::limits::{Isolation, Limits};
use fades_task::logging::LogLevel;
use fades_task::message::{
    BrokerReport, BrokerRequest, Ended, Feed, Refused, Start, TemplateRequest, TenderReport,
    TenderRequest,
};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::resource::{Device, DeviceState, Preview, Recording};
use fades_task::result::{Breakdown, RetrievalFailure};
use fades_task::shell::Needs;
use fades_trust::grant::Grants;
use fades_wire::{Channel, Frame};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let Err(error) = act() else {
        return ExitCode::SUCCESS;
    };
    // Standard error may be closed.
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn act() -> Outcome<()> {
    let mut arguments = std::env::args();
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    match program.file_name().and_then(|n| n.to_str()) {
        Some("tender") => Tender::new(&program)?.tend(),
        Some("broker") => broker(),
        Some("node") => {
            let folder = arguments.next().ok_or("node FOLDER")?;
            let folder = PathBuf::from(folder);
            let mut configured = config(&folder)?;
            configured.reread = Some(Reread(Arc::new(move || reread(&folder))));
            Ok(Node::run(configured, |_| ())?)
        }
        other => Err(format!("start this as tender, broker or node, not as {other:?}").into()),
    }
}

fn or_default<T: Default + serde::de::DeserializeOwned>(value: &Value) -> Outcome<T> {
    match value {
        Value::Null => Ok(T::default()),
        value => Ok(serde_json::from_value(value.clone())?),
    }
}

/// The configuration as it is now; says that all of it changed.
fn reread(folder: &Path) -> Result<(NodeConfig, Reloaded), String> {
    let new = config(folder).map_err(|e| e.to_string())?;
    let reloaded = Reloaded {
        changed: vec!["queue.policy".to_owned()],
        restart: vec!["node.name".to_owned()],
        started: Vec::new(),
    };
    Ok((new, reloaded))
}

/// The configuration in `node.json`, with the stand-ins beside it.
fn config(folder: &Path) -> Outcome<NodeConfig> {
    let text = std::fs::read_to_string(folder.join("node.json"))?;
    let settings: Value = serde_json::from_str(&text)?;
    let listen = match settings["listen"].as_str() {
        Some(address) => Some(Listen {
            address: address.parse()?,
            tls: TlsFiles {
                certificate: folder.join("tls/node.crt"),
                key: folder.join("tls/node.key"),
                clients: folder.join("tls/clients.crt"),
                revoked: Some(folder.join("tls/revoked.crl")).filter(|path| path.exists()),
            },
        }),
        None => None,
    };
    Ok(NodeConfig {
        name: "harbour-07".parse()?,
        labels: vec!["harbours".parse()?],
        version: "0".to_owned(),
        folder: folder.join("state"),
        trust: folder.join("trust.toml"),
        development_keys: settings["development-keys"].as_bool().unwrap_or(true),
        socket: folder.join("api.sock"),
        log: Logging::plain(LogLevel::Warn),
        listen,
        tender: folder.join("tender"),
        broker: BrokerConfig {
            program: folder.join("broker"),
            arguments: vec![],
            addresses: Vec::new(),
            sources: settings["sources"].clone(),
            folder: folder.join("batches"),
            budget: Size(1 << 30),
            chunk: Size(64 << 20),
            base: folder.to_owned(),
            readings: folder.join("readings"),
            credentials: None,
        },
        courier: None,
        parallel: settings["parallel"].as_u64().unwrap_or(2) as usize,
        drain: Duration::from_millis(settings["drain-ms"].as_u64().unwrap_or(0)),
        notify: None,
        spare_for: match settings["spare-for-ms"].as_u64() {
            Some(ms) => Duration::from_millis(ms),
            None => fades_orc::config::SPARE_FOR,
        },
        order: or_default(&settings["queue"])?,
        allowances: or_default(&settings["limits"])?,
        grants: Grants::compile(&or_default(&settings["grants"])?, &["hall".parse()?])?,
        zone: fades_task::time::Zone::default(),
        reread: None,
        memory: Size(settings["memory"].as_u64().unwrap_or(64 << 20)),
        caps: Limits {
            memory: Size(32 << 20),
            ..Limits::MAX
        },
        isolation: vec![
            IsolationInfo {
                isolation: Isolation::Microvm,
                works: settings["microvm"] == true,
                detail: "there is no /dev/kvm".to_owned(),
            },
            IsolationInfo {
                isolation: Isolation::Process,
                works: true,
                detail: "seccomp".to_owned(),
            },
        ],
        simd: 0,
        abi: (1, 0),
    })
}

/// A descriptor that this process inherited.
fn descriptor(number: i32) -> Outcome<Channel> {
    let pid = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )?;
    let copy: OwnedFd =
        rustix::process::pidfd_getfd(pid, number, rustix::process::PidfdGetfdFlags::empty())?;
    Ok(copy.into())
}

/// A tender, and how the file `tender.json` beside it wants it to behave:
/// `microvms` is how many shells with that isolation can be made, `shells` how
/// many at all, `template-bytes` the length of templates; `unsealed` leaves
/// them open, `deaf` shells die of their first run without reading it, `mute`
/// ones never say that they are one.
struct Tender {
    control: Channel,
    folder: PathBuf,
    settings: Value,
}

impl Tender {
    fn new(program: &Path) -> Outcome<Self> {
        let folder = program.parent().ok_or("no folder")?.to_owned();
        let settings = match std::fs::read_to_string(folder.join("tender.json")) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => Value::Null,
        };
        Ok(Self {
            control: descriptor(fades_task::message::TENDER_CONTROL_FD)?,
            folder,
            settings,
        })
    }

    fn say(&self, report: &TenderReport) -> Outcome<()> {
        Ok(self.control.send(report, &[], &[])?)
    }

    fn tend(&self) -> Outcome<()> {
        let Some(frame) = self.control.receive::<TenderRequest>(None)? else {
            return Ok(());
        };
        match frame.message {
            TenderRequest::Template(request) => self.template(&request, frame.descriptors),
            TenderRequest::Shell {
                isolation, simd, ..
            } => self.shell(isolation, simd),
            TenderRequest::Start(_) => Err("a run before a shell".into()),
        }
    }

    /// Its number among all that were counted under `name`, from 0.
    fn count(&self, name: &str) -> u64 {
        let taken = |n: &u64| File::create_new(self.folder.join(format!("{name}-{n}"))).is_ok();
        (0..).find(taken).unwrap_or(0)
    }

    fn template(&self, request: &TemplateRequest, image: Vec<OwnedFd>) -> Outcome<()> {
        self.count("template");
        let mut bytes = Vec::new();
        File::from(image.into_iter().next().ok_or("no image")?).read_to_end(&mut bytes)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("template", flags)?);
        file.write_all(&bytes)?;
        if let Some(length) = self.settings["template-bytes"].as_u64() {
            file.write_all(&vec![1; length as usize])?;
            file.set_len(length)?;
        }
        if self.settings["unsealed"].is_null() {
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            fcntl_add_seals(&file, seals)?;
        }
        let needs = Needs {
            bulk: false,
            heap: request.limits.memory,
        };
        let report = TenderReport::Template { needs };
        Ok(self.control.send(&report, &[], &[file.as_fd()])?)
    }

    fn shell(&self, isolation: Isolation, simd: u32) -> Outcome<()> {
        let number = self.count("shell");
        if self.settings["mute"] == true {
            let _ = self.control.receive::<TenderRequest>(None)?;
            return Ok(());
        }
        if self.settings["shells"]
            .as_u64()
            .is_some_and(|n| number >= n)
        {
            return Err("no more shells".into());
        }
        let limit = self.settings["microvms"].as_u64();
        if isolation == Isolation::Microvm && limit.is_some_and(|n| self.count("microvm") >= n) {
            let reason = "/dev/kvm is gone".to_owned();
            return self.say(&TenderReport::Refused(Refused::Isolation { reason }));
        }
        self.say(&TenderReport::Shell { simd, made_us: 1 })?;
        if self.settings["deaf"] == true {
            let mut fds = [rustix::event::PollFd::new(
                &self.control,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, None)?;
            return Ok(());
        }
        while let Some(frame) = self.control.receive::<TenderRequest>(None)? {
            if !self.run(isolation, frame)? {
                break;
            }
            self.say(&TenderReport::Clean { reset_us: 1 })?;
        }
        Ok(())
    }

    /// Whether it is clean again.
    fn run(&self, isolation: Isolation, frame: Frame<TenderRequest>) -> Outcome<bool> {
        let TenderRequest::Start(start) = frame.message else {
            return Err("something else than a run".into());
        };
        let params = cbor::decode(&frame.blob)?;
        let mut descriptors = frame.descriptors.into_iter();
        let (Some(data), Some(template)) = (descriptors.next(), descriptors.next()) else {
            return Err("too few descriptors".into());
        };
        let run = Run {
            control: &self.control,
            folder: &self.folder,
            data: data.into(),
            template: template.into(),
            isolation,
            act: params["act"].as_str().unwrap_or("answer"),
            lines: params["lines"].as_u64().unwrap_or(1),
        };
        let done = run.run(&start)?;
        match run.act {
            // The reset failed.
            "soil" => return Ok(false),
            // The reset does not end.
            "dawdle" => {
                let _ = self.control.receive::<TenderRequest>(None)?;
            }
            "babble" => {
                self.say(&TenderReport::Clean { reset_us: 1 })?;
                self.say(&TenderReport::Shell {
                    simd: 0,
                    made_us: 1,
                })?;
                // An answer to whatever comes next.
                run.say_ready(&start)?;
                run.end(&start, Exit::Done, isolation)?;
                let _ = self.control.receive::<TenderRequest>(None)?;
            }
            _ => {}
        }
        Ok(done && isolation == Isolation::Microvm)
    }
}

struct Run<'a> {
    control: &'a Channel,
    data: Channel,
    template: File,
    folder: &'a Path,
    isolation: Isolation,
    act: &'a str,
    lines: u64,
}

impl Run<'_> {
    fn say(&self, report: &TenderReport, blob: &[u8]) -> Outcome<()> {
        Ok(self.control.send(report, blob, &[])?)
    }

    /// Whether the function ended as it should.
    fn run(&self, start: &Start) -> Outcome<bool> {
        if self.act == "refuse" {
            let reason = "this image has no note".to_owned();
            let refused = TenderReport::Refused(Refused::Image { reason });
            self.say(&refused, &[])?;
            return Ok(false);
        }
        let isolation = self.say_ready(start)?;
        for line in 0..self.lines {
            let text = format!("line {line}");
            self.say(&TenderReport::Log { level: 3, text }, &[])?;
        }
        match self.act {
            "vanish" => std::process::exit(3),
            "hang" => {
                // Until somebody kills it.
                let _ = self.control.receive::<TenderRequest>(None)?;
                std::process::exit(0);
            }
            "linger" => {
                self.control.shut_down();
                std::thread::sleep(Duration::from_secs(60));
            }
            "pause" => {
                while !self.folder.join("go").exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            _ => {}
        }
        let exit = match self.act {
            "panic" => Exit::Panicked {
                message: "at lib.rs:3".to_owned(),
            },
            _ => self.until_the_data_ends()?,
        };
        let done = exit == Exit::Done;
        self.end(start, exit, isolation)?;
        Ok(done)
    }

    /// Gives the isolation that it says it uses.
    fn say_ready(&self, start: &Start) -> Outcome<Isolation> {
        let isolation = match (self.act, self.isolation) {
            ("swap", Isolation::Process) => Isolation::Microvm,
            ("swap", Isolation::Microvm) => Isolation::Process,
            _ => self.isolation,
        };
        let ready = TenderReport::Ready {
            isolation,
            simd: start.simd,
            boot_us: 1,
        };
        self.say(&ready, &[])?;
        Ok(isolation)
    }

    fn until_the_data_ends(&self) -> Outcome<Exit> {
        loop {
            match self.data.receive::<Feed>(None)?.map(|f| f.message) {
                Some(Feed::Finish) => return Ok(Exit::Done),
                Some(_) => {}
                None => {
                    let reason = "the broker went away".to_owned();
                    return Ok(Exit::Killed { reason });
                }
            }
        }
    }

    fn end(&self, start: &Start, exit: Exit, isolation: Isolation) -> Outcome<()> {
        let mut image = Vec::new();
        let mut template = &self.template;
        template.rewind()?;
        template.read_to_end(&mut image)?;
        let (mut answer, mut readings) = (Vec::new(), Vec::new());
        if exit == Exit::Done {
            answer = cbor::encode(&json!({
                "image": image.len(), "zone": start.zone, "pid": std::process::id(),
            }));
            if self.act == "readings" {
                readings = b"rows".to_vec();
            }
        }
        let ended = Ended {
            exit,
            isolation,
            answer_bytes: answer.len() as u64,
            readings_bytes: readings.len() as u64,
            breakdown: Breakdown::default(),
            high_water: Size(4096),
            cpu_us: 1,
            batches: 0,
            input_bytes: 0,
            log_cut: 0,
        };
        let blob = [answer, readings].concat();
        self.say(&TenderReport::Ended(Box::new(ended)), &blob)
    }
}

fn broker() -> Outcome<()> {
    let control = descriptor(fades_task::message::BROKER_CONTROL_FD)?;
    let say = |report: &BrokerReport| control.send(report, &[], &[]);
    let mut slow = HashMap::new();
    while let Some(frame) = control.receive::<BrokerRequest>(None)? {
        match frame.message {
            BrokerRequest::Configure { .. } => {
                let sources: Value = serde_json::from_slice(&frame.blob)?;
                if let Some(reason) = sources["refuse"].as_str() {
                    let reason = reason.to_owned();
                    say(&BrokerReport::Misconfigured { reason })?;
                    return Ok(());
                }
                say(&BrokerReport::Ready {
                    batches: "nowhere".to_owned(),
                    huge: false,
                    advice: None,
                    confinement: fades_task::message::Confinement::default(),
                })?;
            }
            BrokerRequest::Retrieve { run, dtos, .. } => {
                let data = frame
                    .descriptors
                    .into_iter()
                    .next()
                    .ok_or("no descriptor")?;
                let data = Channel::from(data);
                let source = dtos.first().and_then(|d| d.source.clone());
                // Without a grant the orchestrator asks for no run.
                if let Some(dto) = dtos.iter().find(|d| d.granted.is_none()) {
                    let (dto, reason) = (dto.name.clone(), "nothing".to_owned());
                    let failure = RetrievalFailure::NotGranted { dto, reason };
                    say(&ended(run, &dtos, Some(failure), false))?;
                    continue;
                }
                match source.as_ref().map(|s| s.as_str()) {
                    Some("slow") => {
                        slow.insert(run, (data, dtos));
                    }
                    Some("fatal") => std::process::exit(1),
                    Some("broken") => {
                        let failure = broken(&dtos);
                        say(&ended(run, &dtos, Some(failure), false))?;
                    }
                    _ => {
                        feed(&data, &dtos);
                        say(&ended(run, &dtos, None, false))?;
                    }
                }
            }
            BrokerRequest::Cancel { run } => {
                if let Some((_, dtos)) = slow.remove(&run) {
                    say(&ended(run, &dtos, None, true))?;
                }
            }
            BrokerRequest::Resources { id } => say(&BrokerReport::Resources {
                id,
                devices: vec![device()?],
                recording: [("hall".parse()?, recorded())].into(),
            })?,
            BrokerRequest::Log { level } => {
                writeln!(std::io::stderr(), "stand-in of the broker: level {level}")?;
            }
            BrokerRequest::Gauge { id } => {
                let mut devices = DeviceCounts::default();
                devices.add(DeviceState::Alive);
                devices.add(DeviceState::Silent);
                let hall = SourceGauge {
                    connected: true,
                    devices,
                    recording: Some(recorded()),
                };
                let gauges = Gauges {
                    batches: Size(2 << 20),
                    budget: Size(1 << 30),
                    sources: [("hall".parse()?, hall)].into(),
                };
                say(&BrokerReport::Gauged { id, gauges })?;
            }
            BrokerRequest::TestSource { id, source } => say(&BrokerReport::Tested {
                id,
                report: Err(format!("this node has no source {source}")),
            })?,
            BrokerRequest::Preview { id, dtos, .. } => {
                let preview = |dto: &Dto| Preview {
                    name: dto.name.clone(),
                    devices: vec![],
                    readings: 3,
                    batch_bytes: 2 << 20,
                    exact: true,
                    sample: Vec::new(),
                    absent: Vec::new(),
                };
                let previews = Ok(dtos.iter().map(preview).collect());
                say(&BrokerReport::Previewed { id, previews })?;
            }
            BrokerRequest::Ping { id } => say(&BrokerReport::Pong { id })?,
        }
    }
    Ok(())
}

/// One that measures two things.
fn device() -> Outcome<Device> {
    let series =
        |kind| json!({"kind": kind, "unit": "", "readings": 1, "oldest": null, "newest": null});
    Ok(serde_json::from_value(json!({
        "source": "hall", "device": "d1", "location": "west/1",
        "series": [series("pm10"), series("noise")],
    }))?)
}

/// Of a source whose disk is full.
fn recorded() -> Recording {
    Recording {
        recorded: 5,
        waiting: 3,
        bytes: 7,
        oldest: None,
        expired: 0,
        lost: 2,
        gaps: Vec::new(),
        trouble: Some("no room".to_owned()),
    }
}

/// A tender that has gone is no concern of the broker.
fn feed(data: &Channel, dtos: &[Dto]) {
    for dto in 0..dtos.len() as u32 {
        let _ = data.send(&Feed::End { dto }, &[], &[]);
    }
    let _ = data.send(&Feed::Finish, &[], &[]);
}

fn broken(dtos: &[Dto]) -> RetrievalFailure {
    RetrievalFailure::Selector {
        dto: dtos[0].name.clone(),
        reason: "this node has no source broken".to_owned(),
    }
}

fn ended(run: u64, dtos: &[Dto], failure: Option<RetrievalFailure>, stopped: bool) -> BrokerReport {
    let coverage = dtos.iter().map(|d| Coverage::new(d.name.clone())).collect();
    BrokerReport::RetrieveEnded {
        run,
        coverage,
        failure,
        stopped,
    }
}
