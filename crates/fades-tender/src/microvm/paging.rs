//! Page tables of a microVM. The host writes them; the function cannot see
//! them.
//!
//! Accessed and dirty bits are set from the start, so that the processor has no
//! reason to write here.
//!
//! Where the table for an address lies depends on the address alone, not on the
//! function: a KVM that keeps shadows of these tables does not see when they are
//! replaced by those of another template, and would go on to use entries that
//! lead to a table. Entries that lead to memory it forgets, because that memory
//! is replaced as well.

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::layout::tables::{self, Level};
use crate::memory::{GuestMemory, OutOfBounds};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// A physical address of a microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Physical(pub(super) u64);

/// Who may do what with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    UserRead,
    UserWrite,
    UserExecute,
    MonitorWrite,
    MonitorExecute,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Self::UserRead => USER | NO_EXECUTE,
            Self::UserWrite => USER | WRITABLE | NO_EXECUTE,
            Self::UserExecute => USER,
            Self::MonitorWrite => WRITABLE | NO_EXECUTE,
            Self::MonitorExecute => 0,
        }
    }
}

/// Why an address could not be mapped. Either is a mistake of the host: there
/// is a table for every region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PagingError {
    #[error("there is no page table for address {0}")]
    NoTable(GuestAddr),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
}

/// Page tables in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageTables {
    base: Offset,
    bulk: bool,
}

impl PageTables {
    /// Tables from `base` on, in memory that is zero or holds such tables;
    /// physical addresses of shared memory are its offsets.
    pub(super) const fn at(base: Offset, bulk: bool) -> Self {
        Self { base, bulk }
    }

    /// Where the processor finds the tables.
    pub(super) const fn root(self) -> Physical {
        Physical(self.base.0)
    }

    /// Maps `length` bytes at `from` to physical memory, in large pages where
    /// both sides allow.
    pub(super) fn map(
        self,
        memory: &GuestMemory,
        from: GuestAddr,
        to: Physical,
        length: u64,
        rights: Rights,
    ) -> Result<(), PagingError> {
        let bits = PRESENT | ACCESSED | DIRTY | rights.bits();
        let mut done = 0;
        while done < length {
            let (address, frame) = (from.0 + done, to.0 + done);
            let aligned = (address | frame).is_multiple_of(LARGE_PAGE);
            let small = tables::is_small(GuestAddr(address), self.bulk);
            if aligned && length - done >= LARGE_PAGE && !small {
                let entry = self.entry(memory, address, 1)?;
                memory.put(entry, &(frame | bits | LARGE))?;
                done += LARGE_PAGE;
            } else {
                let entry = self.entry(memory, address, 0)?;
                memory.put(entry, &(frame | bits))?;
                done += PAGE;
            }
        }
        Ok(())
    }

    /// Unmaps `length` bytes at `from` that were mapped in large pages.
    pub(super) fn unmap_large(
        self,
        memory: &GuestMemory,
        from: GuestAddr,
        length: u64,
    ) -> Result<(), PagingError> {
        for address in (from.0..from.0 + length).step_by(LARGE_PAGE as usize) {
            let entry = self.entry(memory, address, 1)?;
            memory.put(entry, &0_u64)?;
        }
        Ok(())
    }

    /// Where the entry for `address` is, in the table of `level` (0: pages of 4
    /// KiB, 1: of 2 MiB); leads the tables above it there.
    fn entry(self, memory: &GuestMemory, address: u64, level: u32) -> Result<Offset, PagingError> {
        let mut table = self.base.0;
        let below = [Level::Table, Level::Directory, Level::Pointers];
        for above in (level + 1..=3).rev() {
            let entry = slot(table, address, above);
            let at = GuestAddr(address);
            let number = tables::number(below[above as usize - 1], at, self.bulk);
            table = self.base.0 + number.ok_or(PagingError::NoTable(at))? * PAGE;
            // The last level decides about access.
            memory.put(entry, &(table | PRESENT | WRITABLE | USER | ACCESSED))?;
        }
        Ok(slot(table, address, level))
    }
}

