//! How long the same code takes without any isolation, for comparison. Compiled
//! with the feature `measure` only; `cargo xtask measure compute` calls it.

use std::time::{Duration, Instant};

use fades_sdk::prelude::*;
use fades_sdk::testing::{Run, Series};

use crate::Summary;

/// The rows that the command writes to CSV files: series, rows of each.
const SERIES: u64 = 24;
const ROWS: i64 = 390_625;

/// Series in one batch, so that batches have about the size that a broker gives
/// them.
const TOGETHER: usize = 10;

/// A function, with the time that it took.
struct Timed {
    inner: Summary,
    spent: Duration,
}

impl Timed {
    fn during<T>(&mut self, work: impl FnOnce(&mut Summary) -> T) -> T {
        let begun = Instant::now();
        let done = work(&mut self.inner);
        self.spent += begun.elapsed();
        done
    }
}

impl Function for Timed {
    fn new(params: &Params) -> Result<Self, Abort> {
        let begun = Instant::now();
        let inner = Summary::new(params)?;
        let spent = begun.elapsed();
        Ok(Self { inner, spent })
    }

    fn batch(&mut self, batch: &Batch<'_>, output: &mut Output) -> Result<(), Abort> {
        self.during(|f| f.batch(batch, output))
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        self.during(|f| f.finish(output))?;
        println!("natively: {} s", self.spent.as_secs_f64());
        Ok(())
    }
}

fn series(number: u64) -> Series {
    let mut state = number;
    let rows = (0..ROWS).map(|second| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let hundredths = 1500 + (state >> 33) % 2000;
        (
            (1_700_000_000 + second) * 1_000_000_000,
            hundredths as f64 / 100.0,
        )
    });
    Series::new(&format!("series-{number}"), "value", "1", "").rows(rows)
}

#[test]
fn summary_natively_over_150_megabytes() {
    let all: Vec<Series> = (0..SERIES).map(series).collect();
    let run = all
        .chunks(TOGETHER)
        .fold(Run::new(), |run, chunk| run.batch(chunk));
    let answer = run.memory(256 << 20).answer::<Timed>().unwrap();
    assert_eq!(answer.values["groups"][23]["count"], 390_625);
}
