//! One run: its DTOs are fetched in parallel and fed to its tender in order.
//!
//! ```text
//! DTO 0 ─┐ its turn first
//! DTO 1 ─┼──────────────► tender     at most two batches out
//! DTO 2 ─┘                  │
//!                           └─► process: release, or gone
//! ```
//! A run of a function that stays has window after window, each as if it were a run
//! of its own, over the same data channel; between them it is at rest.
//!
//! Each DTO is fetched by a thread that has nothing else to do; it may have made a
//! batch before it is its turn. The order of batches does not depend on which
//! source was faster, so that an answer can be reproduced.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fades_task::coverage::Coverage;
use fades_task::message::{BrokerReport, Feed, Release, Span};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::RetrievalFailure;
use fades_wire::{Arrival, Channel, Inbox};

use super::Reporter;
use super::held::Held;
use crate::batches::{BatchFile, Urgency};
use crate::hands::Hands;
use crate::retrieve::{Demands, Engine, Halt, Next};

/// Batches that a tender may have: one that the function works on, and the next.
const OUTSTANDING: usize = 2;

/// What is to be fetched.
pub(super) struct Wanted {
    /// Number of the run.
    pub(super) run: u64,
    pub(super) dtos: Vec<Dto>,
    /// They are a window of a function that stays.
    pub(super) of: Option<Span>,
    /// No batch may be longer.
    pub(super) window: Size,
    /// One for each DTO.
    pub(super) demands: Vec<Demands>,
}

/// A run, from outside.
pub(super) struct Run {
    shared: Arc<Shared>,
    inbox: Inbox,
}

/// What the threads of a run share.
struct Shared {
    number: u64,
    dtos: Vec<Dto>,
    of: Option<Span>,
    window: Size,
    /// One for each DTO.
    demands: Vec<Demands>,
    data: Channel,
    engine: Arc<Engine>,
    reporter: Reporter,
    stop: Arc<AtomicBool>,
    /// The DTO whose batches are wanted now.
    turn: AtomicU32,
    /// Batches that the tender has.
    outstanding: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the tender has, oldest first.
    out: VecDeque<Arc<BatchFile>>,
    /// Of the DTOs whose turn is over.
    coverage: Vec<Coverage>,
    failure: Option<RetrievalFailure>,
    /// DTOs that are still worked on.
    at_work: usize,
}

impl Run {
    /// Starts fetching and feeding.
    pub(super) fn start(
        wanted: Wanted,
        data: Channel,
        engine: &Arc<Engine>,
        reporter: &Reporter,
        hands: &Hands,
    ) -> Self {
        let (engine, reporter) = (Arc::clone(engine), reporter.clone());
        let shared = Shared::new(wanted, data, engine, reporter, VecDeque::new());
        Self {
            shared: begun(shared, hands),
            inbox: Inbox::default(),
        }
    }

    /// Goes on with the next window, if this one is at rest.
    pub(super) fn next(&mut self, wanted: Wanted, hands: &Hands) -> std::io::Result<bool> {
        if !self.is_at_rest() || self.shared.stopped() {
            return Ok(false);
        }
        let data = self.shared.data.try_clone()?;
        // The tender may give back its last batch only now.
        let out = std::mem::take(&mut self.shared.state().out);
        let (engine, reporter) = (&self.shared.engine, &self.shared.reporter);
        let (engine, reporter) = (Arc::clone(engine), reporter.clone());
        let shared = Shared::new(wanted, data, engine, reporter, out);
        self.shared = begun(shared, hands);
        Ok(true)
    }

    /// Whether it only waits for the next window.
    pub(super) fn is_at_rest(&self) -> bool {
        self.shared.of.is_some() && self.shared.state().at_work == 0
    }

    pub(super) fn number(&self) -> u64 {
        self.shared.number
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.shared.data
    }

    /// Ends fetching and feeding.
    pub(super) fn stop(&self) {
        self.shared.stop();
    }

