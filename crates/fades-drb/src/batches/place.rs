//! Where batch files live: the best place that this host allows.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fades_abi::batch::BatchError;
use rustix::fs::{FallocateFlags, fallocate};
use zerocopy::IntoBytes;

use super::tmpfs::{Tmpfs, Unlocked};
use super::{NoRoom, mapping, memfd};

/// Up to so many bytes, a file has small pages: clearing a huge one takes longer
/// than a function needs to meet a few small ones. What follows those bytes is a
/// hole, which reads as zeros.
const SHORT: u64 = 64 << 10;

/// A place for batch files.
#[derive(Debug)]
pub(crate) enum Place {
    /// A file system of our own with huge pages.
    #[expect(private_interfaces, reason = "only this module looks inside")]
    HugeTmpfs(Tmpfs),
    /// Anonymous memory, and why not the better place.
    Memfd {
        /// What the better place failed on.
        because: String,
    },
}

/// A file that is being written.
enum Writer<'a> {
    Tmpfs(&'a Tmpfs, Unlocked),
    Memfd(File),
}

impl Place {
    /// Tries a huge-page tmpfs at `folder` (made when it does not exist), then
    /// anonymous memory.
    pub(crate) fn find(folder: &Path, budget: u64) -> Self {
        let mounted = std::fs::create_dir_all(folder)
            .and_then(|()| Tmpfs::mount(folder, budget))
            .and_then(|t| Ok((t.is_huge()?, t)));
        match mounted {
            Ok((true, tmpfs)) => Self::HugeTmpfs(tmpfs),
            Ok((false, _)) => Self::memfd("this kernel gives a tmpfs no huge pages"),
            Err(e) => Self::memfd(&format!(
                "a tmpfs cannot be mounted at {}: {e}",
                folder.display()
            )),
        }
    }

    fn memfd(because: &str) -> Self {
        Self::Memfd {
            because: because.to_owned(),
        }
    }

    pub(crate) const fn is_huge(&self) -> bool {
        matches!(self, Self::HugeTmpfs(_))
    }

    /// Its folders, when it has any.
    pub(crate) fn roots(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::HugeTmpfs(tmpfs) => tmpfs.folders(),
            Self::Memfd { .. } => Vec::new(),
        }
    }

    /// The place in words.
    pub(crate) const fn words(&self) -> &'static str {
        match self {
            Self::HugeTmpfs(_) => "a tmpfs of the broker with huge pages",
            Self::Memfd { .. } => "anonymous memory (memfd)",
        }
    }

    /// What would be better, and how to get it.
    pub(crate) fn advice(&self) -> Option<String> {
        match self {
            Self::HugeTmpfs(_) => None,
            Self::Memfd { because } => Some(format!(
                "batches have no huge pages, so functions meet their input many times slower: {because}; \
                 run the node as root or with CAP_SYS_ADMIN, or allow unprivileged user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
            )),
        }
    }

    /// A file of `length` bytes of which `fill` has written the first `used`; the
    /// descriptor is open for reading and nobody can write any more.
    pub(super) fn written(
        &self,
        used: u64,
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), BatchError>,
    ) -> Result<OwnedFd, NoRoom> {
        let failed = |what| {
            move |source| NoRoom::Io {
                what,
                length,
                place: self.words(),
                source,
            }
        };
        let is_short = used <= SHORT;
        let writer = self.make(is_short).map_err(failed("make a batch file"))?;
        let filled = if is_short {
            let mut words = vec![0_u64; used.div_ceil(8) as usize];
            fill(words.as_mut_bytes())
                .map_err(NoRoom::from)
                .and_then(|()| {
                    let written = writer.file().write_all_at(words.as_bytes(), 0);
                    written
                        .and_then(|()| writer.file().set_len(length))
                        .map_err(failed("write a batch file"))
                })
        } else {
            fallocate(writer.file(), FallocateFlags::empty(), 0, length)
                .map_err(|e| failed("make a batch file")(e.into()))
                .and_then(|()| {
                    mapping::fill(writer.file(), length, fill).map_err(failed("map a batch file"))
                })
                .and_then(|filled| Ok(filled?))
        };
        if let Err(e) = filled {
            writer.discard().map_err(failed("remove a batch file"))?;
            return Err(e);
        }
        writer.lock().map_err(failed("lock a batch file"))
    }

    fn make(&self, is_short: bool) -> io::Result<Writer<'_>> {
        Ok(match self {
            Self::HugeTmpfs(t) => Writer::Tmpfs(t, t.make(is_short)?),
            Self::Memfd { .. } => Writer::Memfd(memfd::make()?),
        })
    }
}

impl Writer<'_> {
    const fn file(&self) -> &File {
        match self {
            Self::Tmpfs(_, made) => &made.file,
            Self::Memfd(file) => file,
        }
    }

    /// Ends writing for good; gives the descriptor to hand out.
    fn lock(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tmpfs(tmpfs, made) => tmpfs.lock(made),
            Self::Memfd(file) => memfd::lock(file),
        }
    }

    /// Takes an unfinished file away.
    fn discard(self) -> io::Result<()> {
        match self {
            Self::Tmpfs(tmpfs, made) => tmpfs.discard(&made),
            Self::Memfd(_) => Ok(()),
        }
    }
}
