//! `density`: how many functions can rest on a host, and what each costs.
//!
//! Functions (`functions/tests/pass`, smallest class of shells) are started one
//! after the other, each in a shell of its own, and wait for their first event.
//! Memory is the fall of `MemAvailable` over all of them, kernel memory
//! included, divided by their number; the time to make one is from the spawn of
//! its process until it rests; the wake latency is that of [`super::wake`],
//! over functions chosen evenly out of all that rest. Where one process may have
//! too few descriptors, several have them ([`holder`]). Nothing to compare with.

use fades_task::limits::Isolation;

use super::{Taken, settled};
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::limits;
use crate::samples::Samples;

mod holder;

pub(crate) use holder::hold;
use holder::{Holder, Order};

/// Functions; a quick run has fewer.
const FUNCTIONS: (u64, u64) = (8000, 200);

/// Bytes of memory for each.
const AIM: f64 = 700.0 * 1024.0;

/// A host keeps this share of its memory, and this many bytes.
const KEPT: (u64, u64) = (16, 512 << 20);

/// Descriptors of a function at rest, and of everything else.
const DESCRIPTORS: (u64, u64) = (4, 256);

/// Functions that are woken.
const WOKEN: usize = 500;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    if let Err(why) = &bench.place {
        taken.skip("density", why);
        return Ok(());
    }
    for isolation in taken.isolations(bench, "density") {
        let wanted = bench.either(FUNCTIONS.0, FUNCTIONS.1);
        // A process is compared with a microVM, not brought to its limits.
        let wanted = match isolation {
            Isolation::Microvm => wanted,
            Isolation::Process => wanted / 8,
        };
        of(bench, isolation, wanted, taken)?;
    }
    Ok(())
}

fn of(bench: &Bench, isolation: Isolation, wanted: u64, taken: &mut Taken) -> Result<(), Fault> {
    let shares = shares(room(wanted, taken));
    let mut holders = Vec::with_capacity(shares.len());
    for number in 0..shares.len() as u64 {
        let mut holder = Holder::start(bench, number)?;
        holder.order(Order::Load(isolation))?;
        holders.push(holder);
    }
    let before = settled()?;
    let kept = (before.total / KEPT.0).max(KEPT.1);
    let mut made = Samples::default();
    let mut count = 0;
    for (holder, &share) in holders.iter_mut().zip(&shares) {
        let reply = holder.order(Order::Make { count: share, kept })?;
        count += reply.times.len() as u64;
        made.extend(reply.times);
        if let Some(why) = reply.short {
            taken.note(format!("density: no more than {count}: {why}"));
            break;
        }
    }
    let each = before.available.saturating_sub(settled()?.available) / count.max(1);
    let mut wakes = Samples::default();
    for holder in &mut holders {
        wakes.extend(holder.order(Order::Wake(WOKEN / shares.len()))?.times);
    }
    drop(holders);
    report(taken, isolation, (count, wanted), each, (&made, &wakes));
    Ok(())
}

/// How many functions each process has.
fn shares(count: u64) -> Vec<usize> {
    let most = limits::descriptors(count * DESCRIPTORS.0 + DESCRIPTORS.1);
    let most = (most.saturating_sub(DESCRIPTORS.1) / DESCRIPTORS.0).max(1);
    let holders = count.div_ceil(most).max(1);
    let share = |i| count / holders + u64::from(i < count % holders);
    (0..holders).map(|i| share(i) as usize).collect()
}

/// How many of `wanted` there may be.
fn room(wanted: u64, taken: &mut Taken) -> u64 {
    let (most, limit) = limits::processes();
    if most < wanted {
        taken.note(format!(
            "density: {limit} allows {most} functions, {wanted} were wanted"
        ));
    }
    wanted.min(most)
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
        let most = room(u64::MAX, &mut taken);
        assert!(most < u64::MAX);
        assert!(taken.notes[0].contains("allow"), "{:?}", taken.notes);
    }

    #[test]
    fn processes_share_the_functions_evenly() {
        let shares = shares(1_000_003);
        assert_eq!(shares.iter().sum::<usize>(), 1_000_003);
        assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
    }
}
