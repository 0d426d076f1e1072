//! An HTTP client: blocking calls, each with bounded waits.
//!
//! * `asked`: connections that somebody else makes.
//! * `connection`: looks at whether to stop while it waits for bytes.
//! * `trust`: certificates and keys.
//! * `room`: how many long answers are held at the same time.
//! * `error`: what can go wrong, with address and remedy.
//!
//! Connections are kept for the next question. A redirect is followed only to
//! the server that was asked; headers that say who the node is go nowhere else.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::http::header::{AUTHORIZATION, LOCATION};
use ureq::http::{HeaderMap, HeaderValue, Request, Uri};
use ureq::{Agent, BodyReader};

use crate::connection::{Auth, Tls};
use crate::dial::Dial;
use crate::field::FieldError;
use crate::secret::Secrets;

mod asked;
mod connection;
mod error;
mod room;
mod trust;

pub use error::ClientError;
pub use room::{Place, Room};

use connection::Watch;

/// How long each part of a question may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the whole head of the answer is there.
    pub head: Duration,
    /// Between any two pieces of the answer.
    pub stall: Duration,
    /// From the first to the last, if that is bounded.
    pub whole: Option<Duration>,
}

/// The word before a token.
#[derive(Debug, Clone, Copy)]
pub enum TokenWord {
    /// As RFC 6750 has it.
    Bearer,
    /// As InfluxDB 2.x has it.
    Token,
}

/// Nobody wants the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// How a server is talked to.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who the node is.
    pub auth: Option<Auth>,
    /// The word before its token.
    pub word: TokenWord,
    /// Whom it trusts.
    pub tls: Option<Tls>,
    /// How long things may take.
    pub times: Times,
    /// Answers may be compressed.
    pub gzip: bool,
    /// The program that asks.
    pub agent: String,
}

/// With what whoever talks to the outside is provided.
#[derive(Debug, Clone)]
pub struct Means {
    /// Where files are looked for.
    pub secrets: Secrets,
    /// Who makes connections.
    pub dial: Dial,
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    /// Scheme, host and port.
    origin: String,
    access: Access,
    means: Means,
    idle: Mutex<Vec<Session>>,
}

/// A connection that is kept, and who may end what it waits for.
#[derive(Debug)]
struct Session {
    agent: Agent,
    watch: Arc<Watch>,
    made: Instant,
}

/// An answer whose head is there; its body is read from it.
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: BodyReader<'static>,
    client: &'a Client,
    session: Option<Session>,
    before: u64,
}

/// Sessions older than this are made anew, so that new certificates are taken.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Most sessions that are kept.
const KEPT: usize = 8;

/// Most redirects that are followed, on the same server.
const REDIRECTS: usize = 3;

/// Bytes of a body that are read at once.
const PIECE: usize = 16 << 10;

/// What is shown of a server's own words, bytes.
const WORDS: usize = 200;

impl Client {
    /// A client of the server at `url`, whose path is not looked at.
    ///
    /// # Errors
    /// When it is no address of a server.
    pub fn new(url: &str, access: Access, means: &Means) -> Result<Self, FieldError> {
        let uri = checked(url)?;
        Ok(Self {
            origin: origin(&uri),
            access,
            means: means.clone(),
            idle: Mutex::default(),
        })
    }

