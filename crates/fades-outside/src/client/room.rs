//! Room for long answers: how many of them a broker takes at the same time.
//!
//! A short answer is taken at any time. A longer one needs a place, and waits for
//! one before it is read on: what it may grow to is then there for it, so that no
//! two wait for each other with half of their answers in memory.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Longest answer that needs no place, bytes.
const SHORT: usize = 64 << 10;

/// Places for long answers of all sources together.
const PLACES: usize = 4;

/// The places of a broker.
#[derive(Debug)]
pub struct Room {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(PLACES)
    }
}

/// A place that an answer has, once it needs one; given back by dropping it.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    is_taken: bool,
}

impl Room {
    const fn of(places: usize) -> Self {
        Self {
            free: Mutex::new(places),
            freed: Condvar::new(),
        }
    }

    /// For an answer of which nothing is known yet.
    pub fn place(self: &Arc<Self>) -> Place {
        Place {
            room: Arc::clone(self),
            is_taken: false,
        }
    }
}

impl Place {
    /// Waits so long for a place, unless an answer with so many bytes needs none or
    /// has one. Whether it may be read on.
    pub(super) fn suffices(&mut self, bytes: usize, wait: Duration) -> bool {
        if bytes <= SHORT || self.is_taken {
            return true;
        }
        let free = self.room.free.lock();
        let free = free.unwrap_or_else(PoisonError::into_inner);
        let waited = self.room.freed.wait_timeout_while(free, wait, |n| *n == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *free > 0 {
            *free -= 1;
            self.is_taken = true;
        }
        self.is_taken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_taken {
            let free = self.room.free.lock();
            *free.unwrap_or_else(PoisonError::into_inner) += 1;
            self.room.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Room, SHORT};

    #[test]
    fn long_answers_have_places_and_short_ones_need_none() {
        let room = Arc::new(Room::of(2));
        let now = Duration::ZERO;
        let [mut a, mut b, mut c] = [room.place(), room.place(), room.place()];
        assert!(a.suffices(SHORT, now) && b.suffices(SHORT, now));
        assert!(a.suffices(SHORT + 1, now) && b.suffices(SHORT + 1, now));
        // Who has one needs no second.
        assert!(a.suffices(16 << 20, now));
        assert!(c.suffices(SHORT, now) && !c.suffices(SHORT + 1, now));
        // One that never had any gives none back.
        drop(room.place());
        assert!(!c.suffices(SHORT + 1, now));
        drop(a);
        assert!(c.suffices(SHORT + 1, now));
        // Who waits gets it as soon as it is free.
        let waits = std::thread::spawn({
            let mut place = room.place();
            move || place.suffices(SHORT + 1, Duration::from_secs(60))
        });
        drop(b);
        assert!(waits.join().unwrap());
    }
}
