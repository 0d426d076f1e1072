//! After a reset, nothing of a function is left: not in registers, not in
//! memory, not in page tables.
#![expect(unsafe_code, reason = "assembles the text of functions")]

use std::arch::global_asm;
use std::mem::offset_of;

use fades_abi::boot::BootInfo;
use fades_task::limits::Limits;
use fades_task::message::{Start, TemplateRequest};
use fades_task::quantity::Size;

use super::super::*;
use crate::assembled::assembled;
use crate::image::{About, Access, Image, Segment};
use crate::layout::tables;
use crate::machine::Machine;
use crate::probe::run_without_data;
use crate::template::{self, Template};

// The stack's end is where a function leaves, or finds, everything.
global_asm!(
    ".pushsection .rodata.fades_reset, \"a\"",
    // Fills every register that a function can write, then rings.
    ".global fades_dirty",
    "fades_dirty:",
    "mov rdi, [rdi + {gate}]",
    "pcmpeqd xmm0, xmm0",
    "pcmpeqd xmm7, xmm7",
    "pcmpeqd xmm15, xmm15",
    "cmp edx, 0",
    "fld1",
    "fldpi",
    "push 0x0c7f",
    "fldcw [rsp]",
    "mov dword ptr [rsp], 0x5f80",
    "ldmxcsr [rsp]",
    "mov rax, -1",
    "push rax",
    "push rax",
    "mov rbx, rax; mov rcx, rax; mov rdx, rax; mov rsi, rax; mov rbp, rax",
    "mov r8, rax; mov r9, rax; mov r10, rax; mov r11, rax",
    "mov r12, rax; mov r13, rax; mov r14, rax; mov r15, rax",
    // Carry, direction, alignment check, identification.
    "push 0x240403",
    "popfq",
    "call rdi",
    ".global fades_dirty_end",
    "fades_dirty_end:",
    // The same, with what AVX-512 adds.
    ".global fades_dirty512",
    "fades_dirty512:",
    "vpternlogd zmm0, zmm0, zmm0, 255",
    "vpternlogd zmm9, zmm9, zmm9, 255",
    "vpternlogd zmm31, zmm31, zmm31, 255",
    "kxnorq k0, k0, k0; kxnorq k1, k1, k1; kxnorq k7, k7, k7",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_dirty512_end",
    "fades_dirty512_end:",
    // Changes the base of a segment, or the protection keys, where it may.
    ".global fades_dirtybase",
    "fades_dirtybase:",
    "mov rax, 0x12345678",
    "wrfsbase rax",
    "wrgsbase rax",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_dirtybase_end",
    "fades_dirtybase_end:",
    ".global fades_dirtykeys",
    "fades_dirtykeys:",
    "xor ecx, ecx; xor edx, edx; mov eax, 0xfffffff0",
    "wrpkru",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_dirtykeys_end",
    "fades_dirtykeys_end:",
    // Writes down everything below the end of its stack, then rings.
    ".global fades_inspect",
    "fades_inspect:",
    "mov [rsp - 0x08], rax; mov [rsp - 0x10], rbx; mov [rsp - 0x18], rcx",
    "mov [rsp - 0x20], rdx; mov [rsp - 0x28], rsi; mov [rsp - 0x30], rbp",
    "mov [rsp - 0x38], r8; mov [rsp - 0x40], r9; mov [rsp - 0x48], r10",
    "mov [rsp - 0x50], r11; mov [rsp - 0x58], r12; mov [rsp - 0x60], r13",
    "mov [rsp - 0x68], r14; mov [rsp - 0x70], r15",
    "mov rax, rsp",
    "lea rsp, [rsp - 0x80]",
    "pushfq",
    "fnstenv [rax - 0x100]",
    "stmxcsr [rax - 0x108]",
    "movups [rax - 0x200], xmm0; movups [rax - 0x1f0], xmm7; movups [rax - 0x1e0], xmm15",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_inspect_end",
    "fades_inspect_end:",
    ".global fades_inspect512",
    "fades_inspect512:",
    "vmovups [rsp - 0x200], zmm0; vmovups [rsp - 0x1c0], zmm9; vmovups [rsp - 0x180], zmm31",
    "kmovq [rsp - 0x10], k0; kmovq [rsp - 0x18], k1; kmovq [rsp - 0x20], k7",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_inspect512_end",
    "fades_inspect512_end:",
    ".global fades_inspectbase",
    "fades_inspectbase:",
    "rdfsbase rax; mov [rsp - 0x10], rax; rdgsbase rax; mov [rsp - 0x18], rax",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_inspectbase_end",
    "fades_inspectbase_end:",
    ".global fades_inspectkeys",
    "fades_inspectkeys:",
    "xor ecx, ecx; rdpkru; mov [rsp - 0x10], eax",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_inspectkeys_end",
    "fades_inspectkeys_end:",
    // Writes to the address that its first parameter is, reads it back, rings.
    ".global fades_poke",
    "fades_poke:",
    "mov rax, [rdi + {params}]",
    "mov rax, [rax]",
    "mov [rax], rax",
    "mov rdi, [rdi + {gate}]",
    "call rdi",
    ".global fades_poke_end",
    "fades_poke_end:",
    ".popsection",
    gate = const offset_of!(BootInfo, gate),
    params = const offset_of!(BootInfo, params),
);

