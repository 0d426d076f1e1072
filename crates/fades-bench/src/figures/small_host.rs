//! `small-host`: fifty functions at rest and one that works, in a control group
//! of 1 GB.
//!
//! The functions run below a process of this program that does what an
//! orchestrator does for them and nothing else; it is in the group before it
//! makes anything. What counts is all that the group is charged for, kernel
//! memory, the memory of that process and the templates included, less file
//! pages, which the kernel drops when memory is short (the programs' own).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use fades_task::limits::Isolation;

use super::wake::resident;
use super::{Taken, settled};
use crate::bench::Bench;
use crate::cgroup::{Group, Usage};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::memory::proportional;
use crate::processes::tree;
use crate::samples::Samples;
use crate::shells::{Function, NO_INPUT, Terms};

/// Functions at rest.
const RESTING: usize = 50;

/// Bytes.
const AIM: f64 = (64 << 20) as f64;

/// Bytes.
const LIMIT: u64 = 1 << 30;

/// What the process below says, in this order.
const SAYINGS: [&str; 2] = ["alone", "working"];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    if !rustix::process::geteuid().is_root() {
        taken.skip("small-host", "a control group is needed: run as root");
        return Ok(());
    }
    if !taken
        .isolations(bench, "small-host")
        .contains(&Isolation::Microvm)
    {
        return Ok(());
    }
    let owner = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let group = match Group::make(owner.cast_unsigned(), LIMIT) {
        Ok(group) => group,
        Err(e) => {
            let why = format!("a control group that counts memory cannot be made: {e}");
            taken.skip("small-host", &why);
            return Ok(());
        }
    };
    let mut below = Below::start(bench)?;
    group
        .enter(below.process.id())
        .map_err(Fault::system("move a process into a control group"))?;
    let alone = below.next(&group)?;
    let usage = below.next(&group)?;
    let shares: u64 = tree(below.process.id()).into_iter().map(proportional).sum();
    taken.note(format!(
        "small-host, bytes: {} charged, {} of them the kernel's, {} file pages; {} before the functions; \
         proportional set size of all processes {shares}",
        usage.all, usage.kernel, usage.cache, alone.all - alone.cache,
    ));
    let one = |value: u64| [value as f64].into_iter().collect::<Samples>();
    let figure = |what, value| Figure::new(what, Some(Isolation::Microvm), "bytes", &one(value));
    let all = usage.all - usage.cache;
    taken.add(figure("50 at rest, 1 running", all).map(|f| f.aiming(Aim::AtMost(AIM))));
    taken.add(figure("of it, the kernel's", usage.kernel));
    Ok(())
}

/// The process that has the functions.
struct Below {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Below {
    fn start(bench: &Bench) -> Result<Self, Fault> {
        let doing = "start a process of this program";
        let me = std::env::current_exe().map_err(Fault::system(doing))?;
        let mut process = Command::new(me)
            .arg(crate::RESTING)
            .arg(bench.subfolder("resting")?)
            .args(bench.arguments.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Fault::system(doing))?;
        let said = process.stdout.take();
        let said = said.ok_or(Fault::TenderGone("say that it is ready"))?;
        Ok(Self {
            process,
            said: BufReader::new(said),
        })
    }

    /// Lets it go on, and tells what the group uses when it has.
    fn next(&mut self, group: &Group) -> Result<Usage, Fault> {
        let mut line = String::new();
        let told = match &mut self.process.stdin {
            Some(input) => input.write_all(b"\n"),
            None => Ok(()),
        };
        told.and_then(|()| self.said.read_line(&mut line))
            .map_err(Fault::system("talk to a process of this program"))?;
        if !SAYINGS.contains(&line.trim()) {
            return Err(Fault::Meaningless(
                "the process with the functions at rest ended".to_owned(),
            ));
        }
        settled()?;
        group
            .usage()
            .map_err(Fault::system("read what a control group uses"))
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // The end of its input ends it, and the kernel what it started.
        drop(self.process.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The life of the process that has the functions. It has been let go on once
/// before.
pub(crate) fn rest(bench: &Bench) -> Result<ExitCode, Fault> {
    let isolation = Isolation::Microvm;
    let small = resident(bench, isolation)?;
    let terms = Terms {
        params: serde_json::json!({ "do": "answer-then-loop" }),
        ..Terms::default()
    };
    let busy = Function::load(bench, "misbehave", isolation, &terms)?;
    println!("{}", SAYINGS[0]);
    wait();
    let resting = (0..RESTING).map(|_| small.rest());
    let resting: Vec<_> = resting.collect::<Result<_, _>>()?;
    let shell = busy.shell()?;
    let running = busy.run(&NO_INPUT)?.start(&shell)?;
    running.ready()?;
    println!("{}", SAYINGS[1]);
    wait();
    drop((resting, running));
    Ok(ExitCode::SUCCESS)
}

/// Waits until the process above lets this one go on, or ends.
pub(crate) fn wait() {
    // The end of the input and a failure mean the same.
    let _ = std::io::stdin().read_line(&mut String::new());
}
