//! Documents of the OCI image specification 1.1, as far as functions need them.
//!
//! They are written here, and not with a library, because the digest of a document is
//! its name: the same function must give the same bytes each time, so annotations have
//! an order. What others wrote is read leniently, as the specification asks for:
//! unknown fields are skipped.

use std::collections::BTreeMap;

use fades_task::identity::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a blob that is only there because there must be one.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// That blob.
pub const EMPTY_BLOB: &[u8] = b"{}";
/// Longest document that is read, bytes; registries take no longer ones either.
pub const DOCUMENT_MAX: usize = 4 << 20;
/// Annotation with the tag of a document, in the index of a layout folder.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Annotations, in the order in which they are written.
pub type Annotations = BTreeMap<String, String>;

/// Where a blob or a document is, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its SHA-256: other digests are not taken.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// Kind of the artifact behind a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The processor for which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

impl Descriptor {
    /// That of `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: Annotations::new(),
        }
    }

    /// As a referrer names the document to which it belongs.
    pub(crate) fn of_subject(document: &Self) -> Self {
        Self {
            media_type: document.media_type.clone(),
            digest: document.digest,
            size: document.size,
            artifact_type: None,
            platform: None,
            annotations: Annotations::new(),
        }
    }
}

/// A kind of computer, in the words of the specification (`amd64`, not `x86-64`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The processor.
    pub architecture: String,
    /// The operating system.
    pub os: String,
}

/// An image manifest; of an artifact when it says of which type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    pub media_type: String,
    /// Kind of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its configuration; [`EMPTY`] for artifacts without one.
    pub config: Descriptor,
    /// Its blobs.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The document to which it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// An index of manifests: of architectures, of referrers, of a layout folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Kind of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its manifests.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A manifest.
    Manifest(Box<Manifest>),
    /// An index.
    Index(Index),
}

/// Why bytes are no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than are read.
    #[error("it has more than {DOCUMENT_MAX} bytes")]
    TooLong,
    /// Not the JSON of a document.
    #[error("{0}")]
    Json(String),
    /// Neither a manifest nor an index.
    #[error("its media type is {0:?}, neither that of an OCI manifest nor of an OCI index")]
    MediaType(String),
    /// Another version of the schema.
    #[error("its schemaVersion is {0}, read is 2")]
    Version(u32),
}

/// What every document says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
}

impl Manifest {
    /// A manifest of an artifact without configuration.
    #[must_use]
    pub fn artifact(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::of(EMPTY, EMPTY_BLOB),
            layers,
            subject: None,
            annotations: Annotations::new(),
        }
    }
}

impl Index {
    /// One of these manifests.
    #[must_use]
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            artifact_type: None,
            manifests,
            annotations: Annotations::new(),
        }
    }

    /// Puts `entry` in the place of those that `same` calls the same.
    pub fn put(&mut self, entry: Descriptor, same: impl Fn(&Descriptor) -> bool) {
        self.manifests.retain(|m| !same(m));
        self.manifests.push(entry);
    }
}

impl Document {
    /// Reads a document; `media_type` is what its place says of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_MAX {
            return Err(DocumentError::TooLong);
        }
        let json = |e: serde_json::Error| DocumentError::Json(e.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(json)?;
        if head.schema_version != 2 {
            return Err(DocumentError::Version(head.schema_version));
        }
        // Its own word first: a place that says otherwise could have one document
        // read in two ways.
        match head.media_type.as_deref().or(media_type) {
            Some(MANIFEST) => serde_json::from_slice(bytes)
                .map(|m| Self::Manifest(Box::new(m)))
                .map_err(json),
            Some(INDEX) => serde_json::from_slice(bytes).map(Self::Index).map_err(json),
            other => Err(DocumentError::MediaType(other.unwrap_or("").to_owned())),
        }
    }
}

/// The bytes of a document: the same each time.
pub(crate) fn bytes(document: &impl Serialize) -> Vec<u8> {
    // Text, numbers, lists, and maps with text keys.
    serde_json::to_vec(document).unwrap_or_default()
}

/// SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::{Descriptor, Document, DocumentError, INDEX, Index, MANIFEST, Manifest, bytes};

    #[test]
    fn documents_are_read_as_they_were_written_and_always_written_alike() {
        let layer = Descriptor::of("text/plain", b"abc");
        let mut manifest = Manifest::artifact("application/x-test", vec![layer.clone()]);
        for key in ["b", "a", "c"] {
            let value = key.to_uppercase();
            manifest.annotations.insert(key.to_owned(), value);
        }
        let text = bytes(&manifest);
        assert!(String::from_utf8_lossy(&text).contains(r#""a":"A","b":"B","c":"C""#));
        assert_eq!(text, bytes(&manifest.clone()));
        let read = Document::parse(&text, None);
        assert_eq!(read, Ok(Document::Manifest(Box::new(manifest))));
        let index = Index::new(vec![layer]);
        let read = Document::parse(&bytes(&index), Some(MANIFEST));
        assert_eq!(read, Ok(Document::Index(index)), "its own word counts");
    }

    #[test]
    fn what_is_no_document_is_refused_by_name() {
        let refused = |text: &str, said| Document::parse(text.as_bytes(), said).unwrap_err();
        assert!(matches!(refused("nonsense", None), DocumentError::Json(_)));
        let one = r#"{"schemaVersion":1,"mediaType":"x"}"#;
        assert_eq!(refused(one, None), DocumentError::Version(1));
        let other = r#"{"schemaVersion":2,"mediaType":"text/html"}"#;
        let named = DocumentError::MediaType("text/html".to_owned());
        assert_eq!(refused(other, Some(INDEX)), named);
        let digest =
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha512:00","size":1}]}"#;
        let reason = refused(digest, Some(INDEX)).to_string();
        assert!(reason.contains("sha256"), "{reason}");
        let long = " ".repeat(super::DOCUMENT_MAX + 1);
        assert_eq!(refused(&long, None), DocumentError::TooLong);
    }
}
