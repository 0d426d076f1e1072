//! A registry in memory that does what a test wants: lists of referrers, tokens, blobs
//! that are elsewhere.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use fades_registry::manifest::{Descriptor, Document, Index, digest};

#[derive(Default)]
pub(crate) struct State {
    /// By `blobs/DIGEST`, `manifests/TAG` or `manifests/DIGEST`: media type and bytes.
    pub(crate) things: BTreeMap<String, (String, Vec<u8>)>,
    /// Method, path and authorization of each request.
    pub(crate) seen: Vec<(String, String)>,
    /// Blobs are at this address.
    pub(crate) blobs_at: Option<String>,
    /// Tokens are to be had at this address.
    pub(crate) realm: Option<String>,
    /// What is answered to whoever is let in.
    pub(crate) said: Option<&'static str>,
}

pub(crate) const TOKEN: &str = "open-sesame";

pub(crate) struct Stub {
    pub(crate) origin: String,
    pub(crate) state: Arc<Mutex<State>>,
}

struct Asked {
    method: String,
    path: String,
    authorization: String,
    media_type: String,
    body: Vec<u8>,
}

impl Stub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { origin, state }
    }

    /// Authorizations of the requests whose method and path begin like this.
    pub(crate) fn authorizations(&self, begin: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let seen = state
            .seen
            .iter()
            .filter(|(what, _)| what.starts_with(begin));
        seen.map(|(_, authorization)| authorization.clone())
            .collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = receive(&mut reader) {
        let mut state = state.lock().unwrap();
        let what = format!("{} {}", asked.method, asked.path);
        state.seen.push((what, asked.authorization.clone()));
        let (status, headers, body) = answer(&mut state, &asked);
        drop(state);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
        let body = if asked.method == "HEAD" {
            Vec::new()
        } else {
            body
        };
        let mut stream = stream;
        if stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body))
            .is_err()
        {
            return;
        }
    }
}

fn receive(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut authorization, mut media_type, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "content-type" => media_type = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        authorization,
        media_type,
        body,
    })
}

fn answer(state: &mut State, asked: &Asked) -> (u16, String, Vec<u8>) {
    let plain = |status: u16| (status, String::new(), Vec::new());
    if let Some(rest) = asked.path.strip_prefix("/token") {
        let good = asked.authorization == "Basic Y2l0eTpyb3NlYnVk"
            && rest.contains("scope=repository:air/summary:pull");
        return match good {
            true => (
                200,
                String::new(),
                format!("{{\"token\":\"{TOKEN}\"}}").into_bytes(),
            ),
            false => (401, String::new(), asked.authorization.clone().into_bytes()),
        };
    }
    if let Some(blob) = asked.path.strip_prefix("/store/") {
        return match state.things.get(&format!("blobs/{blob}")) {
            Some((_, bytes)) => (200, String::new(), bytes.clone()),
            None => plain(404),
        };
    }
    if let Some(realm) = &state.realm
        && asked.authorization != format!("Bearer {TOKEN}")
    {
        let header = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"stub\"\r\n");
        return (401, header, Vec::new());
    }
    if let Some(said) = state.said {
        return (
            500,
            String::new(),
            said.replace("{}", &asked.authorization).into_bytes(),
        );
    }
    let Some(what) = asked.path.strip_prefix("/v2/air/summary/") else {
        return plain(404);
    };
    match asked.method.as_str() {
        "POST" => (
            202,
            "Location: /v2/air/summary/blobs/uploads/1?state=x\r\n".to_owned(),
            Vec::new(),
        ),
        "PUT" => put(state, what, asked),
        _ => get(state, what),
    }
}

fn put(state: &mut State, what: &str, asked: &Asked) -> (u16, String, Vec<u8>) {
    let thing = (asked.media_type.clone(), asked.body.clone());
    let digest = digest(&asked.body);
    if what.starts_with("blobs/uploads/1") {
        assert!(
            what.ends_with(&format!("?state=x&digest={digest}")),
            "{what}"
        );
        state.things.insert(format!("blobs/{digest}"), thing);
        return (201, String::new(), Vec::new());
    }
    state.things.insert(what.to_owned(), thing.clone());
    state.things.insert(format!("manifests/{digest}"), thing);
    let subject = match Document::parse(&asked.body, None) {
        Ok(Document::Manifest(manifest)) => manifest.subject,
        _ => None,
    };
    let header = subject.map(|s| format!("OCI-Subject: {}\r\n", s.digest));
    (201, header.unwrap_or_default(), Vec::new())
}

fn get(state: &State, what: &str) -> (u16, String, Vec<u8>) {
    if let Some(subject) = what.strip_prefix("referrers/") {
        let of = |(_, bytes): &&(String, Vec<u8>)| match Document::parse(bytes, None) {
            Ok(Document::Manifest(m)) => m.subject.is_some_and(|s| s.digest.to_string() == subject),
            _ => false,
        };
        let found = state.things.values().filter(of);
        let found = found.map(|(media_type, bytes)| Descriptor::of(media_type, bytes));
        let list = Index::new(found.collect());
        return (200, String::new(), serde_json::to_vec(&list).unwrap());
    }
    if let (Some(at), Some(blob)) = (&state.blobs_at, what.strip_prefix("blobs/")) {
        return (307, format!("Location: {at}/store/{blob}\r\n"), Vec::new());
    }
    match state.things.get(what) {
        Some((media_type, bytes)) => (
            200,
            format!("Content-Type: {media_type}\r\n"),
            bytes.clone(),
        ),
        None => (404, String::new(), Vec::new()),
    }
}
