//! `fades doctor`: what this host offers, what is used of it, and what would
//! improve it.

mod host;

use std::path::{Path, PathBuf};

use fades_orc::api::types::{CgroupInfo, CourierInfo, NodeInfo, Scheduling, TrustState};
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::quantity::Duration;
use fades_task::time::Time;
use fades_trust::trust::TrustStore;
use serde::Serialize;

use super::outbox::state;
use super::probe;
use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::count;
use crate::ask::target;
use crate::cli::shared::Output;
use crate::keys::key;
use crate::keys::trust::in_short;
use crate::problem::{Outcome, Problem};
use crate::session::{Ink, Session, now};
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A node's folder, looked at as well; the one here otherwise
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The tender's program; the one beside this program otherwise
    #[arg(long, value_name = "FILE")]
    tender: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// A certificate that expires sooner is to be renewed.
const RENEW: Duration = Duration::from_secs(14 * 24 * 3600);

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// As it should be.
    Good,
    /// Works, and could be better.
    Better,
    /// Needed, and not there.
    Missing,
}

impl Grade {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Better => "better",
            Self::Missing => "MISSING",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    what: &'static str,
    grade: Grade,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(what: &'static str, detail: impl Into<String>) -> Self {
        let (grade, detail) = (Grade::Good, detail.into());
        Self {
            what,
            grade,
            detail,
            remedy: None,
        }
    }

    fn better(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (grade, detail) = (Grade::Better, detail.into());
        Self {
            what,
            grade,
            detail,
            remedy: Some(remedy.into()),
        }
    }

    /// A part of the node that is not started again.
    fn given_up(what: &'static str, stopped: &str) -> Self {
        let (grade, detail) = (Grade::Missing, format!("given up: {stopped}"));
        Self {
            what,
            grade,
            detail,
            remedy: Some("fades config reload".to_owned()),
        }
    }

    fn missing(what: &'static str, problem: &Problem) -> Self {
        let (grade, detail) = (Grade::Missing, problem.text(str::to_owned));
        Self {
            what,
            grade,
            detail,
            remedy: None,
        }
    }
}

/// Carries out `fades doctor`; the answer is no when something needed is
/// missing.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = target::node_folder(args.folder.as_deref());
    let findings = look(folder.as_deref(), args.tender.as_deref(), session);
    let text = match args.output.json() {
        true => render::json(&findings),
        false => findings.iter().map(|f| line(f, session)).collect(),
    };
    session.data(&text)?;
    let missing = findings.iter().any(|f| f.grade == Grade::Missing);
    Ok(if missing { Outcome::No } else { Outcome::Done })
}

/// Looks at this host, and at the node in `folder`.
pub(super) fn look(
    folder: Option<&Path>,
    tender: Option<&Path>,
    session: &Session,
) -> Vec<Finding> {
    let mut findings = isolations(tender, session);
    let info = folder.and_then(asked);
    let queue = folder.and_then(scheduling);
    let running = info.as_ref().map(|i| &i.broker.confinement);
    findings.extend(host::broker(running));
    findings.extend(host::machine());
    if let Some(folder) = folder {
        findings.extend(node(folder));
        findings.extend(certificate(folder, session));
    }
    findings.extend(info.iter().flat_map(running_node));
    findings.extend(queue.as_ref().map(in_queue));
    findings
}

/// What the tender found by trying; one isolation is needed.
fn isolations(tender: Option<&Path>, session: &Session) -> Vec<Finding> {
    let probed = probe::tender(tender, session).and_then(|t| probe::ask(&t));
    let probe = match probed {
        Ok(probe) => probe,
        Err(problem) => return vec![Finding::missing("isolation", &problem)],
    };
    let one_works = probe.isolation.iter().any(|o| o.works);
    let offers = probe.isolation.iter();
    offers
        .map(|o| isolation(o.isolation, o.works, one_works, &o.detail))
        .collect()
}

/// One isolation, of which `one_works` at least.
fn isolation(which: Isolation, works: bool, one_works: bool, detail: &str) -> Finding {
    Finding {
        what: match which {
            Isolation::Microvm => "microvm",
            Isolation::Process => "process",
        },
        grade: match (works, one_works) {
            (true, _) => Grade::Good,
            (false, true) => Grade::Better,
            (false, false) => Grade::Missing,
        },
        detail: detail.to_owned(),
        remedy: None,
    }
}

/// The node in a folder: its configuration and its keys.
fn node(folder: &Path) -> Vec<Finding> {
    let mut findings = vec![match NodeFile::read(folder) {
        Ok(file) => Finding::good(
            "node.toml",
            format!("node {}, {} sources", file.node.name, file.source.0.len()),
        ),
        Err(problem) => Finding::missing("node.toml", &problem),
    }];
    let refused = NodeFile::read(folder).is_ok_and(|file| !file.node.development_keys);
    match key::read_trust(folder) {
        Ok(store) if refused => findings.extend(keys(&store.refusing_development(), now())),
        Ok(store) => findings.extend(keys(&store, now())),
        Err(problem) => findings.push(Finding::missing("keys", &problem)),
    }
    findings
}

