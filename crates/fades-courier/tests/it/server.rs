//! A server of HTTP(S) that does what a test wants, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::node::PATIENCE;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method and path.
    pub(crate) what: String,
    /// In small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A status, further headers, a body.
    Say(u16, &'static str, Vec<u8>),
    /// The same, after a while.
    Later(Duration, u16),
    /// These bytes, and the end.
    Raw(Vec<u8>),
    /// A head and then bytes without end.
    Endless(u16),
}

pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    scheme: &'static str,
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Reply {
    Reply::Say(200, "", body.as_ref().to_vec())
}

pub(crate) fn status(status: u16) -> Reply {
    Reply::Say(status, "", Vec::new())
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn is(&self, begin: &str) -> bool {
        self.what.starts_with(begin)
    }
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, Arc::new(handler))
    }

    /// With the certificate in `folder`; asks for one of the same authority.
    pub(crate) fn secure(
        folder: &Path,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(config(folder)), Arc::new(handler))
    }

    fn serve(tls: Option<Arc<ServerConfig>>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            scheme: if tls.is_some() { "https" } else { "http" },
        };
        let seen = Arc::clone(&server.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, handler, tls) = (Arc::clone(&seen), Arc::clone(&handler), tls.clone());
                std::thread::spawn(move || match tls {
                    None => answer(stream, &seen, &handler),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        answer(StreamOwned::new(connection, stream), &seen, &handler);
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }

    /// What was asked with this beginning, once there are `count` of them.
    pub(crate) fn asked(&self, begin: &str, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen().clone();
            let meant: Vec<Seen> = seen.into_iter().filter(|s| s.is(begin)).collect();
            if meant.len() >= count {
                return meant;
            }
            assert!(Instant::now() < deadline, "{begin}: {meant:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn config(folder: &Path) -> Arc<ServerConfig> {
    let certificate = |file: &str| CertificateDer::from_pem_file(folder.join(file)).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate("server.pem")],
            PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

/// Answers on one connection until it ends.
fn answer(mut stream: impl Stream, seen: &Mutex<Vec<Seen>>, handler: &Handler) {
    while let Some(request) = receive(&mut stream) {
        seen.lock().unwrap().push(request.clone());
        let kept = match handler(&request) {
            Reply::Say(status, headers, body) => say(&mut stream, status, headers, &body),
            Reply::Later(wait, status) => {
                std::thread::sleep(wait);
                say(&mut stream, status, "", b"")
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.flush();
                return;
            }
            Reply::Endless(status) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
                return;
            }
        };
        if !kept {
            return;
        }
    }
}

fn say(stream: &mut impl Stream, status: u16, headers: &str, body: &[u8]) -> bool {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).is_ok()
        && stream.write_all(body).is_ok()
        && stream.flush().is_ok()
}

fn receive(stream: &mut impl Stream) -> Option<Seen> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let what = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|l| l.split_once(": "));
    let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let mut seen = Seen {
        what,
        headers: headers.collect(),
        body: Vec::new(),
        at: Instant::now(),
    };
    let length = seen.header("content-length");
    let length = length.map_or(0, |l| l.parse().unwrap());
    seen.body = vec![0; length];
    stream.read_exact(&mut seen.body).ok()?;
    Some(seen)
}
