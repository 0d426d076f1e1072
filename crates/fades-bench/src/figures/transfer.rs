//! `transfer`: from a batch that is ready until the function has passed over it
//! once.
//!
//! The function (`functions/tests/pass`) waits for its first event. Timed from
//! before the first batch's descriptor is sent to its tender until the tender
//! has released the last one, which it does when the function asks for the next
//! event. Files are those of a broker: huge pages, no longer than a node's
//! chunk, two of them outstanding. Compared with the same code called natively on
//! the same files, each mapped anew. Both must give the same bytes as answer.

use fades_orc::shell::Shell;
use fades_task::limits::Isolation;
use fades_task::message::Feed;
use fades_task::quantity::Size;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::input::{BatchFile, CHUNK, ROW};
use crate::natively;
use crate::shells::{Fed, Function, Running, Terms, clean};
use crate::turns::{in_turns, timed};

/// Name, bytes, and how many times as long as natively it may take.
const SIZES: [(&str, u64, f64); 4] = [
    ("1.5 MB", 1_500_000, 2.0),
    ("15 MB", 15_000_000, 1.1),
    ("150 MB", 150_000_000, 1.1),
    ("1500 MB", 1_500_000_000, 1.1),
];

/// Batches that a function may have at a time.
const OUTSTANDING: usize = 2;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("transfer", why);
            return Ok(());
        }
    };
    let isolations = taken.isolations(bench, "transfer");
    // Writing the largest takes as long as all that is measured.
    let sizes = &SIZES[..bench.either(SIZES.len(), SIZES.len() - 1)];
    for &(size, bytes, most) in sizes {
        if !place.has_room(bytes) {
            taken.skip(
                &format!("transfer, {size}"),
                "too little memory is available",
            );
            continue;
        }
        let files = place.batches("transfer", 1, bytes / ROW)?;
        for &isolation in &isolations {
            let (ours, theirs) = compared(bench, isolation, &files)?;
            let aim = match isolation {
                Isolation::Microvm => Aim::Ratio(most),
                Isolation::Process => Aim::Report,
            };
            let figure = Figure::new(size, Some(isolation), "us", &ours);
            taken.add(figure.map(|f| {
                f.against("native first pass over the same files", &theirs)
                    .aiming(aim)
            }));
        }
    }
    Ok(())
}

fn compared(
    bench: &Bench,
    isolation: Isolation,
    files: &[BatchFile],
) -> Result<(crate::samples::Samples, crate::samples::Samples), Fault> {
    let mut passing = Passing::new(bench, isolation)?;
    let native = || natively::run(bench, "pass", files, 16 << 20);
    let (_, answer) = passing.over(files)?;
    natively::same("pass", &answer, &native()?)?;
    in_turns(
        bench.rounds((60, 20), (5, 1)),
        || passing.over(files).map(|(spent, _)| spent),
        || native().map(|native| native.spent),
    )
}

/// The function that passes over its input, and a shell for it.
pub(super) struct Passing {
    function: Function,
    shell: Option<Shell>,
}

impl Passing {
    pub(super) fn new(bench: &Bench, isolation: Isolation) -> Result<Self, Fault> {
        let terms = Terms {
            window: Size(CHUNK),
            ..Terms::default()
        };
        Ok(Self {
            function: Function::load(bench, "pass", isolation, &terms)?,
            shell: None,
        })
    }

    /// Microseconds from the first batch to the last one's release, and the
    /// answer.
    pub(super) fn over(&mut self, files: &[BatchFile]) -> Result<(f64, Vec<u8>), Fault> {
        let shell = match self.shell.take() {
            Some(shell) => shell,
            None => self.function.shell()?,
        };
        let running = self.function.run(&[])?.start(&shell)?;
        running.ready()?;
        let (spent, passed) = timed(|| pass(&running, files));
        passed?;
        running.feed(&Feed::End { dto: 0 }, None)?;
        running.feed(&Feed::Finish, None)?;
        let answer = running.done()?;
        // A process is used once.
        if shell.isolation() == Isolation::Microvm {
            clean(&shell)?;
            self.shell = Some(shell);
        }
        Ok((spent, answer.cbor))
    }
}

fn pass(running: &Running<'_>, files: &[BatchFile]) -> Result<(), Fault> {
    let mut outstanding = 0;
    for file in files {
        if outstanding == OUTSTANDING {
            running.released()?;
            outstanding -= 1;
        }
        file.to(running)?;
        outstanding += 1;
    }
    (0..outstanding).try_for_each(|_| running.released().map(drop))
}
