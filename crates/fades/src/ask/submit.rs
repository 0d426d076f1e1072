//! `fades submit`: signs a task and hands it in.

use std::path::{Path, PathBuf};

use fades_orc::api::types::{FunctionList, Plan, TaskSummary};
use fades_task::identity::{Digest, ImageRef, Name};
use fades_task::limits::Isolation;
use fades_task::mtw::{Deliver, Lifetime, Mtw};
use fades_task::quantity::{Duration, Size};
use fades_task::replace::Replace;
use fades_task::schedule::{Cron, Schedule};
use fades_task::time::{Time, Zone};
use fades_task::window::Window;
use fades_trust::envelope::Envelope;
use fades_trust::task::sign_task;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::client::Client;
use super::data::DataArgs;
use super::draft::{self, Defaults};
use super::render::number::moment;
use super::{plan, result, signed};
use crate::cli::shared::{NodeChoice, Output};
use crate::keys::file;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;
use crate::settings::suggestion::closest;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function: a name, or NAME@sha256:DIGEST
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    function: Option<ImageRef>,
    /// Take the task from a TOML or JSON file, or as `fades sign` made it (.dsse)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A parameter of the function
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = draft::param)]
    params: Vec<(String, Value)>,
    /// Wait for the answer and print it
    #[arg(long)]
    wait: bool,
    /// Say what would happen, and hand nothing in
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Write the task to a file as well
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Sign with this key: a name in your configuration, or a file
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    more: MoreArgs,
}

/// What a task says besides; each replaces what a file says.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The task")]
struct MoreArgs {
    /// Id of the task; the same id is the same task
    #[arg(long, value_name = "ID")]
    id: Option<Name>,
    /// A name for people
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// The service that asks
    #[arg(long, value_name = "NAME")]
    service: Option<Name>,
    /// Audience: names or labels of nodes
    #[arg(long = "for", value_name = "NAME")]
    audience: Vec<Name>,
    /// For how long the task may be accepted, and runs again
    #[arg(long, value_name = "DURATION")]
    expires: Option<Duration>,
    /// Higher runs earlier where the node looks at it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Fail when not done this long after acceptance
    #[arg(long, value_name = "DURATION")]
    finish_within: Option<Duration>,
    /// Bring the answer to a destination of the node as well
    #[arg(long = "deliver", value_name = "DESTINATION")]
    deliver: Vec<Name>,
    /// Run again at all multiples of this, such as 5m
    #[arg(long, value_name = "DURATION", conflicts_with = "cron")]
    every: Option<Duration>,
    /// Run again at the times of a cron pattern, such as "30 6 * * MON-FRI"
    #[arg(long, value_name = "PATTERN")]
    cron: Option<Cron>,
    /// The function stays, and answers for each window of this length, such as 1m
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["every", "cron"])]
    window: Option<Duration>,
    /// A window begins this often, when windows are to overlap
    #[arg(long, value_name = "DURATION", requires = "window")]
    step: Option<Duration>,
    /// Take the place of a task that runs again: its name or id
    #[arg(long, value_name = "TASK")]
    replace: Option<Name>,
    /// Give its place back when so many runs in a row failed (3 if not given)
    #[arg(long, value_name = "NUMBER", requires = "replace")]
    after_failures: Option<u32>,
    /// What a day is, such as Europe/London
    #[arg(long, value_name = "ZONE")]
    zone: Option<Zone>,
    /// Isolations that are acceptable: microvm, process
    #[arg(long, value_name = "ISOLATION", value_parser = isolation)]
    isolation: Vec<Isolation>,
    /// Memory of the function, such as 16MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Wall time of the run
    #[arg(long, value_name = "DURATION")]
    time: Option<Duration>,
    /// Processor time of the function
    #[arg(long, value_name = "DURATION")]
    cpu: Option<Duration>,
    /// Size of the answer
    #[arg(long, value_name = "SIZE")]
    answer: Option<Size>,
    /// Size of the log
    #[arg(long, value_name = "SIZE")]
    log: Option<Size>,
}

fn isolation(word: &str) -> Result<Isolation, String> {
    match word {
        "microvm" => Ok(Isolation::Microvm),
        "process" => Ok(Isolation::Process),
        _ => Err(format!(
            "{word:?} is no isolation: write microvm or process"
        )),
    }
}

