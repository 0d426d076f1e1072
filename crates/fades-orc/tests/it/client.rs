//! A small HTTP client over a Unix socket or TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::certificates::Shown;
use crate::contract;

/// Everything that is waited for arrives within this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    /// Of the header `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts a problem with this status whose detail has these words.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, words: &str) {
        let body: Value = self.json();
        let detail = body["detail"].as_str().unwrap_or_default();
        assert_eq!(self.status, status, "{body}");
        assert_eq!(self.kind, "application/problem+json");
        assert_eq!(body["status"], status);
        assert!(detail.contains(words), "{detail:?} lacks {words:?}");
    }
}

fn exchange(mut stream: impl Read + Write, head: &str, body: &[u8]) -> std::io::Result<Answer> {
    stream.write_all(head.as_bytes())?;
    // A node may refuse before it has read everything.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(read
            .err()
            .unwrap_or(std::io::ErrorKind::UnexpectedEof.into()));
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let kind = head.lines().find_map(|l| l.strip_prefix("content-type: "));
    let retry_after = head.lines().find_map(|l| l.strip_prefix("retry-after: "));
    Ok(Answer {
        status: status.unwrap_or(0),
        kind: kind.unwrap_or_default().to_owned(),
        retry_after: retry_after.map(|s| s.parse().unwrap()),
        body: bytes[end + 4..].to_vec(),
    })
}

fn head(method: &str, path: &str, authorization: Option<&str>, length: usize) -> String {
    let authorization = authorization.map_or(String::new(), |a| format!("Authorization: {a}\r\n"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n"
    )
}

pub(crate) fn over_socket(
    socket: &Path,
    (method, path): (&str, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> std::io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let answer = exchange(stream, &head(method, path, authorization, body.len()), body)?;
    contract::holds((method, path), &answer);
    Ok(answer)
}

/// Over TLS with a client's certificate; an error says what TLS said.
pub(crate) fn over_tls(
    address: SocketAddr,
    shown: &Shown,
    (method, path): (&str, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> std::io::Result<Answer> {
    let stream = shown.connect(address)?;
    let answer = exchange(stream, &head(method, path, authorization, body.len()), body)?;
    contract::holds((method, path), &answer);
    Ok(answer)
}

/// A connection that is kept.
pub(crate) struct Kept(BufReader<UnixStream>);

impl Kept {
    pub(crate) fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.try_ask(method, path, body).unwrap()
    }

    pub(crate) fn try_ask(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> std::io::Result<(u16, Vec<u8>)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request)?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, body))
    }
}

/// A server-sent event.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream of events.
pub(crate) struct Stream(BufReader<UnixStream>);

impl Stream {
    /// `headers` end with line breaks. The older protocol has no chunks.
    pub(crate) fn open(socket: &Path, path: &str, headers: &str) -> Result<Self, String> {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nHost: node\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut this = Self(BufReader::new(stream));
        let status = this.line().unwrap();
        let mut kind = String::new();
        while let Some(line) = this.line().filter(|l| !l.is_empty()) {
            if let Some(value) = line.to_lowercase().strip_prefix("content-type: ") {
                kind = value.to_owned();
            }
        }
        if !status.contains(" 200 ") {
            let mut rest = String::new();
            this.0.read_to_string(&mut rest).unwrap();
            return Err(format!("{status} {rest}"));
        }
        assert_eq!(kind, "text/event-stream");
        Ok(this)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; none when the stream has ended.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Told> {
        let mut told = Told::default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line()?;
            // Comments come for ever.
            assert!(Instant::now() < deadline, "no event came");
            match line.split_once(": ") {
                Some(("id", id)) => told.id = id.to_owned(),
                Some(("event", name)) => told.name = name.to_owned(),
                Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && !told.name.is_empty() => {
                    contract::tells(&told);
                    return Some(told);
                }
                _ => {}
            }
        }
    }

    /// The next event of this name; others are skipped.
    #[track_caller]
    pub(crate) fn next_of(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().unwrap_or_else(|| panic!("no event {name}"));
            if told.name == name {
                return told;
            }
        }
    }

    pub(crate) fn rest(mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
