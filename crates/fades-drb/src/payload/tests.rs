use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use serde_json::json;

use super::meaning::NamedBy;
use super::*;
use crate::config::{PayloadFormat, TimeAt, Values};

const NOW: i64 = 1_700_000_000_000_000_000;

/// What an operator may write; the address names device and kind.
struct Written {
    format: PayloadFormat,
    value: Option<Values>,
    time: Option<TimeAt>,
    device: Option<&'static str>,
    kind: Option<&'static str>,
    unit: Option<&'static str>,
    units: BTreeMap<String, String>,
    valid: BTreeMap<String, [f64; 2]>,
    named: NamedBy,
}

fn written(format: PayloadFormat) -> Written {
    Written {
        format,
        value: None,
        time: None,
        device: None,
        kind: None,
        unit: None,
        units: BTreeMap::new(),
        valid: BTreeMap::new(),
        named: NamedBy {
            device: true,
            kind: true,
        },
    }
}

impl Written {
    fn compile(&self) -> Result<Meaning, crate::config::FieldError> {
        Meaning::compile(&Names {
            format: self.format,
            value: self.value.as_ref(),
            time: self.time.as_ref(),
            device: self.device,
            location: None,
            kind: self.kind,
            unit: self.unit,
            units: &self.units,
            valid: &self.valid,
            named: self.named,
        })
    }
}

fn named(device: Option<&str>, kind: Option<&str>) -> Named {
    Named {
        device: device.map(Arc::from),
        location: Some("hall".into()),
        kind: kind.map(Arc::from),
    }
}

fn one(pointer: &str) -> Option<Values> {
    Some(Values::One(pointer.to_owned()))
}

#[test]
fn a_number_may_have_blanks_around_it_and_nothing_else() {
    let meaning = written(PayloadFormat::Number).compile().unwrap();
    let named = named(Some("d"), Some("t"));
    let read = |text: &str| meaning.understand(&named, text.as_bytes(), NOW);
    for (text, value) in [("21.5", 21.5), (" -3e2\r\n", -300.0), ("0", 0.0)] {
        let understood = read(text).unwrap();
        assert_eq!(understood.heard[0].value, value);
        assert_eq!(understood.heard[0].time, None);
        assert_eq!(&*understood.heard[0].key.location, "hall");
    }
    for text in ["x", "1 2", "1,5", "0x10", "{\"v\":1}"] {
        assert_eq!(read(text), Err(PayloadError::NoNumber), "{text}");
    }
    assert_eq!(read(" "), Err(PayloadError::Empty));
    for text in ["nan", "inf", "1e999"] {
        let lost = read(text).unwrap().lost;
        assert_eq!(lost[0].reason, LossReason::NotFinite, "{text}");
    }
    let long = vec![b'1'; MOST_BYTES + 1];
    let error = meaning.understand(&named, &long, NOW).unwrap_err();
    assert!(matches!(error, PayloadError::TooLong { .. }));
}

