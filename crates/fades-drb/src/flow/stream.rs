//! What one fetch of a source says, for several who take it.
//!
//! ```text
//! source ── Pouring ──► words, numbered ──┬─► Seat of the fastest
//!                       ▲ first kept      └─► Seat of another, which is behind
//! ```
//! While a stream is *open*, all its words are kept and who comes later begins with
//! the first one. It closes when that time is over, or when more is kept than there
//! is room for; from then on only what a taker still needs is kept. The fastest taker
//! sets the pace, as with a channel. When there is no room, the slowest is sent away,
//! unless all are equally far: it asks for the rest itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Stopped, WAITING, Word};

/// Bytes that words may take which are kept for others than the fastest.
#[derive(Debug)]
pub(super) struct Room {
    total: u64,
    used: AtomicU64,
}

/// A fetch under way, or one that has just ended.
#[derive(Debug)]
pub(super) struct Stream {
    room: Arc<Room>,
    /// No longer open after this.
    until: Instant,
    /// Ends the fetch when nobody takes its words any more.
    pub(super) stop: Arc<AtomicBool>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Those that are kept, with the bytes that they take.
    words: VecDeque<(Arc<Word>, u64)>,
    bytes: u64,
    /// Number of the first of them.
    first: u64,
    open: bool,
    ended: bool,
    takers: Vec<Taker>,
    next: u64,
}

#[derive(Debug)]
struct Taker {
    id: u64,
    /// Number of the next word for it.
    at: u64,
}

/// The source's end of a stream.
#[derive(Debug)]
pub(super) struct Pouring(Arc<Stream>);

/// A taker's end of a stream.
#[derive(Debug)]
pub(super) struct Seat {
    stream: Arc<Stream>,
    id: u64,
}

/// What is next for a taker.
#[derive(Debug)]
pub(super) enum Next {
    Word(Arc<Word>),
    /// Nothing yet.
    Nothing,
    /// There was no room to keep what it has not taken.
    Parted,
}

impl Room {
    pub(super) const fn new(total: u64) -> Self {
        Self {
            total,
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more is kept than shall be; `own`: by whoever asks, who may have half.
    pub(super) fn is_exceeded(&self, own: u64) -> bool {
        own > self.total / 2 || self.used.load(Ordering::Relaxed) > self.total
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Stream {
    /// A stream with its first taker.
    pub(super) fn new(room: &Arc<Room>, until: Instant) -> (Arc<Self>, Seat) {
        let stream = Arc::new(Self {
            room: Arc::clone(room),
            until,
            stop: Arc::default(),
            state: Mutex::new(State {
                open: true,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let id = stream.lock().enter();
        let seat = Seat {
            stream: Arc::clone(&stream),
            id,
        };
        (stream, seat)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes words from the first one on; `None` when they are not all there any
    /// more.
    pub(super) fn join(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.lock();
        self.thin(&mut state);
        state.open.then(|| Seat {
            stream: Arc::clone(self),
            id: state.enter(),
        })
    }

    /// Whether somebody may still join. Drops what nobody needs.
    pub(super) fn is_open(&self) -> bool {
        let mut state = self.lock();
        self.thin(&mut state);
        state.open
    }

    /// Adds a word when the fastest taker is not far behind.
    fn say(&self, word: Word) -> Result<(), Stopped> {
        let bytes = word.bytes();
        let mut state = self.lock();
        loop {
            let Some(fastest) = state.takers.iter().map(|t| t.at).max() else {
                return Err(Stopped);
            };
            if state.end() - fastest < WAITING as u64 {
                break;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.ended |= matches!(word, Word::Ended(_));
        state.words.push_back((Arc::new(word), bytes));
        state.bytes += bytes;
        self.room.take(bytes);
        self.thin(&mut state);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Closes it when it is time, and drops what is not needed or has no room.
    fn thin(&self, state: &mut State) {
        if Instant::now() > self.until || self.room.is_exceeded(state.bytes) {
            state.open = false;
        }
        if state.open {
            return;
        }
        self.drop_passed(state);
        while self.room.is_exceeded(state.bytes) {
            let fastest = state.takers.iter().map(|t| t.at).max();
            let slowest = state.takers.iter().enumerate().min_by_key(|(_, t)| t.at);
            let (Some(fastest), Some((i, slowest))) = (fastest, slowest) else {
                break;
            };
            if fastest - slowest.at <= WAITING as u64 {
                break;
            }
            state.takers.swap_remove(i);
            self.drop_passed(state);
        }
    }

    fn drop_passed(&self, state: &mut State) {
        let least = state.takers.iter().map(|t| t.at).min();
        let needed = least.unwrap_or_else(|| state.end());
        while state.first < needed {
            let Some((_, bytes)) = state.words.pop_front() else {
                break;
            };
            state.first += 1;
            state.bytes -= bytes;
            self.room.give(bytes);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.room.give(bytes);
    }
}

impl State {
    fn enter(&mut self) -> u64 {
        self.next += 1;
        self.takers.push(Taker {
            id: self.next,
            at: self.first,
        });
        self.next
    }

    /// Number of the word that comes next.
    fn end(&self) -> u64 {
        self.first + self.words.len() as u64
    }
}

impl Pouring {
    pub(super) const fn new(stream: Arc<Stream>) -> Self {
        Self(stream)
    }

    pub(super) fn say(&self, word: Word) -> Result<(), Stopped> {
        self.0.say(word)
    }
}

impl Drop for Pouring {
    fn drop(&mut self) {
        if !self.0.lock().ended {
            let reason = "a defect of the broker ended it".to_owned();
            // Unless nobody is left to hear it.
            let _ = self.0.say(Word::Ended(Err(reason)));
        }
    }
}

impl Seat {
    /// The next word, if it comes in time.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.stream.lock();
        loop {
            let first = state.first;
            let end = state.end();
            let Some(taker) = state.takers.iter_mut().find(|t| t.id == self.id) else {
                return Next::Parted;
            };
            if taker.at < end {
                let at = (taker.at - first) as usize;
                taker.at += 1;
                let word = Arc::clone(&state.words[at].0);
                self.stream.thin(&mut state);
                drop(state);
                self.stream.changed.notify_all();
                return Next::Word(word);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            let woken = self.stream.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.takers.retain(|t| t.id != self.id);
        if state.takers.is_empty() && !state.ended {
            // It would be taken up by nobody who comes later.
            state.open = false;
            self.stream.stop.store(true, Ordering::Relaxed);
        }
        self.stream.thin(&mut state);
        drop(state);
        self.stream.changed.notify_all();
    }
}

impl Word {
    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let many = match self {
            Self::Series(series) => 100 * series.len(),
            Self::Readings(_, segment) => 16 * segment.rows() + segment.mark.len(),
            Self::LostOf { times, .. } => 8 * times.len(),
            Self::Device(_)
            | Self::Absent { .. }
            | Self::Lost { .. }
            | Self::Gap(_)
            | Self::Fetched { .. }
            | Self::Ended(_) => 0,
        };
        200 + many as u64
    }
}
