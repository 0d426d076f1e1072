//! `fades test`: the real image, unsigned, in a real tender, on a CSV file.
//!
//! It is the only place where an image runs that nobody signed; a node has no
//! such door. [`trial`] runs it, here the command line is read and the outcome
//! shown.

use std::path::{Path, PathBuf};

use fades_task::identity::{ImageRef, Name};
use fades_task::limits::{Isolation, Limits};
use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, MemoryUse, TaskResult, TaskState};
use fades_task::time::Zone;
use serde_json::{Map, Value};

use crate::ask::draft;
use crate::ask::render::{json, number, report};
use crate::cli::shared::Output;
use crate::operate::probe;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Ink, Session, now};

mod trial;

use trial::{Ended, Trial};

/// What to run, on what, within which limits.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image [default: the only one in target/fades]
    image: Option<PathBuf>,
    /// File with the readings: a header, a time column, a column for each kind
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// A parameter of the function
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = draft::param)]
    params: Vec<(String, Value)>,
    /// Only these kinds of readings
    #[arg(long = "kind", value_name = "GLOB")]
    kinds: Vec<String>,
    /// What a day is
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// microvm or process [default: the strongest that works here]
    #[arg(long, value_name = "ISOLATION", value_parser = isolation)]
    isolation: Option<Isolation>,
    /// Memory of the function
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Wall time of the run
    #[arg(long, value_name = "DURATION")]
    time: Option<Duration>,
    /// Processor time of the function
    #[arg(long, value_name = "DURATION")]
    cpu: Option<Duration>,
    /// Most bytes of the answer
    #[arg(long, value_name = "SIZE")]
    answer: Option<Size>,
    /// File for readings that the function answers with
    #[arg(long, value_name = "FILE")]
    readings: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

fn isolation(word: &str) -> Result<Isolation, String> {
    match word {
        "microvm" => Ok(Isolation::Microvm),
        "process" => Ok(Isolation::Process),
        _ => Err("there are microvm and process".to_owned()),
    }
}

/// Runs the image and shows its answer.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let path = image(args)?;
    let tender = probe::tender(None, session)?;
    let isolation = match args.isolation {
        Some(asked) => asked,
        None => strongest(&tender)?,
    };
    let zone: Zone = args
        .zone
        .clone()
        .try_into()
        .or_problem(|| "--zone".to_owned())?;
    let image = std::fs::read(&path).or_problem(|| format!("cannot read {}", path.display()))?;
    let ended = Trial {
        tender: &tender,
        image: &path,
        symbols: symbols(&path),
        csv: args.csv.as_deref(),
        kinds: &args.kinds,
        params: &args.params.iter().cloned().collect::<Map<_, _>>(),
        zone: &zone,
        isolation,
        limits: limits(args),
    }
    .run(|level, text| session.talk(&line(session, level, text)))?;
    show(args, &path, &image, &ended, session)
}

/// The image that was named, or the only one that was built here.
fn image(args: &Args) -> Result<PathBuf, Problem> {
    if let Some(named) = &args.image {
        return Ok(named.clone());
    }
    let folder = Path::new("target/fades");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let images = files
        .map(|f| f.path())
        .filter(|p| p.extension().is_some_and(|e| e == "fades"));
    match images.collect::<Vec<_>>().as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Problem::new("no image to test")
            .reason(format!("there is none in {}", folder.display()))
            .remedy("fades build, or name the image")),
        several => Err(Problem::new("which image shall be tested?")
            .reason(format!(
                "there are {} in {}",
                several.len(),
                folder.display()
            ))
            .remedy(format!("fades test {}", several[0].display()))),
    }
}

fn strongest(tender: &Path) -> Result<Isolation, Problem> {
    let probe = probe::ask(tender)?;
    match probe.isolation.iter().find(|o| o.works) {
        Some(offer) => Ok(offer.isolation),
        None => {
            let problem = Problem::new("no isolation works on this host");
            let reasons = probe.isolation.iter();
            Err(reasons.fold(problem, |p, o| {
                p.reason(format!("{}: {}", o.isolation, o.detail))
            }))
        }
    }
}

