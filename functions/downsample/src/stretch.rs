//! Stretches of time, and what is kept of the readings in one.

use core::ops::Range;

use fades_sdk::context::SECOND;
use fades_sdk::prelude::*;

use crate::reduce;

const DAY: i64 = 24 * 3600 * SECOND;

/// What is answered of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Mean,
    Min,
    Max,
    Last,
}

impl Aggregate {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("mean", Self::Mean),
        ("min", Self::Min),
        ("max", Self::Max),
        ("last", Self::Last),
    ];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Last => "last",
        }
    }
}

/// Cuts time into stretches.
#[derive(Debug)]
pub(crate) enum Grid {
    /// So many local days each.
    Days { days: i64, zone: Zone },
    /// So many nanoseconds each.
    Even(i64),
}

impl Grid {
    pub(crate) fn new(Span(every): Span, zone: Zone) -> Self {
        if every % DAY == 0 {
            let days = every / DAY;
            Self::Days { days, zone }
        } else {
            Self::Even(every)
        }
    }

    /// Start and end of the stretch that contains `time`; the end is not in it.
    pub(crate) fn around(&self, time: i64) -> (i64, i64) {
        match self {
            Self::Even(every) => {
                let start = time.saturating_sub(time.rem_euclid(*every));
                (start, start.saturating_add(*every))
            }
            Self::Days { days, zone } => {
                let first = zone.day(time).div_euclid(*days) * days;
                let midnight = |day: i64| zone.utc_of(day.saturating_mul(DAY));
                (midnight(first), midnight(first + days))
            }
        }
    }
}

/// The readings of one stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) start: i64,
    pub(crate) count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: (i64, f64),
}

impl Stretch {
    /// A stretch from times and values; `None` when there are none.
    pub(crate) fn of(start: i64, (time, value): (&[i64], &[f64])) -> Option<Self> {
        let last = (*time.last()?, *value.last()?);
        Some(Self {
            start,
            count: value.len() as u64,
            sum: reduce::sum(value),
            min: reduce::min(value),
            max: reduce::max(value),
            last,
        })
    }

    /// Adds readings of the same stretch. Of two that are last at the same
    /// time, the one that came later counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = reduce::min(&[self.min, other.min]);
        self.max = reduce::max(&[self.max, other.max]);
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
    }

    pub(crate) fn value(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            Aggregate::Mean => self.sum / self.count as f64,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Last => self.last.1,
        }
    }
}

/// Room for the readings of a stretch that are left when marked ones are not.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    time: Vec<i64>,
    value: Vec<f64>,
}

impl Gathered {
    /// The readings `span` of `rows`, without the marked ones when those are
    /// excluded.
    pub(crate) fn of<'s>(
        &'s mut self,
        rows: &SeriesRows<'s>,
        span: Range<usize>,
        exclude_marked: bool,
    ) -> (&'s [i64], &'s [f64]) {
        let (time, value) = (&rows.time[span.clone()], &rows.value[span.clone()]);
        let Some(marks) = rows.mark.filter(|_| exclude_marked) else {
            return (time, value);
        };
        self.time.clear();
        self.value.clear();
        for ((&time, &value), &marks) in time.iter().zip(value).zip(&marks[span]) {
            if marks & mark::OUTSIDE == 0 {
                self.time.push(time);
                self.value.push(value);
            }
        }
        (&self.time, &self.value)
    }
}
