//! From a linked program to an image: checked, stripped, the same bytes for
//! the same program.

use std::fmt;

use fades_abi::ABI_MAJOR;
use fades_abi::note::{FORMAT_FADES_ELF, ImageNote, NOTE_NAME, NOTE_TYPE};
use object::LittleEndian;
use object::elf::{
    EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS,
    ProgramHeader64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use sha2::{Digest, Sha256};
use zerocopy::FromBytes;

use crate::instructions::{self, Irreproducible};
use crate::symbols::{self, Symbol};

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// A segment holds at most one page boundary's worth of rights.
const PAGE: u64 = 4096;

/// Bytes of a file header and of a program header.
const HEADER: usize = size_of::<Header>();
const SEGMENT: usize = size_of::<Segment>();

/// A function image, and what belongs beside it.
#[derive(Debug, Clone)]
pub struct Built {
    /// Name of the function, from its note.
    pub name: String,
    /// The file that is signed, published and run.
    pub image: Vec<u8>,
    /// SHA-256 of the image, in hexadecimal.
    pub sha256: String,
    /// What the image says of itself.
    pub note: ImageNote,
    /// Names of addresses, ascending.
    pub symbols: Vec<Symbol>,
    /// Instructions whose results differ from run to run or host to host.
    pub warnings: Vec<Irreproducible>,
}

impl Built {
    /// The symbol file: the image that it belongs to, then one line a symbol.
    #[must_use]
    pub fn symbol_file(&self) -> String {
        let mut file = format!("sha256:{}\n", self.sha256);
        for symbol in &self.symbols {
            file.push_str(&symbol.to_string());
            file.push('\n');
        }
        file
    }
}

/// Why a program cannot be a function image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not an ELF file that can be read.
    #[error("not a program for x86-64")]
    Elf(#[from] object::read::Error),
    /// For another machine.
    #[error("built for ELF machine {0}: a function is built for x86-64 (machine 62)")]
    Machine(u16),
    /// Needs a loader.
    #[error(
        "{what} is left in the program: its package needs a build.rs that calls \
         fades_build::image(), and must not be built together with tests"
    )]
    NotStatic {
        /// What a static image has not.
        what: &'static str,
    },
    /// A segment breaks the rules for images.
    #[error("the segment at {address:#x} {what}")]
    Segment {
        /// Where it lies in memory.
        address: u64,
        /// The rule that it breaks.
        what: &'static str,
    },
    /// The entry point lies outside of the text.
    #[error("the entry point {0:#x} lies outside of the text")]
    Entry(u64),
    /// There is no FADES note.
    #[error("the program has no FADES note: name the function with `function!(Type)`")]
    NoNote,
    /// The note is for another version of the contract.
    #[error(
        "built for version {major} of the contract, this `fades` knows {ABI_MAJOR}: \
         use the SDK that belongs to it"
    )]
    Version {
        /// The version in the note.
        major: u16,
    },
    /// The note cannot be understood.
    #[error("the FADES note is malformed: {0}")]
    Note(&'static str),
}

/// Makes an image of a program that was linked as [`image`](crate::image)
/// tells the linker to.
///
/// # Errors
/// When the program breaks a rule that a host would refuse it for.
pub fn image_from_elf(elf: &[u8]) -> Result<Built, ImageError> {
    let header = Header::parse(elf)?;
    let endian = header.endian()?;
    let machine = header.e_machine.get(endian);
    if machine != EM_X86_64 {
        return Err(ImageError::Machine(machine.0));
    }
    if header.e_type.get(endian) != ET_EXEC {
        return Err(not_static("a relocation table"));
    }
    let segments = header.program_headers(endian, elf)?;
    check_segments(segments, elf)?;
    check_entry(header.e_entry.get(endian), segments)?;
    let note = find_note(segments, elf)?;
    let symbols = symbols::of(elf)?;
    let image = strip(header, segments, elf);
    Ok(Built {
        name: checked_name(&note)?,
        sha256: hexadecimal(&Sha256::digest(&image)),
        warnings: instructions::irreproducible(&symbols, &texts(segments, elf)),
        image,
        note,
        symbols,
    })
}

const fn not_static(what: &'static str) -> ImageError {
    ImageError::NotStatic { what }
}

