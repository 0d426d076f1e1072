//! The least program that there can be: writes one byte to its standard output
//! and ends. No libc, no dynamic loader, no start-up code.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use core::panic::PanicInfo;

const WRITE: u64 = 1;
const EXIT: u64 = 60;

static BYTE: [u8; 1] = [1];

/// The kernel jumps here; the stack is aligned as a function does not expect.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "call {main}", "ud2", main = sym main)
}

extern "C" fn main() -> ! {
    system_call(WRITE, 1, BYTE.as_ptr().addr() as u64, 1);
    system_call(EXIT, 0, 0, 0);
    loop {}
}

fn system_call(number: u64, a: u64, b: u64, c: u64) {
    // SAFETY: both calls take these arguments and change no memory.
    unsafe {
        asm!("syscall", inout("rax") number => _, in("rdi") a, in("rsi") b, in("rdx") c,
             out("rcx") _, out("r11") _);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
