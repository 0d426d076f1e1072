//! The air quality index of each location and day from particulate matter, and
//! the days above the guideline of the World Health Organization.
//!
//! Takes readings of the kinds `pm2.5` and `pm10` in `ug/m3`, or without a unit;
//! other kinds are counted and left alone.
//!
//! | parameter | values | when not given |
//! |---|---|---|
//! | `marked` | `exclude`, `include`: readings marked as outside of their valid range | `exclude` |
//! | `quarters` | quarters of an hour, 1 to 4, with readings that make an hour valid | `3` |
//! | `days` | `list`, `count`: whether each day is answered, or only sums over days | `list` |
//!
//! An hour is one of the clocks of the task's zone; all devices of a location
//! contribute to its mean with each of their readings. It is valid with
//! readings in at least three of its quarters (75 %; sources with one reading
//! an hour need `quarters = 1`). A day is one of the zone, has 23 or 25 hours
//! when clocks change, and is complete with 75 % of its hours valid: 18 of 24.
//! The concentration of a complete day is the mean of its valid hours. See
//! [`index`] for what becomes of it.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;
use fades_sdk::reduce;

mod hours;
mod index;
mod report;

use hours::Hours;
use index::Pollutant;

/// Readings of both kinds at one location.
struct Place {
    location: String,
    hours: [Hours; 2],
}

struct AirQuality {
    zone: Zone,
    exclude_marked: bool,
    quarters: u32,
    list_days: bool,
    places: Vec<Place>,
    used: u64,
    marked: u64,
    other_kinds: u64,
    without_unit: u64,
}

impl Function for AirQuality {
    fn new(params: &Params) -> Result<Self, Abort> {
        let marked = [("exclude", true), ("include", false)];
        let days = [("list", true), ("count", false)];
        let quarters: u64 = params.or("quarters", 3)?;
        if !(1..=4).contains(&quarters) {
            abort!("parameter `quarters` must be 1 to 4: an hour has four");
        }
        Ok(Self {
            zone: params.context()?.zone,
            exclude_marked: params.choice("marked", &marked)?.unwrap_or(true),
            quarters: quarters as u32,
            list_days: params.choice("days", &days)?.unwrap_or(true),
            places: Vec::new(),
            used: 0,
            marked: 0,
            other_kinds: 0,
            without_unit: 0,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        for series in batch.series() {
            let Some(pollutant) = Pollutant::of(series.kind) else {
                self.other_kinds += series.time.len() as u64;
                continue;
            };
            if series.unit.is_empty() {
                self.without_unit += series.time.len() as u64;
            } else if series.unit != "ug/m3" {
                let SeriesRows {
                    device, kind, unit, ..
                } = series;
                abort!(
                    "{kind} of {device} is in `{unit}`, but the index is defined for `ug/m3`: \
                     set the unit in the source's configuration"
                );
            }
            self.take(pollutant, &series);
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        self.places
            .sort_unstable_by(|a, b| a.location.cmp(&b.location));
        for place in &self.places {
            let days = place
                .hours
                .each_ref()
                .map(|h| h.days(&self.zone, self.quarters));
            if self.list_days {
                report::days(&place.location, &days, output);
            }
            output.push("locations", report::sums(&place.location, &days));
        }
        output.set("zone", self.zone.name.clone());
        output.set("used", self.used);
        output.set("marked", self.marked);
        if self.other_kinds > 0 {
            output.set("other-kinds", self.other_kinds);
        }
        if self.without_unit > 0 {
            output.set("without-unit", self.without_unit);
        }
        Ok(())
    }
}

impl AirQuality {
    fn take(&mut self, pollutant: Pollutant, series: &SeriesRows<'_>) {
        let known = self
            .places
            .iter()
            .position(|p| p.location == series.location);
        let place = known.unwrap_or_else(|| {
            self.places.push(Place {
                location: series.location.to_owned(),
                hours: Default::default(),
            });
            self.places.len() - 1
        });
        let hours = &mut self.places[place].hours[pollutant as usize];
        let Some(marks) = series.mark else {
            self.used += series.time.len() as u64;
            hours.add(&self.zone, series.time, series.value);
            return;
        };
        let outside = |&m: &u8| m & mark::OUTSIDE != 0;
        let marked = marks.iter().filter(|m| outside(m)).count() as u64;
        self.marked += marked;
        let mut from = 0;
        for run in marks.chunk_by(|a, b| outside(a) == outside(b)) {
            let rows = from..from + run.len();
            from = rows.end;
            if self.exclude_marked && run.first().is_some_and(outside) {
                continue;
            }
            self.used += run.len() as u64;
            hours.add(&self.zone, &series.time[rows.clone()], &series.value[rows]);
        }
    }
}

function!(AirQuality, memory = 512 * 1024);

#[cfg(test)]
mod tests;
