//! Long answers of many addresses at once.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use super::now;
use crate::broker::{Broker, sources};
use crate::web::{Reply, Web};

/// Answers that wait for their last bytes: now, at most, and ever.
#[derive(Debug, Default)]
struct Held {
    now: usize,
    most: usize,
    all: usize,
}

/// Sends long answers but for their last bytes, which come once it is known how many
/// were read that far at the same time.
fn held_back(many: usize) -> (u16, Arc<Mutex<Held>>) {
    /// More than fits into the sockets' buffers.
    const LENGTH: usize = 15 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (read, changed) = (Arc::new(Mutex::new(Held::default())), Condvar::new());
    let found = Arc::clone(&read);
    let serve = move |mut stream: TcpStream| {
        let mut asked = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while asked.read_line(&mut line)? > 2 {
            line.clear();
        }
        let end = "\",\"data\":[{\"t\":1}]}";
        let length = LENGTH + end.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{{\"x\":\""
        )?;
        stream.write_all(&vec![b'x'; LENGTH - 6])?;
        let mut held = read.lock().unwrap();
        held.now += 1;
        held.all += 1;
        held.most = held.most.max(held.now);
        changed.notify_all();
        // Either there is one too many, or in this time there was none.
        let patience = Duration::from_secs(1);
        let waited = changed.wait_timeout_while(held, patience, |held| held.now < many);
        waited.unwrap().0.now -= 1;
        stream.write_all(end.as_bytes())
    };
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    (port, found)
}

#[test]
fn four_long_answers_are_read_at_a_time_and_the_others_after_them() {
    let (port, read) = held_back(5);
    let short = Web::start(|_| Reply::json(json!({ "data": [{ "t": 1 }] })));
    let source = |name: &str, url: &str| {
        format!(
            "[source.{name}]\ntype = \"http\"\nurl = \"{url}/{{device}}\"\n\
             ask = [\"{name}1\", \"{name}2\", \"{name}3\", \"{name}4\"]\n\
             items = \"/data\"\nvalue = {{ t = \"/t\" }}\ntimeout = \"20s\"\n"
        )
    };
    let long = format!("http://127.0.0.1:{port}");
    // The places are those of all sources together.
    let tables = [
        source("a", &long),
        source("b", &long),
        source("short", &short.url),
    ];
    let broker = Broker::start(&sources(&tables.concat()), "/".as_ref());
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!((ended.good().answered, totals.rows), (12, 12));
    let held = read.lock().unwrap();
    assert_eq!((held.most, held.all), (4, 8), "{held:?}");
}
