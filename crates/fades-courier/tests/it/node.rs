//! A courier in a thread, and the orchestrator's end of its channel.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fades_courier::config::Places;
use fades_courier::process::ProcessError;
use fades_task::courier::{
    CourierReport, CourierRequest, InboxState, NotDelivered, Parcel, Receiver, Verdict,
};
use fades_wire::{Channel, WireError};

/// Longest time that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    control: Option<Channel>,
    thread: Option<JoinHandle<Result<(), ProcessError>>>,
    reports: VecDeque<(CourierReport, Vec<u8>)>,
    folder: tempfile::TempDir,
}

pub(crate) struct Letter {
    pub(crate) number: u64,
    pub(crate) inbox: String,
    pub(crate) envelope: Vec<u8>,
}

/// A folder with `token` in it.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    folder
}

impl Node {
    pub(crate) fn start(tables: &str) -> Self {
        Self::start_in(folder(), tables)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, tables: &str) -> Self {
        let table: serde_json::Value = toml::from_str(tables).unwrap();
        let places = Places::parse(table.get("inbox"), table.get("destination")).unwrap();
        let (control, theirs) = Channel::pair().unwrap();
        let thread = std::thread::spawn(move || fades_courier::process::run(theirs));
        let configure = CourierRequest::Configure {
            node: "harbour-07".parse().unwrap(),
            version: "1.2.3".to_owned(),
            base: folder.path().display().to_string(),
            credentials: None,
        };
        let blob = serde_json::to_vec(&places).unwrap();
        control.send(&configure, &blob, &[]).unwrap();
        let mut node = Self {
            control: Some(control),
            thread: Some(thread),
            reports: VecDeque::new(),
            folder,
        };
        let is_ready = |r: &CourierReport| matches!(r, CourierReport::Ready { .. });
        node.wait(PATIENCE, is_ready).unwrap();
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn control(&self) -> &Channel {
        self.control.as_ref().unwrap()
    }

    /// The first report that is meant; others are kept. `None`: there is none in time.
    pub(crate) fn wait(
        &mut self,
        within: Duration,
        meant: impl Fn(&CourierReport) -> bool,
    ) -> Option<(CourierReport, Vec<u8>)> {
        if let Some(i) = self.reports.iter().position(|(r, _)| meant(r)) {
            return self.reports.remove(i);
        }
        let deadline = Instant::now() + within;
        loop {
            let frame = match self.control().receive::<CourierReport>(Some(deadline)) {
                Err(WireError::Deadline) => return None,
                frame => frame.unwrap().expect("the courier is there"),
            };
            if meant(&frame.message) {
                return Some((frame.message, frame.blob));
            }
            self.reports.push_back((frame.message, frame.blob));
        }
    }

    pub(crate) fn letter_within(&mut self, within: Duration) -> Option<Letter> {
        let is_letter = |r: &CourierReport| matches!(r, CourierReport::Letter { .. });
        let (report, envelope) = self.wait(within, is_letter)?;
        let CourierReport::Letter { letter, inbox } = report else {
            unreachable!()
        };
        Some(Letter {
            number: letter,
            inbox: inbox.to_string(),
            envelope,
        })
    }

    pub(crate) fn letter(&mut self) -> Letter {
        self.letter_within(PATIENCE).expect("a letter")
    }

    pub(crate) fn verdict(&self, letter: u64, verdict: Verdict) {
        let request = CourierRequest::Verdict { letter, verdict };
        self.control().send(&request, &[], &[]).unwrap();
    }

    pub(crate) fn taken(&self, letter: u64) {
        let task = "0a1b".parse().unwrap();
        self.verdict(letter, Verdict::Taken { task });
    }

    pub(crate) fn refused(&self, letter: u64) {
        let verdict = Verdict::Refused {
            problem: "signature".to_owned(),
            detail: "nobody knows the key: trust it".to_owned(),
        };
        self.verdict(letter, verdict);
    }

    pub(crate) fn later(&self, letter: u64) {
        let detail = "the disk is full".to_owned();
        self.verdict(letter, Verdict::Later { detail });
    }

    /// Asks for a delivery; `to`: `inbox.NAME` or `destination.NAME`.
    pub(crate) fn deliver(&self, parcel: u64, to: &str, body: &[u8]) {
        self.deliver_event(parcel, to, &format!("0a1b.{parcel}"), body);
    }

    pub(crate) fn deliver_event(&self, parcel: u64, to: &str, event: &str, body: &[u8]) {
        let to = match to.split_once('.').unwrap() {
            ("inbox", name) => Receiver::Inbox(name.parse().unwrap()),
            (_, name) => Receiver::Destination(name.parse().unwrap()),
        };
        let request = CourierRequest::Deliver(Parcel {
            parcel,
            to,
            event: event.to_owned(),
            task: "0a1b".parse().unwrap(),
            name: "aberdeen-air".parse().unwrap(),
            service: "city-air".parse().unwrap(),
        });
        self.control().send(&request, body, &[]).unwrap();
    }

    /// What became of a parcel.
    pub(crate) fn outcome_within(
        &mut self,
        parcel: u64,
        within: Duration,
    ) -> Option<Result<(), NotDelivered>> {
        let is_its = |r: &CourierReport| match r {
            CourierReport::Delivered { parcel: p } => *p == parcel,
            CourierReport::NotDelivered { parcel: p, .. } => *p == parcel,
            _ => false,
        };
        match self.wait(within, is_its)?.0 {
            CourierReport::NotDelivered { why, .. } => Some(Err(why)),
            _ => Some(Ok(())),
        }
    }

    pub(crate) fn outcome(&mut self, parcel: u64) -> Result<(), NotDelivered> {
        self.outcome_within(parcel, PATIENCE).expect("an outcome")
    }

    /// The first state of an inbox of this kind.
    pub(crate) fn inbox(&mut self, name: &str, meant: impl Fn(&InboxState) -> bool) -> InboxState {
        let is_meant = |r: &CourierReport| match r {
            CourierReport::Inbox { inbox, state } => inbox.as_str() == name && meant(state),
            _ => false,
        };
        match self.wait(PATIENCE, is_meant).expect("a state").0 {
            CourierReport::Inbox { state, .. } => state,
            _ => unreachable!(),
        }
    }

    pub(crate) fn inbox_error(&mut self, name: &str) -> String {
        self.inbox(name, |s| s.error.is_some()).error.unwrap()
    }

    pub(crate) fn ping(&mut self) {
        self.control()
            .send(&CourierRequest::Ping { id: 7 }, &[], &[])
            .unwrap();
        let is_pong = |r: &CourierReport| *r == CourierReport::Pong { id: 7 };
        self.wait(PATIENCE, is_pong).expect("a pong");
    }

    /// Closes the channel; the courier ends well.
    pub(crate) fn end(&mut self) {
        drop(self.control.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
