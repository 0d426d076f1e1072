//! Which quantiles are wanted, and where they lie among values.

use fades_sdk::prelude::*;

use crate::{Moments, ranks};

/// A quantile: an exact multiple of a thousandth of a per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantile {
    /// In 1/100000.
    parts: u32,
}

const WHOLE: u32 = 100_000;

impl Quantile {
    /// The quantiles that a parameter names, or the usual three.
    #[cold]
    #[inline(never)]
    pub(crate) fn list(given: Option<Vec<f64>>) -> Result<Vec<Self>, Abort> {
        let given = given.unwrap_or_else(|| vec![0.5, 0.95, 0.99]);
        given.into_iter().map(Self::new).collect()
    }

    fn new(fraction: f64) -> Result<Self, Abort> {
        let scaled = fraction * f64::from(WHOLE);
        let parts = libm::round(scaled);
        if !(1.0..=f64::from(WHOLE - 1)).contains(&parts) || libm::fabs(scaled - parts) > 1e-6 {
            abort!(
                "parameter `quantiles` must have numbers above 0 and below 1 with at most 5 decimals"
            );
        }
        Ok(Self {
            parts: parts as u32,
        })
    }

    /// `p50`, `p99.9`.
    pub(crate) fn name(self) -> String {
        let (whole, rest) = (self.parts / 1000, self.parts % 1000);
        if rest == 0 {
            return format!("p{}", whole as usize);
        }
        let name = format!("p{}.{:03}", whole as usize, rest as usize);
        name.trim_end_matches('0').to_owned()
    }

    fn position(self, count: u64) -> f64 {
        f64::from(self.parts) * ((count - 1) as f64) / f64::from(WHOLE)
    }

    /// The rank, from 0, at or below the quantile of `count` > 0 values.
    pub(crate) fn rank(self, count: u64) -> u64 {
        self.position(count) as u64
    }

    /// The ranks on both sides of the quantile of `count` > 0 values; the same
    /// where there is no higher one.
    fn ranks(self, count: u64) -> [u64; 2] {
        let rank = self.rank(count);
        [rank, (rank + 1).min(count - 1)]
    }
}

/// The quantiles of the values of `parts`, of which `moments` has count and
/// extremes; of no values there are none.
pub(crate) fn exact(wanted: &[Quantile], parts: &[&[f64]], moments: &Moments) -> Vec<f64> {
    let Moments {
        count, min, max, ..
    } = *moments;
    if count == 0 {
        return Vec::new();
    }
    let mut ranks = Vec::new();
    for rank in wanted.iter().flat_map(|q| q.ranks(count)) {
        // As code, far smaller than a sort.
        ranks.insert(ranks.partition_point(|&r| r < rank), rank);
    }
    let values = ranks::at(&ranks, parts, min, max);
    let at = |rank| values[ranks.partition_point(|&r| r < rank)];
    let each = wanted.iter().map(|q| {
        let [low, high] = q.ranks(count);
        at(low) + (at(high) - at(low)) * (q.position(count) - low as f64)
    });
    each.collect()
}
