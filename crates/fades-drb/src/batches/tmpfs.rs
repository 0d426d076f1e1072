//! Batch files in a file system of our own, with huge pages.
//!
//! The file system is mounted twice in a mount namespace that only a short-lived
//! thread enters: writable, and read-only. What stays are descriptors of the two
//! roots. A file is written below the one and opened again below the other, so
//! that no way leads from that descriptor to writing: opening it again through
//! `/proc` meets the read-only mount, as root too. When the broker ends, however
//! it ends, the file system is gone.
#![expect(unsafe_code, reason = "a thread leaves its mount namespace here")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, open, openat, unlinkat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Two file systems, for files with huge and with small pages.
#[derive(Debug)]
pub(super) struct Tmpfs {
    huge: Roots,
    small: Roots,
    next: AtomicU64,
}

/// The two roots of a file system.
#[derive(Debug)]
struct Roots {
    writable: OwnedFd,
    read_only: OwnedFd,
}

/// A file below the writable root.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub(super) file: File,
    name: String,
    is_short: bool,
}

impl Tmpfs {
    /// Mounts `size` bytes with huge pages at `folder`, in a mount namespace of
    /// its own: nobody else sees it.
    pub(super) fn mount(folder: &Path, size: u64) -> io::Result<Self> {
        let folder = folder.to_path_buf();
        let mounted = std::thread::Builder::new()
            .name("mount".to_owned())
            .spawn(move || mount_here(&folder, size))?
            .join();
        mounted.map_err(|_| io::Error::other("the mounting thread panicked"))?
    }

    /// Whether files really get huge pages: the kernel says so by the block size.
    pub(super) fn is_huge(&self) -> io::Result<bool> {
        let probe = self.make(false)?;
        let length = fades_abi::INPUT_PAGE;
        rustix::fs::fallocate(&probe.file, rustix::fs::FallocateFlags::empty(), 0, length)?;
        let block = fstat(&probe.file)?.st_blksize;
        unlinkat(&self.huge.writable, &probe.name, AtFlags::empty())?;
        Ok(u64::try_from(block).is_ok_and(|b| b >= length))
    }

    /// The roots of both file systems.
    pub(super) fn folders(&self) -> Vec<BorrowedFd<'_>> {
        let roots = [&self.huge, &self.small].into_iter();
        let both = roots.flat_map(|r| [r.writable.as_fd(), r.read_only.as_fd()]);
        both.collect()
    }

    const fn roots(&self, is_short: bool) -> &Roots {
        if is_short { &self.small } else { &self.huge }
    }

    /// A new file; a short one has small pages.
    pub(super) fn make(&self, is_short: bool) -> io::Result<Unlocked> {
        let name = format!("batch-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(
            &self.roots(is_short).writable,
            &name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?;
        Ok(Unlocked {
            file: file.into(),
            name,
            is_short,
        })
    }

    /// Opens the file below the read-only root, takes its name away and closes
    /// it for writing.
    pub(super) fn lock(&self, made: Unlocked) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let reader = openat(
            &self.roots(made.is_short).read_only,
            &made.name,
            flags,
            Mode::empty(),
        );
        self.discard(&made)?;
        Ok(reader?)
    }

    /// Takes the name of a file away.
    pub(super) fn discard(&self, made: &Unlocked) -> io::Result<()> {
        let root = &self.roots(made.is_short).writable;
        Ok(unlinkat(root, &made.name, AtFlags::empty())?)
    }
}

fn mount_here(folder: &Path, size: u64) -> io::Result<Tmpfs> {
    // SAFETY: of the process' shared state this thread leaves the mount
    // namespace and (implied) the file system attributes; descriptors stay
    // shared. The thread does nothing but what follows.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    Ok(Tmpfs {
        huge: roots(folder, size, "always")?,
        small: roots(folder, size, "never")?,
        next: AtomicU64::new(0),
    })
}

/// Mounts a file system over what is at `folder`.
fn roots(folder: &Path, size: u64, huge: &str) -> io::Result<Roots> {
    let kept_out = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = format!("huge={huge},size={size},mode=0700");
    let options = std::ffi::CString::new(options)?;
    mount("fades", folder, "tmpfs", kept_out, Some(options.as_c_str()))?;
    let root = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let writable = open(folder, root, Mode::empty())?;
    mount_bind(folder, folder)?;
    mount_remount(folder, kept_out | MountFlags::BIND | MountFlags::RDONLY, "")?;
    Ok(Roots {
        writable,
        read_only: open(folder, root, Mode::empty())?,
    })
}
