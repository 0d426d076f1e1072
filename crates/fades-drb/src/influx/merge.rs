//! One answer of several that come at the same time.
//!
//! A long range is asked for in parts. Each part has the same series in the same
//! order, so that the parts of each series can be put one after the other. What
//! waits is bounded: a part that is ahead is slowed down.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use fades_task::coverage::LossReason;
use fades_task::mtw::AggregateKind;

use super::InfluxError;
use super::grouping::Piece;
use super::layout::{Group, Layout};
use crate::flow::{Ask, Outlet, Stopped};
use crate::series::{MAX_SERIES, SeriesKey};

/// Pieces of a part that may wait; each has at most some thousand readings.
const WAITING: usize = 64;

/// How often a look is taken at whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest name of a device, kind or location, bytes.
const LONGEST: usize = 256;

/// What a part says.
pub(super) type Said = Result<Piece, InfluxError>;

/// Where a part says it, and where it is heard.
pub(super) fn part() -> (SyncSender<Said>, Receiver<Said>) {
    sync_channel(WAITING)
}

/// Sends pieces under the names of their series.
pub(super) struct Naming<'a> {
    pub(super) layout: &'a Layout,
    pub(super) address: &'a str,
    pub(super) ask: &'a Ask,
    pub(super) out: &'a Outlet,
    groups: HashSet<Arc<Group>>,
    keys: HashSet<SeriesKey>,
    now: Option<(Arc<Group>, Fate)>,
}

/// What becomes of a series.
#[derive(Clone)]
enum Fate {
    Sent(SeriesKey),
    /// It has no device or no kind, or a name that is too long.
    Unnamed,
    /// The task does not want it.
    Other,
}

impl<'a> Naming<'a> {
    pub(super) fn new(layout: &'a Layout, address: &'a str, ask: &'a Ask, out: &'a Outlet) -> Self {
        Self {
            layout,
            address,
            ask,
            out,
            groups: HashSet::new(),
            keys: HashSet::new(),
            now: None,
        }
    }

    /// Sends a piece; pieces of a series come one after the other.
    pub(super) fn send(&mut self, piece: Piece) -> Result<(), InfluxError> {
        let rows = piece.segment.rows() as u64 + piece.unusable;
        match self.fate(&piece.group)? {
            Fate::Other => {}
            Fate::Unnamed => self.out.lost(LossReason::Unnamed, rows, None)?,
            Fate::Sent(key) => {
                if piece.unusable > 0 {
                    self.out.device(&key.device)?;
                    self.out
                        .lost(LossReason::NotANumber, piece.unusable, None)?;
                }
                if piece.segment.rows() > 0 {
                    self.out.readings(&key, piece.segment)?;
                }
            }
        }
        Ok(())
    }

    fn fate(&mut self, group: &Arc<Group>) -> Result<Fate, InfluxError> {
        if let Some((now, fate)) = &self.now
            && now == group
        {
            return Ok(fate.clone());
        }
        let address = || self.address.to_owned();
        if self.groups.len() >= MAX_SERIES {
            return Err(InfluxError::TooManySeries { address: address() });
        }
        if !self.groups.insert(Arc::clone(group)) {
            return Err(InfluxError::Malformed {
                address: address(),
                what: "a series that goes on after another one".to_owned(),
            });
        }
        let mut key = self.layout.key(group);
        let is_long = |name: &Arc<str>| name.len() > LONGEST;
        let fate = if !self.ask.selector.matches(&key) {
            Fate::Other
        } else if key.device.is_empty()
            || key.kind.is_empty()
            || [&key.device, &key.kind, &key.location, &key.unit]
                .into_iter()
                .any(is_long)
        {
            Fate::Unnamed
        } else {
            let count = |a: fades_task::mtw::Aggregate| a.of == AggregateKind::Count;
            if self.ask.aggregate.is_some_and(count) {
                key.unit = "1".into();
            }
            if !self.keys.insert(key.clone()) {
                return Err(InfluxError::Twice {
                    address: address(),
                    key: words(&key),
                });
            }
            Fate::Sent(key)
        };
        self.now = Some((Arc::clone(group), fate.clone()));
        Ok(fate)
    }
}

/// A series in words.
pub(super) fn words(key: &SeriesKey) -> String {
    let SeriesKey {
        device,
        location,
        kind,
        unit,
    } = key;
    format!("{kind} of {device} at {location:?} in {unit:?}")
}

/// Sends what the parts have, each series whole.
pub(super) fn merge(
    parts: Vec<Receiver<Said>>,
    naming: &mut Naming<'_>,
) -> Result<(), InfluxError> {
    let parts = parts.into_iter().map(|inlet| Part {
        inlet,
        head: None,
        last: None,
    });
    let mut parts: Vec<Part> = parts.collect();
    for part in &mut parts {
        part.pull(naming)?;
    }
    loop {
        let heads = parts.iter().filter_map(|p| p.head.as_ref());
        let Some(first) = heads.map(|h| Arc::clone(&h.group)).min() else {
            return Ok(());
        };
        for part in &mut parts {
            while let Some(piece) = part.head.take_if(|h| h.group == first) {
                naming.send(piece)?;
                part.pull(naming)?;
            }
        }
    }
}

struct Part {
    inlet: Receiver<Said>,
    head: Option<Piece>,
    last: Option<Arc<Group>>,
}

impl Part {
    fn pull(&mut self, naming: &Naming<'_>) -> Result<(), InfluxError> {
        self.head = loop {
            match self.inlet.recv_timeout(PATIENCE) {
                Ok(said) => break Some(said?),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) if naming.ask.is_stopped() => {
                    return Err(Stopped.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let Some(head) = &self.head else {
            return Ok(());
        };
        // In another order, parts of a series could not be found together.
        if self.last.as_ref().is_some_and(|last| *last > head.group) {
            return Err(InfluxError::Malformed {
                address: naming.address.to_owned(),
                what: "series in no order; set parallel = 1".to_owned(),
            });
        }
        self.last = Some(Arc::clone(&head.group));
        Ok(())
    }
}
