use std::num::NonZeroU32;
use std::sync::Arc;

use fades_task::quantity::Duration;

use super::{NUMBER_MAX, TrustUpdate, VerifiedUpdate, sign_update, verify_update};
use crate::refusal::Refusal;
use crate::revocation::{Revocation, RevocationList};
use crate::samples::{NOW, governed, key, name, time, trusted};
use crate::task::Audience;
use crate::trust::{Role, TrustError, TrustStore};

/// The sample table with another submitter.
fn update() -> TrustUpdate {
    let mut keys = governed().keys().to_vec();
    keys[0] = trusted("city-2", 2, &[Role::Submit]);
    TrustUpdate {
        version: 8,
        r#for: vec![name("harbours")],
        expires: time(NOW).after(Duration::from_secs(3600)),
        threshold: NonZeroU32::new(2).unwrap(),
        keys,
    }
}

fn verify_with(
    update: &TrustUpdate,
    by: &[u8],
    table: &TrustStore,
) -> Result<VerifiedUpdate, Refusal> {
    let mut envelope = sign_update(update, &key(by[0]));
    for n in &by[1..] {
        envelope.sign(&key(*n));
    }
    let (node, labels) = (name("harbour-07"), [name("harbours")]);
    let node = Audience {
        name: &node,
        labels: &labels,
    };
    verify_update(&envelope, table, Some(node), time(NOW))
}

fn refusal(by: &[u8], change: impl FnOnce(&mut TrustUpdate)) -> Refusal {
    let mut update = update();
    change(&mut update);
    verify_with(&update, by, &governed()).unwrap_err()
}

#[test]
fn a_table_signed_by_enough_administrators_is_taken() {
    let taken = verify_with(&update(), &[13, 11], &governed()).unwrap();
    assert_eq!(taken.table().version(), 8);
    assert_eq!(taken.table().threshold(), 2);
    assert_eq!(taken.signers(), [name("root3"), name("root1")]);
    assert!(taken.table().find(key(1).public().id()).is_none());
    assert!(taken.table().find(key(2).public().id()).is_some());
}

#[test]
fn a_table_signed_by_too_few_is_refused_with_what_is_missing() {
    for by in [&[11][..], &[11, 11], &[11, 1]] {
        let refused = refusal(by, |_| {});
        assert!(
            matches!(&refused, Refusal::TooFewSignatures { by, wanted: 2, .. } if by.len() == 1),
            "{refused}"
        );
    }
}

#[test]
fn an_expired_administrator_does_not_count() {
    let mut keys = governed().keys().to_vec();
    keys[1].not_after = Some(time(NOW));
    let table = TrustStore::of(7, NonZeroU32::new(2), keys).unwrap();
    let mut next = update();
    next.keys[1].not_after = Some(time(NOW));
    assert!(verify_with(&next, &[12, 13], &table).is_ok());
    let refused = verify_with(&next, &[11, 12], &table).unwrap_err();
    assert!(refused.to_string().contains("trusted until"), "{refused}");
}

#[test]
fn an_older_or_equal_version_is_refused_by_both_numbers() {
    for version in [0, 6, 7] {
        let refused = refusal(&[11, 12], |u| u.version = version);
        assert_eq!(
            refused,
            Refusal::OldVersion {
                found: version,
                in_force: 7
            }
        );
    }
    let refused = refusal(&[11, 12], |u| u.version = NUMBER_MAX + 1);
    assert!(matches!(refused, Refusal::Number { .. }));
}

