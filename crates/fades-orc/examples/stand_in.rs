//! Stands in for the tender, the broker or the node in this crate's tests:
//! which of them is the name under which it is started. The real ones are
//! tested in their own crates and together from the command line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fades_orc::api::types::IsolationInfo;
use fades_orc::config::{BrokerConfig, NodeConfig};
use fades_orc::node::Node;
use fades_task::cbor;
use fades_task::coverage::Coverage;
use fades_task::exit::Exit;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{BrokerReport, BrokerRequest, Ended, Feed, Refused, Start, TenderReport};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::resource::Preview;
use fades_task::result::{Breakdown, RetrievalFailure};
use fades_wire::Channel;
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
        Some("tender") => tender(),
        Some("broker") => broker(),
        Some("node") => {
            let folder = arguments.next().ok_or("node FOLDER")?;
            Ok(Node::run(config(Path::new(&folder))?, |_| ())?)
        }
        other => Err(format!("start this as tender, broker or node, not as {other:?}").into()),
    }
}

/// The configuration in `node.json`, with the stand-ins beside it.
fn config(folder: &Path) -> Outcome<NodeConfig> {
    let text = std::fs::read_to_string(folder.join("node.json"))?;
    let settings: Value = serde_json::from_str(&text)?;
    let listen: Option<SocketAddr> = match settings["listen"].as_str() {
        Some(address) => Some(address.parse()?),
        None => None,
    };
    Ok(NodeConfig {
        name: "harbour-07".parse()?,
        labels: vec!["harbours".parse()?],
        version: "0".to_owned(),
        folder: folder.join("state"),
        trust: folder.join("trust.toml"),
        socket: folder.join("api.sock"),
        listen,
        tender: folder.join("tender"),
        broker: BrokerConfig {
            program: folder.join("broker"),
            arguments: vec![],
            sources: settings["sources"].clone(),
            folder: folder.join("batches"),
            budget: Size(1 << 30),
            chunk: Size(64 << 20),
            base: folder.to_owned(),
        },
        parallel: settings["parallel"].as_u64().unwrap_or(2) as usize,
        memory: Size(64 << 20),
        caps: Limits {
            memory: Size(32 << 20),
            ..Limits::MAX
        },
        isolation: vec![
            IsolationInfo {
                isolation: Isolation::Microvm,
                works: false,
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
fn inherited(number: i32) -> Outcome<File> {
    // Opening it by name gives another handle on the same file; a socket has
    // none, so `descriptor` is for those.
    Ok(File::open(format!("/proc/self/fd/{number}"))?)
}

fn descriptor(number: i32) -> Outcome<Channel> {
    let pid = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )?;
    let copy: OwnedFd =
        rustix::process::pidfd_getfd(pid, number, rustix::process::PidfdGetfdFlags::empty())?;
    Ok(copy.into())
}

fn tender() -> Outcome<()> {
    let control = descriptor(fades_task::message::TENDER_CONTROL_FD)?;
    let data = descriptor(fades_task::message::TENDER_DATA_FD)?;
    let mut image = Vec::new();
    inherited(fades_task::message::TENDER_IMAGE_FD)?.read_to_end(&mut image)?;
    let Some(frame) = control.receive::<Start>(None)? else {
        return Ok(());
    };
    let start = frame.message;
    let params = cbor::decode(&frame.blob)?;
    let act = params["act"].as_str().unwrap_or("answer");
    let say = |report: &TenderReport, blob: &[u8]| control.send(report, blob, &[]);
    if act == "refuse" {
        let reason = "this image has no note".to_owned();
        let refused = TenderReport::Refused(Refused::Image { reason });
        return Ok(say(&refused, &[])?);
    }
    let isolation = match act {
        "swap" => Isolation::Microvm,
        _ => start.isolation,
    };
    let ready = TenderReport::Ready {
        isolation,
        simd: start.simd,
        boot_us: 1,
    };
    say(&ready, &[])?;
    for line in 0..params["lines"].as_u64().unwrap_or(1) {
        let text = format!("line {line}");
        say(&TenderReport::Log { level: 3, text }, &[])?;
    }
    match act {
        "vanish" => std::process::exit(3),
        "hang" => {
            // Until somebody kills it.
            let _ = control.receive::<Start>(None)?;
            return Ok(());
        }
        _ => {}
    }
    let mut exit = match act {
        "panic" => Exit::Panicked {
            message: "at lib.rs:3".to_owned(),
        },
        _ => Exit::Done,
    };
    while exit == Exit::Done {
        match data.receive::<Feed>(None)?.map(|f| f.message) {
            Some(Feed::Finish) => break,
            Some(_) => {}
            None => {
                let reason = "the broker went away".to_owned();
                exit = Exit::Killed { reason };
            }
        }
    }
    let answer = cbor::encode(&json!({ "image": image.len(), "zone": start.zone }));
    let readings = match act {
        "readings" => b"rows".to_vec(),
        _ => Vec::new(),
    };
    let blob = match exit {
        Exit::Done => [answer.clone(), readings.clone()].concat(),
        _ => Vec::new(),
    };
    let done = exit == Exit::Done;
    let ended = Ended {
        exit,
        isolation,
        answer_bytes: if done { answer.len() as u64 } else { 0 },
        readings_bytes: if done { readings.len() as u64 } else { 0 },
        breakdown: Breakdown::default(),
        high_water: Size(4096),
        cpu_us: 1,
        batches: 0,
        input_bytes: 0,
        log_cut: 0,
    };
    Ok(say(&TenderReport::Ended(Box::new(ended)), &blob)?)
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
                })?;
            }
            BrokerRequest::Retrieve { run, dtos } => {
                let data = frame
                    .descriptors
                    .into_iter()
                    .next()
                    .ok_or("no descriptor")?;
                let data = Channel::from(data);
                let source = dtos.first().and_then(|d| d.source.clone());
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
                devices: vec![],
            })?,
            BrokerRequest::TestSource { id, source } => say(&BrokerReport::Tested {
                id,
                report: Err(format!("this node has no source {source}")),
            })?,
            BrokerRequest::Preview { id, dtos } => {
                let preview = |dto: &Dto| Preview {
                    name: dto.name.clone(),
                    devices: vec![],
                    readings: 3,
                    batch_bytes: 2 << 20,
                };
                let previews = Ok(dtos.iter().map(preview).collect());
                say(&BrokerReport::Previewed { id, previews })?;
            }
            BrokerRequest::Ping { id } => say(&BrokerReport::Pong { id })?,
        }
    }
    Ok(())
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
