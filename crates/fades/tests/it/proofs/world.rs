//! The world around a node: a server that is an inbox, a destination and a device,
//! and remembers everything that it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::client::head_of;
use crate::stage::LONG;

/// One of so many deliveries is heard and not acknowledged.
const UNACKNOWLEDGED: usize = 83;

/// Bodies by the event that they are about, in the order in which they came.
pub(crate) type Heard = BTreeMap<String, Vec<Vec<u8>>>;

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What was brought to the destination, and to the inbox.
    pub(crate) delivered: Heard,
    pub(crate) returned: Heard,
    /// Events that came to the destination, in the order in which they came first.
    pub(crate) order: Vec<String>,
    deliveries: usize,
    /// Letters without a verdict, by number.
    letters: BTreeMap<u64, (String, Value)>,
    posted: u64,
    /// Who waits for letters.
    pub(crate) waiting: usize,
    /// Tasks of letters that were taken; letters that were refused.
    pub(crate) taken: BTreeSet<String>,
    pub(crate) refused: BTreeSet<String>,
    /// Devices that answer.
    open: BTreeSet<usize>,
    asked: usize,
    /// The next delivery is heard and then held, and the one that is.
    hold: bool,
    held: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Waits until something is so; whether it came to be within the time.
    fn wait(&self, within: Duration, so: impl Fn(&Known) -> bool) -> bool {
        let known = self.known();
        let waited = self.changed.wait_timeout_while(known, within, |k| !so(k));
        !waited.unwrap().1.timed_out()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let changed = change(&mut self.known());
        self.changed.notify_all();
        changed
    }
}

/// A server on a port of its own.
#[derive(Debug)]
pub(crate) struct World {
    shared: Arc<Shared>,
    /// Its address, as a URL without a path.
    pub(crate) at: String,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        Self::serve(listener, "http", serve)
    }

    /// With a certificate.
    pub(crate) fn secure(listener: TcpListener, tls: Arc<ServerConfig>) -> Self {
        Self::serve(listener, "https", move |stream, shared| {
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            serve(StreamOwned::new(connection, stream), shared)
        })
    }

    fn serve(
        listener: TcpListener,
        scheme: &str,
        serve: impl Fn(TcpStream, &Shared) -> Option<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (shared, serve) = (Arc::<Shared>::default(), Arc::new(serve));
        let world = Self {
            shared: Arc::clone(&shared),
            at: format!("{scheme}://{address}"),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        world
    }

    /// Inbox `post`, destination `city`, and a source for each of some devices, which
    /// answer once they may.
    pub(crate) fn tables(&self, devices: usize) -> String {
        let at = &self.at;
        let mut tables = format!(
            "[inbox.post]\nurl = \"{at}/inbox\"\nwait = \"5s\"\n\
             [destination.city]\nurl = \"{at}/air\"\n"
        );
        for n in 0..devices {
            let name = Self::device(n);
            tables += &format!(
                "[source.{name}]\ntype = \"http\"\nurl = \"{at}/device/{n}\"\nformat = \"number\"\n\
                 device = \"{name}\"\nkind = \"pressure\"\ntimeout = \"60s\"\n"
            );
        }
        tables
    }

    /// Name of a device's source.
    pub(crate) fn device(n: usize) -> String {
        format!("slow-{n}")
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known()
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, so: impl Fn(&Known) -> bool) {
        assert!(self.shared.wait(LONG, so), "waited in vain: {what}");
    }

    /// Puts a signed task into the inbox; `name` is for the refused ones.
    pub(crate) fn post(&self, name: &str, envelope: &str) {
        let envelope = serde_json::from_str(envelope).unwrap();
        self.shared.change(|known| {
            known.posted += 1;
            let letter = (name.to_owned(), envelope);
            known.letters.insert(known.posted, letter);
        });
    }

    /// Every letter has a verdict.
    pub(crate) fn wait_for_verdicts(&self) {
        self.wait("all letters have a verdict", |k| k.letters.is_empty());
    }

    /// How often devices were asked.
    pub(crate) fn asked(&self) -> usize {
        self.known().asked
    }

    pub(crate) fn wait_until_asked(&self, more_than: usize) {
        self.wait("a device is asked", |k| k.asked > more_than);
    }

    /// Whether a device answers.
    pub(crate) fn open(&self, device: usize, open: bool) {
        self.shared.change(|known| match open {
            true => known.open.insert(device),
            false => known.open.remove(&device),
        });
    }

    /// Hears the next delivery and does not acknowledge it; gives its event.
    pub(crate) fn hold(&self) -> String {
        self.shared.change(|known| known.hold = true);
        self.wait("a delivery is held", |k| k.held.is_some());
        self.known().held.clone().unwrap()
    }

    pub(crate) fn let_go(&self) {
        self.shared.change(|known| known.held = None);
    }
}

