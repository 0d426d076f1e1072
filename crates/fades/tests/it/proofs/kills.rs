//! At least once, and no two answers: every accepted task has one answer, which is
//! brought to whoever should have it, whatever is killed meanwhile.
//!
//! `FADES_PROOF_TASKS` is how many tasks; 10,000 are the long form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fades_trust::key::SecretKey;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::asker::Asker;
use super::client::Client;
use super::world::{Dice, Heard, World, since};
use crate::stage::{LONG, Node, Stage, can_run, children, is_alive, signal, until};
use crate::supervision::node_info;

const TASKS: usize = 800;

/// Clients that hand in tasks at the same time.
const CLIENTS: usize = 3;

/// Devices that keep tasks running until something is killed.
const DEVICES: usize = 6;

/// Rows that each answer has counted.
const ROWS: u64 = 192;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Node,
    Broker,
    Courier,
    Tender,
}

const VICTIMS: [Victim; 4] = [
    Victim::Node,
    Victim::Broker,
    Victim::Courier,
    Victim::Tender,
];

/// What those who handed in tasks know of them.
#[derive(Debug, Default)]
struct Ledger {
    /// They were told that it is accepted.
    accepted: BTreeSet<String>,
    /// The node died before it said anything, and they asked no more.
    unknown: BTreeSet<String>,
    /// Results that they read in the meantime.
    read: BTreeMap<String, Value>,
}

/// A node, the world around it, and those who ask it.
struct Show {
    stage: Stage,
    world: World,
    node: Option<Node>,
    asker: Asker,
    ledger: Mutex<Ledger>,
    /// Tasks that ran when something was killed under them, and events that were
    /// on their way when the courier was.
    met: BTreeSet<String>,
    carried: BTreeSet<String>,
}

impl Show {
    fn new() -> Self {
        let (stage, world) = (Stage::with_node(), World::start());
        let tables = format!("[node]\nparallel = 4\n{}", world.tables(DEVICES));
        stage.write("fades-node/conf.d/proof.toml", tables);
        let node = stage.node();
        let asker = Asker::new(&stage);
        Self {
            stage,
            world,
            node: Some(node),
            asker,
            ledger: Mutex::default(),
            met: BTreeSet::new(),
            carried: BTreeSet::new(),
        }
    }

    fn signed(&self, id: &str) -> String {
        self.asker.signed(id, deliver)
    }

    /// Hands in tasks one after the other, as somebody does who asks again only
    /// sometimes when the node died before it answered.
    fn hand_in(&self, ids: &[String]) {
        let mut client = Client::new(&self.stage);
        for (n, id) in ids.iter().enumerate() {
            let envelope = self.signed(id);
            let post = |client: &mut Client| client.ask("POST /v1/tasks", envelope.as_bytes());
            let mut said = post(&mut client);
            while said.is_err() && n % 2 == 0 {
                said = post(&mut client);
            }
            let Ok((status, body)) = said else {
                self.ledger.lock().unwrap().unknown.insert(id.clone());
                continue;
            };
            let body = String::from_utf8_lossy(&body);
            assert!(matches!(status, 200 | 201), "{id}: {status}: {body}");
            self.ledger.lock().unwrap().accepted.insert(id.clone());
            if n % 8 == 0 {
                self.read(&mut client, id);
            }
        }
    }

    /// Keeps the result of a task, if the node lives until it is there.
    fn read(&self, client: &mut Client, id: &str) {
        let path = format!("GET /v1/tasks/{id}/result?wait=5s");
        if let Ok((200, result)) = client.ask(&path, b"") {
            let result = serde_json::from_slice(&result).unwrap();
            self.ledger
                .lock()
                .unwrap()
                .read
                .insert(id.to_owned(), result);
        }
    }

