//! Identifiers: digests of images, ids of tasks, names.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("{0:?} is no digest: write sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// Not 1 to 64 characters out of `a–z A–Z 0–9 . _ -`, beginning with a
    /// letter or a digit.
    #[error(
        "{0:?} is no name: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    )]
    Name(String),
    /// Not `name@digest` or `name`.
    #[error("{0:?} names no function: write NAME or NAME@sha256:DIGEST")]
    Image(String),
}

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        for (pair, byte) in text[7..].chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        // Digits only.
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Digest {
    /// The first twelve hexadecimal digits, for tables.
    #[must_use]
    pub fn short(&self) -> String {
        self.0[..6].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl FromStr for Digest {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || IdentityError::Digest(s.to_owned());
        let hex = s
            .strip_prefix("sha256:")
            .filter(|h| h.len() == 64)
            .ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| match c {
                b'0'..=b'9' => Ok(c - b'0'),
                b'a'..=b'f' => Ok(c - b'a' + 10),
                _ => Err(wrong()),
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdentityError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.to_string()
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

/// A name that people choose, or an id: 1 to 64 letters, digits, `.`, `_`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Most characters of a name.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let good = (1..=Self::MAX).contains(&s.len())
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if good {
            Ok(Self(s.to_owned()))
        } else {
            Err(IdentityError::Name(s.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = IdentityError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Name> for String {
    fn from(n: Name) -> Self {
        n.0
    }
}

impl JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
        })
    }
}

/// A function as a task names it: `name@sha256:…`, or `name` before the
/// command line has pinned the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// Name of the function.
    pub name: Name,
    /// Digest of the image; a node refuses a task without it.
    pub digest: Option<Digest>,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest {
            Some(d) => write!(f, "{}@{d}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl FromStr for ImageRef {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (name, digest) = match s.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (s, None),
        };
        let name = name
            .parse()
            .map_err(|_| IdentityError::Image(s.to_owned()))?;
        Ok(Self { name, digest })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = IdentityError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<ImageRef> for String {
    fn from(r: ImageRef) -> Self {
        r.to_string()
    }
}

impl JsonSchema for ImageRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@sha256:[0-9a-f]{64})?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, ImageRef, Name};

    #[test]
    fn a_digest_survives_the_way_to_text_and_back() {
        let d = Digest([0xa5; 32]);
        assert_eq!(d.to_string().parse(), Ok(d));
        assert_eq!(d.short(), "a5a5a5a5a5a5");
        for bad in [
            "",
            "sha256:",
            "a5",
            &d.to_string().to_uppercase(),
            &d.to_string()[..70],
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", ".", "../x", "a/b", "a b", "é", "-x", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("harbour-07".parse::<Name>().is_ok());
    }

    #[test]
    fn a_function_is_named_with_or_without_digest() {
        let pinned: ImageRef = format!("summary@{}", Digest([1; 32])).parse().unwrap();
        assert_eq!(pinned.digest, Some(Digest([1; 32])));
        assert_eq!("summary".parse::<ImageRef>().unwrap().digest, None);
        assert!("summary@sha256:12".parse::<ImageRef>().is_err());
    }
}
