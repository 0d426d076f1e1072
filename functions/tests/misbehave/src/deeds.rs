//! The deeds, by name.
#![expect(
    unsafe_code,
    reason = "doing what must not be done is what this is for"
)]

use core::arch::asm;
use core::hint::black_box;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use fades_sdk::abi::boot::simd;
use fades_sdk::abi::gate::op;
use fades_sdk::prelude::*;

use crate::Misbehave;
use crate::entry::boot;
use crate::gate::{call, put, scribble};

static CONSTANT: u64 = 7;

/// Reads a byte of any address.
fn peek(address: u64) -> u8 {
    // SAFETY: none; whether this is allowed is what a test wants to know.
    unsafe { with_exposed_provenance::<u8>(address as usize).read_volatile() }
}

/// Writes a byte to any address.
fn poke(address: u64) {
    // SAFETY: none; whether this is allowed is what a test wants to know.
    unsafe { with_exposed_provenance_mut::<u8>(address as usize).write_volatile(0xcc) }
}

/// One privileged, reserved or faulting instruction, which ends the function.
macro_rules! instruction {
    ($($line:literal),+) => {
        // SAFETY: none; the test expects a fault.
        unsafe { asm!($($line),+, options(noreturn)) }
    };
}

fn jump(address: u64) -> ! {
    // SAFETY: none; the test expects a fault.
    unsafe { asm!("jmp {}", in(reg) address, options(noreturn)) }
}

fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// A system call as the gate of a process makes them.
fn raw(number: u64, args: [u64; 4]) -> u64 {
    let result;
    // SAFETY: none; whether this is allowed is what a test wants to know.
    unsafe {
        asm!("syscall", inout("rax") number => result, in("rdi") args[0], in("rsi") args[1],
             in("rdx") args[2], in("r10") args[3], in("r8") u64::MAX, in("r9") 0_u64,
             out("rcx") _, out("r11") _)
    };
    result
}

/// Calls the supervisor of a process again and again without hearing it.
fn ring() -> ! {
    let level_and_text = [3, boot().heap.address, 0, 0];
    call(op::LOG, level_and_text);
    loop {
        raw(1, [0, boot().mailbox, 1, 0]);
    }
}

/// Uses the stack until there is none left, a page at a time.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    let below = if black_box(true) {
        recurse(depth + 1)
    } else {
        0
    };
    below + frame[(depth % 64) as usize]
}

/// Moves the stack pointer down by `n` at once, as code without stack probes
/// does for a large frame, and writes there.
fn large_frame(n: u64) -> ! {
    // SAFETY: none; the test expects a fault.
    unsafe { asm!("sub rsp, {}", "mov qword ptr [rsp], 1", "ud2", in(reg) n, options(noreturn)) }
}

fn allocate() -> ! {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 64 * 1024]);
        black_box(&all);
    }
}

fn flood(n: u64) {
    for i in 0..n {
        log!(info, "line {} of a flood that nobody asked for", i as usize);
    }
}

