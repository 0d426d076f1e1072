//! `scheduler`: what it takes to decide which of 100,000 tasks is started next.
//!
//! Timed is one step of the orchestrator's core, in memory: a tender is gone,
//! so the queue is asked, and the next task becomes a run with everything that
//! shall be done for it. Nothing of it is performed. There is nothing to
//! compare with. The tasks are of ten services and of ten priorities; one run
//! at a time.
//!
//! `nothing fits`: memory is left, and for none of the tasks that are looked at
//! enough. `another order`: all tasks are put into another order, which a new
//! configuration may ask for.

use std::sync::Arc;
use std::time::Instant;

use fades_orc::core::{Capacity, Core, Event, Now, Part, Rules, RunId, Task, TenderEvent, Tick};
use fades_task::allowance::Allowances;
use fades_task::limits::Isolation;
use fades_task::message::Refused;
use fades_task::mtw::Mtw;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::Size;
use fades_task::time::{Time, Zone};
use fades_trust::grant::Grants;
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;

const TASKS: i64 = 100_000;

/// What a decision may take, microseconds.
const AIM: f64 = 1000.0;

/// A core with tasks that wait and one that runs.
struct Busy {
    core: Core,
    rules: Rules,
    seq: i64,
    run: u64,
}

fn rules(policy: Policy) -> Result<Rules, Fault> {
    let all = json!({ "all": { "services": ["*"], "functions": ["*"], "history": "any" } });
    let all = serde_json::from_value(all).map_err(|e| Fault::Node(e.to_string()))?;
    let grants = Grants::compile(&all, &[]).map_err(|e| Fault::Node(e.to_string()))?;
    Ok(Rules {
        capacity: Capacity {
            parallel: 2,
            memory: Size(20 << 20),
            input: Size(1 << 30),
            batch: Size(2 << 20),
        },
        order: Order {
            policy,
            ..Order::default()
        },
        allowances: Allowances::default(),
        grants,
    })
}

/// Now, at the nth event.
const fn at(n: i64) -> Now {
    Now {
        time: Time(n * 1000),
        tick: Tick(n * 1000),
    }
}

fn task(seq: i64) -> Result<Task, Fault> {
    let digest = "0".repeat(64);
    let task = json!({
        "task": {
            "id": format!("t{}", seq * 7919 % 1_000_003), "name": "air",
            "service": format!("s{}", seq % 10), "for": ["here"],
            "expires": "2100-01-01", "priority": seq % 7919 % 10,
            "finish-within": format!("{}m", 10_000 + seq % 977)
        },
        "retrieve": [{"name": "pm", "kind": ["pm10"], "last": "24h"}],
        "function": {
            "image": format!("summary@sha256:{digest}"), "limits": {"memory": "12MiB"}
        }
    });
    let mtw: Mtw = serde_json::from_value(task).map_err(Fault::json("a task"))?;
    Ok(Task {
        seq,
        mtw: Arc::new(mtw),
        accepted: at(seq).time,
        attempts: 0,
        isolations: vec![Isolation::Microvm],
        inbox: None,
        parent: None,
        due: None,
        place: fades_orc::core::Place::default(),
    })
}

impl Busy {
    /// Of the tasks that wait, none fits beside the one that runs.
    fn new(policy: Policy) -> Result<Self, Fault> {
        let rules = rules(policy)?;
        let mut core = Core::new(rules.clone(), Zone::default(), None);
        drop(core.step(at(0), Event::Start));
        drop(core.step(at(0), Event::Up(Part::Broker)));
        let mut busy = Self {
            core,
            rules,
            seq: 0,
            run: 1,
        };
        while busy.core.waiting() < TASKS as usize {
            busy.accept()?;
        }
        Ok(busy)
    }

    fn accept(&mut self) -> Result<(), Fault> {
        self.seq += 1;
        let task = task(self.seq)?;
        drop(self.core.step(at(self.seq), Event::Accepted(task)));
        Ok(())
    }

    /// Microseconds of a step in which the next task is started.
    fn decide(&mut self) -> Result<f64, Fault> {
        let (run, now) = (RunId(self.run), at(self.seq));
        let reason = "no note".to_owned();
        let event = TenderEvent::Refused(Refused::Image { reason });
        drop(self.core.step(now, Event::Tender { run, event }));
        let reason = String::new();
        let event = TenderEvent::Gone { reason };
        let micros = self.timed(now, Event::Tender { run, event });
        self.run += 1;
        if self.core.waiting() != TASKS as usize - 1 {
            return Err(Fault::Meaningless("no task was started".to_owned()));
        }
        self.accept()?;
        Ok(micros)
    }

    fn timed(&mut self, now: Now, event: Event) -> f64 {
        let begin = Instant::now();
        let effects = self.core.step(now, event);
        let micros = begin.elapsed().as_secs_f64() * 1e6;
        drop(effects);
        micros
    }
}

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let rounds = bench.either(10_000, 1_000);
    for policy in [Policy::Fifo, Policy::Priority, Policy::Deadline, Policy::Id] {
        let mut busy = Busy::new(policy)?;
        let mut decisions = Samples::default();
        let mut nothing = Samples::default();
        for _ in 0..rounds {
            decisions.push(busy.decide()?);
            let now = at(busy.seq);
            nothing.push(busy.timed(now, Event::Pong(Part::Broker)));
        }
        let figure = |what: &str, samples: &Samples| {
            Figure::new(format!("{what}, {policy}"), None, "us", samples)
        };
        taken.add(figure("next task", &decisions).map(|f| f.aiming(Aim::AtMost(AIM))));
        taken.add(figure("nothing fits", &nothing).map(|f| f.aiming(Aim::AtMost(AIM))));
        let mut other = busy.rules.clone();
        other.order.policy = match policy {
            Policy::Fifo => Policy::Priority,
            _ => Policy::Fifo,
        };
        let now = at(busy.seq);
        let another = [busy.timed(now, Event::Rules(other))];
        taken.add(figure("another order", &another.into_iter().collect()));
    }
    Ok(())
}
