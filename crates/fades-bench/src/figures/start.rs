//! `start` and `start-cold`: from the orchestrator's request to the first
//! instruction of the function.
//!
//! Timed with the processor's time-stamp counter, from right before the bytes
//! of `Start` are made and sent until the function's very first instruction,
//! which reads the counter (`functions/tests/first`). Between two measured runs
//! the shell runs another function (`hello`), so its last template is never the
//! one measured. `start`: the request is sent as soon as the answer of the
//! function before is there; the shell cleans itself only then, so the reset
//! counts. `clean shell`: the request is sent when the shell has said that
//! it is clean. `one of many functions`: as `start`, but the shell has run so many
//! others since that it remembers nothing of it. `start-cold`: the counter is read before the shell's process is
//! spawned. With isolation `process` a shell is used once, and `start` takes one
//! that waits.
//!
//! Compared with [`crate::spawned`].

use fades_orc::shell::Shell;
use fades_task::limits::Isolation;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;
use crate::shells::{Function, NO_INPUT, Run, Terms, clean};
use crate::spawned::{self, Spawned};
use crate::tsc::{self, Counter};
use crate::turns::in_turns;

/// Over the spawned program.
const AIM: f64 = 0.8;

/// More than a shell remembers.
const MANY: usize = 16;

/// What is measured, of one isolation.
struct Starts {
    counter: Counter,
    first: Function,
    other: Function,
    spawned: Spawned,
    isolation: Isolation,
}

impl Starts {
    fn new(bench: &Bench, isolation: Isolation) -> Result<Self, Fault> {
        let load = |image| Function::load(bench, image, isolation, &Terms::default());
        Ok(Self {
            counter: Counter::calibrate(),
            first: load("first")?,
            other: load("hello")?,
            spawned: Spawned::new(&bench.folder)?,
            isolation,
        })
    }

    /// Sends `shell` the run `first`; microseconds from `before`, or from now,
    /// to its first instruction.
    fn measured(&self, first: Run<'_>, shell: &Shell, before: Option<u64>) -> Result<f64, Fault> {
        let before = before.unwrap_or_else(tsc::now);
        let answer = first.start(shell)?.done()?;
        let after = tsc::now();
        let seen = answer.value()?["tsc"].as_u64().unwrap_or(0);
        self.counter.until(before, seen, after)
    }

    /// Another function runs, then the one that is measured. Everything is made
    /// beforehand, so that nothing lies between the answer and the next request.
    fn after(&self, first: &Function, shell: &Shell, cleaned: bool) -> Result<f64, Fault> {
        let (first, other) = (first.run(&NO_INPUT)?, self.other.run(&NO_INPUT)?);
        other.start(shell)?.done()?;
        if cleaned {
            clean(shell)?;
        }
        let spent = self.measured(first, shell, None)?;
        clean(shell)?;
        Ok(spent)
    }

    fn cold(&self) -> Result<f64, Fault> {
        let first = self.first.run(&NO_INPUT)?;
        let before = tsc::now();
        let shell = self.first.shell()?;
        self.measured(first, &shell, Some(before))
    }

    fn spare(&self) -> Result<f64, Fault> {
        let shell = self.first.shell()?;
        self.measured(self.first.run(&NO_INPUT)?, &shell, None)
    }

    fn add(&self, taken: &mut Taken, what: &str, aim: Aim, (ours, theirs): (Samples, Samples)) {
        let figure = Figure::new(what, Some(self.isolation), "us", &ours);
        taken.add(figure.map(|f| f.against(spawned::WHAT, &theirs).aiming(aim)));
    }
}

/// `start`.
pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    for isolation in taken.isolations(bench, "start") {
        let starts = Starts::new(bench, isolation)?;
        let rounds = bench.rounds((2000, 30), (200, 2));
        if isolation == Isolation::Process {
            let sides = in_turns(rounds, || starts.spare(), || starts.spawned.run())?;
            starts.add(taken, "start", Aim::Report, sides);
            continue;
        }
        let shell = starts.first.shell()?;
        for (what, cleaned, aim) in [
            ("start", false, Aim::Ratio(AIM)),
            ("clean shell", true, Aim::Report),
        ] {
            let sides = in_turns(
                rounds,
                || starts.after(&starts.first, &shell, cleaned),
                || starts.spawned.run(),
            )?;
            starts.add(taken, what, aim, sides);
        }
        let terms = Terms::default();
        let many = (0..MANY).map(|_| Function::load(bench, "first", isolation, &terms));
        let many: Vec<Function> = many.collect::<Result<_, _>>()?;
        let mut next = many.iter().cycle();
        let sides = in_turns(
            rounds,
            || starts.after(next.next().unwrap_or(&starts.first), &shell, false),
            || starts.spawned.run(),
        )?;
        starts.add(taken, "one of many functions", Aim::Report, sides);
    }
    Ok(())
}

/// `start-cold`.
pub(super) fn cold(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    for isolation in taken.isolations(bench, "start-cold") {
        let starts = Starts::new(bench, isolation)?;
        let rounds = bench.rounds((300, 20), (50, 2));
        let sides = in_turns(rounds, || starts.cold(), || starts.spawned.run())?;
        starts.add(taken, "start-cold", Aim::Report, sides);
    }
    Ok(())
}
