//! `parts`: instructions that functions take, which a busy machine does not
//! change.
//!
//! Counted by callgrind over a function's life, from its first event to its
//! answer, called natively on the same small batch each time with the narrowest
//! vectors. Nothing to compare with but the figure of another commit.

use std::process::Command;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::samples::Samples;

/// Functions that are built as ordinary programs.
const FUNCTIONS: [&str; 2] = ["pass", "summary"];

/// Series, and rows of each.
const DATA: (u64, u64) = (8, 10_000);

/// The function's life, by the name that symbols have for it.
const COUNTED: &str = "--toggle-collect=fades_sdk::testing::natively::life*";

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        taken.skip("parts", "valgrind is not there: apt-get install valgrind");
        return Ok(());
    }
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("parts", why);
            return Ok(());
        }
    };
    let files = place.batches("parts", DATA.0, DATA.1)?;
    for function in FUNCTIONS {
        let out = bench.folder.join("callgrind");
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", COUNTED]);
        valgrind.arg(format!("--callgrind-out-file={}", out.display()));
        valgrind
            .arg(bench.native(function)?)
            .args(["--simd", "sse2"]);
        valgrind.args(files.iter().map(|file| &file.path));
        crate::bench::output(&mut valgrind)?;
        let said = std::fs::read_to_string(&out).map_err(Fault::file(&out, "read"))?;
        let count = counted(&said).ok_or_else(|| {
            Fault::Meaningless(format!("callgrind counted nothing of {function}"))
        })?;
        let one = [count as f64].into_iter().collect::<Samples>();
        taken.add(Figure::new(function, None, "instructions", &one));
    }
    Ok(())
}

/// The total in a file of callgrind's.
fn counted(file: &str) -> Option<u64> {
    let line = |label| file.lines().find_map(|l| l.strip_prefix(label));
    let total = line("summary: ").or_else(|| line("totals: "))?;
    total.trim().parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn the_total_is_found_and_none_is_no_total() {
        assert_eq!(counted("events: Ir\nsummary: 123\n"), Some(123));
        assert_eq!(counted("fn=x\n1 2\ntotals: 77\n"), Some(77));
        assert_eq!(counted("totals: 0\n"), None);
        assert_eq!(counted(""), None);
    }
}
