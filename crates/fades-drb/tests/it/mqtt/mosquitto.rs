//! A real MQTT broker, somebody who publishes, and a line between that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::broker::PATIENCE;

pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
    lines: String,
    child: Option<Child>,
}

/// Whether a program is there; says so when it is not.
pub(crate) fn is_there(program: &str, package: &str, test: &str) -> bool {
    let found = Command::new(program)
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        println!("SKIPPED: {test}: no {program}; apt-get install {package}");
    }
    found.is_ok()
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Mosquitto {
    /// A broker that is not started yet; `None` when there is none.
    pub(crate) fn prepare(test: &str) -> Option<Self> {
        is_there("mosquitto", "mosquitto", test).then(|| Self {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            lines: "allow_anonymous true\n".to_owned(),
            child: None,
        })
    }

    pub(crate) fn start(test: &str) -> Option<Self> {
        let mut mosquitto = Self::prepare(test)?;
        mosquitto.run();
        Some(mosquitto)
    }

    /// Other lines of its configuration, below its listener.
    pub(crate) fn configured(mut self, lines: &str) -> Self {
        self.lines = lines.to_owned();
        self.run();
        self
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn run(&mut self) {
        let configuration = format!(
            "listener {} 127.0.0.1\nuser root\nmax_queued_messages 0\nmax_inflight_messages 100\n{}\n",
            self.port, self.lines
        );
        let file = self.path("m.conf");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new("mosquitto")
            .args(["-c", &file])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            let _ = child.wait();
        }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::connect(self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Publishes by hand, as fast as it is asked to.
pub(crate) struct Publisher {
    stream: TcpStream,
    id: u16,
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text);
}

fn packet(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    let mut left = body.len();
    while left > 127 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
    out.extend(body);
}

impl Publisher {
    pub(crate) fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut body, mut bytes) = (Vec::new(), Vec::new());
        text(&mut body, b"MQTT");
        body.extend([4, 2, 0, 0]);
        text(
            &mut body,
            format!("publisher-{port}-{}", free_port()).as_bytes(),
        );
        packet(&mut bytes, 0x10, &body);
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
        Self { stream, id: 0 }
    }

    /// One message; `kind`: 0 plain, 1 retained, 2 at least once.
    fn message(&mut self, out: &mut Vec<u8>, topic: &str, payload: &[u8], kind: u8) {
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        if kind == 2 {
            self.id = self.id.checked_add(1).unwrap_or(1);
            body.extend(self.id.to_be_bytes());
        }
        body.extend(payload);
        packet(out, 0x30 | kind, &body);
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send(topic, payload.as_ref(), 0);
    }

    pub(crate) fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send(topic, payload.as_ref(), 1);
    }

    /// At least once, waiting until the broker has it.
    pub(crate) fn surely(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send(topic, payload.as_ref(), 2);
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], 0x40);
    }

    fn send(&mut self, topic: &str, payload: &[u8], kind: u8) {
        let mut bytes = Vec::new();
        self.message(&mut bytes, topic, payload, kind);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Many messages at once.
    pub(crate) fn flood(&mut self, messages: impl Iterator<Item = (String, String)>) {
        let mut bytes = Vec::new();
        for (topic, payload) in messages {
            self.message(&mut bytes, &topic, payload.as_bytes(), 0);
            if bytes.len() > 64 << 10 {
                self.stream.write_all(&bytes).unwrap();
                bytes.clear();
            }
        }
        self.stream.write_all(&bytes).unwrap();
    }
}

/// A line to a port, which can be cut and mended.
pub(crate) struct Line {
    pub(crate) port: u16,
    whole: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            whole: Arc::new(AtomicBool::new(true)),
            streams: Arc::default(),
        };
        let (whole, streams) = (Arc::clone(&line.whole), Arc::clone(&line.streams));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                if !whole.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        line
    }

    pub(crate) fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}

/// Certificates: of an authority, of a server for `name`, of a client.
pub(crate) fn certificates(folder: &Path, name: &str) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        format!("authority of {}", folder.display()),
    );
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    for (file, name) in [("server", name), ("client", "node")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(&format!("{file}.pem"), certificate.pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}