    /// Scheme, host and port: what errors call the server.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks, and waits for the head of an answer whose status is 200 to 299, or
    /// 304 when `request` allows it by a condition. Waits end when one of `stops`
    /// is set.
    ///
    /// # Errors
    /// Why there is no such answer.
    pub fn ask(
        &self,
        mut request: Request<Vec<u8>>,
        stops: &[&Arc<AtomicBool>],
    ) -> Result<Answer<'_>, ClientError> {
        self.sign(&mut request)?;
        for _ in 0..=REDIRECTS {
            let answer = self.once(request.clone(), stops)?;
            match answer.status {
                200..=299 | 304 => return Ok(answer),
                301 | 302 | 307 | 308 if request.method() == "GET" => {
                    *request.uri_mut() = self.redirected(request.uri(), &answer)?;
                }
                _ => return Err(self.refused(answer)),
            }
        }
        let address = self.origin.clone();
        Err(ClientError::Redirects { address })
    }

    /// Sends `request` once, follows nothing, and waits for the head of the answer,
    /// whatever its status is. Waits end when one of `stops` is set.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn send(
        &self,
        mut request: Request<Vec<u8>>,
        stops: &[&Arc<AtomicBool>],
    ) -> Result<Answer<'_>, ClientError> {
        self.sign(&mut request)?;
        self.once(request, stops)
    }

    fn once(
        &self,
        request: Request<Vec<u8>>,
        stops: &[&Arc<AtomicBool>],
    ) -> Result<Answer<'_>, ClientError> {
        let session = self.session()?;
        session.watch.set(stops);
        let before = session.watch.received.load(Ordering::Relaxed);
        let response = session.agent.run(request);
        let response =
            response.map_err(|e| ClientError::of(&self.origin, &self.access.times, e))?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.into_reader(),
            client: self,
            session: Some(session),
            before,
        })
    }

    /// Says who the node is.
    fn sign(&self, request: &mut Request<Vec<u8>>) -> Result<(), ClientError> {
        let Some(auth) = &self.access.auth else {
            return Ok(());
        };
        let secret = |file| self.means.secrets.read(file);
        let text = match (&auth.user, &auth.password_file, &auth.token_file) {
            (Some(user), Some(file), _) => {
                let pair = zeroize::Zeroizing::new(format!("{user}:{}", secret(file)?.expose()));
                format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))
            }
            (_, _, Some(file)) => {
                let word = match self.access.word {
                    TokenWord::Bearer => "Bearer",
                    TokenWord::Token => "Token",
                };
                format!("{word} {}", secret(file)?.expose())
            }
            _ => return Ok(()),
        };
        let text = zeroize::Zeroizing::new(text);
        let mut value = HeaderValue::from_str(&text).map_err(|_| ClientError::BadSecret {
            address: self.origin.clone(),
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    fn redirected(&self, from: &Uri, answer: &Answer<'_>) -> Result<Uri, ClientError> {
        let to = answer.headers.get(LOCATION).and_then(|l| l.to_str().ok());
        let to = to.unwrap_or_default();
        self.same_server(from, to).ok_or_else(|| {
            let (address, to) = (self.origin.clone(), shown(to.as_bytes()));
            ClientError::Redirected { address, to }
        })
    }

    /// The address `to` as it stands in a document at `from`; `None` when it is at
    /// another server, or no address.
    #[must_use]
    pub fn same_server(&self, from: &Uri, to: &str) -> Option<Uri> {
        let whole = if to.contains("://") {
            to.to_owned()
        } else if to.starts_with('/') && !to.starts_with("//") {
            format!("{}{to}", self.origin)
        } else if to.starts_with('?') {
            format!("{}{}{to}", self.origin, from.path())
        } else if !to.is_empty() && !to.starts_with("//") {
            let folder = from
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{}{folder}/{to}", self.origin)
        } else {
            return None;
        };
        let uri = checked(&whole).ok()?;
        (origin(&uri) == self.origin).then_some(uri)
    }

    /// What an answer that is none says.
    fn refused(&self, mut answer: Answer<'_>) -> ClientError {
        let words = answer.words();
        let (address, status) = (self.origin.clone(), answer.status);
        match status {
            401 | 403 => ClientError::Forbidden {
                address,
                status,
                words,
            },
            _ => ClientError::Status {
                address,
                status,
                words,
            },
        }
    }

    /// Words of the server without what the node said in confidence: some servers
    /// repeat what they were told.
    fn concealed(&self, words: &[u8]) -> String {
        let mut words = String::from_utf8_lossy(words).into_owned();
        let Some(auth) = &self.access.auth else {
            return words;
        };
        let file = auth.password_file.as_ref().or(auth.token_file.as_ref());
        let secret = file.and_then(|file| self.means.secrets.read(file).ok());
        let Some(secret) = secret else {
            // It was there when the question was signed; without it nothing is known
            // to be harmless.
            return String::new();
        };
        words = words.replace(secret.expose(), "[secret]");
        if let Some(user) = &auth.user {
            let pair = zeroize::Zeroizing::new(format!("{user}:{}", secret.expose()));
            let said = zeroize::Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
            words = words.replace(said.as_str(), "[secret]");
        }
        words
    }

    fn session(&self) -> Result<Session, ClientError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|s| s.made.elapsed() < KEPT_FOR);
        if let Some(session) = idle.pop() {
            return Ok(session);
        }
        drop(idle);
        let watch = Arc::new(Watch::new(self.access.times.stall));
        let tls = trust::config(self.access.tls.as_ref(), &self.means.secrets)?;
        let times = self.access.times;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .user_agent(self.access.agent.as_str())
            .accept_encoding(if self.access.gzip { "gzip" } else { "identity" })
            .timeout_global(times.whole)
            .timeout_resolve(Some(times.connect))
            .timeout_connect(Some(times.connect))
            .timeout_recv_response(Some(times.head))
            .timeout_per_write(Some(times.stall))
            .max_idle_connections(1)
            .build();
        Ok(Session {
            agent: connection::agent(config, &watch, &self.means.dial),
            watch,
            made: Instant::now(),
        })
    }
}

