//! The function called as ordinary code, to compare with the same function as
//! an image.
//!
//! `cargo xtask measure` sets `FADES_MEASURE_ROWS` and reads the line that
//! begins with `MEASURED`; without it a few rows are enough to see that it works.

use std::cell::Cell;
use std::time::{Duration, Instant};

use fades_sdk::context::SECOND;
use fades_sdk::testing::{Run, Series};

use super::*;

const DEVICES: usize = 8;

/// Series in a batch: as many as the broker puts there.
const TOGETHER: usize = 3;

thread_local! {
    static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The function, with the time that is spent in it.
struct Timed(Summary);

fn timed<T>(work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    SPENT.set(SPENT.get() + begun.elapsed());
    done
}

impl Function for Timed {
    fn new(params: &Params) -> Result<Self, Abort> {
        timed(|| Summary::new(params)).map(Self)
    }

    fn batch(&mut self, batch: &Batch<'_>, output: &mut Output) -> Result<(), Abort> {
        timed(|| self.0.batch(batch, output))
    }

    fn end(&mut self, dto: u32) -> Result<(), Abort> {
        timed(|| self.0.end(dto))
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        timed(|| self.0.finish(output))
    }
}

fn device(n: usize, rows: usize) -> Series {
    let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 1000) as f64 / 10.0;
    let rows = (0..rows).map(|i| (i as i64 * SECOND, value(n * rows + i)));
    Series::new(&format!("device-{n}"), "level", "dB", "").rows(rows)
}

#[test]
fn the_same_code_runs_natively() {
    let rows = std::env::var("FADES_MEASURE_ROWS")
        .ok()
        .and_then(|r| r.parse().ok());
    let each = rows.unwrap_or(8000) / DEVICES;
    let all: Vec<Series> = (0..DEVICES).map(|n| device(n, each)).collect();
    let memory = 16 << 20;
    let run = all
        .chunks(TOGETHER)
        .fold(Run::new().memory(memory), |run, some| run.batch(some));
    let answer = run.answer::<Timed>().unwrap();
    let Value::Array(groups) = &answer.values["groups"] else {
        panic!("{answer:?}");
    };
    assert_eq!(groups.len(), DEVICES);
    println!("MEASURED {}", SPENT.get().as_micros());
}
