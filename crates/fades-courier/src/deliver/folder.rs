//! Deliveries into a folder: a file for each event, whole or not there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use fades_task::courier::{NotDelivered, Parcel};
use fades_task::identity::Name;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

use super::{never, not_now};

/// A folder that takes events.
#[derive(Debug)]
pub(crate) struct FolderTo {
    folder: PathBuf,
    /// A folder in it that is meant, and made when it is not there.
    below: Option<&'static str>,
    /// Who writes, so that two that write into one folder have names of their own
    /// for what is not whole yet.
    writer: Name,
}

/// Longest name of an event, bytes: a file's name has room for 255.
const EVENT_MAX: usize = 150;

impl FolderTo {
    pub(crate) const fn new(folder: PathBuf, below: Option<&'static str>, writer: Name) -> Self {
        Self {
            folder,
            below,
            writer,
        }
    }

    pub(super) fn carry(&self, parcel: &Parcel, body: &[u8]) -> Result<(), NotDelivered> {
        let event = &parcel.event;
        if !is_name(event) {
            return Err(never(format!("{event:?} is no name for a file")));
        }
        self.write(event, body).map_err(|e| {
            let folder = self.folder.display();
            not_now(format!("{folder}: the event cannot be written: {e}"))
        })
    }

    /// Writes a file that is there as a whole, after a loss of power too.
    fn write(&self, event: &str, body: &[u8]) -> io::Result<()> {
        let folder = self.open()?;
        let part = format!(".{event}.{}.tmp", self.writer);
        let written = (|| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&folder, &part, flags, Mode::from_raw_mode(0o644))?;
            let mut file = File::from(file);
            file.write_all(body)?;
            file.sync_all()?;
            renameat(&folder, &part, &folder, format!("{event}.json"))?;
            Ok(rustix::fs::fsync(&folder)?)
        })();
        if written.is_err() {
            // There may be none.
            let _ = unlinkat(&folder, &part, AtFlags::empty());
        }
        written
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, &self.folder, flags, Mode::empty())?;
        let Some(below) = self.below else {
            return Ok(folder);
        };
        inside(folder.as_fd(), below)
    }
}

/// A folder in another one; made when it is not there.
pub(crate) fn inside(folder: std::os::fd::BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => rustix::fs::fsync(folder)?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

fn is_name(event: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=EVENT_MAX).contains(&event.len()) && !event.starts_with('.') && event.chars().all(is_good)
}
