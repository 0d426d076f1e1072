//! Rows of the answer.

use fades_sdk::context;
use fades_sdk::prelude::*;

use crate::hours::Day;
use crate::index::{Pollutant, category};

/// Appends a row for each day on which at least one kind is complete.
pub(crate) fn days(location: &str, days: &[Vec<Day>; 2], output: &mut Output) {
    let [mut first, mut second] = days.each_ref().map(|d| d.iter().peekable());
    loop {
        let next = [first.peek(), second.peek()].map(|d| d.map(|d| d.number));
        let Some(number) = next.into_iter().flatten().min() else {
            return;
        };
        let means = [
            first.next_if(|d| d.number == number).and_then(|d| d.mean),
            second.next_if(|d| d.number == number).and_then(|d| d.mean),
        ];
        if means.iter().any(Option::is_some) {
            output.push("days", day(location, number, means));
        }
    }
}

/// One day: the index is the highest of its kinds'.
fn day(location: &str, number: i64, means: [Option<f64>; 2]) -> Map {
    let mut row = Map::new()
        .with("location", location.to_owned())
        .with("day", date(number));
    let mut highest: Option<(u32, Pollutant)> = None;
    for (pollutant, mean) in Pollutant::BOTH.into_iter().zip(means) {
        let Some(mean) = mean else { continue };
        let index = pollutant.index(mean);
        row.set(pollutant.kind(), mean);
        if highest.is_none_or(|(h, _)| index > h) {
            highest = Some((index, pollutant));
        }
    }
    if let Some((index, pollutant)) = highest {
        row.set("aqi", index);
        row.set("by", pollutant.kind());
        row.set("category", category(index));
    }
    row
}

/// What the days of a location come to.
pub(crate) fn sums(location: &str, days: &[Vec<Day>; 2]) -> Map {
    let mut row = Map::new().with("location", location.to_owned());
    let mut worst = None;
    for (pollutant, days) in Pollutant::BOTH.into_iter().zip(days) {
        if days.is_empty() {
            continue;
        }
        let means = || days.iter().filter_map(|d| d.mean);
        let above = means().filter(|&mean| mean > pollutant.guideline());
        let named = |what: &str| [pollutant.kind(), what].concat();
        row.set(named("-days"), means().count());
        row.set(named("-incomplete"), days.len() - means().count());
        row.set(named("-above-who"), above.count());
        worst = worst.max(means().map(|mean| pollutant.index(mean)).max());
    }
    if let Some(worst) = worst {
        row.set("aqi-max", worst);
    }
    row
}

/// `YYYY-MM-DD`.
fn date(number: i64) -> String {
    let (year, month, day) = context::date(number);
    let (month, day) = (usize::from(month), usize::from(day));
    format!("{:04}-{month:02}-{day:02}", year as usize)
}
