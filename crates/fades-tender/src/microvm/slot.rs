//! Slots of a microVM's physical memory.
#![expect(
    unsafe_code,
    reason = "KVM maps memory of this process into the microVM"
)]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

use super::{MicrovmError, refused};

/// Shows `length` bytes at `host` in this process as physical memory at
/// `guest`; a length of 0 takes the slot away.
///
/// The caller keeps the memory mapped for as long as the machine lives or
/// until the slot is gone: [`super::Microvm`] drops machine and processor
/// before its memory.
pub(super) fn set(
    vm: &VmFd,
    slot: u32,
    flags: u32,
    guest: u64,
    length: u64,
    host: u64,
) -> Result<(), MicrovmError> {
    let region = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: guest,
        memory_size: length,
        userspace_addr: host,
    };
    // SAFETY: the memory is mapped for as long as the slot is there, as above,
    // and nobody holds references into it: `GuestMemory` and `Mapping` give none.
    unsafe { vm.set_user_memory_region(region) }.map_err(refused("map memory"))
}
