//! A client of the node's API that outlives the node.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::{LONG, Stage};

/// A connection that is kept, and made again when it broke.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Client {
    pub(crate) fn new(stage: &Stage) -> Self {
        let socket = stage.folder().join("node.sock");
        Self {
            socket,
            stream: None,
        }
    }

    /// Waits until somebody listens.
    fn connected(&mut self) -> &mut BufReader<UnixStream> {
        let deadline = Instant::now() + LONG;
        let socket = &self.socket;
        self.stream.get_or_insert_with(|| {
            loop {
                match UnixStream::connect(socket) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(LONG)).unwrap();
                        return BufReader::new(stream);
                    }
                    Err(e) => assert!(Instant::now() < deadline, "nobody listens: {e}"),
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }

    /// One question; an error means that nobody knows whether it was heard.
    pub(crate) fn ask(&mut self, what: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let answered = exchange(self.connected(), what, body);
        if answered.is_err() {
            self.stream = None;
        }
        answered
    }

    /// What is said of a path by a node that is up.
    pub(crate) fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.ask(&format!("GET {path}"), b"").unwrap();
        let said = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{path}: {said}");
        serde_json::from_str(&said).unwrap()
    }
}

fn exchange(
    stream: &mut BufReader<UnixStream>,
    what: &str,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    let length = body.len();
    let head = format!("{what} HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\n\r\n");
    stream
        .get_mut()
        .write_all(&[head.as_bytes(), body].concat())?;
    let (head, length) = head_of(stream)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
}

/// The first line of a message of HTTP, and how long its body is.
pub(crate) fn head_of(stream: &mut impl BufRead) -> io::Result<(String, usize)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((first, length));
        }
        let lower = line.to_ascii_lowercase();
        if first.is_empty() {
            line.clone_into(&mut first);
        } else if let Some(value) = lower.strip_prefix("content-length:") {
            length = value
                .trim()
                .parse()
                .map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
}
