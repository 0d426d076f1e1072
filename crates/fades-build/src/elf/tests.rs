use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// A function that needs no SDK, so that the linker script and this module are
/// tested with nothing else in between.
const SOURCE: &str = r#"
#![no_std]
#![no_main]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }

#[repr(C, align(4))]
struct Note([u32; 3], [u8; 8], [u8; 64]);
const fn note() -> Note {
    let mut d = [0; 64];
    d[0] = MAJOR;
    d[4] = 1;
    d[9] = 1 << 4;
    let name = *b"tiny";
    let mut i = 0;
    while i < 4 { d[32 + i] = name[i]; i += 1; }
    Note([6, 64, 1], *b"FADES\0\0\0", d)
}
#[used]
#[unsafe(link_section = "NOTE_SECTION")]
static NOTE: Note = note();
static mut STATE: [u64; 4] = [1; 4];
static mut ZEROES: [u64; 4096] = [0; 4096];
const MAJOR: u8 = 1;

#[unsafe(no_mangle)]
extern "sysv64" fn _start(n: usize) -> ! {
    let zero = unsafe { (&raw const ZEROES[n & 4095]).read_volatile() };
    unsafe { (&raw mut STATE[n & 3]).write_volatile(zero + named(n)) };
    loop {}
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn named(n: usize) -> u64 {
    unsafe { core::arch::x86_64::_rdtsc() + n as u64 }
}
"#;

fn link(source: &str, folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let (code, script) = (folder.join("tiny.rs"), folder.join("image.ld"));
    let program = folder.join("tiny");
    fs::write(&code, source.replace("NOTE_SECTION", ".note.fades")).unwrap();
    fs::write(&script, crate::SCRIPT).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-Copt-level=2", "-Cpanic=abort", "-o"]);
    rustc.arg(&program).arg(&code);
    for argument in crate::ARGUMENTS.iter().chain(arguments) {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    rustc.arg(format!("-Clink-arg=-Wl,-T,{}", script.display()));
    assert!(rustc.status().unwrap().success());
    fs::read(program).unwrap()
}

fn tiny() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    link(SOURCE, folder.path(), &[])
}

#[test]
fn an_image_has_its_segments_and_nothing_else() {
    let elf = tiny();
    let built = image_from_elf(&elf).unwrap();
    assert_eq!(built.name, "tiny");
    assert_eq!(built.note.stack.get(), 4096);
    assert!(built.image.len() < elf.len());
    let header = Header::parse(&*built.image).unwrap();
    assert_eq!(header.e_shoff.get(LittleEndian), 0);
    let segments = header.program_headers(LittleEndian, &*built.image).unwrap();
    let rights: Vec<_> = segments
        .iter()
        .filter(|s| s.p_type.get(LittleEndian) == PT_LOAD)
        .map(|s| s.p_flags.get(LittleEndian).0)
        .collect();
    assert_eq!(rights, [4, 5, 6], "constants, text, data");
    let data = segments
        .iter()
        .rfind(|s| s.p_type.get(LittleEndian) == PT_LOAD);
    let data = data.unwrap();
    assert!(data.p_memsz.get(LittleEndian) > data.p_filesz.get(LittleEndian) + 4096 * 8 - 1);
    // What was made is taken again, and comes out the same.
    let again = image_from_elf(&built.image);
    assert_eq!(again.map(|b| b.image).unwrap(), built.image);
}

#[test]
fn symbols_name_the_image_and_the_functions() {
    let built = image_from_elf(&tiny()).unwrap();
    let file = built.symbol_file();
    let mut lines = file.lines();
    assert_eq!(lines.next().unwrap(), format!("sha256:{}", built.sha256));
    let named = lines.find(|line| line.ends_with(" named")).unwrap();
    let symbol = built.symbols.iter().find(|s| s.name == "named").unwrap();
    assert_eq!(
        named,
        format!("{:x} {:x} named", symbol.address, symbol.size)
    );
    assert!(symbol.size > 0);
}

#[test]
fn reading_the_time_is_warned_of_by_function_and_address() {
    let built = image_from_elf(&tiny()).unwrap();
    let [warning] = &built.warnings[..] else {
        panic!("{:?}", built.warnings);
    };
    assert_eq!(
        (&*warning.function, warning.instruction),
        ("named", "rdtsc")
    );
    assert!(warning.to_string().contains("which reads the time"));
}

#[test]
fn the_other_linker_makes_an_image_too() {
    let folder = tempfile::tempdir().unwrap();
    let elf = link(SOURCE, folder.path(), &["-fuse-ld=bfd"]);
    assert_eq!(image_from_elf(&elf).unwrap().name, "tiny");
}

#[test]
fn a_segment_without_bytes_is_left_out_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let stateless = SOURCE.replace("write_volatile", "eq(&core::ptr::null_mut()).then_some");
    let stateless = stateless.replace("(&raw const ZEROES[n & 4095]).read_volatile()", "0");
    let elf = link(&stateless, folder.path(), &["-fuse-ld=bfd"]);
    let image = image_from_elf(&elf).unwrap().image;
    let header = Header::parse(&*image).unwrap();
    let segments = header.program_headers(LittleEndian, &*image).unwrap();
    let loaded = segments
        .iter()
        .filter(|s| s.p_type.get(LittleEndian) == PT_LOAD);
    assert_eq!(loaded.count(), 2);
}

