//! One address that is asked.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use ureq::http::{HeaderValue, Request, Uri};

use super::HttpError;
use super::reading::{Heap, next_page};
use super::shape::{Address, Shape};
use crate::breaker::{Breaker, Rule, chance};
use crate::client::{self, Access, Client, ClientError, Room, Times, TokenWord};
use crate::config::{FieldError, HttpSource};
use crate::flow::Stopped;
use crate::live::{Heard, Live, now};
use crate::payload::PayloadError;
use crate::series::{MAX_SERIES, SeriesKey};
use crate::source::Setting;

/// Whoever asks within this time gets the same answer.
const FRESH: Duration = Duration::from_secs(1);

/// Longest body of all pages, bytes.
const LONGEST: u64 = 16 << 20;

/// How many times as long as a silence an answer may take, with all its pages.
const WHOLE: u32 = 10;

/// After these failures an address is asked less often.
const BREAKS_AT: u32 = 3;

/// An address, and what is known of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: Address,
    uri: Uri,
    client: Client,
    room: Arc<Room>,
    /// Held while it is asked, so that nobody asks the same at the same time.
    state: Mutex<State>,
    /// Devices that it ever answered for; to be read while it is asked.
    devices: Mutex<BTreeSet<Arc<str>>>,
    times: Times,
    pages: u32,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    answered: Option<(Instant, Answered)>,
    /// What the server said of the version of its answer.
    version: Version,
    /// The newest reading of each series, so that the same is told once.
    told: HashMap<SeriesKey, (i64, u64)>,
}

#[derive(Debug, Default, Clone)]
struct Version {
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

/// What an address said last.
type Answered = Result<Arc<Answer>, Arc<HttpError>>;

/// What an answer came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) heap: Arc<Heap>,
    /// When it came, ns since 1970 UTC.
    pub(super) at: i64,
    /// Bytes received.
    pub(super) bytes: u64,
}

impl Place {
    pub(super) fn new(
        address: Address,
        config: &HttpSource,
        setting: &Setting,
    ) -> Result<Self, FieldError> {
        let limit = config.timeout.as_std();
        let times = Times {
            connect: limit,
            head: limit,
            stall: limit,
            whole: None,
        };
        let uri = client::checked(&address.url)?;
        let access = Access {
            auth: config.auth.clone(),
            word: TokenWord::Bearer,
            tls: config.tls.clone(),
            times,
            gzip: true,
            agent: "fades".to_owned(),
        };
        let client = Client::new(&address.url, access, &setting.means())?;
        let rule = Rule {
            breaks_at: BREAKS_AT,
            first: config.every.as_std().max(FRESH),
            longest: Duration::from_secs(300).max(config.every.as_std()),
        };
        let state = State {
            breaker: Breaker::new(rule),
            answered: None,
            version: Version::default(),
            told: HashMap::new(),
        };
        let devices = address.named.device.iter().cloned().collect();
        Ok(Self {
            address,
            uri,
            client,
            room: Arc::clone(&setting.room),
            state: Mutex::new(state),
            devices: Mutex::new(devices),
            times,
            pages: config.pages,
        })
    }

    /// Devices that it is known to answer for.
    pub(super) fn devices(&self) -> Vec<Arc<str>> {
        lock(&self.devices).iter().cloned().collect()
    }

    /// Asks, unless somebody just did, or it failed again and again; what is new
    /// goes to `live`.
    pub(super) fn ask(&self, shape: &Shape, live: &Live, stop: &Arc<AtomicBool>) -> Answered {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if let Some((asked, answered)) = &state.answered
            && (asked.elapsed() < FRESH || !state.breaker.may_ask(Instant::now()))
        {
            return answered.clone();
        }
        let answered = match self.fetch(shape, state, stop) {
            Err(HttpError::Client(ClientError::Stopped(_))) => {
                return Err(Arc::new(Stopped.into()));
            }
            Ok(answer) => {
                state.breaker.worked();
                self.tell(&answer, state, live);
                Ok(answer)
            }
            Err(e) => {
                state.breaker.failed(Instant::now(), chance());
                let words = e.to_string();
                for device in self.devices() {
                    live.failed(&device, &words, state.breaker.is_broken());
                }
                Err(Arc::new(e))
            }
        };
        state.answered = Some((Instant::now(), answered.clone()));
        answered
    }

