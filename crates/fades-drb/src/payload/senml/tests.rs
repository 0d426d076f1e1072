use minicbor::Encoder;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::super::{MOST_RECORDS, PayloadError};
use super::*;

const NOW: i64 = 1_700_000_000_000_000_000;

fn said(device: &str, kind: &str, unit: &str, time: Option<i64>, value: f64) -> Said {
    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    Said {
        device: some(device),
        kind: some(kind),
        unit: some(unit),
        time,
        value,
        ..Said::default()
    }
}

fn read(pack: &str) -> Decoded {
    json(pack.as_bytes(), NOW).unwrap()
}

/// The examples of RFC 8428, 5.1.
#[test]
fn the_examples_of_the_standard_are_read() {
    let one = read(r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#);
    assert_eq!(
        one.said,
        [said("urn:dev:ow", "10e2073a01080063", "Cel", None, 23.1)]
    );
    let several = read(
        r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
             "n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2},
            {"n":"current","t":-4,"v":1.3}]"#,
    );
    let at = |s: i64| Some((1_276_020_076 + s) * 1_000_000_000 + 1_000_000);
    let device = "urn:dev:ow:10e2073a0108006";
    let expected = [
        said(device, "voltage", "V", at(0), 120.1),
        said(device, "current", "A", at(-5), 1.2),
        said(device, "current", "A", at(-4), 1.3),
    ];
    assert_eq!(
        (several.said.as_slice(), several.lost.len()),
        (&expected[..], 0)
    );
}

#[test]
fn small_times_count_from_now_and_none_is_left_open() {
    let read = read(r#"[{"n":"d/t","t":-10,"v":1},{"n":"d/t","v":2},{"bt":0,"n":"d/t","v":3}]"#);
    let times: Vec<_> = read.said.iter().map(|s| s.time).collect();
    assert_eq!(times, [Some(NOW - 10_000_000_000), None, Some(NOW)]);
}

#[test]
fn base_values_and_sums_are_added() {
    let read = read(
        r#"[{"bn":"d:","bv":20,"bs":100,"bu":"W"},{"n":"p","v":1.5},{"n":"p"},{"n":"p","s":7},
            {"n":"p","v":2,"s":8},{"bu":"/","n":"q","v":0}]"#,
    );
    let sum = |value| Said {
        sum: true,
        ..said("d", "p", "W", None, value)
    };
    let expected = [
        said("d", "p", "W", None, 21.5),
        said("d", "p", "W", None, 20.0),
        sum(107.0),
        said("d", "p", "W", None, 22.0),
        sum(108.0),
        said("d", "q", "1", None, 20.0),
    ];
    assert_eq!((read.said.as_slice(), read.lost.len()), (&expected[..], 0));
}

#[test]
fn what_is_no_number_is_lost_with_its_record() {
    let read = read(
        r#"[{"bn":"d:"},{"n":"a","vs":"open"},{"n":"b","vb":true},{"n":"c","vd":"AA"},{"n":"e"},
            {"n":"f","v":1},{"n":"g","v":1,"t":1e30}]"#,
    );
    assert_eq!(read.said, [said("d", "f", "", None, 1.0)]);
    let lost = read.lost.iter().map(|l| (l.place.as_str(), l.reason));
    let not = LossReason::NotANumber;
    let expected = [
        ("record 2", not),
        ("record 3", not),
        ("record 4", not),
        ("record 5", LossReason::Empty),
        ("record 7", LossReason::BadTime),
    ];
    assert!(lost.eq(expected), "{:?}", read.lost);
}

