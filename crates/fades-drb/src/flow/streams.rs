//! The streams under way, and who can have a part of them.
//!
//! ```text
//! Ask ─► a stream that covers it ────────────► View of that stream
//!      ─► one that covers a good part of it ─► Splice: that, and the rest of its own
//!      ─► none ──────────────────────────────► a new stream, and a View of it
//! ```
//! Only ranges come here: what is there does not depend on who asks. Streams of a
//! source are joined only under the same number of its state, so that an answer is
//! as new as [`Flowing::state`](crate::source::Flowing::state) promises.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fades_task::identity::Name;

use super::splice::Splice;
use super::stream::{Pouring, Room, Seat, Stream};
use super::view::View;
use super::{Ask, From, Inlet, Outlet, To};

/// Lets a source say what an ask wants, in a thread of its own.
#[derive(Clone)]
pub(crate) struct Begin(Arc<dyn Fn(Ask, Outlet) + Send + Sync>);

/// The streams of all sources.
#[derive(Debug)]
pub(crate) struct Streams {
    room: Arc<Room>,
    /// How long streams are open.
    open: Duration,
    streams: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    source: Name,
    /// Number of the source's state.
    number: u64,
    ask: Ask,
    stream: Arc<Stream>,
}

impl Begin {
    pub(crate) fn new(begin: impl Fn(Ask, Outlet) + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    /// What it says to one taker.
    pub(crate) fn alone(&self, ask: Ask) -> Inlet {
        let (outlet, inlet) = Outlet::pair();
        (self.0)(ask, outlet);
        inlet
    }
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begin")
    }
}

impl Streams {
    /// None yet; what is kept for others than the fastest takes at most `room`
    /// bytes, and who comes within `open` gets all.
    pub(crate) fn new(room: u64, open: Duration) -> Self {
        Self {
            room: Arc::new(Room::new(room)),
            open,
            streams: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        // Every change is complete when the lock is given back.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a source, whose state has this number, says about a range.
    pub(crate) fn open(&self, source: &Name, number: u64, ask: Ask, begin: &Begin) -> Inlet {
        let of = Of {
            source,
            number,
            begin,
        };
        let mut streams = self.lock();
        streams.retain(|known| known.stream.is_open());
        let can = of.suitable(&streams, &ask);
        match partly(&can, &ask).filter(|_| !can.iter().any(|known| known.has_all(&ask))) {
            Some(middle) => {
                drop(streams);
                self.spliced(&of, ask, middle)
            }
            None => self.whole(&mut streams, &of, ask),
        }
    }

    /// Takes the middle from a stream, and asks for what is before and after.
    fn spliced(&self, of: &Of<'_>, ask: Ask, (from, to, seat): (i64, i64, Seat)) -> Inlet {
        let part = |from, to| Ask {
            selector: ask.selector.between(from, to),
            ..ask.clone()
        };
        let rest = [(ask.selector.from, from), (to, ask.selector.to)];
        // Parts of parts are not looked for.
        let rest = rest.map(|(from, to)| {
            (from < to).then(|| self.whole(&mut self.lock(), of, part(from, to)))
        });
        let middle = View::of(seat, part(from, to), false, of.begin);
        let splice = Splice::new(rest, middle, &self.room);
        View::spliced(splice, ask, of.begin).into()
    }

    /// A view of a stream that has all that is asked for, or else of a new one.
    fn whole(&self, streams: &mut Vec<Known>, of: &Of<'_>, ask: Ask) -> Inlet {
        let can = of.suitable(streams, &ask);
        let joined = can.iter().filter(|known| known.has_all(&ask));
        let mut joined =
            joined.filter_map(|known| Some((known.stream.join()?, known.is_same(&ask))));
        if let Some((seat, is_same)) = joined.next() {
            return View::of(seat, ask, is_same, of.begin).into();
        }
        drop(joined);
        let (stream, seat) = Stream::new(&self.room, Instant::now() + self.open);
        let fetch = Ask {
            stop: Arc::clone(&stream.stop),
            ..ask.clone()
        };
        let pouring = Pouring::new(Arc::clone(&stream));
        streams.push(Known {
            source: of.source.clone(),
            number: of.number,
            ask: fetch.clone(),
            stream,
        });
        (of.begin.0)(fetch, Outlet(To::Several(Arc::new(pouring))));
        View::first(seat, ask, of.begin).into()
    }

    /// Forgets streams that nobody can join any more. Whether any are left.
    pub(crate) fn expire(&self) -> bool {
        let mut streams = self.lock();
        streams.retain(|known| known.stream.is_open());
        !streams.is_empty()
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> u64 {
        self.room.used()
    }
}

/// Of which source something is asked.
struct Of<'a> {
    source: &'a Name,
    number: u64,
    begin: &'a Begin,
}

impl Of<'_> {
    /// Streams that have all series that `ask` wants.
    fn suitable<'s>(&self, streams: &'s [Known], ask: &Ask) -> Vec<&'s Known> {
        let now = Instant::now();
        let here = streams
            .iter()
            .filter(|k| k.source == *self.source && k.number == self.number);
        let suitable = here.filter(|k| k.waits(ask, now) && k.ask.selector.covers(&ask.selector));
        suitable.collect()
    }
}

impl Known {
    /// Whether it waits as long for devices as `ask` would.
    fn waits(&self, ask: &Ask, now: Instant) -> bool {
        let left = |ask: &Ask| ask.deadline.map(|d| d.saturating_duration_since(now));
        match (left(&self.ask), left(ask)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(asked)) => rounded(own) >= rounded(asked),
        }
    }

    /// Whether it has the whole range of `ask`.
    fn has_all(&self, ask: &Ask) -> bool {
        let (has, wanted) = (&self.ask.selector, &ask.selector);
        has.from <= wanted.from && wanted.to <= has.to
    }

    /// Whether it has nothing else than `ask` wants.
    fn is_same(&self, ask: &Ask) -> bool {
        let (has, wanted) = (&self.ask.selector, &ask.selector);
        (has.from, has.to) == (wanted.from, wanted.to) && wanted.covers(has)
    }
}

/// The stream that has most of the range of `ask`, half of it at least, and what it
/// has of it: otherwise the rest is more than what is saved.
fn partly(can: &[&Known], ask: &Ask) -> Option<(i64, i64, Seat)> {
    let wanted = &ask.selector;
    let span = |from: i64, to: i64| i128::from(to) - i128::from(from);
    let parts = can.iter().map(|known| {
        let has = &known.ask.selector;
        (has.from.max(wanted.from), has.to.min(wanted.to), known)
    });
    let enough = |from, to| 2 * span(from, to) >= span(wanted.from, wanted.to);
    let mut parts: Vec<_> = parts
        .filter(|(from, to, _)| from < to && enough(*from, *to))
        .collect();
    parts.sort_by_key(|(from, to, _)| -span(*from, *to));
    let mut parts = parts.into_iter();
    parts.find_map(|(from, to, known)| Some((from, to, known.stream.join()?)))
}

/// A time so rounded that a quarter more is something else.
pub(crate) fn rounded(time: Duration) -> (u32, u64) {
    let time = (time.as_micros() as u64).max(4);
    let power = time.ilog2();
    (power, time >> (power - 2))
}

impl std::convert::From<View> for Inlet {
    fn from(view: View) -> Self {
        Self(From::Several(Box::new(view)))
    }
}

#[cfg(test)]
pub(super) mod tests;
