//! A process that has functions at rest: one process may have too few
//! descriptors for all of them.
//!
//! Orders and replies are lines of JSON on its standard input and output. The
//! end of its input ends it, and with it the functions.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use fades_task::limits::Isolation;
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::fault::Fault;
use crate::figures::wake::{resident, woken};
use crate::memory::Memory;
use crate::shells::{Fed, Function, Resting};
use crate::turns::microseconds;

/// What it is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Loads the function, and lets one rest, which makes what all share.
    Load(Isolation),
    /// Makes so many, each one's time is told; stops when less than so many
    /// bytes of memory are left.
    Make { count: usize, kept: u64 },
    /// Wakes about so many, each one's latency is told.
    Wake(usize),
}

/// What it says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Reply {
    /// Microseconds.
    pub(super) times: Vec<f64>,
    /// Why there are not as many as were wanted.
    pub(super) short: Option<String>,
}

/// The other side of such a process.
#[derive(Debug)]
pub(super) struct Holder {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Holder {
    pub(super) fn start(bench: &Bench, number: u64) -> Result<Self, Fault> {
        let doing = "start a process of this program";
        let me = std::env::current_exe().map_err(Fault::system(doing))?;
        let mut process = Command::new(me)
            .arg(crate::HOLDING)
            .arg(bench.subfolder(&format!("holding-{number}"))?)
            .args(bench.arguments.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Fault::system(doing))?;
        let said = process.stdout.take().ok_or_else(ended)?;
        Ok(Self {
            process,
            said: BufReader::new(said),
        })
    }

    pub(super) fn order(&mut self, order: Order) -> Result<Reply, Fault> {
        let doing = "talk to a process of this program";
        let text = serde_json::to_string(&order).map_err(Fault::json("an order"))?;
        let input = self.process.stdin.as_mut().ok_or_else(ended)?;
        writeln!(input, "{text}").map_err(Fault::system(doing))?;
        let mut line = String::new();
        self.said
            .read_line(&mut line)
            .map_err(Fault::system(doing))?;
        match line.is_empty() {
            true => Err(ended()),
            false => serde_json::from_str(&line).map_err(Fault::json("a reply")),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It ends by itself; it is only waited for.
        let _ = self.process.wait();
    }
}

fn ended() -> Fault {
    Fault::Meaningless("a process with functions at rest ended".to_owned())
}

/// The life of such a process.
pub(crate) fn hold(bench: &Bench) -> Result<ExitCode, Fault> {
    let place = bench.place.as_ref();
    let place = place.map_err(|why| Fault::Meaningless(why.clone()))?;
    let file = place.batches("density", 1, 1000)?;
    let mut function: Option<Function> = None;
    let mut resting: Vec<Resting> = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(Fault::system("read an order"))?;
        let reply = match serde_json::from_str(&line).map_err(Fault::json("an order"))? {
            Order::Load(isolation) => {
                let loaded = resident(bench, isolation)?;
                resting.push(loaded.rest()?);
                function = Some(loaded);
                Reply::default()
            }
            Order::Make { count, kept } => {
                let function = function.as_ref().ok_or_else(ended)?;
                make(function, &mut resting, count, kept)?
            }
            Order::Wake(count) => {
                let step = (resting.len() / count.max(1)).max(1);
                let some = resting.iter().step_by(step);
                let times = some.map(|one| woken(one, file.first()));
                Reply {
                    times: times.collect::<Result<_, _>>()?,
                    short: None,
                }
            }
        };
        let text = serde_json::to_string(&reply).map_err(Fault::json("a reply"))?;
        println!("{text}");
    }
    // All at once: one after the other would wait for each.
    resting.iter().for_each(|one| one.shell().child().kill());
    Ok(ExitCode::SUCCESS)
}

fn make(
    function: &Function,
    resting: &mut Vec<Resting>,
    count: usize,
    kept: u64,
) -> Result<Reply, Fault> {
    let mut reply = Reply::default();
    for _ in 0..count {
        let now = Memory::now().map_err(Fault::system("read /proc/meminfo"))?;
        if now.available < kept {
            let left = now.available;
            reply.short = Some(format!(
                "memory got short: {left} bytes are left to the host"
            ));
            break;
        }
        let begun = Instant::now();
        match function.rest() {
            Ok(one) => resting.push(one),
            Err(Fault::Shell(e)) if e.is_shortage() => {
                reply.short = Some(e.to_string());
                break;
            }
            Err(fault) => return Err(fault),
        }
        reply.times.push(microseconds(begun.elapsed()));
    }
    Ok(reply)
}
