//! Whom a node trusts, as the API shows it.

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which table of keys is in force, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustState {
    /// Its version; 0 when nobody counts.
    pub version: u64,
    /// It came as an update, which administrators signed; otherwise it is the
    /// operator's file.
    pub update: bool,
    /// How many administrators have to sign the next one.
    pub threshold: u32,
    /// Administrators who can.
    pub administrators: u64,
    /// Counter of the list of revoked keys; 0 when there is none.
    pub counter: u64,
    /// Keys that are revoked.
    pub revoked: u64,
    /// The node was restored from a backup of this time, and nothing was handed in
    /// since: what was signed later may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Time>,
}

/// Answer of `GET /v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustInfo {
    /// In short.
    pub state: TrustState,
    /// The keys of the table.
    pub keys: Vec<TrustKeyInfo>,
    /// The keys that are trusted no longer.
    pub revoked: Vec<RevokedKey>,
    /// The update in force as it was signed, for other nodes and for drafts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub update_signers: Vec<Name>,
    /// The list of revoked keys as it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<String>,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocation_signers: Vec<Name>,
}

/// A key of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustKeyInfo {
    /// Its name.
    pub name: Name,
    /// Its id, as envelopes name it.
    pub id: Digest,
    /// The key.
    pub public: String,
    /// What it may be used for: `publish`, `submit`, `read`, `audit`, `administer`.
    pub roles: Vec<String>,
    /// The services that it speaks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Name>,
    /// It is for development.
    #[serde(default)]
    pub development: bool,
    /// From when on it is not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Why nothing that it signs is taken now, when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A key that is trusted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RevokedKey {
    /// Its id.
    pub key: Digest,
    /// Since when its signatures are not to be believed.
    pub since: Time,
    /// Why.
    pub reason: String,
}

/// Answer of `PUT /v1/trust` and `PUT /v1/revocations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustTaken {
    /// The version or counter that is in force now.
    pub number: u64,
    /// It was not in force before.
    pub fresh: bool,
    /// What goes on from it.
    pub state: TrustState,
}