pub(crate) fn at_start(it: &mut Misbehave) -> Result<(), Abort> {
    let text = at_start as *const () as u64;
    match it.deed.as_str() {
        "loop" => spin(),
        "allocate" => allocate(),
        "allocate-huge" => drop(black_box(Vec::<u8>::with_capacity(it.n as usize))),
        "write-text" => poke(text),
        "write-rodata" => poke(&raw const CONSTANT as u64),
        "write-boot" => poke(core::ptr::from_ref(boot()) as u64),
        "write-params" => poke(boot().params.address),
        "write-context" => poke(boot().context.address),
        "write-gate" => poke(boot().gate),
        "write-past-output" => poke(boot().output.end()),
        "write-past-heap" => poke(boot().heap.end()),
        "write-below-heap" => poke(boot().heap.address - 1),
        "write-past-stack" => poke(boot().stack.end()),
        "read-null" => drop(black_box(peek(0))),
        "read" => drop(black_box(peek(it.address))),
        "read-non-canonical" => drop(black_box(peek(0x8000_0000_0000_0000))),
        "read-kernel" => drop(black_box(peek(0xffff_8000_0000_0000))),
        "write" => poke(it.address),
        "jump" => jump(it.address),
        "jump-heap" => {
            let code = Box::new([0x90_u8, 0xc3]);
            jump(code.as_ptr() as u64);
        }
        "jump-stack" => {
            let code = [0x90_u8, 0xc3];
            jump(black_box(&code).as_ptr() as u64);
        }
        "jump-output" => jump(boot().output.address),
        "jump-null" => jump(0),
        "jump-non-canonical" => jump(0x8000_0000_0000_0000),
        "stack-recursion" => drop(black_box(recurse(0))),
        "stack-large-frame" => large_frame(it.n),
        "stack-non-canonical" => instruction!("mov rsp, 0x8000000000000000", "push rax", "ud2"),
        "ud2" => instruction!("ud2"),
        "divide" => instruction!("xor ecx, ecx", "mov eax, 1", "cdq", "idiv ecx", "ud2"),
        "int3" => instruction!("int3", "ud2"),
        "int80" => instruction!("mov eax, 1", "int 0x80", "ud2"),
        "syscall" => instruction!("mov eax, 39", "syscall", "ud2"),
        "sysenter" => instruction!("sysenter"),
        "raw-ring" => ring(),
        "raw-close" => {
            raw(3, [0; 4]);
            spin();
        }
        "raw-map" => drop(black_box(raw(9, [it.address, 4096, it.n, 0x22]))),
        "raw-unmap" => drop(black_box(raw(11, [it.address, it.n, 0, 0]))),
        "raw-write" => drop(black_box(raw(1, [1, boot().mailbox, 1, 0]))),
        "raw-receive" => drop(black_box(raw(47, [1, boot().mailbox, 0, 0]))),
        "raw-exit" => drop(black_box(raw(231, [0; 4]))),
        "vmcall" => instruction!("vmcall", "ud2"),
        "vmmcall" => instruction!("vmmcall", "ud2"),
        "hlt" => instruction!("hlt", "ud2"),
        "cli" => instruction!("cli", "ud2"),
        "in" => instruction!("mov edx, 0x60", "in al, dx", "ud2"),
        "out" => instruction!("mov edx, 0x60", "out dx, al", "ud2"),
        "rdmsr" => instruction!("mov ecx, 0xc0000080", "rdmsr", "ud2"),
        "wrmsr" => instruction!(
            "mov ecx, 0xc0000080",
            "xor eax, eax",
            "xor edx, edx",
            "wrmsr",
            "ud2"
        ),
        "read-cr0" => instruction!("mov rax, cr0", "ud2"),
        "write-cr3" => instruction!("xor eax, eax", "mov cr3, rax", "ud2"),
        "lgdt" => instruction!("lgdt [rsp]", "ud2"),
        "lidt" => instruction!("lidt [rsp]", "ud2"),
        "ltr" => instruction!("xor eax, eax", "ltr ax", "ud2"),
        "xsetbv" => instruction!(
            "xor ecx, ecx",
            "xor eax, eax",
            "xor edx, edx",
            "xsetbv",
            "ud2"
        ),
        "invlpg" => instruction!("invlpg [rsp]", "ud2"),
        "wbinvd" => instruction!("wbinvd", "ud2"),
        "swapgs" => instruction!("swapgs", "ud2"),
        "iret-to-kernel" => instruction!(
            "push 0",
            "push rsp",
            "push 0x202",
            "push 0x8",
            "push 0",
            "iretq"
        ),
        "unaligned-vector" => instruction!("lea rax, [rsp + 1]", "movaps xmm0, [rax]", "ud2"),
        "store-string" => {
            // SAFETY: none; the test expects a fault.
            unsafe {
                asm!("rep stosb", "ud2", in("rdi") it.address, in("rcx") it.n, in("al") 1_u8,
                     options(noreturn))
            }
        }
        "panic" => panic!("as the test wanted, {}", it.n as usize),
        "index" => drop(black_box(it.seen[it.n as usize].len())),
        "abort" => abort!("as the test wanted, {}", it.n as usize),
        "gate-unknown" => call(77, [0; 4]),
        "gate-zero" => call(0, [0; 4]),
        "gate-scribble" => scribble(),
        "gate-storm" => loop {
            call(op::LOG, [3, boot().heap.address, 0, 0]);
        },
        "gate-next-storm" => loop {
            call(op::NEXT, [0; 4]);
        },
        "gate-done-early" => call(op::DONE, [0; 4]),
        "gate-answer-unasked" => call(op::ANSWER, [1, 0, 0, 0]),
        "gate-state-unasked" => call(op::STATE, [1, 0, 0, 0]),
        "log" => log!(info, "a quiet line"),
        "log-flood" => flood(it.n),
        "log-level" => call(op::LOG, [99, boot().heap.address, 1, 0]),
        "log-unmapped" => call(op::LOG, [3, 0x1000, 16, 0]),
        "log-wrap" => call(op::LOG, [3, u64::MAX - 8, 64, 0]),
        "log-huge" => call(op::LOG, [3, boot().heap.address, u64::MAX, 0]),
        "log-across-the-end" => call(op::LOG, [3, boot().heap.end() - 8, 64, 0]),
        "log-of-the-doorbell" => call(op::LOG, [3, it.address, 16, 0]),
        "log-control" => log!(warn, "a\x1b[31mb\nc\td\u{7f}\u{202e}e"),
        "log-not-utf8" => {
            let bytes = [0xff_u8, 0xfe, b'a'];
            call(op::LOG, [3, bytes.as_ptr() as u64, 3, 0]);
        }
        "abort-bad-text" => call(op::ABORT, [0x1000, 16, 0, 0]),
        "panic-bad-text" => call(op::PANIC, [u64::MAX, u64::MAX, 0, 0]),
        "dirty-memory" => it.answer.push(("dirty".to_owned(), dirty().into())),
        "touch" => touch(it.n as usize),
        "burn" => burn(it.n),
        "vectors" => it.answer.push(("vectors".to_owned(), vectors().into())),
        "boot-info" => it.answer.extend(boot_info()),
        _ => {}
    }
    Ok(())
}

