//! Pushing and pulling, with a folder and with a shelf that lies.

use std::cell::RefCell;

use fades_task::identity::Digest;
use fades_task::quantity::Size;

use super::{About, Artifact, SIGNATURE, Under, look, platform, pull, push, refer};
use crate::error::RegistryError;
use crate::layout::Layout;
use crate::manifest::{Descriptor, Document, MANIFEST, Manifest, bytes, digest};
use crate::reference::{Tag, Which};
use crate::shelf::{Found, Listing, Shelf, read, referrers};

fn artifact(architecture: &str, image: &[u8]) -> Artifact {
    let about = About {
        name: "summary".parse().unwrap(),
        abi: "1.0".to_owned(),
        format: "fades-elf".to_owned(),
        architecture: architecture.to_owned(),
        memory: Some(Size(1 << 20)),
        stack: Size(64 << 10),
        checkpoints: false,
    };
    Artifact {
        annotations: about.annotations(),
        platform: Some(platform(architecture)),
        image: image.to_vec(),
        symbols: Some(b"0 1 main".to_vec()),
        signatures: vec![b"{\"signed\":1}".to_vec()],
        materials: vec![b"{\"bomFormat\":\"CycloneDX\"}".to_vec()],
    }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn named(text: &str) -> Which {
    Which::Tag(tag(text))
}

#[test]
fn what_was_pushed_into_a_folder_is_pulled_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let pushed = artifact("x86-64", b"image");
    let manifest = push(&layout, &pushed, &tag("1.0"), Under::Tag).unwrap();
    let same = Layout::open(folder.path()).unwrap();
    for which in [
        named("1.0"),
        Which::Digest(manifest),
        Which::Tag(Tag::of_image(digest(b"image"))),
    ] {
        let mut pulled = pull(&same, &which, "x86-64").unwrap();
        pulled.platform.clone_from(&pushed.platform);
        assert_eq!(pulled, pushed, "{which}");
    }
    let found = look(&same, &named("1.0"), "x86-64").unwrap();
    assert_eq!(
        (found.manifest, found.image, found.size),
        (manifest, digest(b"image"), 5)
    );
    assert_eq!(found.annotations["vnd.fades.memory"], "1MiB");
    assert_eq!(found.referrers.len(), 2);
    // Once more changes nothing.
    let before = std::fs::read(folder.path().join("index.json")).unwrap();
    assert_eq!(
        push(&same, &pushed, &tag("1.0"), Under::Tag).unwrap(),
        manifest
    );
    let mut after = same.index().unwrap().manifests;
    after.sort_by_key(|m| m.digest);
    let Ok(Document::Index(mut index)) = Document::parse(&before, None) else {
        panic!("no index");
    };
    index.manifests.sort_by_key(|m| m.digest);
    assert_eq!(after, index.manifests);
}

#[test]
fn an_index_has_one_image_for_each_processor() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    for (architecture, image) in [("x86-64", "old"), ("aarch64", "arm"), ("x86-64", "new")] {
        let artifact = artifact(architecture, image.as_bytes());
        push(&layout, &artifact, &tag("1.0"), Under::Index).unwrap();
    }
    let image = |architecture| pull(&layout, &named("1.0"), architecture).map(|a| a.image);
    assert_eq!(image("x86-64").unwrap(), b"new");
    assert_eq!(image("aarch64").unwrap(), b"arm");
    let error = image("riscv64").unwrap_err().to_string();
    assert!(
        error.contains("amd64, arm64") && error.contains("riscv64"),
        "{error}"
    );
    let found = look(&layout, &named("1.0"), "aarch64").unwrap();
    assert_eq!(found.architectures, ["amd64", "arm64"]);
    push(
        &layout,
        &artifact("x86-64", b"one"),
        &tag("one"),
        Under::Tag,
    )
    .unwrap();
    let artifact = artifact("x86-64", b"two");
    let error = push(&layout, &artifact, &tag("one"), Under::Index).unwrap_err();
    assert!(error.to_string().contains("without --index"), "{error}");
}