#[test]
fn pointers_find_values_times_and_names() {
    let mut w = written(PayloadFormat::Json);
    w.value = Some(Values::Kinds(
        [("t", "/d/0/t"), ("rh", "/d/0/h"), ("co2", "/d/0/c")]
            .map(|(k, p)| (k.to_owned(), p.to_owned()))
            .into(),
    ));
    w.time = Some(TimeAt::Pointer("/at".to_owned()));
    w.device = Some("/id");
    w.units = [("t".to_owned(), "°C".to_owned())].into();
    w.valid = [("t".to_owned(), [0.0, 20.0])].into();
    let meaning = w.compile().unwrap();
    let document =
        json!({ "id": 7, "at": "2023-11-14T22:13:20Z", "d": [{ "t": 21.5, "h": "40" }] });
    let payload = document.to_string();
    let understood = meaning
        .understand(&named(None, Some("x")), payload.as_bytes(), NOW)
        .unwrap();
    let heard: Vec<_> = understood
        .heard
        .iter()
        .map(|h| {
            (
                &*h.key.device,
                &*h.key.kind,
                &*h.key.unit,
                h.value,
                h.mark,
                h.time,
            )
        })
        .collect();
    let at = Some(1_700_000_000_000_000_000);
    assert_eq!(
        heard,
        [("7", "rh", "", 40.0, 0, at), ("7", "t", "Cel", 21.5, 1, at)]
    );
    let lost = Loss {
        reason: LossReason::Truncated,
        place: "/d/0/c".to_owned(),
    };
    assert_eq!(understood.lost, [lost]);
    let late = meaning.understand(&named(None, None), br#"{"at":"noon","d":[{"t":1}]}"#, NOW);
    let reasons: Vec<_> = late.unwrap().lost.iter().map(|l| l.reason).collect();
    assert_eq!(reasons, [LossReason::BadTime; 3]);
}

#[test]
fn values_that_are_no_numbers_are_lost_with_a_reason() {
    let mut w = written(PayloadFormat::Json);
    w.value = one("/v");
    let meaning = w.compile().unwrap();
    let reason = |text: &str| {
        let understood = meaning.understand(&named(Some("d"), Some("t")), text.as_bytes(), NOW);
        understood.unwrap().lost[0].reason
    };
    assert_eq!(reason(r#"{"v":null}"#), LossReason::Empty);
    assert_eq!(reason(r#"{"v":true}"#), LossReason::NotANumber);
    assert_eq!(reason(r#"{"v":"on"}"#), LossReason::NotANumber);
    assert_eq!(reason(r#"{"v":"NaN"}"#), LossReason::NotFinite);
    assert_eq!(reason("{}"), LossReason::Truncated);
    let deep = "[".repeat(100_000);
    let error = meaning.understand(&named(None, None), deep.as_bytes(), NOW);
    assert!(matches!(error, Err(PayloadError::NoJson { .. })));
}

#[test]
fn names_are_the_address_s_then_the_operator_s_then_the_message_s() {
    let mut w = written(PayloadFormat::SenmlJson);
    w.unit = Some("K");
    let meaning = w.compile().unwrap();
    let pack =
        br#"[{"bn":"urn:x:","n":"t","v":1,"u":"Cel"},{"bn":"","bu":"","n":"p","v":2,"s":3}]"#;
    let keys = |named: &Named| -> Vec<String> {
        let understood = meaning.understand(named, pack, NOW).unwrap();
        let heard = understood.heard.iter();
        let keys = heard.map(|h| format!("{} {} {}", h.key.device, h.key.kind, h.key.unit));
        keys.chain(understood.lost.iter().map(|l| l.reason.words().to_owned()))
            .collect()
    };
    assert_eq!(
        keys(&named(None, None)),
        ["urn:x t Cel", "no device or kind", "no device or kind"]
    );
    assert_eq!(
        keys(&named(Some("d"), None)),
        ["d t Cel", "d p ", "d p.sum .s"]
    );
    w.format = PayloadFormat::Number;
    let meaning = w.compile().unwrap();
    let understood = meaning
        .understand(&named(Some("d"), Some("t")), b"1", NOW)
        .unwrap();
    assert_eq!(&*understood.heard[0].key.unit, "K");
    let long = "x".repeat(MOST_NAME + 1);
    let understood = meaning.understand(&named(Some(&long), Some("t")), b"1", NOW);
    assert_eq!(understood.unwrap().lost[0].reason, LossReason::Unnamed);
}

#[test]
fn what_an_operator_wrote_wrong_is_said_with_the_remedy() {
    let error = |w: &Written| {
        let e = w.compile().unwrap_err();
        format!("{}: {}", e.field, e.reason)
    };
    let mut w = written(PayloadFormat::Number);
    w.value = one("/v");
    assert!(error(&w).starts_with("format: "), "{}", error(&w));
    let mut w = written(PayloadFormat::Json);
    assert!(error(&w).starts_with("value: "), "{}", error(&w));
    w.value = one("v");
    assert!(error(&w).contains("begin with /"), "{}", error(&w));
    w.value = one("/v");
    w.named.device = false;
    assert!(error(&w).starts_with("device: "), "{}", error(&w));
    w.device = Some("/id");
    w.named.kind = false;
    assert!(error(&w).starts_with("kind: "), "{}", error(&w));
    w.kind = Some("t");
    w.valid = [("t".to_owned(), [2.0, 1.0])].into();
    assert!(error(&w).starts_with("valid.t: "), "{}", error(&w));
}

#[test]
fn a_number_in_json_is_the_nearest_one_that_there_is() {
    let mut w = written(PayloadFormat::Json);
    w.value = one("/v");
    let json = w.compile().unwrap();
    let senml = written(PayloadFormat::SenmlJson).compile().unwrap();
    let named = named(Some("d"), Some("t"));
    let mut state = 1_u64;
    for _ in 0..2000 {
        // Numbers with all the digits that one can have.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let value = f64::from_bits(0x3ff0_0000_0000_0000 | state >> 12) * 100.0;
        for text in [
            format!("{value}"),
            format!("{value:.20}"),
            format!("{value:e}"),
        ] {
            let nearest: f64 = text.parse().unwrap();
            let document = format!("{{\"v\":{text}}}");
            let pack = format!("[{{\"n\":\"t\",\"v\":{text}}}]");
            for (meaning, message) in [(&json, document), (&senml, pack)] {
                let understood = meaning.understand(&named, message.as_bytes(), NOW).unwrap();
                assert_eq!(
                    understood.heard[0].value.to_bits(),
                    nearest.to_bits(),
                    "{text}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut w = written(PayloadFormat::Json);
        w.value = one("");
        let json = w.compile().unwrap();
        let number = written(PayloadFormat::Number).compile().unwrap();
        for meaning in [json, number] {
            let named = named(Some("d"), Some("t"));
            if let Ok(understood) = meaning.understand(&named, &bytes, NOW) {
                prop_assert_eq!(understood.heard.len() + understood.lost.len(), 1);
            }
        }
    }

    #[test]
    fn numbers_survive(value in any::<f64>()) {
        let meaning = written(PayloadFormat::Number).compile().unwrap();
        let named = named(Some("d"), Some("t"));
        let understood = meaning.understand(&named, value.to_string().as_bytes(), NOW).unwrap();
        if value.is_finite() {
            prop_assert_eq!(understood.heard[0].value.to_bits(), value.to_bits());
        } else {
            prop_assert_eq!(understood.lost.len(), 1);
        }
    }
}
