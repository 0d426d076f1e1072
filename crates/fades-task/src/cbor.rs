//! Deterministic CBOR (RFC 8949, section 4.2) as JSON values.
//!
//! Parameters travel to a function as deterministic CBOR, and answers come
//! back as such. [`encode`] writes the one encoding that a value has;
//! [`decode`] takes nothing else: definite lengths, shortest integers and
//! floats, sorted keys without duplicates, text keys, bounded depth.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is taken.
pub const DEPTH_MAX: usize = 32;

/// Why bytes are no deterministic CBOR of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Ends inside an item.
    #[error("the CBOR ends inside an item, at byte {0}")]
    Short(usize),
    /// Bytes follow the item.
    #[error("bytes follow the CBOR item, at byte {0}")]
    Trailing(usize),
    /// An integer, length or float is not in its shortest form.
    #[error("not the shortest form, at byte {0}")]
    NotShortest(usize),
    /// Map keys are not sorted or not unique.
    #[error("map keys are not in ascending order, at byte {0}")]
    KeyOrder(usize),
    /// A map key that is no text.
    #[error("a map key is no text, at byte {0}")]
    KeyType(usize),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8, at byte {0}")]
    Utf8(usize),
    /// A type that answers do not have: byte strings, tags, indefinite
    /// lengths, undefined, non-finite floats.
    #[error("an item of a type that is not allowed, at byte {0}")]
    Type(usize),
    /// Nested too deeply.
    #[error("nested more than {DEPTH_MAX} deep, at byte {0}")]
    Depth(usize),
    /// An integer outside of 64 bits.
    #[error("an integer outside of 64 bits, at byte {0}")]
    Integer(usize),
}

/// The deterministic encoding of `value`. Map keys are sorted by their encoded
/// bytes; integral JSON numbers become integers, others the shortest float
/// that keeps the value.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value);
    out
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(b) => out.push(0xf4 + u8::from(*b)),
        Value::Number(n) => put_number(out, n),
        Value::String(s) => put_text(out, s),
        Value::Array(items) => {
            put_head(out, 4, items.len() as u64);
            items.iter().for_each(|i| put(out, i));
        }
        Value::Object(map) => put_map(out, map),
    }
}