/// How long a task that runs again stands when nothing else is said.
const STANDS_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Carries out `fades submit`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let (envelope, mtw) = match &args.file {
        Some(path) if signed::is_envelope(path) => as_signed(args, path)?,
        _ => signed_here(args, &client, session)?,
    };
    if args.dry_run {
        return dry_run(&envelope, &mtw, &client, &args.output, session);
    }
    let accepted = hand_in(&envelope, &client)?;
    if args.wait {
        session.talk(&format!(
            "task {} {}",
            accepted.summary.id,
            accepted.words()
        ));
        let result = result::wait(&client, &mtw.task.id, session)?;
        return result::print(&result, &args.output, session);
    }
    let words = accepted.words();
    session.talk(&match next(&mtw) {
        None => format!("task {words}; its answer: fades result"),
        Some(due) => format!(
            "task {words}; its next run is due {}, it stands until {}; its runs: fades ps --of {}",
            moment(due),
            moment(mtw.task.expires),
            mtw.task.id
        ),
    });
    match args.output.json() {
        true => session.data(&super::render::json(&accepted.summary))?,
        false => session.data(&format!("{}\n", accepted.summary.id))?,
    }
    Ok(Outcome::Done)
}

/// When a task that stands has its next run.
fn next(mtw: &Mtw) -> Option<Time> {
    let next = mtw.times()?.after(crate::session::now(), &mtw.task.zone)?;
    Some(next.after(mtw.window.map_or(Duration(0), |window| window.grace)))
}

/// A task that somebody signed before.
fn as_signed(args: &Args, path: &Path) -> Result<(Envelope, Mtw), Problem> {
    let (envelope, mtw) = signed::read(path)?;
    let mut changed = mtw.clone();
    changed.function.params.extend(args.params.iter().cloned());
    args.more.apply(&mut changed);
    if changed != mtw || args.key.is_some() {
        return Err(signed::unchangeable(path));
    }
    Ok((envelope, mtw))
}

/// The task that the options or the file describe, signed now.
fn signed_here(
    args: &Args,
    client: &Client,
    session: &Session,
) -> Result<(Envelope, Mtw), Problem> {
    let mut mtw = task(args, client)?;
    pin(&mut mtw, client)?;
    if let Some(path) = &args.save {
        save(&mtw, path, session)?;
    }
    let envelope = match &args.key {
        Some(given) => {
            let key = file::read_secret(&file::secret_path(given, session)?)?;
            sign_task(&mtw, &key)
        }
        None => sign_task(&mtw, client.key()?),
    };
    Ok((envelope, mtw))
}

/// The task that the options or the file describe.
fn task(args: &Args, client: &Client) -> Result<Mtw, Problem> {
    let defaults = Defaults::for_target(&client.target)?;
    let mut mtw = match (&args.file, &args.function) {
        (Some(path), _) => draft::from_file(path, &defaults)?,
        (None, Some(image)) => draft::from_options(
            image.clone(),
            args.data.retrieve()?,
            serde_json::Map::new(),
            &defaults,
        ),
        (None, None) => return Err(Problem::new("no function and no file is named")),
    };
    mtw.function.params.extend(args.params.iter().cloned());
    args.more.apply(&mut mtw);
    mtw.check()
        .or_problem(|| "the task contradicts itself".to_owned())?;
    Ok(mtw)
}

