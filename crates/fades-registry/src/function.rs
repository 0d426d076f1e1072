//! A function as an artifact: what is pushed, and what was pulled.

use fades_task::identity::{Digest, Name};
use fades_task::quantity::Size;

use crate::error::RegistryError;
use crate::manifest::{
    Annotations, Descriptor, Document, EMPTY, EMPTY_BLOB, INDEX, Index, MANIFEST, Manifest,
    Platform, bytes,
};
use crate::reference::{Tag, Which};
use crate::shelf::{Listing, Shelf, check, note, read, referrers};

/// Kind of the artifact that is a function.
pub const FUNCTION: &str = "application/vnd.fades.function.v1";
/// Media type of an image.
pub const IMAGE: &str = "application/vnd.fades.image.v1+elf";
/// Media type of an image's symbols.
pub const SYMBOLS: &str = "application/vnd.fades.symbols.v1+text";
/// Kind and media type of a signature: a DSSE envelope.
pub const SIGNATURE: &str = "application/vnd.dsse.envelope.v1+json";
/// Kind and media type of a bill of materials.
pub const MATERIALS: &str = "application/vnd.cyclonedx+json";

/// Longest image, bytes.
pub const IMAGE_MAX: u64 = 32 << 20;
/// Longest of everything else that belongs to a function, bytes each.
pub const BESIDE_MAX: u64 = 4 << 20;
/// Most signatures that are looked at.
pub const SIGNATURES_MAX: usize = 16;

const TITLE: &str = "org.opencontainers.image.title";
const ABI: &str = "vnd.fades.abi";
const FORMAT: &str = "vnd.fades.format";
const ARCHITECTURE: &str = "vnd.fades.architecture";
const MEMORY: &str = "vnd.fades.memory";
const STACK: &str = "vnd.fades.stack";
const CHECKPOINTS: &str = "vnd.fades.checkpoints";

/// What an artifact says of its image, for whoever looks without pulling. It is not
/// signed: what counts is in the image and in the signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Name of the function.
    pub name: Name,
    /// Version of the contract, `MAJOR.MINOR`.
    pub abi: String,
    /// Format of the image.
    pub format: String,
    /// The processor, in the words of FADES.
    pub architecture: String,
    /// Least memory with which it works, when its author says so.
    pub memory: Option<Size>,
    /// Its stack.
    pub stack: Size,
    /// It can be stopped and gone on with.
    pub checkpoints: bool,
}

/// A function with everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it says of itself: that of [`About`], or what somebody else wrote.
    pub annotations: Annotations,
    /// The processor for which it is, when it says so.
    pub platform: Option<Platform>,
    /// The image.
    pub image: Vec<u8>,
    /// Names of addresses in it.
    pub symbols: Option<Vec<u8>>,
    /// DSSE envelopes about it.
    pub signatures: Vec<Vec<u8>>,
    /// CycloneDX documents about it.
    pub materials: Vec<Vec<u8>>,
}

/// What is at a reference, without the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the image: what tasks pin.
    pub image: Digest,
    /// Length of the image, bytes.
    pub size: u64,
    /// What it says of itself.
    pub annotations: Annotations,
    /// Kinds and digests of what refers to it.
    pub referrers: Vec<Descriptor>,
    /// Architectures of the index in which it was found, in the words of the image
    /// specification; empty when there is none.
    pub architectures: Vec<String>,
}

/// How an artifact is put on a shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// The tag is the function's.
    Tag,
    /// The tag is that of an index, in which the function takes the place of that for
    /// the same processor.
    Index,
}

/// Words of the image specification for a processor.
#[must_use]
pub fn platform(architecture: &str) -> Platform {
    let architecture = match architecture {
        "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
    }
}

impl About {
    /// As an artifact says it.
    #[must_use]
    pub fn annotations(&self) -> Annotations {
        let mut all = Annotations::new();
        let mut say = |key: &str, value: String| all.insert(key.to_owned(), value);
        say(TITLE, self.name.to_string());
        say(ABI, self.abi.clone());
        say(FORMAT, self.format.clone());
        say(ARCHITECTURE, self.architecture.clone());
        say(STACK, self.stack.to_string());
        say(CHECKPOINTS, self.checkpoints.to_string());
        if let Some(memory) = self.memory {
            say(MEMORY, memory.to_string());
        }
        all
    }
}

