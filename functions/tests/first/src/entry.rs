//! The entry point: reads the time-stamp counter before anything else, then
//! goes on as every other function does.
#![expect(
    unsafe_code,
    reason = "an entry point, and a note that the linker places"
)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fades_sdk::abi::boot::BootInfo;
use fades_sdk::abi::note::{ElfNote, ImageNote, STACK_DEFAULT};

static COUNTER: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".note.fades")]
static NOTE: ElfNote = ElfNote::new(ImageNote::new("first", STACK_DEFAULT, 0, 0));

/// What the counter was when the first instruction ran.
pub(crate) fn counter() -> u64 {
    COUNTER.load(Relaxed)
}

unsafe extern "sysv64" fn begin(boot: *const BootInfo, counter: u64) -> ! {
    COUNTER.store(counter, Relaxed);
    // SAFETY: this is what the entry point was called with, and the only call.
    unsafe { fades_sdk::run::<super::First>(boot) }
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "sysv64" fn _start(boot: *const BootInfo) -> ! {
    core::arch::naked_asm!(
        "rdtsc",
        "shl rdx, 32",
        "lea rsi, [rax + rdx]",
        "xor ebp, ebp",
        "and rsp, -16",
        "call {begin}",
        "ud2",
        begin = sym begin,
    )
}