/// Keys that should not be relied on.
fn keys(store: &TrustStore, now: Time) -> Vec<Finding> {
    let mut findings = Vec::new();
    let development = store.keys().iter().filter(|key| key.development);
    let development = development.filter(|key| store.usable(key, now).is_ok());
    let development: Vec<&str> = development.map(|key| key.name.as_str()).collect();
    if !development.is_empty() {
        findings.push(Finding::better(
            "keys",
            format!("development keys are trusted: {}", development.join(", ")),
            "fades key new NAME; fades key trust NAME.pub ...; then remove them from trust.toml",
        ));
    }
    for key in store.keys() {
        if let Some(until) = key.ends_soon(now) {
            findings.push(ending(&key.name, until, now));
        }
    }
    if findings.is_empty() {
        let count = store.keys().len();
        findings.push(Finding::good("keys", format!("{count} trusted")));
    }
    findings
}

/// A key that ends soon, or has.
fn ending(key: &Name, until: Time, now: Time) -> Finding {
    let ends = if until <= now { "ended" } else { "ends" };
    Finding::better(
        "keys",
        format!("key {key} {ends} at {until}"),
        "fades key new NAME; fades key trust NAME.pub ... --not-after TIME; have its owner use it",
    )
}

/// The certificate with which the API listens over TCP, if it does.
fn certificate(folder: &Path, session: &Session) -> Option<Finding> {
    let file = NodeFile::read(folder).ok()?;
    let listen = file.listen(folder, session.env.credentials.as_deref())?;
    let what = "certificate";
    Some(match fades_orc::tls::check(&listen.tls, now()) {
        Err(error) => {
            let problem = Problem::new("the API cannot listen").because(&error);
            Finding::missing(what, &problem)
        }
        Ok(until) if until < now().after(RENEW) => Finding::better(
            what,
            format!("https://{} until {until}", listen.address),
            "have it renewed; fades config reload",
        ),
        Ok(until) => Finding::good(what, format!("https://{} until {until}", listen.address)),
    })
}

/// What the node in a folder says of itself, if it runs.
fn asked(folder: &Path) -> Option<NodeInfo> {
    let client = target::of_folder(folder).and_then(Client::new);
    client.and_then(|c| c.node()).ok()
}

/// Which task is next on the node in a folder, if it runs.
fn scheduling(folder: &Path) -> Option<Scheduling> {
    let client = target::of_folder(folder).and_then(Client::new);
    client.and_then(|c| c.get("/v1/scheduling")).ok()
}

/// The order of tasks that wait, and who must wait for tomorrow.
fn in_queue(queue: &Scheduling) -> Finding {
    let spent = queue.services.iter().filter(|s| s.spent);
    let spent: Vec<&str> = spent.map(|s| s.service.as_str()).collect();
    let policy = format!("policy {}", queue.order.policy);
    match spent.is_empty() {
        true => Finding::good("queue", policy),
        false => Finding::better(
            "queue",
            format!(
                "{policy}; until {} nothing more is started for {}: its day is used up",
                queue.day_ends,
                spent.join(", ")
            ),
            "raise cpu or bytes in limits.SERVICE; fades config reload",
        ),
    }
}

/// How a node is, of what it says of itself: how good, what, in which words.
pub(super) fn of_node(info: &NodeInfo) -> Vec<(&'static str, &'static str, String)> {
    let one_works = info.isolation.iter().any(|i| i.works);
    let mut findings: Vec<Finding> = info
        .isolation
        .iter()
        .map(|offer| isolation(offer.isolation, offer.works, one_works, &offer.detail))
        .collect();
    let broker = &info.broker;
    findings.push(match (broker.up, &broker.last_end) {
        (true, _) => Finding::good("broker", format!("up; batches {}", broker.batches)),
        (false, end) => {
            let end = end.as_deref().unwrap_or("it is being started");
            Finding::missing("broker", &Problem::new(format!("not there: {end}")))
        }
    });
    if !info.development_keys.is_empty() {
        let names: Vec<&str> = info.development_keys.iter().map(Name::as_str).collect();
        let detail = format!("development keys are trusted: {}", names.join(", "));
        findings.push(Finding::better("keys", detail, "fades doctor"));
    }
    for key in &info.ending_keys {
        findings.push(ending(&key.name, key.not_after, now()));
    }
    findings.extend(running_node(info));
    let words = |f: Finding| (f.grade.word(), f.what, f.detail.replace('\n', " "));
    findings.into_iter().map(words).collect()
}

/// Which table of keys a running node goes by.
fn trust(state: &TrustState) -> Finding {
    let words = in_short(state);
    match state.restored {
        None => Finding::good("trust", words),
        Some(made) => Finding::better(
            "trust",
            format!(
                "{words}; restored from a backup of {made}: what was signed since may be missing"
            ),
            "fades trust update FILE, with the newest table and the newest list of revoked keys",
        ),
    }
}

