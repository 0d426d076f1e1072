//! The memory that host and function share, as the host may touch it.
//!
//! A function can change these bytes at any moment, so the host never holds a
//! reference into them: it copies in and out, checks the copy, and uses the
//! copy. Every copy is checked against the bounds of the whole.
#![expect(
    unsafe_code,
    reason = "the one place that maps and copies shared memory"
)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::MemfdFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::address::{LARGE_PAGE, Offset, PAGE};

/// A copy that does not fit the shared memory: a mistake of the host, since
/// addresses of functions are checked against the layout first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes at {offset:#x} lie outside of the function's memory")]
pub(crate) struct OutOfBounds {
    offset: u64,
    length: u64,
}

/// A mapping of this process that is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; other threads reach it only
// through this value.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Reserves `length` bytes of addresses that hold nothing, from a multiple
    /// of 2 MiB on.
    pub(crate) fn reserve(length: u64) -> io::Result<Self> {
        let wanted = length + LARGE_PAGE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                wanted as usize,
                ProtFlags::empty(),
                flags,
            )
        }?;
        let aligned = (start as u64).next_multiple_of(LARGE_PAGE);
        let before = aligned - start as u64;
        let after = wanted - length - before;
        cut(start as u64, before)?;
        cut(aligned + length, after)?;
        Self::owning(aligned as *mut u8, length)
    }

    /// Puts `fd` over the start of this reservation, for reading.
    pub(crate) fn map_file(&self, fd: impl AsFd, length: u64) -> io::Result<()> {
        self.within(length)?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let start = self.start.as_ptr().cast();
        // SAFETY: replaces a part of this mapping, of which nobody holds a reference.
        unsafe { rustix::mm::mmap(start, length as usize, ProtFlags::READ, flags, fd, 0) }?;
        Ok(())
    }

    /// Takes `length` bytes of files off the start of this reservation.
    pub(crate) fn clear(&self, length: u64) -> io::Result<()> {
        self.within(length)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let start = self.start.as_ptr().cast();
        // SAFETY: replaces a part of this mapping, of which nobody holds a reference.
        unsafe { rustix::mm::mmap_anonymous(start, length as usize, ProtFlags::empty(), flags) }?;
        Ok(())
    }

    fn within(&self, length: u64) -> io::Result<()> {
        if length <= self.length as u64 {
            Ok(())
        } else {
            Err(io::Error::other("larger than the window reserved for it"))
        }
    }

    fn owning(start: *mut u8, length: u64) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(io::Error::other("mapped at address 0"))?;
        Ok(Self {
            start,
            length: length as usize,
        })
    }

    /// Address of the first byte in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Length, bytes.
    pub(crate) const fn length(&self) -> u64 {
        self.length as u64
    }
}

fn cut(start: u64, length: u64) -> io::Result<()> {
    if length > 0 {
        // SAFETY: the caller owns these bytes and nobody has seen them.
        unsafe { rustix::mm::munmap(start as *mut _, length as usize) }?;
    }
    Ok(())
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, which is gone after this.
        // Failing to unmap leaks, and nothing else.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The memory that a function runs in, or a part of it.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    mapping: Mapping,
    /// Offset of the mapping's first byte.
    from: u64,
    file: Option<OwnedFd>,
}

impl GuestMemory {
    /// Zeroed memory of this process alone.
    pub(crate) fn anonymous(length: u64) -> io::Result<Self> {
        let mapping = Mapping::reserve(length)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let start = mapping.start.as_ptr().cast();
        // SAFETY: replaces this mapping, which nobody has seen yet.
        unsafe { rustix::mm::mmap_anonymous(start, length as usize, protection, flags) }?;
        // A function that needs little shall take little, also where the system
        // gives large pages unasked. A kernel without large pages refuses, which
        // is as well.
        // SAFETY: advice about a mapping that nobody has seen yet.
        let _ = unsafe { rustix::mm::madvise(start, length as usize, Advice::LinuxNoHugepage) };
        Ok(Self {
            mapping,
            from: 0,
            file: None,
        })
    }

    /// Asks for large pages in `span`, or for small ones.
    pub(crate) fn advise(&self, span: Range<u64>, large: bool) {
        let length = span.end.saturating_sub(span.start) as usize;
        let Ok(start) = self.at(Offset(span.start), length) else {
            return;
        };
        let advice = if large {
            Advice::LinuxHugepage
        } else {
            Advice::LinuxNoHugepage
        };
        // SAFETY: advice about a part of this mapping. Where the kernel does not
        // take it, everything works all the same.
        let _ = unsafe { rustix::mm::madvise(start.cast(), length, advice) };
    }

