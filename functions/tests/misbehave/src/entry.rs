//! The entry point: keeps the boot info's address for the deeds, then goes on
//! as every other function does.
#![expect(
    unsafe_code,
    reason = "an entry point, and a note that the linker places"
)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fades_sdk::abi::boot::BootInfo;
use fades_sdk::abi::note::{ElfNote, FLAG_CHECKPOINTS, ImageNote, STACK_DEFAULT};

static BOOT: AtomicUsize = AtomicUsize::new(0);

#[used]
#[unsafe(link_section = ".note.fades")]
static NOTE: ElfNote = ElfNote::new(ImageNote::new(
    "misbehave",
    STACK_DEFAULT,
    0,
    FLAG_CHECKPOINTS,
));

/// The boot info, as the host wrote it.
pub(crate) fn boot() -> &'static BootInfo {
    let at = core::ptr::with_exposed_provenance(BOOT.load(Relaxed));
    // SAFETY: `begin` was called with it, and the host keeps it readable.
    unsafe { &*at }
}

unsafe extern "sysv64" fn begin(boot: *const BootInfo) -> ! {
    BOOT.store(boot.expose_provenance(), Relaxed);
    // SAFETY: this is what the entry point was called with, and the only call.
    unsafe { fades_sdk::run::<super::Misbehave>(boot) }
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "sysv64" fn _start(boot: *const BootInfo) -> ! {
    core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {begin}", "ud2", begin = sym begin)
}
