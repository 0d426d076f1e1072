//! Reading a function image: a static ELF file with a FADES note.
//!
//! Nothing of the file is trusted. Every field is checked before it is used,
//! and what is not expected is refused by name. [`Image`] holds only what
//! passed: segments on pages of their own, inside the address range that
//! images may use, an entry point inside the text, and a note for this
//! contract. Start reading at [`Image::parse`].

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::address::{GuestAddr, PAGE};

mod note;

pub(crate) use note::{About, STACK_MAX};

/// Largest image file, bytes.
pub(crate) const FILE_MAX: u64 = 32 << 20;

/// Most bytes of text and constants together.
pub(crate) const READ_ONLY_MAX: u64 = 16 << 20;

/// Addresses that segments may use.
pub(crate) const ADDRESSES: Range<u64> = 0x40_0000..0x4000_0000;

/// Most program headers.
pub(crate) const HEADERS_MAX: u16 = 16;

/// Why a file is not an image that this tender runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("the image ends before its {0}")]
    Truncated(&'static str),
    #[error("the image has {0} bytes, at most {FILE_MAX} are taken")]
    TooLarge(u64),
    #[error("not an ELF file; build the function with `fades build`")]
    NotElf,
    #[error("the image is for 32-bit machines, this host needs 64-bit x86")]
    Not64Bit,
    #[error("the image is big-endian, this host needs little-endian x86-64")]
    BigEndian,
    #[error("the image has ELF version {0}, only 1 exists")]
    ElfVersion(u32),
    #[error("the image is for {0}, this host is x86-64; build the function for this host")]
    Machine(String),
    #[error(
        "the image is {0}, not a static executable at a fixed address; build the function with `fades build`"
    )]
    Kind(&'static str),
    #[error("the image's program headers are malformed: {0}")]
    Headers(&'static str),
    #[error("the image has {0}, which a function cannot have")]
    Unsupported(&'static str),
    #[error("the image has a program header of unknown type {0:#x}")]
    UnknownHeader(u32),
    #[error("segment {at}: {what}")]
    Segment { at: GuestAddr, what: SegmentFault },
    #[error("text and constants take {0} bytes, at most {READ_ONLY_MAX} are taken")]
    ReadOnlyTooLarge(u64),
    #[error("the image has no text")]
    NoText,
    #[error("the entry point {0} lies outside of the text")]
    Entry(GuestAddr),
    #[error(transparent)]
    Note(#[from] note::NoteError),
}

/// What is wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentFault {
    #[error("takes less memory than it has bytes in the file")]
    MemoryShorterThanFile,
    #[error("its bytes lie outside of the file")]
    OutsideFile,
    #[error("its alignment is no power of two")]
    Alignment,
    #[error(
        "lies outside of the addresses {:#x} to {:#x}",
        ADDRESSES.start,
        ADDRESSES.end
    )]
    Address,
    #[error("shares a page with another segment")]
    Overlap,
    #[error("is both writable and executable")]
    WritableText,
    #[error("cannot be read")]
    Unreadable,
    #[error("has access flags {0:#x}, of which some are unknown")]
    Flags(u32),
    #[error("is read-only and has zero-initialised memory")]
    ZeroedReadOnly,
}

/// What a function may do with a span of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Access {
    /// Constants.
    Read,
    /// Text.
    Execute,
    /// Data, heap, stack.
    Write,
}

/// A span of the image, rounded out to whole pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First page.
    pub(crate) start: GuestAddr,
    /// A multiple of the page size, bytes.
    pub(crate) length: u64,
    /// What the function may do there.
    pub(crate) access: Access,
    /// Distance of the first byte of the file from `start`.
    pub(crate) lead: u64,
    /// Where in the file the bytes are; what follows them in memory is zero.
    pub(crate) file: Range<usize>,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.start.0 + self.length
    }
}

/// An image that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What the image says of itself.
    pub(crate) about: About,
    /// Where it starts.
    pub(crate) entry: GuestAddr,
    /// Its segments, by ascending address, no two on one page.
    pub(crate) segments: Vec<Segment>,
}

