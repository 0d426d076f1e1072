//! placeholder
/// x
pub(crate) fn set_level(_: u32) {}
