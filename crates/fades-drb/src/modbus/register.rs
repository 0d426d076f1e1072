//! From registers to values. Pure.

use crate::config::{Coding, ModbusRegister, Order, Table};
use crate::units;

/// A value in the registers of a unit, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Register {
    pub(super) table: Table,
    pub(super) address: u16,
    coding: Coding,
    order: Order,
    scale: f64,
    offset: f64,
    pub(super) kind: std::sync::Arc<str>,
    pub(super) unit: std::sync::Arc<str>,
    valid: Option<[f64; 2]>,
    missing: Option<f64>,
}

/// What a register says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Said {
    Value {
        value: f64,
        mark: u8,
    },
    /// The raw value that means "not measured".
    Missing,
}

impl Register {
    /// Of a configuration that was checked.
    pub(super) fn new(config: &ModbusRegister) -> Self {
        Self {
            table: config.table,
            address: config.address,
            coding: config.coding(),
            order: config.order,
            scale: config.scale,
            offset: config.offset,
            kind: config.kind.as_str().into(),
            unit: units::code(&config.unit).into(),
            valid: config.valid,
            missing: config.missing,
        }
    }

    /// Registers that it takes.
    pub(super) const fn width(&self) -> u16 {
        self.coding.width()
    }

    /// Where it is, as the configuration says it.
    pub(super) fn place(&self) -> String {
        format!("{} {}", self.table.words(), self.address)
    }

    /// What `words` say, which are the register's own; `None` when they are too
    /// few.
    pub(super) fn read(&self, words: &[u16]) -> Option<Said> {
        let words = words.get(..self.width().into())?;
        let raw = decode(words, self.coding, self.order);
        if self.missing.is_some_and(|m| is_raw(self.coding, raw, m)) {
            return Some(Said::Missing);
        }
        let value = raw * self.scale + self.offset;
        let outside = self
            .valid
            .is_some_and(|[least, greatest]| value < least || value > greatest);
        let mark = if outside {
            fades_abi::batch::mark::OUTSIDE
        } else {
            0
        };
        Some(Said::Value { value, mark })
    }
}

/// Whether a raw value is the one that the operator wrote.
fn is_raw(coding: Coding, raw: f64, written: f64) -> bool {
    match coding {
        // What was written in decimals is not exact in four bytes.
        Coding::F32 => raw as f32 == written as f32,
        _ => raw == written,
    }
}

