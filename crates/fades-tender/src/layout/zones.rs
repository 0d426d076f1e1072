//! How large the zones of a shell's memory are.

use std::ops::Range;

use fades_task::shell::Class;

use crate::address::Offset;

/// Lengths of the zones before the heap, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zones {
    pub(super) run: u64,
    pub(super) constant: u64,
    pub(super) initial: u64,
    pub(super) work: u64,
}

/// Zones for images of up to some 400 KiB, answers of as much, and contexts of
/// 64 KiB: 4 MiB before the heap.
pub(super) const COMMON: Zones = Zones {
    run: 512 << 10,
    constant: 512 << 10,
    initial: 1 << 20,
    work: 2 << 20,
};

/// Zones for all that the contract allows.
pub(super) const BULK: Zones = Zones {
    run: 48 << 20,
    constant: 32 << 20,
    initial: 1040 << 20,
    work: 304 << 20,
};

impl Zones {
    /// The zones of shells with room for `bulk`, or without.
    pub(crate) const fn of(bulk: bool) -> Self {
        if bulk { BULK } else { COMMON }
    }

    /// From here on the function (or the monitor) may write.
    pub(crate) const fn writable(self) -> u64 {
        self.run + self.constant
    }

    /// Where a microVM's page tables start, which the function does not see.
    pub(crate) const fn tables(self) -> Offset {
        Offset(self.writable())
    }

    /// What comes from the template.
    pub(crate) const fn template(self) -> Range<u64> {
        self.run..self.run + self.constant + self.initial
    }

    /// Where the heap starts.
    pub(crate) const fn heap(self) -> u64 {
        self.run + self.constant + self.initial + self.work
    }

    /// Where the memory of a shell ends that has room for so much heap.
    pub(crate) const fn end(self, class: Class) -> u64 {
        self.heap() + class.heap.0
    }
}