/// The symbols beside an image; without them, crashes are told by address.
fn symbols(image: &Path) -> Option<String> {
    std::fs::read_to_string(image.with_extension("sym")).ok()
}

fn limits(args: &Args) -> Limits {
    let default = Limits::default();
    Limits {
        memory: args.memory.unwrap_or(default.memory),
        time: args.time.unwrap_or(default.time),
        cpu: args.cpu.unwrap_or(default.cpu),
        output: args.answer.unwrap_or(default.output),
        ..default
    }
}

/// A log line of the function.
fn line(session: &Session, level: u32, text: &str) -> String {
    let (word, ink) = match level {
        1 => ("error", Ink::Bad),
        2 => ("warn", Ink::Odd),
        3 => ("info", Ink::Faint),
        _ => ("debug", Ink::Faint),
    };
    format!("{} {text}", session.talk_ink(ink, word))
}

fn show(
    args: &Args,
    path: &Path,
    image: &[u8],
    ended: &Ended,
    session: &Session,
) -> Result<Outcome, Problem> {
    let result = result(path, image, ended)?;
    if args.output.json() {
        session.data(&json(&result))?;
    } else {
        // Where the readings are is said below; a node's command to get them
        // would not find them.
        let mut shown = result.clone();
        shown.readings_bytes = 0;
        session.data(&report::text(&shown, session))?;
    }
    if let Some(file) = args
        .readings
        .as_ref()
        .filter(|_| !ended.readings.is_empty())
    {
        std::fs::write(file, &ended.readings)
            .or_problem(|| format!("cannot write {}", file.display()))?;
    } else if !ended.readings.is_empty() {
        let size = number::bytes(ended.readings.len() as u64);
        session.talk(&format!(
            "it also answered with {size} of readings: --readings FILE"
        ));
    }
    Ok(match result.state {
        TaskState::Done => Outcome::Done,
        _ => Outcome::No,
    })
}

/// The outcome in the form in which a node tells it.
fn result(path: &Path, image: &[u8], ended: &Ended) -> Result<TaskResult, Problem> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: Name = stem.parse().or_problem(|| format!("{}", path.display()))?;
    let test: Name = "test".parse().or_problem(String::new)?;
    let done = ended.failure.is_none();
    Ok(TaskResult {
        id: test.clone(),
        name: name.clone(),
        service: test,
        state: if done {
            TaskState::Done
        } else {
            TaskState::Failed
        },
        function: ImageRef {
            name,
            digest: Some(fades_trust::function::image_digest(image)),
        },
        attempts: 1,
        accepted: ended.started,
        started: Some(ended.started),
        finished: Some(now()),
        isolation: ended.report.as_ref().map(|r| r.isolation),
        answer: ended.answer.clone(),
        readings_bytes: ended.readings.len() as u64,
        failure: ended.failure.clone(),
        coverage: ended.coverage.clone(),
        breakdown: ended
            .report
            .as_ref()
            .map(|r| r.breakdown)
            .unwrap_or_default(),
        memory: ended.report.as_ref().map(|r| MemoryUse {
            limit: ended.limits.memory,
            high_water: r.high_water,
        }),
        cpu_us: ended.report.as_ref().map_or(0, |r| r.cpu_us),
        input_bytes: ended.report.as_ref().map_or(0, |r| r.input_bytes),
        answer_bytes: ended.report.as_ref().map_or(0, |r| r.answer_bytes),
        log_cut: ended.report.as_ref().map_or(0, |r| r.log_cut),
    })
}

/// Why a run has no answer, when it has none.
fn failure(refused: fades_task::message::Refused, isolation: Isolation) -> Failure {
    use fades_task::message::Refused;
    match refused {
        Refused::Image { reason } | Refused::Limits { reason } => Failure::Image { reason },
        Refused::Isolation { reason } => Failure::Isolation {
            accepted: vec![isolation],
            reason,
        },
    }
}
