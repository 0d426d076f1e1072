//! Writing a value, and measuring it when there is no room.

use super::{major, simple};
use crate::value::{Map, Value};

/// The destination is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Bytes needed.
    pub needed: usize,
}

/// Writes `value` to the start of `window` and returns its length.
///
/// # Errors
/// When `window` is too short; it then holds a part of the value.
pub fn encode(value: &Value, window: &mut [u8]) -> Result<usize, Full> {
    let mut writer = Writer { window, at: 0 };
    writer.value(value);
    writer.end()
}

pub(crate) fn encode_map(map: &Map, window: &mut [u8]) -> Result<usize, Full> {
    let mut writer = Writer { window, at: 0 };
    writer.map(map);
    writer.end()
}

/// Goes on counting where it can no longer write, so that one pass tells how
/// much room is needed.
struct Writer<'w> {
    window: &'w mut [u8],
    at: usize,
}

impl Writer<'_> {
    const fn end(self) -> Result<usize, Full> {
        if self.at <= self.window.len() {
            Ok(self.at)
        } else {
            Err(Full { needed: self.at })
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(room) = self.window.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn head(&mut self, major: u8, n: u64) {
        let wide = n.to_be_bytes();
        match n {
            0..24 => self.bytes(&[major | wide[7]]),
            24..0x100 => self.bytes(&[major | 24, wide[7]]),
            0x100..0x1_0000 => self.extended(major | 25, &wide[6..]),
            0x1_0000..0x1_0000_0000 => self.extended(major | 26, &wide[4..]),
            _ => self.extended(major | 27, &wide),
        }
    }

    fn extended(&mut self, first: u8, rest: &[u8]) {
        self.bytes(&[first]);
        self.bytes(rest);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(&[simple::NULL]),
            Value::Bool(b) => self.bytes(&[if *b { simple::TRUE } else { simple::FALSE }]),
            Value::Int(i) if *i < 0 => self.head(major::NEGATIVE, !i.cast_unsigned()),
            Value::Int(i) => self.head(major::UNSIGNED, i.cast_unsigned()),
            Value::Float(f) => self.float(*f),
            Value::Text(t) => self.text(t),
            Value::Bytes(b) => {
                self.head(major::BYTES, b.len() as u64);
                self.bytes(b);
            }
            Value::Array(items) => {
                self.head(major::ARRAY, items.len() as u64);
                for item in items {
                    self.value(item);
                }
            }
            Value::Map(map) => self.map(map),
        }
    }

    fn text(&mut self, text: &str) {
        self.head(major::TEXT, text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn map(&mut self, map: &Map) {
        self.head(major::MAP, map.len() as u64);
        for (name, value) in map.iter() {
            self.text(name);
            self.value(value);
        }
    }

    fn float(&mut self, value: f64) {
        let single = value as f32;
        if value.is_nan() {
            self.extended(simple::HALF, &0x7e00_u16.to_be_bytes());
        } else if f64::from(single) != value {
            self.extended(simple::DOUBLE, &value.to_be_bytes());
        } else if let Some(half) = half(single) {
            self.extended(simple::HALF, &half.to_be_bytes());
        } else {
            self.extended(simple::SINGLE, &single.to_be_bytes());
        }
    }
}

/// The binary16 with the same value, when there is one. Not for NaN.
fn half(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let fraction = bits & 0x7f_ffff;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    match exponent {
        128 => Some(sign | 0x7c00),
        -14..=15 if fraction.trailing_zeros() >= 13 => {
            Some(sign | ((exponent + 15) as u16) << 10 | (fraction >> 13) as u16)
        }
        // Below 2^-14 a binary16 has no hidden bit: value = n * 2^-24.
        -24..=-15 => {
            let shift = (-1 - exponent) as u32;
            let whole = fraction | 0x80_0000;
            (whole.trailing_zeros() >= shift).then_some(sign | (whole >> shift) as u16)
        }
        _ if bits << 1 == 0 => Some(sign),
        _ => None,
    }
}
