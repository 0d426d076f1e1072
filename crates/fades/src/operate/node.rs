//! `fades node`: runs a node; and the broker that it starts.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fades_orc::api::types::{BrokerInfo, IsolationInfo, Reloaded};
use fades_orc::config::{
    BrokerConfig, CourierConfig, Logging, NodeConfig, Notify, Reread, is_live,
};
use fades_orc::node::{Node, NodeError};
use fades_task::logging::LogLevel;
use fades_tender::probe::{Offer, Probe};

use super::config::folder_or_problem;
use super::{inherited, probe};
use crate::log::{self, LogFormat};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's folder; the one here otherwise
    folder: Option<PathBuf>,
    #[command(flatten)]
    log: LogChoice,
    /// The tender's program; the one beside this program otherwise
    #[arg(long, value_name = "FILE")]
    tender: Option<PathBuf>,
    /// Take nothing that a development key signed, whatever node.toml says
    #[arg(long)]
    production: bool,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, clap::Args)]
struct LogChoice {
    /// What to log: error, warn, info, debug; `fades config log` changes it later
    #[arg(long, value_name = "LEVEL", default_value_t = LogLevel::Warn)]
    log: LogLevel,
    /// In which form: for people or for programs
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl LogChoice {
    fn begin(self) -> Result<(), Problem> {
        log::begin(self.log, self.log_format)
    }

    /// Arguments for a part of the node.
    fn arguments(self, part: &str) -> Vec<OsString> {
        let words = [
            part,
            "--log",
            self.log.word(),
            "--log-format",
            self.log_format.word(),
        ];
        words.map(OsString::from).to_vec()
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[command(flatten)]
    log: LogChoice,
}

/// Carries out `fades node`; returns when the node was told to end.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    args.log.begin()?;
    let folder = folder_or_problem(args.folder.as_deref())?;
    let folder = folder
        .canonicalize()
        .or_problem(|| format!("cannot find the folder {}", folder.display()))?;
    let file = NodeFile::read(&folder)?;
    check_socket(&file.socket(&folder))?;
    let host = Host::find(args, session)?;
    let mut config = config(&folder, &file, &host)?;
    config.notify = notify(session);
    config.reread = Some(reread(&folder, &file, host));
    let isolation = config.isolation.clone();
    Node::run(config, |node| {
        announce(&file, &folder, &isolation, &node.broker(), session)
    })
    .map_err(|e| problem(&e))?;
    session.talk("ended; what was accepted is stored");
    Ok(Outcome::Done)
}

/// Whom to tell how the node is; none where nobody asked for it.
fn notify(session: &Session) -> Option<Notify> {
    let address = session.env.notify.as_deref()?;
    let opened = Notify::open(address, session.env.watchdog);
    let failed = |e| session.talk(&format!("NOTIFY_SOCKET: nobody is told: {e}"));
    opened.map_err(failed).ok()
}

/// The system takes short paths only, and says so in its own words.
fn check_socket(path: &Path) -> Result<(), Problem> {
    const LONGEST: usize = 107;
    let length = path.as_os_str().len();
    if length <= LONGEST {
        return Ok(());
    }
    Err(Problem::new(format!("cannot listen at {}", path.display()))
        .reason(format!(
            "the path has {length} bytes, that of a Unix socket has at most {LONGEST}"
        ))
        .remedy("write a shorter path as node.socket, such as \"/run/fades/NAME.sock\""))
}

fn problem(error: &NodeError) -> Problem {
    Problem::new("the node cannot run").because(error)
}

/// What the node is told besides its file; stays the same while it runs.
struct Host {
    tender: PathBuf,
    probe: Probe,
    program: PathBuf,
    credentials: Option<PathBuf>,
    /// No development keys.
    production: bool,
    /// What broker and courier log, too.
    log: LogChoice,
}

impl Host {
    fn find(args: &Args, session: &Session) -> Result<Self, Problem> {
        let tender = probe::tender(args.tender.as_deref(), session)?;
        Ok(Self {
            probe: probe::ask(&tender)?,
            tender,
            program: std::env::current_exe()
                .or_problem(|| "cannot find this program".to_owned())?,
            credentials: session.env.credentials.clone(),
            production: args.production,
            log: args.log,
        })
    }
}

/// Reads the file anew for a node that was started with `file`.
fn reread(folder: &Path, file: &NodeFile, host: Host) -> Reread {
    let (folder, first) = (folder.to_owned(), file.clone());
    let last = Mutex::new(file.clone());
    Reread(Arc::new(move || {
        let words = |problem: Problem| problem.text(str::to_owned);
        let file = NodeFile::read(&folder).map_err(words)?;
        let config = config(&folder, &file, &host).map_err(words)?;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut restart) = (last.differing(&file), first.differing(&file));
        changed.retain(|field| is_live(field));
        restart.retain(|field| !is_live(field));
        let reloaded = Reloaded {
            changed,
            restart,
            started: Vec::new(),
        };
        *last = file;
        Ok((config, reloaded))
    }))
}

