use minicbor::data::Type;
use proptest::prelude::*;

use super::*;
use crate::value::{Map, Value};

fn bytes(value: &Value) -> Vec<u8> {
    let mut window = vec![0; 4096];
    let length = encode(value, &mut window).unwrap();
    window.truncate(length);
    window
}

fn hex(value: &Value) -> String {
    bytes(value).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn examples_of_the_standard_are_encoded_as_it_says() {
    // RFC 8949, appendix A, as far as values have these types.
    let cases = [
        (Value::Int(0), "00"),
        (Value::Int(10), "0a"),
        (Value::Int(23), "17"),
        (Value::Int(24), "1818"),
        (Value::Int(100), "1864"),
        (Value::Int(1000), "1903e8"),
        (Value::Int(1_000_000), "1a000f4240"),
        (Value::Int(1_000_000_000_000), "1b000000e8d4a51000"),
        (Value::Int(-1), "20"),
        (Value::Int(-100), "3863"),
        (Value::Int(i64::MIN), "3b7fffffffffffffff"),
        (Value::Float(0.0), "f90000"),
        (Value::Float(-0.0), "f98000"),
        (Value::Float(1.0), "f93c00"),
        (Value::Float(1.1), "fb3ff199999999999a"),
        (Value::Float(1.5), "f93e00"),
        (Value::Float(65504.0), "f97bff"),
        (Value::Float(65505.0), "fa477fe100"),
        (Value::Float(100_000.0), "fa47c35000"),
        (Value::Float(3.402_823_466_385_288_6e38), "fa7f7fffff"),
        (Value::Float(1.0e300), "fb7e37e43c8800759c"),
        (Value::Float(5.960_464_477_539_063e-8), "f90001"),
        (Value::Float(0.000_061_035_156_25), "f90400"),
        (Value::Float(-4.0), "f9c400"),
        (Value::Float(-4.1), "fbc010666666666666"),
        (Value::Float(f64::INFINITY), "f97c00"),
        (Value::Float(f64::NAN), "f97e00"),
        (Value::Float(-f64::NAN), "f97e00"),
        (Value::Float(f64::NEG_INFINITY), "f9fc00"),
        (Value::Bool(false), "f4"),
        (Value::Bool(true), "f5"),
        (Value::Null, "f6"),
        (Value::Bytes(vec![1, 2, 3, 4]), "4401020304"),
        (Value::from("IETF"), "6449455446"),
        (Value::from("\u{fc}"), "62c3bc"),
        (Value::from(vec![1, 2, 3]), "83010203"),
        (Map::new().into(), "a0"),
    ];
    for (value, expected) in cases {
        assert_eq!(hex(&value), expected, "{value:?}");
    }
}

#[test]
fn keys_are_sorted_by_their_bytes_and_set_once() {
    let map = Map::new()
        .with("z", 1)
        .with("aa", 2)
        .with("b", 3)
        .with("z", 4);
    assert_eq!(hex(&map.into()), "a3616203617a0462616102");
}

#[test]
fn a_window_that_is_too_short_says_how_much_is_needed() {
    let value = Value::from(vec!["some text"; 10]);
    let needed = bytes(&value).len();
    for length in 0..needed {
        let mut window = vec![0; length];
        assert_eq!(encode(&value, &mut window), Err(Full { needed }));
    }
    assert_eq!(encode(&value, &mut vec![0; needed]), Ok(needed));
}

#[test]
fn what_a_value_cannot_hold_is_refused() {
    let cases: [(&[u8], DecodeError); 14] = [
        (&[], DecodeError::Short),
        (&[0x18], DecodeError::Short),
        (&[0x62, b'a'], DecodeError::Short),
        (
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            DecodeError::Short,
        ),
        (
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            DecodeError::Short,
        ),
        (&[0, 0], DecodeError::Trailing),
        (
            &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            DecodeError::Unsupported,
        ),
        (&[0x9f, 0xff], DecodeError::Unsupported),
        (&[0xc0, 0x00], DecodeError::Unsupported),
        (&[0xf7], DecodeError::Unsupported),
        (&[0x61, 0xff], DecodeError::Text),
        (&[0xa1, 0x01, 0x01], DecodeError::Key),
        (&[0xa2, 0x61, b'b', 1, 0x61, b'a', 1], DecodeError::Key),
        (&[0xa2, 0x61, b'a', 1, 0x61, b'a', 1], DecodeError::Key),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(bytes), Err(error), "{bytes:02x?}");
    }
    assert_eq!(decode(&[0x81; 1000]), Err(DecodeError::Deep));
}

#[test]
fn a_value_is_passed_over_with_all_that_is_in_it() {
    let inner: Value = vec![Value::from(Map::new().with("k", vec![1, 2])), Value::Null].into();
    let encoded = bytes(&vec![inner, Value::Int(7)].into());
    let mut reader = Reader::new(&encoded);
    assert_eq!(reader.item(), Ok(Item::Array(2)));
    reader.skip().unwrap();
    assert_eq!(reader.item(), Ok(Item::Int(7)));
    assert_eq!(reader.end(), Ok(()));
    // A length that no bytes could fill ends soon.
    let mut endless = Reader::new(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
    assert_eq!(endless.skip(), Err(DecodeError::Short));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300..300_i64).prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        any::<u16>().prop_map(|bits| Value::Float(f64::from(bits) / 64.0)),
        any::<f32>().prop_map(|f| Value::Float(f.into())),
        ".{0,30}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = "[a-z]{0,4}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..6).prop_map(|entries| {
                let mut map = Map::new();
                entries.into_iter().for_each(|(k, v)| map.set(k, v));
                Value::Map(map)
            }),
        ]
    })
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) if x.is_nan() => y.is_nan(),
        (Value::Float(x), Value::Float(y)) => x.to_bits() == y.to_bits(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Map(x), Value::Map(y)) => {
            x.len() == y.len()
                && x.iter()
                    .zip(y.iter())
                    .all(|(x, y)| x.0 == y.0 && same(x.1, y.1))
        }
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in any_value()) {
        let encoded = bytes(&value);
        let decoded = decode(&encoded).unwrap();
        prop_assert!(same(&value, &decoded), "{decoded:?}");
        prop_assert_eq!(bytes(&decoded), encoded);
    }

    #[test]
    fn another_implementation_reads_the_same_numbers(bits in any::<u64>(), int in any::<i64>()) {
        let float = f64::from_bits(bits);
        let encoded = bytes(&vec![Value::Float(float), Value::Int(int)].into());
        let mut decoder = minicbor::Decoder::new(&encoded);
        prop_assert_eq!(decoder.array().unwrap(), Some(2));
        let read = match decoder.datatype().unwrap() {
            Type::F16 => decoder.f16().unwrap().into(),
            Type::F32 => decoder.f32().unwrap().into(),
            _ => decoder.f64().unwrap(),
        };
        prop_assert!(read == float || read.is_nan() && float.is_nan());
        prop_assert_eq!(decoder.i64().unwrap(), int);
    }

    #[test]
    fn hostile_bytes_never_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = decode(&bytes) {
            let mut window = vec![0; 4096];
            prop_assert!(encode(&value, &mut window).is_ok());
        }
        let _ = Reader::new(&bytes).skip();
    }
}
