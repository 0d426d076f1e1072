//! One row of the answer while it is being made.

use fades_sdk::prelude::*;
use fades_sdk::reduce;

use crate::Moments;
use crate::exact::Exact;
use crate::quantiles::{self, Quantile};
use crate::sketch::Sketch;

/// What readings are told apart by, besides kind and unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Device and location: a device that moved is several groups.
    Device,
    /// Location.
    Location,
    /// Nothing else.
    Kind,
}

impl By {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Location => "location",
            Self::Kind => "kind",
        }
    }
}

/// What names a group; in the order of the answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    kind: String,
    unit: String,
    device: Option<String>,
    location: Option<String>,
}

impl Name {
    pub(crate) fn of(by: By, series: &SeriesRows<'_>) -> Self {
        let device = (by == By::Device).then(|| series.device.to_owned());
        let location = (by != By::Kind).then(|| series.location.to_owned());
        Self {
            kind: series.kind.to_owned(),
            unit: series.unit.to_owned(),
            device,
            location,
        }
    }
}

/// Where the values of a group are.
#[derive(Debug)]
enum Values {
    /// All of them.
    Kept(Exact),
    /// How many there are of about each size.
    Counted(Sketch),
    /// Gone: the quantiles are known.
    Closed { quantiles: Vec<f64>, sketched: bool },
}

/// Readings of a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) moments: Moments,
    /// Readings marked as outside of their valid range, counted or not.
    pub(crate) marked: u64,
    values: Values,
}

impl Group {
    pub(crate) fn new(sketching: bool) -> Self {
        Self {
            moments: Moments::default(),
            marked: 0,
            values: if sketching {
                Values::Counted(Sketch::default())
            } else {
                Values::Kept(Exact::default())
            },
        }
    }

    /// Adds to count, extremes, mean and spread. One place for both ways that
    /// values come in: each copy takes 5 KB of the image.
    #[inline(never)]
    pub(crate) fn describe(&mut self, values: &[f64]) {
        self.moments.merge(&reduce::moments(values));
    }

    pub(crate) fn keep(&mut self, values: &[f64]) {
        match &mut self.values {
            Values::Kept(exact) => exact.extend(values),
            Values::Counted(sketch) => sketch.extend(values),
            // A complete series has no more rows.
            Values::Closed { .. } => {}
        }
    }

    /// Counts the values that were kept so far, and those to come.
    pub(crate) fn sketch(&mut self) {
        if let Values::Kept(exact) = &mut self.values {
            let mut sketch = Sketch::default();
            for block in core::mem::take(exact).into_blocks() {
                sketch.extend(&block);
            }
            self.values = Values::Counted(sketch);
        }
    }

    /// Takes `values` for all that the group ever has; none of them is kept.
    pub(crate) fn close_over(&mut self, values: &[f64], wanted: &[Quantile]) {
        self.describe(values);
        let quantiles = quantiles::exact(wanted, &[values], &self.moments);
        self.values = Values::Closed {
            quantiles,
            sketched: false,
        };
    }

    /// Takes the quantiles and lets the values go.
    pub(crate) fn close(&mut self, wanted: &[Quantile]) {
        let Moments {
            count, min, max, ..
        } = self.moments;
        let (quantiles, sketched) = match &self.values {
            Values::Closed { .. } => return,
            _ if count == 0 => (Vec::new(), false),
            Values::Kept(exact) => {
                let exact = quantiles::exact(wanted, &exact.parts(), &self.moments);
                (exact, false)
            }
            Values::Counted(sketch) => {
                let each = wanted
                    .iter()
                    .map(|q| within(sketch.at(q.rank(count)), min, max));
                (each.collect(), true)
            }
        };
        self.values = Values::Closed {
            quantiles,
            sketched,
        };
    }

    /// Whether the quantiles came from a sketch.
    pub(crate) const fn sketched(&self) -> bool {
        matches!(self.values, Values::Closed { sketched: true, .. })
    }

    /// The row; `exact` says for each row whether its quantiles are, where some
    /// are not.
    pub(crate) fn row(&self, name: &Name, wanted: &[Quantile], mixed: bool) -> Map {
        let Moments {
            count,
            sum,
            min,
            max,
            mean,
            ..
        } = self.moments;
        let some = |value: f64| (count > 0).then_some(value);
        let sd = self.moments.variance().map(libm::sqrt);
        let mut row = Map::new()
            .with("kind", name.kind.clone())
            .with("unit", name.unit.clone())
            .with("count", count)
            .with("marked", self.marked)
            .with("min", some(min))
            .with("max", some(max))
            .with("mean", some(mean))
            .with("sd", sd)
            .with("sum", sum);
        if let Some(device) = &name.device {
            row.set("device", device.clone());
        }
        if let Some(location) = &name.location {
            row.set("location", location.clone());
        }
        if let Values::Closed { quantiles, .. } = &self.values {
            for (i, quantile) in wanted.iter().enumerate() {
                row.set(quantile.name(), quantiles.get(i).copied());
            }
        }
        if mixed {
            row.set("exact", !self.sketched());
        }
        row
    }
}

/// As `f64::clamp`, whose panic would bring the formatting of numbers, some
/// 15 KB, into the image.
const fn within(value: f64, min: f64, max: f64) -> f64 {
    if value < min {
        min
    } else if value > max {
        max
    } else {
        value
    }
}
