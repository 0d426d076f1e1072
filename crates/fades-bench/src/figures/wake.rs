//! `wake`: a function at rest: from data that is ready to its answer.
//!
//! The function (`functions/tests/pass`) stays in its machine and has waited for
//! an event for a millisecond. Timed from before a batch of a thousand readings and the end of its
//! window are sent to its tender until the answer for that window has been
//! received. `without data`: the end of the window alone. Compared with a thread of this program that an eventfd wakes, that
//! adds up the same numbers and says so through another eventfd: no isolation,
//! no mapping, no messages.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fades_task::limits::Isolation;
use fades_task::message::Feed;
use rustix::event::{EventfdFlags, eventfd};

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::input::BatchFile;
use crate::shells::{Fed, Function, Terms};
use crate::turns::{in_turns, timed};

/// Microseconds.
const AIM: f64 = 100.0;

/// Both rest for so long before they are woken.
const REST: Duration = Duration::from_millis(1);

/// Rows of a batch.
const ROWS: u64 = 1000;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("wake", why);
            return Ok(());
        }
    };
    let files = place.batches("wake", 1, ROWS)?;
    let file = &files[0];
    for isolation in taken.isolations(bench, "wake") {
        let function = resident(bench, isolation)?;
        let resting = function.rest()?;
        let thread = Thread::new().map_err(Fault::system("make an eventfd"))?;
        let aim = match isolation {
            Isolation::Microvm => Aim::AtMost(AIM),
            Isolation::Process => Aim::Report,
        };
        for (what, file, aim) in [
            ("wake", Some(file), aim),
            ("without data", None, Aim::Report),
        ] {
            let (ours, theirs) = std::thread::scope(|scope| {
                scope.spawn(|| thread.serve());
                let sides = in_turns(
                    bench.rounds((2000, 15), (200, 1)),
                    || woken(&resting, file),
                    || thread.woken().map_err(Fault::system("wake a thread")),
                );
                thread.end();
                sides
            })?;
            let figure = Figure::new(what, Some(isolation), "us", &ours);
            taken.add(figure.map(|f| {
                f.against("a thread that an eventfd wakes", &theirs)
                    .aiming(aim)
            }));
        }
    }
    Ok(())
}

/// A function that stays, with as little memory as there is.
pub(super) fn resident(bench: &Bench, isolation: Isolation) -> Result<Function, Fault> {
    let mut terms = Terms {
        resident: true,
        ..Terms::default()
    };
    terms.limits.memory = SMALL;
    Function::load(bench, "pass", isolation, &terms)
}

/// Limit of memory with which a function fits the smallest heap.
const SMALL: fades_task::quantity::Size = fades_task::quantity::Size(2 << 20);

/// Wakes a function, by a batch if there is one; microseconds until it has
/// answered.
pub(super) fn woken(function: &impl Fed, file: Option<&BatchFile>) -> Result<f64, Fault> {
    let window = Feed::WindowEnd {
        id: 0,
        from: 0,
        to: 1,
    };
    // After its last answer a function goes on until it asks for the next event.
    std::thread::sleep(REST);
    let (spent, answered) = timed(|| {
        if let Some(file) = file {
            file.to(function)?;
        }
        function.feed(&window, None)?;
        function.answered()
    });
    answered?;
    if file.is_some() {
        function.released()?;
    }
    Ok(spent)
}

/// A thread at rest.
struct Thread {
    wake: OwnedFd,
    done: OwnedFd,
    times: Vec<i64>,
    values: Vec<f64>,
    sums: [AtomicU64; 2],
}

/// What ends the thread, where 1 wakes it.
const END: u64 = 1 << 32;

impl Thread {
    fn new() -> rustix::io::Result<Self> {
        Ok(Self {
            wake: eventfd(0, EventfdFlags::CLOEXEC)?,
            done: eventfd(0, EventfdFlags::CLOEXEC)?,
            times: (0..ROWS.cast_signed()).collect(),
            values: (0..ROWS).map(|i| i as f64).collect(),
            sums: Default::default(),
        })
    }

    /// The thread's life.
    fn serve(&self) {
        while self.rest().is_ok_and(|word| word < END) {
            let sum: f64 = self.values.iter().sum();
            let times: i64 = self.times.iter().step_by(8).sum();
            self.sums[0].store(sum.to_bits(), Ordering::Relaxed);
            self.sums[1].store(times.cast_unsigned(), Ordering::Relaxed);
            if rustix::io::write(&self.done, &1_u64.to_ne_bytes()).is_err() {
                return;
            }
        }
    }

    fn rest(&self) -> rustix::io::Result<u64> {
        let mut word = [0; 8];
        rustix::io::read(&self.wake, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Microseconds until it has done its work.
    fn woken(&self) -> rustix::io::Result<f64> {
        std::thread::sleep(REST);
        let (spent, done) = timed(|| {
            rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
            rustix::io::read(&self.done, &mut [0; 8])
        });
        done.map(|_| spent)
    }

    fn end(&self) {
        // An eventfd takes any number of small numbers.
        let _ = rustix::io::write(&self.wake, &END.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_adds_up_each_time_it_is_woken_and_ends_when_told() {
        let thread = Thread::new().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| thread.serve());
            for _ in 0..3 {
                assert!(thread.woken().unwrap() > 0.0);
            }
            thread.end();
        });
        let sum = f64::from_bits(thread.sums[0].load(Ordering::Relaxed));
        assert_eq!(sum, (0..ROWS).sum::<u64>() as f64);
    }
}
