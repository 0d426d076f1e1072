//! Keys that are revoked while something that they signed is on its way in.

use std::time::Duration;

use fades_task::result::TaskState;
use fades_trust::key::SecretKey;
use fades_trust::revocation::{Revocation, RevocationList, sign_revocations};
use fades_trust::task::Audience;
use fades_trust::trust::{Role, TrustedKey};

use super::{Desk, NotTaken, refused, taken};
use crate::admission::Refusal;
use crate::core::{Event, Timer};
use crate::samples::{key, mtw, mtw_with, name, now, trust};

/// The key that signs all tasks is revoked; the driver has not heard of it.
fn revoke(desk: &Desk) {
    let root = SecretKey::from_seed(&[11; 32]);
    let mut table = trust();
    let administrator = TrustedKey {
        name: name("root"),
        public: root.public(),
        roles: vec![Role::Administer],
        services: Vec::new(),
        development: false,
        not_after: None,
    };
    table.add(administrator).unwrap();
    std::fs::write(&desk.driver.config.trust, table.to_toml()).unwrap();
    let revoked = Revocation {
        key: key().public().id(),
        since: now(),
        reason: "stolen".to_owned(),
    };
    let list = RevocationList {
        counter: 1,
        revoked: vec![revoked],
    };
    let node = name("harbour-07");
    let node = Audience {
        name: &node,
        labels: &[],
    };
    let envelope = sign_revocations(&list, &root).to_json();
    let trust = &desk.driver.trust;
    trust.take(envelope.as_bytes(), node, now()).unwrap();
}

#[test]
fn a_task_that_was_admitted_just_before_is_not_stored_any_more() {
    let mut desk = Desk::up();
    let mut answer = desk.submit(&mtw("a"));
    revoke(&desk);
    desk.driver.turn();
    assert!(matches!(
        refused(&mut answer),
        NotTaken::Refused(Refusal::Trust(
            fades_trust::refusal::Refusal::Revoked { .. }
        ))
    ));
    assert_eq!(desk.state("a"), None);
}

#[test]
fn a_run_that_was_about_to_begin_ends_with_its_schedule() {
    let mut desk = Desk::up();
    let every = |t: &mut serde_json::Value| t["schedule"] = serde_json::json!({ "every": "1s" });
    let mut answer = desk.submit(&mtw_with("s", every));
    desk.driver.turn();
    let due = taken(&mut answer)
        .summary
        .accepted
        .after(fades_task::quantity::Duration::from_secs(1));
    while desk.driver.now().time <= due {
        std::thread::sleep(Duration::from_millis(5));
    }
    // A run is due and not stored yet when the list comes.
    desk.driver.step(Event::Timer(Timer::Retry));
    revoke(&desk);
    desk.driver.revoke(0);
    desk.driver.settle();
    let runs = |desk: &Desk| {
        let of = crate::store::Filter {
            of: Some(name("s")),
            ..crate::store::Filter::default()
        };
        desk.store().list(&of).unwrap().tasks
    };
    assert_eq!(runs(&desk).len(), 1, "it was on its way in");
    assert_eq!(desk.state("s"), Some(TaskState::Cancelled));
    // A turn in which a timer is due takes no inputs.
    for _ in 0..3 {
        if runs(&desk)[0].state != TaskState::Cancelled {
            desk.driver.turn();
        }
    }
    assert_eq!(runs(&desk)[0].state, TaskState::Cancelled);
}
