//! Which page table of a microVM maps which addresses: fixed by the address, so
//! that the tables of any two functions have the same shape.

use super::{
    ALARM, BOOT, CONTEXT, CONTEXT_MAX, DOORBELL, GATE, HEAP, HEAP_SMALL, INPUT, INPUT_MAX, MAILBOX,
    MONITOR, MONITOR_STACK, OUTPUT, PARAMS, STACK_END, STATE,
};
use crate::address::{GuestAddr, LARGE_PAGE};
use crate::image::{ADDRESSES, STACK_MAX};
use fades_task::limits::Limits;

/// A level of tables below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Entries for 512 GiB each lead here.
    Pointers,
    /// Entries for 1 GiB.
    Directory,
    /// Entries for 2 MiB: maps pages of 4 KiB.
    Table,
}

impl Level {
    /// Addresses that one table of this level maps, bytes.
    const fn reach(self) -> u64 {
        match self {
            Self::Pointers => 1 << 39,
            Self::Directory => 1 << 30,
            Self::Table => LARGE_PAGE,
        }
    }
}

/// Images end below this in shells without room for bulk.
pub(crate) const COMMON_IMAGE_END: u64 = ADDRESSES.start + (16 << 20);

/// Stacks have at most this length in shells without room for bulk, bytes.
pub(crate) const COMMON_STACK: u64 = LARGE_PAGE;

/// A stretch of addresses (start and length, bytes) in common shells, and in
/// those for bulk.
struct Stretch {
    common: (u64, u64),
    bulk: (u64, u64),
}

const fn same(start: u64, length: u64) -> Stretch {
    growing(start, length, length)
}

const fn growing(start: u64, common: u64, bulk: u64) -> Stretch {
    Stretch {
        common: (start, common),
        bulk: (start, bulk),
    }
}

const OUTPUT_MAX: u64 = Limits::MAX.output.0;

/// Addresses that are mapped in pages of 4 KiB.
const SMALL: [Stretch; 14] = [
    growing(
        ADDRESSES.start,
        COMMON_IMAGE_END - ADDRESSES.start,
        ADDRESSES.end - ADDRESSES.start,
    ),
    same(GATE.0, LARGE_PAGE),
    same(MONITOR.0, LARGE_PAGE),
    same(MONITOR_STACK.0, LARGE_PAGE),
    same(DOORBELL.0, LARGE_PAGE),
    same(ALARM.0, LARGE_PAGE),
    same(BOOT.0, LARGE_PAGE),
    same(MAILBOX.0, LARGE_PAGE),
    same(PARAMS.0, LARGE_PAGE),
    growing(CONTEXT.0, LARGE_PAGE, CONTEXT_MAX),
    growing(STATE.0, LARGE_PAGE, OUTPUT_MAX),
    growing(OUTPUT.0, LARGE_PAGE, OUTPUT_MAX),
    same(HEAP.0, HEAP_SMALL),
    // The stack grows down from its end.
    Stretch {
        common: (STACK_END.0 - COMMON_STACK, COMMON_STACK),
        bulk: (STACK_END.0 - STACK_MAX, STACK_MAX),
    },
];

/// Addresses that need tables above those for small pages.
const WIDE: [Stretch; 4] = [
    same(0, 4 << 30),
    same(HEAP.0, Limits::MAX.memory.0 + (1 << 30)),
    same(OUTPUT.0, 1 << 30),
    same(INPUT.0, INPUT_MAX),
];

impl Stretch {
    /// First address and number of tables of `level`.
    const fn tables(&self, level: Level, bulk: bool) -> (u64, u64) {
        let (start, length) = if bulk { self.bulk } else { self.common };
        (start, length.div_ceil(level.reach()))
    }
}

/// How many tables there are, the root included.
pub(crate) const fn count(bulk: bool) -> u64 {
    // The root, and the one table of pointers.
    let mut tables = 2;
    let mut i = 0;
    while i < WIDE.len() {
        tables += WIDE[i].tables(Level::Directory, bulk).1;
        i += 1;
    }
    let mut i = 0;
    while i < SMALL.len() {
        tables += SMALL[i].tables(Level::Table, bulk).1;
        i += 1;
    }
    tables
}

/// Number of the table of `level` that maps `address`, the root being 0; none
/// when no region can lie there.
pub(crate) fn number(level: Level, address: GuestAddr, bulk: bool) -> Option<u64> {
    let among = |stretches: &[Stretch], before: u64| {
        let mut before = before;
        for stretch in stretches {
            let (start, tables) = stretch.tables(level, bulk);
            let at = address.0.checked_sub(start).map(|a| a / level.reach());
            if let Some(at) = at.filter(|at| *at < tables) {
                return Some(before + at);
            }
            before += tables;
        }
        None
    };
    match level {
        Level::Pointers => (address.0 < level.reach()).then_some(1),
        Level::Directory => among(&WIDE, 2),
        Level::Table => {
            let directories = WIDE.iter().map(|r| r.tables(Level::Directory, bulk).1);
            among(&SMALL, 2 + directories.sum::<u64>())
        }
    }
}

/// Whether `address` is mapped in pages of 4 KiB.
pub(crate) fn is_small(address: GuestAddr, bulk: bool) -> bool {
    number(Level::Table, address, bulk).is_some()
}

const _: () = {
    // A table maps from a multiple of its reach on.
    let mut i = 0;
    while i < SMALL.len() {
        assert!(SMALL[i].common.0.is_multiple_of(LARGE_PAGE));
        assert!(SMALL[i].bulk.0.is_multiple_of(LARGE_PAGE));
        i += 1;
    }
    let mut i = 0;
    while i < WIDE.len() {
        assert!(WIDE[i].common.0.is_multiple_of(1 << 30));
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_table_maps_one_stretch_of_addresses() {
        for bulk in [false, true] {
            let mut seen: HashMap<u64, (Level, u64)> = HashMap::new();
            let mut see = |level: Level, address: u64| {
                if let Some(number) = number(level, GuestAddr(address), bulk) {
                    assert!((1..count(bulk)).contains(&number));
                    let stretch = (level, address / level.reach());
                    assert_eq!(*seen.entry(number).or_insert(stretch), stretch);
                }
            };
            for address in (0..INPUT.0 + INPUT_MAX).step_by(LARGE_PAGE as usize) {
                for level in [Level::Pointers, Level::Directory, Level::Table] {
                    see(level, address);
                    see(level, address + LARGE_PAGE - 1);
                }
            }
            assert_eq!(seen.len() as u64, count(bulk) - 1, "all of them are used");
        }
    }
}