pub(crate) fn with_input(it: &mut Misbehave, batch: &Batch<'_>) {
    // Batches lie at the start of a page; the header comes before the times.
    let start = (batch.time().as_ptr() as u64) & !(fades_sdk::abi::INPUT_PAGE - 1);
    match it.deed.as_str() {
        "write-input" => poke(batch.value().as_ptr() as u64),
        "write-input-header" => poke(start),
        "jump-input" => jump(start),
        "read-past-input" => drop(black_box(peek(start + it.n))),
        "read-window-end" => drop(black_box(peek(boot().input.end() - 1))),
        "read-past-window" => drop(black_box(peek(boot().input.end()))),
        "log-of-input" => call(op::LOG, [3, start, 8, 0]),
        "log-across-input" => call(op::LOG, [3, start + it.n - 8, 16, 0]),
        "loop-with-input" => spin(),
        "read-after-a-word" => {
            log!(info, "has its batch");
            // Until the page is taken away below it.
            loop {
                black_box(peek(start + it.n));
            }
        }
        "padding" => {
            let used = batch.value().as_ptr_range().end as u64;
            let stray = (used..start + it.n).filter(|a| peek(*a) != 0).count();
            it.answer.push(("stray".to_owned(), (stray as u64).into()));
        }
        "keep-input" => it.address = start,
        _ => {}
    }
}

pub(crate) fn at_the_end(it: &mut Misbehave, out: &mut Output) -> Result<(), Abort> {
    match it.deed.as_str() {
        "keep-input" => drop(black_box(peek(it.address))),
        "next-after-finish" => call(op::NEXT, [0; 4]),
        "done-unanswered" => call(op::DONE, [0; 4]),
        "answer-twice" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, 0, 0, 0]);
            call(op::ANSWER, [1, 0, 0, 0]);
        }
        "answer-then-loop" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, 0, 0, 0]);
            spin();
        }
        "answer-then-fault" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, 0, 0, 0]);
            instruction!("ud2");
        }
        "answer-malformed" => raw_answer(&[0x9f, 0x01, 0xff]),
        "answer-unsorted" => raw_answer(b"\xa2\x61b\x01\x61a\x02"),
        "answer-cut" => raw_answer(&[0x82, 0x01]),
        "answer-bomb" => raw_answer(&[0x81; 200]),
        "answer-claims" => raw_answer(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "answer-map-claims" => raw_answer(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "answer-text-claims" => raw_answer(&[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "answer-tags" => raw_answer(&[0xc1; 200]),
        "answer-duplicate" => raw_answer(b"\xa2\x61a\x01\x61a\x02"),
        "answer-long-form" => raw_answer(b"\xa1\x61a\x18\x01"),
        "answer-trailing" => raw_answer(&[0xa0, 0x00]),
        "answer-not-utf8" => raw_answer(&[0xa1, 0x61, 0xff, 0x01]),
        "answer-break" => raw_answer(&[0xff]),
        "answer-empty" => call(op::ANSWER, [0; 4]),
        "answer-too-long" => call(op::ANSWER, [boot().output.length + 1, 0, 0, 0]),
        "answer-length-wraps" => call(op::ANSWER, [u64::MAX, 0, 0, 0]),
        "answer-readings-outside" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, boot().output.length & !63, 4096, 0]);
        }
        "answer-readings-wrap" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, !63, 128, 0]);
        }
        "answer-readings-unaligned" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, 65, 128, 0]);
        }
        "answer-readings-malformed" => {
            put(&[0xa0]);
            call(op::ANSWER, [1, 64, 128, 0]);
        }
        "output-full" => {
            let large = "x".repeat(it.n as usize);
            out.set("large", large);
        }
        _ => {}
    }
    Ok(())
}

