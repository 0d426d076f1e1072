//! The CBOR form: labels are small integers (RFC 8428, table 4), extensions have
//! text labels.

use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};

use super::{PayloadError, Record, add, must_be_understood, no_senml};

pub(super) fn records(payload: &[u8]) -> Result<Vec<Record>, PayloadError> {
    let mut decoder = Decoder::new(payload);
    let mut records = Vec::new();
    let length = decoder.array().map_err(no_senml)?;
    let mut left = length;
    while more(&mut decoder, &mut left).map_err(no_senml)? {
        add(&mut records, record(&mut decoder).map_err(no_senml)?)?;
    }
    if decoder.position() < payload.len() {
        return Err(no_senml("something follows the pack"));
    }
    Ok(records)
}

/// Whether an array or map goes on: `left` counts down, or a break ends it.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Error> {
    match left {
        Some(0) => Ok(false),
        Some(n) => {
            *n -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn record(decoder: &mut Decoder<'_>) -> Result<Record, Error> {
    let mut record = Record::default();
    let mut left = decoder.map()?;
    while more(decoder, &mut left)? {
        if matches!(decoder.datatype()?, Type::String | Type::StringIndef) {
            let label = text(decoder)?;
            decoder.skip()?;
            if must_be_understood(&label) {
                record.must = Some(label.chars().take(32).collect());
            }
            continue;
        }
        match decoder.i64()? {
            -2 => record.base_name = Some(text(decoder)?),
            -3 => record.base_time = Some(number(decoder)?),
            -4 => record.base_unit = Some(text(decoder)?),
            -5 => record.base_value = Some(number(decoder)?),
            -6 => record.base_sum = Some(number(decoder)?),
            -1 => record.version = Some(decoder.i64()?),
            0 => record.name = Some(text(decoder)?),
            1 => record.unit = Some(text(decoder)?),
            2 => record.value = Some(number(decoder)?),
            5 => record.sum = Some(number(decoder)?),
            6 => record.time = Some(number(decoder)?),
            // Text, boolean, bytes.
            3 | 4 | 8 => {
                decoder.skip()?;
                record.other = true;
            }
            _ => decoder.skip()?,
        }
    }
    Ok(record)
}

fn text(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    decoder.str_iter()?.collect()
}

/// An integer, a float or a decimal fraction (RFC 8428, 6).
fn number(decoder: &mut Decoder<'_>) -> Result<f64, Error> {
    match decoder.datatype()? {
        Type::F16 => half(decoder),
        Type::F32 => decoder.f32().map(f64::from),
        Type::F64 => decoder.f64(),
        Type::Tag => fraction(decoder),
        _ => decoder.int().map(|int| i128::from(int) as f64),
    }
}

/// Half precision (IEEE 754 binary16): sign, 5 bits of exponent, 10 of fraction.
fn half(decoder: &mut Decoder<'_>) -> Result<f64, Error> {
    let at = decoder.position() + 1;
    let bytes = decoder.input().get(at..at + 2);
    let Some(&[high, low]) = bytes else {
        return Err(Error::end_of_input());
    };
    decoder.set_position(at + 2);
    let bits = u16::from_be_bytes([high, low]);
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    Ok(sign
        * match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
        })
}

fn fraction(decoder: &mut Decoder<'_>) -> Result<f64, Error> {
    const DECIMAL_FRACTION: Tag = Tag::new(4);
    if decoder.tag()? != DECIMAL_FRACTION || decoder.array()? != Some(2) {
        return Err(Error::message("a number has an unknown tag"));
    }
    let (exponent, mantissa) = (decoder.i64()?, i128::from(decoder.int()?));
    // As text, so that it is rounded once.
    let text = format!("{mantissa}e{exponent}");
    text.parse()
        .map_err(|_| Error::message("no decimal fraction"))
}
