//! A repository of a registry, by the OCI distribution specification 1.1.
//!
//! * `pass`: who one is, in the two ways that registries ask for.
//! * `login`: passwords as other tools keep them.
//!
//! A registry may send one elsewhere: for a token to an issuer, for a blob to a store.
//! Whether that may be followed is said when a repository is opened ([`Elsewhere`]); a
//! password is sent to the registry and, when it names one, to its issuer of tokens;
//! nothing that says who one is goes anywhere else.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fades_outside::client::{Access, Answer, Client, Means, Room, Times, TokenWord, checked};
use fades_outside::connection::Tls;
use fades_task::identity::Digest;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Uri};

use crate::error::RegistryError;
use crate::manifest::{DOCUMENT_MAX, Descriptor, Document, INDEX, MANIFEST};
use crate::reference::{Repository, Which};
use crate::shelf::{Found, Listing, Shelf};

mod login;
mod pass;

pub use login::{Login, LoginError, Logins};

use pass::{Challenge, Pass};

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long a registry may say nothing.
const SILENT: Duration = Duration::from_secs(30);
/// How long an answer may take, from the question to its last byte.
const WHOLE: Duration = Duration::from_secs(300);
/// Most times that one is sent on.
const HOPS: usize = 3;
/// Longest answer that is no blob and no document, bytes.
const WORDS_MAX: usize = 64 << 10;

/// Where one goes when the registry sends one there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// Anywhere: a person is watching.
    Anywhere,
    /// To these servers, written as scheme, host and port.
    Only(Vec<String>),
}

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Way {
    /// Scheme, host and port.
    pub origin: String,
    /// Who one is there.
    pub login: Option<Login>,
    /// Whose certificates are trusted.
    pub tls: Option<Tls>,
    /// The program that asks.
    pub agent: String,
    /// Where else one goes.
    pub elsewhere: Elsewhere,
}

/// A repository.
#[derive(Debug)]
pub struct Remote {
    way: Way,
    repository: Repository,
    client: Client,
    means: Means,
    room: Arc<Room>,
    pass: Mutex<Pass>,
    stops: Vec<Arc<AtomicBool>>,
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Pull,
    Push,
}

