//! The way out: fills the mailbox and calls the gate.
#![expect(
    unsafe_code,
    reason = "the gate is code, and the mailbox memory, of the host"
)]

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fades_abi::boot::BootInfo;
use fades_abi::gate::{Event, Mailbox, op};

use crate::log::Level;

/// Address of the gate's entry; 0 until [`install`].
static GATE: AtomicUsize = AtomicUsize::new(0);

/// Address of the mailbox; 0 until [`install`].
static MAILBOX: AtomicUsize = AtomicUsize::new(0);

/// Remembers where gate and mailbox are.
///
/// # Safety
/// `boot` must be the boot info that the host of this image wrote.
pub(super) unsafe fn install(boot: &BootInfo) {
    GATE.store(boot.gate as usize, Relaxed);
    MAILBOX.store(boot.mailbox as usize, Relaxed);
}

/// Where a field of the mailbox lies.
fn field<T>(offset: usize) -> *mut T {
    ptr::with_exposed_provenance_mut(MAILBOX.load(Relaxed) + offset)
}

// Once in an image, not once for each operation.
#[inline(never)]
fn call(op: u32, args: &[u64; 4]) {
    // SAFETY: `install` was given the mailbox's address by the host, who keeps a
    // mailbox there that nobody touches while the function runs.
    unsafe { field::<u32>(offset_of!(Mailbox, op)).write_volatile(op) };
    // SAFETY: as above.
    unsafe { field::<[u64; 4]>(offset_of!(Mailbox, args)).write_volatile(*args) };
    let gate = ptr::with_exposed_provenance::<()>(GATE.load(Relaxed));
    // SAFETY: `install` was given the address by the host, who has a function
    // of this signature there.
    let gate = unsafe { core::mem::transmute::<*const (), extern "sysv64" fn()>(gate) };
    gate();
}

/// A call after which the function no longer runs.
fn leave(op: u32, args: &[u64; 4]) -> ! {
    call(op, args);
    // The host broke the contract: stop here rather than run on.
    super::panic::trap()
}

fn text(text: &str) -> (u64, u64) {
    (text.as_ptr().expose_provenance() as u64, text.len() as u64)
}

pub(super) fn next() -> Event {
    call(op::NEXT, &[0; 4]);
    // SAFETY: `install` was given the mailbox's address by the host, who wrote
    // the event while it served the call.
    unsafe { field::<Event>(offset_of!(Mailbox, event)).read_volatile() }
}

pub(crate) fn log(level: Level, line: &str) {
    let (address, length) = text(line);
    call(op::LOG, &[level as u64, address, length, 0]);
}

pub(super) fn answer(values: usize, readings: usize, readings_length: usize) {
    let args = [values, readings, readings_length, 0].map(|n| n as u64);
    call(op::ANSWER, &args);
}

pub(super) fn state(length: usize) {
    call(op::STATE, &[length as u64, 0, 0, 0]);
}

pub(super) fn done() -> ! {
    leave(op::DONE, &[0; 4])
}

pub(super) fn abort(why: &str) -> ! {
    let (address, length) = text(why);
    leave(op::ABORT, &[address, length, 0, 0])
}

pub(super) fn panic(why: &str) -> ! {
    let (address, length) = text(why);
    leave(op::PANIC, &[address, length, 0, 0])
}

pub(super) fn out_of_memory(size: usize, align: usize, callers: &[usize]) -> ! {
    let (address, length) = (callers.as_ptr().expose_provenance(), size_of_val(callers));
    let args = [size, align, address, length].map(|n| n as u64);
    leave(op::OUT_OF_MEMORY, &args)
}

pub(super) fn output_full(needed: usize) -> ! {
    leave(op::OUTPUT_FULL, &[needed as u64, 0, 0, 0])
}

/// Tells people how much of the heap was in use at its highest.
pub(super) fn heap_peak(bytes: usize) {
    // SAFETY: the mailbox lies where `install` was told, and is writable.
    unsafe { field::<u64>(offset_of!(Mailbox, heap_peak)).write_volatile(bytes as u64) };
}
