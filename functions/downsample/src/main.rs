//! Answers with fewer readings: one for each series and stretch of time.
//!
//! | parameter | values | when not given |
//! |---|---|---|
//! | `every` | length of a stretch, such as `15m`, `1h`, `1d` | must be given |
//! | `aggregates` | list of `mean`, `min`, `max`, `last` | `["mean"]` |
//! | `marked` | `include`, `exclude`: readings marked as outside of their valid range | `include` |
//!
//! Stretches of whole days begin at midnight of the task's zone, so that a day
//! on which clocks change has 23 or 25 hours; of several days, they are counted
//! from 1970-01-01. All others are multiples of `every` since
//! 1970-01-01T00:00Z. An answered reading has the time at which its stretch
//! begins and the kind `KIND.AGGREGATE`, such as `temperature.mean`; stretches
//! without readings are not there.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;
use fades_sdk::reduce;

mod stretch;

use stretch::{Aggregate, Gathered, Grid, Stretch};

struct Downsample {
    grid: Grid,
    aggregates: Vec<Aggregate>,
    exclude_marked: bool,
    series: Vec<Series>,
    read: u64,
}

/// Stretches of one series.
struct Series {
    name: [String; 4],
    /// By ascending start.
    stretches: Vec<Stretch>,
}

impl Function for Downsample {
    fn new(params: &Params) -> Result<Self, Abort> {
        let marked = [("include", false), ("exclude", true)];
        let aggregates = params.choices("aggregates", &Aggregate::ALL)?;
        Ok(Self {
            grid: Grid::new(params.require("every")?, params.context()?.zone),
            aggregates: aggregates.unwrap_or_else(|| vec![Aggregate::Mean]),
            exclude_marked: params.choice("marked", &marked)?.unwrap_or(false),
            series: Vec::new(),
            read: 0,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        let mut gathered = Gathered::default();
        for rows in batch.series() {
            let at = self.position(&rows);
            let series = &mut self.series[at];
            let mut from = 0;
            while from < rows.time.len() {
                let (start, end) = self.grid.around(rows.time[from]);
                let length = rows.time[from..].partition_point(|&t| t < end);
                let span = from..from + length.max(1);
                from = span.end;
                let values = gathered.of(&rows, span, self.exclude_marked);
                if let Some(part) = Stretch::of(start, values) {
                    self.read += part.count;
                    series.add(part);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        self.series.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut stretches = 0;
        for series in self.series.drain(..) {
            stretches += series.stretches.len();
            for &aggregate in &self.aggregates {
                series.answer(aggregate, output)?;
            }
        }
        output.set("stretches", stretches);
        output.set("used", self.read);
        Ok(())
    }
}

impl Downsample {
    /// Index of a series; series are few and told apart by name, because two
    /// DTOs may hold parts of the same.
    fn position(&mut self, rows: &SeriesRows<'_>) -> usize {
        let name = [rows.kind, rows.device, rows.location, rows.unit];
        let known = self.series.iter().position(|s| s.name == name);
        known.unwrap_or_else(|| {
            self.series.push(Series {
                name: name.map(ToOwned::to_owned),
                stretches: Vec::new(),
            });
            self.series.len() - 1
        })
    }
}

impl Series {
    fn add(&mut self, part: Stretch) {
        let at = self.stretches.partition_point(|s| s.start < part.start);
        match self.stretches.get_mut(at) {
            Some(known) if known.start == part.start => known.merge(&part),
            _ => self.stretches.insert(at, part),
        }
    }

    fn answer(&self, aggregate: Aggregate, output: &mut Output) -> Result<(), Abort> {
        let [kind, device, location, unit] = &self.name;
        let kind = format!("{kind}.{}", aggregate.text());
        let name = SeriesName {
            device,
            kind: &kind,
            unit,
            location,
        };
        let time = self.stretches.iter().map(|s| s.start).collect();
        let value = self.stretches.iter().map(|s| s.value(aggregate)).collect();
        output.series(name, time, value)
    }
}

function!(Downsample);

#[cfg(test)]
mod tests;
