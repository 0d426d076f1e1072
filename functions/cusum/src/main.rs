//! Tells when the mean of a series shifts, with a cumulative sum in both directions.
//!
//! | parameter | values | when not given |
//! |---|---|---|
//! | `learn` | 8 to 1,000,000: readings from which mean and deviation of a series are learned | `100` |
//! | `shift` | above 0: the shift that is to be told quickly, in standard deviations | `1` |
//! | `decide` | above 0: the sum at which a shift is told, in standard deviations | `5` |
//! | `marked` | `include`, `exclude`: readings marked as outside of their valid range | `include` |
//!
//! With z = (x − mean) / deviation and k = shift / 2 the sums are
//! up = max(0, up + z − k) and down = max(0, down − z − k); what passes `decide` is a
//! shift. The sums then begin anew, and so does learning, at the new level.
//!
//! It is made to stay: it answers for each window, and keeps what it has learned in
//! its checkpoint. Over a range it answers once.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;

mod chart;
mod checkpoint;

use chart::{Chart, Rule, Shift};

struct Cusum {
    rule: Rule,
    exclude_marked: bool,
    series: Vec<Series>,
    /// Shifts of the window: whose, and which.
    shifts: Vec<(usize, Shift)>,
    used: u64,
    /// Readings that were not newer than one before them.
    repeated: u64,
}

/// What is known of one series.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    /// Kind, device, location, unit.
    name: [String; 4],
    chart: Chart,
}

impl Function for Cusum {
    fn new(params: &Params) -> Result<Self, Abort> {
        let learn: u64 = params.or("learn", 100)?;
        let (shift, decide) = (params.or("shift", 1.0)?, params.or("decide", 5.0)?);
        let marked = [("include", false), ("exclude", true)];
        if !(8..=1_000_000).contains(&learn) {
            abort!("parameter learn: it must be between 8 and 1000000, not {learn}");
        }
        for (name, value) in [("shift", shift), ("decide", decide)] {
            if !(f64::MIN_POSITIVE..=f64::MAX).contains(&value) {
                abort!("parameter {name}: it must be above 0");
            }
        }
        Ok(Self {
            rule: Rule {
                learn,
                slack: shift / 2.0,
                decide,
            },
            exclude_marked: params.choice("marked", &marked)?.unwrap_or(false),
            series: Vec::new(),
            shifts: Vec::new(),
            used: 0,
            repeated: 0,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        for rows in batch.series() {
            let at = self.position(&rows);
            let chart = &mut self.series[at].chart;
            for (i, (&time, &value)) in rows.time.iter().zip(rows.value).enumerate() {
                if self.exclude_marked && rows.mark.is_some_and(|marks| marks[i] != 0) {
                    continue;
                }
                // Windows that overlap hold readings again.
                if time <= chart.last {
                    self.repeated += 1;
                    continue;
                }
                self.used += 1;
                let shift = chart.add(&self.rule, time, value);
                self.shifts.extend(shift.map(|shift| (at, shift)));
            }
        }
        Ok(())
    }

    fn window_end(&mut self, _: u64, _: i64, _: i64, output: &mut Output) -> Result<(), Abort> {
        self.answer(output);
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Abort> {
        Ok(checkpoint::write(&self.series))
    }

    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort> {
        match checkpoint::read(checkpoint) {
            Some(series) => self.series = series,
            None => abort!("the checkpoint is none of this function"),
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        self.answer(output);
        Ok(())
    }
}

impl Cusum {
    /// Index of a series, by its name.
    fn position(&mut self, rows: &SeriesRows<'_>) -> usize {
        let name = [rows.kind, rows.device, rows.location, rows.unit];
        let by_name = |s: &Series| s.name.each_ref().map(String::as_str).cmp(&name);
        match self.series.binary_search_by(by_name) {
            Ok(at) => at,
            Err(at) => {
                // Shifts that were found already are those of the same series.
                for (of, _) in &mut self.shifts {
                    *of += usize::from(*of >= at);
                }
                let name = name.map(ToOwned::to_owned);
                let chart = Chart::default();
                self.series.insert(at, Series { name, chart });
                at
            }
        }
    }

    /// What happened since the last answer.
    fn answer(&mut self, output: &mut Output) {
        for (of, shift) in self.shifts.drain(..) {
            let [kind, device, location, unit] = &self.series[of].name;
            let row = Map::new()
                .with("device", device.as_str())
                .with("kind", kind.as_str())
                .with("location", location.as_str())
                .with("unit", unit.as_str())
                .with("time", shift.time)
                .with("since", shift.since)
                .with("direction", shift.direction.text())
                .with("mean-before", shift.mean);
            output.push("shifts", row);
        }
        let learning = |s: &&Series| s.chart.is_learning(&self.rule);
        output.set("learning", self.series.iter().filter(learning).count());
        output.set("series", self.series.len());
        output.set("used", core::mem::take(&mut self.used));
        output.set("repeated", core::mem::take(&mut self.repeated));
    }
}

function!(Cusum, checkpoints);

#[cfg(test)]
mod tests;
