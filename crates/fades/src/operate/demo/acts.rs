//! The four acts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_orc::api::types::{FunctionInfo, Publish};
use fades_task::coverage::Coverage;
use fades_task::result::{TaskResult, TaskState};
use fades_trust::function::sign_function;
use rustix::process::{Pid, Signal, kill_process};

use super::image;
use super::stage::Stage;
use crate::ask::render::number::{bytes, count, micros};
use crate::keys::{file, image as image_file};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Ink;

/// The uplink that the paper measured, bits per second.
const UPLINK: f64 = 574_000.0;

/// Plays all of them.
pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Problem> {
    question(stage)?;
    forgery(stage)?;
    hostile(stage)?;
    accident(stage)
}

fn question(stage: &Stage<'_>) -> Result<(), Problem> {
    stage.act("Act 1. A small question about a lot of data")?;
    stage.say(&format!(
        "Eight boards have measured for a day: {} of CSV. How was the day?\n",
        bytes(stage.raw)
    ))?;
    let words = [
        "submit", "summary", "--kind", "*", "--param", "by=kind", "--id", "day", "--wait",
    ];
    expect(stage.command(&words)?, 0, "the question was not answered")?;
    let result = stage.result("day")?;
    let used: u64 = result.coverage.iter().map(|c: &Coverage| c.used).sum();
    let uplink = |bytes: u64| bytes as f64 * 8.0 / UPLINK;
    stage.say(&format!(
        "\n{} readings stayed where they are; {} of answer left.\n\
         (computed: over the paper's uplink of 0.574 Mbit/s the raw data takes {:.0} s, the answer {:.3} s)\n",
        count(used),
        bytes(result.answer_bytes),
        uplink(stage.raw),
        uplink(result.answer_bytes)
    ))
}

fn forgery(stage: &Stage<'_>) -> Result<(), Problem> {
    stage.act("Act 2. One bit of the function is flipped on its way")?;
    let mut function = image_file::read(&image(&stage.images, "summary"), None)?;
    let key = stage.client.target.publish_key.as_deref();
    let key = key.ok_or_else(|| Problem::new("the node has no development keys"))?;
    let envelope = sign_function(&function.statement, &file::read_secret(key)?);
    let middle = function.bytes.len() / 2;
    function.bytes[middle] ^= 1;
    stage.say(&format!(
        "The envelope is the signer's; byte {middle} of the image is not.\n"
    ))?;
    let body = Publish {
        envelope: envelope.to_json(),
        image: STANDARD.encode(&function.bytes),
        symbols: None,
    };
    match stage.client.post::<FunctionInfo>("/v1/functions", &body) {
        Ok(_) => Err(Problem::refused("the node took a changed image")),
        Err(refusal) if refusal.outcome == Outcome::No => {
            let bad = |label: &str| stage.session.ink(Ink::Bad, label);
            stage.say(&format!("{}\n", refusal.text(bad)))
        }
        Err(other) => Err(other),
    }
}

fn hostile(stage: &Stage<'_>) -> Result<(), Problem> {
    stage.act("Act 3. A hostile function, properly signed")?;
    stage.say(
        "One task reads beyond its input, one never ends, and one is an honest question\n\
         that runs beside them.\n",
    )?;
    let some = ["--kind", "audio", "--device", "board-01"];
    let submit = |id: &str, words: &[&str]| {
        let tail = ["--id", id];
        stage.command(&[&["submit"], words, &some[..], &tail[..]].concat())
    };
    submit(
        "reads",
        &[
            "misbehave",
            "--param",
            "do=read-past-input",
            "--param",
            "n=67108864",
        ],
    )?;
    submit(
        "loops",
        &["misbehave", "--param", "do=loop-with-input", "--cpu", "1s"],
    )?;
    submit("honest", &["summary"])?;
    for id in ["reads", "loops", "honest"] {
        let result = stage.result(id)?;
        stage.say(&verdict(stage, &result))?;
    }
    let honest = stage.result("honest")?;
    if honest.state != TaskState::Done || stage.result("reads")?.state != TaskState::Failed {
        return Err(Problem::refused("the hostile function had its way"));
    }
    Ok(())
}

fn verdict(stage: &Stage<'_>, result: &TaskResult) -> String {
    let b = &result.breakdown;
    let took = b.queue_us + b.retrieve_us + b.boot_us + b.transfer_us + b.compute_us;
    let (ink, words) = match &result.failure {
        Some(failure) => (Ink::Bad, format!("ended: {failure}")),
        None => (Ink::Good, "answered".to_owned()),
    };
    let id = format!("{:<7}", result.id.as_str());
    format!(
        "  {id} {} ({})\n",
        stage.session.ink(ink, &words),
        micros(took)
    )
}

fn accident(stage: &Stage<'_>) -> Result<(), Problem> {
    stage.act("Act 4. The broker is killed in the middle of the work")?;
    let words = [
        "submit", "summary", "--kind", "*", "--param", "by=kind", "--id", "again",
    ];
    expect(stage.command(&words)?, 0, "the task was not accepted")?;
    stage.until("again", TaskState::Running)?;
    let broker = stage.info()?.broker.pid;
    let pid = broker.and_then(|p| Pid::from_raw(i32::try_from(p).ok()?));
    let pid = pid.ok_or_else(|| Problem::new("the node has no broker"))?;
    stage.say(&format!(
        "$ kill -9 {}   # the broker\n",
        pid.as_raw_nonzero()
    ))?;
    kill_process(pid, Signal::KILL).or_problem(|| "cannot kill the broker".to_owned())?;
    let (before, after) = (stage.result("day")?, stage.result("again")?);
    stage.say(&format!("{}{}", verdict(stage, &after), restarts(stage)?))?;
    if after.state != TaskState::Done || after.answer != before.answer {
        return Err(Problem::refused("the answer is another one than before"));
    }
    stage.say(&format!(
        "  one answer, after {} attempts: the same as in act 1, to the bit\n",
        after.attempts
    ))
}

fn restarts(stage: &Stage<'_>) -> Result<String, Problem> {
    let broker = stage.info()?.broker;
    Ok(format!(
        "  the broker was started again ({} time)\n",
        broker.restarts
    ))
}

fn expect(code: i32, wanted: i32, otherwise: &str) -> Result<(), Problem> {
    match code == wanted {
        true => Ok(()),
        false => Err(Problem::refused(otherwise)),
    }
}
