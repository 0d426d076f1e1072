//! Addresses of a function, as the host knows them: numbers, never pointers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An address in the function's address space.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct GuestAddr(pub(crate) u64);

/// A distance from the start of the memory that host and function share.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct Offset(pub(crate) u64);

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Size of a page of either side, bytes.
pub(crate) const PAGE: u64 = 4096;

/// Size of a large page, bytes.
pub(crate) const LARGE_PAGE: u64 = 2 << 20;
