//! Which keys a node trusts, and for what.
//!
//! A closed table: a key that is not in it is unknown, a role that is not
//! named is not had. The TOML form is the file that `fades key trust` edits.
//!
//! A table goes with what holds whatever is in it: keys that were revoked, and
//! whether keys for development are taken. All that is ever asked of a key is
//! asked here, so that nothing is signed past either.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use fades_task::identity::{Digest, Name};
use fades_task::quantity::Duration;
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, PayloadType, pae};
use crate::key::PublicKey;
use crate::refusal::Refusal;
use crate::revocation::Revocations;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sign functions.
    Publish,
    /// Sign tasks for its services, and cancel them.
    Submit,
    /// Read tasks, results and resources.
    Read,
    /// Read what was asked, answered, refused and logged; nothing of the devices.
    Audit,
    /// Sign updates of the table and revocations, and operate the node over its
    /// API.
    Administer,
}

impl Role {
    /// All of them, by the word that a table has for each.
    pub const ALL: [(&'static str, Self); 5] = [
        ("publish", Self::Publish),
        ("submit", Self::Submit),
        ("read", Self::Read),
        ("audit", Self::Audit),
        ("administer", Self::Administer),
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Audit => "audit",
            Self::Administer => "administer",
        })
    }
}

/// A trusted key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustedKey {
    /// A name for people, unique in the table.
    pub name: Name,
    /// The key.
    pub public: PublicKey,
    /// What it may be used for.
    pub roles: Vec<Role>,
    /// The services that it speaks for; only with the role `submit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Name>,
    /// Made by `fades init` for trying things out: its secret half lies in the
    /// node's own folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub development: bool,
    /// From this time on it is no longer trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// Whoever looks after a node is reminded of a key's end this long before.
pub const REMIND: Duration = Duration::from_secs(30 * 24 * 3600);

impl TrustedKey {
    /// From when on it is no longer trusted, when that is soon or has been.
    #[must_use]
    pub fn ends_soon(&self, now: Time) -> Option<Time> {
        self.not_after.filter(|until| *until <= now.after(REMIND))
    }

    /// Whether the key has `role`.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(crate) fn require(&self, role: Role) -> Result<(), Refusal> {
        if self.has(role) {
            return Ok(());
        }
        Err(Refusal::Role {
            key: self.name.clone(),
            role,
            has: self.roles.clone(),
        })
    }

    pub(crate) fn require_service(&self, service: &Name) -> Result<(), Refusal> {
        if self.services.contains(service) {
            return Ok(());
        }
        Err(Refusal::Service {
            key: self.name.clone(),
            service: service.clone(),
            services: self.services.clone(),
        })
    }
}

/// Why a table of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not TOML, an unknown field, or a field of a wrong type.
    #[error("{0}")]
    Toml(String),
    /// A name used twice.
    #[error("key {0}: the name is used twice: give each key its own")]
    SameName(Name),
    /// One key under two names.
    #[error("keys {0} and {1} are the same key: keep one entry with the roles of both")]
    SameKey(Name, Name),
    /// No role.
    #[error(
        "key {0}: \"roles\" is empty: name publish, submit, read, audit or administer, or remove the entry"
    )]
    NoRole(Name),
    /// `submit` without services, or services without `submit`.
    #[error(
        "key {0}: the role submit and \"services\" belong together: name the services that the key speaks for"
    )]
    Services(Name),
    /// More administrators wanted than there are.
    #[error(
        "threshold = {threshold}, and {have} keys have the role administer: nothing could ever be signed by enough of them; name more, or lower the threshold"
    )]
    Threshold {
        /// How many have to sign.
        threshold: u32,
        /// How many could.
        have: usize,
    },
}

