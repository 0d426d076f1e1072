//! The note in which an image says for what it was built.

use fades_abi::note::{FLAG_CHECKPOINTS, FORMAT_FADES_ELF, ImageNote, NOTE_NAME, NOTE_TYPE};
use fades_abi::{ABI_MAJOR, ABI_MINOR};
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use crate::address::PAGE;

/// Largest stack that an image may ask for, bytes.
pub(crate) const STACK_MAX: u64 = 256 << 20;

/// What is wrong with an image's note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoteError {
    #[error("the image has no FADES note: it is not a function; build it with `fades build`")]
    Missing,
    #[error("the image has several FADES notes")]
    Several,
    #[error("a note of the image is malformed")]
    Malformed,
    #[error(
        "the image was built for version {0}.{1} of the function contract, this host has {ABI_MAJOR}.{ABI_MINOR}; build the function again with this version of fades"
    )]
    Version(u16, u16),
    #[error("the image has format {0}, this host runs format {FORMAT_FADES_ELF} (fades-elf)")]
    Format(u32),
    #[error("the image's note has flags {0:#x}, of which some are unknown")]
    Flags(u32),
    #[error(
        "the image asks for a stack of {0} bytes; it must be a multiple of {PAGE} between {PAGE} and {STACK_MAX}"
    )]
    Stack(u64),
    #[error("the image's name is not 1 to 32 printable characters")]
    Name,
}

/// What an image says of itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    /// Name of the function.
    pub(crate) name: String,
    /// Stack, bytes; a multiple of the page size.
    pub(crate) stack: u64,
    /// Least memory limit that makes sense, bytes.
    pub(crate) memory_min: u64,
    /// Whether it keeps checkpoints.
    pub(crate) checkpoints: bool,
}

/// Finds the one FADES note in the contents of all note segments.
pub(super) fn find(segments: &[&[u8]]) -> Result<About, NoteError> {
    let mut found = None;
    for segment in segments {
        let mut rest = *segment;
        while !rest.is_empty() {
            let (note, after) = take(rest).ok_or(NoteError::Malformed)?;
            rest = after;
            if note.name == NOTE_NAME.as_bytes() && note.kind == NOTE_TYPE {
                let description = ImageNote::read_from_bytes(note.description)
                    .map_err(|_| NoteError::Malformed)?;
                if found.replace(description).is_some() {
                    return Err(NoteError::Several);
                }
            }
        }
    }
    check(found.ok_or(NoteError::Missing)?)
}

struct Note<'f> {
    name: &'f [u8],
    kind: u32,
    description: &'f [u8],
}

/// The first note of `bytes` and what follows it.
fn take(bytes: &[u8]) -> Option<(Note<'_>, &[u8])> {
    let ([name, description, kind], rest) = <[U32; 3]>::read_from_prefix(bytes).ok()?;
    let (name, rest) = padded(rest, name.get())?;
    let (description, rest) = padded(rest, description.get())?;
    let note = Note {
        name: name.strip_suffix(b"\0").unwrap_or(name),
        kind: kind.get(),
        description,
    };
    Some((note, rest))
}

/// `length` bytes, and what follows their padding to four bytes.
fn padded(bytes: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length).ok()?;
    let taken = bytes.get(..length)?;
    // The padding of the last note may be missing.
    let rest = bytes
        .get(length.checked_next_multiple_of(4)?..)
        .unwrap_or_default();
    Some((taken, rest))
}

fn check(note: ImageNote) -> Result<About, NoteError> {
    let (major, minor) = (note.abi_major.get(), note.abi_minor.get());
    if major != ABI_MAJOR || minor > ABI_MINOR {
        return Err(NoteError::Version(major, minor));
    }
    if note.format.get() != FORMAT_FADES_ELF {
        return Err(NoteError::Format(note.format.get()));
    }
    let flags = note.flags.get();
    if flags & !FLAG_CHECKPOINTS != 0 {
        return Err(NoteError::Flags(flags));
    }
    if note.reserved.get() != 0 {
        return Err(NoteError::Malformed);
    }
    let stack = note.stack.get();
    if !stack.is_multiple_of(PAGE) || !(PAGE..=STACK_MAX).contains(&stack) {
        return Err(NoteError::Stack(stack));
    }
    let printable = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    Ok(About {
        name: note
            .name()
            .filter(printable)
            .ok_or(NoteError::Name)?
            .to_owned(),
        stack,
        memory_min: note.memory_min.get(),
        checkpoints: flags & FLAG_CHECKPOINTS != 0,
    })
}
