//! A sketch of values: how many there are of about each size.
//!
//! DDSketch (Masson, Rim, Lee: *DDSketch: A Fast and Fully-Mergeable Quantile
//! Sketch with Relative-Error Guarantees*, PVLDB 12(12), 2019) with the linearly
//! interpolated mapping: an octave is cut into 128 bins of equal width, so that
//! a bin is the upper bits of a number. The bounds of a bin are at most a
//! factor 129/128 apart; the answer 2·low·high/(low + high) is off by at most
//! 1/257 of the true value. The guarantee holds for all numbers but those below
//! 2.3e-308, which count as 0.

use fades_sdk::prelude::*;

/// Stated bound of the relative error; 1/257 rounded up.
pub(crate) const RELATIVE_ERROR: f64 = 0.004;

/// Bits of a number that do not matter.
const COARSE: u32 = 52 - 7;

/// Bins that are made together: a quarter of an octave.
const PAGE: usize = 32;

/// Counts by bin; pages without counts are not there.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    /// Pages by ascending number. Negative numbers come first, from the largest
    /// magnitude to the smallest.
    pages: Vec<(i32, Box<[u64; PAGE]>)>,
    /// Index of the page that was last used.
    last: usize,
}

impl Sketch {
    pub(crate) fn extend(&mut self, values: &[f64]) {
        for &value in values {
            let bin = bin(value);
            let (page, at) = (bin.div_euclid(PAGE as i32), bin.rem_euclid(PAGE as i32));
            self.page(page)[at as usize] += 1;
        }
    }

    fn page(&mut self, number: i32) -> &mut [u64; PAGE] {
        if self.pages.get(self.last).is_none_or(|p| p.0 != number) {
            self.last = match self.pages.binary_search_by(|p| p.0.cmp(&number)) {
                Ok(at) => at,
                Err(at) => {
                    self.pages.insert(at, (number, Box::new([0; PAGE])));
                    at
                }
            };
        }
        &mut self.pages[self.last].1
    }

    /// About the value of a rank, from 0.
    pub(crate) fn at(&self, rank: u64) -> f64 {
        let mut before = 0;
        for (number, counts) in &self.pages {
            for (at, count) in (0..).zip(counts.iter()) {
                before += count;
                if rank < before {
                    return middle(number * PAGE as i32 + at);
                }
            }
        }
        0.0
    }
}

/// The bin of a number: 0 for 0, negative for negative numbers.
fn bin(value: f64) -> i32 {
    let magnitude = (value.to_bits() & !(1 << 63)) >> COARSE;
    // At most 2^18: all bits above the coarse ones.
    let magnitude = if value.abs() < f64::MIN_POSITIVE {
        0
    } else {
        magnitude as i32
    };
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The number that is at most 1/257 away from all in a bin, relatively:
/// 2·low·high/(low + high), where high/low = (n + 1)/n and n counts from 128.
fn middle(bin: i32) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let magnitude = u64::from(bin.unsigned_abs());
    let low = f64::from_bits(magnitude << COARSE);
    let n = (128 + magnitude % 128) as f64;
    let middle = low * ((2.0 * n + 2.0) / (2.0 * n + 1.0));
    if bin < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_back_within_the_stated_error() {
        let mut value = 3e-308;
        while value < 1e308 {
            for v in [value, -value] {
                let mut sketch = Sketch::default();
                sketch.extend(&[v]);
                let error = (sketch.at(0) - v).abs() / value;
                assert!(error <= RELATIVE_ERROR, "{v}: {error}");
            }
            value *= 1.000_37_f64.powi(97);
        }
        let mut sketch = Sketch::default();
        sketch.extend(&[0.0, -0.0, 1e-310]);
        assert_eq!((sketch.at(0), sketch.at(2)), (0.0, 0.0));
    }

    #[test]
    fn ranks_are_counted_from_the_most_negative_value_up() {
        let mut sketch = Sketch::default();
        sketch.extend(&[5.0, -1.0, 0.0, -100.0, 80.0]);
        let expected = [-100.0, -1.0, 0.0, 5.0, 80.0];
        for (rank, expected) in (0..).zip(expected) {
            let error = (sketch.at(rank) - expected).abs();
            assert!(error <= expected.abs() * RELATIVE_ERROR, "rank {rank}");
        }
    }
}
