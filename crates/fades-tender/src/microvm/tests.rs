//! The protection that remains when the page tables are wrong.

use std::io::{Read, Seek, Write};

use fades_task::limits::Isolation;

use super::*;
use crate::machine::Machine;
use crate::probe::{CLASS, announce, self_test};

/// The self-test's function in a microVM; `None`, and a word about it, without
/// KVM.
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn microvm(test: &str) -> Option<Box<Microvm>> {
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("SKIPPED: {test}: no /dev/kvm");
        return None;
    }
    let (template, start) = self_test(Isolation::Microvm).unwrap();
    let mut machine = Machine::make(Isolation::Microvm, CLASS, simd::SSE2).unwrap();
    machine.load(&template, &start, Vec::new()).unwrap();
    match machine {
        Machine::Microvm(machine) => Some(machine),
        Machine::Process(_) => panic!("another isolation"),
    }
}

#[test]
fn input_cannot_be_written_even_where_the_page_tables_allow_it() {
    let Some(mut vm) = microvm("input_cannot_be_written_even_where_the_page_tables_allow_it")
    else {
        return;
    };
    assert_eq!(vm.run().unwrap(), Turn::Gate);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&1.5_f64.to_le_bytes()).unwrap();
    file.set_len(LARGE_PAGE).unwrap();
    vm.attach(file.try_clone().unwrap().into(), LARGE_PAGE)
        .unwrap();
    let writable = Rights::UserWrite;
    vm.tables
        .map(&vm.memory, INPUT, INPUT_PHYSICAL, LARGE_PAGE, writable)
        .unwrap();
    announce(&vm.layout, &vm.memory, LARGE_PAGE).unwrap();
    assert_eq!(vm.run().unwrap(), Turn::Gate);
    let Turn::Fault(raw) = vm.run().unwrap() else {
        panic!("it wrote its input");
    };
    assert_eq!(raw.address, Some(INPUT));
    assert_eq!(raw.what, "write to read-only memory");
    let mut first = [0; 8];
    file.rewind().unwrap();
    file.read_exact(&mut first).unwrap();
    assert_eq!(f64::from_le_bytes(first), 1.5);
}

#[test]
fn the_read_only_part_cannot_be_written_even_where_the_page_tables_allow_it() {
    let Some(mut vm) =
        microvm("the_read_only_part_cannot_be_written_even_where_the_page_tables_allow_it")
    else {
        return;
    };
    assert_eq!(vm.run().unwrap(), Turn::Gate);
    // Where the function expects its input, it finds its own boot info, writable.
    let boot = vm.layout.span(Part::Boot);
    assert_eq!(boot.offset, Offset(0));
    vm.tables
        .map(
            &vm.memory,
            INPUT,
            Physical(0),
            LARGE_PAGE,
            Rights::UserWrite,
        )
        .unwrap();
    announce(&vm.layout, &vm.memory, PAGE).unwrap();
    let before: u64 = vm.memory.take(boot.offset).unwrap();
    assert_eq!(vm.run().unwrap(), Turn::Gate);
    let Turn::Fault(raw) = vm.run().unwrap() else {
        panic!("it wrote its boot info");
    };
    assert_eq!(raw.what, "write to read-only memory");
    assert_eq!(raw.address, Some(boot.start));
    assert_eq!(vm.memory.take::<u64>(boot.offset).unwrap(), before);
}

#[test]
fn a_processor_without_exception_handlers_ends_as_a_triple_fault() {
    let Some(mut vm) = microvm("a_processor_without_exception_handlers_ends_as_a_triple_fault")
    else {
        return;
    };
    vm.sregs.idt.limit = 0;
    vm.enter_at(GuestAddr(0x40_0000)).unwrap();
    assert_eq!(vm.run().unwrap(), Turn::Gate);
    // Without a batch, the function's next step is a page fault.
    let Turn::Fault(raw) = vm.run().unwrap() else {
        panic!("it went on");
    };
    assert_eq!(raw.what, "triple fault");
}

mod reset;
