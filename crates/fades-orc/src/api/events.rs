//! Watching: changes as they are stored, as server-sent events.
//!
//! | event | data | when |
//! |---|---|---|
//! | `task` | [`TaskSummary`] | a task that the caller may read has a new state |
//! | `node` | [`NodeHealth`](super::types::NodeHealth) | at the beginning, and when it has changed; for who may read everything |
//! | `missed` | [`StreamNote`] | some changes are no longer known: read what matters anew |
//! | `end` | [`StreamNote`] | the last one |
//!
//! A watcher whose `Last-Event-ID` is known gets what followed it. A stream
//! ends when the node does, when the key is no longer trusted, when the watcher
//! falls behind what the [feed](crate::feed) keeps, and, of one task, with that
//! task.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use fades_task::identity::Name;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::auth::Caller;
use super::seats::Seat;
use super::server::{Api, Shelf, blocking};
use super::tasks::{query, readable_by};
use super::types::{Problem, StreamNote, TaskSummary};

use crate::feed::{News, Place};

/// A comment is sent after this time without an event, so that both ends
/// notice when the other is gone.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Whether the key is still trusted is asked this often when nothing happens.
pub(super) const RECHECK: Duration = Duration::from_secs(5);

/// The header with which a watcher says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    task: Option<Name>,
}

/// What a watcher saw last, when it says.
pub(super) fn last_seen(headers: &HeaderMap) -> Option<&str> {
    // What is not text was never an id of ours.
    let value = headers.get(LAST_EVENT_ID)?;
    Some(value.to_str().unwrap_or_default())
}

