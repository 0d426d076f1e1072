//! Images and symbols of functions, as files by digest.
//!
//! A file appears whole or not at all, and is checked against its digest each
//! time it is used: what lies on the disk is not trusted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fades_task::identity::Digest;
use fades_trust::function::image_digest;

use super::StoreError;

/// Longest symbols of an image, bytes; longer ones are not kept.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// The folder with the images.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
            folder: path.parent().unwrap_or(path).to_owned(),
        },
        _ => StoreError::File {
            path: path.to_owned(),
            doing,
            source,
        },
    }
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(failed(folder, "the folder cannot be synced"))
}

impl Images {
    /// Makes the folder when it is not there, and removes what an interrupted
    /// write left.
    pub(super) fn open(node: &Path) -> Result<Self, StoreError> {
        let folder = node.join("images");
        let doing = "the folder for images cannot be made";
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed(&folder, doing))?,
        }
        let entries = fs::read_dir(&folder).map_err(failed(&folder, doing))?;
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|e| e == "part") {
                fs::remove_file(entry.path()).map_err(failed(&folder, doing))?;
            }
        }
        Ok(Self { folder })
    }

    /// Where an image is.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.file(digest, "fades")
    }

    fn file(&self, digest: Digest, ending: &str) -> PathBuf {
        let name = digest.to_string().replace(':', "-");
        self.folder.join(format!("{name}.{ending}"))
    }

    pub(super) fn write(
        &self,
        digest: Digest,
        image: &[u8],
        symbols: Option<&str>,
    ) -> Result<(), StoreError> {
        if let Some(symbols) = symbols.filter(|s| s.len() <= SYMBOLS_MAX) {
            self.write_file(&self.file(digest, "symbols"), symbols.as_bytes())?;
        }
        self.write_file(&self.path(digest), image)?;
        sync_folder(&self.folder)
    }

    /// All of `bytes` under `path`, or nothing.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let part = path.with_extension("part");
        let written = File::create(&part)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, path));
        written.map_err(|e| {
            // Opening removes what cannot be removed now.
            let _ = fs::remove_file(&part);
            failed(path, "the image cannot be written")(e)
        })
    }

    /// Where an image and its symbols are.
    pub(super) fn files(&self, digest: Digest) -> [PathBuf; 2] {
        [self.path(digest), self.file(digest, "symbols")]
    }

    pub(super) fn remove(&self, digest: Digest) {
        // A file that stays is harmless: nothing names it.
        let _ = fs::remove_file(self.path(digest));
        let _ = fs::remove_file(self.file(digest, "symbols"));
    }

    /// The image, if the file still is the one that was published.
    ///
    /// # Errors
    /// [`StoreError::Image`] when it is another one.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let image = fs::read(&path).map_err(failed(&path, "the image cannot be read"))?;
        let found = image_digest(&image);
        if found == digest {
            return Ok(image);
        }
        Err(StoreError::Image { path, found })
    }

    /// Symbols of an image, when there are some.
    #[must_use]
    pub fn symbols(&self, digest: Digest) -> Option<String> {
        fs::read_to_string(self.file(digest, "symbols")).ok()
    }
}
