//! Another table of trusted keys, signed by enough of the administrators.
//!
//! An update has the whole table and a version; only a greater version than the
//! one in force is taken, so nobody brings an older table back. Who takes away the
//! administrators' say has to be one of many who agree: when administrators or
//! threshold change, enough of the *new* administrators sign as well, which shows
//! that they have their keys and that nobody locks himself out.

use std::num::NonZeroU32;

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

use crate::envelope::PayloadType;
use crate::joint::JointEnvelope;
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::task::Audience;
use crate::trust::{TrustError, TrustStore, TrustedKey};

/// Greatest version and counter: the greatest whole number that every reader of
/// JSON reads alike.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

const WHAT: &str = "trust update";

/// What administrators sign for a table of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustUpdate {
    /// Greater than that of the table before.
    pub version: u64,
    /// For which nodes: names or labels.
    pub r#for: Vec<Name>,
    /// From this time on it is not taken any more; one that was taken holds on.
    pub expires: Time,
    /// How many administrators have to sign the next one.
    pub threshold: NonZeroU32,
    /// The whole table.
    #[serde(alias = "key")]
    pub keys: Vec<TrustedKey>,
}

impl TrustUpdate {
    /// The table, if it does not contradict itself.
    ///
    /// # Errors
    /// When it does.
    pub fn table(&self) -> Result<TrustStore, TrustError> {
        TrustStore::of(self.version, Some(self.threshold), self.keys.clone())
    }
}

/// An update that may be taken. Only [`verify_update`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedUpdate {
    table: TrustStore,
    payload: Digest,
    signers: Vec<Name>,
}

impl VerifiedUpdate {
    /// The table, nothing being revoked.
    #[must_use]
    pub const fn table(&self) -> &TrustStore {
        &self.table
    }

    /// SHA-256 of the signed payload.
    #[must_use]
    pub const fn payload(&self) -> Digest {
        self.payload
    }

    /// The administrators of the table before who signed.
    #[must_use]
    pub fn signers(&self) -> &[Name] {
        &self.signers
    }
}

/// Signs an update, as the first.
#[must_use]
pub fn sign_update(update: &TrustUpdate, key: &SecretKey) -> JointEnvelope {
    // Names, numbers, texts and lists of them.
    let payload = serde_json::to_vec(update).unwrap_or_default();
    JointEnvelope::seal(PayloadType::Trust, payload, key)
}

/// The update in `envelope`, if it may follow `current`. Without `node`, whom it is
/// for is not asked: that was, when it was taken.
///
/// # Errors
/// The first reason why not. Signatures are checked before anything in the payload
/// is looked at.
pub fn verify_update(
    envelope: &JointEnvelope,
    current: &TrustStore,
    node: Option<Audience<'_>>,
    now: Time,
) -> Result<VerifiedUpdate, Refusal> {
    envelope.require_type(PayloadType::Trust)?;
    let signers = envelope.administrators(current, now)?;
    let signers = signers.require(current.threshold(), WHAT, "in force")?;
    let update: TrustUpdate =
        serde_json::from_slice(envelope.payload()).map_err(|e| Refusal::Payload {
            what: WHAT,
            reason: e.to_string(),
        })?;
    if let Some(node) = node {
        node.require(&update.r#for)?;
    }
    if now >= update.expires {
        let expires = update.expires;
        return Err(Refusal::Expired { expires, now });
    }
    check_number(WHAT, update.version)?;
    if update.version <= current.version() {
        return Err(Refusal::OldVersion {
            found: update.version,
            in_force: current.version(),
        });
    }
    let table = update.table()?;
    let judged = current.like(table.clone());
    let left = judged
        .administrators()
        .filter(|key| judged.usable(key, now).is_ok())
        .count();
    let threshold = judged.threshold();
    if left < threshold as usize {
        return Err(Refusal::LocksOut {
            what: WHAT,
            left,
            threshold,
        });
    }
    let same = current.administrator_ids() == judged.administrator_ids();
    if !same || current.threshold() != threshold {
        let signers = envelope.administrators(&judged, now)?;
        signers.require(threshold, WHAT, "that it brings")?;
    }
    Ok(VerifiedUpdate {
        table,
        payload: envelope.payload_digest(),
        signers,
    })
}

pub(crate) fn check_number(what: &'static str, found: u64) -> Result<(), Refusal> {
    match found {
        0..=NUMBER_MAX => Ok(()),
        found => Err(Refusal::Number { what, found }),
    }
}

#[cfg(test)]
mod tests;
