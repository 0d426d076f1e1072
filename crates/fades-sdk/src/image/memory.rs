//! The memory functions that compiled code calls by name, and two symbols that
//! precompiled code refers to but never calls.
//!
//! They are written with `rep` instructions and moves of fixed size, because a
//! compiler may turn a loop over bytes into a call of the very function that
//! the loop is meant to be.
#![expect(
    unsafe_code,
    reason = "the compiler calls these functions with raw memory"
)]

use core::arch::asm;

/// Copies `n` ≤ 32 bytes with two moves that may overlap each other; all reads
/// come before all writes, so source and destination may overlap as well.
///
/// # Safety
/// As for [`core::ptr::copy`].
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, n: usize) {
    macro_rules! two {
        ($word:ty) => {{
            let last = n - size_of::<$word>();
            // SAFETY: both words lie within the `n` bytes.
            let first = unsafe { from.cast::<$word>().read_unaligned() };
            // SAFETY: as above.
            let second = unsafe { from.wrapping_add(last).cast::<$word>().read_unaligned() };
            // SAFETY: as above.
            unsafe { to.cast::<$word>().write_unaligned(first) };
            // SAFETY: as above.
            unsafe {
                to.wrapping_add(last)
                    .cast::<$word>()
                    .write_unaligned(second)
            };
        }};
    }
    match n {
        0 => {}
        1 => two!(u8),
        2..4 => two!(u16),
        4..8 => two!(u32),
        8..16 => two!(u64),
        _ => two!(u128),
    }
}

/// # Safety
/// As for [`core::ptr::copy_nonoverlapping`].
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if n <= 32 {
        // SAFETY: the caller's.
        unsafe { copy_short(to, from, n) };
    } else {
        // SAFETY: the caller vouches for both ranges; the direction flag is
        // clear in compiled code.
        unsafe { copy_up(to, from, n) };
    }
    to
}

/// # Safety
/// As for [`core::ptr::copy`], and `to` must not lie within the source.
#[inline(always)]
unsafe fn copy_up(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") n => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`core::ptr::copy`].
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if n <= 32 {
        // SAFETY: the caller's.
        unsafe { copy_short(to, from, n) };
    } else if to.addr().wrapping_sub(from.addr()) >= n {
        // SAFETY: the caller's; the destination does not begin in the source.
        unsafe { copy_up(to, from, n) };
    } else {
        // SAFETY: the caller's.
        unsafe { copy_down(to, from, n) };
    }
    to
}

/// Copies from the end, for a destination that begins within the source.
///
/// # Safety
/// As for [`core::ptr::copy`].
unsafe fn copy_down(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: the caller vouches for both ranges; 16 bytes are read before they
    // are written, and everything above them has been copied.
    unsafe {
        asm!(
            "2:",
            "sub {n}, 16",
            "jb 3f",
            "movups {x}, [{from} + {n}]",
            "movups [{to} + {n}], {x}",
            "jmp 2b",
            "3:",
            "add {n}, 16",
            "4:",
            "sub {n}, 1",
            "jb 5f",
            "mov {b}, [{from} + {n}]",
            "mov [{to} + {n}], {b}",
            "jmp 4b",
            "5:",
            n = inout(reg) n => _,
            from = in(reg) from,
            to = in(reg) to,
            x = out(xmm_reg) _,
            b = out(reg_byte) _,
            options(nostack),
        );
    }
}

/// # Safety
/// As for [`core::ptr::write_bytes`].
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the direction flag is clear in
    // compiled code.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") n => _,
            inout("rdi") to => _,
            in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// Both ranges must be readable.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut at = 0;
    while n - at >= 8 {
        // SAFETY: eight bytes from `at` lie within the caller's ranges.
        let x = unsafe { a.wrapping_add(at).cast::<u64>().read_unaligned() };
        // SAFETY: as above.
        let y = unsafe { b.wrapping_add(at).cast::<u64>().read_unaligned() };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() {
                -1
            } else {
                1
            };
        }
        at += 8;
    }
    while at < n {
        // SAFETY: `at` lies within the caller's ranges.
        let x = unsafe { a.wrapping_add(at).read() };
        // SAFETY: as above.
        let y = unsafe { b.wrapping_add(at).read() };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// # Safety
/// Both ranges must be readable.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(a, b, n) }
}

#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::panic::trap()
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
