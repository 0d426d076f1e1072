//! What a FADES function links: the [`function::Function`] trait and all that a
//! function needs to read its data and give its answer.
//!
//! ```text
//! #![cfg_attr(not(test), no_std, no_main)]
//! use fades_sdk::prelude::*;
//!
//! /// Counts readings above a limit.
//! struct Above {
//!     limit: f64,
//!     count: u64,
//! }
//!
//! impl Function for Above {
//!     fn new(params: &Params) -> Result<Self, Abort> {
//!         Ok(Self { limit: params.require("limit")?, count: 0 })
//!     }
//!
//!     fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
//!         self.count += batch.value().iter().filter(|&&v| v > self.limit).count() as u64;
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
//!         output.set("above", self.count);
//!         Ok(())
//!     }
//! }
//!
//! function!(Above);
//! ```
//!
//! The crate has two faces. In an image it is `no_std`, brings the entry point,
//! the allocator, the panic handler and the memory functions, and reaches its
//! host through the gate alone ([`fades_abi`]). With the feature `testing` it
//! is an ordinary library of the host with none of these and with `testing`,
//! which runs a function on rows that a test writes down. Everything between
//! the two, from the event loop to the encoding of answers, is the same code.
//!
//! Start reading at [`mod@function`], then `serve`.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

pub mod cbor;
pub mod context;
pub mod function;
pub mod log;
pub mod memory;
pub mod output;
pub mod params;
pub mod reduce;
mod serve;
pub mod value;

#[cfg(not(any(test, feature = "testing")))]
mod image;
/// The part of [`image`] that can be tested where there is an operating system.
#[cfg(test)]
#[path = "image/memory.rs"]
mod image_memory;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(not(any(test, feature = "testing")))]
#[doc(hidden)]
pub use image::run;

pub use fades_abi as abi;
pub use fades_abi::batch::{Batch, SeriesRows};

/// All that an ordinary function names.
pub mod prelude {
    pub use crate::abi::batch::mark;
    pub use crate::context::{Context, Zone};
    pub use crate::function::{Abort, Function};
    pub use crate::output::{Output, SeriesName};
    pub use crate::params::{Params, Span};
    pub use crate::value::{Map, Value};
    pub use crate::{Batch, SeriesRows, abort, function, log};
    pub use alloc::borrow::ToOwned;
    pub use alloc::boxed::Box;
    pub use alloc::collections::{BTreeMap, BTreeSet};
    pub use alloc::string::{String, ToString};
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
}
