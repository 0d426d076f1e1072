//! An inbox at a server: long polls, and verdicts that are told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fades_outside::client::{Answer, Client, ClientError, Means, Room, checked};
use fades_outside::field::FieldError;
use fades_task::courier::Verdict;
use fades_task::identity::Name;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::http::{Method, Request, Uri};

use super::exchange::{self, ANSWER_MAX};
use super::{Office, Trouble};
use crate::config::HttpInbox;
use crate::pace::Found;
use crate::stop::Stop;
use crate::web;

/// How much longer than asked for a server may wait before it answers.
const GRACE: Duration = Duration::from_secs(15);

/// How long the letters may take to come once the answer has begun.
const BODY: Duration = Duration::from_secs(60);

/// How long telling verdicts may take.
const TELLING: Duration = Duration::from_secs(30);

/// An inbox at a server.
#[derive(Debug)]
pub(crate) struct HttpBox {
    asks: Client,
    /// How long asking may take, to the end of the answer.
    within: Duration,
    tells: Client,
    /// Where letters are.
    letters: Uri,
    /// Where verdicts go.
    verdicts: Uri,
    /// Ids that the server was told of the last time: it should not bring them again.
    told: HashSet<String>,
}

impl HttpBox {
    /// The inbox that was configured.
    pub(crate) fn new(
        config: &HttpInbox,
        node: &Name,
        agent: &str,
        means: &Means,
    ) -> Result<Self, FieldError> {
        let (wait, token) = (config.wait.as_std(), config.token_file.as_ref());
        let client = |head, whole| {
            let access = web::access(token, config.tls(), agent, head, whole);
            Client::new(&config.url, access, means)
        };
        let head = wait + GRACE;
        let within = head + BODY;
        Ok(Self {
            asks: client(head, within)?,
            within,
            tells: client(TELLING, TELLING)?,
            letters: checked(&format!(
                "{}?node={node}&wait={}",
                config.url,
                wait.as_secs()
            ))?,
            verdicts: below(&config.url, "verdicts")?,
            told: HashSet::new(),
        })
    }

    /// Asks once, and sees to the letters that came.
    pub(super) fn ask(&mut self, name: &Name, office: &Office) -> Result<Found, Trouble> {
        let Some(body) = self.fetch(&office.stop)? else {
            return Ok(Found::Nothing);
        };
        let letters = exchange::letters(&body)
            .map_err(|e| Trouble::new(format_args!("{}: {e}", self.asks.origin())))?;
        if letters.is_empty() {
            return Ok(Found::Nothing);
        }
        let mut round = office.desk.round(name);
        let mut told = Vec::new();
        for letter in letters {
            match letter.envelope {
                Some(envelope) => round.hand_in(envelope.as_bytes(), letter.id)?,
                None => told.push((letter.id, exchange::too_large())),
            }
        }
        drop(body);
        told.extend(round.verdicts()?);
        told.retain(|(_, verdict)| !matches!(verdict, Verdict::Later { .. }));
        self.tell(told, &office.stop)
    }

    /// What the server has; `None`: nothing.
    fn fetch(&self, stop: &Stop) -> Result<Option<Vec<u8>>, Trouble> {
        let request = Request::get(self.letters.clone()).header(ACCEPT, "application/json");
        let request = request.body(Vec::new()).map_err(Trouble::new)?;
        let begun = Instant::now();
        let mut answer = self.asks.send(request, &[stop.flag()])?;
        match answer.status {
            204 => Ok(None),
            200 => {
                // Of its own: an inbox that is slow takes no place from another.
                let mut place = Arc::<Room>::default().place();
                let body = answer.whole(ANSWER_MAX, begun, self.within, &mut place)?;
                Ok(Some(body))
            }
            _ => Err(refused(self.asks.origin(), &mut answer)),
        }
    }

    /// Tells the server what it may forget.
    fn tell(&mut self, told: Vec<(String, Verdict)>, stop: &Stop) -> Result<Found, Trouble> {
        if told.is_empty() {
            return Ok(Found::Stuck);
        }
        let body = exchange::verdicts(&told);
        let mut answer = self.tells.send(
            post(&self.verdicts, "application/json", body)?,
            &[stop.flag()],
        )?;
        if !(200..=299).contains(&answer.status) {
            return Err(refused(self.tells.origin(), &mut answer));
        }
        let told: HashSet<String> = told.into_iter().map(|(id, _)| id).collect();
        let is_new = told.iter().any(|id| !self.told.contains(id));
        self.told = told;
        Ok(if is_new { Found::Letters } else { Found::Stuck })
    }
}

/// An address below that of an inbox.
pub(crate) fn below(url: &str, part: &str) -> Result<Uri, FieldError> {
    checked(&format!("{}/{part}", url.trim_end_matches('/')))
}

fn post(to: &Uri, kind: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, Trouble> {
    let request = Request::builder().method(Method::POST).uri(to.clone());
    let request = request.header(CONTENT_TYPE, kind);
    request.body(body).map_err(Trouble::new)
}

fn refused(origin: &str, answer: &mut Answer<'_>) -> Trouble {
    let after = web::retry_after(&answer.headers, SystemTime::now());
    let words = web::said(origin, answer.status, &answer.words());
    Trouble { words, after }
}

impl From<ClientError> for Trouble {
    fn from(e: ClientError) -> Self {
        Self::new(e)
    }
}
