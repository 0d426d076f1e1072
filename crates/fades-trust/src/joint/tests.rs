use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use super::{JointEnvelope, SIGNATURES_MAX};
use crate::envelope::{EnvelopeError, PayloadType};
use crate::refusal::Refusal;
use crate::revocation::verify_revocations;
use crate::samples::{NOW, governed, key, name, time};
use crate::update::verify_update;

fn sealed(by: &[u8]) -> JointEnvelope {
    let mut envelope = JointEnvelope::seal(PayloadType::Trust, b"{}".to_vec(), &key(by[0]));
    for n in &by[1..] {
        envelope.sign(&key(*n));
    }
    envelope
}

/// Signatures as they come, those of one key several times as well.
fn repeated(by: &[u8]) -> JointEnvelope {
    let mut envelope = sealed(&by[..1]);
    for n in &by[1..] {
        envelope.0.signatures.extend(sealed(&[*n]).0.signatures);
    }
    envelope
}

fn counted(envelope: &JointEnvelope) -> usize {
    let signers = envelope.administrators(&governed(), time(NOW));
    signers.unwrap().by.len()
}

/// Whether two administrators of the sample table signed what is in `bytes`.
fn enough(bytes: &[u8]) -> Result<(), Refusal> {
    let envelope = JointEnvelope::parse(bytes)?;
    envelope.require_type(PayloadType::Trust)?;
    let signers = envelope.administrators(&governed(), time(NOW))?;
    signers.require(2, "trust update", "in force").map(drop)
}

#[test]
fn each_adds_a_signature_and_the_same_one_replaces_it() {
    let mut envelope = sealed(&[11]);
    assert!(envelope.sign(&key(12)));
    assert!(!envelope.sign(&key(11)));
    assert_eq!(envelope.keys().count(), 2);
    let again = JointEnvelope::parse(envelope.to_json().as_bytes()).unwrap();
    assert_eq!(again, envelope);
    assert_eq!(counted(&again), 2);
}

#[test]
fn no_signature_and_more_than_sixteen_are_refused() {
    let parse = |by: &[u8]| JointEnvelope::parse(repeated(by).to_json().as_bytes());
    assert!(parse(&[11; SIGNATURES_MAX]).is_ok());
    assert_eq!(
        parse(&[11; SIGNATURES_MAX + 1]),
        Err(EnvelopeError::JointSignatures(SIGNATURES_MAX + 1))
    );
    let mut none = sealed(&[11]);
    none.0.signatures.clear();
    assert_eq!(
        JointEnvelope::parse(none.to_json().as_bytes()),
        Err(EnvelopeError::JointSignatures(0))
    );
}

#[test]
fn signatures_of_others_do_not_count_and_are_named() {
    let envelope = sealed(&[11, 1, 99]);
    let signers = envelope.administrators(&governed(), time(NOW)).unwrap();
    let refusal = signers.require(2, "trust update", "in force").unwrap_err();
    let text = refusal.to_string();
    for word in [
        "1 of the 2 signatures",
        "(signed by root1)",
        "city",
        "have 1 more",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains(&key(99).public().id().to_string()), "{text}");
}

#[test]
fn a_signature_of_a_known_key_that_is_not_its_own_is_refused() {
    let mut envelope = sealed(&[11, 12, 13]);
    envelope.0.signatures[2].1[0] ^= 1;
    let refused = envelope.administrators(&governed(), time(NOW));
    let expected = Refusal::Signature { key: name("root3") };
    assert_eq!(refused.unwrap_err(), expected);
}

fn signers() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![Just(11_u8), Just(12), Just(13), Just(1), Just(99)];
    proptest::collection::vec(one, 1..=SIGNATURES_MAX)
}

proptest! {
    #[test]
    fn each_administrator_counts_once_whatever_the_order(by in signers(), turn: Index) {
        let mut distinct: Vec<u8> = by.iter().copied().filter(|n| (11..=13).contains(n)).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let mut turned = by.clone();
        turned.rotate_left(turn.index(by.len()));
        turned.reverse();
        for order in [&by, &turned] {
            let bytes = repeated(order).to_json();
            let envelope = JointEnvelope::parse(bytes.as_bytes()).unwrap();
            assert_eq!(counted(&envelope), distinct.len());
            assert_eq!(enough(bytes.as_bytes()).is_ok(), distinct.len() >= 2);
        }
    }

    #[test]
    fn with_just_enough_signatures_any_changed_byte_is_refused(at: Index, byte: u8) {
        let good = sealed(&[12, 11]).to_json();
        assert_eq!(enough(good.as_bytes()), Ok(()));
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if bytes != good.as_bytes() {
            assert!(enough(&bytes).is_err(), "byte {at} as {byte}");
        }
    }

    #[test]
    fn whatever_administrators_sign_is_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for kind in [PayloadType::Trust, PayloadType::Revocations] {
            let mut envelope = JointEnvelope::seal(kind, bytes.clone(), &key(11));
            envelope.sign(&key(12));
            let (table, now) = (governed(), time(NOW));
            let refused = match kind {
                PayloadType::Trust => verify_update(&envelope, &table, None, now).map(drop),
                _ => verify_revocations(&envelope, &table, now).map(drop),
            };
            assert!(matches!(refused, Err(Refusal::Payload { .. })));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        assert!(JointEnvelope::parse(&bytes).is_err());
    }
}
