//! Who asked for memory that is not there.
//!
//! An allocator is not told who calls it, and an image has no tables to unwind
//! its stack with. What looks like a return address on the stack is taken for
//! one: a word that points into the text, behind a call. The list is a hint for
//! people, who see it as names of functions; a stale word may be among it.
#![expect(unsafe_code, reason = "reads the function's own stack and text")]

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fades_abi::boot::Region;

use super::gate;

/// Addresses that are given; where there are fewer, the last is no address.
const CALLERS: usize = 16;

/// Where the stack ends; 0 until [`install`].
static STACK_END: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    // Defined by the linker script of images.
    static __fades_text: u8;
    static __fades_text_end: u8;
}

/// Remembers where the stack ends.
pub(super) fn install(stack: Region) {
    STACK_END.store(stack.end() as usize, Relaxed);
}

/// Ends the function for an allocation that could not be served.
#[cold]
#[inline(never)]
pub(super) fn out_of_memory(size: usize, align: usize) -> ! {
    let mut callers = [0_usize; CALLERS];
    let mut at = (&raw const callers).addr();
    let end = STACK_END.load(Relaxed);
    for caller in &mut callers {
        while at < end && !is_return_address(*caller) {
            // SAFETY: from this frame to its end the stack is the function's.
            *caller = unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() };
            at += size_of::<usize>();
        }
    }
    gate::out_of_memory(size, align, &callers)
}

/// Whether `word` points into the text and behind a direct call.
fn is_return_address(word: usize) -> bool {
    /// Length of `call rel32` and its first byte.
    const CALL: (usize, u8) = (5, 0xe8);
    let text = &raw const __fades_text;
    let after = word.wrapping_sub(text.addr() + CALL.0);
    if after >= (&raw const __fades_text_end).addr() - text.addr() {
        return false;
    }
    // SAFETY: the byte lies in the text, which can be read.
    unsafe { text.wrapping_add(after).read() == CALL.1 }
}
