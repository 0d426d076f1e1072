//! All values of a group, and any of them by its rank.

use fades_sdk::prelude::*;

/// Values in a full block.
pub(crate) const BLOCK: usize = 4096;

/// Values in the first block, so that thousands of small groups fit.
const FIRST: usize = 64;

/// Bits that one pass over the values decides.
const DIGIT: u32 = 11;

/// Values in blocks that never move.
#[derive(Debug, Default)]
pub(crate) struct Exact {
    blocks: Vec<Vec<f64>>,
    count: usize,
}

impl Exact {
    pub(crate) fn extend(&mut self, mut values: &[f64]) {
        while !values.is_empty() {
            if self.blocks.last().is_none_or(|b| b.len() == b.capacity()) {
                let capacity = self.count.clamp(FIRST, BLOCK);
                self.blocks.push(Vec::with_capacity(capacity));
            }
            let Some(block) = self.blocks.last_mut() else {
                return;
            };
            let room = (block.capacity() - block.len()).min(values.len());
            let (now, later) = values.split_at(room);
            block.extend_from_slice(now);
            self.count += room;
            values = later;
        }
    }

    pub(crate) fn into_blocks(self) -> Vec<Vec<f64>> {
        self.blocks
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flatten().map(|&value| key(value))
    }

    /// The value of a rank, from 0, and the one of the next rank (the same when
    /// there is none). Decides the value's bits from the highest down, one pass
    /// over all values for each few bits: exact, and no second copy.
    pub(crate) fn pair(&self, rank: u64) -> (f64, f64) {
        let (mut prefix, mut within, mut undecided) = (0_u64, rank, u64::BITS);
        let mut alike = 0_u64;
        while undecided > 0 {
            let digit = DIGIT.min(undecided);
            let shift = undecided - digit;
            let mut counts = [0_u32; 1 << DIGIT];
            for key in self.keys() {
                if undecided == u64::BITS || key >> undecided == prefix {
                    counts[(key >> shift) as usize & ((1 << digit) - 1)] += 1;
                }
            }
            for (bin, &count) in (0_u64..).zip(&counts) {
                alike = count.into();
                if within < alike {
                    prefix = prefix << digit | bin;
                    break;
                }
                within -= alike;
            }
            undecided = shift;
        }
        let next = if within + 1 < alike {
            prefix
        } else {
            let above = self.keys().filter(|&key| key > prefix);
            above.min().unwrap_or(prefix)
        };
        (value(prefix), value(next))
    }
}

/// An integer that sorts as the number does.
fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 0 {
        !key
    } else {
        key & !(1 << 63)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_is_what_sorting_gives() {
        let mut values: Vec<f64> = (0..1000)
            .map(|i: i32| f64::from(i.wrapping_mul(7919) % 503) / 8.0 - 20.0)
            .collect();
        values.extend([0.0, -0.5, 1e300, -1e300, f64::MIN_POSITIVE]);
        let mut exact = Exact::default();
        for piece in values.chunks(33) {
            exact.extend(piece);
        }
        values.sort_by(f64::total_cmp);
        for rank in 0..values.len() {
            let next = values[(rank + 1).min(values.len() - 1)];
            assert_eq!(exact.pair(rank as u64), (values[rank], next), "rank {rank}");
        }
    }

    #[test]
    fn blocks_grow_with_the_group() {
        let mut exact = Exact::default();
        exact.extend(&[1.0; 10]);
        assert_eq!(exact.blocks[0].capacity(), FIRST);
        exact.extend(&[1.0; 20_000]);
        let largest = exact.blocks.iter().map(Vec::capacity).max();
        assert_eq!(largest, Some(BLOCK));
        assert_eq!(exact.blocks.iter().map(Vec::len).sum::<usize>(), 20_010);
    }
}
