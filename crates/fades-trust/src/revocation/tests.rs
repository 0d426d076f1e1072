use std::sync::Arc;

use super::{
    REASON_MAX, REVOKED_MAX, Revocation, RevocationList, Revocations, STEP_MAX, recall_revocations,
    sign_revocations, verify_revocations,
};
use crate::joint::JointEnvelope;
use crate::refusal::Refusal;
use crate::samples::{NOW, governed, key, time};
use crate::task::{Audience, sign_task, verify_task};
use crate::trust::TrustStore;

fn revoked(n: u8) -> Revocation {
    Revocation {
        key: key(n).public().id(),
        since: time("2026-10-01T00:00:00Z"),
        reason: "laptop stolen".to_owned(),
    }
}

fn list(counter: u64, keys: &[u8]) -> RevocationList {
    RevocationList {
        counter,
        revoked: keys.iter().map(|n| revoked(*n)).collect(),
    }
}

fn signed(list: &RevocationList, by: &[u8]) -> JointEnvelope {
    let mut envelope = sign_revocations(list, &key(by[0]));
    for n in &by[1..] {
        envelope.sign(&key(*n));
    }
    envelope
}

fn after(list: RevocationList) -> TrustStore {
    governed().revoking(Arc::new(list.try_into().unwrap()))
}

fn verify(list: &RevocationList, by: &[u8], table: &TrustStore) -> Result<Revocations, Refusal> {
    let verified = verify_revocations(&signed(list, by), table, time(NOW))?;
    Ok(verified.revocations().clone())
}

#[test]
fn one_administrator_revokes_a_key_that_is_none() {
    let taken = verify(&list(1, &[1, 77]), &[12], &governed()).unwrap();
    assert_eq!(taken.counter(), 1);
    assert_eq!(taken.find(key(1).public().id()), Some(&revoked(1)));
    assert_eq!(taken.to_list().revoked.len(), 2);
    let refused = verify(&list(1, &[1]), &[1], &governed()).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::TooFewSignatures { wanted: 1, .. }
    ));
}

#[test]
fn an_administrator_is_revoked_by_as_many_as_change_the_table() {
    let refused = verify(&list(1, &[13]), &[11], &governed()).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::TooFewSignatures { wanted: 2, .. }
    ));
    assert!(verify(&list(1, &[13]), &[11, 12], &governed()).is_ok());
    // One who is revoked already needs nobody to agree again.
    let table = after(list(1, &[13]));
    assert!(verify(&list(2, &[13, 1]), &[11], &table).is_ok());
    let refused = verify(&list(2, &[13, 1]), &[13], &table).unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
}

#[test]
fn a_list_after_which_too_few_administrators_are_left_is_refused() {
    let refused = verify(&list(1, &[11, 12]), &[12, 13], &governed()).unwrap_err();
    assert!(
        matches!(
            refused,
            Refusal::LocksOut {
                left: 1,
                threshold: 2,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_counter_never_goes_back_and_a_list_never_forgets() {
    let table = after(list(5, &[1]));
    for counter in [0, 4, 5] {
        let refused = verify(&list(counter, &[1, 77]), &[11], &table).unwrap_err();
        let in_force = 5;
        let found = counter;
        assert_eq!(refused, Refusal::OldCounter { found, in_force });
    }
    let refused = verify(&list(6, &[77]), &[11, 12], &table).unwrap_err();
    let key = key(1).public().id();
    assert_eq!(refused, Refusal::Forgets { key });
    let mut otherwise = list(6, &[1]);
    otherwise.revoked[0].reason = "nothing happened".to_owned();
    let refused = verify(&otherwise, &[11, 12], &table).unwrap_err();
    assert_eq!(refused, Refusal::Forgets { key });
    assert!(verify(&list(6, &[77, 1]), &[11], &table).is_ok());
}

#[test]
fn one_administrator_cannot_use_up_the_counter() {
    let table = after(list(5, &[1]));
    assert!(verify(&list(5 + STEP_MAX, &[1]), &[11], &table).is_ok());
    let far = list(6 + STEP_MAX, &[1]);
    let refused = verify(&far, &[11], &table).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::TooFewSignatures { wanted: 2, .. }
    ));
    assert!(verify(&far, &[11, 13], &table).is_ok());
}

#[test]
fn lists_that_contradict_themselves_are_refused() {
    let refused = |list: RevocationList| verify(&list, &[11, 12], &governed()).unwrap_err();
    assert!(matches!(refused(list(1, &[1, 1])), Refusal::List(m) if m.contains("twice")));
    for reason in [String::new(), "x".repeat(REASON_MAX + 1), "a\nb".to_owned()] {
        let mut bad = list(1, &[1]);
        bad.revoked[0].reason = reason;
        assert!(matches!(refused(bad), Refusal::List(m) if m.contains("reason")));
    }
    let many = (0..=REVOKED_MAX).map(|n| {
        let mut one = revoked(1);
        one.key.0[..8].copy_from_slice(&n.to_le_bytes());
        one
    });
    let many = RevocationList {
        counter: 1,
        revoked: many.collect(),
    };
    assert!(matches!(Revocations::try_from(many), Err(Refusal::List(m)) if m.contains("4097")));
}

#[test]
fn a_revoked_key_signs_nothing_whatever_the_table_says() {
    let table = after(list(1, &[1]));
    let node = crate::samples::name("harbour-07");
    let node = Audience {
        name: &node,
        labels: &[],
    };
    let envelope = sign_task(&crate::samples::mtw(), &key(1));
    assert!(verify_task(&envelope, &governed(), node, time(NOW)).is_ok());
    let refused = verify_task(&envelope, &table, node, time(NOW)).unwrap_err();
    let text = refused.to_string();
    for word in ["city", "2026-10-01", "laptop stolen", "fades key new"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // Also a key that no table has.
    let gone = TrustStore::default().revoking(Arc::clone(table.revocations()));
    let refused = verify_task(&envelope, &gone, node, time(NOW)).unwrap_err();
    assert!(matches!(refused, Refusal::Revoked { .. }));
}

#[test]
fn a_list_that_was_taken_is_recalled_by_the_table_that_it_was_judged_by() {
    let envelope = signed(&list(3, &[1, 13]), &[11, 12]);
    let recalled = recall_revocations(&envelope, &governed(), time(NOW)).unwrap();
    assert_eq!(recalled.revocations().counter(), 3);
    assert_eq!(recalled.payload(), envelope.payload_digest());
    let stranger = signed(&list(3, &[1]), &[1]);
    assert!(recall_revocations(&stranger, &governed(), time(NOW)).is_err());
}