/// What the node is told, out of its file and what the host offers.
fn config(folder: &Path, file: &NodeFile, host: &Host) -> Result<NodeConfig, Problem> {
    let sources = serde_json::to_value(&file.source)
        .or_problem(|| "cannot hand over the sources".to_owned())?;
    let node = &file.node;
    let courier = courier(folder, file, host)?;
    Ok(NodeConfig {
        name: node.name.clone(),
        labels: node.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        folder: folder.join("state"),
        trust: folder.join(crate::keys::key::TRUST_FILE),
        development_keys: node.development_keys && !host.production,
        socket: file.socket(folder),
        log: Logging {
            level: host.log.log,
            set: fades_outside::logging::set,
            recent: log::recent::lines,
            error: log::recent::for_part,
        },
        listen: file.listen(folder, host.credentials.as_deref()),
        tender: host.tender.clone(),
        broker: BrokerConfig {
            program: host.program.clone(),
            arguments: host.log.arguments("broker"),
            sources,
            addresses: file.source.addresses().into_iter().collect(),
            folder: folder.join("batches"),
            budget: node.batches,
            chunk: node.chunk_of_a_run(),
            base: folder.to_owned(),
            readings: folder.join("readings"),
            credentials: host.credentials.clone(),
        },
        courier,
        parallel: node.parallel as usize,
        memory: node.memory,
        order: file.queue,
        allowances: file.limits.clone(),
        grants: file
            .grants()
            .or_problem(|| "the grants cannot be used".to_owned())?,
        zone: node.zone.clone(),
        reread: None,
        drain: node.drain.as_std(),
        notify: None,
        spare_for: fades_orc::config::SPARE_FOR,
        caps: node.limits,
        isolation: host.probe.isolation.iter().map(info).collect(),
        simd: host.probe.simd,
        abi: (fades_abi::ABI_MAJOR, fades_abi::ABI_MINOR),
    })
}

/// What the courier is told; none where there is nothing to carry.
fn courier(folder: &Path, file: &NodeFile, host: &Host) -> Result<Option<CourierConfig>, Problem> {
    let places = &file.places;
    if places.is_empty() {
        return Ok(None);
    }
    let mail = serde_json::to_value(places)
        .or_problem(|| "cannot hand over inboxes and destinations".to_owned())?;
    Ok(Some(CourierConfig {
        program: host.program.clone(),
        arguments: host.log.arguments("courier"),
        mail,
        addresses: places.addresses().into_iter().collect(),
        destinations: places.destination.keys().cloned().collect(),
        inboxes: places.inbox.keys().cloned().collect(),
        outbox: file.node.outbox,
        base: folder.to_owned(),
        credentials: host.credentials.clone(),
    }))
}

fn info(offer: &Offer) -> IsolationInfo {
    IsolationInfo {
        isolation: offer.isolation,
        works: offer.works,
        detail: offer.detail.clone(),
    }
}

/// The one line that says that the node takes tasks, and how.
fn announce(
    file: &NodeFile,
    folder: &Path,
    isolation: &[IsolationInfo],
    broker: &BrokerInfo,
    session: &Session,
) {
    let works = isolation
        .iter()
        .filter(|i| i.works)
        .map(|i| i.isolation.to_string());
    let works: Vec<String> = works.collect();
    let sources: Vec<&str> = file.source.0.keys().map(|n| n.as_str()).collect();
    let listen = file
        .node
        .listen
        .map(|l| format!(" and https://{}", l.0))
        .unwrap_or_default();
    // Whoever started the node reads the line, or does not.
    let _ = session.data(&format!(
        "ready: node {} at {}{listen}; isolation {}; batches {}; sources {}\n",
        file.node.name,
        file.socket(folder).display(),
        works.join(", "),
        broker.batches,
        if sources.is_empty() {
            "none".to_owned()
        } else {
            sources.join(", ")
        },
    ));
    for info in isolation.iter().filter(|i| !i.works) {
        session.talk(&format!("no {}: {}", info.isolation, info.detail));
    }
    if let Some(advice) = &broker.advice {
        session.talk(&format!("better: {advice}"));
    }
}

/// The broker's life, in a process of its own.
pub(crate) fn run_broker(args: &ChildArgs) -> Result<Outcome, Problem> {
    args.log.begin()?;
    fades_drb::process::run_confined(control()?.into())
        .or_problem(|| "the broker ended".to_owned())?;
    Ok(Outcome::Done)
}

/// The courier's life, in a process of its own.
pub(crate) fn run_courier(args: &ChildArgs) -> Result<Outcome, Problem> {
    args.log.begin()?;
    fades_courier::process::run_confined(control()?.into())
        .or_problem(|| "the courier ended".to_owned())?;
    Ok(Outcome::Done)
}

/// The channel to the node that started this program.
fn control() -> Result<OwnedFd, Problem> {
    inherited::control().ok_or_else(|| {
        Problem::new("there is no node to serve").remedy("the node starts it: fades node")
    })
}