/// Puts a function on a shelf: blobs first, so that nothing names what is not there, and
/// what refers to it last. Gives the digest of what has the tag then.
///
/// # Errors
/// When the place does not take something. What it has by then stays there and names
/// nothing.
pub fn push(
    shelf: &dyn Shelf,
    artifact: &Artifact,
    tag: &Tag,
    under: Under,
) -> Result<Digest, RegistryError> {
    let image = Descriptor::of(IMAGE, &artifact.image);
    shelf.put_blob(&Descriptor::of(EMPTY, EMPTY_BLOB), EMPTY_BLOB)?;
    shelf.put_blob(&image, &artifact.image)?;
    let mut layers = vec![image];
    if let Some(symbols) = &artifact.symbols {
        let layer = Descriptor::of(SYMBOLS, symbols);
        shelf.put_blob(&layer, symbols)?;
        layers.push(layer);
    }
    let image = layers[0].digest;
    let mut manifest = Manifest::artifact(FUNCTION, layers);
    manifest.annotations = artifact.annotations.clone();
    let function = put_manifest(shelf, Some(&Tag::of_image(image)), &manifest)?.0;
    let named = match under {
        Under::Tag => put_manifest(shelf, Some(tag), &manifest)?.0.digest,
        Under::Index => put_index(shelf, tag, &function, artifact.platform.as_ref())?,
    };
    let beside = [
        (SIGNATURE, &artifact.signatures),
        (MATERIALS, &artifact.materials),
    ];
    for (kind, blobs) in beside {
        for blob in blobs {
            refer(shelf, &function, kind, blob)?;
        }
    }
    Ok(named)
}

/// Adds a signature or a bill of materials to the function `subject`, which is there.
///
/// # Errors
/// When the place does not take it.
pub fn refer(
    shelf: &dyn Shelf,
    subject: &Descriptor,
    kind: &str,
    blob: &[u8],
) -> Result<(), RegistryError> {
    let layer = Descriptor::of(kind, blob);
    shelf.put_blob(&Descriptor::of(EMPTY, EMPTY_BLOB), EMPTY_BLOB)?;
    shelf.put_blob(&layer, blob)?;
    let mut manifest = Manifest::artifact(kind, vec![layer]);
    manifest.subject = Some(Descriptor::of_subject(subject));
    let (referrer, listing) = put_manifest(shelf, None, &manifest)?;
    match listing {
        Listing::Kept => Ok(()),
        Listing::NotKept => note(shelf, subject.digest, referrer),
    }
}

/// Under `tag`, or under its digest.
fn put_manifest(
    shelf: &dyn Shelf,
    tag: Option<&Tag>,
    manifest: &Manifest,
) -> Result<(Descriptor, Listing), RegistryError> {
    let bytes = bytes(manifest);
    let mut descriptor = Descriptor::of(MANIFEST, &bytes);
    descriptor.artifact_type = manifest.artifact_type.clone();
    let which = match tag {
        Some(tag) => Which::Tag(tag.clone()),
        None => Which::Digest(descriptor.digest),
    };
    let listing = shelf.put_document(&which, &descriptor, &bytes)?;
    Ok((descriptor, listing))
}

