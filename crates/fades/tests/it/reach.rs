//! What the broker of a node can reach: connections come from the node.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{Node, Stage, can_run, children, signal, until};

/// A server that answers every question alike, and counts them.
struct Web {
    port: u16,
    asked: Arc<AtomicU32>,
}

impl Web {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<AtomicU32>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || answer(stream.unwrap()));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Whoever asks may leave.
fn answer(stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    while !lines.next()?.ok()?.is_empty() {}
    let body = "{\"v\": 21.5}";
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

fn stage(sources: &[(&str, u16)]) -> Stage {
    let stage = Stage::with_node();
    let mut config = "[node]\nname = \"here\"\nmemory = \"64MiB\"\n".to_owned();
    for (name, port) in sources {
        config += &format!(
            "[source.{name}]\ntype = \"http\"\nurl = \"http://localhost:{port}/now\"\n\
             device = \"{name}\"\nkind = \"t\"\nvalue = \"/v\"\n"
        );
    }
    stage.write("fades-node/node.toml", config);
    stage
}

fn broker(node: &Node) -> u32 {
    let brokers = children(node.pid()).into_iter();
    let mut brokers = brokers.filter(|(_, line)| line.contains(" broker "));
    brokers.next().expect("there is one").0
}

fn finding(stage: &Stage, what: &str) -> Value {
    let findings = stage
        .run(&["doctor", "--folder", "fades-node", "-o", "json"])
        .json();
    let mut findings = findings.as_array().unwrap().iter();
    findings.find(|f| f["what"] == what).unwrap().clone()
}

#[test]
fn the_node_connects_its_broker_which_has_no_network() {
    if !can_run("the_node_connects_its_broker_which_has_no_network") {
        return;
    }
    let web = Web::start(0);
    let stage = stage(&[("web", web.port)]);
    let node = stage.node();
    let said = stage.run(&["source", "test", "web"]).good().out;
    assert!(said.contains("21.5"), "{said}");
    assert!(web.asked() > 0);
    for what in ["network", "files", "TCP ports", "system calls"] {
        let found = finding(&stage, what);
        assert!(
            found["grade"] == "good" || !found["remedy"].is_null(),
            "{found}"
        );
    }
    let network = finding(&stage, "network");
    if network["grade"] != "good" {
        crate::stage::skipped("a network of the broker's own", &network.to_string());
        return;
    }
    let detail = network["detail"].as_str().unwrap();
    assert!(detail.contains("the one address"), "{detail}");
    let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(of(node.pid()), of(broker(&node)));
    assert_eq!(of(node.pid()), of(std::process::id()));
}

#[test]
fn a_broker_that_is_started_again_is_connected_again() {
    if !can_run("a_broker_that_is_started_again_is_connected_again") {
        return;
    }
    // A port that nobody has yet.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let stage = stage(&[("web", port)]);
    let node = stage.node();
    let tested = || stage.run(&["source", "test", "web", "-o", "json"]);
    let said = tested();
    assert!(said.out.contains("nothing listens at"), "{said:?}");
    let _web = Web::start(port);
    let works = || {
        let said = tested();
        said.code == 0 && said.json()["coverage"]["answered"] == 1
    };
    until("the server that came later is reached", works);
    let first = broker(&node);
    signal(first, Signal::KILL);
    until("another broker is there", || {
        children(node.pid())
            .iter()
            .any(|(pid, line)| *pid != first && line.contains(" broker "))
    });
    until("it is connected", works);
}
