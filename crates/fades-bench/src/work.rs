//! Takes the figures, one name after the other, and says what came out.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::figures::{Name, Taken};
use crate::host::Host;
use crate::record::Record;
use crate::table::table;

/// With `--quick`, nothing is begun later than this.
const QUICK: Duration = Duration::from_secs(45);

/// Takes the figures that `arguments` name. Fails when one could not be taken;
/// the others are taken all the same.
pub(crate) fn run(bench: &Bench) -> Result<ExitCode, Fault> {
    let begun = Instant::now();
    let arguments = &bench.arguments;
    let host = Host::here();
    if arguments.quick {
        println!("quick: fewer rounds and lower density; take hints from this, not figures");
    }
    let mut all: Vec<(Name, Figure)> = Vec::new();
    let mut failed = false;
    for &name in &arguments.names {
        if arguments.quick && begun.elapsed() > QUICK {
            println!(
                "not measured: {}: no time is left; name it alone",
                name.word()
            );
            continue;
        }
        eprintln!("{} …", name.word());
        let mut taken = Taken::default();
        let done = name.take(bench, &mut taken);
        taken
            .skipped
            .iter()
            .for_each(|s| println!("not measured: {s}"));
        taken.notes.iter().for_each(|n| println!("note: {n}"));
        if let Err(fault) = done {
            eprintln!("error: {}: {fault}", name.word());
            failed = true;
        }
        if !taken.figures.is_empty() {
            Record::new(name.word(), &arguments.commit, &host, &taken.figures)
                .keep(&arguments.out)?;
        }
        all.extend(taken.figures.into_iter().map(|figure| (name, figure)));
    }
    print!(
        "\n{}",
        table(all.iter().map(|(name, figure)| (name.word(), figure)))
    );
    Ok(ExitCode::from(u8::from(failed)))
}
