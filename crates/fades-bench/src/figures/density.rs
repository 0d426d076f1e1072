//! `density`: how many functions can rest on a host, and what each costs.
//!
//! Functions (`functions/tests/pass`, smallest class of shells) are started one
//! after the other, each in a shell of its own, and wait for their first event.
//! Memory is the fall of `MemAvailable` over all of them, kernel memory
//! included, divided by their number; the time to make one is from the spawn of
//! its process until it rests; the wake latency is that of [`super::wake`],
//! over functions chosen evenly out of all that rest. Nothing to compare with.

use std::time::Instant;

use fades_task::limits::Isolation;

use super::wake::{resident, woken};
use super::{Taken, settled};
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::limits;
use crate::memory::Memory;
use crate::samples::Samples;
use crate::shells::{Function, Resting};
use crate::turns::microseconds;

/// Functions; a quick run has fewer.
const FUNCTIONS: (usize, usize) = (8000, 200);

/// Bytes of memory for each.
const AIM: f64 = 700.0 * 1024.0;

/// A host keeps this share of its memory, and this many bytes.
const KEPT: (u64, u64) = (16, 512 << 20);

/// Descriptors of a function at rest, and of everything else.
const DESCRIPTORS: (u64, u64) = (4, 256);

/// Functions that are woken.
const WOKEN: usize = 500;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("density", why);
            return Ok(());
        }
    };
    let file = place.batches("density", 1, 1000)?;
    for isolation in taken.isolations(bench, "density") {
        let wanted = bench.either(FUNCTIONS.0, FUNCTIONS.1);
        // A process is compared with a microVM, not brought to its limits.
        let wanted = match isolation {
            Isolation::Microvm => wanted,
            Isolation::Process => wanted / 8,
        };
        let function = resident(bench, isolation)?;
        // The first one makes what all of them share.
        let warm = function.rest()?;
        let before = settled()?;
        let mut made = Samples::default();
        let resting = make(&function, wanted, &mut made, taken)?;
        let count = resting.len() as u64;
        let each = before.available.saturating_sub(settled()?.available) / count.max(1);
        let mut wakes = Samples::default();
        for resting in resting.iter().step_by((resting.len() / WOKEN).max(1)) {
            wakes.push(woken(resting, file.first())?);
        }
        end(resting);
        drop(warm);
        report(
            taken,
            isolation,
            (count, wanted as u64),
            each,
            (&made, &wakes),
        );
    }
    Ok(())
}

/// As many as are wanted, and as the host has room for.
fn make(
    function: &Function,
    wanted: usize,
    made: &mut Samples,
    taken: &mut Taken,
) -> Result<Vec<Resting>, Fault> {
    let wanted = room(wanted, taken);
    let kept = Memory::now().map_err(Fault::system("read /proc/meminfo"))?;
    let kept = (kept.total / KEPT.0).max(KEPT.1);
    let mut resting = Vec::with_capacity(wanted);
    while resting.len() < wanted {
        let now = Memory::now().map_err(Fault::system("read /proc/meminfo"))?;
        if now.available < kept {
            taken.note(format!(
                "density: memory got short at {} functions: {} bytes are left to the host",
                resting.len(),
                now.available
            ));
            break;
        }
        let begun = Instant::now();
        match function.rest() {
            Ok(one) => resting.push(one),
            Err(Fault::Shell(e)) if e.is_shortage() => {
                taken.note(format!("density: no more than {}: {e}", resting.len()));
                break;
            }
            Err(fault) => return Err(fault),
        }
        made.push(microseconds(begun.elapsed()));
    }
    Ok(resting)
}

/// How many of `wanted` the limits of the system allow.
fn room(wanted: usize, taken: &mut Taken) -> usize {
    let (processes, limit) = limits::processes();
    let needed = wanted as u64 * DESCRIPTORS.0 + DESCRIPTORS.1;
    let descriptors = limits::descriptors(needed).saturating_sub(DESCRIPTORS.1) / DESCRIPTORS.0;
    let (most, limit) =
        (processes, limit).min((descriptors, "the limit of descriptors (ulimit -n)"));
    if most < wanted as u64 {
        taken.note(format!(
            "density: {limit} allows {most} functions, {wanted} were wanted"
        ));
    }
    wanted.min(most as usize)
}

/// Ends all at once: one after the other would wait for each.
fn end(resting: Vec<Resting>) {
    resting.iter().for_each(|one| one.shell().child().kill());
}

fn report(
    taken: &mut Taken,
    isolation: Isolation,
    (count, wanted): (u64, u64),
    each: u64,
    (made, wakes): (&Samples, &Samples),
) {
    let figure = |what, unit, values: &Samples| Figure::new(what, Some(isolation), unit, values);
    let one = |value: u64| [value as f64].into_iter().collect::<Samples>();
    let microvm = isolation == Isolation::Microvm;
    let aim = |aim| if microvm { aim } else { Aim::Report };
    let at_rest = figure("at rest", "functions", &one(count));
    taken.add(at_rest.map(|f| f.aiming(aim(Aim::AtLeast(wanted as f64)))));
    let memory = figure("memory each", "bytes", &one(each));
    taken.add(memory.map(|f| f.aiming(aim(Aim::AtMost(AIM)))));
    taken.add(figure("time to make", "us", made));
    taken.add(figure("wake at that count", "us", wakes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_made_than_the_limits_allow() {
        let mut taken = Taken::default();
        assert_eq!(room(1, &mut taken), 1);
        assert!(taken.notes.is_empty());
        let most = room(usize::MAX >> 8, &mut taken);
        assert!(most < usize::MAX >> 8);
        assert!(taken.notes[0].contains("allow"), "{:?}", taken.notes);
    }
}
