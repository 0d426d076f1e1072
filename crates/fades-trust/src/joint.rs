//! Envelopes that several people sign: each adds a signature to the same payload.
//!
//! Only what changes whom a node trusts is signed like this. What counts is who of
//! a table's administrators signed, each once; the order of signatures says
//! nothing.

use std::collections::BTreeSet;

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use sha2::{Digest as _, Sha256};

use crate::envelope::{EnvelopeError, Parts, PayloadType, pae};
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::trust::{Role, TrustStore};

/// Most signatures of one envelope.
pub const SIGNATURES_MAX: usize = 16;

/// An envelope with one signature or several, parsed and *not* verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointEnvelope(Parts);

/// Whose signatures of an envelope count.
#[derive(Debug)]
pub(crate) struct Signers {
    /// Administrators, each once.
    pub(crate) by: Vec<Name>,
    /// Signatures that do not count, and why.
    uncounted: Vec<String>,
}

impl Signers {
    /// Whether they are enough.
    pub(crate) fn require(
        self,
        wanted: u32,
        what: &'static str,
        table: &'static str,
    ) -> Result<Vec<Name>, Refusal> {
        let Self { by, uncounted } = self;
        if by.len() >= wanted as usize {
            return Ok(by);
        }
        Err(Refusal::TooFewSignatures {
            what,
            table,
            by,
            wanted,
            uncounted,
        })
    }
}

impl JointEnvelope {
    /// Signs `payload`, as the first.
    #[must_use]
    pub fn seal(payload_type: PayloadType, payload: Vec<u8>, key: &SecretKey) -> Self {
        let mut envelope = Self(Parts {
            payload_type: payload_type.as_str().to_owned(),
            payload,
            signatures: Vec::new(),
        });
        envelope.sign(key);
        envelope
    }

    /// Adds a signature; whether the key had not signed before.
    pub fn sign(&mut self, key: &SecretKey) -> bool {
        let Parts {
            payload_type,
            payload,
            signatures,
        } = &mut self.0;
        let id = key.public().id();
        let before = signatures.len();
        signatures.retain(|(by, _)| *by != id);
        let fresh = signatures.len() == before;
        signatures.push((id, key.sign(&pae(payload_type, payload))));
        fresh
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    /// When `bytes` are no envelope, or have no signature or too many.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let right = |n| match n {
            1..=SIGNATURES_MAX => Ok(()),
            n => Err(EnvelopeError::JointSignatures(n)),
        };
        Parts::parse(bytes, right).map(Self)
    }

    /// The JSON form, in one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// The media type of the payload, as the signers wrote it.
    #[must_use]
    pub fn payload_type(&self) -> &str {
        &self.0.payload_type
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The keys that are said to have signed it.
    pub fn keys(&self) -> impl Iterator<Item = Digest> {
        self.0.signatures.iter().map(|(key, _)| *key)
    }

    /// SHA-256 of the payload.
    #[must_use]
    pub fn payload_digest(&self) -> Digest {
        Digest(Sha256::digest(&self.0.payload).into())
    }

    pub(crate) fn require_type(&self, expected: PayloadType) -> Result<(), Refusal> {
        match self.0.payload_type == expected.as_str() {
            true => Ok(()),
            false => Err(Refusal::PayloadType {
                found: self.0.payload_type.clone(),
                expected: expected.as_str(),
            }),
        }
    }

    /// The administrators of `table` who signed. Keys that the table does not have
    /// are passed over: they may be those of the next one.
    ///
    /// # Errors
    /// When a signature of a key of the table is not that key's over this payload.
    pub(crate) fn administrators(&self, table: &TrustStore, now: Time) -> Result<Signers, Refusal> {
        let signed = pae(&self.0.payload_type, &self.0.payload);
        let mut seen = BTreeSet::new();
        let (mut by, mut uncounted) = (Vec::new(), Vec::new());
        for (id, signature) in &self.0.signatures {
            let Some(key) = table.find(*id) else {
                uncounted.push(format!("key {id}, which the table does not have"));
                continue;
            };
            if !key.public.verifies(&signed, signature) {
                let key = key.name.clone();
                return Err(Refusal::Signature { key });
            }
            if !seen.insert(*id) {
                continue;
            }
            let may = key.require(Role::Administer);
            match may.and_then(|()| table.usable(key, now)) {
                Ok(()) => by.push(key.name.clone()),
                Err(refusal) => uncounted.push(refusal.to_string()),
            }
        }
        Ok(Signers { by, uncounted })
    }
}

#[cfg(test)]
mod tests;
