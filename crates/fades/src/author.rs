//! For those who write functions: `new`, `build`, `test`, `publish`,
//! and `push`, `pull`, `inspect` for registries.

pub(crate) mod build;
pub(crate) mod inspect;
pub(crate) mod materials;
pub(crate) mod new;
mod place;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod test;
