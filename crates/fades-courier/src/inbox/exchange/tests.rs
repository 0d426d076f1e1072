use fades_task::courier::{LETTER_MAX, Verdict};
use proptest::prelude::*;

use super::{letters, verdicts};
use crate::inbox::TOGETHER;

#[test]
fn envelopes_are_handed_on_byte_for_byte() {
    let body = r#"{"more":1,"letters":[
        {"id":"a","envelope":{ "payload" : "x\u0041",  "n":1.0e5 },"other":[]},
        {"id":"b\"","envelope":[]},{"id":"a","envelope":{"again":1}}]}"#;
    let found = letters(body.as_bytes()).unwrap();
    let shown: Vec<_> = found.iter().map(|l| (l.id.as_str(), l.envelope)).collect();
    assert_eq!(
        shown,
        [
            ("a", Some(r#"{ "payload" : "x\u0041",  "n":1.0e5 }"#)),
            ("b\"", Some("[]")),
        ]
    );
}

#[test]
fn an_answer_that_is_none_says_what_is_wrong() {
    let long = format!(
        r#"{{"letters":[{{"id":"{}","envelope":1}}]}}"#,
        "x".repeat(129)
    );
    for (body, words) in [
        ("", "not the JSON"),
        ("{}", "missing field `letters`"),
        (r#"{"letters":[{"id":"a"}]}"#, "missing field `envelope`"),
        (
            r#"{"letters":[{"id":"","envelope":1}]}"#,
            "letter 0 has an id of 0 bytes",
        ),
        (
            r#"{"letters":[{"id":"a\n","envelope":1}]}"#,
            "control character",
        ),
        (long.as_str(), "129 bytes"),
    ] {
        let error = letters(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{body}: {error}");
    }
}

#[test]
fn more_letters_than_are_looked_at_together_stay() {
    let entries: Vec<String> = (0..TOGETHER + 10)
        .map(|i| format!(r#"{{"id":"{i}","envelope":{{}}}}"#))
        .collect();
    let body = format!(r#"{{"letters":[{}]}}"#, entries.join(","));
    assert_eq!(letters(body.as_bytes()).unwrap().len(), TOGETHER);
}

#[test]
fn a_letter_that_is_too_long_is_not_handed_on() {
    let of = |length: usize| {
        let envelope = format!("\"{}\"", "x".repeat(length - 2));
        format!(r#"{{"letters":[{{"id":"a","envelope":{envelope}}}]}}"#)
    };
    let body = of(LETTER_MAX);
    assert!(letters(body.as_bytes()).unwrap()[0].envelope.is_some());
    let body = of(LETTER_MAX + 1);
    assert!(letters(body.as_bytes()).unwrap()[0].envelope.is_none());
}

#[test]
fn verdicts_have_the_form_of_the_contract() {
    let told = [
        (
            "a\"".to_owned(),
            Verdict::Taken {
                task: "0a".parse().unwrap(),
            },
        ),
        (
            "b".to_owned(),
            Verdict::Refused {
                problem: "signature".to_owned(),
                detail: "é".repeat(2000),
            },
        ),
    ];
    let text = String::from_utf8(verdicts(&told)).unwrap();
    let begin = r#"{"verdicts":[{"id":"a\"","state":"taken","task":"0a"},{"id":"b","state":"refused","problem":"signature","detail":"é"#;
    assert!(text.starts_with(begin), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let detail = value["verdicts"][1]["detail"].as_str().unwrap();
    assert_eq!(detail.len(), 2048);
}

/// Bytes that are nearly an answer.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let good =
        br#"{"letters":[{"id":"a","envelope":{"payload":"eA=="}},{"id":"b","envelope":{}}]}"#;
    let changes = proptest::collection::vec((0..good.len(), any::<u8>(), 0..3_u8), 0..6);
    changes.prop_map(|changes| {
        let mut bytes = good.to_vec();
        for (at, byte, how) in changes {
            let at = at.min(bytes.len().saturating_sub(1));
            match how {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_letters_within_bounds_or_an_error(
        body in prop_oneof![nearly(), proptest::collection::vec(any::<u8>(), 0..300)]
    ) {
        if let Ok(found) = letters(&body) {
            prop_assert!(found.len() <= TOGETHER);
            for letter in found {
                prop_assert!((1..=128).contains(&letter.id.len()));
                prop_assert!(letter.envelope.is_none_or(|e| e.len() <= LETTER_MAX));
            }
        }
    }
}
