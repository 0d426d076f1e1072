//! Keys and signatures: `key`, `sign`, `verify`.

pub(crate) mod file;
pub(crate) mod image;
pub(crate) mod key;
pub(crate) mod sign;
pub(crate) mod verify;
