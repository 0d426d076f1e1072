//! One run: its DTOs are fetched in parallel and fed to its tender in order.
//!
//! ```text
//! producer of DTO 0 ─┐ one batch
//! producer of DTO 1 ─┼────────────► feeder ──► tender   at most two batches out
//! producer of DTO 2 ─┘                ▲          │
//!                                     └─ reader ◄┘ release, or gone
//! ```
//! The order of batches does not depend on which source was faster, so that an
//! answer can be reproduced.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::message::{BrokerReport, Feed, Release};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::RetrievalFailure;
use fades_wire::Channel;

use super::{Reporter, memory};
use crate::batches::{BatchFile, Lease, Urgency};
use crate::retrieve::{Engine, Halt, Outlet, unless_stopped};

/// Batches that a tender may have: one that the function works on, and the next.
const OUTSTANDING: usize = 2;

/// A run, from outside.
pub(super) struct Run {
    shared: Arc<Shared>,
    feeder: JoinHandle<()>,
    reader: JoinHandle<()>,
}

/// What the threads of a run share.
struct Shared {
    data: Channel,
    stop: Arc<AtomicBool>,
    /// The DTO whose batches are wanted now.
    turn: AtomicU32,
    out: Mutex<Out>,
    changed: Condvar,
}

/// What the tender has.
#[derive(Default)]
struct Out {
    leases: VecDeque<Lease>,
    /// The tender closed its end.
    gone: bool,
}

/// A DTO being fetched.
struct Producer {
    batches: Receiver<BatchFile>,
    thread: JoinHandle<(Coverage, Result<(), Halt>)>,
}

impl Run {
    /// Starts fetching and feeding. On failure gives a DTO to name in it.
    pub(super) fn start(
        run: u64,
        dtos: Vec<Dto>,
        window: Size,
        data: Channel,
        engine: Arc<Engine>,
        reporter: Reporter,
    ) -> Result<Self, (Option<Name>, std::io::Error)> {
        let first = dtos.first().map(|d| d.name.clone());
        Self::started(run, dtos, window, data, engine, reporter).map_err(|e| (first, e))
    }

    fn started(
        run: u64,
        dtos: Vec<Dto>,
        window: Size,
        data: Channel,
        engine: Arc<Engine>,
        reporter: Reporter,
    ) -> std::io::Result<Self> {
        let incoming = data.try_clone()?;
        let shared = Arc::new(Shared {
            data,
            stop: Arc::default(),
            turn: AtomicU32::new(0),
            out: Mutex::default(),
            changed: Condvar::new(),
        });
        let reader = {
            let (shared, engine) = (Arc::clone(&shared), Arc::clone(&engine));
            thread::Builder::new()
                .name(format!("reader-{run}"))
                .spawn(move || shared.read(&incoming, &engine))?
        };
        let feeder = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("feeder-{run}"))
                .spawn(move || shared.feed(run, dtos, window, &engine, &reporter))
        };
        match feeder {
            Ok(feeder) => Ok(Self {
                shared,
                feeder,
                reader,
            }),
            Err(e) => {
                shared.data.shut_down();
                Err(e)
            }
        }
    }

    /// Ends fetching and feeding.
    pub(super) fn stop(&self, engine: &Engine) {
        self.shared.stop(engine);
    }

    pub(super) fn is_over(&self) -> bool {
        self.feeder.is_finished() && self.reader.is_finished()
    }

    pub(super) fn join(self) {
        // Panics were printed where they happened; there is nobody to tell.
        let _ = self.feeder.join();
        let _ = self.reader.join();
    }
}

