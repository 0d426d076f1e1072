//! Page tables of a microVM. The host writes them; the function cannot see
//! them.
//!
//! Accessed and dirty bits are set from the start, so that the processor has no
//! reason to write here.

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::memory::{GuestMemory, OutOfBounds};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

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

/// Why an address could not be mapped. Either is a mistake of the host: room
/// is planned for every region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PagingError {
    #[error("the room for page tables is used up")]
    Full,
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
}

/// Page tables in the making.
#[derive(Debug)]
pub(super) struct PageTables {
    base: Offset,
    room: u64,
    used: u64,
}

impl PageTables {
    /// Tables in the `room` bytes at `base`, which are zero; physical addresses
    /// of shared memory are its offsets.
    pub(super) const fn new(base: Offset, room: u64) -> Self {
        Self {
            base,
            room,
            used: PAGE,
        }
    }

    /// Where the processor finds the tables.
    pub(super) const fn root(&self) -> Physical {
        Physical(self.base.0)
    }

    /// Maps `length` bytes at `from` to physical memory, in large pages where
    /// both sides allow.
    pub(super) fn map(
        &mut self,
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
            if aligned && length - done >= LARGE_PAGE {
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
        &mut self,
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
    /// KiB, 1: of 2 MiB); makes the tables above it.
    fn entry(
        &mut self,
        memory: &GuestMemory,
        address: u64,
        level: u32,
    ) -> Result<Offset, PagingError> {
        let mut table = self.base.0;
        for above in (level + 1..=3).rev() {
            let entry = slot(table, address, above);
            let found: u64 = memory.take(entry)?;
            table = if found & PRESENT != 0 {
                found & FRAME
            } else {
                let fresh = self.fresh()?;
                // The last level decides about access.
                memory.put(entry, &(fresh | PRESENT | WRITABLE | USER | ACCESSED))?;
                fresh
            };
        }
        Ok(slot(table, address, level))
    }

    fn fresh(&mut self) -> Result<u64, PagingError> {
        if self.used + PAGE > self.room {
            return Err(PagingError::Full);
        }
        let table = self.base.0 + self.used;
        self.used += PAGE;
        Ok(table)
    }
}

const fn slot(table: u64, address: u64, level: u32) -> Offset {
    Offset(table + (address >> (12 + 9 * level) & 0x1ff) * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn with_tables(pages: u64) -> (GuestMemory, PageTables) {
        let memory = GuestMemory::anonymous(pages * PAGE).unwrap();
        (memory, PageTables::new(Offset(0), pages * PAGE))
    }

    #[test]
    fn exactly_what_was_mapped_is_reached_with_the_rights_given() {
        let (memory, mut tables) = with_tables(32);
        let from = GuestAddr(0x40_0000 - PAGE);
        let length = LARGE_PAGE + 3 * PAGE;
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
        let (_, bits) = walk(&memory, &tables, 0x40_0000).unwrap();
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
        let (memory, mut tables) = with_tables(8);
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
    fn a_plan_that_was_too_small_is_an_error() {
        let (memory, mut tables) = with_tables(3);
        let full = tables.map(&memory, GuestAddr(0), Physical(0), PAGE, Rights::UserRead);
        assert_eq!(full, Err(PagingError::Full));
    }
}
