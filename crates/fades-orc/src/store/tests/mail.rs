//! The outbox: stored with the end of its task, and counted when it leaves.

use std::sync::Arc;

use fades_task::courier::Receiver;

use super::{accept, end_of};
use crate::api::types::Logs;
use crate::core::outbox::{Dispatch, NewParcel};
use crate::samples::name;
use crate::store::group::{Ending, Write};
use crate::store::{Dispatched, Store};

fn city() -> Receiver {
    Receiver::Destination(name("city"))
}

/// The end of a task with a parcel for each of `receivers`, numbered from `first`.
fn end(store: &Store, id: &str, first: u64, receivers: &[Receiver]) -> bool {
    let mut commit = end_of(id, &[0x18, 0x2a]);
    commit.parcels = (first..)
        .zip(receivers)
        .map(|(parcel, receiver)| NewParcel {
            parcel,
            receiver: receiver.clone(),
            event: id.to_owned(),
            stream: name(id),
            body: Arc::from(&b"{}"[..]),
        })
        .collect();
    let ending = Ending::new(&commit, &Logs::default());
    store
        .store(&[Write::End(Box::new(ending))], &[])
        .unwrap()
        .applied[0]
}

fn leaves(store: &Store, parcel: u64, outcome: &Dispatch) -> bool {
    let stored = store.store(&[Write::Dispatched(parcel, outcome)], &[]);
    stored.unwrap().applied[0]
}

#[test]
fn what_is_to_be_brought_away_is_stored_with_the_end_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    assert!(end(
        &store,
        "a",
        1,
        &[city(), Receiver::Inbox(name("post"))]
    ));
    assert!(!end(&store, "a", 7, &[city()]), "a task ends once");
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let waiting = store.outbox().unwrap();
    let seen: Vec<_> = waiting
        .iter()
        .map(|p| (p.parcel, &p.receiver, p.bytes))
        .collect();
    assert_eq!(
        seen,
        [(1, &city(), 2), (2, &Receiver::Inbox(name("post")), 2)]
    );
    let (about, body) = store.parcel(2).unwrap().unwrap();
    assert_eq!(
        (about.task, about.name, about.service),
        (name("a"), name("air"), name("city-air"))
    );
    assert_eq!(
        (about.to, about.event.as_str(), body.as_slice()),
        (Receiver::Inbox(name("post")), "a", &b"{}"[..])
    );
    assert_eq!(store.parcel(7).unwrap(), None);
}

#[test]
fn what_leaves_is_gone_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    end(&store, "a", 1, &[city(), city(), city()]);
    assert!(leaves(&store, 1, &Dispatch::Delivered));
    assert!(!leaves(&store, 1, &Dispatch::Delivered));
    assert!(leaves(&store, 2, &Dispatch::Lost("no room".to_owned())));
    assert!(leaves(&store, 3, &Dispatch::Delivered));
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.outbox().unwrap(), []);
    let counts = Dispatched {
        delivered: 2,
        lost: 1,
        reason: Some("no room".to_owned()),
    };
    assert_eq!(store.dispatched().unwrap(), [(city(), counts)]);
}
