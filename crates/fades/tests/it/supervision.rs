//! Parts that die again and again, an end that lets what runs run out, and what a
//! service manager is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{LONG, Node, Stage, can_run, children, signal, until};

/// A device that answers with a number, once it may.
pub(crate) struct Device {
    pub(crate) port: u16,
    open: Arc<AtomicBool>,
    asked: Arc<Mutex<usize>>,
}

impl Device {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let device = Self {
            port: listener.local_addr().unwrap().port(),
            open: Arc::default(),
            asked: Arc::default(),
        };
        let (open, asked) = (Arc::clone(&device.open), Arc::clone(&device.asked));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let head = BufReader::new(stream.try_clone().unwrap());
                    let lines = head.lines().map_while(Result::ok);
                    let _ = lines.take_while(|line| !line.is_empty()).count();
                    *asked.lock().unwrap() += 1;
                    while !open.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
                    // Whoever asked may be gone.
                    let _ = write!(stream, "{head}Content-Length: 4\r\n\r\n21.5");
                });
            }
        });
        device
    }

    pub(crate) fn answers(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }

    /// The source's table.
    pub(crate) fn source(&self, more: &str) -> String {
        format!(
            "[source.slow]\ntype = \"http\"\nurl = \"http://127.0.0.1:{}/\"\nformat = \"number\"\n\
             device = \"board\"\nkind = \"pressure\"\ntimeout = \"60s\"\n{more}\n",
            self.port
        )
    }
}

