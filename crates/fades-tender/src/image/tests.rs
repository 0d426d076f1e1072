//! A sample image made by hand, and everything that is refused about it.

use super::*;
use fades_abi::note::{ElfNote, ImageNote};

/// Where parts of the sample lie in the file.
const HEADERS: usize = 64;
const NOTE: usize = 64 + 5 * 56;
const TEXT: usize = NOTE + 84;
const TEXT_LENGTH: usize = 64;

fn header(kind: u32, flags: u32, offset: usize, address: u64, file: u64, memory: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    for word in [offset as u64, address, address, file, memory, 16] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// The note as bytes.
fn note(note: ImageNote) -> Vec<u8> {
    use zerocopy::IntoBytes;
    // `ElfNote` keeps its fields to itself; they are written out here as a
    // reader of ELF notes sees them.
    let _ = ElfNote::new(note);
    let mut bytes = Vec::new();
    for word in [6_u32, 64, 1] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"FADES\0\0\0");
    bytes.extend(note.as_bytes());
    bytes
}

/// A small image that passes every check.
pub(crate) fn sample() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0x40_1000, HEADERS as u64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 5, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let (text, length) = (TEXT, TEXT_LENGTH as u64);
    file.extend(header(4, 4, NOTE, 0x40_0158, 84, 84));
    file.extend(header(1, 4, 0, 0x40_0000, TEXT as u64, TEXT as u64));
    file.extend(header(1, 5, text, 0x40_1000, length, length));
    file.extend(header(1, 6, text, 0x40_2008, 8, 0x2000));
    file.extend(header(0x6474_e551, 6, 0, 0, 0, 0));
    assert_eq!(file.len(), NOTE);
    file.extend(note(ImageNote::new("sample", 0x1_0000, 0, 0)));
    assert_eq!(file.len(), TEXT);
    file.resize(TEXT + TEXT_LENGTH, 0x90);
    file
}

/// The sample with some bytes replaced.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = sample();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// The sample with a field of program header `index` replaced; fields are
/// counted in words of 8 bytes.
fn with_field(index: usize, field: usize, value: u64) -> Vec<u8> {
    with(HEADERS + index * 56 + field * 8, &value.to_le_bytes())
}

fn refusal(file: &[u8]) -> ImageError {
    Image::parse(file).unwrap_err()
}

