//! The templates at hand: those used last, as far as there is room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fades_task::identity::Digest;
use fades_task::limits::Isolation;
use fades_task::quantity::Size;

use crate::shell::Template;

/// Most templates that are kept.
const COUNT_MAX: usize = 64;

/// Most memory that they take, bytes; one that is larger is kept alone.
const BYTES_MAX: u64 = 64 << 20;

/// What a template depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(in crate::driver) image: Digest,
    pub(in crate::driver) isolation: Isolation,
    pub(in crate::driver) memory: Size,
    pub(in crate::driver) output: Size,
    pub(in crate::driver) context: Size,
}

#[derive(Debug, Default)]
pub(super) struct Templates {
    ready: HashMap<Key, Entry>,
    making: HashSet<Key>,
    /// Counts uses, to tell which was the last.
    uses: u64,
    /// The number of the last one that was ordered.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    template: Arc<Template>,
    used: u64,
}

impl Templates {
    /// The template, when it is at hand.
    pub(super) fn take(&mut self, key: &Key) -> Option<Arc<Template>> {
        self.uses += 1;
        let entry = self.ready.get_mut(key)?;
        entry.used = self.uses;
        Some(Arc::clone(&entry.template))
    }

    /// The number for a template that is to be made; `None` when it is being
    /// made already.
    pub(super) fn order(&mut self, key: &Key) -> Option<u64> {
        if !self.making.insert(key.clone()) {
            return None;
        }
        self.number += 1;
        Some(self.number)
    }

    /// An order has come to an end.
    pub(super) fn made(&mut self, key: Key, template: Option<Template>) {
        self.making.remove(&key);
        let Some(template) = template.map(Arc::new) else {
            return;
        };
        self.uses += 1;
        let used = self.uses;
        self.ready.insert(key, Entry { template, used });
        while self.ready.len() > COUNT_MAX || (self.bytes() > BYTES_MAX && self.ready.len() > 1) {
            let oldest = self.ready.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.ready.remove(&oldest);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.ready.len()
    }

    /// Memory that all take, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.ready.values().map(|e| e.template.bytes()).sum()
    }

    /// How many are being made.
    pub(super) fn making(&self) -> usize {
        self.making.len()
    }
}