pub(crate) fn node_info(stage: &Stage) -> Value {
    let answer = stage.get("/v1/node");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

pub(crate) fn state(stage: &Stage, id: &str) -> String {
    let result = stage.run(&["result", id, "-o", "json"]).json();
    result["state"].as_str().unwrap_or_default().to_owned()
}

fn submit_slow(stage: &Stage, id: &str) {
    stage
        .run(&[
            "submit", "summary", "--kind", "pressure", "--now", "--id", id,
        ])
        .good();
}

/// A stage with a source that answers when it is told to.
fn slow_stage(more: &str) -> (Stage, Device) {
    let (stage, device) = (Stage::with_node(), Device::new());
    stage.write("fades-node/conf.d/slow.toml", device.source(""));
    stage.write("fades-node/conf.d/more.toml", more);
    (stage, device)
}

fn broker(node: &Node) -> Option<u32> {
    let all = children(node.pid());
    all.into_iter()
        .find(|(_, line)| line.contains("broker"))
        .map(|(pid, _)| pid)
}

#[test]
fn a_broker_that_keeps_dying_is_given_up_and_started_again_when_asked() {
    if !can_run("a_broker_that_keeps_dying_is_given_up_and_started_again_when_asked") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["summary"]);
    let mut killed = VecDeque::new();
    until("the broker is given up", || {
        if let Some(pid) = broker(&node).filter(|pid| !killed.contains(pid)) {
            signal(pid, Signal::KILL);
            killed.push_back(pid);
        }
        !node_info(&stage)["broker"]["stopped"].is_null()
    });
    assert_eq!(killed.len(), 10);
    let doctor = stage.run(&["doctor", "--folder", "fades-node"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    for words in [
        "MISSING broker",
        "given up: it ended 10 times within 10m",
        "signal: 9",
        "fades config reload",
    ] {
        assert!(doctor.out.contains(words), "{words:?}: {}", doctor.out);
    }
    let asked = stage.run(&["resources"]);
    assert!(asked.err.contains("the broker was given up"), "{asked:?}");
    let words = ["submit", "summary", "--kind", "temperature", "--id"];
    let words = |id| [&words[..], &[id]].concat();
    stage.run(&words("patient")).good();
    stage
        .run(&[&words("hasty")[..], &["--finish-within", "1s"]].concat())
        .good();
    let hasty = stage
        .run(&["result", "hasty", "--wait", "-o", "json"])
        .json();
    assert_eq!(hasty["failure"]["kind"], "too-late", "{hasty}");
    assert_eq!(state(&stage, "patient"), "queued");
    assert!(broker(&node).is_none());
    let reload = || stage.run(&["config", "reload"]).good().err;
    assert!(reload().contains("started again: broker"));
    let patient = stage.run(&["result", "patient", "--wait", "-o", "json"]);
    assert_eq!(patient.json()["state"], "done");
    assert!(node_info(&stage)["broker"]["stopped"].is_null());
    assert!(!reload().contains("started again"));
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_node_that_is_told_to_end_lets_what_runs_come_to_its_end() {
    if !can_run("a_node_that_is_told_to_end_lets_what_runs_come_to_its_end") {
        return;
    }
    let (stage, device) = slow_stage("[node]\ndrain = \"1h\"\n");
    let node = stage.node();
    stage.publish(&["summary"]);
    submit_slow(&stage, "runs");
    until("the device is asked", || device.asked() == 1);
    signal(node.pid(), Signal::TERM);
    until("the node says so", || node_info(&stage)["draining"] == true);
    // What is handed in now is accepted, and waits for the next life of the node.
    stage
        .run(&[
            "submit",
            "summary",
            "--kind",
            "temperature",
            "--id",
            "waits",
        ])
        .good();
    assert_eq!(state(&stage, "waits"), "queued");
    assert_eq!(state(&stage, "runs"), "running");
    let doctor = stage.run(&["doctor", "--folder", "fades-node"]).out;
    assert!(doctor.contains("about to end"), "{doctor}");
    device.answers();
    assert_eq!(node.code(), Some(0));
    let node = stage.node();
    assert_eq!(state(&stage, "runs"), "done");
    let waits = stage.run(&["result", "waits", "--wait", "-o", "json"]);
    assert_eq!(waits.json()["state"], "done");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_node_waits_no_longer_than_it_may_and_ends_at_once_when_asked_twice() {
    if !can_run("a_node_waits_no_longer_than_it_may_and_ends_at_once_when_asked_twice") {
        return;
    }
    for (drain, again) in [("300ms", None), ("1h", Some(Signal::INT))] {
        let (stage, device) = slow_stage(&format!("[node]\ndrain = \"{drain}\"\n"));
        let node = stage.node();
        stage.publish(&["summary"]);
        submit_slow(&stage, "runs");
        until("the device is asked", || device.asked() == 1);
        signal(node.pid(), Signal::TERM);
        if let Some(again) = again {
            until("the node says so", || node_info(&stage)["draining"] == true);
            signal(node.pid(), again);
        }
        assert_eq!(node.code(), Some(0));
        device.answers();
        let node = stage.node();
        let runs = stage
            .run(&["result", "runs", "--wait", "-o", "json"])
            .json();
        assert_eq!(runs["state"], "done", "{runs}");
        // The attempt that the operator ended does not count.
        let shown = stage.run(&["ps", "--all", "-o", "json"]).json();
        assert_eq!(shown[0]["attempts"], 1, "{shown}");
        assert_eq!(node.stop(), Some(0));
    }
}

#[test]
fn an_orderly_end_loses_no_reading_that_was_recorded() {
    if !can_run("an_orderly_end_loses_no_reading_that_was_recorded") {
        return;
    }
    let (stage, device) = (Stage::with_node(), Device::new());
    let record = "every = \"1s\"\nrecord = { keep = \"5d\" }";
    stage.write("fades-node/conf.d/slow.toml", device.source(record));
    device.answers();
    for life in 1..4 {
        let node = stage.node();
        let asked = device.asked();
        until("it is asked", || device.asked() > asked);
        assert_eq!(node.stop(), Some(0));
        let gaps = std::fs::read_to_string(stage.folder().join("readings/slow/gaps.jsonl"));
        let gaps = gaps.unwrap_or_default();
        assert!(!gaps.contains("crash"), "life {life}: {gaps}");
        assert_eq!(gaps.contains("ended"), life > 1, "life {life}: {gaps}");
    }
}

/// What a service manager hears, until it hears `last`.
fn hear(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let (mut heard, mut bytes) = (Vec::new(), [0; 1000]);
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "{last:?} is not in {heard:?}");
        let length = socket.recv(&mut bytes).unwrap();
        let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let done = said.contains(last);
        heard.push(said);
        if done {
            return heard;
        }
    }
}

#[test]
fn a_service_manager_is_told_how_the_node_is() {
    if !can_run("a_service_manager_is_told_how_the_node_is") {
        return;
    }
    let (stage, device) = slow_stage("[node]\ndrain = \"100s\"\n");
    let path = stage.home().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let patience = Path::new("600000");
    let variables = [
        ("NOTIFY_SOCKET", path.as_path()),
        ("WATCHDOG_USEC", patience),
    ];
    let (node, log) = stage.node_logged(&[], &variables).unwrap();
    let first = hear(&socket, "READY=1");
    assert!(first.last().unwrap().contains("STATUS=takes tasks"));
    // Nothing happens, and the driver says that it works all the same.
    for _ in 0..3 {
        hear(&socket, "WATCHDOG=1");
    }
    // A reload, by the signal that the manager sends, and a bad one.
    signal(node.pid(), Signal::HUP);
    let said = hear(&socket, "RELOADING=1\nMONOTONIC_USEC=");
    assert!(!said.iter().any(|s| s.contains("READY")));
    assert!(
        hear(&socket, "READY=1")
            .last()
            .unwrap()
            .contains("read anew")
    );
    stage.write("fades-node/conf.d/bad.toml", "[node]\nparallel = 0\n");
    signal(node.pid(), Signal::HUP);
    hear(&socket, "RELOADING=1");
    let wrong = hear(&socket, "READY=1");
    assert!(wrong.last().unwrap().contains("the old one holds"));
    std::fs::remove_file(stage.folder().join("conf.d/bad.toml")).unwrap();
    stage.publish(&["summary"]);
    submit_slow(&stage, "runs");
    until("the device is asked", || device.asked() == 1);
    signal(node.pid(), Signal::TERM);
    let said = hear(&socket, "STOPPING=1");
    let last = said.last().unwrap();
    assert!(last.contains("EXTEND_TIMEOUT_USEC=110000000"), "{last}");
    // As long as tasks run out, the driver is watched.
    hear(&socket, "WATCHDOG=1");
    device.answers();
    assert_eq!(node.code(), Some(0));
    assert!(log.join().unwrap().contains("goes on as it was"));
}

#[test]
fn a_process_that_is_not_meant_by_the_watchdog_is_silent() {
    if !can_run("a_process_that_is_not_meant_by_the_watchdog_is_silent") {
        return;
    }
    let stage = Stage::with_node();
    let path = stage.home().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.as_path()),
        ("WATCHDOG_USEC", Path::new("3000")),
        ("WATCHDOG_PID", Path::new("1")),
    ];
    let (node, _) = stage.node_logged(&[], &variables).unwrap();
    assert_eq!(node.stop(), Some(0));
    let said = hear(&socket, "STOPPING=1");
    assert!(!said.iter().any(|s| s.contains("WATCHDOG")), "{said:?}");
    // Where nobody listens, the node runs all the same, and says so.
    let nowhere = [("NOTIFY_SOCKET", Path::new("/nowhere/notify"))];
    let (node, log) = stage.node_logged(&[], &nowhere).unwrap();
    assert_eq!(node.stop(), Some(0));
    assert!(log.join().unwrap().contains("NOTIFY_SOCKET"));
}
