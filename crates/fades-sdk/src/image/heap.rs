//! The allocator, in the memory that the boot info names.
#![expect(
    unsafe_code,
    reason = "a global allocator deals in raw memory by definition"
)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fades_abi::boot::Region;
use talc::TalcCell;
use talc::source::Manual;

use super::{callers, gate};

/// The heap. An allocation that it cannot serve ends the function here, with
/// its size, so that a failure never has to find its way through the callers.
struct Heap {
    talc: TalcCell<Manual>,
    size: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

// SAFETY: a function has one thread, and no signal or interrupt handlers, so
// the heap is never entered twice.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    talc: TalcCell::new(Manual),
    size: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

/// Gives the allocator its memory.
///
/// # Safety
/// `region` must be zeroed memory that nothing else uses.
pub(super) unsafe fn install(region: Region) {
    let base = ptr::with_exposed_provenance_mut(region.address as usize);
    // A heap too small for the allocator's own tables stays empty, and the
    // first allocation says that memory is short.
    // SAFETY: the caller vouches for the region.
    let _ = unsafe { HEAP.talc.claim(base, region.length as usize) };
    HEAP.size.store(region.length as usize, Relaxed);
}

impl Heap {
    fn grew(&self, bytes: usize) {
        let used = self.used.load(Relaxed) + bytes;
        self.used.store(used, Relaxed);
        if used > self.peak.load(Relaxed) {
            self.peak.store(used, Relaxed);
            gate::heap_peak(used);
        }
    }

    fn shrank(&self, bytes: usize) {
        self.used.store(self.used.load(Relaxed) - bytes, Relaxed);
    }
}

/// Bytes of the heap that are not in use. What the allocator itself needs, and
/// holes between allocations, are not taken off.
#[must_use]
pub fn memory_left() -> usize {
    HEAP.size.load(Relaxed) - HEAP.used.load(Relaxed)
}

// Never inlined: link-time optimisation would copy them to every place where
// something is dropped.
//
// SAFETY: all work is done by talc, which upholds the contract; the counters
// change nothing.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is the caller's.
        let memory = unsafe { self.talc.alloc(layout) };
        if memory.is_null() {
            callers::out_of_memory(layout.size(), layout.align());
        }
        self.grew(layout.size());
        memory
    }

    #[inline(never)]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: memory and layout are the caller's.
        unsafe { self.talc.dealloc(memory, layout) };
        self.shrank(layout.size());
    }

    #[inline(never)]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: memory, layout and size are the caller's.
        let moved = unsafe { self.talc.realloc(memory, layout, size) };
        if moved.is_null() {
            callers::out_of_memory(size, layout.align());
        }
        self.shrank(layout.size());
        self.grew(size);
        moved
    }
}