/// An event with `data` as JSON.
pub(super) fn event(name: &str, data: &impl Serialize) -> Event {
    // Everything that is sent has a JSON form, and JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

/// The answer that sends what `next` gives until it gives nothing.
pub(super) fn answer<T, F>(state: T, next: impl FnMut(T) -> F + Send + 'static) -> Response
where
    T: Send + 'static,
    F: Future<Output = Option<(Event, T)>> + Send + 'static,
{
    let events = futures_util::stream::unfold(state, next).map(Ok::<_, Infallible>);
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    let uncached = [(header::CACHE_CONTROL, "no-store")];
    (uncached, Sse::new(events).keep_alive(alive)).into_response()
}

/// `GET /v1/events`
pub(super) async fn events(
    State(api): Shelf,
    asked: Result<Query<EventsQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let asked = query(asked)?;
    let shared = Arc::clone(&api);
    let watcher = blocking(&api, move |_| Watcher::begin(shared, asked.task, &parts)).await?;
    Ok(answer(watcher, |mut watcher| async move {
        watcher.next().await.map(|event| (event, watcher))
    }))
}

/// Somebody who watches.
#[derive(Debug)]
struct Watcher {
    api: Arc<Api>,
    caller: Caller,
    _seat: Seat,
    /// The only task of interest.
    task: Option<Name>,
    /// What was seen last.
    place: Place,
    changes: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
    /// To be sent before anything else.
    ready: VecDeque<Event>,
    over: bool,
}

impl Watcher {
    fn begin(api: Arc<Api>, task: Option<Name>, parts: &Parts) -> Result<Self, Problem> {
        let caller = api.caller(parts)?;
        caller.may_plan()?;
        let feed = api.store.feed();
        let (changes, now) = (feed.changes(), feed.now());
        // After the place was taken: what changes meanwhile is told twice, and
        // never left out.
        let task = task.map(|id| readable_by(&api, &id, &caller));
        let task = task.transpose()?;
        let seat = api.seat(&caller)?;
        let seen = last_seen(&parts.headers);
        let mut watcher = Self {
            ending: api.shared.ending(),
            caller,
            _seat: seat,
            task: task.as_ref().map(|t| t.id.clone()),
            place: now,
            changes,
            ready: VecDeque::new(),
            over: false,
            api,
        };
        match seen.map(str::parse::<Place>) {
            Some(Ok(place)) if watcher.api.store.feed().after(place).is_ok() => {
                watcher.place = place;
                // What has ended does not change any more.
                watcher.present(task.filter(|t| t.state.is_final()));
            }
            Some(_) => {
                watcher.missed("what followed your last event is no longer known");
                watcher.present(task);
            }
            None => watcher.present(task),
        }
        Ok(watcher)
    }

    /// Tells how things are.
    fn present(&mut self, task: Option<TaskSummary>) {
        let place = self.place;
        match task {
            Some(task) => self.task_is(place, &task),
            None if self.task.is_none() && self.caller.may_read().is_ok() => {
                let health = self.api.store.feed().health();
                self.ready
                    .push_back(event("node", &health).id(place.to_string()));
            }
            None => {}
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            if *self.ending.borrow() {
                self.end("the node ends: ask again when it is back");
                continue;
            }
            self.changes.borrow_and_update();
            if self.gather() {
                // Others are served meanwhile, however much there is to skip.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                _ = self.ending.changed() => {}
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(RECHECK) => {}
            }
        }
    }

    /// Takes what has changed; whether there was anything.
    fn gather(&mut self) -> bool {
        if !self
            .api
            .still_trusts(&self.caller, self.api.shared.clock().now())
        {
            self.end("the key or the certificate is no longer trusted as it was");
            return true;
        }
        let Ok(news) = self.api.store.feed().after(self.place) else {
            self.missed("too slow: read what matters anew, and watch again");
            self.end("some changes were missed");
            return true;
        };
        for (number, news) in &news {
            self.place = self.place.at(*number);
            self.tell(news);
        }
        !news.is_empty()
    }

    fn tell(&mut self, news: &News) {
        let place = self.place;
        match news {
            News::Task(task) => {
                let wanted = self.task.as_ref().is_none_or(|id| *id == task.id);
                if wanted && !self.over && self.caller.may_read_of(&task.service).is_ok() {
                    self.task_is(place, task);
                }
            }
            News::Node(health) if self.task.is_none() && self.caller.may_read().is_ok() => {
                self.ready
                    .push_back(event("node", health).id(place.to_string()));
            }
            News::Node(_) => {}
        }
    }

    fn task_is(&mut self, place: Place, task: &TaskSummary) {
        self.ready
            .push_back(event("task", task).id(place.to_string()));
        if self.task.is_some() && task.state.is_final() {
            self.end("the task has ended");
        }
    }

    fn missed(&mut self, reason: &str) {
        let reason = reason.to_owned();
        self.ready
            .push_back(event("missed", &StreamNote { reason }));
    }

    fn end(&mut self, reason: &str) {
        let reason = reason.to_owned();
        self.ready.push_back(event("end", &StreamNote { reason }));
        self.over = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use axum::body::HttpBody;
    use axum::extract::{ConnectInfo, Request};
    use axum::http::request::Parts;
    use axum::response::IntoResponse;
    use tokio::time::{Duration, Instant};

    use super::{HEARTBEAT, Watcher, answer};
    use crate::api::auth::Peer;
    use crate::api::server::Api;
    use crate::api::types::NodeHealth;
    use crate::feed::KEPT;
    use crate::samples::config;
    use crate::shared::Shared;
    use crate::store::Store;

    fn parts() -> Parts {
        let mut request = Request::new(());
        let peer = Peer::User(rustix::process::geteuid().as_raw());
        request.extensions_mut().insert(ConnectInfo(peer));
        request.into_parts().0
    }

    fn api(folder: &std::path::Path) -> Arc<Api> {
        let store = Arc::new(Store::open(&folder.join("state")).unwrap());
        let config = Arc::new(config(folder));
        let shared = Arc::new(Shared::new(Arc::clone(&config)));
        std::fs::write(&config.trust, "").unwrap();
        let trust = Arc::new(crate::trust::Trust::open(&config, &store).unwrap());
        Arc::new(Api::new(config, store, shared, trust, channel().0))
    }

    async fn text(watcher: &mut Watcher) -> Option<String> {
        let event = watcher.next().await?;
        let mut once = Some(event);
        let answer = answer((), move |()| {
            let event = once.take();
            async { event.map(|e| (e, ())) }
        });
        let mut body = answer.into_body();
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx));
        let bytes = frame.await.unwrap().unwrap().into_data().unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_is_told_and_sent_away() {
        let folder = tempfile::tempdir().unwrap();
        let api = api(folder.path());
        let mut watcher = Watcher::begin(Arc::clone(&api), None, &parts()).unwrap();
        assert!(text(&mut watcher).await.unwrap().contains("event: node"));
        for n in 0..=KEPT {
            api.store.feed().node(NodeHealth {
                shortage: Some(n.to_string()),
                ..NodeHealth::default()
            });
        }
        let missed = text(&mut watcher).await.unwrap();
        assert!(missed.contains("event: missed"), "{missed}");
        assert!(text(&mut watcher).await.unwrap().contains("event: end"));
        assert_eq!(text(&mut watcher).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let begun = Instant::now();
        let silent = answer((), |()| std::future::pending());
        let mut body = silent.into_response().into_body();
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx));
        let frame = tokio::time::timeout(Duration::from_secs(3600), frame).await;
        let bytes = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        assert!(bytes.starts_with(b":"), "{bytes:?}");
        assert!(begun.elapsed() >= HEARTBEAT);
    }
}