impl MoreArgs {
    fn apply(&self, mtw: &mut Mtw) {
        let (task, function) = (&mut mtw.task, &mut mtw.function);
        set(&mut task.id, &self.id);
        set(&mut task.name, &self.name);
        set(&mut task.service, &self.service);
        set(&mut task.priority, &self.priority);
        set(&mut task.zone, &self.zone);
        if !self.audience.is_empty() {
            task.r#for.clone_from(&self.audience);
        }
        if let Some(expires) = self.expires {
            task.expires = crate::session::now().after(expires);
        }
        if self.finish_within.is_some() {
            task.finish_within = self.finish_within;
        }
        if !self.deliver.is_empty() {
            let to = self.deliver.iter().cloned();
            mtw.deliver = to.map(|to| Deliver { to }).collect();
        }
        if self.every.is_some() || self.cron.is_some() {
            let catch_up = mtw.schedule.take().map(|s| s.catch_up);
            mtw.schedule = Some(Schedule {
                every: self.every,
                cron: self.cron.clone(),
                catch_up: catch_up.unwrap_or_default(),
            });
        }
        if let Some(length) = self.window {
            function.lifetime = Lifetime::Persistent;
            let every = self.step.unwrap_or(length);
            let before = mtw.window.take();
            mtw.window = Some(Window {
                every,
                length: (length != every).then_some(length),
                ..before.unwrap_or_else(|| Window::every(every))
            });
        }
        if let Some(task) = &self.replace {
            let before = mtw.replace.take().map(|r| r.after_failures);
            let mut replace = Replace::of(task.clone());
            replace.after_failures = self
                .after_failures
                .or(before)
                .unwrap_or(replace.after_failures);
            mtw.replace = Some(replace);
        }
        let stands = self.every.is_some() || self.cron.is_some() || self.window.is_some();
        if stands && self.expires.is_none() {
            task.expires = crate::session::now().after(STANDS_FOR);
        }
        if !self.isolation.is_empty() {
            function.isolation.clone_from(&self.isolation);
        }
        set(&mut function.limits.memory, &self.memory);
        set(&mut function.limits.time, &self.time);
        set(&mut function.limits.cpu, &self.cpu);
        set(&mut function.limits.output, &self.answer);
        set(&mut function.limits.log, &self.log);
    }
}

fn set<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        place.clone_from(value);
    }
}

/// Pins the digest of the function, the newest that the node has by its name.
fn pin(mtw: &mut Mtw, client: &Client) -> Result<(), Problem> {
    if mtw.function.image.digest.is_none() {
        let name = mtw.function.image.name.clone();
        mtw.function.image.digest = Some(newest(&name, client)?);
    }
    Ok(())
}

fn newest(name: &Name, client: &Client) -> Result<Digest, Problem> {
    let list: FunctionList = client.get("/v1/functions")?;
    if let Some(function) = list.functions.iter().find(|f| f.name == *name) {
        return Ok(function.digest);
    }
    let mut known: Vec<&str> = list.functions.iter().map(|f| f.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let node = &client.target.name;
    let problem = Problem::refused(format!("node {node} has no function {name}"));
    let problem = match known.as_slice() {
        [] => problem.reason("it has no functions yet"),
        known => problem.reason(format!("it has: {}", known.join(", "))),
    };
    Err(match closest(name.as_str(), &known) {
        Some(meant) => problem.remedy(format!("did you mean {meant}?")),
        None => problem.remedy(format!("fades publish path/to/{name}")),
    })
}

fn save(mtw: &Mtw, path: &Path, session: &Session) -> Result<(), Problem> {
    std::fs::write(path, draft::to_file(mtw)?)
        .or_problem(|| format!("cannot write {}", path.display()))?;
    session.talk(&format!("saved as {}", path.display()));
    Ok(())
}

/// What the node said to a task.
struct Accepted {
    /// The task there.
    summary: TaskSummary,
    again: bool,
}

impl Accepted {
    fn words(&self) -> &'static str {
        if self.again {
            "was accepted before, it is the same one"
        } else {
            "accepted"
        }
    }
}

/// Hands in a signed task.
fn hand_in(envelope: &Envelope, client: &Client) -> Result<Accepted, Problem> {
    let body = envelope.to_json();
    let reply = client.send(Method::POST, "/v1/tasks", body.into(), "application/json")?;
    let again = reply.status != StatusCode::CREATED;
    let summary = reply.read()?;
    Ok(Accepted { summary, again })
}

fn dry_run(
    envelope: &Envelope,
    mtw: &Mtw,
    client: &Client,
    output: &Output,
    session: &Session,
) -> Result<Outcome, Problem> {
    let body = envelope.to_json();
    let reply = client.send(Method::POST, "/v1/plan", body.into(), "application/json")?;
    let planned: Plan = reply.read()?;
    let text = match output.json() {
        true => super::render::json(&planned),
        false => plan::text(&planned, mtw, session),
    };
    session.data(&text)?;
    Ok(match plan::decision(&planned) {
        plan::Decision::Good => Outcome::Done,
        plan::Decision::Refused(_) | plan::Decision::WouldFail => Outcome::No,
    })
}