const fn slot(table: u64, address: u64, level: u32) -> Offset {
    Offset(table + (address >> (12 + 9 * level) & 0x1ff) * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 0x000f_ffff_ffff_f000;

    /// What a processor would find for `address`: physical address and the bits
    /// of the last entry.
    fn walk(memory: &GuestMemory, tables: &PageTables, address: u64) -> Option<(u64, u64)> {
        let mut table = tables.root().0;
        for level in (0..4).rev() {
            let entry: u64 = memory.take(slot(table, address, level)).unwrap();
            if entry & PRESENT == 0 {
                return None;
            }
            let size = 1_u64 << (12 + 9 * level);
            if level == 0 || entry & LARGE != 0 {
                let frame = entry & FRAME & !(size - 1);
                return Some((frame + address % size, entry & !FRAME));
            }
            table = entry & FRAME;
        }
        None
    }

    fn with_tables() -> (GuestMemory, PageTables) {
        let memory = GuestMemory::anonymous(tables::count(false) * PAGE).unwrap();
        (memory, PageTables::at(Offset(0), false))
    }

    #[test]
    fn exactly_what_was_mapped_is_reached_with_the_rights_given() {
        let (memory, tables) = with_tables();
        let from = GuestAddr(0x2_0040_0000 - PAGE);
        let length = LARGE_PAGE + PAGE;
        let to = Physical(0x1000_0000 - PAGE);
        tables
            .map(&memory, from, to, length, Rights::UserRead)
            .unwrap();
        for at in [0, PAGE, PAGE + 5, LARGE_PAGE, length - 1] {
            let (physical, bits) = walk(&memory, &tables, from.0 + at).unwrap();
            assert_eq!(physical, to.0 + at);
            assert_eq!(bits & (USER | WRITABLE | NO_EXECUTE), USER | NO_EXECUTE);
            assert_eq!(bits & (ACCESSED | DIRTY), ACCESSED | DIRTY);
        }
        assert_eq!(walk(&memory, &tables, from.0 - 1), None);
        assert_eq!(walk(&memory, &tables, from.0 + length), None);
        let (_, bits) = walk(&memory, &tables, 0x2_0040_0000).unwrap();
        assert!(bits & LARGE != 0, "aligned memory is mapped in large pages");
    }

    #[test]
    fn a_page_is_never_writable_and_executable() {
        use Rights::{MonitorExecute, MonitorWrite, UserExecute, UserRead, UserWrite};
        for rights in [
            UserRead,
            UserWrite,
            UserExecute,
            MonitorWrite,
            MonitorExecute,
        ] {
            let bits = rights.bits();
            assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0, "{rights:?}");
        }
    }

    #[test]
    fn unmapped_input_is_gone_and_can_be_mapped_again() {
        let (memory, tables) = with_tables();
        let from = GuestAddr(0x10_0000_0000);
        for length in [3 * LARGE_PAGE, LARGE_PAGE] {
            let to = Physical(0x4_0000_0000);
            tables
                .map(&memory, from, to, length, Rights::UserRead)
                .unwrap();
            assert!(walk(&memory, &tables, from.0 + length - 1).is_some());
            tables.unmap_large(&memory, from, length).unwrap();
            assert_eq!(walk(&memory, &tables, from.0), None);
            assert_eq!(walk(&memory, &tables, from.0 + length - 1), None);
        }
    }

    #[test]
    fn an_address_without_table_is_an_error() {
        let (memory, tables) = with_tables();
        for nowhere in [GuestAddr(0), GuestAddr(1 << 45)] {
            let failed = tables.map(&memory, nowhere, Physical(0), PAGE, Rights::UserRead);
            assert_eq!(failed, Err(PagingError::NoTable(nowhere)));
        }
    }
}