assembled! { fn dirty = fades_dirty .. fades_dirty_end }
assembled! { fn dirty512 = fades_dirty512 .. fades_dirty512_end }
assembled! { fn dirty_base = fades_dirtybase .. fades_dirtybase_end }
assembled! { fn dirty_keys = fades_dirtykeys .. fades_dirtykeys_end }
assembled! { fn inspect = fades_inspect .. fades_inspect_end }
assembled! { fn inspect512 = fades_inspect512 .. fades_inspect512_end }
assembled! { fn inspect_base = fades_inspectbase .. fades_inspectbase_end }
assembled! { fn inspect_keys = fades_inspectkeys .. fades_inspectkeys_end }
assembled! { fn poke = fades_poke .. fades_poke_end }

const CLASS: Class = Class {
    bulk: false,
    heap: Size(16 << 20),
    window: Size(4 << 20),
};

/// A segment of some pages at `start`.
fn segment(start: u64, pages: u64, access: Access, file: Range<usize>) -> Segment {
    Segment {
        start: GuestAddr(start),
        length: pages * PAGE,
        access,
        lead: 0,
        file,
    }
}

const TEXT: u64 = 0x40_0000;

fn start(number: u64) -> Start {
    let limits = Limits {
        memory: Size(1 << 20),
        ..Limits::default()
    };
    Start {
        template: number,
        ..run_without_data(limits)
    }
}

/// A template of `text` and further segments.
fn template(text: &[u8], further: Vec<Segment>) -> Template {
    let mut segments = vec![segment(TEXT, 1, Access::Execute, 0..text.len())];
    segments.extend(further);
    let image = Image {
        about: About {
            name: "reset".to_owned(),
            stack: 4 * PAGE,
            memory_min: 0,
            checkpoints: false,
        },
        entry: GuestAddr(TEXT),
        segments,
    };
    let request = TemplateRequest::of(fades_task::limits::Isolation::Microvm, &start(0));
    template::of_image(&image, text, &[], &request).unwrap()
}

/// A clean microVM; `None`, and a word about it, without KVM.
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn clean(test: &str) -> Option<Machine> {
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("SKIPPED: {test}: no /dev/kvm");
        return None;
    }
    let isolation = fades_task::limits::Isolation::Microvm;
    Some(Machine::make(isolation, CLASS, simd::AVX512).unwrap())
}

fn microvm(machine: &mut Machine) -> &mut Microvm {
    match machine {
        Machine::Microvm(microvm) => microvm,
        Machine::Process(_) => panic!("another isolation"),
    }
}

/// Runs a function until it rings or faults.
fn run(machine: &mut Machine, number: u64, template: &Template, params: &[u8]) -> Turn {
    machine
        .load(template, &start(number), params.to_vec())
        .unwrap();
    loop {
        match machine.run().unwrap() {
            Turn::Interrupted => {}
            turn => return turn,
        }
    }
}

/// What a function wrote below the end of its stack.
fn notes(machine: &mut Machine) -> Vec<u8> {
    let vm = microvm(machine);
    let stack = vm.layout.span(Part::Stack);
    let mut bytes = vec![0; 2 * PAGE as usize];
    let at = stack.offset.0 + stack.length - bytes.len() as u64;
    vm.memory.copy_out(Offset(at), &mut bytes).unwrap();
    bytes
}

