//! How people name an artifact.
//!
//! ```text
//! registry.example:5000/air/summary:1.0           by its tag
//! registry.example/air/summary@sha256:…           by the digest of its manifest or index
//! http://localhost:5000/air/summary:1.0           without TLS, which has to be said
//! oci:images:1.0      oci:/srv/images@sha256:…    in a layout folder
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use fades_task::identity::{Digest, IdentityError};

/// Tag of references that name none.
pub const DEFAULT_TAG: &str = "latest";

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it lies.
    pub place: Place,
    /// Which one there.
    pub which: Which,
}

/// Where artifacts lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A repository of a registry.
    Registry {
        /// Scheme, host and port.
        origin: String,
        /// The repository.
        repository: Repository,
    },
    /// An OCI layout folder.
    Layout(PathBuf),
}

/// Which artifact of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// That which has the tag now.
    Tag(Tag),
    /// That with the digest.
    Digest(Digest),
}

/// Name of a repository: parts of small letters and digits, with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(String);

/// A tag: up to 128 letters, digits, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// Why a text names no artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No host.
    #[error(
        "{0:?} names no registry: write HOST/REPOSITORY:TAG, such as registry.example/air/summary:1.0, or oci:FOLDER:TAG"
    )]
    NoHost(String),
    /// A repository that no registry can have.
    #[error(
        "{0:?} is no repository: write parts of small letters and digits, with '.', '_' or '-' within them and '/' between them"
    )]
    Repository(String),
    /// A tag that nothing can have.
    #[error(
        "{0:?} is no tag: write up to 128 letters, digits, '_', '.' and '-', and none of '.' and '-' at the beginning"
    )]
    Tag(String),
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] IdentityError),
    /// No folder.
    #[error("\"oci:\" names no folder: write oci:FOLDER:TAG")]
    NoFolder,
}

impl Repository {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let good = s.len() <= 255 && s.split('/').all(is_part);
        match good {
            true => Ok(Self(s.to_owned())),
            false => Err(ReferenceError::Repository(s.to_owned())),
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let between = part.split(|c: char| c.is_ascii() && is_plain(c as u8));
    is_plain(*first)
        && is_plain(*last)
        && between
            .into_iter()
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|c| c == b'-'))
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which a function's manifest can be found by who knows nothing but
    /// the digest of its image, as a node does.
    #[must_use]
    pub fn of_image(image: Digest) -> Self {
        Self(image.to_string().replace("sha256:", "image-"))
    }

    /// The tag of the list of what refers to `subject`, in registries that make no such
    /// lists (distribution specification 1.1, "referrers tag schema").
    #[must_use]
    pub fn of_referrers(subject: Digest) -> Self {
        Self(subject.to_string().replace(':', "-"))
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = (1..=128).contains(&s.len())
            && s.starts_with(is_word)
            && s.chars().all(|c| is_word(c) || matches!(c, '.' | '-'));
        match good {
            true => Ok(Self(s.to_owned())),
            false => Err(ReferenceError::Tag(s.to_owned())),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        match s.strip_prefix("oci:") {
            Some(rest) => in_layout(rest),
            None => in_registry(s),
        }
    }
}

fn in_layout(text: &str) -> Result<Reference, ReferenceError> {
    let (folder, which) = match text.split_once('@') {
        Some((folder, digest)) => (folder, Which::Digest(digest.parse()?)),
        None => match text.rsplit_once(':') {
            Some((folder, tag)) => (folder, Which::Tag(tag.parse()?)),
            None => (text, Which::Tag(Tag(DEFAULT_TAG.to_owned()))),
        },
    };
    if folder.is_empty() {
        return Err(ReferenceError::NoFolder);
    }
    let place = Place::Layout(PathBuf::from(folder));
    Ok(Reference { place, which })
}

