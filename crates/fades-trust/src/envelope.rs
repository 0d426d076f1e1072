//! The DSSE envelope: a payload, its type, and a signature over both.
//!
//! Stricter than the DSSE specification where strictness costs nothing: one
//! signature, its key named, standard base64 with padding, no unknown fields.
//! So an envelope has one spelling (white space aside), and a changed byte
//! never goes unnoticed. What several people sign is a [`crate::joint`] envelope.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_task::identity::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::key::SecretKey;

/// Longest envelope that is looked at, bytes of JSON.
pub const ENVELOPE_MAX: usize = 1 << 20;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// A task: an MTW as JSON.
    Task,
    /// A function: a [`crate::function::FunctionStatement`].
    Function,
    /// A request to a node's API: a [`crate::request::RequestStatement`].
    Request,
    /// A table of trusted keys: a [`crate::update::TrustUpdate`].
    Trust,
    /// Keys that are trusted no longer: a [`crate::revocation::RevocationList`].
    Revocations,
}

impl PayloadType {
    /// The media type that is signed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "application/vnd.fades.task.v1+json",
            Self::Function => "application/vnd.fades.function.v1+json",
            Self::Request => "application/vnd.fades.request.v1+json",
            Self::Trust => "application/vnd.fades.trust.v1+json",
            Self::Revocations => "application/vnd.fades.revocations.v1+json",
        }
    }
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than are looked at.
    #[error("the envelope has {have} bytes, at most {ENVELOPE_MAX} are taken")]
    TooLarge {
        /// How many.
        have: usize,
    },
    /// Not the JSON of an envelope.
    #[error("not a DSSE envelope: {0}: sign it with `fades sign`")]
    Json(String),
    /// A field that is not standard base64.
    #[error("the envelope's {0} is not base64 with padding: sign it again with `fades sign`")]
    Base64(&'static str),
    /// Not exactly one signature.
    #[error("the envelope carries {0} signatures, exactly one is taken")]
    Signatures(usize),
    /// None, or too many, where several may sign.
    #[error("the envelope carries {0} signatures, 1 to {max} are taken", max = crate::joint::SIGNATURES_MAX)]
    JointSignatures(usize),
    /// A signature that is no Ed25519 signature.
    #[error("the signature has {0} bytes, an Ed25519 signature has 64")]
    SignatureLength(usize),
}

/// A signature as the envelope carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: Digest,
    sig: String,
}

/// The JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

/// An envelope with any number of signatures, each with the key that is said to
/// have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) payload_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<(Digest, [u8; 64])>,
}

impl Parts {
    /// Parses the JSON form; `right` says whether so many signatures are.
    pub(crate) fn parse(
        bytes: &[u8],
        right: impl FnOnce(usize) -> Result<(), EnvelopeError>,
    ) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_MAX {
            return Err(EnvelopeError::TooLarge { have: bytes.len() });
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|e| EnvelopeError::Json(e.to_string()))?;
        right(wire.signatures.len())?;
        let decode = |field, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| EnvelopeError::Base64(field))
        };
        let signature = |signed: &Signature| {
            let bytes = decode("signature", &signed.sig)?;
            let bytes = <[u8; 64]>::try_from(bytes)
                .map_err(|other| EnvelopeError::SignatureLength(other.len()))?;
            Ok((signed.keyid, bytes))
        };
        Ok(Self {
            signatures: wire
                .signatures
                .iter()
                .map(signature)
                .collect::<Result<_, _>>()?,
            payload: decode("payload", &wire.payload)?,
            payload_type: wire.payload_type,
        })
    }

    /// The JSON form, in one line.
    pub(crate) fn to_json(&self) -> String {
        let signature = |(key, sig): &(Digest, [u8; 64])| Signature {
            keyid: *key,
            sig: STANDARD.encode(sig),
        };
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        // Strings and arrays of strings always have a JSON form.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

/// An envelope, parsed and *not* verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The media type of the payload, as the signer wrote it.
    pub payload_type: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The key that is said to have signed it.
    pub key: Digest,
    /// The signature over [`pae`].
    pub signature: [u8; 64],
}

impl Envelope {
    /// Signs `payload`.
    #[must_use]
    pub fn seal(payload_type: PayloadType, payload: Vec<u8>, key: &SecretKey) -> Self {
        let payload_type = payload_type.as_str().to_owned();
        let signature = key.sign(&pae(&payload_type, &payload));
        let key = key.public().id();
        Self {
            payload_type,
            payload,
            key,
            signature,
        }
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    /// When `bytes` are no envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let parts = Parts::parse(bytes, |n| match n {
            1 => Ok(()),
            n => Err(EnvelopeError::Signatures(n)),
        })?;
        let [(key, signature)] = parts.signatures[..] else {
            return Err(EnvelopeError::Signatures(parts.signatures.len()));
        };
        Ok(Self {
            payload: parts.payload,
            payload_type: parts.payload_type,
            key,
            signature,
        })
    }

    /// The JSON form, in one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let parts = Parts {
            payload_type: self.payload_type.clone(),
            payload: self.payload.clone(),
            signatures: vec![(self.key, self.signature)],
        };
        parts.to_json()
    }

    /// SHA-256 of the payload.
    #[must_use]
    pub fn payload_digest(&self) -> Digest {
        Digest(Sha256::digest(&self.payload).into())
    }
}

/// DSSE's pre-authentication encoding, version 1: what is really signed.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{ENVELOPE_MAX, Envelope, EnvelopeError, PayloadType, pae};
    use crate::samples::key;

    #[test]
    fn the_encoding_is_that_of_the_dsse_specification() {
        // DSSE protocol, test vectors.
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    }

    #[test]
    fn an_envelope_survives_the_way_to_json_and_back() {
        let sealed = Envelope::seal(PayloadType::Task, b"{}".to_vec(), &key(1));
        assert_eq!(Envelope::parse(sealed.to_json().as_bytes()), Ok(sealed));
    }

    #[test]
    fn what_is_no_envelope_is_refused_by_its_reason() {
        let good = Envelope::seal(PayloadType::Task, b"{}".to_vec(), &key(1)).to_json();
        let parse = |text: &str| Envelope::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(parse("{"), EnvelopeError::Json(_)));
        let unknown = good.replacen('{', r#"{"colour":1,"#, 1);
        assert!(matches!(parse(&unknown), EnvelopeError::Json(m) if m.contains("colour")));
        assert_eq!(
            parse(&good.replace("\"e30=\"", "\"e30\"")),
            EnvelopeError::Base64("payload")
        );
        assert_eq!(
            parse(&good.replace("\"e30=\"", "\"e31=\"")),
            EnvelopeError::Base64("payload")
        );
        let (head, list) = good.split_once('[').unwrap();
        let one = list.trim_end_matches("]}");
        assert_eq!(
            parse(&format!("{head}[{one},{one}]}}")),
            EnvelopeError::Signatures(2)
        );
        assert_eq!(parse(&format!("{head}[]}}")), EnvelopeError::Signatures(0));
        let short = one.split_once("\"sig\":").unwrap().0;
        assert_eq!(
            parse(&format!("{head}[{short}\"sig\":\"AAAA\"}}]}}")),
            EnvelopeError::SignatureLength(3)
        );
        let large = vec![b' '; ENVELOPE_MAX + 1];
        assert_eq!(
            Envelope::parse(&large),
            Err(EnvelopeError::TooLarge {
                have: ENVELOPE_MAX + 1
            })
        );
    }
}