    /// Hands readings on that were not handed on before.
    fn tell(&self, answer: &Answer, state: &mut State, live: &Live) {
        let mut ordered: Vec<&Heard> = answer.heap.heard.iter().collect();
        ordered.sort_by_key(|h| h.time);
        let heard = ordered.into_iter().filter(|h| {
            let Some(time) = h.time else {
                return true;
            };
            let newest = (time, h.value.to_bits());
            match state.told.get_mut(&h.key) {
                Some(told) if *told == newest || told.0 > time => false,
                Some(told) => {
                    *told = newest;
                    true
                }
                None => {
                    if state.told.len() < MAX_SERIES {
                        state.told.insert(h.key.clone(), newest);
                    }
                    true
                }
            }
        });
        let heard: Vec<Heard> = heard.cloned().collect();
        let mut known = lock(&self.devices);
        if known.len() < MAX_SERIES {
            let devices = answer.heap.heard.iter().map(|h| &h.key.device);
            known.extend(devices.cloned());
        }
        drop(known);
        live.arrive(heard);
    }

    fn fetch(
        &self,
        shape: &Shape,
        state: &mut State,
        stop: &Arc<AtomicBool>,
    ) -> Result<Arc<Answer>, HttpError> {
        let known = match &state.answered {
            Some((_, Ok(answer))) => Some(Arc::clone(answer)),
            _ => None,
        };
        let (begun, limit) = (Instant::now(), self.times.stall * WHOLE);
        let (mut heap, mut bytes, mut left) = (Heap::default(), 0, LONGEST);
        let (mut version, mut room) = (Version::default(), self.room.place());
        let (mut uri, mut seen) = (self.uri.clone(), Vec::new());
        for page in 1..=self.pages {
            let condition = (page == 1 && known.is_some()).then_some(&state.version);
            let request = self.request(shape, &uri, condition);
            let mut answer = self.client.ask(request, &[stop])?;
            if answer.status == 304 {
                return self.unchanged(known, &answer);
            }
            let body = answer.whole(left, begun, limit, &mut room)?;
            left -= body.len() as u64;
            bytes += answer.received();
            let at = |source| self.unreadable(source);
            heap.add(shape, &self.address, &body, now()).map_err(at)?;
            let headers = &answer.headers;
            if page == 1 {
                version.tag = headers.get(ETAG).cloned();
                version.modified = headers.get(LAST_MODIFIED).cloned();
            }
            let Some(next) = next_page(headers) else {
                break;
            };
            // A condition is about the first page only.
            version = Version::default();
            seen.extend(uri.path_and_query().cloned());
            uri = self.client.same_server(&uri, &next).ok_or_else(|| {
                let address = self.address.url.clone();
                HttpError::Page { address }
            })?;
            // Pages in a circle: all of them were read.
            if uri.path_and_query().is_some_and(|to| seen.contains(to)) {
                break;
            }
        }
        state.version = version;
        Ok(Arc::new(Answer {
            heap: Arc::new(heap),
            at: now(),
            bytes,
        }))
    }

    /// What was known before, when the server says that this is how it still is.
    fn unchanged(
        &self,
        known: Option<Arc<Answer>>,
        answer: &client::Answer<'_>,
    ) -> Result<Arc<Answer>, HttpError> {
        let known = known.ok_or_else(|| HttpError::NotModified {
            address: self.address.url.clone(),
        })?;
        Ok(Arc::new(Answer {
            heap: Arc::clone(&known.heap),
            at: known.at,
            bytes: answer.received(),
        }))
    }

    fn unreadable(&self, source: PayloadError) -> HttpError {
        HttpError::Payload {
            address: self.address.url.clone(),
            source,
        }
    }
    fn request(&self, shape: &Shape, uri: &Uri, version: Option<&Version>) -> Request<Vec<u8>> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(shape.accept));
        for (name, value) in &shape.headers {
            headers.insert(name, value.clone());
        }
        if let Some(Version { tag, modified }) = version {
            if let Some(tag) = tag {
                headers.insert(IF_NONE_MATCH, tag.clone());
            } else if let Some(modified) = modified {
                headers.insert(IF_MODIFIED_SINCE, modified.clone());
            }
        }
        request
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete when a lock is given back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
