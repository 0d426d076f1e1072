//! Giving memory back.
#![expect(unsafe_code, reason = "malloc_trim is foreign")]

/// Returns free memory of the allocator to the operating system: a broker at
/// rest shall be small, however much its last run read.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread; it only
    // returns pages that are free.
    unsafe {
        libc::malloc_trim(0);
    }
}
