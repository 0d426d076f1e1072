//! All values of a group.

use fades_sdk::prelude::*;

/// Values in a full block.
pub(crate) const BLOCK: usize = 4096;

/// Values in the first block, so that thousands of small groups fit.
const FIRST: usize = 64;

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

    /// All values, in parts.
    pub(crate) fn parts(&self) -> Vec<&[f64]> {
        self.blocks.iter().map(|block| &block[..]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
