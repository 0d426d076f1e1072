//! Deliveries: parcels wait for a thread, and no receiver has all threads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use fades_task::courier::{CourierReport, NotDelivered, PARCELS_MAX, Parcel, Receiver};

use crate::report::Reporter;
use crate::stop::Stop;

mod folder;
mod http;
mod mqtt;

pub(crate) use folder::{FolderTo, inside};
pub(crate) use http::HttpTo;
pub(crate) use mqtt::MqttTo;

/// Threads that deliver.
pub(crate) const HANDS: usize = 8;

/// Deliveries to one receiver at one time.
const TOGETHER: usize = 4;

/// A receiver, and how it is reached.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// By HTTP.
    Http(HttpTo),
    /// By MQTT.
    Mqtt(MqttTo),
    /// Into a folder.
    Folder(FolderTo),
}

/// All deliveries.
#[derive(Debug)]
pub(crate) struct Deliveries {
    carriers: HashMap<Receiver, Carrier>,
    reporter: Reporter,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Parcel, Vec<u8>)>,
    under_way: HashMap<Receiver, usize>,
    ended: bool,
}

/// Longest reason that the orchestrator is told, bytes.
const REASON_MAX: usize = 1024;

/// It may work the next time.
pub(crate) fn not_now(reason: impl ToString) -> NotDelivered {
    let mut reason = reason.to_string();
    let end = (0..=REASON_MAX).rev().find(|&i| reason.is_char_boundary(i));
    reason.truncate(end.unwrap_or(0));
    NotDelivered {
        reason,
        refused: false,
        after: None,
    }
}

/// These bytes will never be taken.
pub(crate) fn never(reason: impl ToString) -> NotDelivered {
    NotDelivered {
        refused: true,
        ..not_now(reason)
    }
}

impl Carrier {
    fn carry(&self, parcel: &Parcel, body: Vec<u8>, stop: &Stop) -> Result<(), NotDelivered> {
        match self {
            Self::Http(to) => to.carry(body, stop),
            Self::Mqtt(to) => to.carry(parcel, body, stop),
            Self::Folder(to) => to.carry(parcel, &body),
        }
    }

    /// How many deliveries it takes at one time.
    const fn together(&self) -> usize {
        match self {
            // A broker has one client of a name.
            Self::Mqtt(to) if to.has_name() => 1,
            _ => TOGETHER,
        }
    }
}

impl Deliveries {
    pub(crate) fn new(carriers: HashMap<Receiver, Carrier>, reporter: Reporter) -> Self {
        Self {
            carriers,
            reporter,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Takes a parcel; its outcome is reported.
    pub(crate) fn take(&self, parcel: Parcel, body: Vec<u8>) {
        if !self.carriers.contains_key(&parcel.to) {
            let reason = format!("nothing of the name {} is configured", parcel.to.name());
            return self.report(&parcel, Err(not_now(reason)));
        }
        let mut state = self.lock();
        let under_way: usize = state.under_way.values().sum();
        if state.waiting.len() + under_way >= PARCELS_MAX {
            drop(state);
            let reason = format!("the courier has {PARCELS_MAX} parcels already");
            return self.report(&parcel, Err(not_now(reason)));
        }
        state.waiting.push_back((parcel, body));
        drop(state);
        self.changed.notify_all();
    }

    /// Delivers until it is time to end.
    pub(crate) fn work(&self, stop: &Stop) {
        while let Some((parcel, body)) = self.next() {
            let carrier = self.carriers.get(&parcel.to);
            let outcome = match carrier {
                Some(carrier) => carrier.carry(&parcel, body, stop),
                None => Err(not_now("it is not configured")),
            };
            self.done(&parcel.to);
            if stop.is_set() {
                return;
            }
            self.report(&parcel, outcome);
        }
    }

    /// Nothing more is delivered.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn report(&self, parcel: &Parcel, outcome: Result<(), NotDelivered>) {
        let parcel = parcel.parcel;
        self.reporter.tell(&match outcome {
            Ok(()) => CourierReport::Delivered { parcel },
            Err(why) => CourierReport::NotDelivered { parcel, why },
        });
    }

    /// The first parcel whose receiver can have another one.
    fn next(&self) -> Option<(Parcel, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let is_free = |(parcel, _): &(Parcel, Vec<u8>)| {
                let under_way = state.under_way.get(&parcel.to).copied();
                let together = self.carriers.get(&parcel.to).map_or(1, Carrier::together);
                under_way.unwrap_or(0) < together
            };
            if let Some(next) = state.waiting.iter().position(is_free)
                && let Some(taken) = state.waiting.remove(next)
            {
                *state.under_way.entry(taken.0.to.clone()).or_default() += 1;
                return Some(taken);
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, to: &Receiver) {
        let mut state = self.lock();
        if let Some(under_way) = state.under_way.get_mut(to) {
            *under_way -= 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
