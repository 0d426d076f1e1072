//! Filling a file through a mapping.
#![expect(unsafe_code, reason = "this module is the home of mapping a batch")]

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// Maps the whole file, hands the bytes to `fill`, and unmaps it.
///
/// The file must have been preallocated: writing to a page for which there is
/// no room would be a signal.
pub(super) fn fill<R>(
    file: &File,
    length: u64,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> io::Result<R> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: the file was made by this process a moment ago and nobody else has
    // it: its only names are a private mount's or none (`Place::make`), so it is
    // neither cut nor written while it is mapped.
    let mut mapping: MmapMut = unsafe { MmapOptions::new().len(length).map_mut(file)? };
    Ok(fill(&mut mapping))
}
