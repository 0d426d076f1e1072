//! The few instructions of the host that run inside a microVM, and the tables
//! that its processor looks things up in.
//!
//! The gate is called by the function in ring 3. The monitor is all that ever
//! runs in ring 0: a stub for each exception, which stores to the alarm address
//! and thereby hands the exception to the host. It uses integer instructions
//! only, because some kinds of KVM interpret ring 0 and know no others.
#![expect(unsafe_code, reason = "assembles code that is copied into a microVM")]

use std::arch::global_asm;

use crate::address::PAGE;
use crate::assembled::assembled;
use crate::layout::{ALARM, DOORBELL, MONITOR, MONITOR_STACK};

/// Offsets in the gate's page.
pub(super) mod gate {
    /// Where `syscall` leads, on hosts where it does not fault.
    pub(in crate::microvm) const SYSCALL: u64 = 64;
    /// Executes AVX2 and FMA, then calls the gate.
    pub(in crate::microvm) const AVX2: u64 = 128;
    /// Executes AVX-512 F, BW, DQ and VL, then calls the gate.
    pub(in crate::microvm) const AVX512: u64 = 256;
}

/// A store at this distance from the doorbell says that `syscall` was tried.
pub(super) const SYSCALL_BELL: u64 = 8;

global_asm!(
    ".pushsection .rodata.fades_microvm_gate, \"a\"",
    ".global fades_microvm_gate",
    ".global fades_microvm_gate_end",
    ".balign 64",
    "fades_microvm_gate:",
    "mov dword ptr [{doorbell}], eax",
    "ret",
    // Whoever runs off the end of one part must not fall into the next.
    ".balign 64, 0xcc",
    "mov dword ptr [{doorbell} + {syscall_bell}], eax",
    "ud2",
    ".balign 128, 0xcc",
    "vpaddd ymm0, ymm0, ymm0",
    "vfmadd231pd ymm1, ymm1, ymm1",
    "vzeroall",
    "mov dword ptr [{doorbell}], eax",
    "ud2",
    ".balign 256, 0xcc",
    "vpaddd zmm0, zmm0, zmm0",
    "vpaddb zmm1, zmm1, zmm1",
    "vpmullq zmm2, zmm2, zmm2",
    "vpaddd ymm16, ymm16, ymm16",
    "vpxorq zmm16, zmm16, zmm16",
    "vzeroall",
    "mov dword ptr [{doorbell}], eax",
    "ud2",
    "fades_microvm_gate_end:",
    ".popsection",
    doorbell = const DOORBELL.0,
    syscall_bell = const SYSCALL_BELL,
);

assembled! {
    /// The contents of the gate's page.
    pub(super) fn gate = fades_microvm_gate .. fades_microvm_gate_end
}

/// Number of exceptions that the architecture defines.
const VECTORS: u64 = 32;
/// Bytes of a stub.
const STUB: u64 = 16;
/// Distances from the start of the monitor.
const COMMON: u64 = VECTORS * STUB;
const IDT: u64 = PAGE;
const GDT: u64 = PAGE + 1024;
const TSS: u64 = PAGE + 2048;
const TSS_LENGTH: u64 = 104;

/// Segment selectors; the numbers are those that hosts use as well, because
/// some kinds of KVM run ring 3 with the host's own.
pub(super) mod selector {
    pub(in crate::microvm) const MONITOR_CODE: u16 = 0x10;
    pub(in crate::microvm) const USER_DATA: u16 = 0x2b;
    pub(in crate::microvm) const USER_CODE: u16 = 0x33;
    pub(in crate::microvm) const TASK: u16 = 0x40;
}

/// Descriptor tables, as the processor's registers name them.
pub(super) struct Tables {
    pub(super) idt: u64,
    pub(super) idt_limit: u16,
    pub(super) gdt: u64,
    pub(super) gdt_limit: u16,
    pub(super) tss: u64,
    pub(super) tss_limit: u32,
}

pub(super) const TABLES: Tables = Tables {
    idt: MONITOR.0 + IDT,
    idt_limit: (VECTORS * 16 - 1) as u16,
    gdt: MONITOR.0 + GDT,
    gdt_limit: 10 * 8 - 1,
    tss: MONITOR.0 + TSS,
    tss_limit: (TSS_LENGTH - 1) as u32,
};

/// What the monitor leaves at the end of its stack, lowest address first.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
pub(super) struct Frame {
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) flags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
}

