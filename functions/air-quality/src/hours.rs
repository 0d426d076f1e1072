//! Means of hours, and of the days that are made of them.

use fades_sdk::context::SECOND;
use fades_sdk::prelude::*;

use crate::reduce;

const HOUR: i64 = 3600 * SECOND;
const QUARTER: i64 = HOUR / 4;
const DAY: i64 = 24 * HOUR;

/// Readings of one kind at one location, by hour. 16 bytes an hour.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    /// By ascending start.
    hours: Vec<Hour>,
}

/// Readings of one hour.
#[derive(Debug, Clone, Copy)]
struct Hour {
    sum: f64,
    /// The quarter of an hour since 1970 UTC in which it begins.
    start: i32,
    /// Number of readings, and in the uppermost four bits which quarters of the
    /// hour have some.
    count: u32,
}

const COUNT: u32 = u32::MAX >> 4;

impl Hour {
    const fn quarters(&self) -> u32 {
        (self.count & !COUNT).count_ones()
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count & COUNT)
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        let count = (self.count & COUNT).saturating_add(other.count & COUNT);
        let quarters = (self.count | other.count) & !COUNT;
        self.count = count.min(COUNT) | quarters;
    }
}

/// A local day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Day {
    /// Number since 1970-01-01.
    pub(crate) number: i64,
    /// Mean of the means of its valid hours; `None` when too few are.
    pub(crate) mean: Option<f64>,
}

impl Hours {
    /// Adds readings with ascending times.
    pub(crate) fn add(&mut self, zone: &Zone, time: &[i64], value: &[f64]) {
        let mut from = 0;
        while from < time.len() {
            let into = zone.local(time[from]).rem_euclid(HOUR);
            let quarter = into / QUARTER;
            // Clocks change between quarters, so that a quarter is a quarter
            // whatever happens to the hour.
            let end = time[from].saturating_add(QUARTER - into % QUARTER);
            let rows = time[from..].partition_point(|&t| t < end).max(1);
            let values = &value[from..from + rows];
            self.merge(&Hour {
                sum: reduce::sum(values),
                start: (time[from] - into).div_euclid(QUARTER) as i32,
                count: (rows as u32).min(COUNT) | 1 << (28 + quarter),
            });
            from += rows;
        }
    }

    fn merge(&mut self, part: &Hour) {
        let at = self.hours.partition_point(|h| h.start < part.start);
        match self.hours.get_mut(at) {
            Some(known) if known.start == part.start => known.merge(part),
            _ => self.hours.insert(at, *part),
        }
    }

    /// The days on which there are readings. An hour needs readings in so many
    /// `quarters` to be valid.
    pub(crate) fn days(&self, zone: &Zone, quarters: u32) -> Vec<Day> {
        let mut days = Vec::new();
        let number = |hour: &Hour| {
            // The last moment of the quarter is in the hour, even where an
            // offset is no multiple of quarters.
            zone.day((i64::from(hour.start) + 1) * QUARTER - 1)
        };
        for hours in self.hours.chunk_by(|a, b| number(a) == number(b)) {
            let Some(first) = hours.first() else { continue };
            let number = number(first);
            let valid = hours.iter().filter(|h| h.quarters() >= quarters);
            let (sum, count) = valid.fold((0.0, 0), |(s, n), h| (s + h.mean(), n + 1));
            let complete = i64::from(count) * 4 >= hours_of(zone, number) * 3;
            days.push(Day {
                number,
                mean: complete.then(|| sum / f64::from(count)),
            });
        }
        days
    }
}

/// Hours of a local day.
fn hours_of(zone: &Zone, day: i64) -> i64 {
    let midnight = |day: i64| zone.utc_of(day * DAY);
    (midnight(day + 1) - midnight(day)) / HOUR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_takes_sixteen_bytes() {
        assert_eq!(size_of::<Hour>(), 16);
    }

    #[test]
    fn parts_of_an_hour_are_merged_wherever_they_come_from() {
        let (zone, mut hours) = (Zone::utc(), Hours::default());
        hours.add(&zone, &[2 * HOUR, 2 * HOUR + QUARTER], &[1.0, 2.0]);
        hours.add(&zone, &[0], &[7.0]);
        hours.add(&zone, &[2 * HOUR + 1, 3 * HOUR - 1], &[3.0, 4.0]);
        let found: Vec<_> = hours
            .hours
            .iter()
            .map(|h| (h.start, h.mean(), h.quarters()))
            .collect();
        assert_eq!(found, [(0, 7.0, 1), (8, 2.5, 3)]);
    }

    #[test]
    fn the_days_on_which_clocks_change_have_23_and_25_hours() {
        let spring = Zone::new("X", vec![(i64::MIN, 0), (HOUR, 3600)]).unwrap();
        assert_eq!(hours_of(&spring, 0), 23);
        let autumn = Zone::new("X", vec![(i64::MIN, 3600), (HOUR, 0)]).unwrap();
        assert_eq!(hours_of(&autumn, 0), 25);
        assert_eq!(hours_of(&autumn, 1), 24);
    }

    #[test]
    fn the_hour_that_clocks_show_twice_is_two_hours() {
        let autumn = Zone::new("X", vec![(i64::MIN, 3600), (HOUR, 0)]).unwrap();
        let mut hours = Hours::default();
        hours.add(&autumn, &[HOUR / 2, HOUR + HOUR / 2], &[1.0, 2.0]);
        let starts: Vec<_> = hours.hours.iter().map(|h| h.start).collect();
        assert_eq!(starts, [0, 4]);
    }

    #[test]
    fn an_offset_of_half_an_hour_moves_hours_and_days() {
        let zone = Zone::new("X", vec![(i64::MIN, 5 * 3600 + 1800)]).unwrap();
        let mut hours = Hours::default();
        // 18:30Z is midnight there.
        hours.add(
            &zone,
            &[18 * HOUR + HOUR / 2 - 1, 18 * HOUR + HOUR / 2],
            &[1.0, 2.0],
        );
        let days: Vec<_> = hours.days(&zone, 1).iter().map(|d| d.number).collect();
        assert_eq!(days, [0, 1]);
    }
}