    /// Zeroed memory that another process can map from [`Self::file`].
    pub(crate) fn shared(length: u64) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("fades-function", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, length)?;
        let mut memory = Self::of_file(&file, 0..length)?;
        memory.file = Some(file);
        Ok(memory)
    }

    /// The start of a file, seen as the span `offsets` of a function's memory.
    pub(crate) fn of_file(file: impl AsFd, offsets: Range<u64>) -> io::Result<Self> {
        let length = offsets.end - offsets.start;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length as usize,
                protection,
                flags,
                file,
                0,
            )
        }?;
        Ok(Self {
            mapping: Mapping::owning(start.cast(), length)?,
            from: offsets.start,
            file: None,
        })
    }

    /// Puts the start of `file` over the span `offsets`. What is written there
    /// stays in this process, until [`Self::forget`].
    pub(crate) fn put_template(&self, file: impl AsFd, offsets: Range<u64>) -> io::Result<()> {
        let length = (offsets.end - offsets.start) as usize;
        let start = self
            .at(Offset(offsets.start), length)
            .map_err(io::Error::other)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces a part of this mapping, of which nobody holds a reference.
        unsafe { rustix::mm::mmap(start.cast(), length, protection, flags, file, 0) }?;
        Ok(())
    }

    /// Gives `span` pages of its own before they are written.
    pub(crate) fn populate(&self, span: Range<u64>) {
        let length = span.end.saturating_sub(span.start) as usize;
        let Ok(start) = self.at(Offset(span.start), length) else {
            return;
        };
        // SAFETY: pages come in as if they were written, with what they hold.
        // Where the kernel does not do it, they come in one by one.
        let _ = unsafe { rustix::mm::madvise(start.cast(), length, Advice::LinuxPopulateWrite) };
    }

    /// Forgets everything that was written since the memory, or the template in
    /// it, was mapped.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let (start, length) = (self.mapping.start.as_ptr(), self.mapping.length);
        // SAFETY: the mapping is private, so that this drops pages of this value
        // alone, of which nobody holds a reference.
        unsafe { rustix::mm::madvise(start.cast(), length, Advice::LinuxDontNeed) }?;
        Ok(())
    }

    /// The file behind shared memory.
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }

    /// Address of the first byte in this process, for the kernel's use.
    pub(crate) fn address(&self) -> u64 {
        self.mapping.address()
    }

    fn at(&self, offset: Offset, length: usize) -> Result<*mut u8, OutOfBounds> {
        let at = offset.0.checked_sub(self.from);
        let end = at.and_then(|at| at.checked_add(length as u64));
        match (at, end) {
            (Some(at), Some(end)) if end <= self.mapping.length() => {
                Ok(self.mapping.start.as_ptr().wrapping_add(at as usize))
            }
            _ => Err(OutOfBounds {
                offset: offset.0,
                length: length as u64,
            }),
        }
    }

    /// Copies bytes into the function's memory.
    pub(crate) fn copy_in(&self, offset: Offset, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: `at` checked the bounds; the source is memory of the host.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Copies bytes out of the function's memory, each of them read once.
    pub(crate) fn copy_out(&self, offset: Offset, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.at(offset, bytes.len())?;
        let mut chunks = bytes.chunks_exact_mut(8);
        let mut done = 0;
        for chunk in &mut chunks {
            // SAFETY: `at` checked the bounds; volatile, because the function may
            // write at the same time.
            let word = unsafe { from.wrapping_add(done).cast::<[u8; 8]>().read_volatile() };
            chunk.copy_from_slice(&word);
            done += 8;
        }
        for byte in chunks.into_remainder() {
            // SAFETY: as above.
            *byte = unsafe { from.wrapping_add(done).read_volatile() };
            done += 1;
        }
        Ok(())
    }

    /// Copies a value into the function's memory.
    pub(crate) fn put<T: IntoBytes + Immutable>(
        &self,
        offset: Offset,
        value: &T,
    ) -> Result<(), OutOfBounds> {
        self.copy_in(offset, value.as_bytes())
    }

    /// A copy of a value in the function's memory.
    pub(crate) fn take<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        offset: Offset,
    ) -> Result<T, OutOfBounds> {
        let mut value = T::new_zeroed();
        self.copy_out(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// How many bytes of a span have pages behind them.
    pub(crate) fn resident(&self, offset: Offset, length: u64) -> io::Result<u64> {
        let start = self.at(offset, length as usize).map_err(io::Error::other)?;
        let mut pages = vec![0_u8; length.div_ceil(PAGE) as usize];
        // SAFETY: the span lies inside the mapping; `pages` has a byte for each
        // of its pages.
        let failed = unsafe { libc::mincore(start.cast(), length as usize, pages.as_mut_ptr()) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().filter(|&&p| p & 1 != 0).count() as u64 * PAGE)
    }
}

#[cfg(test)]
mod tests;