#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
struct FileHeader {
    magic: [u8; 4],
    class: u8,
    data: u8,
    ident_version: u8,
    os: [u8; 9],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    program_headers: U64,
    section_headers: U64,
    flags: U32,
    header_size: U16,
    program_header_size: U16,
    program_header_count: U16,
    section: [U16; 3],
}

#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    address: U64,
    physical: U64,
    file_size: U64,
    memory_size: U64,
    align: U64,
}

const _: () = {
    assert!(size_of::<FileHeader>() == 64);
    assert!(size_of::<ProgramHeader>() == 56);
};

impl Image {
    /// Checks `file` and says what is in it.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, ImageError> {
        if file.len() as u64 > FILE_MAX {
            return Err(ImageError::TooLarge(file.len() as u64));
        }
        let header = file_header(file)?;
        let mut segments = Vec::new();
        let mut notes = Vec::new();
        for program_header in program_headers(file, header)? {
            match program_header.kind.get() {
                1 => segments.extend(segment(file, program_header)?),
                2 => return Err(ImageError::Unsupported("a dynamic section")),
                3 => return Err(ImageError::Unsupported("an interpreter")),
                4 => notes.push(bytes_of(file, program_header)?),
                7 => return Err(ImageError::Unsupported("thread-local storage")),
                // The null header and the table's own location say nothing.
                0 | 6 => {}
                // GNU_STACK: the stack is never executable here, whatever it says,
                // but an image that needs one would not work.
                0x6474_e551 if program_header.flags.get() & EXECUTE != 0 => {
                    return Err(ImageError::Unsupported("an executable stack"));
                }
                // GNU_STACK, GNU_EH_FRAME, GNU_RELRO, GNU_PROPERTY.
                0x6474_e550..=0x6474_e553 => {}
                kind => return Err(ImageError::UnknownHeader(kind)),
            }
        }
        let segments = apart(segments)?;
        let entry = GuestAddr(header.entry.get());
        check_text(&segments, entry)?;
        let about = note::find(&notes)?;
        Ok(Self {
            about,
            entry,
            segments,
        })
    }
}

const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

fn file_header(file: &[u8]) -> Result<&FileHeader, ImageError> {
    if !file.starts_with(b"\x7fELF") {
        return Err(ImageError::NotElf);
    }
    let (header, _) =
        FileHeader::ref_from_prefix(file).map_err(|_| ImageError::Truncated("file header"))?;
    match (header.class, header.data) {
        (1, _) => return Err(ImageError::Not64Bit),
        (2, 1) => {}
        (2, 2) => return Err(ImageError::BigEndian),
        _ => return Err(ImageError::NotElf),
    }
    if header.machine.get() != 62 {
        return Err(ImageError::Machine(machine(header.machine.get())));
    }
    for version in [u32::from(header.ident_version), header.version.get()] {
        if version != 1 {
            return Err(ImageError::ElfVersion(version));
        }
    }
    match header.kind.get() {
        2 => Ok(header),
        1 => Err(ImageError::Kind("an object file")),
        3 => Err(ImageError::Kind(
            "a shared library or a position-independent program",
        )),
        4 => Err(ImageError::Kind("a core dump")),
        _ => Err(ImageError::Kind("of unknown type")),
    }
}

fn machine(number: u16) -> String {
    let name = match number {
        3 => "32-bit x86",
        8 => "MIPS",
        20 => "32-bit PowerPC",
        21 => "64-bit PowerPC",
        22 => "S390",
        40 => "32-bit Arm",
        183 => "AArch64",
        243 => "RISC-V",
        247 => "BPF",
        258 => "LoongArch",
        _ => return format!("machine type {number}"),
    };
    name.to_owned()
}

fn program_headers<'f>(
    file: &'f [u8],
    header: &FileHeader,
) -> Result<&'f [ProgramHeader], ImageError> {
    let count = header.program_header_count.get();
    if usize::from(header.program_header_size.get()) != size_of::<ProgramHeader>() {
        return Err(ImageError::Headers("their size is not 56"));
    }
    if count == 0 || count > HEADERS_MAX {
        return Err(ImageError::Headers("there are none, or more than 16"));
    }
    let rest = usize::try_from(header.program_headers.get())
        .ok()
        .and_then(|offset| file.get(offset..))
        .ok_or(ImageError::Truncated("program headers"))?;
    let (table, _) = <[ProgramHeader]>::ref_from_prefix_with_elems(rest, count.into())
        .map_err(|_| ImageError::Truncated("program headers"))?;
    Ok(table)
}