#[test]
fn an_update_for_other_nodes_or_past_its_time_is_refused() {
    let refused = refusal(&[11, 12], |u| u.r#for = vec![name("cranes")]);
    assert!(matches!(refused, Refusal::Audience { .. }));
    let refused = refusal(&[11, 12], |u| u.expires = time(NOW));
    assert!(matches!(refused, Refusal::Expired { .. }));
}

#[test]
fn other_administrators_have_to_sign_as_well() {
    let replace = |u: &mut TrustUpdate| {
        u.keys[1] = trusted("root4", 14, &[Role::Administer]);
        u.keys[2] = trusted("root5", 15, &[Role::Administer]);
    };
    // Enough of the old ones, and one of the new.
    let refused = refusal(&[11, 13], replace);
    assert!(
        matches!(&refused, Refusal::TooFewSignatures { table, by, .. }
            if table.contains("brings") && by.len() == 1),
        "{refused}"
    );
    let mut next = update();
    replace(&mut next);
    assert!(verify_with(&next, &[11, 13, 14], &governed()).is_ok());
    // The new ones alone are not enough.
    let refused = refusal(&[13, 14, 15], replace);
    assert!(
        matches!(&refused, Refusal::TooFewSignatures { table, .. } if *table == "in force"),
        "{refused}"
    );
}

#[test]
fn another_threshold_is_signed_by_as_many_as_it_says() {
    let three = |u: &mut TrustUpdate| u.threshold = NonZeroU32::new(3).unwrap();
    let refused = refusal(&[11, 12], three);
    assert!(matches!(
        refused,
        Refusal::TooFewSignatures { wanted: 3, .. }
    ));
    let mut next = update();
    three(&mut next);
    assert!(verify_with(&next, &[11, 12, 13], &governed()).is_ok());
}

#[test]
fn a_table_that_nobody_could_change_again_is_refused() {
    let refused = refusal(&[11, 12], |u| {
        u.threshold = NonZeroU32::MIN;
        u.keys.truncate(1);
    });
    assert!(matches!(refused, Refusal::LocksOut { left: 0, .. }));
    let refused = refusal(&[11, 12], |u| u.threshold = NonZeroU32::new(4).unwrap());
    assert!(matches!(
        refused,
        Refusal::Table(TrustError::Threshold { have: 3, .. })
    ));
    // Two that were revoked do not make it three.
    let revoked = |n: u8| Revocation {
        key: key(n).public().id(),
        since: time(NOW),
        reason: "lost".to_owned(),
    };
    let list = RevocationList {
        counter: 1,
        revoked: vec![revoked(14), revoked(15)],
    };
    let table = governed().revoking(Arc::new(list.try_into().unwrap()));
    let mut next = update();
    next.keys.truncate(2);
    next.keys.push(trusted("root4", 14, &[Role::Administer]));
    next.keys.push(trusted("root5", 15, &[Role::Administer]));
    let refused = verify_with(&next, &[11, 12], &table).unwrap_err();
    assert!(
        matches!(refused, Refusal::LocksOut { left: 1, .. }),
        "{refused}"
    );
}

#[test]
fn a_table_that_contradicts_itself_or_has_unknown_fields_is_refused() {
    let refused = refusal(&[11, 12], |u| u.keys[0].services.clear());
    assert!(matches!(refused, Refusal::Table(TrustError::Services(_))));
    let mut json = serde_json::to_value(update()).unwrap();
    json["colour"] = 1.into();
    let payload = serde_json::to_vec(&json).unwrap();
    let kind = crate::envelope::PayloadType::Trust;
    let mut envelope = crate::joint::JointEnvelope::seal(kind, payload, &key(11));
    envelope.sign(&key(12));
    let refused = verify_update(&envelope, &governed(), None, time(NOW)).unwrap_err();
    assert!(refused.to_string().contains("colour"), "{refused}");
}

#[test]
fn a_key_for_development_administers_no_node_that_takes_none() {
    let mut keys = governed().keys().to_vec();
    keys[1].development = true;
    let table = TrustStore::of(7, NonZeroU32::new(2), keys).unwrap();
    let table = table.refusing_development();
    let refused = verify_with(&update(), &[11, 12], &table).unwrap_err();
    assert!(refused.to_string().contains("for development"), "{refused}");
}