#[test]
fn an_ordinary_program_is_refused_with_the_remedy() {
    let program = std::env::current_exe().unwrap();
    let error = image_from_elf(&fs::read(program).unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("fades_build::image()"),
        "{error}"
    );
}

#[test]
fn a_program_without_or_with_another_note_is_refused() {
    let error = |source: &str| {
        let folder = tempfile::tempdir().unwrap();
        image_from_elf(&link(source, folder.path(), &[])).unwrap_err()
    };
    let none = SOURCE.replace("*b\"FADES", "*b\"OTHER");
    assert!(matches!(error(&none), ImageError::NoNote));
    let other = SOURCE.replace("MAJOR: u8 = 1", "MAJOR: u8 = 9");
    assert!(matches!(error(&other), ImageError::Version { major: 9 }));
    let named = SOURCE.replace("*b\"tiny\"", "*b\"../x\"");
    assert!(matches!(error(&named), ImageError::Note(_)));
}

/// The built image with `bytes` written at `at`.
fn broken(at: usize, bytes: &[u8]) -> ImageError {
    let mut elf = tiny();
    elf[at..at + bytes.len()].copy_from_slice(bytes);
    image_from_elf(&elf).unwrap_err()
}

#[test]
fn headers_that_break_a_rule_are_refused() {
    /// Offset of the program header with index `i`.
    const fn segment(i: usize) -> usize {
        64 + i * 56
    }
    // Headers: note, constants, text, data, stack.
    assert!(matches!(broken(18, &[183, 0]), ImageError::Machine(183)));
    assert!(matches!(broken(16, &[3, 0]), ImageError::NotStatic { .. }));
    assert!(matches!(broken(24, &[0; 8]), ImageError::Entry(0)));
    let writable_text = broken(segment(2) + 4, &[7]);
    assert!(
        writable_text
            .to_string()
            .contains("writable and executable")
    );
    let askew = broken(segment(2) + 16, &[8]);
    assert!(askew.to_string().contains("does not begin at a page"));
    let first = 0x40_0000_u64.to_le_bytes();
    assert!(
        broken(segment(2) + 16, &first)
            .to_string()
            .contains("shares a page")
    );
    let outside = broken(segment(2) + 8, &u64::MAX.to_le_bytes());
    assert!(outside.to_string().contains("outside of the file"));
    let short = broken(segment(3) + 40, &1_u64.to_le_bytes());
    assert!(short.to_string().contains("longer in the file"));
    let endless = broken(segment(3) + 40, &u64::MAX.to_le_bytes());
    assert!(endless.to_string().contains("address space"));
    for (kind, what) in [(2, "dynamic"), (3, "interpreter"), (7, "thread-local")] {
        assert!(
            broken(segment(4), &[kind, 0, 0, 0])
                .to_string()
                .contains(what)
        );
    }
    assert!(matches!(
        image_from_elf(b"#!/bin/sh"),
        Err(ImageError::Elf(_))
    ));
}
