//! Values by their rank among many: exactly, and without sorting them.
//!
//! Numbers become integers that sort as they do, here called keys. The range
//! that the keys span is cut into bins of equal width. One pass over the values
//! counts the bins, a second one looks into those few in which a wanted rank
//! lies. With each of them it begins again, between the smallest and the largest
//! key that the bin has (which are one where readings repeat), and among the
//! bin's own values where they are few enough to be gathered. A round decides
//! eleven bits where there are many values.

use fades_sdk::prelude::*;

/// Bits that one round decides at most. With less than ten, keys far below a
/// range could not be told from those within it, see [`bin`].
const BITS: u32 = 11;

const BINS: usize = 1 << BITS;

/// Values next to each other count in tables of their own: readings change
/// slowly, and an addition to a bin that was added to just now has to wait.
const TABLES: usize = 2;

/// Values that are gathered in a round however few there are in all.
const FEW: usize = 512;

/// Of so many values one may be gathered besides.
const GATHERED_OF: usize = 16;

/// A bin for what is out of range.
const OUTSIDE: usize = BINS;

/// A bin in which no rank is wanted.
const NOBODY: u32 = u32::MAX;

/// Keys among which some of the wanted ranks lie.
struct Range {
    low: u64,
    high: u64,
    /// Values below `low`.
    before: u64,
    /// Which of the ranks.
    wanted: core::ops::Range<usize>,
    /// The values of the range, when they were gathered.
    gathered: Option<Vec<f64>>,
}

/// The values at `ranks`, counted from 0 and ascending, among all values of
/// `parts`, of which `low` is the smallest and `high` the largest.
pub(crate) fn at(ranks: &[u64], parts: &[&[f64]], low: f64, high: f64) -> Vec<f64> {
    let count: usize = parts.iter().map(|part| part.len()).sum();
    let mut found = vec![0.0; ranks.len()];
    let mut pending = vec![Range {
        // Zeros are equal as numbers, not as keys.
        low: key(if low == 0.0 { -0.0 } else { low }),
        high: key(if high == 0.0 { 0.0 } else { high }),
        before: 0,
        wanted: 0..ranks.len(),
        gathered: None,
    }];
    let mut bins = Bins::new(FEW + count / GATHERED_OF);
    while let Some(range) = pending.pop() {
        if range.low == range.high {
            found[range.wanted].fill(value(range.low));
        } else if let Some(gathered) = &range.gathered {
            pending.append(&mut bins.narrow(&range, ranks, &[gathered]));
        } else {
            pending.append(&mut bins.narrow(&range, ranks, parts));
        }
    }
    found
}

/// What rounds have in common: memory that is used again, and how much.
struct Bins {
    /// Values in each bin; then, in the first table, which of the ranges that
    /// the round leads to the bin is, or [`NOBODY`].
    counts: Box<[[u32; BINS + 1]; TABLES]>,
    /// Values that may be gathered in one round.
    room: usize,
}

impl Bins {
    fn new(room: usize) -> Self {
        Self {
            counts: Box::new([[0; BINS + 1]; TABLES]),
            room,
        }
    }

    /// The ranges within `range` in which its wanted ranks lie.
    fn narrow(&mut self, range: &Range, ranks: &[u64], parts: &[&[f64]]) -> Vec<Range> {
        // As many bins as values, so that few values cost little.
        let values = range.gathered.as_ref().map_or(BINS, Vec::len);
        let bits = (usize::BITS - values.leading_zeros()).min(BITS);
        let width = u64::BITS - (range.high - range.low).leading_zeros();
        let shift = width.saturating_sub(bits);
        let used = 1 << bits;
        self.count(parts, range.low, shift, used);
        let mut narrower = self.wanted(range, ranks, used);
        self.look(&mut narrower, parts, range.low, shift);
        narrower
    }

    fn count(&mut self, parts: &[&[f64]], low: u64, shift: u32, used: usize) {
        for table in self.counts.iter_mut() {
            table[..used].fill(0);
            table[OUTSIDE] = 0;
        }
        for part in parts {
            let (whole, rest) = part.as_chunks::<TABLES>();
            for values in whole {
                for (table, &value) in self.counts.iter_mut().zip(values) {
                    table[bin(key(value), low, shift)] += 1;
                }
            }
            for &value in rest {
                self.counts[0][bin(key(value), low, shift)] += 1;
            }
        }
    }

