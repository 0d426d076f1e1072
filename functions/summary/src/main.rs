//! Describes readings: count, smallest, largest, mean, standard deviation, sum
//! and quantiles, for each kind and unit and, as `by` says, each device (at
//! each of its locations), each location, or neither.
//!
//! | parameter | values | when not given |
//! |---|---|---|
//! | `by` | `device`, `location`, `kind` | `device` |
//! | `quantiles` | numbers above 0 and below 1, such as `[0.5, 0.999]` | `[0.5, 0.95, 0.99]` |
//! | `marked` | `include`, `exclude`: readings marked as outside of their valid range | `include` |
//!
//! Mean and spread are taken over blocks in two passes and merged (Chan, Golub,
//! LeVeque: *Updating Formulae and a Pairwise Algorithm for Computing Sample
//! Variances*, 1979); `sd` is the sample standard deviation. A quantile `q` of
//! `n` values lies at rank `q · (n − 1)`, interpolated linearly (type 7 of
//! Hyndman, Fan: *Sample Quantiles in Statistical Packages*, 1996). Quantiles
//! are exact while all values fit the memory limit; otherwise they come from a
//! sketch, and the answer says so (see [`sketch`]).
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;
use fades_sdk::reduce::Moments;

mod exact;
mod group;
mod index;
mod quantiles;
mod ranks;
mod sketch;

use group::{By, Group, Name};
use index::Index;
use quantiles::Quantile;

/// Values that are looked at in one go where marked ones are passed over.
const GATHERED: usize = 4096;

struct Summary {
    by: By,
    exclude_marked: bool,
    wanted: Vec<Quantile>,
    /// There is one DTO, so that a complete series has no more rows anywhere.
    one_dto: bool,
    /// Below so many bytes of free memory, values are no longer kept.
    reserve: usize,
    /// Values are no longer kept.
    sketching: bool,
    groups: Vec<Group>,
    /// Index of each group by its name, which is the order of the answer.
    names: Index<Name>,
    /// Index of the group of each DTO and series.
    series: Index<(u32, u32)>,
}

impl Function for Summary {
    fn new(params: &Params) -> Result<Self, Abort> {
        let by = [
            ("device", By::Device),
            ("location", By::Location),
            ("kind", By::Kind),
        ];
        let marked = [("include", false), ("exclude", true)];
        Ok(Self {
            by: params.choice("by", &by)?.unwrap_or(By::Device),
            exclude_marked: params.choice("marked", &marked)?.unwrap_or(false),
            wanted: Quantile::list(params.numbers("quantiles")?)?,
            one_dto: params.context()?.dtos.len() < 2,
            reserve: fades_sdk::memory::left() / 8,
            sketching: false,
            groups: Vec::new(),
            names: Index::default(),
            series: Index::default(),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        for series in batch.series() {
            let group = self.group(batch.dto(), &series);
            let last = series.complete && self.one_dto && self.by == By::Device;
            self.take(group, &series, last);
            if last {
                self.groups[group].close(&self.wanted);
            }
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        let mut sketched = 0_usize;
        for (name, index) in self.names.iter() {
            let group = &mut self.groups[index];
            group.close(&self.wanted);
            sketched += usize::from(group.sketched());
            output.push("groups", group.row(name, &self.wanted, self.sketching));
        }
        output.set("by", self.by.text());
        if sketched == 0 {
            output.set("quantiles", "exact");
        } else {
            let sketch = Map::new()
                .with("sketch", "ddsketch")
                .with("relative-error", sketch::RELATIVE_ERROR)
                .with("groups", sketched);
            output.set("quantiles", sketch);
        }
        Ok(())
    }
}

impl Summary {
    /// Index of the group of a series.
    fn group(&mut self, dto: u32, series: &SeriesRows<'_>) -> usize {
        let (names, groups) = (&mut self.names, &mut self.groups);
        self.series.get_or_insert((dto, series.id), || {
            names.get_or_insert(Name::of(self.by, series), || {
                groups.push(Group::new(self.sketching));
                groups.len() - 1
            })
        })
    }

    /// Takes the rows of a series; `last` says that its group will have no more.
    fn take(&mut self, group: usize, series: &SeriesRows<'_>, last: bool) {
        let marks = series.mark.unwrap_or_default();
        let marked = marks.iter().filter(|&&m| m & mark::OUTSIDE != 0).count();
        self.groups[group].marked += marked as u64;
        if self.exclude_marked && marked > 0 {
            let mut left = Vec::with_capacity(GATHERED);
            for (values, marks) in series.value.chunks(GATHERED).zip(marks.chunks(GATHERED)) {
                left.clear();
                let valid = values
                    .iter()
                    .zip(marks)
                    .filter(|(_, m)| *m & mark::OUTSIDE == 0);
                left.extend(valid.map(|(v, _)| v));
                self.add(group, &left);
            }
        } else if last && self.groups[group].moments.count == 0 {
            self.groups[group].close_over(series.value, &self.wanted);
        } else {
            self.add(group, series.value);
        }
    }

    fn add(&mut self, group: usize, values: &[f64]) {
        self.groups[group].describe(values);
        // In pieces, so that memory is looked at often enough.
        for piece in values.chunks(exact::BLOCK) {
            if !self.sketching && fades_sdk::memory::left() < self.reserve + size_of_val(piece) {
                self.sketch();
            }
            self.groups[group].keep(piece);
        }
    }

    /// From now on values are counted in sketches, those that were kept as well.
    #[cold]
    #[inline(never)]
    fn sketch(&mut self) {
        self.sketching = true;
        for group in &mut self.groups {
            group.sketch();
        }
        fades_sdk::log!(
            info,
            "memory is short: quantiles come from a sketch from now on"
        );
    }
}

function!(Summary, memory = 512 * 1024);

#[cfg(test)]
mod tests;