/// Puts `function` into the index that has the tag, or begins one.
fn put_index(
    shelf: &dyn Shelf,
    tag: &Tag,
    function: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Digest, RegistryError> {
    let which = Which::Tag(tag.clone());
    let mut index = match shelf.document(&which)? {
        None => Index::new(Vec::new()),
        Some(_) => match read(shelf, &which)?.1 {
            Document::Index(index) => index,
            Document::Manifest(_) => return Err(RegistryError::Answer {
                place: shelf.name(),
                what: tag.as_str().to_owned(),
                reason: "it is a single function and no index: choose another tag, or push without --index".to_owned(),
            }),
        },
    };
    index.artifact_type = Some(FUNCTION.to_owned());
    let mut entry = function.clone();
    entry.platform = platform.cloned();
    index.put(entry, |m| m.platform.as_ref() == platform);
    let bytes = bytes(&index);
    let descriptor = Descriptor::of(INDEX, &bytes);
    shelf.put_document(&which, &descriptor, &bytes)?;
    Ok(descriptor.digest)
}

/// What is at `which`, for `architecture` (in the words of FADES) when it is an index.
///
/// # Errors
/// When it is not there, or no function.
pub fn look(
    shelf: &dyn Shelf,
    which: &Which,
    architecture: &str,
) -> Result<Overview, RegistryError> {
    let (descriptor, manifest, architectures) = find(shelf, which, architecture)?;
    let image = image_of(shelf, which, &manifest)?;
    Ok(Overview {
        manifest: descriptor.digest,
        image: image.digest,
        size: image.size,
        referrers: referrers(shelf, descriptor.digest)?,
        annotations: manifest.annotations,
        architectures,
    })
}

/// The function at `which` with everything that belongs to it, for `architecture` (in
/// the words of FADES) when it is an index.
///
/// # Errors
/// When it is not there, is no function, or is not what the digests say.
pub fn pull(
    shelf: &dyn Shelf,
    which: &Which,
    architecture: &str,
) -> Result<Artifact, RegistryError> {
    let (descriptor, manifest, _) = find(shelf, which, architecture)?;
    let image = image_of(shelf, which, &manifest)?;
    let blob = |layer: &Descriptor, most: u64| {
        if layer.size > most {
            return Err(RegistryError::Answer {
                place: shelf.name(),
                what: layer.digest.to_string(),
                reason: format!("it has {} bytes, at most {most} are taken", layer.size),
            });
        }
        let bytes = shelf.blob(layer)?;
        check(&shelf.name(), layer, &bytes)?;
        Ok(bytes)
    };
    let symbols = manifest.layers.iter().find(|l| l.media_type == SYMBOLS);
    let mut artifact = Artifact {
        image: blob(image, IMAGE_MAX)?,
        symbols: symbols.map(|s| blob(s, BESIDE_MAX)).transpose()?,
        annotations: manifest.annotations.clone(),
        platform: None,
        signatures: Vec::new(),
        materials: Vec::new(),
    };
    for referrer in referrers(shelf, descriptor.digest)? {
        let Some(kind) = kind_of(shelf, &referrer, descriptor.digest)? else {
            continue;
        };
        let (layer, is_signature) = kind;
        let list = match is_signature {
            true => &mut artifact.signatures,
            false => &mut artifact.materials,
        };
        if list.len() < SIGNATURES_MAX {
            list.push(blob(&layer, BESIDE_MAX)?);
        }
    }
    Ok(artifact)
}

/// The blob of a referrer that belongs to a function, and whether it is a signature;
/// `None` for all others. What a list says of a referrer is not believed.
fn kind_of(
    shelf: &dyn Shelf,
    referrer: &Descriptor,
    subject: Digest,
) -> Result<Option<(Descriptor, bool)>, RegistryError> {
    let is_ours = |kind: &str| matches!(kind, SIGNATURE | MATERIALS);
    if referrer
        .artifact_type
        .as_deref()
        .is_some_and(|k| !is_ours(k))
    {
        return Ok(None);
    }
    let (_, document) = read(shelf, &Which::Digest(referrer.digest))?;
    let Document::Manifest(manifest) = document else {
        return Ok(None);
    };
    let kind = manifest.artifact_type.as_deref().unwrap_or_default();
    let is_about = manifest.subject.is_some_and(|s| s.digest == subject);
    let layer = manifest.layers.into_iter().next();
    Ok(match layer {
        Some(layer) if is_ours(kind) && is_about => Some((layer, kind == SIGNATURE)),
        _ => None,
    })
}

/// The manifest at `which`, and the architectures of the index in which it stands.
fn find(
    shelf: &dyn Shelf,
    which: &Which,
    architecture: &str,
) -> Result<(Descriptor, Manifest, Vec<String>), RegistryError> {
    let index = match read(shelf, which)? {
        (descriptor, Document::Manifest(manifest)) => {
            return Ok((descriptor, *manifest, Vec::new()));
        }
        (_, Document::Index(index)) => index,
    };
    let wanted = platform(architecture);
    let fits = |m: &&Descriptor| m.platform.as_ref() == Some(&wanted);
    let of = |m: &Descriptor| m.platform.as_ref().map(|p| p.architecture.clone());
    let mut architectures: Vec<_> = index.manifests.iter().filter_map(of).collect();
    architectures.sort();
    let Some(entry) = index.manifests.iter().find(fits) else {
        return Err(RegistryError::Architecture {
            what: format!("{} in {}", which, shelf.name()),
            available: match architectures.is_empty() {
                true => "nothing".to_owned(),
                false => architectures.join(", "),
            },
            wanted: wanted.architecture,
        });
    };
    match read(shelf, &Which::Digest(entry.digest))? {
        (descriptor, Document::Manifest(manifest)) => Ok((descriptor, *manifest, architectures)),
        (_, Document::Index(_)) => Err(RegistryError::NoFunction {
            what: which.to_string(),
            found: "an index of indexes".to_owned(),
        }),
    }
}

fn image_of<'a>(
    shelf: &dyn Shelf,
    which: &Which,
    manifest: &'a Manifest,
) -> Result<&'a Descriptor, RegistryError> {
    let what = || format!("{which} in {}", shelf.name());
    if manifest.artifact_type.as_deref() != Some(FUNCTION) {
        let kind = manifest.artifact_type.as_ref();
        let found = kind.unwrap_or(&manifest.config.media_type).clone();
        return Err(RegistryError::NoFunction {
            what: what(),
            found,
        });
    }
    let mut images = manifest.layers.iter().filter(|l| l.media_type == IMAGE);
    match (images.next(), images.next()) {
        (Some(image), None) => Ok(image),
        _ => Err(RegistryError::NoFunction {
            what: what(),
            found: "a manifest that has not exactly one image".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