fn segment_fault(file: &[u8]) -> SegmentFault {
    match refusal(file) {
        ImageError::Segment { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn the_sample_is_read_as_it_was_written() {
    let image = Image::parse(&sample()).unwrap();
    assert_eq!(image.entry, GuestAddr(0x40_1000));
    assert_eq!(
        (image.about.name.as_str(), image.about.stack),
        ("sample", 0x1_0000)
    );
    let summary: Vec<_> = image
        .segments
        .iter()
        .map(|s| (s.start.0, s.length, s.access, s.lead))
        .collect();
    assert_eq!(
        summary,
        [
            (0x40_0000, PAGE, Access::Read, 0),
            (0x40_1000, PAGE, Access::Execute, 0),
            // Bytes 8 to 0x2008 of three pages.
            (0x40_2000, 3 * PAGE, Access::Write, 8),
        ]
    );
}

#[test]
fn another_kind_of_file_is_refused_by_name() {
    assert_eq!(refusal(b""), ImageError::NotElf);
    assert_eq!(refusal(b"#!/bin/sh"), ImageError::NotElf);
    assert_eq!(refusal(&with(4, &[1])), ImageError::Not64Bit);
    assert_eq!(refusal(&with(5, &[2])), ImageError::BigEndian);
    assert_eq!(refusal(&with(4, &[9])), ImageError::NotElf);
    assert_eq!(refusal(&with(6, &[2])), ImageError::ElfVersion(2));
    for (machine, name) in [(183_u16, "AArch64"), (243, "RISC-V"), (3, "32-bit x86")] {
        let said = refusal(&with(18, &machine.to_le_bytes())).to_string();
        assert!(said.contains(name), "{said}");
    }
    assert!(
        refusal(&with(18, &[99, 0]))
            .to_string()
            .contains("machine type 99")
    );
    for kind in [0_u8, 1, 3, 4, 9] {
        assert!(matches!(refusal(&with(16, &[kind])), ImageError::Kind(_)));
    }
    let large = vec![0; FILE_MAX as usize + 1];
    assert_eq!(refusal(&large), ImageError::TooLarge(FILE_MAX + 1));
}

#[test]
fn an_image_that_was_cut_off_anywhere_is_refused() {
    let whole = sample();
    for length in 0..whole.len() {
        Image::parse(&whole[..length]).unwrap_err();
    }
}

#[test]
fn program_headers_must_be_whole_and_few() {
    for (at, value) in [(54, 55_u16), (56, 0), (56, 17)] {
        let file = with(at, &value.to_le_bytes());
        assert!(matches!(refusal(&file), ImageError::Headers(_)));
    }
    for offset in [u64::MAX, 1 << 40, sample().len() as u64 - 56] {
        let file = with(32, &offset.to_le_bytes());
        assert_eq!(refusal(&file), ImageError::Truncated("program headers"));
    }
}

#[test]
fn what_needs_a_loader_or_threads_is_refused_by_name() {
    for (kind, name) in [(2_u32, "dynamic"), (3, "interpreter"), (7, "thread-local")] {
        let said = refusal(&with(HEADERS + 4 * 56, &kind.to_le_bytes())).to_string();
        assert!(said.contains(name), "{said}");
    }
    let unknown = with(HEADERS + 4 * 56, &0x7000_0001_u32.to_le_bytes());
    assert_eq!(refusal(&unknown), ImageError::UnknownHeader(0x7000_0001));
    let executable = with(HEADERS + 4 * 56 + 4, &7_u32.to_le_bytes());
    assert!(
        refusal(&executable)
            .to_string()
            .contains("executable stack")
    );
}

#[test]
fn hostile_segments_are_refused_by_name() {
    const OFFSET: usize = 1;
    const ADDRESS: usize = 2;
    const FILE: usize = 4;
    const MEMORY: usize = 5;
    const ALIGN: usize = 6;
    for (file, fault) in [
        (
            with_field(3, MEMORY, 7),
            SegmentFault::MemoryShorterThanFile,
        ),
        (with_field(3, OFFSET, u64::MAX), SegmentFault::OutsideFile),
        (
            with_field(3, OFFSET, sample().len() as u64 - 7),
            SegmentFault::OutsideFile,
        ),
        (with_field(3, ALIGN, 24), SegmentFault::Alignment),
        (with_field(3, ADDRESS, 0x3f_ffff), SegmentFault::Address),
        (with_field(3, ADDRESS, u64::MAX - 8), SegmentFault::Address),
        (
            with_field(3, ADDRESS, ADDRESSES.end - 8),
            SegmentFault::Address,
        ),
        (with_field(3, MEMORY, 1 << 40), SegmentFault::Address),
        (with_field(3, MEMORY, u64::MAX), SegmentFault::Address),
        (with_field(3, ADDRESS, 0x40_1ff8), SegmentFault::Overlap),
        (with_field(3, ADDRESS, 0x40_0000), SegmentFault::Overlap),
        (with_field(1, MEMORY, 0x800), SegmentFault::ZeroedReadOnly),
    ] {
        assert_eq!(segment_fault(&file), fault);
    }
    let larger_in_file = with_field(3, FILE, u64::MAX);
    assert_eq!(
        segment_fault(&larger_in_file),
        SegmentFault::MemoryShorterThanFile
    );
    for (flags, fault) in [
        (7_u32, SegmentFault::WritableText),
        (3, SegmentFault::Unreadable),
        (2, SegmentFault::Unreadable),
        (0x10_0005, SegmentFault::Flags(0x10_0005)),
    ] {
        let file = with(HEADERS + 2 * 56 + 4, &flags.to_le_bytes());
        assert_eq!(segment_fault(&file), fault);
    }
}

#[test]
fn a_segment_without_bytes_in_the_file_may_point_anywhere() {
    let mut file = with_field(3, 4, 0);
    file[HEADERS + 3 * 56 + 8..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.segments[2].file, 0..0);
}

#[test]
fn text_and_constants_are_bounded() {
    // Both 16 MiB of file at once need a file that large.
    let mut file = with_field(2, 4, READ_ONLY_MAX);
    file[HEADERS + 2 * 56 + 40..][..8].copy_from_slice(&READ_ONLY_MAX.to_le_bytes());
    file.resize(TEXT + READ_ONLY_MAX as usize, 0x90);
    file[HEADERS + 3 * 56 + 16..][..8].copy_from_slice(&0x2000_0000_u64.to_le_bytes());
    assert!(matches!(refusal(&file), ImageError::ReadOnlyTooLarge(_)));
}

#[test]
fn the_entry_point_must_lie_in_text_that_the_file_has() {
    for entry in [
        0_u64,
        0x40_0000,
        0x40_0fff,
        0x40_1000 + TEXT_LENGTH as u64,
        0x40_2008,
    ] {
        let file = with(24, &entry.to_le_bytes());
        assert_eq!(refusal(&file), ImageError::Entry(GuestAddr(entry)));
    }
    let no_text = with(HEADERS + 2 * 56 + 4, &4_u32.to_le_bytes());
    assert_eq!(refusal(&no_text), ImageError::NoText);
}

/// The sample with its note replaced.
fn noted(change: impl FnOnce(&mut ImageNote)) -> NoteOr {
    let mut description = ImageNote::new("sample", 0x1_0000, 0, 0);
    change(&mut description);
    match Image::parse(&with(NOTE, &note(description))) {
        Err(ImageError::Note(error)) => NoteOr::Refused(error),
        other => NoteOr::Else(other.map(|i| i.about.name)),
    }
}

#[derive(Debug, PartialEq)]
enum NoteOr {
    Refused(note::NoteError),
    Else(Result<String, ImageError>),
}

#[test]
fn the_note_must_be_for_this_contract() {
    use note::NoteError;
    let refused = NoteOr::Refused;
    assert_eq!(noted(|_| {}), NoteOr::Else(Ok("sample".to_owned())));
    assert_eq!(
        noted(|n| n.abi_major = 2.into()),
        refused(NoteError::Version(2, 0))
    );
    assert_eq!(
        noted(|n| n.abi_minor = 9.into()),
        refused(NoteError::Version(1, 9))
    );
    assert_eq!(
        noted(|n| n.format = 7.into()),
        refused(NoteError::Format(7))
    );
    assert_eq!(noted(|n| n.flags = 6.into()), refused(NoteError::Flags(6)));
    assert_eq!(
        noted(|n| n.reserved = 1.into()),
        refused(NoteError::Malformed)
    );
    for stack in [0, 1, 4095, STACK_MAX + PAGE, u64::MAX - 4095] {
        assert_eq!(
            noted(|n| n.stack = stack.into()),
            refused(NoteError::Stack(stack))
        );
    }
    for name in [&b"\0"[..], b"a\x1b", b"\xff", b"a b"] {
        let named = noted(|n| {
            n.name = [0; 32];
            n.name[..name.len()].copy_from_slice(name);
        });
        assert_eq!(named, refused(NoteError::Name));
    }
}

#[test]
fn there_must_be_exactly_one_note() {
    use note::NoteError;
    let gone = with(NOTE + 12, b"OTHER");
    assert_eq!(refusal(&gone), NoteError::Missing.into());
    let other_kind = with(NOTE + 8, &[2]);
    assert_eq!(refusal(&other_kind), NoteError::Missing.into());
    let none = with(HEADERS, &6_u32.to_le_bytes());
    assert_eq!(refusal(&none), NoteError::Missing.into());
    // A second header that shows the same note.
    let mut twice = sample();
    twice.copy_within(HEADERS..HEADERS + 56, HEADERS + 4 * 56);
    assert_eq!(refusal(&twice), NoteError::Several.into());
    for (at, value) in [(0_usize, u32::MAX), (4, u32::MAX), (4, 65), (0, 80)] {
        let broken = with(NOTE + at, &value.to_le_bytes());
        assert_eq!(
            refusal(&broken),
            NoteError::Malformed.into(),
            "{at} {value}"
        );
    }
}

/// Numbers that mean something to a loader.
const TELLING: [u64; 12] = [
    0,
    1,
    7,
    0xfff,
    0x1000,
    0x40_0000,
    0x40_2000,
    0x4000_0000,
    u32::MAX as u64,
    1 << 63,
    u64::MAX - 0xfff,
    u64::MAX,
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]

    /// Whatever is done to an image: it is refused, or what is read from it
    /// keeps the promises that the rest of the tender builds on.
    #[test]
    fn a_damaged_image_is_refused_or_harmless(
        changes in proptest::collection::vec(
            (0_usize..TEXT + TEXT_LENGTH, 0_usize..TELLING.len(), 1_usize..=8), 1..4
        ),
        cut in 0_usize..400,
    ) {
        let mut file = sample();
        for (at, value, width) in changes {
            let end = (at + width).min(file.len());
            file[at..end].copy_from_slice(&TELLING[value].to_le_bytes()[..end - at]);
        }
        file.truncate(file.len() - cut.saturating_sub(350));
        if let Ok(image) = Image::parse(&file) {
            keeps_its_promises(&image, &file);
        }
    }
}

fn keeps_its_promises(image: &Image, file: &[u8]) {
    let mut next = ADDRESSES.start;
    for segment in &image.segments {
        assert!(segment.start.0 >= next && segment.start.0.is_multiple_of(PAGE));
        assert!(segment.length > 0 && segment.length.is_multiple_of(PAGE));
        assert!(segment.lead + segment.file.len() as u64 <= segment.length);
        assert!(segment.file.end <= file.len());
        next = segment.end();
    }
    assert!(next <= ADDRESSES.end);
    let mut text = image
        .segments
        .iter()
        .filter(|s| s.access == Access::Execute);
    assert!(text.any(|s| (s.start.0..s.end()).contains(&image.entry.0)));
    assert!(image.about.stack.is_multiple_of(PAGE));
}

/// The property above is worth little if nearly all inputs fail the first
/// check: most get past it, and a good part is accepted.
#[test]
fn damaged_images_reach_all_checks() {
    let mut reached = std::collections::BTreeMap::<&str, u32>::new();
    let mut all = 0;
    for at in (0..TEXT).step_by(2) {
        for value in TELLING {
            let mut file = sample();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let result = match Image::parse(&file) {
                Ok(_) => "accepted",
                Err(ImageError::NotElf | ImageError::Not64Bit | ImageError::BigEndian) => "magic",
                Err(ImageError::Segment { .. }) => "segment",
                Err(ImageError::Note(_)) => "note",
                Err(_) => "header",
            };
            *reached.entry(result).or_default() += 1;
            all += 1;
        }
    }
    let past = all - reached["magic"];
    assert!(
        past * 100 >= all * 90,
        "{past} of {all} get past the first check: {reached:?}"
    );
    for stage in ["accepted", "segment", "note", "header"] {
        assert!(reached[stage] * 100 >= all, "{reached:?}");
    }
}