impl Answer<'_> {
    /// What the server says in its body: the first of it, without secrets and
    /// without characters that do things.
    pub fn words(&mut self) -> String {
        let mut words = Vec::new();
        // A server that says no more than the status has said enough.
        let _ = self.take(4 * WORDS as u64).read_to_end(&mut words);
        shown(self.client.concealed(&words).as_bytes())
    }

    /// Bytes that came over the network since the question, the head included.
    #[must_use]
    pub fn received(&self) -> u64 {
        let watch = self.session.as_ref().map(|s| &s.watch);
        let now = watch.map_or(0, |w| w.received.load(Ordering::Relaxed));
        now.saturating_sub(self.before)
    }

    /// What an error while the body was read means.
    #[must_use]
    pub fn error(&self, e: io::Error) -> ClientError {
        ClientError::of(&self.client.origin, &self.client.access.times, e.into())
    }

    /// The whole body, which may neither be longer than `most` bytes nor come more
    /// than `within` after `begun`. A long one is read once it has a `place`.
    ///
    /// # Errors
    /// When it is longer, comes later, or has no place by then.
    pub fn whole(
        &mut self,
        most: u64,
        begun: Instant,
        within: Duration,
        place: &mut Place,
    ) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        let mut piece = vec![0; PIECE];
        loop {
            let read = self.read(&mut piece).map_err(|e| self.error(e))?;
            if read == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&piece[..read]);
            let address = || self.client.origin.clone();
            if body.len() as u64 > most {
                let address = address();
                return Err(ClientError::TooLong { address, most });
            }
            let is_placed = self.placed(body.len(), begun + within, place)?;
            let (address, seconds) = (address, within.as_secs());
            if !is_placed {
                let address = address();
                return Err(ClientError::Crowded { address, seconds });
            }
            if begun.elapsed() > within {
                return Err(ClientError::Late {
                    address: address(),
                    seconds,
                    what: "send all of its answer",
                });
            }
        }
    }

    /// Waits until an answer with so many bytes may be read on; whether it may.
    fn placed(&self, bytes: usize, until: Instant, place: &mut Place) -> Result<bool, ClientError> {
        let watch = self.session.as_ref().map(|s| &s.watch);
        while !place.suffices(bytes, connection::PATIENCE) {
            if watch.is_some_and(|w| w.is_stopped()) {
                return Err(Stopped.into());
            }
            if Instant::now() > until {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.watch.set(&[]);
            let idle = &self.client.idle;
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT {
                idle.push(session);
            }
        }
    }
}

/// An address that can be asked.
///
/// # Errors
/// When it is none.
pub fn checked(url: &str) -> Result<Uri, FieldError> {
    let wrong = |why: &str| {
        let reason = format!("{why}: write such as \"https://10.0.4.2:8086\"");
        Err(FieldError::new("url", reason))
    };
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("no address");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return wrong("begins with neither http:// nor https://");
    }
    match uri.authority() {
        None => wrong("names no server"),
        Some(a) if a.as_str().contains('@') => {
            wrong("a password has no place in an address, use auth")
        }
        Some(_) => Ok(uri),
    }
}

fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    format!("{scheme}://{host}:{}", port(uri))
}

/// The port that an address means.
#[must_use]
pub fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    })
}

/// Words of a server: the first of them, without characters that do things.
#[must_use]
pub fn shown(words: &[u8]) -> String {
    let words = &words[..words.len().min(WORDS)];
    let words = String::from_utf8_lossy(words);
    let words = words.trim().chars();
    words
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