/// What `look` sees in a new machine, in one that `leave` ran in before, and in
/// one that was reset after it. `None` when this processor cannot do it.
fn seen(
    test: &str,
    leave: fn() -> &'static [u8],
    look: fn() -> &'static [u8],
) -> Option<[Vec<u8>; 3]> {
    let (leave, look) = (template(leave(), vec![]), template(look(), vec![]));
    let mut fresh = clean(test)?;
    if run(&mut fresh, 2, &look, &[]) != Turn::Gate {
        return None;
    }
    let new = notes(&mut fresh);
    let seen_with = |reset: bool| {
        let mut machine = clean(test)?;
        let left = run(&mut machine, 1, &leave, &[]);
        if left != Turn::Gate {
            return None;
        }
        let vm = microvm(&mut machine);
        if reset {
            vm.reset().unwrap();
        } else {
            vm.memory.forget().unwrap();
        }
        if reset {
            assert_eq!(run(&mut machine, 2, &look, &[]), Turn::Gate);
        } else {
            // Only the next function's code and where it starts.
            let vm = microvm(&mut machine);
            let regs = vm.vcpu.get_regs().unwrap();
            let zones = look.sheet.layout.zones().template();
            vm.memory.put_template(&look, zones).unwrap();
            let boot = vm.layout.span(Part::Boot);
            let told = BootInfo {
                gate: GATE.0,
                ..zerocopy::FromZeros::new_zeroed()
            };
            vm.memory.put(boot.offset, &told).unwrap();
            let again = cpu::regs(
                GuestAddr(TEXT),
                vm.layout.span(Part::Stack).end(),
                boot.start,
            );
            let kept = kvm_bindings::kvm_regs {
                rip: again.rip,
                rsp: again.rsp,
                rdi: again.rdi,
                ..regs
            };
            vm.vcpu.set_regs(&kept).unwrap();
            assert_eq!(machine.run().unwrap(), Turn::Gate);
        }
        Some(notes(&mut machine))
    };
    Some([new, seen_with(false)?, seen_with(true)?])
}

/// The notes without what is the host's: the interrupt flag, which some kinds of
/// KVM show as it is there, and the addresses of the last x87 instruction and
/// its operand, which Linux fills with its own on processors of AMD.
fn of_the_guest(mut notes: Vec<u8>) -> Vec<u8> {
    let end = notes.len();
    notes[end - 0x88 + 1] &= !2;
    notes[end - 0x100 + 12..end - 0x100 + 28].fill(0);
    notes
}

#[test]
fn registers_are_as_new_after_a_reset() {
    let test = "registers_are_as_new_after_a_reset";
    let Some(seen) = seen(test, dirty, inspect) else {
        return;
    };
    let [new, left, reset] = seen.map(of_the_guest);
    let differ = new.iter().zip(&left).filter(|(a, b)| a != b).count();
    assert!(differ > 150, "without a reset, only {differ} bytes differ");
    assert_eq!(left_over(&new, &reset), [], "registers were left");
}

/// Where two notes differ: distance below the end of the stack, and both bytes.
fn left_over(new: &[u8], reset: &[u8]) -> Vec<(usize, u8, u8)> {
    let all = new.iter().zip(reset).enumerate();
    let different = all.filter(|(_, (a, b))| a != b);
    different
        .map(|(at, (a, b))| (new.len() - at, *a, *b))
        .collect()
}

#[test]
fn what_newer_processors_have_is_as_new_after_a_reset() {
    let test = "what_newer_processors_have_is_as_new_after_a_reset";
    for (leave, look, least) in [
        (dirty512 as fn() -> _, inspect512 as fn() -> _, 190),
        (dirty_base, inspect_base, 8),
        (dirty_keys, inspect_keys, 1),
    ] {
        let Some([new, left, reset]) = seen(test, leave, look) else {
            continue;
        };
        let differ = new.iter().zip(&left).filter(|(a, b)| a != b).count();
        assert!(
            differ >= least,
            "without a reset, only {differ} bytes differ"
        );
        assert_eq!(left_over(&new, &reset), [], "registers were left");
    }
}

/// Everything that the host shares with a function, page tables included.
fn everything(machine: &mut Machine) -> Vec<u8> {
    let vm = microvm(machine);
    let end = vm.layout.zones().end(CLASS);
    let mut bytes = vec![0; end as usize];
    vm.memory.copy_out(Offset(0), &mut bytes).unwrap();
    bytes
}

#[test]
fn memory_and_page_tables_are_as_new_after_a_reset() {
    let test = "memory_and_page_tables_are_as_new_after_a_reset";
    let (Some(mut used), Some(mut new)) = (clean(test), clean(test)) else {
        return;
    };
    let leaves = template(dirty(), vec![segment(0x60_0000, 8, Access::Write, 0..0)]);
    let looks = template(inspect(), vec![]);
    assert_eq!(run(&mut used, 1, &leaves, &[7; 100]), Turn::Gate);
    let vm = microvm(&mut used);
    let batch = tempfile::tempfile().unwrap();
    batch.set_len(LARGE_PAGE).unwrap();
    vm.attach(batch.into(), LARGE_PAGE).unwrap();
    for span in vm.layout.spans.iter().filter(|s| !s.is_hosts()) {
        vm.memory
            .copy_in(span.offset, &vec![0xa5; span.length as usize])
            .unwrap();
    }
    let tables = vm.layout.zones().tables();
    let entry: u64 = vm.memory.take(tables).unwrap();
    assert!(entry != 0, "page tables are where they are looked for");
    vm.reset().unwrap();
    // Not even the next function's own pages are there before it is loaded.
    new.load(&leaves, &start(1), vec![]).unwrap();
    microvm(&mut new).reset().unwrap();
    assert!(everything(&mut used) == everything(&mut new));
    for machine in [&mut used, &mut new] {
        machine.load(&looks, &start(2), vec![]).unwrap();
    }
    assert!(everything(&mut used) == everything(&mut new));
    assert!(tables::count(false) * PAGE < 1 << 20);
}