    /// Hands in many tasks in all ways, and kills something in the middle of it.
    fn round(&mut self, round: usize, size: usize, dice: &mut Dice) {
        let victim = VICTIMS[round % VICTIMS.len()];
        let anchor = format!("a{round}");
        self.anchor(round, &anchor);
        let ids: Vec<String> = (0..size - 1).map(|n| format!("r{round}-{n}")).collect();
        let (posted, rest) = ids.split_at(size / 3);
        // One of ten letters is handed in at the API as well.
        let both: Vec<String> = posted.iter().step_by(10).cloned().collect();
        let stranger = SecretKey::from_seed(&[7; 32]);
        let forged = format!("f{round}");
        self.world
            .post(&forged, &self.asker.signed_by(&stranger, &forged, deliver));
        for id in posted {
            self.world.post(id, &self.signed(id));
        }
        let before = self.accepted();
        let middle = before + size / 4 + dice.roll(size as u64 / 3) as usize;
        let mut node = self.node.take();
        let mut carried = None;
        std::thread::scope(|scope| {
            let show = &*self;
            let share = rest.len().div_ceil(CLIENTS);
            for ids in rest.chunks(share).chain([&both[..]]) {
                scope.spawn(move || show.hand_in(ids));
            }
            until("the round is in its middle", || show.accepted() >= middle);
            (node, carried) = show.kill(victim, &anchor, node.take().unwrap());
        });
        self.node = node;
        self.carried.extend(carried);
        self.world.open(round % DEVICES, true);
        let mut client = Client::new(&self.stage);
        until("the task that was met ends", || {
            self.read(&mut client, &anchor);
            self.ledger.lock().unwrap().read.contains_key(&anchor)
        });
        if !matches!(victim, Victim::Courier) {
            self.met.insert(anchor);
        }
        self.world.wait_for_verdicts();
    }

    /// Starts a task that runs until its device answers. Each asks another one than
    /// those shortly before it, whose readings might be handed on to it.
    fn anchor(&self, round: usize, id: &str) {
        self.world.open(round % DEVICES, false);
        let asked = self.world.asked();
        let envelope = self.asker.signed(id, |task| {
            deliver(task);
            task["retrieve"] =
                json!([{"name": "now", "source": World::device(round % DEVICES), "now": true}]);
        });
        let mut client = Client::new(&self.stage);
        let (status, body) = client.ask("POST /v1/tasks", envelope.as_bytes()).unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        self.ledger.lock().unwrap().accepted.insert(id.to_owned());
        self.world.wait_until_asked(asked);
    }

    /// Tasks that somebody was told are accepted.
    fn accepted(&self) -> usize {
        let (ledger, known) = (self.ledger.lock().unwrap(), self.world.known());
        ledger.accepted.union(&known.taken).count()
    }

    fn kill(&self, victim: Victim, anchor: &str, node: Node) -> (Option<Node>, Option<String>) {
        let child = |word: &str| {
            let all = children(node.pid()).into_iter();
            let mut named = all.filter(|(_, line)| line.contains(word));
            named.next().expect("it runs").0
        };
        let pid = match victim {
            Victim::Node => {
                node.kill();
                return (Some(self.stage.node()), None);
            }
            Victim::Broker => child(" broker "),
            Victim::Courier => child(" courier "),
            Victim::Tender => self.tender(anchor),
        };
        let held = matches!(victim, Victim::Courier).then(|| self.world.hold());
        signal(pid, Signal::KILL);
        until("it is dead", || !is_alive(pid));
        if held.is_some() {
            self.world.let_go();
        }
        (Some(node), held)
    }

    fn tender(&self, task: &str) -> u32 {
        let info = node_info(&self.stage);
        let mut tenders = info["tenders"].as_array().unwrap().iter();
        let tender = tenders.find(|t| t["task"] == task).expect("the task runs");
        tender["pid"].as_u64().unwrap() as u32
    }