fn put_head(out: &mut Vec<u8>, major: u8, n: u64) {
    let major = major << 5;
    match n {
        0..=23 => out.push(major | n as u8),
        24..=0xff => out.extend([major | 24, n as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend((n as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(n.to_be_bytes());
        }
    }
}

fn put_text(out: &mut Vec<u8>, s: &str) {
    put_head(out, 3, s.len() as u64);
    out.extend(s.as_bytes());
}

fn put_number(out: &mut Vec<u8>, n: &Number) {
    if let Some(u) = n.as_u64() {
        put_head(out, 0, u);
    } else if let Some(i) = n.as_i64() {
        put_head(out, 1, !i as u64);
    } else {
        // serde_json holds finite numbers only.
        put_float(out, n.as_f64().unwrap_or(0.0));
    }
}

fn put_float(out: &mut Vec<u8>, f: f64) {
    let single = f as f32;
    if f64::from(single).to_bits() != f.to_bits() {
        out.push(0xfb);
        out.extend(f.to_be_bytes());
    } else if let Some(half) = to_half(single) {
        out.push(0xf9);
        out.extend(half.to_be_bytes());
    } else {
        out.push(0xfa);
        out.extend(single.to_be_bytes());
    }
}

fn put_map(out: &mut Vec<u8>, map: &Map<String, Value>) {
    put_head(out, 5, map.len() as u64);
    let mut entries: Vec<(Vec<u8>, &Value)> = map
        .iter()
        .map(|(k, v)| {
            let mut key = Vec::new();
            put_text(&mut key, k);
            (key, v)
        })
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in entries {
        out.extend(key);
        put(out, value);
    }
}

/// `f` as IEEE 754 binary16, if that keeps the value.
fn to_half(f: f32) -> Option<u16> {
    let bits = f.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let fraction = bits & 0x7f_ffff;
    match exponent {
        -127 if fraction == 0 => Some(sign),
        -14..=15 if fraction & 0x1fff == 0 => {
            Some(sign | ((exponent + 15) as u16) << 10 | (fraction >> 13) as u16)
        }
        // Subnormal halves are multiples of 2^-24.
        -24..=-15 => {
            let full = fraction | 0x80_0000;
            let shift = (-1 - exponent) as u32;
            (full & ((1 << shift) - 1) == 0).then(|| sign | (full >> shift) as u16)
        }
        _ => None,
    }
}

fn from_half(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1f);
    let fraction = f64::from(half & 0x3ff);
    match exponent {
        0 => sign * fraction * 2_f64.powi(-24),
        31 => f64::NAN,
        e => sign * (1.0 + fraction / 1024.0) * 2_f64.powi(e - 15),
    }
}

/// The value that `bytes` encode.
///
/// # Errors
/// When they are not the deterministic encoding of a JSON value.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.item(0)?;
    if reader.at == bytes.len() {
        Ok(value)
    } else {
        Err(CborError::Trailing(reader.at))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], CborError> {
        let short = CborError::Short(self.at);
        let end = usize::try_from(n)
            .ok()
            .and_then(|n| self.at.checked_add(n))
            .ok_or(short)?;
        let taken = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, bytes: u64) -> Result<u64, CborError> {
        Ok(self
            .take(bytes)?
            .iter()
            .fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// Major type and argument.
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let at = self.at;
        let first = self.number(1)? as u8;
        let (n, least) = match first & 0x1f {
            small @ 0..=23 => (u64::from(small), 0),
            24 => (self.number(1)?, 24),
            25 => (self.number(2)?, 0x100),
            26 => (self.number(4)?, 0x1_0000),
            27 => (self.number(8)?, 0x1_0000_0000),
            _ => return Err(CborError::Type(at)),
        };
        if n < least {
            Err(CborError::NotShortest(at))
        } else {
            Ok((first >> 5, n))
        }
    }

    fn item(&mut self, depth: usize) -> Result<Value, CborError> {
        let at = self.at;
        if depth > DEPTH_MAX {
            return Err(CborError::Depth(at));
        }
        if self.bytes.get(at).is_some_and(|b| b >> 5 == 7) {
            return self.simple();
        }
        match self.head()? {
            (0, n) => Ok(n.into()),
            (1, n) => i64::try_from(n)
                .map(|n| (!n).into())
                .map_err(|_| CborError::Integer(at)),
            (3, n) => self.text(n).map(|s| Value::String(s.to_owned())),
            (4, n) => (0..n)
                .map(|_| self.item(depth + 1))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            (5, n) => self.map(n, depth + 1),
            _ => Err(CborError::Type(at)),
        }
    }

    fn text(&mut self, length: u64) -> Result<&'a str, CborError> {
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Utf8(at))
    }

    fn map(&mut self, entries: u64, depth: usize) -> Result<Value, CborError> {
        let mut map = Map::new();
        let mut last: &[u8] = &[];
        for _ in 0..entries {
            let at = self.at;
            let (3, length) = self.head()? else {
                return Err(CborError::KeyType(at));
            };
            let key = self.text(length)?;
            let encoded = &self.bytes[at..self.at];
            if encoded <= last {
                return Err(CborError::KeyOrder(at));
            }
            last = encoded;
            map.insert(key.to_owned(), self.item(depth)?);
        }
        Ok(Value::Object(map))
    }

    fn simple(&mut self) -> Result<Value, CborError> {
        let at = self.at;
        let float = match self.number(1)? {
            0xf4 => return Ok(false.into()),
            0xf5 => return Ok(true.into()),
            0xf6 => return Ok(Value::Null),
            0xf9 => from_half(self.number(2)? as u16),
            0xfa => f32::from_bits(self.number(4)? as u32).into(),
            0xfb => f64::from_bits(self.number(8)?),
            _ => return Err(CborError::Type(at)),
        };
        let number = Number::from_f64(float).ok_or(CborError::Type(at))?;
        let mut shortest = Vec::new();
        put_float(&mut shortest, float);
        if shortest == self.bytes[at..self.at] {
            Ok(Value::Number(number))
        } else {
            Err(CborError::NotShortest(at))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CborError, decode, encode};
    use serde_json::{Value, json};

    fn hex(s: &str) -> Vec<u8> {
        (0..s.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        // RFC 8949, appendix A.
        for (value, bytes) in [
            (json!(0), "00"),
            (json!(23), "17"),
            (json!(24), "1818"),
            (json!(1_000_000_000_000_u64), "1b000000e8d4a51000"),
            (json!(u64::MAX), "1bffffffffffffffff"),
            (json!(-1), "20"),
            (json!(-1000), "3903e7"),
            (json!(0.0), "f90000"),
            (json!(-0.0), "f98000"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!(1.5), "f93e00"),
            (json!(65504.0), "f97bff"),
            (json!(100_000.0), "fa47c35000"),
            (json!(3.402_823_466_385_288_6e38), "fa7f7fffff"),
            (json!(1.0e300), "fb7e37e43c8800759c"),
            (json!(5.960_464_477_539_063e-8), "f90001"),
            (json!(0.000_061_035_156_25), "f90400"),
            (json!(-4.1), "fbc010666666666666"),
            (json!("ü"), "62c3bc"),
            (json!([1, [2, 3], [4, 5]]), "8301820203820405"),
            (
                json!({"a": "A", "b": "B"}),
                "a261616141616261 42".replace(' ', "").as_str(),
            ),
            (json!([true, false, null]), "83f5f4f6"),
        ] {
            assert_eq!(encode(&value), hex(bytes), "{value}");
            assert_eq!(decode(&hex(bytes)).unwrap(), value, "{bytes}");
        }
    }

    #[test]
    fn keys_are_sorted_by_length_first_as_their_encoding_is() {
        let bytes = encode(&json!({"bb": 1, "a": 2, "c": 3}));
        assert_eq!(
            bytes,
            hex("a3616102616303626262 01".replace(' ', "").as_str())
        );
    }

    #[test]
    fn every_other_encoding_is_refused() {
        for (bytes, error) in [
            ("1800", CborError::NotShortest(0)),
            ("1900ff", CborError::NotShortest(0)),
            ("fa3fc00000", CborError::NotShortest(0)),
            ("fb3ff8000000000000", CborError::NotShortest(0)),
            ("a2616201616102", CborError::KeyOrder(4)),
            ("a2616101616102", CborError::KeyOrder(4)),
            ("a10102", CborError::KeyType(1)),
            ("9f01ff", CborError::Type(0)),
            ("c001", CborError::Type(0)),
            ("4101", CborError::Type(0)),
            ("f97e00", CborError::Type(0)),
            ("f97c00", CborError::Type(0)),
            ("61ff", CborError::Utf8(1)),
            ("8201", CborError::Short(2)),
            ("9bffffffffffffffff", CborError::Short(9)),
            ("7bffffffffffffffff", CborError::Short(9)),
            ("3bffffffffffffffff", CborError::Integer(0)),
            ("0000", CborError::Trailing(1)),
            ("", CborError::Short(0)),
        ] {
            assert_eq!(decode(&hex(bytes)).unwrap_err(), error, "{bytes}");
        }
        let bomb = vec![0x81; 100_000];
        assert!(matches!(decode(&bomb), Err(CborError::Depth(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_value_survives(text in ".{0,40}", i: i64, u: u64, f: f64, b: bool) {
            let f = if f.is_finite() { json!(f) } else { Value::Null };
            let value = json!({ "t": text, "i": i, "list": [u, f, b, null], "": {} });
            proptest::prop_assert_eq!(decode(&encode(&value)).unwrap(), value);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>) {
            if let Ok(value) = decode(&bytes) {
                proptest::prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
