//! Places for those who watch: each holds a connection for hours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::identity::Digest;

use super::auth::Caller;
use super::problem::BUSY;
use super::types::Problem;

/// Most watchers at once.
pub(super) const ALL: usize = 128;

/// Most watchers at once with one key, so that no key takes the seats of all
/// others. Operators count as one.
pub(super) const EACH: usize = 16;

/// The places that are taken, by key; `None` is the operator.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<Option<Digest>, usize>>);

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    who: Option<Digest>,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, HashMap<Option<Digest>, usize>> {
        // A number is changed in one piece.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `caller`.
    pub(super) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Seat, Problem> {
        let who = match caller {
            Caller::Operator => None,
            Caller::Signed(request) => Some(request.key().public.id()),
        };
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= ALL {
            let detail = format!("{ALL} watch already: try again later, or ask without watching");
            return Err(Problem::new(BUSY, detail));
        }
        let own = taken.entry(who).or_default();
        if *own >= EACH {
            let detail = format!("{EACH} watch with this key already: end one of them");
            return Err(Problem::new(BUSY, detail));
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
