//! `compute`: what isolation costs a function while it computes.
//!
//! `summary` over 150 MB in batches as a broker makes them. Its time is what
//! its tender counts as computing: from event to event, first touches of input
//! and heap included. Compared with the same code called natively on the same
//! files ([`crate::natively`]), timed in the same way. Both must give the same
//! bytes as answer. `whole run` is from the first batch to the answer.

use fades_orc::shell::Shell;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::Feed;
use fades_task::quantity::Size;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::input::{BatchFile, CHUNK};
use crate::natively;
use crate::samples::Samples;
use crate::shells::{Answer, Fed, Function, Running, Terms, clean};
use crate::turns::{in_turns, timed};

/// Over the native run.
const AIM: f64 = 1.03;

/// Series, and rows of each: 150 MB.
const DATA: (u64, u64) = (24, 390_625);

/// Room for all values.
const MEMORY: u64 = 256 << 20;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("compute", why);
            return Ok(());
        }
    };
    let files = place.batches("compute", DATA.0, DATA.1)?;
    let native = || natively::run(bench, "summary", &files, MEMORY);
    for isolation in taken.isolations(bench, "compute") {
        let mut summary = Summary::new(bench, isolation)?;
        natively::same("summary", &summary.over(&files)?.1.cbor, &native()?)?;
        let mut whole = Samples::default();
        let (ours, theirs) = in_turns(
            bench.rounds((30, 40), (4, 2)),
            || {
                let (spent, answer) = summary.over(&files)?;
                whole.push(spent);
                Ok::<_, Fault>(answer.ended.breakdown.compute_us as f64)
            },
            || native().map(|native| native.spent),
        )?;
        let aim = match isolation {
            Isolation::Microvm => Aim::Ratio(AIM),
            Isolation::Process => Aim::Report,
        };
        let what = "the same code natively";
        let figure = |name, values| Figure::new(name, Some(isolation), "us", values);
        taken.add(figure("compute", &ours).map(|f| f.against(what, &theirs).aiming(aim)));
        taken.add(figure("whole run", &whole).map(|f| f.against(what, &theirs)));
    }
    Ok(())
}

struct Summary {
    function: Function,
    shell: Option<Shell>,
}

impl Summary {
    fn new(bench: &Bench, isolation: Isolation) -> Result<Self, Fault> {
        let terms = Terms {
            limits: Limits {
                memory: Size(MEMORY),
                ..Limits::default()
            },
            window: Size(CHUNK),
            ..Terms::default()
        };
        Ok(Self {
            function: Function::load(bench, "summary", isolation, &terms)?,
            shell: None,
        })
    }

    /// Microseconds from the first batch to the answer, and the answer.
    fn over(&mut self, files: &[BatchFile]) -> Result<(f64, Answer), Fault> {
        let shell = match self.shell.take() {
            Some(shell) => shell,
            None => self.function.shell()?,
        };
        let running = self.function.run(&[])?.start(&shell)?;
        running.ready()?;
        let (spent, answer) = timed(|| answered(running, files));
        let answer = answer?;
        // A process is used once.
        if shell.isolation() == Isolation::Microvm {
            clean(&shell)?;
            self.shell = Some(shell);
        }
        Ok((spent, answer))
    }
}

fn answered(running: Running<'_>, files: &[BatchFile]) -> Result<Answer, Fault> {
    // One more than is released: one is worked on while the next waits.
    for (number, file) in files.iter().enumerate() {
        if number >= 2 {
            running.released()?;
        }
        file.to(&running)?;
    }
    running.feed(&Feed::End { dto: 0 }, None)?;
    running.feed(&Feed::Finish, None)?;
    running.done()
}
