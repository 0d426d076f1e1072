//! Where batch files live: the best place that this host allows.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::tmpfs::{Tmpfs, Unlocked};
use super::{NoRoom, memfd};

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

    /// A file of `length` bytes that begins with `pieces`; the descriptor is open
    /// for reading and nobody can write any more.
    pub(super) fn written(&self, pieces: &[&[u8]], length: u64) -> Result<OwnedFd, NoRoom> {
        let failed = |what| {
            move |source| NoRoom::Io {
                what,
                length,
                place: self.words(),
                source,
            }
        };
        let used: usize = pieces.iter().map(|p| p.len()).sum();
        let is_short = used as u64 <= SHORT;
        let writer = self.make(is_short).map_err(failed("make a batch file"))?;
        let written = if is_short {
            write_all(writer.file(), pieces).and_then(|()| writer.file().set_len(length))
        } else {
            fallocate(writer.file(), FallocateFlags::empty(), 0, length)
                .map_err(io::Error::from)
                .and_then(|()| write_all(writer.file(), pieces))
        };
        if let Err(e) = written {
            writer.discard().map_err(failed("remove a batch file"))?;
            return Err(failed("write a batch file")(e));
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

/// Writes `pieces` from the start of the file on. Calls end at the ends of huge
/// pages, as long as they are long: a page that is written whole is not cleared.
fn write_all(file: &File, pieces: &[&[u8]]) -> io::Result<()> {
    /// Most pieces that one system call takes.
    const MOST: usize = 1024;
    let (mut next, mut offset) = (0, 0_u64);
    // Bytes of the next piece that are written already.
    let mut skip = 0;
    while next < pieces.len() {
        let mut some = pieces[next..pieces.len().min(next + MOST)].to_vec();
        some[0] = &some[0][skip..];
        if next + some.len() < pieces.len() {
            let end = offset + some.iter().map(|p| p.len() as u64).sum::<u64>();
            cut(&mut some, end % fades_abi::INPUT_PAGE);
        }
        let slices: Vec<IoSlice<'_>> = some.iter().map(|p| IoSlice::new(p)).collect();
        let written = match rustix::io::pwritev(file, &slices, offset) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) if slices.iter().any(|s| !s.is_empty()) => {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written => written?,
        };
        offset += written as u64;
        skip += written;
        while next < pieces.len() && skip >= pieces[next].len() {
            skip -= pieces[next].len();
            next += 1;
        }
    }
    Ok(())
}

/// Takes `bytes` off the end, unless nothing would be left.
fn cut(pieces: &mut Vec<&[u8]>, mut bytes: u64) {
    let all: usize = pieces.iter().map(|p| p.len()).sum();
    if bytes >= all as u64 {
        return;
    }
    while let Some(last) = pieces.pop() {
        if let Some(kept) = (last.len() as u64).checked_sub(bytes) {
            pieces.push(&last[..kept as usize]);
            return;
        }
        bytes -= last.len() as u64;
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
