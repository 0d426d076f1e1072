//! Passes over its input once, as fast as memory allows, and does next to
//! nothing else: what is measured with it is how soon a batch can be read.
//!
//! Every value is added up, with [`reduce::sum`] and the widest vectors that
//! the host offers; of the times, of which there are eight to a cache line, the
//! first of each eight. So each line of both columns comes from memory once.
//! Marks are not read. It answers, at the end of each window and of all input,
//! with `{"rows": …, "sum": …, "times": …}`: the sums of what it read over all
//! batches so far, that of times without its carries.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;
use fades_sdk::reduce;

/// Times in a cache line of 64 bytes.
const LINE: usize = 8;

struct Pass {
    rows: usize,
    sum: f64,
    times: i64,
}

impl Function for Pass {
    fn new(_: &Params) -> Result<Self, Abort> {
        Ok(Self {
            rows: 0,
            sum: 0.0,
            times: 0,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        self.rows += batch.rows();
        self.sum += reduce::sum(batch.value());
        let first_of_lines = batch.time().iter().step_by(LINE);
        self.times = first_of_lines.fold(self.times, |sum, &time| sum.wrapping_add(time));
        Ok(())
    }

    fn window_end(&mut self, _: u64, _: i64, _: i64, output: &mut Output) -> Result<(), Abort> {
        self.finish(output)
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        output.set("rows", self.rows);
        output.set("sum", self.sum);
        output.set("times", self.times);
        Ok(())
    }
}

function!(Pass);

#[cfg(test)]
mod tests {
    use super::*;
    use fades_sdk::testing::{Run, Series};

    #[test]
    fn every_value_and_every_eighth_time_is_read() {
        let rows = (0..20).map(|i| (1 << i, f64::from(i)));
        let series = Series::new("d", "k", "", "").rows(rows.collect::<Vec<_>>());
        let run = Run::new().batch(std::slice::from_ref(&series));
        let values = run.batch(&[series]).answer::<Pass>().unwrap().values;
        assert_eq!(values["rows"], 40);
        assert_eq!(values["sum"], 380.0);
        assert_eq!(values["times"], 2 * (1 + (1 << 8) + (1 << 16)));
    }
}