    /// Takes what the tender says. Whether it is still there.
    pub(super) fn hear(&mut self) -> bool {
        loop {
            match self.inbox.take::<Release>(&self.shared.data) {
                Ok(Arrival::Nothing) => return true,
                Ok(Arrival::End { .. }) => break,
                Ok(Arrival::Frame(frame)) => match frame.message {
                    Release::Batch if self.shared.release() => {}
                    Release::Batch => {
                        tracing::warn!("a tender released a batch that it did not have");
                        break;
                    }
                },
                Err(e) => {
                    tracing::debug!("a tender is gone: {e}");
                    break;
                }
            }
        }
        self.shared.gone();
        false
    }
}

/// Starts the threads of a run.
fn begun(shared: Shared, hands: &Hands) -> Arc<Shared> {
    let shared = Arc::new(shared);
    if shared.dtos.is_empty() {
        shared.finish(Vec::new(), None);
    }
    for index in 0..shared.dtos.len() as u32 {
        let part = Part {
            of: Arc::clone(&shared),
            index,
            told: false,
        };
        if let Err(e) = hands.start(move || part.fetch()) {
            // The part that was not started tells so when it is dropped.
            tracing::warn!("no thread for a retrieval: {e}");
        }
    }
    shared
}

/// One DTO of a run. When it is dropped without having told what it came to, a
/// thread was missing or has ended in a panic.
struct Part {
    of: Arc<Shared>,
    index: u32,
    told: bool,
}

impl Part {
    fn fetch(mut self) {
        let (coverage, done) = self.of.fed(self.index);
        self.told = true;
        self.of.part_done(self.index, coverage, done);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let name = self.of.dtos[self.index as usize].name.clone();
        let failure = RetrievalFailure::NoRoom {
            dto: name.clone(),
            reason: "no thread could be started for it, or a defect ended that thread; if threads \
                     are missing, raise TasksMax or ulimit -u"
                .to_owned(),
        };
        self.of.part_failed(Coverage::new(name), failure);
    }
}