fn check_segments(segments: &[Segment], elf: &[u8]) -> Result<(), ImageError> {
    let mut free_from = 0;
    for segment in segments {
        match segment.p_type.get(LittleEndian) {
            PT_INTERP => return Err(not_static("an interpreter")),
            PT_DYNAMIC => return Err(not_static("a dynamic section")),
            PT_TLS => return Err(not_static("thread-local storage")),
            PT_LOAD if !is_empty(segment) => free_from = check_segment(segment, elf, free_from)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks a segment that is loaded; returns the first page behind it.
fn check_segment(segment: &Segment, elf: &[u8], free_from: u64) -> Result<u64, ImageError> {
    let address = segment.p_vaddr.get(LittleEndian);
    let wrong = |what| Err(ImageError::Segment { address, what });
    let flags = segment.p_flags.get(LittleEndian);
    let memory = segment.p_memsz.get(LittleEndian);
    if flags.contains(PF_W | PF_X) {
        return wrong("is writable and executable");
    }
    if !address.is_multiple_of(PAGE) {
        return wrong("does not begin at a page");
    }
    if address < free_from {
        return wrong("shares a page with the one before it");
    }
    if segment.data(LittleEndian, elf).is_err() {
        return wrong("lies outside of the file");
    }
    if segment.p_filesz.get(LittleEndian) > memory {
        return wrong("is longer in the file than in memory");
    }
    let end = address
        .checked_add(memory)
        .map(|end| end.next_multiple_of(PAGE));
    end.map_or_else(|| wrong("does not fit the address space"), Ok)
}

/// Some linkers keep the header of a segment that has no content.
fn is_empty(segment: &Segment) -> bool {
    segment.p_type.get(LittleEndian) == PT_LOAD && segment.p_memsz.get(LittleEndian) == 0
}

fn is_text(segment: &Segment) -> bool {
    segment.p_type.get(LittleEndian) == PT_LOAD && segment.p_flags.get(LittleEndian).contains(PF_X)
}

fn check_entry(entry: u64, segments: &[Segment]) -> Result<(), ImageError> {
    let within = |s: &&Segment| {
        let start = s.p_vaddr.get(LittleEndian);
        (start..start + s.p_filesz.get(LittleEndian)).contains(&entry)
    };
    match segments.iter().filter(|s| is_text(s)).find(within) {
        Some(_) => Ok(()),
        None => Err(ImageError::Entry(entry)),
    }
}

fn texts<'e>(segments: &[Segment], elf: &'e [u8]) -> Vec<(u64, &'e [u8])> {
    let text = |s: &Segment| {
        let bytes = s.data(LittleEndian, elf).unwrap_or_default();
        (s.p_vaddr.get(LittleEndian), bytes)
    };
    segments.iter().filter(|s| is_text(s)).map(text).collect()
}

fn find_note(segments: &[Segment], elf: &[u8]) -> Result<ImageNote, ImageError> {
    for segment in segments {
        if segment.p_type.get(LittleEndian) != PT_NOTE {
            continue;
        }
        let Some(mut notes) = segment.notes(LittleEndian, elf)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == NOTE_NAME.as_bytes() && note.n_type(LittleEndian).0 == NOTE_TYPE {
                return check_note(note.desc());
            }
        }
    }
    Err(ImageError::NoNote)
}

fn check_note(bytes: &[u8]) -> Result<ImageNote, ImageError> {
    let malformed = |_| ImageError::Note("it has another length than this version's");
    let note = ImageNote::read_from_bytes(bytes).map_err(malformed)?;
    let major = note.abi_major.get();
    if major != ABI_MAJOR {
        return Err(ImageError::Version { major });
    }
    if note.format.get() != FORMAT_FADES_ELF {
        return Err(ImageError::Note("it names another format"));
    }
    Ok(note)
}

/// The name becomes a file's name: it is held to what is safe as one.
fn checked_name(note: &ImageNote) -> Result<String, ImageError> {
    let name = note.name().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(ImageError::Note(
            "a function's name has letters, digits, `-` and `_` only",
        ));
    }
    Ok(name.into())
}

/// Headers and segments alone: no sections, no symbols, nothing behind the
/// last segment.
fn strip(header: &Header, segments: &[Segment], elf: &[u8]) -> Vec<u8> {
    let table = header.e_phoff.get(LittleEndian) as usize;
    let table_end = table + segments.len() * SEGMENT;
    let filled = segments.iter().filter(|s| s.p_filesz.get(LittleEndian) > 0);
    let ends = filled.map(|s| s.p_offset.get(LittleEndian) + s.p_filesz.get(LittleEndian));
    let end = ends.fold(table_end.max(HEADER), |end, e| end.max(e as usize));
    let mut image = elf[..end.min(elf.len())].to_vec();
    forget_sections(&mut image);
    for (i, segment) in segments.iter().enumerate() {
        if is_empty(segment) {
            image[table + i * SEGMENT..][..SEGMENT].fill(0);
        }
    }
    image
}

/// Clears the fields of the file header that point to section headers.
fn forget_sections(image: &mut [u8]) {
    /// `e_shoff`, and `e_shentsize` to `e_shstrndx`.
    const FIELDS: [std::ops::Range<usize>; 2] = [40..48, 58..64];
    for field in FIELDS {
        image[field].fill(0);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
