//! The note that every function image carries in a `PT_NOTE` segment.
//!
//! The ELF note has the name `FADES\0`, the type [`NOTE_TYPE`] and an
//! [`ImageNote`] as its description. A tender reads it before it maps
//! anything, so that an image for another contract is refused by name.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Name of the ELF note, without the terminating zero that ELF adds.
pub const NOTE_NAME: &str = "FADES";

/// Type of the ELF note.
pub const NOTE_TYPE: u32 = 1;

/// Section in which the note lives in the linked image.
pub const NOTE_SECTION: &str = ".note.fades";

/// [`ImageNote::format`] of a static ELF as `fades-build` links it.
pub const FORMAT_FADES_ELF: u32 = 1;

/// [`ImageNote::flags`]: the function implements `save` and `restore`.
pub const FLAG_CHECKPOINTS: u32 = 1;

/// Stack of a function that does not ask for another size, bytes.
pub const STACK_DEFAULT: u64 = 64 * 1024;

/// What an image says of itself. 64 bytes, of any alignment: ELF aligns notes
/// to four bytes only.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct ImageNote {
    /// [`crate::ABI_MAJOR`] at build time.
    pub abi_major: U16,
    /// [`crate::ABI_MINOR`] at build time.
    pub abi_minor: U16,
    /// Format of the image; [`FORMAT_FADES_ELF`].
    pub format: U32,
    /// Stack that the function wants, bytes; a multiple of 4096.
    pub stack: U64,
    /// Least memory limit with which the author says it works, bytes; 0 when
    /// the author does not say.
    pub memory_min: U64,
    /// `FLAG_…` bits; unknown bits are refused.
    pub flags: U32,
    /// Zero.
    pub reserved: U32,
    /// Name of the function, UTF-8, padded with zeros.
    pub name: [u8; 32],
}

impl ImageNote {
    /// The note of a function named `name`; usable in a `static`.
    ///
    /// # Panics
    /// When `name` is longer than 32 bytes or `stack` is no multiple of 4096
    /// (at compile time, where the note is a constant).
    #[must_use]
    pub const fn new(name: &str, stack: u64, memory_min: u64, flags: u32) -> Self {
        assert!(name.len() <= 32, "a function's name has at most 32 bytes");
        assert!(
            stack.is_multiple_of(4096),
            "a stack is a multiple of 4096 bytes"
        );
        let mut padded = [0; 32];
        let mut i = 0;
        while i < name.len() {
            padded[i] = name.as_bytes()[i];
            i += 1;
        }
        Self {
            abi_major: U16::new(crate::ABI_MAJOR),
            abi_minor: U16::new(crate::ABI_MINOR),
            format: U32::new(FORMAT_FADES_ELF),
            stack: U64::new(stack),
            memory_min: U64::new(memory_min),
            flags: U32::new(flags),
            reserved: U32::new(0),
            name: padded,
        }
    }

    /// The function's name, or `None` when it is not UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let end = self
            .name
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(self.name.len());
        core::str::from_utf8(&self.name[..end]).ok()
    }
}

/// An ELF note with the FADES name and an [`ImageNote`], laid out as the
/// linker must find it.
#[repr(C, align(4))]
#[derive(Debug, Clone, Copy)]
pub struct ElfNote {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; 8],
    description: ImageNote,
}

impl ElfNote {
    /// Wraps `description`; put the result into [`NOTE_SECTION`].
    #[must_use]
    pub const fn new(description: ImageNote) -> Self {
        Self {
            name_size: 6,
            description_size: size_of::<ImageNote>() as u32,
            kind: NOTE_TYPE,
            name: *b"FADES\0\0\0",
            description,
        }
    }
}

const _: () = {
    assert!(size_of::<ImageNote>() == 64);
    assert!(core::mem::offset_of!(ElfNote, description) == 20);
    assert!(size_of::<ElfNote>() == 84);
};
