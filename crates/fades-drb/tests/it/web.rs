//! A small HTTP server that behaves as a test wants, also badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A question as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path with what follows `?`.
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, or of a form its field `q`.
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) enum Reply {
    /// 200 with this body.
    Body(Vec<u8>),
    /// Another status, with headers.
    Status(u16, Vec<(String, String)>, Vec<u8>),
    /// This much of a longer body, and then the end of the connection.
    Cut(Vec<u8>),
    /// A body that begins so, and goes on with the second part until nobody
    /// listens.
    Endless(Vec<u8>, Vec<u8>),
    /// The head and this, then nothing.
    Stall(Vec<u8>),
    /// Nothing at all.
    Silent,
    /// These bytes, head and all.
    Raw(Vec<u8>),
    /// These bytes, head and all, and then one blank after the other, so long apart.
    Drip(Vec<u8>, Duration),
}

impl Reply {
    pub(crate) fn json(value: serde_json::Value) -> Self {
        Self::Body(value.to_string().into_bytes())
    }
}

pub(crate) struct Web {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<u32>>,
    over: Arc<AtomicBool>,
}

impl Web {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let web = Self {
            url,
            asked: Arc::default(),
            connections: Arc::default(),
            over: Arc::default(),
        };
        let (asked, over, answer) = (
            Arc::clone(&web.asked),
            Arc::clone(&web.over),
            Arc::new(answer),
        );
        let connections = Arc::clone(&web.connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                *connections.lock().unwrap() += 1;
                let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream.unwrap(), &asked, &over, &*answer));
            }
        });
        web
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> u32 {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    over: &AtomicBool,
    answer: &dyn Fn(&Asked) -> Reply,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(asked) = read(&mut reader) {
        log.lock().unwrap().push(asked.clone());
        match answer(&asked) {
            Reply::Body(body) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if writer
                    .write_all(&[head.as_bytes(), &body].concat())
                    .is_err()
                {
                    return;
                }
            }
            Reply::Status(status, headers, body) => {
                let headers: String = headers
                    .iter()
                    .map(|(n, v)| format!("{n}: {v}\r\n"))
                    .collect();
                let length = if status == 304 {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let head = format!("HTTP/1.1 {status} So\r\n{length}{headers}\r\n");
                let _ = writer.write_all(&[head.as_bytes(), &body].concat());
            }
            Reply::Cut(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    body.len() + 100
                );
                let _ = writer.write_all(&[head.as_bytes(), &body].concat());
                return;
            }
            Reply::Endless(begin, more) => {
                let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                let _ = writer.write_all(&begin);
                while !over.load(Ordering::Relaxed) && writer.write_all(&more).is_ok() {}
                return;
            }
            Reply::Stall(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    body.len() + 100
                );
                let _ = writer.write_all(&[head.as_bytes(), &body].concat());
                wait(&mut reader, over);
                return;
            }
            Reply::Silent => {
                wait(&mut reader, over);
                return;
            }
            Reply::Raw(bytes) => {
                let _ = writer.write_all(&bytes);
            }
            Reply::Drip(bytes, apart) => {
                let _ = writer.write_all(&bytes);
                while !over.load(Ordering::Relaxed) && writer.write_all(b" ").is_ok() {
                    std::thread::sleep(apart);
                }
                return;
            }
        }
    }
}

/// Waits until the other side closes.
fn wait(reader: &mut BufReader<TcpStream>, over: &AtomicBool) {
    let stream = reader.get_ref();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut byte = [0];
    while !over.load(Ordering::Relaxed) {
        match reader.read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return,
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        path,
        headers,
        body: String::new(),
    };
    let length = asked
        .header("content-length")
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).unwrap();
    if let Some((_, q)) = asked.body.split_once("&q=") {
        asked.body = decoded(q);
    }
    Some(asked)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).unwrap()
}
