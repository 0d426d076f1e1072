//! The allocator, in the memory that the boot info names.
#![expect(
    unsafe_code,
    reason = "a global allocator deals in raw memory by definition"
)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use fades_abi::boot::Region;
use talc::TalcCell;
use talc::source::Manual;

use super::{callers, gate};

/// The heap. An allocation that it cannot serve ends the function here, with
/// its size, so that a failure never has to find its way through the callers.
struct Heap {
    talc: TalcCell<Manual>,
    /// Where the part ends that the allocator has, until it has all of it.
    end: AtomicPtr<u8>,
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
    end: AtomicPtr::new(ptr::null_mut()),
    size: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

/// What the allocator has at first. It writes at the end of what it has, and a
/// page that is touched costs time: a function that needs little touches one.
const FIRST: usize = 4096;

/// Gives the allocator its memory.
///
/// # Safety
/// `region` must be zeroed memory that nothing else uses.
pub(super) unsafe fn install(region: Region) {
    let length = region.length as usize;
    let base: *mut u8 = ptr::with_exposed_provenance_mut(region.address as usize);
    // A heap too small for the allocator's own tables stays empty, and the
    // first allocation says that memory is short.
    // SAFETY: the caller vouches for the region.
    if let Some(end) = unsafe { HEAP.talc.claim(base, length.min(FIRST)) } {
        HEAP.end.store(end.as_ptr(), Relaxed);
    }
    HEAP.size.store(length, Relaxed);
}

impl Heap {
    /// Gives the allocator all of the heap; whether that was more than it had.
    #[cold]
    #[inline(never)]
    fn extend(&self) -> bool {
        // Gone once it has been used.
        let Some(end) = NonNull::new(self.end.swap(ptr::null_mut(), Relaxed)) else {
            return false;
        };
        let limit = end
            .as_ptr()
            .wrapping_add(self.size.load(Relaxed).saturating_sub(FIRST));
        // SAFETY: the region's owner gave all of it, and the allocator has it up
        // to `end`.
        unsafe { self.talc.extend(end, limit) };
        true
    }

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
            if self.extend() {
                // SAFETY: as above.
                return unsafe { self.alloc(layout) };
            }
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
            if self.extend() {
                // SAFETY: as above; what could not be moved is where it was.
                return unsafe { self.realloc(memory, layout, size) };
            }
            callers::out_of_memory(size, layout.align());
        }
        self.shrank(layout.size());
        self.grew(size);
        moved
    }
}
