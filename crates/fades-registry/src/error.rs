//! What can go wrong between FADES and a place where artifacts lie.

use std::path::PathBuf;

use fades_outside::client::ClientError;
use fades_outside::field::FieldError;
use fades_task::identity::Digest;

/// Why something cannot be pushed, pulled or looked at.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nothing has this name or digest.
    #[error("{place} has no {what}: look at the name and the tag, or push it first")]
    Missing {
        /// The registry and its repository, or the folder.
        place: String,
        /// What was looked for.
        what: String,
    },
    /// The server could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address makes no sense.
    #[error("the registry's address: {}", .0.reason)]
    Address(FieldError),
    /// The registry does not let one in.
    #[error("{place} does not let {who} in ({status}: {words}): {remedy}")]
    Forbidden {
        /// The registry and its repository.
        place: String,
        /// As whom one came.
        who: String,
        /// The status.
        status: u16,
        /// What the registry says.
        words: String,
        /// What helps.
        remedy: &'static str,
    },
    /// The registry answers something that the specification does not say.
    #[error("{place}: {doing} was answered with {status}: {words}")]
    Status {
        /// The registry and its repository.
        place: String,
        /// What was attempted.
        doing: &'static str,
        /// The status.
        status: u16,
        /// What the registry says.
        words: String,
    },
    /// An answer that cannot be used.
    #[error("{place}: {what} cannot be used: {reason}")]
    Answer {
        /// The registry and its repository, or the folder.
        place: String,
        /// What was asked for.
        what: String,
        /// Why not.
        reason: String,
    },
    /// What came is not what was asked for.
    #[error(
        "{place}: what it gave as {expected} has the digest {found}: it was changed there or on the way"
    )]
    Changed {
        /// The registry and its repository, or the folder.
        place: String,
        /// By what it was asked for.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A server to which the registry sends one and which was not named.
    #[error(
        "{place} sends to {to}, which is not configured: add it to \"others\" of the registry if it belongs to it"
    )]
    Elsewhere {
        /// The registry and its repository.
        place: String,
        /// Scheme and host of the other server.
        to: String,
    },
    /// An artifact of another kind.
    #[error("{what} is no FADES function but {found}: name one that was pushed with `fades push`")]
    NoFunction {
        /// What was asked for.
        what: String,
        /// What it is.
        found: String,
    },
    /// An index without an image for this kind of processor.
    #[error(
        "{what} is there for {available} only, not for {wanted}: build it there and push it with `fades push --index`"
    )]
    Architecture {
        /// What was asked for.
        what: String,
        /// For which it is there.
        available: String,
        /// For which it was wanted.
        wanted: String,
    },
    /// A file of a layout folder.
    #[error("{}: {doing}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A folder that is no OCI layout.
    #[error("{} is no OCI layout folder: {reason}; name an empty folder to begin one", .folder.display())]
    NoLayout {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl From<FieldError> for RegistryError {
    fn from(e: FieldError) -> Self {
        Self::Address(e)
    }
}