fn running_node(info: &NodeInfo) -> Vec<Finding> {
    let tasks = info.tasks;
    let mut findings = vec![Finding::good(
        "running",
        format!(
            "process {}, {} standing, {} queued, {} running, {} done, {} failed; {} functions",
            info.pid,
            count(tasks.standing),
            count(tasks.queued),
            count(tasks.running),
            count(tasks.done),
            count(tasks.failed),
            info.functions
        ),
    )];
    findings.push(trust(&info.trust));
    findings.push(shells(info));
    findings.push(cgroup(&info.cgroup));
    if let Some(error) = &info.store_error {
        findings.push(Finding {
            what: "store",
            grade: Grade::Missing,
            detail: error.clone(),
            remedy: Some("make room where the node's folder is".to_owned()),
        });
    }
    if let Some(trouble) = &info.clock {
        findings.push(Finding {
            what: "clock",
            grade: Grade::Missing,
            detail: trouble.clone(),
            remedy: Some("timedatectl set-ntp true".to_owned()),
        });
    }
    if info.draining {
        findings.push(Finding::better(
            "ending",
            "the node is about to end, and starts nothing any more",
            "start it again once it has ended",
        ));
    }
    findings.extend(info.courier.iter().flat_map(courier));
    if let Some(stopped) = &info.broker.stopped {
        findings.push(Finding::given_up("broker", stopped));
    } else if info.broker.restarts > 0 {
        let last = info.broker.last_end.as_deref().unwrap_or("no reason known");
        findings.push(Finding::better(
            "broker",
            format!("started again {} times, last: {last}", info.broker.restarts),
            "fades source test NAME, for each source",
        ));
    }
    findings
}

/// What keeps tasks from coming and answers from leaving.
fn courier(courier: &CourierInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(stopped) = &courier.stopped {
        findings.push(Finding::given_up("courier", stopped));
    } else if !courier.up {
        let last = courier.last_end.as_deref().unwrap_or("it has not started");
        let detail = format!("not there: {last}");
        findings.push(Finding::better("courier", detail, "see the node's log"));
    }
    for inbox in &courier.inboxes {
        if let Some(error) = &inbox.error {
            let detail = format!("inbox {}: {error}", inbox.name);
            findings.push(Finding::better("inbox", detail, "fades outbox"));
        }
    }
    for receiver in &courier.receivers {
        if receiver.error.is_some() || receiver.lost > 0 {
            let detail = format!(
                "{} {}: {} wait, {} lost; {}",
                receiver.kind,
                receiver.name,
                receiver.waiting,
                receiver.lost,
                state(receiver)
            );
            findings.push(Finding::better("answers", detail, "fades outbox"));
        }
    }
    if findings.is_empty() {
        let waiting: u64 = courier.receivers.iter().map(|r| r.waiting).sum();
        let detail = format!("{} inboxes, {waiting} answers wait", courier.inboxes.len());
        findings.push(Finding::good("courier", detail));
    }
    findings
}

/// What is ready for the next task.
fn shells(info: &NodeInfo) -> Finding {
    let shells = &info.shells;
    let detail = format!(
        "{} wait, {} work, {} are being made; {} templates, {}",
        shells.idle, shells.busy, shells.making, shells.templates, shells.template_bytes
    );
    if let Some(failing) = &shells.failing {
        return Finding {
            what: "tenders",
            grade: Grade::Missing,
            detail: format!("{detail}; none can be made: {failing}"),
            remedy: Some("see the node's log; fades doctor --tender FILE tries another".to_owned()),
        };
    }
    match &shells.shortage {
        None => Finding::good("tenders", detail),
        Some(shortage) => Finding::better(
            "tenders",
            format!("{detail}; {} tasks wait: {shortage}", shells.waiting),
            "raise the node's limits of open files and processes, or lower node.parallel",
        ),
    }
}

/// What bounds tenders from outside.
fn cgroup(info: &CgroupInfo) -> Finding {
    let bounded = match (info.memory, info.pids) {
        (true, true) => "memory and processes of each tender",
        (true, false) => "memory of each tender",
        (false, true) => "processes of each tender",
        (false, false) => "nothing",
    };
    let detail = format!("{bounded}: {}", info.detail);
    match info.memory && info.pids {
        true => Finding::good("cgroups", detail),
        false => Finding::better(
            "cgroups",
            detail,
            "run the node as a service that may divide its own group: Delegate=memory pids",
        ),
    }
}

fn line(finding: &Finding, session: &Session) -> String {
    let (word, ink) = match finding.grade {
        Grade::Good => ("good   ", Ink::Good),
        Grade::Better => ("better ", Ink::Odd),
        Grade::Missing => ("MISSING", Ink::Bad),
    };
    let detail = finding.detail.replace('\n', "\n                    ");
    let mut line = format!("{} {:<11} {detail}\n", session.ink(ink, word), finding.what);
    if let Some(remedy) = &finding.remedy {
        line += &format!("{:>19} {remedy}\n", "try:");
    }
    line
}
