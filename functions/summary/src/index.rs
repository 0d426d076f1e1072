//! Numbers by key, in the order of the keys.

use fades_sdk::prelude::*;

/// A sorted list: a fraction of the code of a tree, and looked up once per
/// series of a batch.
#[derive(Debug)]
pub(crate) struct Index<K> {
    entries: Vec<(K, usize)>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<K: Ord> Index<K> {
    /// The number of `key`; what `new` gives when it has none yet.
    pub(crate) fn get_or_insert(&mut self, key: K, new: impl FnOnce() -> usize) -> usize {
        match self.entries.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => self.entries[at].1,
            Err(at) => {
                let number = new();
                self.entries.insert(at, (key, number));
                number
            }
        }
    }

    /// Keys and numbers by ascending key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, usize)> {
        self.entries.iter().map(|(key, number)| (key, *number))
    }
}
