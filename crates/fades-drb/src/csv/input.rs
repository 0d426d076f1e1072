//! Files, opened and decompressed.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// Most memory that decompressing one `.xz` file may take, bytes.
const XZ_MEMORY: u64 = 128 << 20;

/// Why the files of a source could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it was when it was indexed.
    #[error(
        "{} changed while it was read: write a new file and rename it over the old one, or append only",
        .0.display()
    )]
    Changed(PathBuf),
    /// A column that was configured is not in the file.
    #[error(
        "{} has no column {column:?}; its columns are: {have} (is the delimiter right?)",
        path.display()
    )]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        column: String,
        /// The columns that are there.
        have: String,
    },
    /// A file in UTF-16.
    #[error("{} is UTF-16: convert it to UTF-8", .0.display())]
    Utf16(PathBuf),
    /// A file whose name has another shape than configured.
    #[error(
        "the name of {} does not have the shape of file-name: narrow the glob in files, or correct file-name",
        .0.display()
    )]
    NameShape(PathBuf),
    /// Too many different series.
    #[error(
        "{} has row number {} with a new device, location or kind: more than {} series in one source; \
         does a template name a column that changes in every row?",
        path.display(), line, crate::series::MAX_SERIES
    )]
    TooManySeries {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
    },
    /// Too many files.
    #[error(
        "more than {} files match: narrow the glob in files",
        super::files::MAX_FILES
    )]
    TooManyFiles,
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// A thread of the broker ended in a panic.
    #[error("a defect of the broker ended the reading of this source")]
    Defect,
}

impl ReadError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        Self::Io { what, path, source }
    }
}

fn remedy(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::NotFound => "; it vanished after it was listed",
        io::ErrorKind::PermissionDenied => "; let the node's user read it",
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            "; the compressed file is damaged or incomplete"
        }
        _ if e.raw_os_error() == Some(libc::EMFILE) => {
            "; raise the limit of open files (LimitNOFILE, ulimit -n)"
        }
        _ => "",
    }
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Last change of the content, and of anything, ns since 1970. The first can
    /// be set back; some file systems do not keep the second.
    pub(crate) modified: i64,
    pub(crate) changed: i64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: stamp(metadata.mtime(), metadata.mtime_nsec()),
            changed: stamp(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the stamps, looked at at `now`, are so old that any later change
    /// gets others.
    pub(crate) const fn is_settled(&self, now: Moment) -> bool {
        now.is_beyond(self.modified) && now.is_beyond(self.changed)
    }

    /// Whether a file that was `self` and is now `other` still begins with the
    /// bytes it had: it may have grown.
    pub(crate) const fn begins(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode && self.size <= other.size
    }
}

fn stamp(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// When somebody looked, ns since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self(stamp(now.tv_sec, now.tv_nsec))
    }

    /// Whether a change from now on gets another stamp than `stamp`. The clock of
    /// stamps moves in steps of up to 10 ms. A stamp far ahead was set by hand or
    /// before the clock was put back, and is not met again soon.
    const fn is_beyond(self, stamp: i64) -> bool {
        const GRAIN: i64 = 20_000_000;
        const AHEAD: i64 = 1_000_000_000;
        let age = self.0.saturating_sub(stamp);
        age >= GRAIN || age < -AHEAD
    }
}

/// How a file is packed, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Xz,
}

impl Packing {
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Self::Gzip,
            Some("xz") => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// An open file; reads give its decompressed bytes.
pub(crate) struct Input {
    reader: Reader,
    /// Decompressed bytes before the next one.
    offset: u64,
    identity: Identity,
    opened: Moment,
}

enum Reader {
    Plain(File),
    Gzip(MultiGzDecoder<BufReader<File>>),
    Xz(XzDecoder<BufReader<File>>),
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |e| ReadError::io("open", path, e);
        let opened = Moment::now();
        let file = File::open(path).map_err(failed)?;
        let identity = Identity::of(&file.metadata().map_err(failed)?);
        let reader = match Packing::of(path) {
            Packing::Plain => Reader::Plain(file),
            Packing::Gzip => Reader::Gzip(MultiGzDecoder::new(BufReader::new(file))),
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                    .map_err(|e| failed(e.into()))?;
                Reader::Xz(XzDecoder::new_stream(BufReader::new(file), stream))
            }
        };
        Ok(Self {
            reader,
            offset: 0,
            identity,
            opened,
        })
    }

    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether any later change of the file can be told by its identity.
    pub(crate) const fn is_settled(&self) -> bool {
        self.identity.is_settled(self.opened)
    }

    /// Goes forward (in a plain file also back) to a decompressed offset.
    pub(crate) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if let Reader::Plain(_) = self.reader {
            self.offset = offset;
            return Ok(());
        }
        let skip = offset.saturating_sub(self.offset);
        let skipped = io::copy(&mut self.by_ref().take(skip), &mut io::sink())?;
        if skipped < skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.reader {
            Reader::Plain(file) => file.read_at(into, self.offset),
            Reader::Gzip(r) => r.read(into),
            Reader::Xz(r) => r.read(into),
        }?;
        self.offset += n as u64;
        Ok(n)
    }
}
