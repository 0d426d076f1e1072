//! Places that are held for long: so many at once, and so many by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::identity::Digest;

/// Places, by who has them; `None` is the node's operator on its socket.
#[derive(Debug)]
pub(super) struct Seats {
    all: usize,
    each: usize,
    taken: Mutex<HashMap<Option<Digest>, usize>>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    who: Option<Digest>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// So many are taken.
    All(usize),
    /// So many are taken by whoever asks.
    Each(usize),
}

impl Seats {
    /// `all` places, of which nobody has more than `each`, so that none takes
    /// those of all others.
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { all, each, taken })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Option<Digest>, usize>> {
        // A number is changed in one piece.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `who`.
    pub(super) fn take(self: &Arc<Self>, who: Option<Digest>) -> Result<Seat, Full> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= self.all {
            return Err(Full::All(self.all));
        }
        let own = taken.entry(who).or_default();
        if *own >= self.each {
            return Err(Full::Each(self.each));
        }
        *own += 1;
        drop(taken);
        let seats = Arc::clone(self);
        Ok(Seat { seats, who })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Some(own) = taken.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.who);
            }
        }
    }
}
