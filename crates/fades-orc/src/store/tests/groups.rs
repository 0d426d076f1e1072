//! Many changes in one transaction.

use fades_task::result::TaskState;

use super::{accept, end, ending, mtw, mtw_with, name, newcomer, now};
use crate::core::Change;
use crate::store::group::{Newcomer, Write};
use crate::store::{Known, Store, StoreError};

fn large(id: &str) -> Newcomer {
    newcomer(&mtw_with(id, |t| {
        t["function"]["params"] = serde_json::json!({ "x": "x".repeat(60_000) });
    }))
}

#[test]
fn a_change_that_does_not_apply_does_not_hinder_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for id in ["a", "b", "c"] {
        accept(&store, id);
    }
    end(&store, "b", &[7]).unwrap();
    let other = newcomer(&mtw_with("c", |t| t["task"]["name"] = "other".into()));
    let (a, b) = (name("a"), name("b"));
    let running = Change::Running {
        attempts: 1,
        at: now(),
    };
    let writes = [
        Write::State(&a, &running),
        Write::State(&b, &running),
        Write::End(Box::new(ending("b", &[8]))),
        Write::End(Box::new(ending("c", &[9]))),
    ];
    let newcomers = [newcomer(&mtw("d")), other, newcomer(&mtw("e"))];
    let stored = store.store(&writes, &newcomers).unwrap();
    assert_eq!(stored.applied, [true, false, false, true]);
    let accepted: Vec<_> = stored.accepted.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true]);
    assert!(matches!(
        stored.accepted[1],
        Err(StoreError::OtherTask { .. })
    ));
    let seen = |store: &Store| {
        let state = |id: &str| {
            store
                .result(&name(id))
                .unwrap()
                .map(|r| (r.state, r.answer))
        };
        ["a", "b", "c", "d", "e"].map(|id| state(id).unwrap())
    };
    let mut expected = [
        (TaskState::Running, None),
        (TaskState::Done, Some(7.into())),
        (TaskState::Done, Some(9.into())),
        (TaskState::Queued, None),
        (TaskState::Queued, None),
    ];
    assert_eq!(seen(&store), expected);
    drop(store);
    // Nothing runs in a new life of the node.
    expected[0].0 = TaskState::Queued;
    assert_eq!(seen(&Store::open(folder.path()).unwrap()), expected);
}

#[test]
fn the_same_task_twice_in_a_group_is_one_task_with_two_equal_answers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let twice = |started| {
        let mut both = [newcomer(&mtw("a")), newcomer(&mtw("a"))];
        both[0].started = started;
        both
    };
    let stored = store.store(&[], &twice(Some(now()))).unwrap();
    let [Ok(first), Ok(second)] = &stored.accepted[..] else {
        panic!("{stored:?}");
    };
    assert_eq!((first.fresh, second.fresh), (true, false));
    assert_eq!((first.seq, &first.summary), (second.seq, &second.summary));
    assert_eq!(first.summary.state, TaskState::Running);
    assert_eq!(store.unfinished().unwrap().len(), 1);
    assert_eq!(store.counts().running, 1);
}

#[test]
fn a_task_that_starts_at_once_is_stored_with_its_first_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (function, envelope) = crate::samples::function();
    let publish = (crate::samples::IMAGE, None);
    store.publish(&function, &envelope, publish, now()).unwrap();
    let mut first = newcomer(&mtw("a"));
    first.started = Some(now());
    store.store(&[], &[first]).unwrap();
    let stored = store.unfinished().unwrap();
    assert_eq!((stored[0].attempts, stored[0].accepted), (1, now()));
    assert_eq!(store.functions().unwrap()[0].last_use, Some(now()));
}

#[test]
fn a_group_that_does_not_fit_leaves_nothing_and_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    store.leave_room(2);
    let (a, running) = (
        name("a"),
        Change::Running {
            attempts: 1,
            at: now(),
        },
    );
    let newcomers = [newcomer(&mtw("b")), large("c")];
    let stored = store.store(&[Write::State(&a, &running)], &newcomers);
    assert!(
        stored.as_ref().is_err_and(StoreError::is_full),
        "{stored:?}"
    );
    let state = |id: &str| store.result(&name(id)).unwrap().map(|r| r.state);
    assert_eq!(state("a"), Some(TaskState::Queued));
    assert_eq!((state("b"), state("c")), (None, None));
    assert!(store.known(&name("b")).is_none());
    assert_eq!(store.counts().queued, 1);
    // What fits is stored alone.
    assert!(store.store(&[Write::State(&a, &running)], &[]).is_ok());
    assert!(store.store(&[], &newcomers[..1]).is_ok());
    assert!(store.store(&[], &newcomers[1..]).is_err());
}

#[test]
fn who_waits_for_a_result_is_told_after_it_is_stored_and_not_when_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    let Some(Known::Open { mut result, .. }) = store.known(&name("a")) else {
        panic!("it is open");
    };
    store.leave_room(0);
    let text = [&[0x79, 0xea, 0x60][..], &[b'x'; 60_000]].concat();
    assert!(
        store
            .store(&[Write::End(Box::new(ending("a", &text)))], &[])
            .is_err()
    );
    assert!(result.try_recv().is_err());
    store.leave_room(1000);
    end(&store, "a", &text).unwrap();
    let told: serde_json::Value = serde_json::from_str(&result.try_recv().unwrap()).unwrap();
    let stored = store.shown(&name("a")).unwrap().unwrap();
    assert_eq!(
        told,
        serde_json::from_str::<serde_json::Value>(&stored).unwrap()
    );
}

#[test]
fn reading_a_result_does_not_wait_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    accept(&store, "b");
    end(&store, "a", &[1]).unwrap();
    // As while a group is being synced.
    let _busy = store.connection();
    assert!(matches!(store.known(&name("a")), Some(Known::Ended { .. })));
    assert!(matches!(store.known(&name("b")), Some(Known::Open { .. })));
    assert_eq!(store.counts().done, 1);
    assert!(store.summary(&name("b")).unwrap().is_some());
    assert!(store.function(crate::samples::digest()).is_none());
}
