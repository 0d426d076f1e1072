//! Inboxes at work: each is a thread of its own, so that one that hangs delays no
//! other.
//!
//! ```text
//!   ┌───────────────── pause ─────────────────┐
//!   ▼                                         │
//!  ask ─► letters ─► desk ─► verdicts ─► tell the inbox
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fades_outside::breaker::chance;
use fades_task::courier::{CourierReport, InboxState};
use fades_task::identity::Name;
use fades_task::time::Time;

use crate::desk::{Desk, Gone};
use crate::pace::Pace;
use crate::report::Reporter;
use crate::stop::Stop;

mod exchange;
mod folder;
mod http;
mod shelf;

pub(crate) use folder::FolderBox;
pub(crate) use http::{HttpBox, below};

/// Most letters that are looked at together.
const TOGETHER: usize = 64;

/// An inbox at work.
#[derive(Debug)]
pub(crate) enum Letterbox {
    /// A server.
    Http(Box<HttpBox>),
    /// A folder.
    Folder(FolderBox),
}

/// Why an inbox could not be asked.
#[derive(Debug)]
pub(crate) struct Trouble {
    words: String,
    /// For how long it wants to be left alone.
    after: Option<Duration>,
}

/// What an inbox is read with.
#[derive(Debug, Clone)]
pub(crate) struct Office {
    pub(crate) desk: Arc<Desk>,
    pub(crate) reporter: Reporter,
    pub(crate) stop: Stop,
}

/// How often the orchestrator is told that all is well.
const TOLD_EVERY: Duration = Duration::from_secs(10);

impl Trouble {
    fn new(words: impl ToString) -> Self {
        Self {
            words: words.to_string(),
            after: None,
        }
    }
}

impl From<Gone> for Trouble {
    fn from(_: Gone) -> Self {
        Self::new("the node takes no letters any more")
    }
}

/// Fetches letters until it is time to end.
pub(crate) fn serve(name: &Name, mut inbox: Letterbox, office: &Office) {
    let mut pace = Pace::new();
    let mut notice = Notice::default();
    while !office.stop.is_set() {
        let begun = Instant::now();
        let asked = match &mut inbox {
            Letterbox::Http(http) => http.ask(name, office),
            Letterbox::Folder(folder) => folder.ask(name, office),
        };
        if office.stop.is_set() {
            return;
        }
        let now = Instant::now();
        let pause = match asked {
            Ok(found) => {
                notice.worked(name, office);
                pace.after(found, begun, now, chance())
            }
            Err(trouble) => {
                notice.failed(name, trouble.words, office);
                pace.after_error(trouble.after, now, chance())
            }
        };
        office.stop.wait(pause);
    }
}

/// What the orchestrator was told of an inbox.
#[derive(Debug, Default)]
struct Notice {
    state: InboxState,
    told: Option<Instant>,
}

impl Notice {
    fn worked(&mut self, name: &Name, office: &Office) {
        let well = self.state.error.take().is_none();
        self.state.asked = Some(now());
        let lately = self.told.is_some_and(|t| t.elapsed() < TOLD_EVERY);
        if !(well && lately) {
            self.tell(name, office);
        }
    }

    fn failed(&mut self, name: &Name, words: String, office: &Office) {
        if self.state.error.as_ref() != Some(&words) {
            tracing::warn!("inbox {name}: {words}");
            self.state.error = Some(words);
            self.tell(name, office);
        }
    }

    fn tell(&mut self, name: &Name, office: &Office) {
        self.told = Some(Instant::now());
        office.reporter.tell(&CourierReport::Inbox {
            inbox: name.clone(),
            state: self.state.clone(),
        });
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ns = since.unwrap_or_default().as_nanos();
    Time(ns.try_into().unwrap_or(i64::MAX))
}
