//! Values as deterministic CBOR (RFC 8949, 4.2): definite lengths, shortest
//! integers, shortest floats that keep the value, maps sorted by the bytes of
//! their keys. Equal values have equal bytes.

mod decode;
mod encode;

pub use decode::{DecodeError, Item, Reader, decode};
pub(crate) use encode::encode_map;
pub use encode::{Full, encode};

/// Major types, in the upper three bits of a head.
mod major {
    pub(super) const UNSIGNED: u8 = 0 << 5;
    pub(super) const NEGATIVE: u8 = 1 << 5;
    pub(super) const BYTES: u8 = 2 << 5;
    pub(super) const TEXT: u8 = 3 << 5;
    pub(super) const ARRAY: u8 = 4 << 5;
    pub(super) const MAP: u8 = 5 << 5;
}

/// Complete heads of major type 7.
mod simple {
    pub(super) const FALSE: u8 = 0xf4;
    pub(super) const TRUE: u8 = 0xf5;
    pub(super) const NULL: u8 = 0xf6;
    pub(super) const HALF: u8 = 0xf9;
    pub(super) const SINGLE: u8 = 0xfa;
    pub(super) const DOUBLE: u8 = 0xfb;
}

#[cfg(test)]
mod tests;
