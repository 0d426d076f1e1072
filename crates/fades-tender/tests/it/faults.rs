//! Everything that a function's address space and privileges forbid is a fault
//! with vector, address, place and symbol; the tender survives it.

use fades_task::exit::{Exit, Fault};
use fades_task::limits::Isolation;

use crate::on_every_isolation;
use crate::tending::Deed;

on_every_isolation! {
    memory_that_is_not_writable_is_not_written,
    memory_that_is_not_there_is_not_read,
    memory_that_is_not_text_is_not_executed,
    the_input_is_protected,
    the_stack_ends_in_unmapped_space,
    instructions_that_fault_are_named,
    privileged_instructions_fault,
    system_calls_do_not_reach_a_kernel,
    what_belongs_to_the_host_is_out_of_reach,
    a_string_store_stops_at_the_end_of_its_region,
    the_doorbell_is_no_memory,
}

fn fault(deed: Deed) -> Fault {
    let what = deed.params.to_string();
    match deed.exit() {
        Exit::Fault(fault) => fault,
        other => panic!("{what}: {other}"),
    }
}

/// Vectors are seen in a microVM; a process reports signals.
fn assert_vector(fault: &Fault, isolation: Isolation, vector: u8, signal: &str) {
    match isolation {
        Isolation::Microvm => assert_eq!(fault.vector, Some(vector), "{fault}"),
        Isolation::Process => assert!(fault.what.contains(signal), "{fault}"),
    }
}

fn assert_page_fault(isolation: Isolation, deed: Deed, place: &str) -> Fault {
    let what = deed.params.to_string();
    let fault = fault(deed);
    assert_vector(&fault, isolation, 14, "SIGSEGV");
    assert_eq!(fault.place.as_deref(), Some(place), "{what}: {fault}");
    assert!(fault.rip.is_some(), "{what}: {fault}");
    fault
}

fn memory_that_is_not_writable_is_not_written(on: Isolation) {
    for (deed, place) in [
        ("write-text", "text (read-only)"),
        ("write-rodata", "constants (read-only)"),
        ("write-boot", "the boot info (read-only)"),
        // Short ones lie beside the boot info.
        ("write-params", "the boot info (read-only)"),
        ("write-context", "the boot info (read-only)"),
        ("write-gate", "the gate (read-only)"),
        ("write-past-output", "past the end of the output window"),
        ("write-past-heap", "past the end of the heap"),
        ("write-below-heap", "before the start of the heap"),
        ("write-past-stack", "past the end of the stack"),
    ] {
        let fault = assert_page_fault(on, Deed::new(on, deed), place);
        let symbol = fault.symbol.unwrap_or_default();
        assert!(symbol.contains("misbehave"), "{deed}: {symbol}");
    }
    for (deed, place) in [
        ("write-params", "the parameters (read-only)"),
        ("write-context", "the context (read-only)"),
    ] {
        let mut deed = Deed::new(on, deed);
        deed.params["long"] = "x".repeat(4000).into();
        assert_page_fault(on, deed, place);
    }
}

fn memory_that_is_not_there_is_not_read(on: Isolation) {
    assert_page_fault(on, Deed::new(on, "read-null"), "the null page");
    for address in [0x3800_0000, 0x7fff_0000_0000_u64] {
        let deed = Deed::new(on, "read").with("address", address);
        let fault = assert_page_fault(on, deed, "outside of every region");
        assert_eq!(fault.address, Some(address));
    }
}

fn memory_that_is_not_text_is_not_executed(on: Isolation) {
    for (deed, place) in [
        ("jump-heap", "the heap (not executable)"),
        ("jump-stack", "the stack (not executable)"),
        ("jump-output", "the output window (not executable)"),
        ("jump-null", "the null page"),
        ("jump-input", "the input (read-only)"),
    ] {
        let fault = assert_page_fault(on, Deed::new(on, deed), place);
        assert_eq!(fault.rip, fault.address, "{deed}: {fault}");
    }
    let wild = fault(Deed::new(on, "jump-non-canonical"));
    assert_vector(&wild, on, 13, "SIGSEGV");
}

fn the_input_is_protected(on: Isolation) {
    for deed in ["write-input", "write-input-header"] {
        assert_page_fault(on, Deed::new(on, deed), "the input (read-only)");
    }
    let past = Deed::new(on, "read-past-input").with("n", 2 << 20);
    assert_page_fault(on, past, "past the end of the input batch");
    let window = Deed::new(on, "read-window-end");
    assert_page_fault(on, window, "past the end of the input batch");
    // The function keeps the address of a batch that it has given back.
    let kept = Deed::new(on, "keep-input");
    assert_page_fault(on, kept, "the input window, in which no batch lies");
}

fn the_stack_ends_in_unmapped_space(on: Isolation) {
    assert_page_fault(on, Deed::new(on, "stack-recursion"), "below the stack");
    for frame in [64 << 10, 1 << 20, 64 << 20, 200 << 20] {
        let deed = Deed::new(on, "stack-large-frame").with("n", frame);
        assert_page_fault(on, deed, "below the stack");
    }
    let wild = fault(Deed::new(on, "stack-non-canonical"));
    // Software emulations raise 13 instead.
    let known = matches!(wild.vector, None | Some(12 | 13));
    assert!(known, "{wild}");
}

