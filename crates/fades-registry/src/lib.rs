//! Functions as OCI artifacts, in registries and in layout folders.
//!
//! ```text
//! function manifest ── config: empty          referrers (subject: the function's manifest)
//!   │                                           ├─ signature: a DSSE envelope
//!   ├─ layer: the image, by its own digest      └─ bill of materials: CycloneDX
//!   └─ layer: symbols
//! ```
//! * [`mod@reference`]: how people name an artifact.
//! * [`manifest`]: the documents of the image specification, as far as functions need them.
//! * [`function`]: a function as an artifact: what is pushed, what was pulled.
//! * [`shelf`]: what pushing and pulling need of a place where artifacts lie.
//! * [`layout`]: such a place in a folder.
//! * [`remote`]: such a place behind the distribution specification.
//!
//! Nothing is believed because of where it lies: every blob is checked against the
//! digest by which it was asked for, and signatures are the business of who runs a
//! function.

pub mod function;
pub mod layout;
pub mod manifest;
pub mod reference;
pub mod remote;
pub mod shelf;

mod error;

pub use error::RegistryError;