fn raw_answer(bytes: &[u8]) {
    put(bytes);
    call(op::ANSWER, [bytes.len() as u64, 0, 0, 0]);
    call(op::DONE, [0; 4]);
}

/// Bytes other than zero in the upper half of the heap and in the output
/// window, which this function has not written yet.
fn dirty() -> u64 {
    let heap = boot().heap;
    let upper = heap.address + heap.length / 2..heap.end() - 4096;
    let window = boot().output.address..boot().output.end();
    upper.chain(window).filter(|a| peek(*a) != 0).count() as u64
}

fn touch(n: usize) {
    let mut memory = vec![0_u8; n];
    memory.iter_mut().step_by(4096).for_each(|b| *b = 1);
    black_box(&memory);
}

fn burn(n: u64) {
    (0..n).for_each(|i| {
        black_box(i);
    });
}

/// Really uses the widest vectors that the host has promised.
fn vectors() -> f64 {
    match boot().simd {
        // SAFETY: the host says that they work.
        simd::AVX512 => unsafe { avx512() },
        // SAFETY: the host says that they work.
        simd::AVX2 => unsafe { avx2() },
        _ => 2.0,
    }
}

#[target_feature(enable = "avx2,fma")]
fn avx2() -> f64 {
    let mut out = [0.0_f64; 4];
    // SAFETY: writes the 32 bytes of `out`; the feature is enabled here.
    unsafe {
        asm!("vmovupd ymm0, [{p}]", "vpcmpeqd ymm1, ymm1, ymm1", "vpsrlq ymm1, ymm1, 54",
             "vpsllq ymm1, ymm1, 52", "vaddpd ymm0, ymm0, ymm1", "vmovupd [{p}], ymm0",
             p = in(reg) out.as_mut_ptr(), out("ymm0") _, out("ymm1") _)
    };
    out.iter().sum()
}

#[target_feature(enable = "avx512f")]
fn avx512() -> f64 {
    let mut out = [0.0_f64; 8];
    // SAFETY: writes the 64 bytes of `out`; the feature is enabled here.
    unsafe {
        asm!("vmovupd zmm31, [{p}]", "vpternlogd zmm30, zmm30, zmm30, 0xff",
             "vpsrlq zmm30, zmm30, 54", "vpsllq zmm30, zmm30, 52",
             "vaddpd zmm31, zmm31, zmm30", "vmovupd [{p}], zmm31",
             p = in(reg) out.as_mut_ptr(), out("zmm30") _, out("zmm31") _)
    };
    out.iter().sum()
}

fn boot_info() -> Vec<(String, Value)> {
    let b = boot();
    let regions = [
        ("heap", b.heap),
        ("stack", b.stack),
        ("output", b.output),
        ("input", b.input),
        ("params", b.params),
        ("context", b.context),
    ];
    let mut all: Vec<(String, Value)> = Vec::new();
    for (name, region) in regions {
        all.push((format!("{name}-address"), region.address.into()));
        all.push((format!("{name}-length"), region.length.into()));
    }
    all.push(("mailbox".to_owned(), b.mailbox.into()));
    all.push(("gate".to_owned(), b.gate.into()));
    all.push(("simd".to_owned(), u64::from(b.simd).into()));
    all.push(("memory-limit".to_owned(), b.memory_limit.into()));
    all
}