/// Exceptions for which the processor pushes an error code.
const fn has_error_code(vector: u64) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// The contents of the monitor's two pages.
pub(super) fn monitor() -> Vec<u8> {
    let mut pages = vec![0xcc; 2 * PAGE as usize];
    pages[PAGE as usize..].fill(0);
    for vector in 0..VECTORS {
        put(&mut pages, vector * STUB, &stub(vector));
        put(&mut pages, IDT + vector * 16, &idt_entry(vector));
    }
    // mov [ALARM], eax; jmp to itself
    let mut common = vec![0x89, 0x04, 0x25];
    common.extend((ALARM.0 as u32).to_le_bytes());
    common.extend([0xeb, 0xfe]);
    put(&mut pages, COMMON, &common);
    for (at, descriptor) in gdt() {
        put(&mut pages, GDT + at, &descriptor.to_le_bytes());
    }
    let stack_end = MONITOR_STACK.0 + PAGE;
    put(&mut pages, TSS + 4, &stack_end.to_le_bytes());
    // No map of allowed ports: it would begin where the segment ends.
    put(&mut pages, TSS + 102, &(TSS_LENGTH as u16).to_le_bytes());
    pages
}

fn put(pages: &mut [u8], at: u64, bytes: &[u8]) {
    let at = at as usize;
    pages[at..at + bytes.len()].copy_from_slice(bytes);
}

fn stub(vector: u64) -> Vec<u8> {
    // nop; nop or push 0, so that all frames look the same
    let mut code = if has_error_code(vector) {
        vec![0x90, 0x90]
    } else {
        vec![0x6a, 0x00]
    };
    // push vector; jmp COMMON
    code.extend([0x6a, vector as u8, 0xe9]);
    let next = vector * STUB + code.len() as u64 + 4;
    code.extend(((COMMON - next) as u32).to_le_bytes());
    code
}

/// An interrupt gate to the stub; breakpoints and overflow checks may be raised
/// by the function itself.
fn idt_entry(vector: u64) -> [u8; 16] {
    let target = MONITOR.0 + vector * STUB;
    let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
    let kind = 0x8e | privilege << 5;
    let low = target & 0xffff
        | u64::from(selector::MONITOR_CODE) << 16
        | kind << 40
        | (target >> 16 & 0xffff) << 48;
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&low.to_le_bytes());
    entry[8..].copy_from_slice(&(target >> 32).to_le_bytes());
    entry
}

/// Descriptors by their place; accessed bits are set, because the table cannot
/// be written.
fn gdt() -> [(u64, u64); 6] {
    let tss = TABLES.tss;
    let low = u64::from(TABLES.tss_limit)
        | (tss & 0xff_ffff) << 16
        | 0x8b << 40
        | (tss >> 24 & 0xff) << 56;
    [
        (0x10, 0x00af_9b00_0000_ffff),
        (0x18, 0x00cf_9300_0000_ffff),
        (0x28, 0x00cf_f300_0000_ffff),
        (0x30, 0x00af_fb00_0000_ffff),
        (0x40, low),
        (0x48, tss >> 32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_gate_lie_where_they_are_looked_for() {
        let code = gate();
        assert!(code.len() as u64 <= PAGE);
        let store = |offset: u32| {
            let mut bytes = vec![0x89, 0x04, 0x25];
            bytes.extend((DOORBELL.0 as u32 + offset).to_le_bytes());
            bytes
        };
        assert!(code.starts_with(&store(0)));
        assert_eq!(code[7], 0xc3);
        assert!(code[gate::SYSCALL as usize..].starts_with(&store(SYSCALL_BELL as u32)));
        // VEX and EVEX prefixes.
        assert_eq!(code[gate::AVX2 as usize], 0xc5);
        assert_eq!(code[gate::AVX512 as usize], 0x62);
    }

    #[test]
    fn every_stub_jumps_to_the_alarm_and_makes_the_same_frame() {
        let pages = monitor();
        for vector in 0..VECTORS {
            let at = (vector * STUB) as usize;
            let code = &pages[at..at + STUB as usize];
            let pushes = if has_error_code(vector) {
                [0x90, 0x90]
            } else {
                [0x6a, 0]
            };
            assert_eq!(code[..2], pushes, "vector {vector}");
            assert_eq!(code[2..5], [0x6a, vector as u8, 0xe9]);
            let jump = u32::from_le_bytes([code[5], code[6], code[7], code[8]]);
            assert_eq!(at as u64 + 9 + u64::from(jump), COMMON);
        }
    }
}