/// The keys that a node trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustStore {
    #[serde(default, skip_serializing_if = "is_zero")]
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<NonZeroU32>,
    #[serde(default, rename = "key")]
    keys: Vec<TrustedKey>,
    #[serde(skip)]
    revocations: Arc<Revocations>,
    #[serde(skip)]
    development_refused: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl TrustStore {
    /// Parses the TOML form.
    ///
    /// # Errors
    /// When it is none, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let table: Self = toml::from_str(text).map_err(|e| TrustError::Toml(e.to_string()))?;
        Self::of(table.version, table.threshold, table.keys)
    }

    /// A table of these keys.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub(crate) fn of(
        version: u64,
        threshold: Option<NonZeroU32>,
        keys: Vec<TrustedKey>,
    ) -> Result<Self, TrustError> {
        let mut store = Self {
            version,
            threshold,
            ..Self::default()
        };
        keys.into_iter().try_for_each(|key| store.add(key))?;
        let have = store.administrators().count();
        match store.threshold() {
            threshold if threshold > 1 && (threshold as usize) > have => {
                Err(TrustError::Threshold { threshold, have })
            }
            _ => Ok(store),
        }
    }

    /// The same table, none of these keys being trusted.
    #[must_use]
    pub fn revoking(mut self, revocations: Arc<Revocations>) -> Self {
        self.revocations = revocations;
        self
    }

    /// The same table, no key for development being trusted.
    #[must_use]
    pub const fn refusing_development(mut self) -> Self {
        self.development_refused = true;
        self
    }

    /// Another table, to which applies what applies to this one.
    pub(crate) fn like(&self, table: Self) -> Self {
        Self {
            revocations: Arc::clone(&self.revocations),
            development_refused: self.development_refused,
            ..table
        }
    }

    /// Which table it is; 0 when nobody counts.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many administrators have to sign what changes the table.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold.map_or(1, NonZeroU32::get)
    }

    /// What was revoked.
    #[must_use]
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The keys with the role `administer`, whether they may sign or not.
    pub fn administrators(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.iter().filter(|key| key.has(Role::Administer))
    }

    /// Their ids.
    pub(crate) fn administrator_ids(&self) -> BTreeSet<Digest> {
        self.administrators().map(|k| k.public.id()).collect()
    }

    /// Why a key of the table signs nothing now, if it does not.
    ///
    /// # Errors
    /// That reason.
    pub fn usable(&self, key: &TrustedKey, now: Time) -> Result<(), Refusal> {
        self.check_revoked(key.public.id(), Some(&key.name))?;
        if self.development_refused && key.development {
            let key = key.name.clone();
            return Err(Refusal::Development { key });
        }
        match key.not_after {
            Some(end) if now >= end => Err(Refusal::KeyExpired {
                key: key.name.clone(),
                end,
            }),
            _ => Ok(()),
        }
    }

    fn check_revoked(&self, id: Digest, name: Option<&Name>) -> Result<(), Refusal> {
        match self.revocations.find(id) {
            None => Ok(()),
            Some(revoked) => Err(Refusal::Revoked {
                key: name.map_or_else(|| id.to_string(), ToString::to_string),
                since: revoked.since,
                reason: revoked.reason.clone(),
            }),
        }
    }

    /// The TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Names, texts and lists of them always have a TOML form.
        toml::to_string(self).unwrap_or_default()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When it contradicts itself or another entry.
    pub fn add(&mut self, key: TrustedKey) -> Result<(), TrustError> {
        if key.roles.is_empty() {
            return Err(TrustError::NoRole(key.name));
        }
        if key.has(Role::Submit) == key.services.is_empty() {
            return Err(TrustError::Services(key.name));
        }
        if self.keys.iter().any(|k| k.name == key.name) {
            return Err(TrustError::SameName(key.name));
        }
        if let Some(same) = self.keys.iter().find(|k| k.public == key.public) {
            return Err(TrustError::SameKey(same.name.clone(), key.name));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Removes a key; whether it was there.
    pub fn remove(&mut self, name: &Name) -> bool {
        let before = self.keys.len();
        self.keys.retain(|k| k.name != *name);
        self.keys.len() < before
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The key with an id, whether it may sign or not.
    #[must_use]
    pub fn find(&self, id: Digest) -> Option<&TrustedKey> {
        self.keys.iter().find(|k| k.public.id() == id)
    }

    /// The trusted key that really signed `envelope` as a `payload_type`.
    pub(crate) fn signer(
        &self,
        envelope: &Envelope,
        payload_type: PayloadType,
        now: Time,
    ) -> Result<&TrustedKey, Refusal> {
        if envelope.payload_type != payload_type.as_str() {
            return Err(Refusal::PayloadType {
                found: envelope.payload_type.clone(),
                expected: payload_type.as_str(),
            });
        }
        let found = self.find(envelope.key);
        self.check_revoked(envelope.key, found.map(|k| &k.name))?;
        let key = found.ok_or(Refusal::UnknownKey { key: envelope.key })?;
        let signed = pae(&envelope.payload_type, &envelope.payload);
        if !key.public.verifies(&signed, &envelope.signature) {
            return Err(Refusal::Signature {
                key: key.name.clone(),
            });
        }
        self.usable(key, now).map(|()| key)
    }
}

#[cfg(test)]
mod tests {
    use fades_task::quantity::Duration;
    use fades_task::time::Time;

    use super::{REMIND, Role, TrustError, TrustStore};
    use crate::samples::{key, trusted};

    #[test]
    fn a_table_survives_the_way_to_toml_and_back() {
        let mut store = TrustStore::default();
        store.add(trusted("city", 1, &[Role::Submit])).unwrap();
        let mut timed = trusted("plant", 2, &[Role::Publish, Role::Read]);
        timed.not_after = Some("2027-01-01".parse().unwrap());
        timed.development = true;
        store.add(timed).unwrap();
        assert_eq!(TrustStore::parse(&store.to_toml()), Ok(store.clone()));
        assert_eq!(TrustStore::parse(""), Ok(TrustStore::default()));
        assert_eq!(
            store.find(key(2).public().id()).unwrap().name.as_str(),
            "plant"
        );
        assert!(store.remove(&"city".parse().unwrap()));
        assert!(!store.remove(&"city".parse().unwrap()));
    }

    #[test]
    fn a_key_that_ends_is_told_thirty_days_ahead() {
        let now = Time(1_800_000_000_000_000_000);
        let soon = |not_after| {
            let mut key = trusted("city", 1, &[Role::Submit]);
            key.not_after = not_after;
            key.ends_soon(now)
        };
        let (last, next) = (now.after(REMIND), now.after(REMIND).after(Duration(1)));
        assert_eq!(soon(Some(last)), Some(last));
        assert_eq!((soon(Some(next)), soon(None)), (None, None));
        let past = now.before(REMIND);
        assert_eq!(soon(Some(past)), Some(past));
    }

    #[test]
    fn contradictions_are_refused() {
        let add = |key| {
            let mut store = TrustStore::default();
            store.add(trusted("city", 1, &[Role::Submit])).unwrap();
            store.add(key).unwrap_err()
        };
        assert!(matches!(
            add(trusted("city", 2, &[Role::Read])),
            TrustError::SameName(_)
        ));
        assert!(matches!(
            add(trusted("town", 1, &[Role::Read])),
            TrustError::SameKey(..)
        ));
        assert!(matches!(
            add(trusted("town", 2, &[])),
            TrustError::NoRole(_)
        ));
        let mut silent = trusted("town", 2, &[Role::Submit]);
        silent.services.clear();
        assert!(matches!(add(silent), TrustError::Services(_)));
    }

    #[test]
    fn unknown_fields_and_roles_are_named_with_their_line() {
        let mut store = TrustStore::default();
        store.add(trusted("city", 1, &[Role::Read])).unwrap();
        let good = store.to_toml();
        let colour = TrustStore::parse(&format!("{good}colour = 1\n"));
        assert!(
            matches!(colour, Err(TrustError::Toml(m)) if m.contains("colour") && m.contains("line"))
        );
        let root = TrustStore::parse(&good.replace("\"read\"", "\"root\""));
        assert!(matches!(root, Err(TrustError::Toml(m)) if m.contains("root")));
    }
}
