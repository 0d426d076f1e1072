//! A log as it grows, as server-sent events.
//!
//! | event | data | when |
//! |---|---|---|
//! | `line` | [`LogLine`] | the function logged it |
//! | `again` | [`LogAgain`] | what came so far was an attempt that was lost |
//! | `end` | [`LogEnd`] | the last one: the task has ended, or the node ends |
//!
//! The id of a line is its attempt and its index in it; a follower whose
//! `Last-Event-ID` is of the last attempt gets what followed. What an attempt
//! logged after the follower last looked, and before the attempt was lost, is
//! not told: it belongs to no result.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::Response;
use axum::response::sse::Event;
use fades_task::identity::Name;
use fades_task::result::TaskState;
use tokio::sync::{oneshot, watch};

use super::auth::Caller;
use super::events::{RECHECK, answer, event, last_seen};
use super::seats::Seat;
use super::server::{Api, blocking};
use super::tasks::{no_task, readable_by};
use super::types::{LogAgain, LogEnd, LogLine, Logs, Problem};

use crate::store::Known;

/// Most lines that are taken at once.
const AT_ONCE: usize = 256;

/// `GET /v1/tasks/{id}/logs?follow=true`
pub(super) async fn follow(api: Arc<Api>, id: Name, parts: Parts) -> Result<Response, Problem> {
    let shared = Arc::clone(&api);
    let follower = blocking(&api, move |_| Follower::begin(shared, id, &parts)).await?;
    Ok(answer(follower, |mut follower| async move {
        follower.next().await.map(|event| (event, follower))
    }))
}

/// Somebody who follows a log.
#[derive(Debug)]
struct Follower {
    api: Arc<Api>,
    caller: Caller,
    _seat: Seat,
    task: Name,
    /// The attempt that is followed, and the index of the next line.
    next: (u32, usize),
    logged: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
    /// To be sent before anything else.
    ready: VecDeque<Event>,
    over: bool,
}

/// The attempt and the index in the id of an event.
fn seen(id: &str) -> Option<(u32, usize)> {
    let (attempt, index) = id.split_once('-')?;
    Some((attempt.parse().ok()?, index.parse().ok()?))
}

impl Follower {
    fn begin(api: Arc<Api>, task: Name, parts: &Parts) -> Result<Self, Problem> {
        let caller = api.caller(parts)?;
        readable_by(&api, &task, &caller)?;
        let seat = api.seat(&caller)?;
        let last = last_seen(&parts.headers).and_then(seen);
        let logged = api.shared.live().logged();
        Ok(Self {
            caller,
            _seat: seat,
            task,
            next: last.map_or((0, 0), |(attempt, index)| {
                (attempt, index.saturating_add(1))
            }),
            logged,
            ending: api.shared.ending(),
            ready: VecDeque::new(),
            over: false,
            api,
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.look().await;
        }
    }

    /// Takes what was logged, or waits until something may have been.
    async fn look(&mut self) {
        if !self
            .api
            .still_trusts(&self.caller, self.api.shared.clock().now())
        {
            return self.end_early("the key or the certificate is no longer trusted as it was");
        }
        let ended = match self.api.store.known(&self.task) {
            Some(Known::Open { result, .. }) => result,
            Some(Known::Ended { .. }) | None => return self.rest().await,
        };
        if *self.ending.borrow() {
            return self.end_early("the node ends: ask again when it is back");
        }
        self.logged.borrow_and_update();
        if !self.take_lines() {
            self.wait(ended).await;
        }
    }

    async fn wait(&mut self, ended: oneshot::Receiver<Arc<str>>) {
        tokio::select! {
            _ = ended => {}
            _ = self.ending.changed() => {}
            _ = self.logged.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }

    /// Whether there were any.
    fn take_lines(&mut self) -> bool {
        let live = self.api.shared.live();
        let Some(passage) = live.passage(&self.task, self.next, AT_ONCE) else {
            return false;
        };
        drop(live);
        self.begin_attempt(passage.attempt);
        self.lines(passage.lines);
        !self.ready.is_empty()
    }

    fn begin_attempt(&mut self, attempt: u32) {
        if self.next.0 == attempt {
            return;
        }
        if self.next.1 > 0 {
            self.ready.push_back(event("again", &LogAgain { attempt }));
        }
        self.next = (attempt, 0);
    }

    fn lines(&mut self, lines: Vec<LogLine>) {
        for line in lines {
            let (attempt, index) = &mut self.next;
            let id = format!("{attempt}-{index}");
            self.ready.push_back(event("line", &line).id(id));
            *index += 1;
        }
    }

    /// What there is of the log of a task that has ended.
    async fn rest(&mut self) {
        let id = self.task.clone();
        let stored = blocking(&self.api, move |api| {
            let logs = api.store.logs(&id)?.unwrap_or_default();
            let summary = api.store.summary(&id)?.ok_or_else(|| no_task(&id))?;
            Ok((logs, summary))
        });
        match stored.await {
            Ok((Logs { mut lines, cut }, summary)) => {
                self.begin_attempt(summary.attempts);
                lines.drain(..self.next.1.min(lines.len()));
                self.lines(lines);
                self.end(summary.state, cut, None);
            }
            Err(problem) => self.end_early(&problem.detail),
        }
    }

    fn end_early(&mut self, reason: &str) {
        let known = self.api.store.known(&self.task);
        let state = known.map_or(TaskState::Queued, |known| known.summary().state);
        self.end(state, 0, Some(reason.to_owned()));
    }

    fn end(&mut self, state: TaskState, cut: u64, reason: Option<String>) {
        let end = LogEnd { state, cut, reason };
        self.ready.push_back(event("end", &end));
        self.over = true;
    }
}
