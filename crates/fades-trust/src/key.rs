//! Ed25519 keys and their text forms.
//!
//! A secret key's file holds `fades-secret-key-v1 ` and 32 bytes in base64; a
//! public key is written `fades-key-v1:` and 32 bytes in base64. A key's id is
//! the SHA-256 of its public half.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use fades_task::identity::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const SECRET_PREFIX: &str = "fades-secret-key-v1 ";
const PUBLIC_PREFIX: &str = "fades-key-v1:";

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text form of a secret key. The text is not repeated: it may be
    /// most of a secret.
    #[error(
        "not a secret key: the file must hold \"fades-secret-key-v1 \" and 44 characters; make one with `fades key new`"
    )]
    Secret,
    /// Not the text form of a public key.
    #[error(
        "{0:?} is no public key: write fades-key-v1: and 44 characters, as `fades key list` shows it"
    )]
    Public(String),
    /// A point that no secret key belongs to, or one of small order.
    #[error("{0:?} is no usable public key: copy it again from `fades key list`")]
    Weak(String),
    /// The operating system gave no randomness.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// A secret key; wiped from memory when dropped.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id().short())
    }
}

impl SecretKey {
    /// A new key out of the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key that belongs to a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The content of the key's file, which only its owner may read.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.0.to_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(seed.as_ref()));
        let mut text = Zeroizing::new(String::with_capacity(80));
        text.push_str(SECRET_PREFIX);
        text.push_str(&encoded);
        text.push('\n');
        text
    }

    /// Parses the content of a key's file.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let encoded = text
            .trim_end()
            .strip_prefix(SECRET_PREFIX)
            .ok_or(KeyError::Secret)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| KeyError::Secret)?);
        let seed =
            Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Secret)?);
        Ok(Self::from_seed(&seed))
    }
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The id under which envelopes name the key.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Whether this key signed `message`. Strict: one signature per message
    /// and nonce, no small-order points.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || KeyError::Public(s.to_owned());
        let encoded = s.strip_prefix(PUBLIC_PREFIX).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| wrong())?;
        VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .map(Self)
            .ok_or_else(|| KeyError::Weak(s.to_owned()))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyError, PublicKey, SecretKey};
    use crate::samples::key;

    #[test]
    fn signatures_are_those_of_the_ed25519_standard() {
        // RFC 8032, section 7.1, test 1.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let secret = SecretKey::from_seed(&seed);
        let signature = secret.sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert_eq!(signature[60..], [0x8e, 0x7a, 0x10, 0x0b]);
        assert!(secret.public().verifies(b"", &signature));
        assert!(!secret.public().verifies(b"x", &signature));
    }

    #[test]
    fn keys_survive_the_way_to_text_and_back() {
        let secret = key(7);
        let again = SecretKey::from_text(&secret.to_text()).unwrap();
        assert_eq!(again.public(), secret.public());
        let public = secret.public();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_ne!(key(7).public().id(), key(8).public().id());
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_secrets() {
        let text = key(7).to_text();
        let cut = &text[..text.len() - 8];
        let error = SecretKey::from_text(cut).unwrap_err().to_string();
        assert!(!error.contains(&text[25..40]), "{error}");
        assert!(!format!("{:?}", key(7)).contains(&text[25..40]));
        assert_eq!(SecretKey::from_text("").unwrap_err(), KeyError::Secret);
        for bad in ["", "fades-key-v1:", "fades-key-v1:AAAA", "ed25519:x"] {
            assert!(
                matches!(bad.parse::<PublicKey>(), Err(KeyError::Public(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        // The neutral element: every signature by it would be forgeable.
        let neutral = "fades-key-v1:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(matches!(
            neutral.parse::<PublicKey>(),
            Err(KeyError::Weak(_))
        ));
    }

    #[test]
    fn two_new_keys_differ() {
        let new = || SecretKey::generate().unwrap().public();
        assert_ne!(new(), new());
    }
}