fn in_registry(text: &str) -> Result<Reference, ReferenceError> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err(ReferenceError::NoHost(text.to_owned())),
        None => ("https", text),
    };
    let no_host = || ReferenceError::NoHost(text.to_owned());
    let (host, path) = rest.split_once('/').ok_or_else(no_host)?;
    // "air/summary" would otherwise be a host of the local domain.
    let is_host = host.contains(['.', ':']) || host == "localhost";
    let is_named = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !is_host || !is_named || !host.chars().all(is_plain) {
        return Err(no_host());
    }
    let (repository, which) = match path.split_once('@') {
        Some((repository, digest)) => (repository, Which::Digest(digest.parse()?)),
        None => match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Which::Tag(tag.parse()?)),
            None => (path, Which::Tag(Tag(DEFAULT_TAG.to_owned()))),
        },
    };
    let place = Place::Registry {
        origin: format!("{scheme}://{host}"),
        repository: repository.parse()?,
    };
    Ok(Reference { place, which })
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag.as_str()),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { origin, repository } => {
                let origin = origin.strip_prefix("https://").unwrap_or(origin);
                write!(f, "{origin}/{}", repository.as_str())
            }
            Self::Layout(folder) => write!(f, "oci:{}", folder.display()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Tag(tag) => write!(f, "{}:{}", self.place, tag.as_str()),
            Which::Digest(digest) => write!(f, "{}@{digest}", self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Reference, ReferenceError, Repository, Tag};

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_shown_as_they_can_be_written() {
        for text in [
            "registry.example:5000/air/summary:1.0",
            "localhost/summary:v1",
            "[::1]:5000/a:b",
            "http://localhost:5000/air/summary:1.0",
            "oci:images:1.0",
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let pinned = format!("registry.example/air/summary@{DIGEST}");
        assert_eq!(pinned.parse::<Reference>().unwrap().to_string(), pinned);
        let pinned = format!("oci:/srv/images@{DIGEST}");
        assert_eq!(pinned.parse::<Reference>().unwrap().to_string(), pinned);
        let short = "oci:images".parse::<Reference>().unwrap();
        assert_eq!(short.to_string(), "oci:images:latest");
        let short = "https://registry.example/air".parse::<Reference>().unwrap();
        assert_eq!(short.to_string(), "registry.example/air:latest");
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_form() {
        let refused = |text: &str| text.parse::<Reference>().unwrap_err();
        for text in [
            "summary",
            "air/summary:1.0",
            "ftp://a.b/c",
            "/x",
            "a b.c/d",
            "-.x/y",
        ] {
            let error = refused(text);
            assert!(
                matches!(error, ReferenceError::NoHost(_)),
                "{text}: {error}"
            );
        }
        for text in [
            "r.example/Air",
            "r.example/",
            "r.example/a//b",
            "r.example/../etc",
            "r.example/a_-b",
        ] {
            let error = refused(text);
            assert!(
                matches!(error, ReferenceError::Repository(_)),
                "{text}: {error}"
            );
        }
        for text in ["r.example/a:", "r.example/a:.x", "oci:folder:a/b"] {
            assert!(matches!(refused(text), ReferenceError::Tag(_)), "{text}");
        }
        assert!(matches!(
            refused("r.example/a@sha512:00"),
            ReferenceError::Digest(_)
        ));
        assert_eq!(refused("oci:"), ReferenceError::NoFolder);
        assert!("a".repeat(256).parse::<Repository>().is_err());
        assert!("a".repeat(129).parse::<Tag>().is_err());
        assert!("a__b-.c".parse::<Repository>().is_err());
        assert!("a__b/c---d.e_f".parse::<Repository>().is_ok());
    }

    proptest! {
        /// What is taken is fit for an address: nothing in it can end a path.
        #[test]
        fn no_reference_reaches_beyond_its_repository(text in any::<String>(), inner in "[a-z./:@_-]{0,24}") {
            for text in [text, format!("r.example/{inner}")] {
                if let Ok(reference) = text.parse::<Reference>() {
                    let shown = reference.to_string();
                    let path = shown.strip_prefix("r.example/").unwrap_or_default();
                    assert!(!path.split('/').any(|p| p == ".." || p == "."), "{shown}");
                    assert!(!path.contains(['?', '#', '%', ' ']), "{shown}");
                }
            }
        }
    }
}