/// Where in the file a program header's bytes are; where there are none, their
/// offset means nothing.
fn range_of(file: &[u8], header: &ProgramHeader) -> Option<Range<usize>> {
    if header.file_size.get() == 0 {
        return Some(0..0);
    }
    let start = usize::try_from(header.offset.get()).ok()?;
    let end = start.checked_add(usize::try_from(header.file_size.get()).ok()?)?;
    (end <= file.len()).then_some(start..end)
}

fn bytes_of<'f>(file: &'f [u8], header: &ProgramHeader) -> Result<&'f [u8], ImageError> {
    let range = range_of(file, header).ok_or(ImageError::Truncated("notes"))?;
    Ok(&file[range])
}

/// The segment that a header describes; none when it is empty.
fn segment(file: &[u8], header: &ProgramHeader) -> Result<Option<Segment>, ImageError> {
    let address = header.address.get();
    let wrong = |what| ImageError::Segment {
        at: GuestAddr(address),
        what,
    };
    let (in_file, in_memory) = (header.file_size.get(), header.memory_size.get());
    if in_memory < in_file {
        return Err(wrong(SegmentFault::MemoryShorterThanFile));
    }
    if in_memory == 0 {
        return Ok(None);
    }
    let align = header.align.get();
    if align != 0 && !align.is_power_of_two() {
        return Err(wrong(SegmentFault::Alignment));
    }
    let file = range_of(file, header).ok_or(wrong(SegmentFault::OutsideFile))?;
    let inside = |end: &u64| address >= ADDRESSES.start && *end <= ADDRESSES.end;
    let end = address
        .checked_add(in_memory)
        .filter(inside)
        .ok_or(wrong(SegmentFault::Address))?;
    let access = access(header.flags.get()).map_err(wrong)?;
    if access != Access::Write && in_memory != in_file {
        return Err(wrong(SegmentFault::ZeroedReadOnly));
    }
    let start = address - address % PAGE;
    Ok(Some(Segment {
        start: GuestAddr(start),
        length: end.next_multiple_of(PAGE) - start,
        access,
        lead: address % PAGE,
        file,
    }))
}

fn access(flags: u32) -> Result<Access, SegmentFault> {
    if flags & !(READ | WRITE | EXECUTE) != 0 {
        return Err(SegmentFault::Flags(flags));
    }
    if flags & READ == 0 {
        return Err(SegmentFault::Unreadable);
    }
    match (flags & WRITE != 0, flags & EXECUTE != 0) {
        (true, true) => Err(SegmentFault::WritableText),
        (true, false) => Ok(Access::Write),
        (false, true) => Ok(Access::Execute),
        (false, false) => Ok(Access::Read),
    }
}

/// Sorts segments and makes sure that no two of them share a page.
fn apart(mut segments: Vec<Segment>) -> Result<Vec<Segment>, ImageError> {
    segments.sort_by_key(|s| s.start);
    for pair in segments.windows(2) {
        if pair[0].end() > pair[1].start.0 {
            return Err(ImageError::Segment {
                at: pair[1].start,
                what: SegmentFault::Overlap,
            });
        }
    }
    Ok(segments)
}

fn check_text(segments: &[Segment], entry: GuestAddr) -> Result<(), ImageError> {
    let read_only = segments.iter().filter(|s| s.access != Access::Write);
    let total: u64 = read_only.map(|s| s.length).sum();
    if total > READ_ONLY_MAX {
        return Err(ImageError::ReadOnlyTooLarge(total));
    }
    let mut text = segments
        .iter()
        .filter(|s| s.access == Access::Execute)
        .peekable();
    if text.peek().is_none() {
        return Err(ImageError::NoText);
    }
    let holds_entry = |s: &Segment| {
        let first = s.start.0 + s.lead;
        (first..first + s.file.len() as u64).contains(&entry.0)
    };
    if text.any(holds_entry) {
        Ok(())
    } else {
        Err(ImageError::Entry(entry))
    }
}

#[cfg(test)]
pub(crate) mod tests;
