//! Counts what a function under test allocates, so that one that adapts to its
//! memory can be tested.
#![expect(
    unsafe_code,
    reason = "a global allocator deals in raw memory by definition"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes in use by this thread: negative when it frees what others made.
    static USED: Cell<isize> = const { Cell::new(0) };
    /// What [`USED`] may become.
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    USED.set(USED.get().wrapping_add(bytes));
}

// SAFETY: all work is done by the system's allocator; counting changes nothing,
// allocates nothing and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// From now on `bytes` are left.
pub(super) fn start(bytes: usize) {
    let limit = isize::try_from(bytes).unwrap_or(isize::MAX);
    LIMIT.set(USED.get().saturating_add(limit));
}

/// Bytes of memory that the run under test has left.
#[must_use]
pub fn memory_left() -> usize {
    let left = LIMIT.get().saturating_sub(USED.get());
    usize::try_from(left).unwrap_or(0)
}
