//! Tasks out of inboxes and answers to destinations, with a real courier.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{Stage, can_run, children, signal, until};

/// What was posted: the whole body.
fn posted(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// A receiver at `address`; each body is sent on before it is acknowledged.
fn receiver(address: SocketAddr) -> (Receiver<Vec<u8>>, SocketAddr) {
    let (bodies, received): (Sender<Vec<u8>>, _) = channel();
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let Some(body) = posted(&mut stream) else {
                continue;
            };
            if bodies.send(body).is_err() {
                return;
            }
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            // Whoever posted may be gone by now.
            let _ = stream.write_all(answer);
        }
    });
    (received, address)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn outbox(stage: &Stage) -> Value {
    stage.run(&["outbox", "-o", "json"]).json()
}

#[test]
fn a_task_comes_out_of_a_folder_and_its_answer_goes_into_another() {
    let test = "a_task_comes_out_of_a_folder_and_its_answer_goes_into_another";
    if !can_run(test) {
        return;
    }
    let stage = Stage::with_node();
    let (post, city) = (stage.folder().join("post"), stage.folder().join("city"));
    std::fs::create_dir(&post).unwrap();
    std::fs::create_dir(&city).unwrap();
    let places = "[inbox.post]\nfolder = \"post\"\n[destination.city]\nfolder = \"city\"\n";
    stage.write("fades-node/conf.d/places.toml", places);
    let node = stage.node();
    stage.publish(&["summary"]);
    stage
        .run(&[
            "submit",
            "summary",
            "--kind",
            "temperature",
            "--deliver",
            "city",
            "--save",
            "task.toml",
            "--dry-run",
        ])
        .good();
    stage
        .run(&[
            "sign",
            "task.toml",
            "--to",
            "warm.dsse",
            "--key",
            "fades-node/keys/development-ask.key",
        ])
        .good();
    for (name, content) in [
        (
            "warm",
            std::fs::read(stage.home().join("warm.dsse")).unwrap(),
        ),
        ("noise", b"{}".to_vec()),
    ] {
        let unfinished = post.join(format!("{name}.tmp"));
        std::fs::write(&unfinished, content).unwrap();
        std::fs::rename(unfinished, post.join(format!("{name}.json"))).unwrap();
    }
    until("the task is taken", || {
        post.join("taken/warm.json").exists()
    });
    until("the noise is refused", || {
        post.join("refused/noise.problem.json").exists()
    });
    assert_eq!(
        read(&post.join("refused/noise.problem.json"))["problem"],
        "malformed"
    );
    // A saved task is a new one each time that it is signed.
    let id = stage.run(&["ps", "-o", "json"]).json()[0]["id"].clone();
    let id = id.as_str().unwrap();
    let answer = format!("{id}.json");
    let (there, back) = (city.join(&answer), post.join("answers").join(&answer));
    until("the answer is there", || there.exists() && back.exists());
    assert_eq!(
        std::fs::read(&there).unwrap(),
        std::fs::read(&back).unwrap()
    );
    let event = read(&there);
    assert_eq!(
        (&event["type"], &event["source"]),
        (&"fades.answer".into(), &"/fades/here".into())
    );
    let result = stage.run(&["result", id, "-o", "json"]).json();
    assert_eq!(event["data"], result);
    until("both are counted", || {
        let receivers = outbox(&stage)["receivers"].clone();
        let receivers = receivers.as_array().unwrap();
        receivers.len() == 2
            && receivers
                .iter()
                .all(|r| r["delivered"] == 1 && r["waiting"] == 0)
    });
    stage.run(&["outbox"]).good();
    stage
        .run(&[
            "submit",
            "summary",
            "--kind",
            "temperature",
            "--deliver",
            "port",
        ])
        .said(1, &["no destination port", "it has city"]);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn answers_wait_for_a_receiver_that_is_away_and_outlive_node_and_courier() {
    let test = "answers_wait_for_a_receiver_that_is_away_and_outlive_node_and_courier";
    if !can_run(test) {
        return;
    }
    let stage = Stage::with_node();
    // A port at which nobody listens, for now.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let places = format!("[destination.city]\nurl = \"http://{address}/air\"\n");
    stage.write("fades-node/conf.d/places.toml", places);
    let node = stage.node();
    stage.publish(&["summary"]);
    let ids: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    for id in &ids {
        let words = [
            "summary",
            "--id",
            id,
            "--kind",
            "temperature",
            "--deliver",
            "city",
        ];
        assert_eq!(stage.ask(&words)["state"], "done");
    }
    until("all wait, and the reason is told", || {
        let city = outbox(&stage)["receivers"][0].clone();
        city["waiting"] == 6
            && city["error"]
                .as_str()
                .is_some_and(|e| e.contains("nothing listens"))
    });
    stage.run(&["outbox"]).said(1, &[]);
    node.kill();
    let node = stage.node();
    assert_eq!(outbox(&stage)["receivers"][0]["waiting"], 6);
    let (received, _) = receiver(address);
    let first = received
        .recv_timeout(std::time::Duration::from_secs(60))
        .unwrap();
    let courier = children(node.pid())
        .into_iter()
        .find(|(_, line)| line.contains("courier"));
    signal(courier.unwrap().0, Signal::KILL);
    until("nothing waits any more", || {
        let city = outbox(&stage)["receivers"][0].clone();
        city["waiting"] == 0 && city["delivered"] == 6 && city["lost"] == 0
    });
    assert_eq!(node.stop(), Some(0));
    let mut events: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for body in std::iter::once(first).chain(received.try_iter()) {
        let event: Value = serde_json::from_slice(&body).unwrap();
        let id = event["id"].as_str().unwrap().to_owned();
        let before = events.insert(id, body.clone());
        assert!(
            before.is_none_or(|before| before == body),
            "the same bytes each time"
        );
    }
    assert_eq!(events.into_keys().collect::<Vec<_>>(), ids);
}