    /// Waits until nothing is left to be done, and gives all results.
    fn results(&self) -> BTreeMap<String, Value> {
        let mut client = Client::new(&self.stage);
        let deadline = Instant::now() + LONG;
        loop {
            let info = client.get("/v1/node");
            let tasks = &info["tasks"];
            let receivers = info["courier"]["receivers"].as_array().unwrap();
            let rests = tasks["queued"] == 0 && tasks["running"] == 0;
            if rests && receivers.iter().all(|r| r["waiting"] == 0) {
                assert!(receivers.iter().all(|r| r["lost"] == 0), "{info}");
                break;
            }
            assert!(
                Instant::now() < deadline,
                "it does not come to rest: {info}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let (mut results, mut path) = (BTreeMap::new(), "/v1/tasks?limit=500".to_owned());
        loop {
            let page = client.get(&path);
            for task in page["tasks"].as_array().unwrap() {
                let id = task["id"].as_str().unwrap();
                let result = client.get(&format!("/v1/tasks/{id}/result"));
                let twice = results.insert(id.to_owned(), result);
                assert!(twice.is_none(), "{id} is there twice");
            }
            match page["next"].as_str() {
                Some(next) => path = format!("/v1/tasks?limit=500&after={next}"),
                None => return results,
            }
        }
    }
}

fn deliver(task: &mut Value) {
    task["deliver"] = json!([{"to": "city"}]);
}

/// Each answer that came is the one that is stored, the same bytes each time.
fn agree(heard: &Heard, results: &BTreeMap<String, Value>) {
    for (id, bodies) in heard {
        let result = results.get(id);
        let result = result.unwrap_or_else(|| panic!("{id} was delivered and never accepted"));
        let event: Value = serde_json::from_slice(&bodies[0]).unwrap();
        assert_eq!(
            event["data"], *result,
            "{id}: another answer than the stored one"
        );
        assert!(
            bodies.iter().all(|b| *b == bodies[0]),
            "{id}: other bytes the next time"
        );
    }
}

fn attempts(result: &Value) -> u64 {
    result["attempts"].as_u64().unwrap()
}

fn tasks() -> usize {
    let asked = std::env::var("FADES_PROOF_TASKS");
    asked.map_or(TASKS, |n| n.parse().expect("FADES_PROOF_TASKS is a number"))
}

#[test]
fn whatever_is_killed_every_accepted_task_has_one_answer_that_is_delivered() {
    if !can_run("whatever_is_killed_every_accepted_task_has_one_answer_that_is_delivered") {
        return;
    }
    let (begun, tasks) = (Instant::now(), tasks());
    let size = (tasks / 8).clamp(24, 250);
    let mut show = Show::new();
    let (mut dice, mut rounds) = (Dice(0x5eed), 0);
    while show.accepted() < tasks || rounds < 2 * VICTIMS.len() {
        show.round(rounds, size, &mut dice);
        rounds += 1;
    }
    let results = show.results();
    assert_eq!(show.node.take().unwrap().stop(), Some(0));
    let known = show.world.known();
    let ledger = show.ledger.lock().unwrap();
    check(&ledger, &results, &known.taken);
    agree(&known.delivered, &results);
    agree(&known.returned, &results);
    for id in results.keys() {
        assert!(known.delivered.contains_key(id), "{id} was not delivered");
    }
    let handed_in: BTreeSet<_> = ledger.accepted.union(&ledger.unknown).collect();
    let by_letter = known.taken.iter().filter(|id| !handed_in.contains(id));
    for id in by_letter {
        assert!(known.returned.contains_key(id), "{id} was not returned");
    }
    assert_eq!(known.refused.len(), rounds, "what a stranger signed");
    for id in &show.met {
        assert_eq!(attempts(&results[id]), 2, "{id} was to be met in its work");
    }
    for id in &show.carried {
        assert!(
            known.delivered[id].len() > 1,
            "{id} was to be met on its way"
        );
    }
    let again = results.values().filter(|r| attempts(r) > 1).count();
    let twice = known.delivered.values().filter(|b| b.len() > 1).count();
    report(&format!(
        "{} tasks, {rounds} kills; {again} ran again, {twice} were delivered again; {}",
        results.len(),
        since(begun)
    ));
}

/// Nothing accepted is lost, nothing is there that nobody handed in, and what was
/// read stayed as it was.
fn check(ledger: &Ledger, results: &BTreeMap<String, Value>, taken: &BTreeSet<String>) {
    for id in ledger.accepted.union(taken) {
        let result = results.get(id);
        let result = result.unwrap_or_else(|| panic!("{id} was accepted and is lost"));
        assert_eq!(result["state"], "done", "{result}");
        let rows = if id.starts_with('a') { 1 } else { ROWS };
        assert_eq!(result["answer"]["rows"], rows, "{result}");
    }
    for id in results.keys() {
        let known = [&ledger.accepted, &ledger.unknown, taken];
        assert!(
            known.iter().any(|k| k.contains(id)),
            "{id} came from nowhere"
        );
    }
    for (id, read) in &ledger.read {
        assert_eq!(*read, results[id], "{id} had another end before");
    }
}

#[expect(clippy::print_stdout, reason = "what a proof has seen")]
fn report(line: &str) {
    println!("{line}");
}