#[test]
fn a_template_that_is_mapped_already_is_as_new_after_a_reset() {
    let Some(mut machine) = clean("a_template_that_is_mapped_already_is_as_new_after_a_reset")
    else {
        return;
    };
    let data = segment(0x60_0000, 1, Access::Write, 0..dirty().len());
    let leaves = template(dirty(), vec![data]);
    machine.load(&leaves, &start(1), vec![]).unwrap();
    let before = everything(&mut machine);
    assert_eq!(run(&mut machine, 1, &leaves, &[]), Turn::Gate);
    let vm = microvm(&mut machine);
    let data = vm.layout.span(Part::Data);
    vm.memory.copy_in(data.offset, &[0xa5; 64]).unwrap();
    vm.reset().unwrap();
    machine.load(&leaves, &start(1), vec![]).unwrap();
    assert!(everything(&mut machine) == before);
}

/// An address that is data for one function, text for the next, and nothing
/// for a third, again and again: each finds what is its own.
#[test]
fn rights_are_those_of_the_function_that_runs_now() {
    let Some(mut machine) = clean("rights_are_those_of_the_function_that_runs_now") else {
        return;
    };
    // Several tables, and several entries in each.
    let places = [
        TEXT + PAGE,
        TEXT + (7 << 12),
        TEXT + (4 << 20),
        TEXT + (9 << 20),
    ];
    let with = |access, also: u64| {
        let at = |p: &u64| segment(*p, 1, access, 0..0);
        let mut all: Vec<_> = places.iter().map(at).collect();
        all.extend((0..also).map(|n| segment(TEXT + (n << 21) + (100 << 12), 1, access, 0..0)));
        all.sort_by_key(|s| s.start);
        template(poke(), all)
    };
    let mut templates = [
        (template(poke(), vec![]), false),
        (with(Access::Write, 0), true),
        (with(Access::Execute, 3), false),
        (with(Access::Write, 5), true),
        (with(Access::Read, 1), false),
    ];
    for round in 0..40_usize {
        let which = (round * 7 + round / 3) % templates.len();
        let (template, writable) = &mut templates[which];
        let place = places[round % places.len()];
        let number = which as u64 + 1;
        let turn = run(&mut machine, number, template, &place.to_le_bytes());
        let wrote = turn == Turn::Gate;
        assert_eq!(
            wrote, *writable,
            "round {round}, template {which}: {turn:?}"
        );
        if let Turn::Fault(raw) = turn {
            assert_eq!(raw.address, Some(GuestAddr(place)));
        }
        // A fault would end a shell; here it must not matter.
        microvm(&mut machine).reset().unwrap();
    }
}

#[test]
fn a_larger_shell_does_not_loosen_a_limit() {
    let Some(mut machine) = clean("a_larger_shell_does_not_loosen_a_limit") else {
        return;
    };
    let template = template(poke(), vec![]);
    let heap = template.sheet.layout.span(Part::Heap);
    assert!(heap.length < CLASS.heap.0);
    let mut at = |address: u64| run(&mut machine, 1, &template, &address.to_le_bytes());
    assert_eq!(at(heap.end().0 - 8), Turn::Gate);
    let Turn::Fault(raw) = at(heap.end().0) else {
        panic!("it wrote past its limit");
    };
    assert_eq!(raw.address, Some(heap.end()));
}

#[test]
fn what_is_larger_than_the_shell_is_refused() {
    let Some(mut machine) = clean("what_is_larger_than_the_shell_is_refused") else {
        return;
    };
    let mut large = template(poke(), vec![]);
    let heap = large.sheet.layout.spans.iter_mut();
    let heap = heap.into_iter().find(|s| s.part == Part::Heap).unwrap();
    heap.length = CLASS.heap.0 + LARGE_PAGE;
    assert!(machine.load(&large, &start(1), vec![]).is_err());
    let mut bulky = template(poke(), vec![]);
    bulky.sheet.layout.bulk = true;
    assert!(machine.load(&bulky, &start(1), vec![]).is_err());
}
