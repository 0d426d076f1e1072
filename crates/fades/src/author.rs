//! For those who write functions: `new`, `build`, `test`, `publish`.

pub(crate) mod build;
pub(crate) mod new;
pub(crate) mod publish;
pub(crate) mod test;
