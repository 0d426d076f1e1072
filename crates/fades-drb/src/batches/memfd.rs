//! Batch files in anonymous memory, locked by seals.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};

/// A new empty file.
pub(super) fn make() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create("fades-batch", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(rustix::io::Errno::INVAL) => memfd_create("fades-batch", flags),
        made => made,
    };
    Ok(made?.into())
}

/// Takes the right to write from everybody, for good. No mapping may be left.
pub(super) fn lock(file: File) -> io::Result<OwnedFd> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    // Who is given it refuses a descriptor that was opened for writing, although the
    // seals are what holds. `openat`, because a confined broker may call nothing else.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}
