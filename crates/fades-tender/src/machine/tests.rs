//! Canaries: a function overflows its stack by one large frame, and everything
//! around the stack is as it was.
#![expect(unsafe_code, reason = "assembles the text of a function")]

use std::arch::global_asm;
use std::mem::offset_of;
use std::os::fd::AsFd;

use fades_abi::boot::BootInfo;
use fades_task::limits::Limits;
use fades_task::message::TemplateRequest;

use super::*;
use crate::address::{GuestAddr, Offset, PAGE};
use crate::assembled::assembled;
use crate::image::{About, Access, Image, Segment};
use crate::layout::{Part, Span};
use crate::probe::run_without_data;
use crate::template;
use crate::watch::Watch;

global_asm!(
    ".pushsection .rodata.fades_overflow, \"a\"",
    ".global fades_overflow",
    ".global fades_overflow_end",
    "fades_overflow:",
    // The first parameter is the size of the frame.
    "mov rax, [rdi + {params}]",
    "sub rsp, [rax]",
    // Fills the frame's lowest page, upwards, then calls as code would.
    "mov rdi, rsp",
    "mov ecx, 512",
    "mov rax, -1",
    "rep stosq",
    "push rax",
    "ud2",
    "fades_overflow_end:",
    ".popsection",
    params = const offset_of!(BootInfo, params),
);

assembled! {
    fn text = fades_overflow .. fades_overflow_end
}

/// Text, and data of two pages.
fn image() -> Image {
    let start = GuestAddr(crate::image::ADDRESSES.start);
    let segment = |at, pages: u64, access, file| Segment {
        start: GuestAddr(start.0 + at),
        length: pages * PAGE,
        access,
        lead: 0,
        file,
    };
    Image {
        about: About {
            name: "overflow".to_owned(),
            stack: 16 * PAGE,
            memory_min: 0,
            checkpoints: false,
        },
        entry: start,
        segments: vec![
            segment(0, 1, Access::Execute, 0..text().len()),
            segment(PAGE, 2, Access::Write, 0..0),
        ],
    }
}

const CANARY: [u8; PAGE as usize] = [0xa5; PAGE as usize];

/// First and last page of every region that the function may write, but for the
/// stack, and of the one that is read-only and empty.
fn cages(layout: &Layout) -> Vec<Offset> {
    let neighbour = |s: &&Span| {
        let quiet = !matches!(s.part, Part::Stack | Part::MonitorStack);
        quiet && s.access == Access::Write || s.part == Part::State
    };
    let pages = |s: &Span| [s.offset, Offset(s.offset.0 + s.length - PAGE)];
    layout
        .spans
        .iter()
        .filter(neighbour)
        .flat_map(pages)
        .collect()
}

fn overflow(isolation: Isolation, frame: u64) {
    let start = run_without_data(Limits {
        time: fades_task::quantity::Duration::from_secs(10),
        ..Limits::default()
    });
    let request = TemplateRequest::of(isolation, &start);
    let params = frame.to_le_bytes().to_vec();
    let template = template::of_image(&image(), text(), &[], &request).unwrap();
    let layout = &template.sheet.layout;
    let class = Class::fitting(layout.needs(), Class::WINDOW_STEP).unwrap();
    let mut machine = Machine::make(isolation, class, 0).unwrap();
    machine.load(&template, &start, params).unwrap();
    let cages = cages(layout);
    assert!(cages.len() >= 10);
    for cage in &cages {
        machine.memory().copy_in(*cage, &CANARY).unwrap();
    }
    let (_open, control) = fades_wire::Channel::pair().unwrap();
    let mut watch = Watch::new(&machine.clocked(), control.as_fd()).unwrap();
    watch.begin(&start.limits);
    let turn = loop {
        match machine.run().unwrap() {
            Turn::Interrupted if watch.expired().is_none() => {}
            turn => break turn,
        }
    };
    let Turn::Fault(raw) = turn else {
        panic!("a frame of {frame} bytes did not fault: {turn:?}");
    };
    let place = layout.place(raw.address.unwrap(), 0);
    assert_eq!(place, "below the stack", "{frame}");
    let mut page = CANARY;
    for cage in &cages {
        machine.memory().copy_out(*cage, &mut page).unwrap();
        assert!(page == CANARY, "a frame of {frame} bytes killed a canary");
    }
}

/// Frames that end just below the stack, and far below it.
const FRAMES: [u64; 6] = [17 << 12, 64 << 10, 1 << 20, 16 << 20, 100 << 20, 250 << 20];

/// A supervisor hears of its child by a signal to its whole process, of which
/// another thread must not take it: as a tender does, it gets a process with one
/// thread, by a fork. That is done where no other test runs: a copy of one that
/// has mapped what it is about to seal would keep it from doing so.
#[test]
fn canaries_outlive_an_overflow_of_the_stack_in_a_process() {
    const ALONE: &str = "FADES_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return overflow_in_a_process();
    }
    let name = "machine::tests::canaries_outlive_an_overflow_of_the_stack_in_a_process";
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let alone = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{output:?}");
}

fn overflow_in_a_process() {
    // SAFETY: the child runs on, and ends, in the branch below.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let all = || {
            FRAMES
                .into_iter()
                .for_each(|f| overflow(Isolation::Process, f))
        };
        let good = std::panic::catch_unwind(all).is_ok();
        // SAFETY: nothing of the test program shall run in the child.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = -1;
    // SAFETY: `status` is written here.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0), "see the child's words above");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn canaries_outlive_an_overflow_of_the_stack_in_a_microvm() {
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("SKIPPED: canaries_outlive_an_overflow_of_the_stack_in_a_microvm: no /dev/kvm");
        return;
    }
    for frame in FRAMES {
        overflow(Isolation::Microvm, frame);
    }
}
