//! Nodes, brokers and tenders killed at any moment.

use std::collections::HashMap;
use std::sync::Mutex;

use fades_orc::api::types::{TaskList, TaskResult, TaskState};
use fades_task::result::Failure;
use rustix::process::Signal;
use serde_json::json;

use crate::client::Kept;
use crate::site::{Site, signal_process, task};

#[test]
fn a_broker_that_is_killed_in_mid_run_is_started_again_and_the_task_answered_once() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("slow", |t| {
        t["retrieve"][0]["source"] = "slow".into()
    }));
    node.wait_for_tender("slow");
    let broker = node.info().broker.pid.unwrap();
    signal_process(broker, Signal::KILL);
    node.wait_until("the task runs again", |node| {
        let list: TaskList = node.get("/v1/tasks?state=running").json();
        list.tasks.first().is_some_and(|t| t.attempts == 2)
    });
    let info = node.info();
    assert_eq!(info.broker.restarts, 1);
    assert!(info.broker.last_end.unwrap().contains("signal: 9"));
    node.takes(&task("next", |_| ()));
    assert_eq!(node.result("next").state, TaskState::Done);
    node.post("/v1/tasks/slow/cancel", b"");
}

#[test]
fn a_task_that_kills_every_broker_is_given_up() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("fatal", |t| {
        t["retrieve"][0]["source"] = "fatal".into()
    }));
    let failure = node.result("fatal").failure;
    assert!(matches!(
        failure,
        Some(Failure::Attempts { attempts: 5, .. })
    ));
    node.takes(&task("next", |_| ()));
    assert_eq!(node.result("next").state, TaskState::Done);
}

#[test]
fn a_tender_that_is_killed_is_replaced() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("t1", |t| t["retrieve"][0]["source"] = "slow".into()));
    let first = node.wait_for_tender("t1");
    signal_process(first, Signal::KILL);
    node.wait_until("another tender runs", |node| {
        let tenders = node.info().tenders;
        tenders.iter().any(|t| t.pid != first)
    });
    node.post("/v1/tasks/t1/cancel", b"");
}

#[test]
fn a_node_that_is_killed_takes_its_processes_along_and_the_next_one_takes_up_the_task() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("t1", |t| t["retrieve"][0]["source"] = "slow".into()));
    let tender = node.wait_for_tender("t1");
    let broker = node.info().broker.pid.unwrap();
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    for pid in [tender, broker] {
        node.wait_until("its processes are gone", |_| has_ended(pid));
    }
    drop(node);
    let mut node = site.start_bare();
    node.wait_until("the task runs again", |node| {
        let list: TaskList = node.get("/v1/tasks?state=running").json();
        list.tasks.first().is_some_and(|t| t.attempts == 2)
    });
    node.post("/v1/tasks/t1/cancel", b"");
}

/// A process without a parent that waits stays behind as a zombie.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |s| s.contains(") Z "))
}

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn whatever_is_killed_whenever_every_accepted_task_ends_once() {
    const ROUNDS: u64 = 12;
    let mut dice = Dice(0x5eed);
    let site = Site::new().with("parallel", json!(3));
    let mut node = site.start();
    let mut accepted = Vec::new();
    let mut answers: HashMap<String, TaskResult> = HashMap::new();
    for round in 0..ROUNDS {
        for n in 0..4 {
            let id = format!("r{round}-{n}");
            let slow = dice.roll(3) == 0;
            let body = crate::site::signed(&task(&id, |t| {
                if slow {
                    t["retrieve"][0]["source"] = "slow".into();
                    t["task"]["finish-within"] = "3s".into();
                }
            }));
            // The node may be dying: only what it said it took counts.
            if node
                .try_ask("POST", "/v1/tasks", &body)
                .is_ok_and(|a| a.status == 201)
            {
                accepted.push(id);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(dice.roll(40)));
        let info = node.info();
        match dice.roll(3) {
            0 => {
                node.process.kill().unwrap();
                node.process.wait().unwrap();
                drop(node);
                node = site.start_bare();
            }
            1 => {
                if let Some(pid) = info.broker.pid {
                    signal_process(pid, Signal::KILL);
                }
            }
            _ => {
                for tender in info.tenders {
                    signal_process(tender.pid, Signal::KILL);
                }
            }
        }
        // What has ended stays as it is.
        for (id, result) in &answers {
            assert_eq!(&node.result(id), result);
        }
        let done: TaskList = node.get("/v1/tasks?state=done&limit=500").json();
        for task in done.tasks {
            let id = task.id.as_str().to_owned();
            let result = node.result(&id);
            answers.entry(id).or_insert(result);
        }
    }
    assert!(
        accepted.len() as u64 > ROUNDS * 3,
        "{} were accepted",
        accepted.len()
    );
    for id in &accepted {
        let result = node.result(id);
        let good = result.state == TaskState::Done
            || matches!(
                result.failure,
                Some(Failure::TooLate | Failure::Attempts { .. })
            );
        assert!(good, "{id}: {result:?}");
    }
    let all: TaskList = node.get("/v1/tasks?limit=500").json();
    assert!(all.tasks.iter().all(|t| t.state.is_final()));
}

#[test]
fn a_node_that_is_killed_under_load_keeps_what_it_took_and_what_it_answered() {
    const ROUNDS: usize = 5;
    const CLIENTS: usize = 6;
    let site = Site::new()
        .with("microvm", json!(true))
        .with("parallel", json!(4));
    let mut node = site.start();
    let (taken, told) = (Mutex::new(Vec::new()), Mutex::new(HashMap::new()));
    for round in 0..ROUNDS {
        let enough = taken.lock().unwrap().len() + 40 * (round + 1);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (taken, told, site) = (&taken, &told, &site);
                scope.spawn(move || {
                    let mut kept = Kept::open(&site.path("api.sock"));
                    for n in 0.. {
                        let id = format!("r{round}-{client}-{n}");
                        let body = crate::site::signed(&task(&id, |_| ()));
                        // Only what the node said before it died counts.
                        let Ok((status, _)) = kept.try_ask("POST", "/v1/tasks", &body) else {
                            return;
                        };
                        assert_eq!(status, 201);
                        taken.lock().unwrap().push(id.clone());
                        let path = format!("/v1/tasks/{id}/result?wait=25s");
                        let Ok((status, result)) = kept.try_ask("GET", &path, b"") else {
                            return;
                        };
                        assert_eq!(status, 200);
                        told.lock().unwrap().insert(id, result);
                    }
                });
            }
            node.wait_until("enough is under way", |_| {
                taken.lock().unwrap().len() >= enough
            });
            node.process.kill().unwrap();
            node.process.wait().unwrap();
        });
        drop(node);
        node = site.start_bare();
    }
    let told = told.into_inner().unwrap();
    for id in taken.into_inner().unwrap() {
        let result = node.result(&id);
        assert_eq!(result.state, TaskState::Done, "{id}: {result:?}");
        if let Some(told) = told.get(&id) {
            let told: TaskResult = serde_json::from_slice(told).unwrap();
            assert_eq!(told, result);
        }
    }
}