#[test]
fn a_field_that_must_be_understood_ends_it_and_others_do_not() {
    let must = json(br#"[{"n":"a","v":1,"x_":2}]"#, NOW);
    let label = "x_".to_owned();
    assert_eq!(must, Err(PayloadError::MustUnderstand { label }));
    assert_eq!(read(r#"[{"n":"d:a","v":1,"x":{"y_":[]}}]"#).said.len(), 1);
    let version = json(br#"[{"bver":11,"n":"a","v":1}]"#, NOW);
    assert_eq!(version, Err(PayloadError::Version { found: 11 }));
    let cbor_must = cbor(&[0x81, 0xa1, 0x62, b'x', b'_', 0x01], NOW);
    assert!(matches!(
        cbor_must,
        Err(PayloadError::MustUnderstand { .. })
    ));
}

#[test]
fn no_pack_says_why() {
    for wrong in [
        "",
        "{}",
        "[1]",
        "[{]",
        "[{\"v\":\"1\"}]",
        "[{\"n\":1}]",
        "[]x",
    ] {
        let error = json(wrong.as_bytes(), NOW).unwrap_err();
        assert!(
            matches!(error, PayloadError::NoSenml { .. }),
            "{wrong}: {error}"
        );
    }
    for wrong in [
        &[][..],
        &[0xa0],
        &[0x81, 1],
        &[0x82, 0xa0],
        &[0x81, 0xa0, 0],
        &[0x9f, 0xbf],
    ] {
        let error = cbor(wrong, NOW).unwrap_err();
        assert!(
            matches!(error, PayloadError::NoSenml { .. }),
            "{wrong:?}: {error}"
        );
    }
}

#[test]
fn there_is_an_end_to_records_names_and_bytes() {
    let mut pack = b"[".to_vec();
    (0..=MOST_RECORDS).for_each(|_| pack.extend(b"{},"));
    pack.extend(b"{}]");
    assert_eq!(json(&pack, NOW), Err(PayloadError::TooMany));
    let mut pack = vec![0x9f];
    (0..=MOST_RECORDS).for_each(|_| pack.push(0xa0));
    pack.push(0xff);
    assert_eq!(cbor(&pack, NOW), Err(PayloadError::TooMany));
    let long = format!(r#"[{{"bn":"{}","n":"t","v":1}}]"#, "d".repeat(257));
    assert_eq!(read(&long).lost[0].reason, LossReason::Unnamed);
    let long = vec![b' '; super::super::MOST_BYTES + 1];
    assert!(matches!(
        json(&long, NOW),
        Err(PayloadError::TooLong { .. })
    ));
    assert!(matches!(
        cbor(&long, NOW),
        Err(PayloadError::TooLong { .. })
    ));
}

/// RFC 8428, 6: the example in CBOR, with a decimal fraction, half and single
/// precision as well.
#[test]
fn cbor_is_read_in_all_its_numbers() {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    let _ = e.begin_array().unwrap();
    let _ = e.map(4).unwrap().i8(-2).unwrap().str("urn:dev:1:").unwrap();
    let _ = e.i8(-3).unwrap().f64(1_276_020_076.001).unwrap();
    let _ = e
        .i8(0)
        .unwrap()
        .str("a")
        .unwrap()
        .i8(2)
        .unwrap()
        .f32(0.5)
        .unwrap();
    let _ = e
        .map(2)
        .unwrap()
        .i8(0)
        .unwrap()
        .str("b")
        .unwrap()
        .i8(2)
        .unwrap();
    let _ = e.tag(minicbor::data::Tag::new(4)).unwrap();
    let _ = e.array(2).unwrap().i8(-1).unwrap().u16(1201).unwrap();
    let _ = e.begin_map().unwrap().i8(0).unwrap().str("c").unwrap();
    let _ = e.i8(2).unwrap().u64(u64::MAX).unwrap().end().unwrap();
    let _ = e.end().unwrap();
    let time = Some(1_276_020_076_001_000_000);
    let read = cbor(&bytes, NOW).unwrap();
    let expected = [
        said("urn:dev:1", "a", "", time, 0.5),
        said("urn:dev:1", "b", "", time, 120.1),
        said("urn:dev:1", "c", "", time, u64::MAX as f64),
    ];
    assert_eq!(read.said, expected);
    for (half, value) in [
        ([0x3c, 0x00], 1.0),
        ([0xc0, 0x00], -2.0),
        ([0x35, 0x55], 0.333_251_953_125),
        ([0x7b, 0xff], 65_504.0),
        ([0x00, 0x01], 5.960_464_477_539_063e-8),
    ] {
        let pack = [0x81, 0xa2, 0x00, 0x61, b'n', 0x02, 0xf9, half[0], half[1]];
        assert_eq!(cbor(&pack, NOW).unwrap().said[0].value, value);
    }
    for not_finite in [[0x7c, 0x00], [0xfe, 0x00]] {
        let pack = [
            0x81,
            0xa2,
            0x00,
            0x61,
            b'n',
            0x02,
            0xf9,
            not_finite[0],
            not_finite[1],
        ];
        let read = cbor(&pack, NOW).unwrap();
        assert_eq!(
            (read.said.len(), read.lost[0].reason),
            (0, LossReason::NotFinite)
        );
    }
}

fn packed(records: &[(String, Option<i32>, f64)]) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    let _ = e.array(records.len() as u64).unwrap();
    let mut text = Vec::new();
    for (name, time, value) in records {
        let _ = e.map(2 + u64::from(time.is_some())).unwrap();
        let _ = e
            .i8(0)
            .unwrap()
            .str(name)
            .unwrap()
            .i8(2)
            .unwrap()
            .f64(*value)
            .unwrap();
        let mut record = serde_json::json!({ "n": name, "v": value });
        if let Some(time) = time {
            let _ = e.i8(6).unwrap().i32(*time).unwrap();
            record["t"] = (*time).into();
        }
        text.push(record);
    }
    (serde_json::to_vec(&text).unwrap(), bytes)
}

proptest! {
    #[test]
    fn whatever_comes_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = json(&bytes, NOW);
        let _ = cbor(&bytes, NOW);
    }

    #[test]
    fn a_damaged_pack_does_no_harm(
        records in prop::collection::vec(("[a-z]{1,9}", any::<Option<i32>>(), -1e9..1e9), 1..5),
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let (mut text, mut bytes) = packed(&records);
        let i = at.index(text.len());
        text[i] = byte;
        let i = at.index(bytes.len());
        bytes[i] = byte;
        let _ = json(&text, NOW);
        let _ = cbor(&bytes, NOW);
    }

    #[test]
    fn both_forms_say_what_was_meant(
        records in prop::collection::vec(("[a-z]{1,9}", any::<Option<i32>>(), any::<i32>()), 0..20),
    ) {
        let records: Vec<_> = records.into_iter().map(|(n, t, v)| (n, t, f64::from(v) / 1e3)).collect();
        let (text, bytes) = packed(&records);
        let (read, same) = (json(&text, NOW).unwrap(), cbor(&bytes, NOW).unwrap());
        prop_assert_eq!(&read, &same);
        prop_assert_eq!(read.said.len(), records.len());
        for (said, (name, time, value)) in read.said.iter().zip(&records) {
            prop_assert_eq!(said.kind.as_ref(), Some(name));
            prop_assert_eq!(said.value, *value);
            prop_assert_eq!(said.time.is_some(), time.is_some());
        }
    }
}
