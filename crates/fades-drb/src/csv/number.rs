//! Numbers as people and loggers write them.

use crate::config::{Encoding, FieldError};

/// How numbers are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers {
    decimal: u8,
    /// Bytes of the character between groups of digits.
    thousands: Option<Vec<u8>>,
}

/// What a field is as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Finite(f64),
    NotFinite,
    /// It is none.
    Unreadable,
}

/// Longest number that is put together from pieces, bytes.
const LONGEST: usize = 64;

impl Numbers {
    pub(crate) fn compile(
        decimal: char,
        thousands: Option<char>,
        encoding: Encoding,
    ) -> Result<Self, FieldError> {
        if decimal != '.' && decimal != ',' {
            let reason = format!("{decimal:?} separates no fraction: write \".\" or \",\"");
            return Err(FieldError::new("decimal", reason));
        }
        if thousands.is_some_and(|t| t == decimal || t.is_ascii_alphanumeric() || t == '-') {
            let reason = "must differ from decimal, digits and signs";
            return Err(FieldError::new("thousands", reason));
        }
        let thousands = thousands.map(|t| encoded(t, encoding)).transpose()?;
        Ok(Self {
            decimal: decimal as u8,
            thousands,
        })
    }

    /// Reads a field without blanks around it.
    pub(crate) fn read(&self, field: &[u8]) -> Number {
        if self.decimal == b'.' && self.thousands.is_none() {
            return plain(field);
        }
        let mut digits = [0_u8; LONGEST];
        match self.rewritten(field, &mut digits) {
            Some(n) => plain(&digits[..n]),
            None => Number::Unreadable,
        }
    }

    /// Writes `field` with a decimal point and without separators; `None` when
    /// it is too long or has a point that means nothing here.
    fn rewritten(&self, mut field: &[u8], into: &mut [u8; LONGEST]) -> Option<usize> {
        let mut n = 0;
        while let Some((&byte, rest)) = field.split_first() {
            if let Some(after) = self
                .thousands
                .as_deref()
                .and_then(|t| field.strip_prefix(t))
            {
                field = after;
                continue;
            }
            let byte = match byte {
                b if b == self.decimal => b'.',
                b'.' => return None,
                b => b,
            };
            *into.get_mut(n)? = byte;
            n += 1;
            field = rest;
        }
        Some(n)
    }
}

/// The bytes of a character in an encoding.
pub(crate) fn encoded(c: char, encoding: Encoding) -> Result<Vec<u8>, FieldError> {
    match encoding {
        Encoding::Utf8 => Ok(c.to_string().into_bytes()),
        Encoding::Latin1 => match u8::try_from(u32::from(c)) {
            Ok(byte) => Ok(vec![byte]),
            Err(_) => Err(FieldError::new(
                "thousands",
                format!("{c:?} does not exist in latin-1"),
            )),
        },
    }
}

fn plain(field: &[u8]) -> Number {
    if let Some(value) = short(field) {
        return Number::Finite(value);
    }
    match fast_float2::parse::<f64, _>(field) {
        Ok(v) if v.is_finite() => Number::Finite(v),
        Ok(_) => Number::NotFinite,
        Err(_) => Number::Unreadable,
    }
}

/// Reads what most numbers are: up to fifteen digits, perhaps a sign and a point.
/// The digits and the power of ten are exact then, and so their quotient is the
/// nearest number there is.
fn short(field: &[u8]) -> Option<f64> {
    const MOST: usize = 15;
    const TENS: [f64; MOST + 1] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    let (is_negative, digits) = match field {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > MOST {
        return None;
    }
    let (mut mantissa, mut count, mut point) = (0_u64, 0, None);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if point.is_none() => point = Some(count),
            _ => return None,
        }
    }
    if count == 0 {
        return None;
    }
    let value = mantissa as f64 / TENS[point.map_or(0, |p| count - p)];
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::{Number, Numbers};
    use crate::config::Encoding;
    use proptest::prelude::proptest;

    proptest! {
        #[test]
        fn short_numbers_are_read_as_the_standard_library_does(text in "-?[0-9]{0,12}\\.?[0-9]{0,9}") {
            let read = Numbers::compile('.', None, Encoding::Utf8).unwrap().read(text.as_bytes());
            match text.parse::<f64>() {
                Ok(value) => {
                    let Number::Finite(read) = read else { panic!("{text}") };
                    assert_eq!(read.to_bits(), value.to_bits(), "{text}");
                }
                Err(_) => assert_eq!(read, Number::Unreadable, "{text}"),
            }
        }
    }

    #[test]
    fn numbers_with_a_point() {
        let n = Numbers::compile('.', None, Encoding::Utf8).unwrap();
        for (text, value) in [
            ("1", 1.0),
            ("-2.50", -2.5),
            ("1e3", 1000.0),
            ("+4", 4.0),
            (".5", 0.5),
        ] {
            assert_eq!(n.read(text.as_bytes()), Number::Finite(value), "{text}");
        }
        for text in ["nan", "NaN", "inf", "-Infinity", "1e999"] {
            assert_eq!(n.read(text.as_bytes()), Number::NotFinite, "{text}");
        }
        for text in ["", "1,5", "12a", "--1", "0x10", "1 2"] {
            assert_eq!(n.read(text.as_bytes()), Number::Unreadable, "{text}");
        }
    }

    #[test]
    fn numbers_with_a_comma_and_separators() {
        let n = Numbers::compile(',', Some('\u{a0}'), Encoding::Latin1).unwrap();
        assert_eq!(n.read(b"1\xa0234,5"), Number::Finite(1234.5));
        assert_eq!(n.read(b"-0,25"), Number::Finite(-0.25));
        assert_eq!(n.read(b"1.5"), Number::Unreadable);
        assert_eq!(n.read(&[b'1'; 100]), Number::Unreadable);
        let n = Numbers::compile(',', Some('.'), Encoding::Utf8).unwrap();
        assert_eq!(n.read(b"1.234,5"), Number::Finite(1234.5));
        let n = Numbers::compile('.', Some('\u{a0}'), Encoding::Utf8).unwrap();
        assert_eq!(n.read("1\u{a0}000".as_bytes()), Number::Finite(1000.0));
    }

    #[test]
    fn separators_that_contradict_each_other_are_refused() {
        for (decimal, thousands) in [(';', None), ('.', Some('.')), (',', Some('1'))] {
            assert!(Numbers::compile(decimal, thousands, Encoding::Utf8).is_err());
        }
        assert!(Numbers::compile('.', Some('\u{2009}'), Encoding::Latin1).is_err());
    }
}
