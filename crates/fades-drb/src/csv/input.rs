//! Files, opened and decompressed.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
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
    /// Last change, ns since 1970.
    pub(crate) changed: i128,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
        }
    }

    /// Whether a file that was `self` and is now `other` still begins with the
    /// bytes it had: it may have grown.
    pub(crate) const fn begins(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode && self.size <= other.size
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
}

enum Reader {
    Plain(File),
    Gzip(MultiGzDecoder<BufReader<File>>),
    Xz(XzDecoder<BufReader<File>>),
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |e| ReadError::io("open", path, e);
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
        })
    }

    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Goes forward (in a plain file also back) to a decompressed offset.
    pub(crate) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if let Reader::Plain(file) = &mut self.reader {
            file.seek(SeekFrom::Start(offset))?;
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
            Reader::Plain(r) => r.read(into),
            Reader::Gzip(r) => r.read(into),
            Reader::Xz(r) => r.read(into),
        }?;
        self.offset += n as u64;
        Ok(n)
    }
}
