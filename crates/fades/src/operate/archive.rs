//! The file that a backup is: a tar archive that says what it is in its first
//! entry and has the digest of everything before it in its last, so that any
//! `tar` can list it and no half of one is taken for a whole.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use fades_task::identity::Name;
use fades_task::time::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the first entry.
const MANIFEST: &str = "fades-backup.json";

/// Name of the last.
const DIGEST: &str = "sha256";

const VERSION: u32 = 1;

/// Longest manifest, bytes.
const MANIFEST_MAX: u64 = 1 << 20;

const BLOCK: u64 = 512;

/// The last entry and the end of the archive.
const TRAILER: u64 = 2 * BLOCK + 2 * BLOCK;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Manifest {
    fades_backup: u32,
    /// The node's name.
    pub(super) node: Name,
    /// When its store was copied.
    pub(super) made: Time,
    /// Version of the program that made it.
    pub(super) program: String,
    /// Files of the node's folder that are not in it, because they are secret.
    pub(super) left_out: Vec<String>,
}

impl Manifest {
    pub(super) fn new(node: Name, made: Time, left_out: Vec<String>) -> Self {
        Self {
            fades_backup: VERSION,
            node,
            made,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            left_out,
        }
    }
}

/// Only this is read of a backup that may be a newer one.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AnyVersion {
    fades_backup: u32,
}

/// Why a file is no backup that can be restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// It is something else.
    #[error("{0} is no backup of a node: `fades backup` makes one")]
    Foreign(PathBuf),
    /// Made by a newer version.
    #[error(
        "{path} is a backup of version {found}, this program knows version {VERSION}: use the newer program"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Not what was written.
    #[error("{path} is damaged or cut off: {what}: use another copy of it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot be read, or what is in it cannot be written.
    #[error("{path}: {doing}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

/// Counts and digests what goes through.
struct Digesting<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A backup that is being written.
pub(super) struct Writer {
    tar: tar::Builder<Digesting<BufWriter<File>>>,
    made: Time,
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Writer {
    pub(super) fn begin(file: File, manifest: &Manifest) -> io::Result<Self> {
        let mut writer = Self {
            tar: tar::Builder::new(Digesting {
                inner: BufWriter::new(file),
                digest: Sha256::new(),
            }),
            made: manifest.made,
        };
        let text = serde_json::to_vec_pretty(manifest)?;
        writer.put(MANIFEST, text.len() as u64, &text[..])?;
        Ok(writer)
    }

    /// Adds a file under this name; its bytes.
    pub(super) fn add(&mut self, name: &str, from: &Path) -> io::Result<u64> {
        let file = File::open(from)?;
        let size = file.metadata()?.len();
        self.put(name, size, file.take(size))?;
        Ok(size)
    }

    fn put(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime((self.made.0 / 1_000_000_000).unsigned_abs());
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, name, content)
    }

    /// Ends the archive; everything is on the disk then.
    pub(super) fn end(mut self) -> io::Result<()> {
        let digest = self.tar.get_ref().digest.clone().finalize();
        let digest = hex(&digest);
        self.put(DIGEST, digest.len() as u64, digest.as_bytes())?;
        let buffered = self.tar.into_inner()?.inner;
        let file = buffered.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()
    }
}

/// A backup that is whole.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    pub(super) manifest: Manifest,
}

impl Reader {
    /// Opens a backup and checks all of it.
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::File {
            path: path.to_owned(),
            doing: "the backup cannot be read",
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let text = manifest_of(&mut file, path)?;
        let damaged = |what| ArchiveError::Damaged {
            path: path.to_owned(),
            what,
        };
        let any: AnyVersion =
            serde_json::from_slice(&text).map_err(|_| ArchiveError::Foreign(path.to_owned()))?;
        if any.fades_backup > VERSION {
            return Err(ArchiveError::TooNew {
                path: path.to_owned(),
                found: any.fades_backup,
            });
        }
        if !is_whole(&mut file).map_err(failed)? {
            return Err(damaged("its digest is another one"));
        }
        let manifest = serde_json::from_slice(&text)
            .map_err(|_| damaged("what it says of itself cannot be read"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            manifest,
        })
    }

    /// Writes everything that is in it into `folder`, durably.
    pub(super) fn extract(mut self, folder: &Path) -> Result<(), ArchiveError> {
        let failed = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| ArchiveError::File {
                path,
                doing,
                source,
            }
        };
        let reading = "the backup cannot be read";
        let damaged = |what| ArchiveError::Damaged {
            path: self.path.clone(),
            what,
        };
        let rewound = self.file.seek(SeekFrom::Start(0));
        rewound.map_err(failed(&self.path, reading))?;
        let mut archive = tar::Archive::new(BufReader::new(&self.file));
        let entries = archive.entries().map_err(failed(&self.path, reading))?;
        for entry in entries {
            let mut entry = entry.map_err(failed(&self.path, reading))?;
            let name = entry.path().map_err(failed(&self.path, reading))?;
            let name = name.into_owned();
            if [MANIFEST, DIGEST].iter().any(|own| name == Path::new(own)) {
                continue;
            }
            if !entry.header().entry_type().is_file() || !stays_inside(&name) {
                return Err(damaged("it has an entry that no node's folder has"));
            }
            let path = folder.join(&name);
            let doing = "a file of the backup cannot be written";
            write(&mut entry, &path).map_err(failed(&path, doing))?;
        }
        Ok(())
    }
}

/// Only names below the folder, and only what a backup has there.
fn stays_inside(name: &Path) -> bool {
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
    let first = name.components().next();
    let own = ["node.toml", "trust.toml", "conf.d", "state"];
    name.components().all(plain)
        && first.is_some_and(|first| own.iter().any(|own| first.as_os_str() == *own))
}

fn write(from: &mut impl Read, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(parent) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(parent)?;
    }
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    io::copy(from, &mut file)?;
    file.sync_all()
}

/// The first entry, if it is a manifest.
fn manifest_of(file: &mut File, path: &Path) -> Result<Vec<u8>, ArchiveError> {
    let foreign = || ArchiveError::Foreign(path.to_owned());
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries().map_err(|_| foreign())?;
    let first = entries.next().ok_or_else(foreign)?;
    let first = first.map_err(|_| foreign())?;
    let named = first.path().is_ok_and(|name| name == Path::new(MANIFEST));
    if !named || first.size() > MANIFEST_MAX {
        return Err(foreign());
    }
    let (size, mut text) = (first.size(), Vec::new());
    let read = first.take(MANIFEST_MAX).read_to_end(&mut text);
    match read {
        Ok(length) if length as u64 == size => Ok(text),
        _ => Err(ArchiveError::Damaged {
            path: path.to_owned(),
            what: "it ends in its first entry",
        }),
    }
}

/// Whether the digest in the last entry is that of everything before it.
fn is_whole(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let Some(before) = length.checked_sub(TRAILER) else {
        return Ok(false);
    };
    file.seek(SeekFrom::Start(0))?;
    let mut digesting = Digesting {
        inner: io::sink(),
        digest: Sha256::new(),
    };
    io::copy(&mut BufReader::new(&*file).take(before), &mut digesting)?;
    file.seek(SeekFrom::Start(before))?;
    let mut trailer = Vec::new();
    file.take(TRAILER).read_to_end(&mut trailer)?;
    let (header, rest) = trailer.split_at(BLOCK as usize);
    let wanted = hex(&digesting.digest.finalize());
    let (said, zeros) = rest.split_at(wanted.len());
    Ok(header.starts_with(DIGEST.as_bytes())
        && said == wanted.as_bytes()
        && zeros.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests;
