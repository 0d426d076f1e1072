//! Random operations on the real node and on the core alone: after each, all tasks
//! are in the same states in both.
//!
//! `FADES_PROOF_SEQUENCES` is how many sequences of operations, `FADES_PROOF_SEED`
//! the seed of the first; each prints its seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fades_orc::api::types::TaskSummary;
use fades_orc::core::{Capacity, Event, RETRY_PAUSE, Rules};
use fades_orc::store::Filter;
use fades_task::allowance::Allowances;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::{Duration as Span, Size};
use fades_task::result::TaskState;
use fades_trust::grant::Grants;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::asker::Asker;
use super::client::Client;
use super::simulated::{Settings, Simulated, name, task};
use super::world::{Dice, World};
use crate::stage::{LONG, Node, Stage, can_run, children, signal};
use crate::supervision::node_info;

const SEQUENCES: u64 = 4;
const OPERATIONS: usize = 24;
const PARALLEL: usize = 2;

/// Tasks of a sequence; each has a device of its own, which decides when it ends.
const TASKS: usize = 16;

const POLICIES: [Policy; 3] = [Policy::Fifo, Policy::Priority, Policy::Id];

/// Far enough apart that the time that a task has waited makes no difference.
const PRIORITIES: [i64; 3] = [-50, 0, 50];

/// What is compared of a task: state, attempts, whether another has its place.
type States = BTreeMap<String, (TaskState, u32, bool)>;

#[derive(Debug, Clone)]
enum Op {
    /// A new task, or one that was handed in before.
    Submit(usize),
    /// A task that runs again, in the place of another if there is one.
    Stand(usize, Option<String>),
    Cancel(String),
    Finish(String),
    Order(Policy),
    KillTender(String),
    KillBroker,
    KillNode,
    Restart,
}

fn rules(policy: Policy) -> Rules {
    let capacity = Capacity {
        parallel: PARALLEL,
        memory: Size(512 << 20),
        input: Size(64 << 20),
        batch: Size(2 << 20),
    };
    let order = Order {
        policy,
        ..Order::default()
    };
    Rules {
        capacity,
        order,
        allowances: Allowances::default(),
        grants: grants(),
    }
}

/// Everything is granted to everybody, as it is on the node.
pub(super) fn grants() -> Grants {
    let all = json!({ "all": {
        "services": ["*"], "functions": ["*"], "history": "any", "live": true,
        "destinations": ["*"],
    }});
    Grants::compile(&serde_json::from_value(all).unwrap(), &[]).unwrap()
}

fn of_summary(task: TaskSummary) -> (String, (TaskState, u32, bool)) {
    (task.id.to_string(), (task.state, task.attempts, task.held))
}

