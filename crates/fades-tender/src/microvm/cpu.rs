//! The state in which a microVM's processor starts: 64-bit mode, ring 3, with
//! exceptions leading to the monitor and vectors enabled as far as the host
//! can.
#![expect(unsafe_code, reason = "KVM reads vector registers from a structure")]

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_xcr, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};

use super::code::{TABLES, gate, selector};
use super::paging::Physical;
use crate::address::GuestAddr;
use crate::layout::GATE;

/// CR0: protected mode, monitor coprocessor, extension type, numeric errors,
/// write protection, paging.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4: physical address extension, SSE and its exceptions.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// CR4: the function may use XSAVE, and thereby AVX.
const CR4_OSXSAVE: u64 = 1 << 18;
/// EFER: long mode enabled and active, no-execute. `syscall` stays disabled.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;

/// XCR0: x87, SSE, AVX, and the three parts of AVX-512.
const XCR0_SSE: u64 = 0b11;
const XCR0_AVX: u64 = 1 << 2;
const XCR0_AVX512: u64 = 0b111 << 5;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;

/// How the processor was set up for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    /// CR4.OSXSAVE is set and XCR0 enables these parts.
    Enabled(u64),
    /// This KVM does not let a guest enable them; what works is to be tried.
    Untold,
}

/// Tells the processor what it is, and turns on what it has.
pub(super) fn set_up(
    kvm: &Kvm,
    vcpu: &VcpuFd,
    root: Physical,
) -> Result<(kvm_sregs, Vectors), kvm_ioctls::Error> {
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    vcpu.set_cpuid2(&cpuid)?;
    let offered = xcr0(&cpuid);
    let mut sregs = sregs(vcpu.get_sregs()?, root);
    if offered & XCR0_AVX != 0 {
        sregs.cr4 |= CR4_OSXSAVE;
        if vcpu.set_sregs(&sregs).is_ok() && set_xcr0(vcpu, offered).is_ok() {
            set_syscall_target(vcpu);
            return Ok((sregs, Vectors::Enabled(offered)));
        }
        sregs.cr4 &= !CR4_OSXSAVE;
    }
    vcpu.set_sregs(&sregs)?;
    set_syscall_target(vcpu);
    Ok((sregs, Vectors::Untold))
}

/// The parts of XCR0 that both this KVM offers and a function can use.
fn xcr0(cpuid: &CpuId) -> u64 {
    let leaf = |function, index| {
        let entries = cpuid.as_slice().iter();
        let mut found = entries.filter(move |e| e.function == function && e.index == index);
        found.next().copied().unwrap_or_default()
    };
    let has_xsave = leaf(1, 0).ecx & 1 << 26 != 0;
    if !has_xsave {
        return 0;
    }
    let parts = leaf(0xd, 0);
    let offered = u64::from(parts.eax) | u64::from(parts.edx) << 32;
    let mut wanted = XCR0_SSE | offered & XCR0_AVX;
    // The three parts of AVX-512 are enabled together or not at all.
    if offered & XCR0_AVX512 == XCR0_AVX512 && wanted & XCR0_AVX != 0 {
        wanted |= XCR0_AVX512;
    }
    wanted
}

fn set_xcr0(vcpu: &VcpuFd, value: u64) -> Result<(), kvm_ioctls::Error> {
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..Default::default()
    };
    xcrs.xcrs[0] = kvm_xcr {
        xcr: 0,
        value,
        ..Default::default()
    };
    vcpu.set_xcrs(&xcrs)
}

/// Where `syscall` works although EFER disables it, it must not lead to address
/// 0; elsewhere these registers mean nothing, and may not even exist.
fn set_syscall_target(vcpu: &VcpuFd) {
    let target = GATE.0 + gate::SYSCALL;
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let selectors = u64::from(selector::MONITOR_CODE) << 32;
    let msrs = [
        entry(MSR_STAR, selectors),
        entry(MSR_LSTAR, target),
        entry(MSR_CSTAR, target),
    ];
    if let Ok(msrs) = Msrs::from_entries(&msrs) {
        let _ = vcpu.set_msrs(&msrs);
    }
}

/// x87 and vector registers of a processor that has not run yet, in a form in
/// which [`set_vectors`] sets all of them.
pub(super) fn vectors(vcpu: &VcpuFd) -> Result<Box<kvm_xsave>, kvm_ioctls::Error> {
    /// Where the state says which of its parts are not as in the beginning.
    const PARTS: usize = 512 / 4;
    /// x87 and SSE.
    const LEGACY: u32 = 0b11;
    let mut state = Box::new(vcpu.get_xsave()?);
    // Linux leaves MXCSR as it is unless one of these parts is said to be there;
    // their contents are there in any case.
    state.region[PARTS] |= LEGACY;
    Ok(state)
}

/// Sets x87 and vector registers, protection keys included, to what was read
/// before.
pub(super) fn set_vectors(vcpu: &VcpuFd, state: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the kernel reads no more than the structure, unless parts were
    // enabled that need an explicit request, which nobody made.
    unsafe { vcpu.set_xsave(state) }
}

/// Special registers of a processor in ring 3.
fn sregs(reset: kvm_sregs, root: Physical) -> kvm_sregs {
    let segment = |selector, type_, long: bool| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    };
    // Types: read, execute, accessed; read, write, accessed.
    let code = segment(selector::USER_CODE, 0xb, true);
    let data = segment(selector::USER_DATA, 0x3, false);
    kvm_sregs {
        cs: code,
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        tr: kvm_segment {
            base: TABLES.tss,
            limit: TABLES.tss_limit,
            selector: selector::TASK,
            type_: 0xb,
            present: 1,
            ..Default::default()
        },
        ldt: kvm_segment {
            type_: 0x2,
            unusable: 1,
            ..Default::default()
        },
        gdt: kvm_dtable {
            base: TABLES.gdt,
            limit: TABLES.gdt_limit,
            ..Default::default()
        },
        idt: kvm_dtable {
            base: TABLES.idt,
            limit: TABLES.idt_limit,
            ..Default::default()
        },
        cr0: CR0,
        cr3: root.0,
        cr4: CR4,
        efer: EFER,
        ..reset
    }
}

/// General registers of a function at its start.
pub(super) fn regs(entry: GuestAddr, stack_end: GuestAddr, argument: GuestAddr) -> kvm_regs {
    kvm_regs {
        rip: entry.0,
        rsp: stack_end.0,
        rdi: argument.0,
        // The bit that is always set.
        rflags: 1 << 1,
        ..Default::default()
    }
}