    /// The bins in which ranks are wanted, as ranges whose keys are not known yet.
    fn wanted(&mut self, range: &Range, ranks: &[u64], used: usize) -> Vec<Range> {
        let mut bins = Vec::new();
        let (mut before, mut next, mut room) = (range.before, range.wanted.start, self.room);
        self.counts[0][used..].fill(NOBODY);
        for bin in 0..used {
            let counts = self.counts.iter().map(|table| u64::from(table[bin]));
            let count: u64 = counts.sum();
            self.counts[0][bin] = NOBODY;
            let first = next;
            while next < range.wanted.end && ranks[next] < before + count {
                next += 1;
            }
            if first < next {
                self.counts[0][bin] = bins.len() as u32;
                let fits = count as usize <= room;
                room -= if fits { count as usize } else { 0 };
                bins.push(Range {
                    low: u64::MAX,
                    high: 0,
                    before,
                    wanted: first..next,
                    gathered: fits.then(|| Vec::with_capacity(count as usize)),
                });
            }
            before += count;
        }
        bins
    }

    /// Narrows ranges to the keys that are in their bins, and gathers values.
    fn look(&self, ranges: &mut [Range], parts: &[&[f64]], low: u64, shift: u32) {
        for &value in parts.iter().copied().flatten() {
            let key = key(value);
            let at = self.counts[0][bin(key, low, shift)];
            if let Some(range) = ranges.get_mut(at as usize) {
                range.low = range.low.min(key);
                range.high = range.high.max(key);
                if let Some(gathered) = &mut range.gathered {
                    gathered.push(value);
                }
            }
        }
    }
}

/// The bin of a key.
///
/// The last bin in use may get keys above the range as well, which changes
/// nothing for ranks within it. Keys below the range get [`OUTSIDE`]: there are
/// none in the first round, and later a range with its bins spans at most 2^53
/// keys, where the lowest and the highest number are 2^64 - 2^53 apart.
#[inline(always)]
fn bin(key: u64, low: u64, shift: u32) -> usize {
    (key.wrapping_sub(low) >> shift).min(OUTSIDE as u64) as usize
}

/// An integer that sorts as the number does.
#[inline(always)]
const fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
}

const fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 0 {
        !key
    } else {
        key ^ (1 << 63)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ranks of `values`, in `pieces` parts.
    fn check(values: &[f64], ranks: &[u64]) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
        let expected: Vec<u64> = ranks
            .iter()
            .map(|&r| sorted[r as usize].to_bits())
            .collect();
        for size in [7, 4096, values.len()] {
            let parts: Vec<&[f64]> = values.chunks(size).collect();
            let found = at(ranks, &parts, low, high);
            let found: Vec<u64> = found.into_iter().map(f64::to_bits).collect();
            assert_eq!(found, expected, "parts of {size}");
        }
    }

    fn every_rank(values: &[f64]) {
        let ranks: Vec<u64> = (0..values.len() as u64).collect();
        check(values, &ranks);
    }

    fn mixed(n: u64) -> impl Iterator<Item = u64> {
        (0..n).scan(7_u64, |state, _| {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            Some(*state)
        })
    }

    #[test]
    fn every_rank_is_what_sorting_gives() {
        let mut values: Vec<f64> = mixed(1000).map(|m| (m >> 55) as f64 / 8.0 - 20.0).collect();
        values.extend([0.0, -0.0, -0.0, -0.5, 1e300, -1e300, f64::MIN_POSITIVE]);
        every_rank(&values);
        every_rank(&[4.5]);
        every_rank(&[0.0, -0.0, 0.0]);
        every_rank(&[f64::MAX, f64::MIN, f64::MAX, 1.0]);
    }

    #[test]
    fn values_that_differ_in_their_last_bits_are_told_apart() {
        let values: Vec<f64> = mixed(50_000)
            .map(|m| f64::from_bits(4.0_f64.to_bits() + (m >> 50)))
            .chain([f64::MIN, f64::MAX, -1e-310])
            .collect();
        check(&values, &[0, 1, 25_000, 25_001, 49_999, 50_002]);
    }

    #[test]
    fn the_lowest_number_is_below_the_highest_ones() {
        let values: Vec<f64> = mixed(20_000)
            .map(|m| f64::from_bits(f64::MAX.to_bits() - (m >> 16 & 0x3_ffff_ffff_ffff)))
            .chain([f64::MIN; 1000])
            .collect();
        check(&values, &[999, 1000, 1001, 11_000, 20_998, 20_999]);
    }

    #[test]
    fn readings_that_repeat_are_found_among_many_others() {
        let few = mixed(60_000).map(|m| (m >> 62) as f64);
        let values: Vec<f64> = few.chain((0..999).map(f64::from)).collect();
        check(&values, &[10, 29_999, 30_000, 58_000, 60_500, 60_998]);
    }

    #[test]
    fn any_numbers_have_their_ranks() {
        let values: Vec<f64> = mixed(30_000)
            .map(f64::from_bits)
            .filter(|v| v.is_finite())
            .collect();
        let ranks: Vec<u64> = (0..values.len() as u64).step_by(997).collect();
        check(&values, &ranks);
    }
}
