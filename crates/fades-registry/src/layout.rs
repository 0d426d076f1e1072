//! An OCI layout folder: artifacts as files, for a stick or a server without a registry.
//!
//! ```text
//! FOLDER/oci-layout             {"imageLayoutVersion":"1.0.0"}
//!        index.json             the documents, with their tags
//!        blobs/sha256/HEX       everything, by digest
//! ```
//! A file appears whole or not at all. Two programs that push into one folder at the
//! same time can lose a tag of one of them, never a blob.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fades_task::identity::Digest;
use serde::{Deserialize, Serialize};

use crate::error::RegistryError;
use crate::manifest::{Descriptor, Document, Index, REF_NAME, bytes};
use crate::reference::Which;
use crate::shelf::{Found, Listing, Shelf, check};

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
const VERSION: &str = "1.0.0";

/// Most documents of a folder that are looked through for referrers.
const DOCUMENTS_MAX: usize = 4096;

/// A layout folder.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

impl Layout {
    /// The folder, which is one already.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(folder: &Path) -> Result<Self, RegistryError> {
        let no_layout = |reason: String| RegistryError::NoLayout {
            folder: folder.to_owned(),
            reason,
        };
        let text = fs::read(folder.join(MARK))
            .map_err(|e| no_layout(format!("{MARK} cannot be read: {e}")))?;
        let mark: Mark = serde_json::from_slice(&text)
            .map_err(|e| no_layout(format!("{MARK} says nothing: {e}")))?;
        match mark.image_layout_version.starts_with("1.") {
            true => Ok(Self {
                folder: folder.to_owned(),
            }),
            false => Err(no_layout(format!(
                "its version is {}",
                mark.image_layout_version
            ))),
        }
    }

    /// The folder, made when it is not there or empty.
    ///
    /// # Errors
    /// When it is something else, or cannot be made.
    pub fn create(folder: &Path) -> Result<Self, RegistryError> {
        if folder.join(MARK).exists() {
            return Self::open(folder);
        }
        let is_empty = match fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if !is_empty {
            let reason = format!("it has files and no {MARK}");
            let folder = folder.to_owned();
            return Err(RegistryError::NoLayout { folder, reason });
        }
        let layout = Self {
            folder: folder.to_owned(),
        };
        let blobs = layout.folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed(&blobs, "the folder cannot be made"))?;
        layout.write(&layout.folder.join(INDEX), &bytes(&Index::new(Vec::new())))?;
        let image_layout_version = VERSION.to_owned();
        let mark = bytes(&Mark {
            image_layout_version,
        });
        layout.write(&layout.folder.join(MARK), &mark)?;
        Ok(layout)
    }

    /// Everything that has a name in the folder.
    ///
    /// # Errors
    /// When its index cannot be read.
    pub fn index(&self) -> Result<Index, RegistryError> {
        let path = self.folder.join(INDEX);
        let text = fs::read(&path).map_err(failed(&path, "the index cannot be read"))?;
        match Document::parse(&text, Some(crate::manifest::INDEX)) {
            Ok(Document::Index(index)) => Ok(index),
            Ok(Document::Manifest(_)) => Err(self.no_index("it is a manifest".to_owned())),
            Err(e) => Err(self.no_index(e.to_string())),
        }
    }

    fn no_index(&self, reason: String) -> RegistryError {
        let what = INDEX.to_owned();
        RegistryError::Answer {
            place: self.name(),
            what,
            reason,
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let text = digest.to_string().replace(':', "/");
        self.folder.join("blobs").join(text)
    }

    fn read(&self, digest: Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, "the blob cannot be read")(e)),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
        let doing = "it cannot be written";
        let mut file =
            tempfile::NamedTempFile::new_in(&self.folder).map_err(failed(path, doing))?;
        file.write_all(bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed(path, doing))?;
        file.persist(path)
            .map_err(|e| failed(path, doing)(e.error))?;
        Ok(())
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::File {
        path,
        doing,
        source,
    }
}

impl Shelf for Layout {
    fn name(&self) -> String {
        format!("oci:{}", self.folder.display())
    }

    fn document(&self, which: &Which) -> Result<Option<Found>, RegistryError> {
        let index = self.index()?;
        let named = match which {
            Which::Digest(digest) => {
                let known = index.manifests.into_iter().find(|m| m.digest == *digest);
                Some((*digest, known.map(|m| m.media_type)))
            }
            Which::Tag(tag) => {
                let has = |m: &&Descriptor| {
                    m.annotations
                        .get(REF_NAME)
                        .is_some_and(|t| t == tag.as_str())
                };
                let named = index.manifests.iter().find(has);
                named.map(|m| (m.digest, Some(m.media_type.clone())))
            }
        };
        let Some((digest, media_type)) = named else {
            return Ok(None);
        };
        let bytes = self.read(digest)?;
        let Some(bytes) = bytes else { return Ok(None) };
        check(
            &self.name(),
            &Descriptor {
                digest,
                ..Descriptor::of("", &[])
            },
            &bytes,
        )?;
        Ok(Some(Found { bytes, media_type }))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.read(descriptor.digest)?;
        let bytes = bytes.ok_or_else(|| RegistryError::Missing {
            place: self.name(),
            what: format!("blob {}", descriptor.digest),
        })?;
        check(&self.name(), descriptor, &bytes)?;
        Ok(bytes)
    }

    fn put_blob(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        let path = self.path(descriptor.digest);
        if path.exists() {
            return Ok(());
        }
        self.write(&path, bytes)
    }

    fn put_document(
        &self,
        which: &Which,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Listing, RegistryError> {
        self.put_blob(descriptor, bytes)?;
        let mut index = self.index()?;
        let mut entry = descriptor.clone();
        match which {
            Which::Tag(tag) => {
                let tag = tag.as_str().to_owned();
                entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
                index.put(entry, |m| m.annotations.get(REF_NAME) == Some(&tag));
            }
            Which::Digest(digest) => {
                if index.manifests.iter().all(|m| m.digest != *digest) {
                    index.manifests.push(entry);
                }
            }
        }
        self.write(&self.folder.join(INDEX), &crate::manifest::bytes(&index))?;
        Ok(Listing::Kept)
    }

    fn referrers(&self, subject: Digest) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let mut found = Vec::new();
        for entry in self.index()?.manifests.into_iter().take(DOCUMENTS_MAX) {
            let Some(text) = self.read(entry.digest)? else {
                continue;
            };
            let document = Document::parse(&text, Some(&entry.media_type));
            // What cannot be read refers to nothing.
            if let Ok(Document::Manifest(manifest)) = document
                && manifest.subject.is_some_and(|s| s.digest == subject)
            {
                let artifact_type = manifest.artifact_type;
                found.push(Descriptor {
                    artifact_type,
                    ..entry
                });
            }
        }
        Ok(Some(found))
    }
}
