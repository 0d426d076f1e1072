//! The few instructions of the host that run inside the function's process: the
//! gate, and the trampoline that leaves everything of the host behind.
//!
//! Both lie in the gate's first page, their data in its second. Neither uses
//! the stack. They talk to the supervisor over descriptor 0.
#![expect(unsafe_code, reason = "assembles code that is copied into a process")]

use std::arch::global_asm;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::address::{GuestAddr, PAGE};
use crate::assembled::assembled;
use crate::layout::{GATE, INPUT};

/// Where the trampoline starts.
pub(super) const TRAMPOLINE: GuestAddr = GuestAddr(GATE.0 + 1024);

/// Where the trampoline finds its [`Launch`].
pub(super) const LAUNCH: GuestAddr = GuestAddr(GATE.0 + PAGE);

/// Distance from the start of the mailbox at which the gate keeps what it
/// exchanges with the kernel; the function may overwrite it, to no avail.
const SCRATCH: u64 = 1024;

/// What the supervisor tells the gate.
#[repr(C)]
#[derive(Debug, Clone, Copy, IntoBytes, FromBytes, Immutable)]
pub(super) struct Command {
    pub(super) kind: u32,
    pub(super) reserved: u32,
    pub(super) length: u64,
}

/// Return to the function.
pub(super) const RESUME: u32 = 1;
/// Map the descriptor that comes along as input.
pub(super) const MAP: u32 = 2;
/// Unmap the input.
pub(super) const UNMAP: u32 = 3;

/// What the trampoline needs. `ranges` spans follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy, IntoBytes, FromBytes, Immutable)]
pub(super) struct Launch {
    pub(super) entry: u64,
    pub(super) stack_end: u64,
    pub(super) boot: u64,
    /// Address of the kernel's description of the filter.
    pub(super) filter: u64,
    /// Address and number of (start, length) pairs to unmap.
    pub(super) ranges: u64,
    pub(super) ranges_count: u64,
    /// One of `fades_abi::boot::simd`.
    pub(super) simd: u64,
}

global_asm!(
    ".pushsection .rodata.fades_process_gate, \"a\"",
    ".global fades_process_gate",
    ".global fades_process_gate_end",
    ".balign 64",
    "fades_process_gate:",
    // write(0, scratch, 1)
    "mov eax, 1",
    "xor edi, edi",
    "mov esi, {scratch}",
    "mov edx, 1",
    "syscall",
    "cmp rax, 1",
    "jne 9f",
    // The function may have changed the message header: write all of it.
    "2: mov esi, {scratch}",
    "mov qword ptr [rsi], 0",
    "mov qword ptr [rsi + 8], 0",
    "lea rax, [rsi + 64]",
    "mov [rsi + 16], rax",
    "mov qword ptr [rsi + 24], 1",
    "lea rax, [rsi + 96]",
    "mov [rsi + 32], rax",
    "mov qword ptr [rsi + 40], 24",
    "mov qword ptr [rsi + 48], 0",
    "lea rax, [rsi + 128]",
    "mov [rsi + 64], rax",
    "mov qword ptr [rsi + 72], {command}",
    // recvmsg(0, header, 0)
    "mov eax, 47",
    "xor edi, edi",
    "xor edx, edx",
    "syscall",
    "cmp rax, {command}",
    "jne 9f",
    "mov eax, [rsi + 128]",
    "cmp eax, {resume}",
    "jne 3f",
    "ret",
    "3: cmp eax, {unmap}",
    "je 4f",
    "cmp eax, {map}",
    "jne 9f",
    // mmap(input, length, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0)
    "mov eax, 9",
    "movabs rdi, {input}",
    "mov r8d, [rsi + 112]",
    "mov rsi, [rsi + 136]",
    "mov edx, 1",
    "mov r10d, 0x11",
    "xor r9d, r9d",
    "syscall",
    "cmp rax, rdi",
    "jne 9f",
    // close(descriptor)
    "mov eax, 3",
    "mov edi, r8d",
    "syscall",
    "jmp 2b",
    // munmap(input, length)
    "4: mov eax, 11",
    "movabs rdi, {input}",
    "mov rsi, [rsi + 136]",
    "syscall",
    "test rax, rax",
    "jz 2b",
    "9: ud2",
    ".balign 1024, 0xcc",
    // The trampoline.
    "mov ebx, {launch}",
    "mov r12, [rbx + 32]",
    "mov r13, [rbx + 40]",
    "5: test r13, r13",
    "jz 6f",
    // munmap(start, length)
    "mov eax, 11",
    "mov rdi, [r12]",
    "mov rsi, [r12 + 8]",
    "syscall",
    "test rax, rax",
    "jnz 9b",
    "add r12, 16",
    "dec r13",
    "jmp 5b",
    // arch_prctl(ARCH_SET_FS, 0): nothing is left where it pointed.
    "6: mov eax, 158",
    "mov edi, 0x1002",
    "xor esi, esi",
    "syscall",
    "test rax, rax",
    "jnz 9b",
    // seccomp(SECCOMP_SET_MODE_FILTER, 0, filter)
    "mov eax, 317",
    "mov edi, 1",
    "xor esi, esi",
    "mov rdx, [rbx + 24]",
    "syscall",
    "test rax, rax",
    "jnz 9b",
    // Vectors and registers of the host stay behind.
    "cmp qword ptr [rbx + 48], 0",
    "je 7f",
    "vzeroall",
    "jmp 8f",
    "7: xorps xmm0, xmm0; xorps xmm1, xmm1; xorps xmm2, xmm2; xorps xmm3, xmm3",
    "xorps xmm4, xmm4; xorps xmm5, xmm5; xorps xmm6, xmm6; xorps xmm7, xmm7",
    "xorps xmm8, xmm8; xorps xmm9, xmm9; xorps xmm10, xmm10; xorps xmm11, xmm11",
    "xorps xmm12, xmm12; xorps xmm13, xmm13; xorps xmm14, xmm14; xorps xmm15, xmm15",
    "8: mov rsp, [rbx + 8]",
    "mov rdi, [rbx + 16]",
    "mov rax, [rbx]",
    "xor ebx, ebx; xor ecx, ecx; xor edx, edx; xor esi, esi; xor ebp, ebp",
    "xor r8d, r8d; xor r9d, r9d; xor r10d, r10d; xor r11d, r11d",
    "xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d",
    "jmp rax",
    "fades_process_gate_end:",
    ".popsection",
    scratch = const crate::layout::MAILBOX.0 + SCRATCH,
    command = const size_of::<Command>(),
    resume = const RESUME,
    map = const MAP,
    unmap = const UNMAP,
    input = const INPUT.0,
    launch = const LAUNCH.0,
);

assembled! {
    /// The contents of the gate's first page.
    pub(super) fn gate = fades_process_gate .. fades_process_gate_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_and_trampoline_fit_their_page() {
        let code = gate();
        assert!(code.len() as u64 <= PAGE);
        let trampoline = (TRAMPOLINE.0 - GATE.0) as usize;
        // mov ebx, LAUNCH
        assert_eq!(code[trampoline], 0xbb);
        assert_eq!(code[trampoline + 1..][..4], (LAUNCH.0 as u32).to_le_bytes());
    }
}