/// The number in `words`, as many as `coding` takes. Numbers of eight bytes above
/// 2^53 are rounded.
fn decode(words: &[u16], coding: Coding, order: Order) -> f64 {
    let mut bits = 0_u64;
    for i in 0..words.len() {
        let word = match order {
            Order::Abcd | Order::Badc => words[i],
            Order::Cdab | Order::Dcba => words[words.len() - 1 - i],
        };
        let word = match order {
            Order::Abcd | Order::Cdab => word,
            Order::Badc | Order::Dcba => word.swap_bytes(),
        };
        bits = bits << 16 | u64::from(word);
    }
    match coding {
        Coding::U16 | Coding::U32 | Coding::U64 => bits as f64,
        Coding::I16 => f64::from(bits as u16 as i16),
        Coding::I32 => f64::from(bits as u32 as i32),
        Coding::I64 => bits as i64 as f64,
        Coding::F32 => f64::from(f32::from_bits(bits as u32)),
        Coding::F64 => f64::from_bits(bits),
        Coding::Bool => f64::from(u8::from(bits != 0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Register, Said, decode};
    use crate::config::{Coding, ModbusRegister, Order, Table};

    fn register(options: &str) -> Register {
        let text = format!("table = \"holding\"\naddress = 0\nkind = \"t\"\n{options}");
        let config: ModbusRegister = toml::from_str(&text).unwrap();
        Register::new(&config)
    }

    /// The words of big-endian bytes in an order, by the letters of its name.
    fn words(bytes: &[u8], order: Order) -> Vec<u16> {
        let pairs = bytes.chunks(2);
        let (swapped, reversed) = match order {
            Order::Abcd => (false, false),
            Order::Badc => (true, false),
            Order::Cdab => (false, true),
            Order::Dcba => (true, true),
        };
        let mut words: Vec<u16> = pairs
            .map(|p| {
                let [a, b] = [p[0], p[1]];
                u16::from_be_bytes(if swapped { [b, a] } else { [a, b] })
            })
            .collect();
        if reversed {
            words.reverse();
        }
        words
    }

    #[test]
    fn the_orders_are_what_their_letters_say() {
        let value = 0x4048_F5C3; // 3.14 as f32
        let a = 0x4048;
        let [b, c] = [0x4840, 0xC3F5];
        let orders = [
            (Order::Abcd, [a, 0xF5C3]),
            (Order::Badc, [b, c]),
            (Order::Cdab, [0xF5C3, a]),
            (Order::Dcba, [c, b]),
        ];
        for (order, words) in orders {
            let expected = f64::from(f32::from_bits(value));
            assert_eq!(decode(&words, Coding::F32, order), expected, "{order:?}");
        }
    }

    #[test]
    fn values_are_scaled_marked_or_missing() {
        let r =
            register("type = \"i16\"\nscale = 0.5\noffset = 1\nvalid = [-5, 10]\nmissing = -32768");
        let said = |raw: i16| r.read(&[raw as u16]).unwrap();
        assert_eq!(
            said(4),
            Said::Value {
                value: 3.0,
                mark: 0
            }
        );
        assert_eq!(
            said(-13),
            Said::Value {
                value: -5.5,
                mark: 1
            }
        );
        assert_eq!(
            said(19),
            Said::Value {
                value: 10.5,
                mark: 1
            }
        );
        assert_eq!(said(i16::MIN), Said::Missing);
        let f = register("type = \"f32\"\nmissing = -9999.9");
        let raw = (-9999.9_f32).to_bits();
        let read = f.read(&[(raw >> 16) as u16, raw as u16]);
        assert_eq!(read, Some(Said::Missing));
        assert_eq!(f.read(&[1]), None, "too few words");
        assert_eq!(f.table, Table::Holding);
    }

    proptest! {
        /// Every coding and order gives back the number that was coded.
        #[test]
        fn decoding_is_the_inverse_of_coding(bits: u64, order in 0..4_usize) {
            let order = [Order::Abcd, Order::Badc, Order::Cdab, Order::Dcba][order];
            let check = |bytes: &[u8], coding, expected: f64| {
                let got = decode(&words(bytes, order), coding, order);
                prop_assert!(got == expected || (got.is_nan() && expected.is_nan()));
                Ok(())
            };
            check(&(bits as u16).to_be_bytes(), Coding::U16, f64::from(bits as u16))?;
            check(&(bits as i16).to_be_bytes(), Coding::I16, f64::from(bits as i16))?;
            check(&(bits as u32).to_be_bytes(), Coding::U32, f64::from(bits as u32))?;
            check(&(bits as i32).to_be_bytes(), Coding::I32, f64::from(bits as i32))?;
            check(&bits.to_be_bytes(), Coding::U64, bits as f64)?;
            check(&bits.to_be_bytes(), Coding::I64, bits as i64 as f64)?;
            let f = f32::from_bits(bits as u32);
            check(&f.to_be_bytes(), Coding::F32, f.into())?;
            check(&bits.to_be_bytes(), Coding::F64, f64::from_bits(bits))?;
            let bit = (bits & 1) as u16;
            check(&bit.to_be_bytes(), Coding::Bool, bit.into())?;
        }

        /// Words of any number and content say something or nothing.
        #[test]
        fn any_words_can_be_read(words: Vec<u16>, wide: bool) {
            let r = register(if wide { "type = \"f64\"" } else { "type = \"i32\"" });
            prop_assert_eq!(r.read(&words).is_some(), words.len() >= r.width().into());
        }
    }
}