fn instructions_that_fault_are_named(on: Isolation) {
    for (deed, vector, signal) in [
        ("ud2", 6, "SIGILL"),
        ("divide", 0, "SIGFPE"),
        ("int3", 3, "SIGTRAP"),
        ("unaligned-vector", 13, "SIGSEGV"),
    ] {
        let fault = fault(Deed::new(on, deed));
        assert_vector(&fault, on, vector, signal);
        let symbol = fault.symbol.clone().unwrap_or_default();
        assert!(symbol.contains("misbehave"), "{deed}: {fault}");
    }
}

fn privileged_instructions_fault(on: Isolation) {
    for deed in [
        "hlt",
        "cli",
        "in",
        "out",
        "rdmsr",
        "wrmsr",
        "read-cr0",
        "write-cr3",
        "lgdt",
        "lidt",
        "ltr",
        "xsetbv",
        "invlpg",
        "wbinvd",
        "swapgs",
        "iret-to-kernel",
    ] {
        let fault = fault(Deed::new(on, deed));
        assert!(!matches!(fault.vector, Some(8)), "{deed}: {fault}");
        if on == Isolation::Microvm && deed != "xsetbv" {
            // Without OSXSAVE `xsetbv` does not exist.
            assert_eq!(fault.vector, Some(13), "{deed}: {fault}");
        }
    }
}

fn system_calls_do_not_reach_a_kernel(on: Isolation) {
    for deed in ["syscall", "int80", "sysenter", "vmcall", "vmmcall"] {
        let fault = fault(Deed::new(on, deed));
        assert!(!fault.what.is_empty(), "{deed}");
    }
    if on == Isolation::Process {
        let fault = fault(Deed::new(on, "syscall"));
        assert_eq!(fault.what, "system call 39 (SIGSYS)");
        assert!(fault.symbol.unwrap_or_default().contains("misbehave"));
    }
}

/// The calls that the gate of a process needs are of no other use.
#[test]
fn the_gates_system_calls_work_for_the_gate_alone() {
    const INPUT: u64 = 0x10_0000_0000;
    let write = 3;
    for (deed, number, address, n) in [
        ("raw-map", 9, 0x3000_0000, 1),
        ("raw-map", 9, INPUT, write),
        ("raw-map", 9, INPUT, 1),
        ("raw-unmap", 11, 0x40_0000, 4096),
        ("raw-unmap", 11, INPUT, 9 << 30),
        ("raw-write", 1, 0, 0),
        ("raw-receive", 47, 0, 0),
        ("raw-exit", 231, 0, 0),
    ] {
        let deed = Deed::new(Isolation::Process, deed)
            .with("address", address)
            .with("n", n);
        let fault = fault(deed);
        assert_eq!(fault.what, format!("system call {number} (SIGSYS)"));
    }
}

#[test]
fn a_process_that_does_not_listen_or_hangs_up_is_ended() {
    for (deed, words) in [
        ("raw-ring", "rings without listening"),
        ("raw-close", "closed the connection"),
    ] {
        let exit = Deed::new(Isolation::Process, deed).exit();
        let Exit::Killed { reason } = exit else {
            panic!("{deed}: {exit}");
        };
        assert!(reason.contains(words), "{reason}");
    }
}

fn what_belongs_to_the_host_is_out_of_reach(on: Isolation) {
    // Monitor, its stack and its doorbell; none of them is there in a process.
    for address in [0x6000_0000_u64, 0x6000_1000, 0x6100_0ff8, 0x7100_0000] {
        for deed in ["read", "write", "jump"] {
            let fault = fault(Deed::new(on, deed).with("address", address));
            assert_vector(&fault, on, 14, "SIGSEGV");
            assert_eq!(fault.address, Some(address), "{deed} {fault}");
        }
    }
}

fn a_string_store_stops_at_the_end_of_its_region(on: Isolation) {
    let boot = Deed::new(on, "boot-info").run().answer();
    let number = |name: &str| boot[name].as_u64().unwrap();
    let end = number("output-address") + number("output-length");
    let deed = Deed::new(on, "store-string")
        .with("address", number("output-address"))
        .with("n", number("output-length") + 64);
    let fault = assert_page_fault(on, deed, "past the end of the output window");
    assert_eq!(fault.address, Some(end));
}

fn the_doorbell_is_no_memory(on: Isolation) {
    for (deed, address) in [
        ("write", 0x7000_0000_u64),
        ("read", 0x7000_0000),
        ("write", 0x7000_0800),
    ] {
        let fault = fault(Deed::new(on, deed).with("address", address));
        assert_eq!(fault.address, Some(address), "{deed}: {fault}");
    }
    let string = Deed::new(on, "store-string")
        .with("address", 0x7000_0000)
        .with("n", 64);
    let fault = fault(string);
    assert_eq!(fault.address, Some(0x7000_0000), "{fault}");
}
