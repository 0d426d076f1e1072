//! Where letters wait for their verdicts, few at a time and each inbox in its turn.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use fades_task::courier::{CourierReport, LETTERS_MAX, Verdict};
use fades_task::identity::Name;

use crate::report::Reporter;

/// The desk of all inboxes.
#[derive(Debug)]
pub(crate) struct Desk {
    reporter: Reporter,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Those who have a letter for the orchestrator, in the order in which they came.
    queue: VecDeque<u64>,
    tickets: u64,
    letters: u64,
    /// By number of the letter.
    waiting: HashMap<u64, Sender<(u64, Verdict)>>,
    ended: bool,
}

/// The orchestrator is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Letters of one inbox that are handed in together; `T` is what it knows each by.
#[derive(Debug)]
pub(crate) struct Round<'a, T> {
    desk: &'a Desk,
    inbox: &'a Name,
    to: Sender<(u64, Verdict)>,
    verdicts: Receiver<(u64, Verdict)>,
    handed: HashMap<u64, T>,
}

impl Desk {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn round<'a, T>(&'a self, inbox: &'a Name) -> Round<'a, T> {
        let (to, verdicts) = channel();
        Round {
            desk: self,
            inbox,
            to,
            verdicts,
            handed: HashMap::new(),
        }
    }

    /// What became of a letter.
    pub(crate) fn verdict(&self, letter: u64, verdict: Verdict) {
        let mut state = self.lock();
        if let Some(to) = state.waiting.remove(&letter) {
            // Its round may have ended.
            let _ = to.send((letter, verdict));
            self.changed.notify_all();
        }
    }

    /// Nobody waits any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a letter, once there is room for it and it is its turn.
    fn admit(&self, to: &Sender<(u64, Verdict)>) -> Result<u64, Gone> {
        let mut state = self.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        state.queue.push_back(ticket);
        loop {
            if state.ended {
                return Err(Gone);
            }
            if state.queue.front() == Some(&ticket) && state.waiting.len() < LETTERS_MAX {
                break;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.pop_front();
        state.letters += 1;
        let letter = state.letters;
        state.waiting.insert(letter, to.clone());
        drop(state);
        self.changed.notify_all();
        Ok(letter)
    }
}

impl<T> Round<'_, T> {
    /// Hands a letter in; waits for room.
    pub(crate) fn hand_in(&mut self, envelope: &[u8], known_by: T) -> Result<(), Gone> {
        let letter = self.desk.admit(&self.to)?;
        self.handed.insert(letter, known_by);
        let report = CourierReport::Letter {
            letter,
            inbox: self.inbox.clone(),
        };
        let sent = self.desk.reporter.send_with(&report, envelope);
        sent.map_err(|_| Gone)
    }

    /// Waits for all verdicts.
    pub(crate) fn verdicts(self) -> Result<Vec<(T, Verdict)>, Gone> {
        let Self {
            to,
            verdicts,
            mut handed,
            ..
        } = self;
        // Then only letters that wait have senders.
        drop(to);
        let said = verdicts.iter();
        let said = said.filter_map(|(letter, verdict)| Some((handed.remove(&letter)?, verdict)));
        let said: Vec<_> = said.collect();
        if handed.is_empty() {
            Ok(said)
        } else {
            Err(Gone)
        }
    }
}
