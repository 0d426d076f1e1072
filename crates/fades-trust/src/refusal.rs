//! Why something signed is not taken.

use fades_task::identity::{Digest, Name};
use fades_task::mtw::MtwError;
use fades_task::quantity::Duration;
use fades_task::time::Time;

use crate::envelope::EnvelopeError;
use crate::function::Architecture;
use crate::trust::{Role, TrustError};

/// Why an envelope is refused. Each message names the reason and what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No envelope at all.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// An envelope of something else.
    #[error("the envelope holds {found:?}, expected is {expected}")]
    PayloadType {
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A key that the node was not told to trust.
    #[error(
        "signed by key {key}, which this node does not trust: its operator can add it with `fades key trust`"
    )]
    UnknownKey {
        /// The key's id.
        key: Digest,
    },
    /// The signature is not that of the key over this payload.
    #[error(
        "the signature is not that of key {key} over this payload: it was changed after it was signed, or signed by another key"
    )]
    Signature {
        /// Name of the key.
        key: Name,
    },
    /// The key's time is over.
    #[error("key {key} is trusted until {end} only: sign with a newer one")]
    KeyExpired {
        /// Name of the key.
        key: Name,
        /// `not-after`.
        end: Time,
    },
    /// The key was revoked.
    #[error(
        "key {key} was revoked as of {since}: {reason}; nothing that it signs is taken any more, whatever the table of keys says: sign with another key (fades key new NAME)"
    )]
    Revoked {
        /// Name of the key, or its id when no table has it.
        key: String,
        /// Since when it is not to be trusted.
        since: Time,
        /// Why.
        reason: String,
    },
    /// A key for trying things out, where only others are taken.
    #[error(
        "key {key} is for development, and this node takes none of those: make another with `fades key new NAME` and have the node's operator trust it with `fades key trust NAME.pub`"
    )]
    Development {
        /// Name of the key.
        key: Name,
    },
    /// Not enough administrators signed.
    #[error("the {what} has {} of the {wanted} signatures that it needs by administrators of the table {table} (signed by {}){}: have {} more sign it: fades trust sign FILE --key NAME", .by.len(), words(.by), not_counted(.uncounted), (*.wanted as usize).saturating_sub(.by.len()))]
    TooFewSignatures {
        /// What was signed.
        what: &'static str,
        /// Which table of keys, in words.
        table: &'static str,
        /// Who signed.
        by: Vec<Name>,
        /// How many have to.
        wanted: u32,
        /// Signatures that do not count, and why.
        uncounted: Vec<String>,
    },
    /// A table that is not newer than the one in force.
    #[error(
        "the trust update has version {found}, and version {in_force} is in force: draft one with a greater version (fades trust draft), and sign that"
    )]
    OldVersion {
        /// Of the update.
        found: u64,
        /// Of the table in force.
        in_force: u64,
    },
    /// A list that is not newer than the one in force.
    #[error(
        "the revocation list has counter {found}, and {in_force} is in force: make one that goes on from that one (fades trust revoke), and sign it"
    )]
    OldCounter {
        /// Of the list.
        found: u64,
        /// Of the list in force.
        in_force: u64,
    },
    /// A number beyond what every program reads alike.
    #[error("the {what} has number {found}, at most {max} is taken", max = crate::update::NUMBER_MAX)]
    Number {
        /// What was signed.
        what: &'static str,
        /// Its version or counter.
        found: u64,
    },
    /// A list that lacks what the one in force has.
    #[error(
        "the revocation list lacks key {key}, which is revoked by the list in force, or has it otherwise: a list holds everything of those before it; make it with `fades trust revoke`"
    )]
    Forgets {
        /// The key that is missing.
        key: Digest,
    },
    /// A list that contradicts itself.
    #[error("the revocation list cannot be used: {0}")]
    List(String),
    /// A table that contradicts itself.
    #[error("the table in the trust update: {0}")]
    Table(#[from] TrustError),
    /// After this, nothing could be signed by enough people any more.
    #[error(
        "the {what} would leave {left} administrators who can sign, and {threshold} have to: nobody could change this node's trust again; first take a trust update with other administrators or a lower threshold"
    )]
    LocksOut {
        /// What was signed.
        what: &'static str,
        /// How many would be left.
        left: usize,
        /// How many have to sign.
        threshold: u32,
    },
    /// The key lacks a role.
    #[error("key {key} may not {role}, it may {}: the node's operator can give it the role with `fades key trust`", words(.has))]
    Role {
        /// Name of the key.
        key: Name,
        /// The role needed.
        role: Role,
        /// The roles had.
        has: Vec<Role>,
    },
    /// The key does not speak for the service.
    #[error("key {key} does not speak for service {service}, it speaks for {}: change task.service or sign with the service's key", words(.services))]
    Service {
        /// Name of the key.
        key: Name,
        /// The service named.
        service: Name,
        /// The services that the key speaks for.
        services: Vec<Name>,
    },
    /// The payload is not what its type says.
    #[error("the signed {what} cannot be read: {reason}")]
    Payload {
        /// What it should be.
        what: &'static str,
        /// Field, reason and place.
        reason: String,
    },
    /// Meant for another node.
    #[error("meant for {}, this node is {}: add the node's name or label to \"for\" and sign again", words(.audience), words(.node))]
    Audience {
        /// For whom.
        audience: Vec<Name>,
        /// The node's name and labels.
        node: Vec<Name>,
    },
    /// Its time is over.
    #[error(
        "expired at {expires}, it is {now} here: sign it again with a later time, or set the clock that is wrong"
    )]
    Expired {
        /// When.
        expires: Time,
        /// The node's time.
        now: Time,
    },
    /// A request that would be valid for too long.
    #[error(
        "a request may be valid for {most} at the most, this one is until {expires}, it is {now} here: set the clock that is wrong"
    )]
    TooLong {
        /// When it expires.
        expires: Time,
        /// The node's time.
        now: Time,
        /// How long it may be valid.
        most: Duration,
    },
    /// No digest in `function.image`.
    #[error(
        "function.image names {function} without a digest: write {function}@sha256:…, as `fades functions` lists it"
    )]
    NotPinned {
        /// The function.
        function: Name,
    },
    /// A task that contradicts itself.
    #[error(transparent)]
    Mtw(#[from] MtwError),
    /// The image is not the one that was signed.
    #[error(
        "the image has digest {found}, signed is {signed}: it was changed after it was signed; publish it again with `fades publish`"
    )]
    ImageDigest {
        /// Of the image.
        found: Digest,
        /// In the statement.
        signed: Digest,
    },
    /// The image has another length than was signed.
    #[error(
        "the image has {found} bytes, signed are {signed}: publish it again with `fades publish`"
    )]
    ImageSize {
        /// Of the image.
        found: u64,
        /// In the statement.
        signed: u64,
    },
    /// The image is for another kind of processor.
    #[error(
        "function {function} is built for {built}, this node is {node}: build it there with `fades build`"
    )]
    Architecture {
        /// The function.
        function: Name,
        /// What it is built for.
        built: Architecture,
        /// What the node is.
        node: Architecture,
    },
    /// A request for another method or path.
    #[error(
        "the signed request is {signed:?}, the one received is {received:?}: sign each request for itself"
    )]
    OtherRequest {
        /// Method and path signed.
        signed: String,
        /// Method and path received.
        received: String,
    },
}

fn not_counted(reasons: &[String]) -> String {
    match reasons {
        [] => String::new(),
        reasons => format!("; not counted: {}", reasons.join(", ")),
    }
}

fn words<T: ToString>(items: &[T]) -> String {
    let words: Vec<_> = items.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [] => "nobody".to_owned(),
        words => words.join(", "),
    }
}
