//! One answer of several that come at the same time.
//!
//! A long range is asked for in parts. Each part has the same series in the same
//! order, so that the parts of each series can be put one after the other. What
//! waits is bounded: a part that is ahead is slowed down.
//!
//! 1.x sends series in the order of their names. What the order of 2.x is, is said
//! nowhere: it is taken from the list of series, which the same server made. A part
//! in another order is an error, not an answer with holes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use fades_task::coverage::LossReason;
use fades_task::mtw::AggregateKind;

use super::InfluxError;
use super::grouping::Piece;
use super::layout::{Group, Layout};
use crate::flow::{Ask, Matching, Outlet};
use crate::series::{MAX_SERIES, SeriesKey};

/// Pieces of a part that may wait; each has at most some thousand readings.
const WAITING: usize = 64;

/// Longest name of a device, kind or location, bytes.
const LONGEST: usize = 256;

/// Whether a name of a series is too long to be kept.
pub(super) fn is_long(key: &SeriesKey) -> bool {
    let names = [&key.device, &key.kind, &key.location, &key.unit];
    names.into_iter().any(|name| name.len() > LONGEST)
}

/// Where a part says what it has, and where it is heard.
pub(super) fn part() -> (SyncSender<Piece>, Receiver<Piece>) {
    sync_channel(WAITING)
}

/// In which order the series of a part come.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// That of their names.
    Names,
    /// That in which the server listed them.
    Listed(HashMap<Group, usize>),
}

impl Order {
    /// Where a series stands; of two in the same place, the names decide. `None`
    /// of one that was not there yet when the list was made.
    fn place(&self, group: &Group) -> Option<usize> {
        match self {
            Self::Names => Some(0),
            Self::Listed(places) => places.get(group).copied(),
        }
    }
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
    Unnamed(SeriesKey),
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
        match self.fate(&piece.group)? {
            Fate::Other => {}
            Fate::Unnamed(key) => {
                let mut times = piece.segment.time;
                times.extend(piece.unusable);
                self.out.lost_of(LossReason::Unnamed, &key, times)?;
            }
            Fate::Sent(key) => {
                if !piece.unusable.is_empty() {
                    self.out.series([Matching::always(&key)])?;
                    let unusable = piece.unusable;
                    self.out.lost_of(LossReason::NotANumber, &key, unusable)?;
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
        let mut key = self.layout.key(group);
        // These are not remembered: a hundred thousand of them would not fit.
        if is_long(&key) {
            let fate = match self.ask.selector.matches(&key) {
                true => Fate::Unnamed(key),
                false => Fate::Other,
            };
            self.now = Some((Arc::clone(group), fate.clone()));
            return Ok(fate);
        }
        if self.groups.len() >= MAX_SERIES {
            return Err(InfluxError::TooManySeries { address: address() });
        }
        if !self.groups.insert(Arc::clone(group)) {
            return Err(InfluxError::Malformed {
                address: address(),
                what: "a series that goes on after another one".to_owned(),
            });
        }
        let fate = if !self.ask.selector.matches(&key) {
            Fate::Other
        } else if key.device.is_empty() || key.kind.is_empty() {
            Fate::Unnamed(key)
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

/// Sends what the parts have, each series whole. A part that fails looks as if it had
/// come to its end: whoever runs the parts knows.
pub(super) fn merge(
    parts: Vec<Receiver<Piece>>,
    order: &Order,
    naming: &mut Naming<'_>,
) -> Result<(), InfluxError> {
    let parts = parts.into_iter().map(|inlet| Part {
        inlet,
        head: None,
        last: None,
    });
    let mut parts: Vec<Part> = parts.collect();
    for part in &mut parts {
        part.pull(order, naming)?;
    }
    loop {
        let heads = parts.iter().filter_map(|p| p.head.as_ref());
        let Some(first) = heads.map(|(place, _)| place.clone()).min() else {
            return Ok(());
        };
        for part in &mut parts {
            while let Some((_, piece)) = part.head.take_if(|(place, _)| *place == first) {
                naming.send(piece)?;
                part.pull(order, naming)?;
            }
        }
    }
}

/// Where a piece stands among those of its part.
type Place = (usize, Arc<Group>);

struct Part {
    inlet: Receiver<Piece>,
    head: Option<(Place, Piece)>,
    last: Option<Place>,
}

impl Part {
    fn pull(&mut self, order: &Order, naming: &Naming<'_>) -> Result<(), InfluxError> {
        self.head = None;
        // A part ends when it failed or is stopped, and so does this.
        while let Ok(piece) = self.inlet.recv() {
            if let Some(place) = order.place(&piece.group) {
                self.head = Some(((place, Arc::clone(&piece.group)), piece));
                break;
            }
        }
        let Some((place, _)) = &self.head else {
            return Ok(());
        };
        // In another order, parts of a series could not be found together.
        if self.last.as_ref().is_some_and(|last| last > place) {
            return Err(InfluxError::Malformed {
                address: naming.address.to_owned(),
                what: "series in another order than before; set parallel = 1".to_owned(),
            });
        }
        self.last = Some(place.clone());
        Ok(())
    }
}
