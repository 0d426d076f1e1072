//! Keys that are trusted no longer, whatever any table says.
//!
//! A list has a counter and everything that the lists before it had, so that one
//! list is all that a node needs, and no older one takes its place. One
//! administrator may revoke a key, because that is urgent; where it is the key of
//! an administrator, as many have to sign as for another table.

use std::collections::BTreeMap;

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

use crate::envelope::PayloadType;
use crate::joint::JointEnvelope;
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::trust::TrustStore;
use crate::update::check_number;

/// Most keys in one list.
pub const REVOKED_MAX: usize = 4096;

/// Longest reason, bytes.
pub const REASON_MAX: usize = 200;

/// One administrator may go on by so many numbers at once: a thief with the key of
/// one cannot use up all of them.
pub const STEP_MAX: u64 = 1000;

const WHAT: &str = "revocation list";

/// A key that is trusted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The key's id.
    pub key: Digest,
    /// Since when its signatures are not to be believed. They are refused from the
    /// moment that the list is taken; this is for people who look at what it signed
    /// before.
    pub since: Time,
    /// Why, in words.
    pub reason: String,
}

/// What administrators sign.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// Greater than that of the list before.
    pub counter: u64,
    /// All keys that were ever revoked.
    pub revoked: Vec<Revocation>,
}

/// What is revoked, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revocations {
    counter: u64,
    keys: BTreeMap<Digest, Revocation>,
}

impl Revocations {
    /// Counter of the list; 0 when there is none.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// Why a key is revoked, if it is.
    #[must_use]
    pub fn find(&self, key: Digest) -> Option<&Revocation> {
        self.keys.get(&key)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Revocation> {
        self.keys.values()
    }

    /// The list as it is signed.
    #[must_use]
    pub fn to_list(&self) -> RevocationList {
        RevocationList {
            counter: self.counter,
            revoked: self.keys.values().cloned().collect(),
        }
    }

    /// Whether everything of `earlier` is in here, as it was.
    fn holds(&self, earlier: &Self) -> Result<(), Refusal> {
        let lacks = |(key, revoked): &(&Digest, &Revocation)| self.find(**key) != Some(*revoked);
        match earlier.keys.iter().find(lacks) {
            None => Ok(()),
            Some((key, _)) => Err(Refusal::Forgets { key: *key }),
        }
    }
}

impl TryFrom<RevocationList> for Revocations {
    type Error = Refusal;

    fn try_from(list: RevocationList) -> Result<Self, Refusal> {
        check_number(WHAT, list.counter)?;
        let wrong = |reason: String| Err(Refusal::List(reason));
        if list.revoked.len() > REVOKED_MAX {
            let have = list.revoked.len();
            return wrong(format!(
                "it has {have} keys, at most {REVOKED_MAX} are taken"
            ));
        }
        let mut keys = BTreeMap::new();
        for revoked in list.revoked {
            let (key, reason) = (revoked.key, &revoked.reason);
            if !(1..=REASON_MAX).contains(&reason.len()) || reason.chars().any(char::is_control) {
                return wrong(format!(
                    "the reason of key {key} has to be one line of 1 to {REASON_MAX} bytes"
                ));
            }
            if keys.insert(key, revoked).is_some() {
                return wrong(format!("it names key {key} twice"));
            }
        }
        Ok(Self {
            counter: list.counter,
            keys,
        })
    }
}

/// A list that may be taken. Only this module makes one.
#[derive(Debug, Clone)]
pub struct VerifiedRevocations {
    revocations: Revocations,
    payload: Digest,
    signers: Vec<Name>,
}

impl VerifiedRevocations {
    /// What is revoked.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// SHA-256 of the signed payload.
    #[must_use]
    pub const fn payload(&self) -> Digest {
        self.payload
    }

    /// The administrators who signed.
    #[must_use]
    pub fn signers(&self) -> &[Name] {
        &self.signers
    }
}

/// Signs a list, as the first.
#[must_use]
pub fn sign_revocations(list: &RevocationList, key: &SecretKey) -> JointEnvelope {
    // Digests, numbers and texts.
    let payload = serde_json::to_vec(list).unwrap_or_default();
    JointEnvelope::seal(PayloadType::Revocations, payload, key)
}

/// The list in `envelope`, if it was signed by an administrator of `table` at all:
/// what holds of one that was taken before.
///
/// # Errors
/// The first reason why not.
pub fn recall_revocations(
    envelope: &JointEnvelope,
    table: &TrustStore,
    now: Time,
) -> Result<VerifiedRevocations, Refusal> {
    envelope.require_type(PayloadType::Revocations)?;
    let signers = envelope.administrators(table, now)?;
    let signers = signers.require(1, WHAT, "in force")?;
    let list: RevocationList =
        serde_json::from_slice(envelope.payload()).map_err(|e| Refusal::Payload {
            what: WHAT,
            reason: e.to_string(),
        })?;
    Ok(VerifiedRevocations {
        revocations: list.try_into()?,
        payload: envelope.payload_digest(),
        signers,
    })
}

/// The list in `envelope`, if it may follow the one that goes with `table`.
///
/// # Errors
/// The first reason why not.
pub fn verify_revocations(
    envelope: &JointEnvelope,
    table: &TrustStore,
    now: Time,
) -> Result<VerifiedRevocations, Refusal> {
    let list = recall_revocations(envelope, table, now)?;
    let (new, old) = (&list.revocations, table.revocations());
    if new.counter <= old.counter {
        return Err(Refusal::OldCounter {
            found: new.counter,
            in_force: old.counter,
        });
    }
    new.holds(old)?;
    let fresh = |id: &Digest| new.find(*id).is_some() && old.find(*id).is_none();
    let administrators = table.administrator_ids();
    let of_administrators = administrators.iter().any(fresh);
    if of_administrators || new.counter - old.counter > STEP_MAX {
        let signers = envelope.administrators(table, now)?;
        signers.require(table.threshold(), WHAT, "in force")?;
    }
    if of_administrators {
        let left = table
            .administrators()
            .filter(|key| table.usable(key, now).is_ok() && !fresh(&key.public.id()))
            .count();
        let threshold = table.threshold();
        if left < threshold as usize {
            return Err(Refusal::LocksOut {
                what: WHAT,
                left,
                threshold,
            });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
