//! How much memory a function has left, for those that can do with less.

#[cfg(not(any(test, feature = "testing")))]
pub use crate::image::memory_left as left;
#[cfg(any(test, feature = "testing"))]
pub use crate::testing::memory_left as left;
