//! What pushing and pulling need of a place where artifacts lie.

use fades_task::identity::Digest;

use crate::error::RegistryError;
use crate::manifest::{Descriptor, Document, Index, digest};
use crate::reference::{Tag, Which};

/// Most documents that may refer to one; what is more is not looked at.
pub const REFERRERS_MAX: usize = 64;

/// A place where artifacts lie.
pub trait Shelf {
    /// What errors call it.
    fn name(&self) -> String;

    /// The document that has this tag or digest, and what the place says that it is.
    ///
    /// # Errors
    /// When the place cannot be asked; that there is none is no error.
    fn document(&self, which: &Which) -> Result<Option<Found>, RegistryError>;

    /// A blob, `descriptor.size` bytes long.
    ///
    /// # Errors
    /// When it is not there, or is not what its digest says.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError>;

    /// Puts a blob there, unless it is there.
    ///
    /// # Errors
    /// When the place does not take it.
    fn put_blob(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError>;

    /// Puts a document there; under its digest when `which` is one.
    ///
    /// # Errors
    /// When the place does not take it.
    fn put_document(
        &self,
        which: &Which,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Listing, RegistryError>;

    /// The documents that refer to `subject`, as far as the place itself knows;
    /// `None` when it keeps no such list.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn referrers(&self, subject: Digest) -> Result<Option<Vec<Descriptor>>, RegistryError>;
}

/// A document, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the place says that it is.
    pub media_type: Option<String>,
}

/// Whether the place keeps a list of what refers to the subject of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It does.
    Kept,
    /// It does not: whoever puts a referrer there changes the list under
    /// [`Tag::of_referrers`].
    NotKept,
}

/// The document `which`, checked against its digest and read.
///
/// # Errors
/// When it is not there or cannot be used.
pub fn read(shelf: &dyn Shelf, which: &Which) -> Result<(Descriptor, Document), RegistryError> {
    let found = shelf.document(which)?;
    let found = found.ok_or_else(|| RegistryError::Missing {
        place: shelf.name(),
        what: which.to_string(),
    })?;
    let is = digest(&found.bytes);
    if let Which::Digest(expected) = which
        && is != *expected
    {
        return Err(RegistryError::Changed {
            place: shelf.name(),
            expected: *expected,
            found: is,
        });
    }
    let document = parse(shelf, which, &found)?;
    let media_type = match &document {
        Document::Manifest(_) => crate::manifest::MANIFEST,
        Document::Index(_) => crate::manifest::INDEX,
    };
    Ok((Descriptor::of(media_type, &found.bytes), document))
}

fn parse(shelf: &dyn Shelf, which: &Which, found: &Found) -> Result<Document, RegistryError> {
    Document::parse(&found.bytes, found.media_type.as_deref()).map_err(|e| RegistryError::Answer {
        place: shelf.name(),
        what: which.to_string(),
        reason: e.to_string(),
    })
}

/// What refers to `subject`, by the place's own list or by that under a tag.
///
/// # Errors
/// When the place cannot be asked.
pub fn referrers(shelf: &dyn Shelf, subject: Digest) -> Result<Vec<Descriptor>, RegistryError> {
    let mut found = match shelf.referrers(subject)? {
        Some(list) => list,
        None => tagged(shelf, subject)?.manifests,
    };
    found.truncate(REFERRERS_MAX);
    Ok(found)
}

/// Notes in the list under the tag that `referrer` refers to `subject`.
///
/// # Errors
/// When the place cannot be asked, or does not take the list.
pub(crate) fn note(
    shelf: &dyn Shelf,
    subject: Digest,
    referrer: Descriptor,
) -> Result<(), RegistryError> {
    let mut list = tagged(shelf, subject)?;
    let same = referrer.digest;
    if list.manifests.iter().any(|m| m.digest == same) {
        return Ok(());
    }
    list.put(referrer, |m| m.digest == same);
    let bytes = crate::manifest::bytes(&list);
    let descriptor = Descriptor::of(crate::manifest::INDEX, &bytes);
    let tag = Which::Tag(Tag::of_referrers(subject));
    shelf.put_document(&tag, &descriptor, &bytes)?;
    Ok(())
}

fn tagged(shelf: &dyn Shelf, subject: Digest) -> Result<Index, RegistryError> {
    let tag = Which::Tag(Tag::of_referrers(subject));
    match shelf.document(&tag)? {
        None => Ok(Index::new(Vec::new())),
        Some(found) => match parse(shelf, &tag, &found)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(RegistryError::Answer {
                place: shelf.name(),
                what: tag.to_string(),
                reason: "it is no list of referrers".to_owned(),
            }),
        },
    }
}

/// Whether `bytes` are what `descriptor` says.
///
/// # Errors
/// [`RegistryError::Changed`] when they are not.
pub(crate) fn check(
    name: &str,
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let found = digest(bytes);
    if found == descriptor.digest {
        return Ok(());
    }
    Err(RegistryError::Changed {
        place: name.to_owned(),
        expected: descriptor.digest,
        found,
    })
}