/// Answers on one connection until it ends, or is to be cut.
fn serve(stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (head, length) = head_of(&mut stream).ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let said = answer(shared, method, path, body)?;
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n",
            if said.is_empty() { 204 } else { 200 },
            said.len()
        );
        let answer = [head.as_bytes(), said.as_bytes()].concat();
        stream.get_mut().write_all(&answer).ok()?;
        stream.get_mut().flush().ok()?;
    }
}

/// What is answered; `None`: the connection is cut.
fn answer(shared: &Shared, method: &str, path: &str, body: Vec<u8>) -> Option<String> {
    match (method, path.split('?').next()?) {
        ("GET", "/inbox") => Some(letters(shared)),
        ("POST", "/inbox/verdicts") => {
            let said: Value = serde_json::from_slice(&body).ok()?;
            shared.change(|known| told(known, &said));
            Some(String::new())
        }
        ("POST", "/inbox/answers") => {
            shared.change(|known| hear(&mut known.returned, body));
            Some(String::new())
        }
        ("POST", "/air") => deliver(shared, body),
        ("GET", path) => {
            let device = path.strip_prefix("/device/")?.parse().ok()?;
            shared.change(|known| known.asked += 1);
            shared.wait(LONG, |known| known.open.contains(&device));
            Some("21.5".to_owned())
        }
        other => panic!("nobody should ask this: {other:?}"),
    }
}

/// The next letters, which are waited for.
fn letters(shared: &Shared) -> String {
    shared.change(|known| known.waiting += 1);
    shared.wait(Duration::from_secs(4), |known| !known.letters.is_empty());
    shared.change(|known| known.waiting -= 1);
    let known = shared.known();
    let letter = |(id, (_, envelope)): (&u64, &(String, Value))| json!({"id": id.to_string(), "envelope": envelope});
    let letters: Vec<Value> = known.letters.iter().take(16).map(letter).collect();
    match letters.is_empty() {
        true => String::new(),
        false => json!({ "letters": letters }).to_string(),
    }
}

fn told(known: &mut Known, said: &Value) {
    for verdict in said["verdicts"].as_array().unwrap() {
        let id = verdict["id"].as_str().unwrap().parse().unwrap();
        // The verdict may have been told before.
        let Some((name, _)) = known.letters.remove(&id) else {
            continue;
        };
        match verdict["task"].as_str() {
            Some(task) => known.taken.insert(task.to_owned()),
            None => known.refused.insert(name),
        };
    }
}

fn hear(heard: &mut Heard, body: Vec<u8>) -> String {
    let event: Value = serde_json::from_slice(&body).unwrap();
    let id = event["id"].as_str().unwrap().to_owned();
    heard.entry(id.clone()).or_default().push(body);
    id
}

/// Everything is heard; not everything is acknowledged.
fn deliver(shared: &Shared, body: Vec<u8>) -> Option<String> {
    let (acknowledged, held) = shared.change(|known| {
        let id = hear(&mut known.delivered, body);
        if known.delivered[&id].len() == 1 {
            known.order.push(id.clone());
        }
        known.deliveries += 1;
        let held = std::mem::take(&mut known.hold);
        if held {
            known.held = Some(id);
        }
        (known.deliveries % UNACKNOWLEDGED != 0, held)
    });
    if held {
        shared.wait(LONG, |known| known.held.is_none());
        return None;
    }
    acknowledged.then(String::new)
}

/// A small generator, so that a failure can be repeated.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// How long something took, for the last line of a proof.
pub(crate) fn since(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}
