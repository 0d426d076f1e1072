//! Readings on their way from a source that sends what it has, to whoever makes
//! batches of them.
//!
//! ```text
//! source ── Outlet ──► bounded channel ──► Flow ── chunks
//! (a thread of its own)                    (whoever makes the next batch)
//! ```
//! A source says which devices it asks, then what they answered, *series after
//! series*: all readings of a series come together, in the order of their times
//! as far as the source can; and then it ends. It is slowed down by whoever takes
//! its readings, and told to stop by a failing send.
//!
//! What is said about a range can be given to several who ask for parts of it: see
//! [`streams`]. Then a [`stream`] stands in the place of the channel, and each has a
//! [`view`] of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use fades_task::coverage::{BadRow, Gap, LossReason};
use fades_task::mtw::{Aggregate, Take};
use fades_task::time::Time;

use crate::chunk::Segment;
use crate::selector::Selector;
use crate::series::SeriesKey;

mod assembly;
mod splice;
mod stream;
mod streams;
mod view;

pub(crate) use assembly::{Ahead, Assembly, Outcome};
pub(crate) use streams::{Begin, Streams, rounded};

#[cfg(test)]
pub(crate) use streams::tests::fetches_of_pairs;

use stream::Pouring;
use view::View;

/// What a source is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Which series, and the range of their times.
    pub(crate) selector: Selector,
    pub(crate) take: Take,
    pub(crate) aggregate: Option<Aggregate>,
    /// Devices that have not answered by then are late. What is asked for a range
    /// is there or not: no source looks at it then.
    pub(crate) deadline: Option<Instant>,
    /// Set when nobody wants it any more.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Ask {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A series that matches what is asked.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    pub(crate) key: SeriesKey,
    /// When it is found only by who asks for some of these times (both inclusive);
    /// `None`: whatever the range.
    pub(crate) when: Option<Arc<[(i64, i64)]>>,
}

/// One thing that a source says.
#[derive(Debug, Clone)]
enum Word {
    Device(Arc<str>),
    Series(Vec<Matching>),
    Readings(SeriesKey, Segment),
    Absent {
        device: Arc<str>,
        late: bool,
        since: Option<Time>,
        reason: String,
    },
    Lost {
        reason: LossReason,
        readings: u64,
        cited: Option<BadRow>,
    },
    /// Readings of one series at these times are lost.
    LostOf {
        reason: LossReason,
        key: SeriesKey,
        times: Vec<i64>,
    },
    Gap(Gap),
    Fetched {
        rows: u64,
        bytes: u64,
    },
    Ended(Result<(), String>),
}

/// Nobody takes the readings any more: the source shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub(crate) struct Stopped;

/// Where a source puts what it has.
#[derive(Debug, Clone)]
pub(crate) struct Outlet(To);

#[derive(Debug, Clone)]
enum To {
    One(SyncSender<Word>),
    Several(Arc<Pouring>),
}

/// Segments that may wait to be taken; a source shall send some thousand readings
/// at a time, not one.
const WAITING: usize = 16;

/// Most series that are told at a time.
const SERIES: usize = 1000;

impl Outlet {
    /// An outlet, and what comes out of it.
    pub(crate) fn pair() -> (Self, Inlet) {
        let (sender, receiver) = sync_channel(WAITING);
        (Self(To::One(sender)), Inlet(From::One(receiver)))
    }

    fn say(&self, word: Word) -> Result<(), Stopped> {
        match &self.0 {
            To::One(sender) => sender.send(word).map_err(|_| Stopped),
            To::Several(pouring) => pouring.say(word),
        }
    }

    /// Series that match and are asked. To be said before their readings.
    pub(crate) fn series(&self, series: impl IntoIterator<Item = Matching>) -> Result<(), Stopped> {
        let mut series = series.into_iter();
        loop {
            let some: Vec<Matching> = series.by_ref().take(SERIES).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.say(Word::Series(some))?;
        }
    }

    /// A device matches and is asked, by a source that does not know its series
    /// beforehand. To be said before its readings, as early as
    /// it is known; saying it again does nothing.
    pub(crate) fn device(&self, device: &Arc<str>) -> Result<(), Stopped> {
        self.say(Word::Device(Arc::clone(device)))
    }

    /// Readings of a series; consecutive calls with the same key go on with it.
    /// Values that are not finite are counted as lost by whoever takes them.
    pub(crate) fn readings(&self, key: &SeriesKey, segment: Segment) -> Result<(), Stopped> {
        self.say(Word::Readings(key.clone(), segment))
    }

    /// A device failed. `since`: when it was heard last.
    pub(crate) fn failed(
        &self,
        device: &Arc<str>,
        since: Option<Time>,
        reason: String,
    ) -> Result<(), Stopped> {
        self.absent(device, false, since, reason)
    }

    /// A device had not answered at the deadline.
    pub(crate) fn late(
        &self,
        device: &Arc<str>,
        since: Option<Time>,
        reason: String,
    ) -> Result<(), Stopped> {
        self.absent(device, true, since, reason)
    }

    fn absent(
        &self,
        device: &Arc<str>,
        late: bool,
        since: Option<Time>,
        reason: String,
    ) -> Result<(), Stopped> {
        let device = Arc::clone(device);
        self.say(Word::Absent {
            device,
            late,
            since,
            reason,
        })
    }

    /// So many readings are lost; `cited` is where the first of them is. Whose they
    /// are is not known: who asked for less cannot be told how many are its own.
    pub(crate) fn lost(
        &self,
        reason: LossReason,
        readings: u64,
        cited: Option<BadRow>,
    ) -> Result<(), Stopped> {
        self.say(Word::Lost {
            reason,
            readings,
            cited,
        })
    }

    /// Readings of a series at these times are lost.
    pub(crate) fn lost_of(
        &self,
        reason: LossReason,
        key: &SeriesKey,
        times: Vec<i64>,
    ) -> Result<(), Stopped> {
        let key = key.clone();
        self.say(Word::LostOf { reason, key, times })
    }

    /// Readings of this time may be missing; those that were counted are lost.
    pub(crate) fn gap(&self, gap: Gap) -> Result<(), Stopped> {
        self.say(Word::Gap(gap))
    }

    /// The last word: the source has said everything, or failed.
    pub(crate) fn end(&self, ended: Result<(), String>) -> Result<(), Stopped> {
        self.say(Word::Ended(ended))
    }

    /// Rows looked at and bytes received since this was said last.
    pub(crate) fn fetched(&self, rows: u64, bytes: u64) -> Result<(), Stopped> {
        self.say(Word::Fetched { rows, bytes })
    }
}

/// What comes out of an [`Outlet`]; it ends when the source drops its end.
#[derive(Debug)]
pub(crate) struct Inlet(From);

#[derive(Debug)]
enum From {
    One(Receiver<Word>),
    Several(Box<View>),
}

impl Inlet {
    /// The next word. That none came may be said before `patience` is over.
    fn next(&mut self, patience: Duration) -> Result<Word, RecvTimeoutError> {
        match &mut self.0 {
            From::One(receiver) => receiver.recv_timeout(patience),
            From::Several(view) => view.next(patience),
        }
    }
}

impl Matching {
    /// A series that matches whatever the range.
    pub(crate) fn always(key: &SeriesKey) -> Self {
        Self {
            key: key.clone(),
            when: None,
        }
    }
}