impl Remote {
    /// The repository, which is not asked yet. Waits end when one of `stops` is set.
    ///
    /// # Errors
    /// When the registry's address is none.
    pub fn new(
        way: Way,
        repository: Repository,
        means: &Means,
        stops: &[&Arc<AtomicBool>],
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            client: Client::new(&way.origin, access(&way), means)?,
            means: means.clone(),
            room: Arc::default(),
            pass: Mutex::new(Pass::None),
            stops: stops.iter().map(|s| Arc::clone(s)).collect(),
            way,
            repository,
        })
    }

    fn stops(&self) -> Vec<&Arc<AtomicBool>> {
        self.stops.iter().collect()
    }

    fn address(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.way.origin, self.repository.as_str())
    }

    /// Sends a request, and once more with what the registry asks for.
    fn ask(&self, scope: Scope, request: Request<Vec<u8>>) -> Result<Answer<'_>, RegistryError> {
        let answer = self.client.send(self.signed(&request), &self.stops())?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let asked = challenge(&answer.headers);
        drop(answer);
        let pass = match asked {
            Some(challenge) => self.enter(&challenge, scope)?,
            None => Pass::None,
        };
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = pass;
        Ok(self.client.send(self.signed(&request), &self.stops())?)
    }

    fn signed(&self, request: &Request<Vec<u8>>) -> Request<Vec<u8>> {
        let mut request = request.clone();
        let pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = pass.header() {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    }

    /// What to say at the door.
    fn enter(&self, challenge: &Challenge, scope: Scope) -> Result<Pass, RegistryError> {
        let login = self.way.login.as_ref();
        let question = match challenge {
            Challenge::Basic => return Ok(login.map_or(Pass::None, Pass::basic)),
            Challenge::Bearer(bearer) => bearer.question(self.repository.as_str(), scope),
        };
        let uri = checked(&question)?;
        let mut request = get(&question);
        if let Some(value) = login.and_then(|l| Pass::basic(l).header()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let other = self.other(&uri)?;
        let client = other.as_ref().unwrap_or(&self.client);
        let mut answer = client.send(request, &self.stops())?;
        if answer.status != 200 {
            return Err(self.refused("asking for a token", &mut answer));
        }
        let text = self.whole(&mut answer, WORDS_MAX)?;
        Pass::token(&text).ok_or_else(|| self.unusable("the token", "the issuer gave none"))
    }

    /// A client for a server to which one is sent; `None` for the registry itself.
    fn other(&self, uri: &Uri) -> Result<Option<Client>, RegistryError> {
        let origin = origin(uri);
        if origin == self.client.origin() {
            return Ok(None);
        }
        let may = match &self.way.elsewhere {
            Elsewhere::Anywhere => true,
            Elsewhere::Only(servers) => servers
                .iter()
                .any(|s| checked(s).is_ok_and(|s| self::origin(&s) == origin)),
        };
        if !may {
            let (place, to) = (self.name(), origin);
            return Err(RegistryError::Elsewhere { place, to });
        }
        Ok(Some(Client::new(&origin, access(&self.way), &self.means)?))
    }

    fn whole(&self, answer: &mut Answer<'_>, most: usize) -> Result<Vec<u8>, RegistryError> {
        let mut place = self.room.place();
        Ok(answer.whole(most as u64, Instant::now(), WHOLE, &mut place)?)
    }

    /// What an answer that is none says, without who one is.
    fn refused(&self, doing: &'static str, answer: &mut Answer<'_>) -> RegistryError {
        let words = self.concealed(answer.words());
        let (place, status) = (self.name(), answer.status);
        if !matches!(status, 401 | 403) {
            return RegistryError::Status {
                place,
                doing,
                status,
                words,
            };
        }
        let (who, remedy) = match &self.way.login {
            Some(login) => (
                login.user().to_owned(),
                "check the password, and what this user may do there",
            ),
            None => (
                "anybody".to_owned(),
                "log in with a tool for registries that keeps a password in its auth file, or name one in the configuration",
            ),
        };
        RegistryError::Forbidden {
            place,
            who,
            status,
            words,
            remedy,
        }
    }

    fn concealed(&self, words: String) -> String {
        let pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let words = pass.conceal(words);
        match &self.way.login {
            Some(login) => Pass::basic(login).conceal(login.conceal(words)),
            None => words,
        }
    }

    fn unusable(&self, what: &str, reason: &str) -> RegistryError {
        RegistryError::Answer {
            place: self.name(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn missing(&self, what: String) -> RegistryError {
        let place = self.name();
        RegistryError::Missing { place, what }
    }

    /// Where an upload goes on.
    fn upload(&self) -> Result<Uri, RegistryError> {
        let begin = request(Method::POST, &self.address("blobs/uploads/"), Vec::new());
        let mut answer = self.ask(Scope::Push, begin)?;
        if answer.status != 202 {
            return Err(self.refused("beginning an upload", &mut answer));
        }
        let here = checked(&self.address("blobs/uploads/"))?;
        self.location(&here, &answer.headers)
            .ok_or_else(|| self.unusable("an upload", "it has no address"))
    }

    /// The blob in an answer from `at`, or where that says that it is.
    fn followed(
        &self,
        descriptor: &Descriptor,
        mut answer: Answer<'_>,
        at: &Uri,
        hops: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        match answer.status {
            200 => {
                let most = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
                self.whole(&mut answer, most)
            }
            404 => Err(self.missing(format!("blob {}", descriptor.digest))),
            301 | 302 | 303 | 307 | 308 if hops > 0 => {
                let to = self.location(at, &answer.headers);
                drop(answer);
                let to = to.ok_or_else(|| {
                    self.unusable("a blob", "it is elsewhere, and it is not said where")
                })?;
                // Who one is stays here.
                let question = get(&to.to_string());
                let other = self.other(&to)?;
                let client = other.as_ref().unwrap_or(&self.client);
                let answer = client.send(question, &self.stops())?;
                self.followed(descriptor, answer, &to, hops - 1)
            }
            _ => Err(self.refused("asking for a blob", &mut answer)),
        }
    }

    /// The address in the headers of an answer from `here`.
    fn location(&self, here: &Uri, headers: &HeaderMap) -> Option<Uri> {
        let to = headers.get(LOCATION)?.to_str().ok()?;
        let near = self.client.same_server(here, to);
        near.or_else(|| checked(to).ok().filter(|_| to.contains("://")))
    }
}

impl Shelf for Remote {
    fn name(&self) -> String {
        let host = self.way.origin.strip_prefix("https://");
        let host = host.unwrap_or(&self.way.origin);
        format!("{host}/{}", self.repository.as_str())
    }

    fn document(&self, which: &Which) -> Result<Option<Found>, RegistryError> {
        let mut question = get(&self.address(&format!("manifests/{which}")));
        let accept = HeaderValue::from_static(ACCEPTED);
        question.headers_mut().insert(ACCEPT, accept);
        let mut answer = self.ask(Scope::Pull, question)?;
        match answer.status {
            200 => {
                let said = answer.headers.get(CONTENT_TYPE);
                let said = said.and_then(|t| t.to_str().ok());
                let media_type = said.map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
                let bytes = self.whole(&mut answer, DOCUMENT_MAX)?;
                Ok(Some(Found { bytes, media_type }))
            }
            404 => Ok(None),
            _ => Err(self.refused("asking for a manifest", &mut answer)),
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let here = self.address(&format!("blobs/{}", descriptor.digest));
        let answer = self.ask(Scope::Pull, get(&here))?;
        self.followed(descriptor, answer, &checked(&here)?, HOPS)
    }

    fn put_blob(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        let address = self.address(&format!("blobs/{}", descriptor.digest));
        let head = request(Method::HEAD, &address, Vec::new());
        if self.ask(Scope::Push, head)?.status == 200 {
            return Ok(());
        }
        let to = self.upload()?;
        let joint = if to.query().is_some() { '&' } else { '?' };
        let address = format!("{to}{joint}digest={}", descriptor.digest);
        let mut put = request(Method::PUT, &address, bytes.to_vec());
        let kind = HeaderValue::from_static("application/octet-stream");
        put.headers_mut().insert(CONTENT_TYPE, kind);
        let other = self.other(&to)?;
        let mut answer = match &other {
            None => self.ask(Scope::Push, put)?,
            Some(other) => other.send(put, &self.stops())?,
        };
        match answer.status {
            201 => Ok(()),
            _ => Err(self.refused("uploading a blob", &mut answer)),
        }
    }

    fn put_document(
        &self,
        which: &Which,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Listing, RegistryError> {
        let address = self.address(&format!("manifests/{which}"));
        let mut put = request(Method::PUT, &address, bytes.to_vec());
        let kind = HeaderValue::from_str(&descriptor.media_type)
            .map_err(|_| self.unusable("the media type", "no header can have it"))?;
        put.headers_mut().insert(CONTENT_TYPE, kind);
        let mut answer = self.ask(Scope::Push, put)?;
        match answer.status {
            // Registries that list referrers say whose list was changed.
            201 if answer.headers.contains_key("oci-subject") => Ok(Listing::Kept),
            201 => Ok(Listing::NotKept),
            _ => Err(self.refused("putting a manifest", &mut answer)),
        }
    }

    fn referrers(&self, subject: Digest) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let address = self.address(&format!("referrers/{subject}"));
        let mut answer = self.ask(Scope::Pull, get(&address))?;
        match answer.status {
            200 => {
                let text = self.whole(&mut answer, DOCUMENT_MAX)?;
                match Document::parse(&text, Some(INDEX)) {
                    Ok(Document::Index(index)) => Ok(Some(index.manifests)),
                    Ok(Document::Manifest(_)) => Err(self.unusable(&address, "it is a manifest")),
                    Err(e) => Err(self.unusable(&address, &e.to_string())),
                }
            }
            // Older registries do not know the question, in one of these words.
            400 | 404 | 405 => Ok(None),
            _ => Err(self.refused("asking for referrers", &mut answer)),
        }
    }
}

const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

const _: () = assert!(ACCEPTED.len() == MANIFEST.len() + 2 + INDEX.len());

fn access(way: &Way) -> Access {
    Access {
        // Each request says by itself who one is: registries ask in their own way.
        auth: None,
        word: TokenWord::Bearer,
        tls: way.tls.clone(),
        times: Times {
            connect: CONNECTING,
            head: SILENT,
            stall: SILENT,
            whole: Some(WHOLE),
        },
        gzip: false,
        agent: way.agent.clone(),
    }
}

fn get(address: &str) -> Request<Vec<u8>> {
    request(Method::GET, address, Vec::new())
}

/// `address` was checked, or is made of parts that were.
fn request(method: Method, address: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = address.parse().unwrap_or_default();
    request
}

fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    format!("{scheme}://{host}:{}", fades_outside::client::port(uri))
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let said = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut said = said.filter_map(|v| v.to_str().ok());
    said.find_map(Challenge::parse)
}
