//! What the store does to its folder, and how much it writes.
//!
//! Everything that changes the folder goes through here, so that tests can cut
//! the power between any two steps, and run out of room at any byte.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what is written to files below one folder.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    logged: AtomicU64,
    flushed: AtomicU64,
    merged: AtomicU64,
    #[cfg(test)]
    pub(super) watch: super::power::Watch,
}

/// What is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The head: readings as they arrive.
    Log,
    /// A segment made of a head.
    Flush,
    /// A segment made of segments.
    Merge,
}

/// Bytes written to files so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) log: u64,
    pub(crate) flush: u64,
    pub(crate) merge: u64,
}

/// A file that is being written, from its beginning or its end on.
#[derive(Debug)]
pub(crate) struct Tape {
    file: File,
    path: PathBuf,
    disk: Arc<Disk>,
    what: What,
}

impl Disk {
    pub(crate) fn written(&self) -> Written {
        Written {
            log: self.logged.load(Ordering::Relaxed),
            flush: self.flushed.load(Ordering::Relaxed),
            merge: self.merged.load(Ordering::Relaxed),
        }
    }

    /// Makes a file, or empties it.
    pub(crate) fn create(self: &Arc<Self>, path: &Path, what: What) -> io::Result<Tape> {
        #[cfg(test)]
        self.watch.create(path)?;
        self.tape(File::create(path)?, path, what)
    }

    /// Opens a file to go on with it after its first `length` bytes; those behind
    /// are cut off.
    pub(crate) fn resume(
        self: &Arc<Self>,
        path: &Path,
        length: u64,
        what: What,
    ) -> io::Result<Tape> {
        let file = File::options().append(true).open(path)?;
        let mut tape = self.tape(file, path, what)?;
        if tape.file.metadata()?.len() != length {
            tape.cut(length)?;
        }
        Ok(tape)
    }

    fn tape(self: &Arc<Self>, file: File, path: &Path, what: What) -> io::Result<Tape> {
        Ok(Tape {
            file,
            path: path.to_owned(),
            disk: Arc::clone(self),
            what,
        })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.watch.rename(from, to)?;
        std::fs::rename(from, to)
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.watch.remove(path)?;
        std::fs::remove_file(path)
    }

    /// Replaces a small file: after a power cut it has the old content or the new one.
    pub(crate) fn replace(self: &Arc<Self>, path: &Path, content: &str) -> io::Result<()> {
        let new = path.with_extension("tmp");
        let mut tape = self.create(&new, What::Log)?;
        tape.write_all(content.as_bytes())?;
        tape.sync()?;
        self.rename(&new, path)?;
        self.sync_folder(path.parent().unwrap_or(Path::new("/")))
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.watch.sync_folder(folder)?;
        File::open(folder)?.sync_all()
    }
}

impl Tape {
    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.watch.sync(&self.path)?;
        self.file.sync_data()
    }

    /// Cuts off what is behind the first `length` bytes.
    pub(crate) fn cut(&mut self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.watch.cut(&self.path, length)?;
        self.file.set_len(length)
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = self.disk.watch.write(&self.path, bytes)?;
        let written = self.file.write(bytes)?;
        let counter = match self.what {
            What::Log => &self.disk.logged,
            What::Flush => &self.disk.flushed,
            What::Merge => &self.disk.merged,
        };
        counter.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
