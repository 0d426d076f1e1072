//! The gate without the manners of the SDK.
#![expect(
    unsafe_code,
    reason = "the gate is code, and the mailbox memory, of the host"
)]

use core::ptr::with_exposed_provenance_mut;

use fades_sdk::abi::gate::Mailbox;

use crate::entry::boot;

/// Calls the gate with whatever it is given.
pub(crate) fn call(op: u32, args: [u64; 4]) {
    let mailbox = with_exposed_provenance_mut::<Mailbox>(boot().mailbox as usize);
    // SAFETY: the mailbox is this function's memory, and nothing else uses it now.
    unsafe { (&raw mut (*mailbox).op).write_volatile(op) };
    // SAFETY: as above.
    unsafe { (&raw mut (*mailbox).args).write_volatile(args) };
    let gate = core::ptr::with_exposed_provenance::<()>(boot().gate as usize);
    // SAFETY: the host has a function of this signature there.
    let gate = unsafe { core::mem::transmute::<*const (), extern "sysv64" fn()>(gate) };
    gate();
}

/// Fills the mailbox with ones, then calls.
pub(crate) fn scribble() {
    let mailbox = with_exposed_provenance_mut::<u8>(boot().mailbox as usize);
    // SAFETY: the mailbox is this function's memory.
    unsafe { mailbox.write_bytes(0xff, size_of::<Mailbox>()) };
    call(u32::MAX, [u64::MAX; 4]);
}

/// Writes `bytes` to the start of the output window.
pub(crate) fn put(bytes: &[u8]) {
    let window = with_exposed_provenance_mut::<u8>(boot().output.address as usize);
    // SAFETY: the window is this function's memory; the deeds write less than
    // the smallest window has.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), window, bytes.len()) };
}