/// The number of a task.
fn number(id: &str) -> usize {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// Both nodes.
struct Pair {
    stage: Stage,
    world: World,
    node: Option<Node>,
    asker: Asker,
    model: Simulated,
    dice: Dice,
    /// Tasks that were handed in, and how they look.
    handed_in: Vec<(String, Value)>,
    standing: usize,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (stage, world) = (Stage::with_node(), World::start());
        let tables = world.tables(TASKS);
        let node = format!("[node]\nparallel = {PARALLEL}\ndrain = \"0s\"\n{tables}");
        stage.write("fades-node/conf.d/proof.toml", node);
        let node = stage.node();
        let model = Simulated::start(Settings {
            rules: rules(Policy::Fifo),
            mail: None,
            gated: true,
        });
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        Self {
            asker: Asker::new(&stage),
            stage,
            world,
            node: Some(node),
            model,
            dice,
            handed_in: Vec::new(),
            standing: 0,
        }
    }

    fn expected(&self) -> States {
        let filter = Filter {
            limit: Some(500),
            ..Filter::default()
        };
        let tasks = self.model.store().list(&filter).unwrap().tasks;
        tasks.into_iter().map(of_summary).collect()
    }

    fn real(&self) -> States {
        let list = Client::new(&self.stage).get("/v1/tasks?limit=500");
        let tasks: Vec<TaskSummary> = serde_json::from_value(list["tasks"].clone()).unwrap();
        tasks.into_iter().map(of_summary).collect()
    }

    /// The next operation, out of those that make sense now.
    fn choose(&mut self) -> Op {
        let states = self.expected();
        let of = |wanted: fn(&TaskState) -> bool| -> Vec<String> {
            let all = states.iter().filter(|(_, (state, ..))| wanted(state));
            all.map(|(id, _)| id.clone()).collect()
        };
        let running = of(|s| *s == TaskState::Running);
        let queued = of(|s| *s == TaskState::Queued).len();
        let standing = of(|s| *s == TaskState::Standing);
        let dice = &mut self.dice;
        let mut one = |of: &[String]| of[dice.roll(of.len() as u64) as usize].clone();
        let any = (!states.is_empty()).then(|| one(&of(|_| true)));
        let run = (!running.is_empty()).then(|| one(&running));
        let stands = (!standing.is_empty()).then(|| one(&standing));
        let tasks = self.handed_in.len() - self.standing;
        match (dice.roll(20), any, run) {
            (0..=4 | 16.., _, _) if tasks < TASKS => Op::Submit(tasks),
            (5, Some(_), _) if tasks > 0 => Op::Submit(dice.roll(tasks as u64) as usize),
            (6, ..) if self.standing < 4 => Op::Stand(self.standing, stands),
            (7, Some(any), _) => Op::Cancel(any),
            (8 | 9, _, Some(run)) => Op::Finish(run),
            (10, ..) => Op::Order(POLICIES[dice.roll(3) as usize]),
            (11, _, Some(run)) => Op::KillTender(run),
            // Which comes first again depends on pauses, when others wait as well.
            (12, ..) if queued == 0 => Op::KillBroker,
            (13, ..) => Op::KillNode,
            (14, ..) => Op::Restart,
            (_, _, Some(run)) => Op::Finish(run),
            _ => Op::Order(POLICIES[0]),
        }
    }

    /// Hands a task in at both; it is taken by both or by none.
    fn submit(&mut self, id: &str, more: Value) {
        let known = self.handed_in.iter().find(|(known, _)| known == id);
        let more = known.map_or(more, |(_, more)| more.clone());
        let envelope = self.asker.signed(id, |task| apply(task, &more));
        let mut client = Client::new(&self.stage);
        let (status, said) = client.ask("POST /v1/tasks", envelope.as_bytes()).unwrap();
        let mut plain = task(id, &json!({}));
        apply(&mut plain, &more);
        let taken = self.model.submit(plain);
        let said = String::from_utf8_lossy(&said);
        assert_eq!(taken, matches!(status, 200 | 201), "{id}: {status}: {said}");
        if taken && !self.handed_in.iter().any(|(known, _)| known == id) {
            self.handed_in.push((id.to_owned(), more));
        }
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Submit(n) => {
                let priority = PRIORITIES[self.dice.roll(3) as usize];
                // In the order of ids, the last come first.
                let id = format!("t{}-{n}", char::from(b'z' - *n as u8));
                let retrieve = json!([{"name": "now", "source": World::device(*n), "now": true}]);
                self.submit(&id, json!({"priority": priority, "retrieve": retrieve}));
            }
            Op::Stand(n, replaces) => {
                let schedule = json!({"every": "366d"});
                let mut more = json!({"name": format!("air-{n}"), "schedule": schedule});
                if let Some(replaces) = replaces {
                    more["replace"] = json!({"task": replaces});
                }
                let before = self.handed_in.len();
                self.submit(&format!("s-{n}"), more);
                self.standing += self.handed_in.len() - before;
            }
            Op::Cancel(id) => {
                let path = format!("POST /v1/tasks/{id}/cancel");
                Client::new(&self.stage).ask(&path, b"").unwrap();
                let (id, by) = (name(id), "local".to_owned());
                self.model.step(Event::Cancel { id, by });
            }
            Op::Finish(id) => {
                self.world.open(number(id), true);
                self.model.finish(id);
            }
            Op::Order(policy) => {
                let word = serde_json::to_value(policy).unwrap();
                let queue = format!("[queue]\npolicy = {word}\n");
                self.stage.write("fades-node/conf.d/queue.toml", queue);
                self.stage.run(&["config", "reload"]).good();
                self.model.rules(rules(*policy));
            }
            Op::KillTender(id) => self.kill_tender(id),
            Op::KillBroker => self.kill_broker(),
            Op::KillNode => {
                self.node.take().unwrap().kill();
                self.node = Some(self.stage.node());
                self.model.restart();
            }
            Op::Restart => {
                assert_eq!(self.node.take().unwrap().stop(), Some(0));
                self.node = Some(self.stage.node());
                self.model.step(Event::Shutdown);
                self.model.restart();
            }
        }
        self.model.pass(Span::from_secs(10));
    }

    fn kill_tender(&mut self, id: &str) {
        let mut pid = None;
        crate::stage::until("its tender works", || {
            let info = node_info(&self.stage);
            let mut tenders = info["tenders"].as_array().unwrap().iter();
            pid = tenders
                .find(|t| t["task"] == id)
                .and_then(|t| t["pid"].as_u64());
            pid.is_some()
        });
        let attempts = self.expected()[id].1;
        signal(pid.unwrap() as u32, Signal::KILL);
        self.model.kill_tender(id);
        self.model.pass(Span::from_secs(10));
        self.agree(&format!("after the end of the tender of {id}"));
        // Another may run in its place by now. From when on it competes with those
        // that wait cannot be asked, but is known: the pause must have passed.
        let pause = RETRY_PAUSE.0 << attempts;
        std::thread::sleep(Duration::from_nanos(pause));
    }

    fn kill_broker(&mut self) {
        let broker = children(self.node.as_ref().unwrap().pid()).into_iter();
        let mut broker = broker.filter(|(_, line)| line.contains(" broker "));
        let Some((pid, _)) = broker.next() else {
            panic!("there is no broker")
        };
        signal(pid, Signal::KILL);
        self.model.step(Event::Lost {
            part: fades_orc::core::Part::Broker,
            reason: "signal: 9 (SIGKILL)".to_owned(),
        });
        crate::stage::until("another broker is up", || {
            let broker = &node_info(&self.stage)["broker"];
            broker["up"] == true && broker["pid"] != pid
        });
    }

    /// Waits until both say the same.
    #[track_caller]
    fn agree(&self, when: &str) {
        let (expected, deadline) = (self.expected(), Instant::now() + LONG / 4);
        loop {
            let real = self.real();
            if real == expected {
                let run = real.values().filter(|s| s.0 == TaskState::Running).count();
                assert!(run <= PARALLEL, "{when}\n{real:?}");
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{when}\nthe core: {expected:?}\nthe node: {real:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that is done has an answer, in both.
    fn answers(&self) {
        let mut client = Client::new(&self.stage);
        for (id, (state, ..)) in self.expected() {
            if state == TaskState::Standing {
                continue;
            }
            let (_, real) = client
                .ask(&format!("GET /v1/tasks/{id}/result"), b"")
                .unwrap();
            let real: Value = serde_json::from_slice(&real).unwrap();
            let model = self.model.store().result(&name(&id)).unwrap().unwrap();
            assert_eq!(real["answer"].is_object(), model.answer.is_some(), "{real}");
            // Who runs again and again has runs that answer.
            let answers = state == TaskState::Done && id.starts_with('t');
            assert_eq!(model.answer.is_some(), answers, "{real}");
            let failure = serde_json::to_value(&model.failure).unwrap();
            assert_eq!(real["failure"]["kind"], failure["kind"], "{real}");
        }
    }
}

/// Puts what is in `more` into a task.
fn apply(task: &mut Value, more: &Value) {
    for (field, value) in more.as_object().unwrap() {
        match field.as_str() {
            "priority" | "name" => task["task"][field] = value.clone(),
            _ => task[field] = value.clone(),
        }
    }
}

#[expect(clippy::print_stdout, reason = "what is needed to repeat it")]
fn sequence(seed: u64) -> usize {
    println!("FADES_PROOF_SEED={seed}");
    let mut pair = Pair::new(seed);
    for n in 0..OPERATIONS {
        let op = pair.choose();
        println!("  {n}: {op:?}");
        pair.perform(&op);
        pair.agree(&format!("seed {seed}, operation {n}: {op:?}"));
    }
    pair.answers();
    assert_eq!(pair.node.take().unwrap().stop(), Some(0));
    pair.handed_in.len()
}

fn variable(variable: &str, otherwise: u64) -> u64 {
    let said = std::env::var(variable);
    said.map_or(otherwise, |n| n.parse().expect("it is a number"))
}

#[test]
fn the_real_node_does_what_the_core_decides_whatever_happens() {
    if !can_run("the_real_node_does_what_the_core_decides_whatever_happens") {
        return;
    }
    let first = variable("FADES_PROOF_SEED", 1);
    let sequences = variable("FADES_PROOF_SEQUENCES", SEQUENCES);
    let tasks: usize = (first..first + sequences).map(sequence).sum();
    assert!(tasks as u64 > 3 * sequences, "{tasks} tasks prove little");
}
