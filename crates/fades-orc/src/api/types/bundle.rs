//! Bundles: everything that a node shall take, in one file.

use fades_task::identity::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Publish;

/// Longest bundle, bytes.
pub const BUNDLE_MAX: usize = 64 << 20;

/// Most tables of keys and lists of revoked keys in a bundle.
pub const BUNDLE_TRUST_MAX: usize = 16;

/// Most functions in a bundle.
pub const BUNDLE_FUNCTIONS_MAX: usize = 64;

/// Most tasks in a bundle.
pub const BUNDLE_TASKS_MAX: usize = 256;

/// Body of `POST /v1/bundles`, and what is in a bundle's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bundle {
    /// That it is one, and its form.
    pub format: BundleFormat,
    /// DSSE envelopes of tables of keys and of lists of revoked keys, as texts, in the
    /// order in which they are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
    /// Functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<Publish>,
    /// DSSE envelopes of tasks, as texts, in the order in which they are handed in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
}

/// Forms of bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BundleFormat {
    /// The first.
    #[serde(rename = "fades-bundle/1")]
    One,
}

/// Answer of `POST /v1/bundles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BundleTaken {
    /// Nothing was taken: this is what would be.
    pub checked: bool,
    /// What it has, in the order in which it is taken.
    pub parts: Vec<BundlePart>,
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BundlePart {
    /// What it is.
    pub kind: BundleKind,
    /// A function's name or a task's id; a version or a counter.
    pub name: String,
    /// Who signed a task or a function, as the node names the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Name>,
    /// The node did not have it before.
    pub fresh: bool,
}

/// What may be in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BundleKind {
    /// A table of keys.
    Trust,
    /// A list of revoked keys.
    Revocations,
    /// A function.
    Function,
    /// A task.
    Task,
}