#[test]
fn other_artifacts_are_refused_by_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let chart = bytes(&Manifest::artifact("application/x-chart", Vec::new()));
    let descriptor = Descriptor::of(MANIFEST, &chart);
    layout
        .put_document(&named("chart"), &descriptor, &chart)
        .unwrap();
    let error = pull(&layout, &named("chart"), "x86-64").unwrap_err();
    assert!(
        matches!(&error, RegistryError::NoFunction { found, .. } if found == "application/x-chart")
    );
    let none = bytes(&Manifest::artifact(super::FUNCTION, Vec::new()));
    let descriptor = Descriptor::of(MANIFEST, &none);
    layout
        .put_document(&named("none"), &descriptor, &none)
        .unwrap();
    let error = pull(&layout, &named("none"), "x86-64")
        .unwrap_err()
        .to_string();
    assert!(error.contains("exactly one image"), "{error}");
    let error = pull(&layout, &named("gone"), "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Missing { .. }));
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("diary.txt"), "mine").unwrap();
    let error = Layout::create(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no OCI layout folder"), "{error}");
    assert!(Layout::open(folder.path()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_blob_that_was_changed_in_a_folder_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    push(
        &layout,
        &artifact("x86-64", b"image"),
        &tag("1"),
        Under::Tag,
    )
    .unwrap();
    let file = digest(b"image").to_string().replace(':', "/");
    std::fs::write(folder.path().join("blobs").join(file), "imagf").unwrap();
    let error = pull(&layout, &named("1"), "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Changed { .. }), "{error}");
}

/// A registry without lists of its own, whose answers go through `lie`.
struct Liar<'a> {
    layout: &'a Layout,
    lists: bool,
    lie: RefCell<Option<Lie>>,
}

#[derive(Clone)]
enum Lie {
    Blob(Vec<u8>),
    Document(Vec<u8>),
}

impl Shelf for Liar<'_> {
    fn name(&self) -> String {
        "liar.example/a".to_owned()
    }
    fn document(&self, which: &Which) -> Result<Option<Found>, RegistryError> {
        if let Some(Lie::Document(bytes)) = &*self.lie.borrow() {
            return Ok(Some(Found {
                bytes: bytes.clone(),
                media_type: None,
            }));
        }
        self.layout.document(which)
    }
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        if let Some(Lie::Blob(bytes)) = &*self.lie.borrow() {
            return Ok(bytes.clone());
        }
        self.layout.blob(descriptor)
    }
    fn put_blob(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        self.layout.put_blob(descriptor, bytes)
    }
    fn put_document(
        &self,
        which: &Which,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Listing, RegistryError> {
        self.layout.put_document(which, descriptor, bytes)?;
        Ok(if self.lists {
            Listing::Kept
        } else {
            Listing::NotKept
        })
    }
    fn referrers(&self, subject: Digest) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        match self.lists {
            true => self.layout.referrers(subject),
            false => Ok(None),
        }
    }
}

fn liar(layout: &Layout) -> Liar<'_> {
    Liar {
        layout,
        lists: false,
        lie: RefCell::default(),
    }
}

#[test]
fn without_lists_of_referrers_they_are_found_by_a_tag() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let old = liar(&layout);
    let pushed = artifact("x86-64", b"image");
    let manifest = push(&old, &pushed, &tag("1"), Under::Tag).unwrap();
    let pulled = pull(&old, &named("1"), "x86-64").unwrap();
    assert_eq!(
        (pulled.signatures, pulled.materials),
        (pushed.signatures.clone(), pushed.materials.clone())
    );
    // Another signature is added to the list, the same one is not.
    let subject = read(&old, &Which::Digest(manifest)).unwrap().0;
    for _ in 0..2 {
        refer(&old, &subject, SIGNATURE, b"{\"signed\":2}").unwrap();
    }
    assert_eq!(referrers(&old, manifest).unwrap().len(), 3);
    let list = Tag::of_referrers(manifest).as_str().to_owned();
    assert!(list.starts_with("sha256-") && list.len() == 71, "{list}");
}

#[test]
fn what_a_registry_changes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let liar = liar(&layout);
    let manifest = push(&liar, &artifact("x86-64", b"image"), &tag("1"), Under::Tag).unwrap();
    *liar.lie.borrow_mut() = Some(Lie::Blob(b"imagf".to_vec()));
    let error = pull(&liar, &named("1"), "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Changed { .. }), "{error}");
    let other = bytes(&Manifest::artifact(
        super::FUNCTION,
        vec![Descriptor::of(super::IMAGE, b"x")],
    ));
    *liar.lie.borrow_mut() = Some(Lie::Document(other));
    let error = pull(&liar, &Which::Digest(manifest), "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Changed { .. }), "{error}");
}

#[test]
fn lengths_are_bounded_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let mut image = Descriptor::of(super::IMAGE, b"image");
    image.size = super::IMAGE_MAX + 1;
    let manifest = bytes(&Manifest::artifact(super::FUNCTION, vec![image]));
    let descriptor = Descriptor::of(MANIFEST, &manifest);
    layout
        .put_document(&named("huge"), &descriptor, &manifest)
        .unwrap();
    // The blob is not even there.
    let error = pull(&layout, &named("huge"), "x86-64")
        .unwrap_err()
        .to_string();
    assert!(error.contains("at most"), "{error}");
}

#[test]
fn what_refers_to_something_else_is_no_signature_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let old = liar(&layout);
    let mut unsigned = artifact("x86-64", b"image");
    unsigned.signatures.clear();
    unsigned.materials.clear();
    let manifest = push(&old, &unsigned, &tag("1"), Under::Tag).unwrap();
    // A referrer of another function, and one of another kind, put into its list.
    let other = push(&old, &artifact("x86-64", b"other"), &tag("2"), Under::Tag).unwrap();
    let of_other = referrers(&old, other).unwrap();
    for entry in of_other {
        let entry = Descriptor {
            artifact_type: None,
            ..entry
        };
        crate::shelf::note(&old, manifest, entry).unwrap();
    }
    let subject = read(&old, &Which::Digest(manifest)).unwrap().0;
    refer(&old, &subject, "application/x-note", b"hello").unwrap();
    assert_eq!(referrers(&old, manifest).unwrap().len(), 3);
    let pulled = pull(&old, &named("1"), "x86-64").unwrap();
    assert!(
        pulled.signatures.is_empty() && pulled.materials.is_empty(),
        "{pulled:?}"
    );
}