impl Shared {
    fn stop(&self, engine: &Engine) {
        self.stop.store(true, Ordering::Relaxed);
        self.data.shut_down();
        engine.batches().budget().wake();
        let _out = self.out();
        self.changed.notify_all();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // Every change is complete when the lock is given back.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the tender says, until it is gone.
    fn read(&self, incoming: &Channel, engine: &Engine) {
        loop {
            match incoming.receive::<Release>(None) {
                Ok(Some(frame)) => match frame.message {
                    Release::Batch => {
                        let lease = self.out().leases.pop_front();
                        self.changed.notify_all();
                        if lease.is_none() {
                            tracing::warn!("a tender released a batch that it did not have");
                            break;
                        }
                    }
                    // Nothing that this broker sends is answered by these.
                    Release::State | Release::Answer { .. } => {
                        tracing::warn!("a tender sent what nobody asked for");
                        break;
                    }
                },
                Ok(None) => break,
                Err(e) => {
                    tracing::debug!("a tender is gone: {e}");
                    break;
                }
            }
        }
        let leases = {
            let mut out = self.out();
            out.gone = true;
            std::mem::take(&mut out.leases)
        };
        drop(leases);
        self.stop(engine);
    }

    fn feed(
        self: &Arc<Self>,
        run: u64,
        dtos: Vec<Dto>,
        window: Size,
        engine: &Arc<Engine>,
        reporter: &Reporter,
    ) {
        let (coverage, done) = self.fed(dtos, window, engine);
        let (failure, stopped) = match done {
            Ok(()) => (None, false),
            Err(Halt::Stopped) => (None, true),
            Err(Halt::Failed(failure)) => (Some(failure), false),
        };
        if failure.is_some() {
            // The tender has nothing to wait for any more.
            self.stop(engine);
        }
        memory::trim();
        reporter.tell(&BrokerReport::RetrieveEnded {
            run,
            coverage,
            failure,
            stopped,
        });
    }

    /// Feeds all DTOs; gives their coverage as far as it came.
    fn fed(
        self: &Arc<Self>,
        dtos: Vec<Dto>,
        window: Size,
        engine: &Arc<Engine>,
    ) -> (Vec<Coverage>, Result<(), Halt>) {
        let names: Vec<Name> = dtos.iter().map(|d| d.name.clone()).collect();
        let mut done = Ok(());
        let mut producers = Vec::new();
        for (i, dto) in (0..).zip(dtos) {
            let name = dto.name.clone();
            match self.produce(i, dto, window, engine) {
                Ok(producer) => producers.push(producer),
                Err(e) => {
                    done = Err(Halt::Failed(RetrievalFailure::NoRoom {
                        dto: name,
                        reason: format!(
                            "no thread can be started: {e}; raise TasksMax or ulimit -u"
                        ),
                    }));
                    break;
                }
            }
        }
        let mut coverage = Vec::new();
        for (i, producer) in (0..).zip(producers) {
            if done.is_ok() {
                self.turn.store(i, Ordering::Relaxed);
                engine.batches().budget().wake();
                done = self.forward(i, &producer.batches);
            }
            if done.is_err() {
                self.stop.store(true, Ordering::Relaxed);
                engine.batches().budget().wake();
            }
            drop(producer.batches);
            let name = &names[i as usize];
            let (covered, produced) = producer
                .thread
                .join()
                .unwrap_or_else(|_| (Coverage::new(name.clone()), Err(Halt::Failed(defect(name)))));
            coverage.push(covered);
            if done.is_ok() {
                done = produced.and_then(|()| self.send(&Feed::End { dto: i }, None));
            }
        }
        coverage.extend(names[coverage.len()..].iter().cloned().map(Coverage::new));
        (coverage, done.and_then(|()| self.send(&Feed::Finish, None)))
    }

    fn produce(
        self: &Arc<Self>,
        index: u32,
        dto: Dto,
        window: Size,
        engine: &Arc<Engine>,
    ) -> std::io::Result<Producer> {
        let (sender, batches) = sync_channel(0);
        let (shared, engine) = (Arc::clone(self), Arc::clone(engine));
        let thread = thread::Builder::new()
            .name(format!("dto-{index}"))
            .spawn(move || shared.fetch(index, &dto, window, &engine, &sender))?;
        Ok(Producer { batches, thread })
    }

    fn fetch(
        &self,
        index: u32,
        dto: &Dto,
        window: Size,
        engine: &Engine,
        batches: &SyncSender<BatchFile>,
    ) -> (Coverage, Result<(), Halt>) {
        let capacity = match engine.batches().capacity_within(window.0) {
            Ok(capacity) => capacity,
            Err(e) => {
                let failure = RetrievalFailure::NoRoom {
                    dto: dto.name.clone(),
                    reason: e.to_string(),
                };
                return (Coverage::new(dto.name.clone()), Err(Halt::Failed(failure)));
            }
        };
        let urgency = || unless_stopped(&self.stop, self.urgency(index));
        // The feeder goes away when the run is stopped.
        let mut out = |batch| batches.send(batch).map_err(|_| Halt::Stopped);
        let outlet = Outlet {
            index,
            capacity,
            stop: &self.stop,
            urgency: &urgency,
            out: &mut out,
        };
        engine.retrieve(dto, outlet)
    }

    /// A function that has nothing to work on is waited for; one that has a
    /// batch, and perhaps never gives it back, must not hold up other runs.
    fn urgency(&self, dto: u32) -> Urgency {
        let its_turn = self.turn.load(Ordering::Relaxed) == dto;
        if its_turn && self.out().leases.is_empty() {
            Urgency::Now
        } else {
            Urgency::Ahead
        }
    }

    /// Sends a DTO's batches as fast as the tender takes them.
    fn forward(&self, dto: u32, batches: &Receiver<BatchFile>) -> Result<(), Halt> {
        for batch in batches {
            self.wait_for_room()?;
            let feed = Feed::Batch {
                dto,
                length: batch.length,
            };
            self.send(&feed, Some(batch))?;
        }
        Ok(())
    }

    fn wait_for_room(&self) -> Result<(), Halt> {
        let mut out = self.out();
        while out.leases.len() >= OUTSTANDING && !out.gone && !self.stopped() {
            out = self
                .changed
                .wait(out)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if out.gone || self.stopped() {
            return Err(Halt::Stopped);
        }
        Ok(())
    }

    fn send(&self, feed: &Feed, batch: Option<BatchFile>) -> Result<(), Halt> {
        if self.stopped() {
            return Err(Halt::Stopped);
        }
        let Some(batch) = batch else {
            return self.data.send(feed, &[], &[]).map_err(|_| Halt::Stopped);
        };
        // The lease first: the release may come before `send` returns.
        self.out().leases.push_back(batch.lease);
        let descriptor = batch.descriptor.as_fd();
        self.data
            .send(feed, &[], &[descriptor])
            .map_err(|_| Halt::Stopped)
    }
}

fn defect(dto: &Name) -> RetrievalFailure {
    RetrievalFailure::Selector {
        dto: dto.clone(),
        reason: "a defect of the broker ended this retrieval".to_owned(),
    }
}
