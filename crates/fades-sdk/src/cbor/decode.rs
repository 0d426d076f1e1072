//! Reading values: item by item in place ([`Reader`]), or as a tree
//! ([`decode`]). Lengths must be definite; integers beyond 64 signed bits,
//! tags and everything else that a [`Value`] cannot hold are refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{major, simple};
use crate::value::{Map, Value};

/// Lists and maps within each other, at most.
const DEPTH_MAX: u8 = 16;

/// Why bytes are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within the value.
    Short,
    /// Bytes follow the value.
    Trailing,
    /// An item that a [`Value`] cannot hold.
    Unsupported,
    /// A text is not UTF-8.
    Text,
    /// A map has a key twice, out of order or not as text.
    Key,
    /// More than 16 lists and maps within each other.
    Deep,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Short => "the value is cut off",
            Self::Trailing => "bytes follow the value",
            Self::Unsupported => "an item is not supported",
            Self::Text => "a text is not UTF-8",
            Self::Key => "a key is no text or out of order",
            Self::Deep => "more than 16 lists and maps within each other",
        })
    }
}

impl core::error::Error for DecodeError {}

/// One value, or the head of a list or map whose entries follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'b> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(&'b str),
    /// Bytes.
    Bytes(&'b [u8]),
    /// So many values follow.
    Array(u64),
    /// So many pairs of a name and a value follow.
    Map(u64),
}

/// Reads items one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// Reads the one value that `bytes` are.
///
/// # Errors
/// Says what is wrong, and where.
pub fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value(0)?;
    reader.end()?;
    Ok(value)
}

impl<'b> Reader<'b> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Refuses bytes that have not been read.
    ///
    /// # Errors
    /// When there are any.
    pub const fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }

    /// The next item.
    ///
    /// # Errors
    /// When the bytes end or mean nothing.
    pub fn item(&mut self) -> Result<Item<'b>, DecodeError> {
        let first = self.big_endian(1)? as u8;
        let n = match first & 0x1f {
            n @ 0..24 => n.into(),
            n @ 24..28 => self.big_endian(1 << (n - 24))?,
            _ => return Err(DecodeError::Unsupported),
        };
        let signed = i64::try_from(n).map_err(|_| DecodeError::Unsupported);
        Ok(match first & 0xe0 {
            major::UNSIGNED => Item::Int(signed?),
            major::NEGATIVE => Item::Int(!signed?),
            major::BYTES => Item::Bytes(self.take(n)?),
            major::TEXT => {
                let text = core::str::from_utf8(self.take(n)?);
                Item::Text(text.map_err(|_| DecodeError::Text)?)
            }
            major::ARRAY => Item::Array(n),
            major::MAP => Item::Map(n),
            _ => match first {
                simple::FALSE => Item::Bool(false),
                simple::TRUE => Item::Bool(true),
                simple::NULL => Item::Null,
                simple::HALF => Item::Float(half(n as u16)),
                simple::SINGLE => Item::Float(f32::from_bits(n as u32).into()),
                simple::DOUBLE => Item::Float(f64::from_bits(n)),
                _ => return Err(DecodeError::Unsupported),
            },
        })
    }

    /// Passes over the next value, with all that is in it.
    ///
    /// # Errors
    /// When the bytes end or mean nothing.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        let mut left = 1_u64;
        while left > 0 {
            let within = match self.item()? {
                Item::Array(n) => n,
                Item::Map(n) => n.saturating_mul(2),
                _ => 0,
            };
            left = (left - 1).saturating_add(within);
        }
        Ok(())
    }

    /// The next item, which must be the name of a map's entry.
    ///
    /// # Errors
    /// When it is no text.
    pub fn key(&mut self) -> Result<&'b str, DecodeError> {
        match self.item()? {
            Item::Text(text) => Ok(text),
            _ => Err(DecodeError::Key),
        }
    }

    fn take(&mut self, n: u64) -> Result<&'b [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = usize::try_from(n).map_err(|_| DecodeError::Short)?;
        let taken = rest.get(..n).ok_or(DecodeError::Short)?;
        self.at += n;
        Ok(taken)
    }

    fn big_endian(&mut self, bytes: u64) -> Result<u64, DecodeError> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn value(&mut self, depth: u8) -> Result<Value, DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::Deep);
        }
        Ok(match self.item()? {
            Item::Null => Value::Null,
            Item::Bool(b) => Value::Bool(b),
            Item::Int(i) => Value::Int(i),
            Item::Float(f) => Value::Float(f),
            Item::Text(t) => Value::Text(t.into()),
            Item::Bytes(b) => Value::Bytes(b.into()),
            Item::Array(n) => {
                let mut items = Vec::new();
                for _ in 0..n {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            Item::Map(n) => Value::Map(self.map(n, depth)?),
        })
    }

    fn map(&mut self, n: u64, depth: u8) -> Result<Map, DecodeError> {
        let mut map = Map::new();
        for _ in 0..n {
            let key = self.key()?;
            let last = map.iter().next_back();
            if last.is_some_and(|(last, _)| (last.len(), last) >= (key.len(), key)) {
                return Err(DecodeError::Key);
            }
            let value = self.value(depth + 1)?;
            map.set(String::from(key), value);
        }
        Ok(map)
    }
}

fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match bits >> 10 & 0x1f {
        0 => fraction / 16_777_216.0,
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => {
            let scale = f64::from_bits(u64::from(exponent + 1023 - 15) << 52);
            (1.0 + fraction / 1024.0) * scale
        }
    };
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
