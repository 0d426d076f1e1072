//! Signatures, keys and roles.
//!
//! Functions and tasks travel as DSSE envelopes ([`envelope`]) signed with
//! Ed25519 keys ([`key`]). A node is told which keys it trusts and for what
//! ([`trust`]); [`task`], [`function`] and [`request`] turn an envelope into
//! something verified, or into a [`refusal::Refusal`] that says why not and
//! what helps. What the node trusts is changed by envelopes as well, which
//! several people sign ([`joint`]): another table ([`update`]), and a list of
//! keys that are trusted no longer ([`revocation`]). Whether what is verified is
//! also granted is said by [`grant`].
//!
//! Nothing here reads a clock, a file or a socket: the time is an argument, and
//! key files are read by whoever has a folder. The one source of randomness is
//! the operating system's, for new keys.

pub mod envelope;
pub mod function;
pub mod grant;
pub mod joint;
pub mod key;
pub mod refusal;
pub mod request;
pub mod revocation;
pub mod task;
pub mod trust;
pub mod update;

#[cfg(test)]
mod samples;