impl Shared {
    /// `out`: what the tender has already.
    fn new(
        wanted: Wanted,
        data: Channel,
        engine: Arc<Engine>,
        reporter: Reporter,
        out: VecDeque<Arc<BatchFile>>,
    ) -> Self {
        Self {
            number: wanted.run,
            of: wanted.of,
            window: wanted.window,
            demands: wanted.demands,
            data,
            engine,
            reporter,
            stop: Arc::default(),
            turn: AtomicU32::new(0),
            outstanding: AtomicU32::new(out.len() as u32),
            state: Mutex::new(State {
                at_work: wanted.dtos.len(),
                out,
                ..State::default()
            }),
            changed: Condvar::new(),
            dtos: wanted.dtos,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.data.shut_down();
        // Under the lock, so that nobody is between looking and waiting.
        drop(self.state());
        self.changed.notify_all();
        self.engine.shares().wake();
    }

    /// The tender is done with its oldest batch. Whether it had one.
    fn release(&self) -> bool {
        let file = self.state().out.pop_front();
        if file.is_none() {
            return false;
        }
        drop(file);
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_all();
        self.engine.shares().look_again();
        true
    }

    /// The tender closed its end, or is not heard any more.
    fn gone(&self) {
        let out = std::mem::take(&mut self.state().out);
        drop(out);
        self.stop();
    }

    /// Fetches a DTO and feeds it.
    fn fed(&self, index: u32) -> (Coverage, Result<(), Halt>) {
        let dto = &self.dtos[index as usize];
        self.taken(index, dto)
            .unwrap_or_else(|halt| (Coverage::new(dto.name.clone()), Err(halt)))
    }

    fn taken(&self, index: u32, dto: &Dto) -> Result<(Coverage, Result<(), Halt>), Halt> {
        let capacity = self.engine.batches().capacity_within(self.window.0);
        let capacity = capacity.map_err(|e| {
            Halt::Failed(RetrievalFailure::NoRoom {
                dto: dto.name.clone(),
                reason: e.to_string(),
            })
        })?;
        let demands = self.demands.get(index as usize).cloned();
        let demands = demands.unwrap_or_default();
        let mut taker = self
            .engine
            .open(dto, index, capacity, demands, &self.stop)?;
        let urgency = || self.urgency(index);
        let mut held = Held::new(dto, self.window);
        loop {
            match taker.next(&urgency)? {
                Next::Batch => {
                    // Nobody else feeds while it is its turn: the room stays.
                    drop(self.wait(|s| self.is_turn_of(index) && s.out.len() < OUTSTANDING)?);
                    let Some(file) = taker.take() else {
                        continue;
                    };
                    for file in held.with(file)? {
                        drop(self.wait(|s| s.out.len() < OUTSTANDING)?);
                        self.feed(index, &file)?;
                    }
                }
                Next::Done(done) => {
                    let (coverage, judged) = done.judged(dto);
                    return Ok((coverage, judged.and_then(|()| held.end())));
                }
            }
        }
    }

    /// A function that has nothing to work on is waited for; one that has a
    /// batch, and perhaps never gives it back, must not hold up other runs.
    fn urgency(&self, dto: u32) -> Urgency {
        let its_turn = self.turn.load(Ordering::Relaxed) == dto;
        if self.stopped() {
            Urgency::Never
        } else if its_turn && self.outstanding.load(Ordering::Relaxed) == 0 {
            Urgency::Now
        } else {
            Urgency::Ahead
        }
    }

    /// Sends a batch.
    fn feed(&self, dto: u32, file: &Arc<BatchFile>) -> Result<(), Halt> {
        let feed = Feed::Batch {
            dto,
            length: file.length,
        };
        // First of all: the release may come before `send` returns.
        self.state().out.push_back(Arc::clone(file));
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        let sent = self.data.send(&feed, &[], &[file.descriptor.as_fd()]);
        sent.map_err(|_| Halt::Stopped)
    }

    fn is_turn_of(&self, dto: u32) -> bool {
        self.turn.load(Ordering::Relaxed) == dto
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Halt> {
        let mut state = self.state();
        loop {
            if self.stopped() {
                return Err(Halt::Stopped);
            }
            if until(&state) {
                return Ok(state);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a DTO came to counts when it is its turn.
    fn part_done(&self, index: u32, coverage: Coverage, done: Result<(), Halt>) {
        let turn = self.wait(|_| self.is_turn_of(index)).map(drop);
        let done = turn.and(done).and_then(|()| match self.of {
            // There are more in the next window.
            Some(_) => Ok(()),
            None => {
                let sent = self.data.send(&Feed::End { dto: index }, &[], &[]);
                sent.map_err(|_| Halt::Stopped)
            }
        });
        match done {
            Ok(()) => {
                self.turn.fetch_add(1, Ordering::Relaxed);
                if (index as usize) + 1 < self.dtos.len() {
                    drop(self.state());
                    self.changed.notify_all();
                    self.engine.shares().look_again();
                }
                self.part_over(coverage, None);
            }
            Err(Halt::Failed(failure)) => self.part_failed(coverage, failure),
            Err(Halt::Stopped) => {
                self.stop();
                self.part_over(coverage, None);
            }
        }
    }

    fn part_failed(&self, coverage: Coverage, failure: RetrievalFailure) {
        let failure = (!self.stopped()).then_some(failure);
        self.stop();
        self.part_over(coverage, failure);
    }

    /// After the last DTO the run has ended.
    fn part_over(&self, coverage: Coverage, failure: Option<RetrievalFailure>) {
        let mut state = self.state();
        state.coverage.push(coverage);
        state.failure = state.failure.take().or(failure);
        state.at_work -= 1;
        if state.at_work > 0 {
            return;
        }
        let mut coverage = std::mem::take(&mut state.coverage);
        let failure = state.failure.take();
        drop(state);
        coverage.sort_by_key(|c| self.dtos.iter().position(|d| d.name == c.name));
        self.finish(coverage, failure);
    }

    fn finish(&self, coverage: Vec<Coverage>, failure: Option<RetrievalFailure>) {
        let last = self.of.map_or(Feed::Finish, |Span { id, from, to }| {
            let (from, to) = (from.0, to.0);
            Feed::WindowEnd { id, from, to }
        });
        let done = !self.stopped() && self.data.send(&last, &[], &[]).is_ok();
        self.reporter.tell(&BrokerReport::RetrieveEnded {
            run: self.number,
            coverage,
            stopped: !done && failure.is_none(),
            failure,
        });
    }
}
