//! Keys and signatures: `key`, `trust`, `sign`, `verify`.

pub(crate) mod file;
pub(crate) mod image;
pub(crate) mod key;
pub(crate) mod sign;
pub(crate) mod trust;
pub(crate) mod verify;
