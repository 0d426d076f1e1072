use fades_task::cbor;
use fades_task::mtw::Mtw;
use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, TaskState};
use fades_task::time::Zone;
use rusqlite::Connection;

use super::group::{Ending, Newcomer, Write};
use super::{Acceptance, Filter, Store, StoreError};
use crate::api::types::{Logs, TaskSummary};
use crate::core::{Change, Charge, Commit, Used};
use crate::samples::{IMAGE, digest, envelope, function, mtw, mtw_with, name, now, verified};

mod disk;
mod groups;
mod lists;
mod mail;
mod power;
mod standing;
mod versions;
mod vfs;

impl Store {
    /// Makes every change fail, or lets them happen again.
    pub(crate) fn set_writable(&self, writable: bool) {
        let pragma = format!("PRAGMA query_only = {}", u8::from(!writable));
        self.connection().execute_batch(&pragma).unwrap();
    }

    /// How many more pages the database may have.
    pub(crate) fn leave_room(&self, more: i64) {
        let connection = self.connection();
        let pages: i64 = connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap();
        let most = format!("PRAGMA max_page_count = {}", pages + more);
        connection.execute_batch(&most).unwrap();
    }

    /// Transactions that were synced so far.
    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A task as it is handed in.
pub(crate) fn newcomer(mtw: &Mtw) -> Newcomer {
    Newcomer {
        task: verified(mtw),
        envelope: envelope(mtw).to_json(),
        accepted: now(),
        inbox: None,
        started: None,
    }
}

pub(super) fn take(store: &Store, newcomer: Newcomer) -> Result<Acceptance, StoreError> {
    let mut stored = store.store(&[], &[newcomer])?;
    stored.accepted.remove(0)
}

pub(super) fn accept(store: &Store, id: &str) -> Acceptance {
    take(store, newcomer(&mtw(id))).unwrap()
}

/// Whether the task was open.
pub(super) fn persist(store: &Store, id: &str, change: &Change) -> Result<bool, StoreError> {
    let stored = store.store(&[Write::State(&name(id), change)], &[])?;
    Ok(stored.applied[0])
}

/// Whether the task was open.
pub(super) fn end(store: &Store, id: &str, answer: &[u8]) -> Result<bool, StoreError> {
    let stored = store.store(&[Write::End(Box::new(ending(id, answer)))], &[])?;
    Ok(stored.applied[0])
}

pub(super) fn ending(id: &str, answer: &[u8]) -> Ending {
    Ending::new(&end_of(id, answer), &Logs::default())
}

/// The end of a task with this answer, as CBOR; a failure when it is empty.
fn end_of(id: &str, answer: &[u8]) -> Commit {
    let summary = TaskSummary {
        id: name(id),
        name: name("air"),
        service: name("city-air"),
        signer: name("city"),
        state: TaskState::Done,
        function: mtw(id).function.image,
        attempts: 1,
        accepted: now(),
        started: Some(now()),
        finished: Some(now()),
        due: None,
        skipped: 0,
        held: false,
        breakdown: None,
        failure: None,
    };
    let mut result = summary.into_result();
    if answer.is_empty() {
        result.state = TaskState::Failed;
        result.failure = Some(Failure::TooLate);
    } else {
        result.answer = Some(cbor::decode(answer).unwrap());
    }
    Commit {
        run: None,
        result,
        answer: answer.to_vec(),
        readings: Vec::new(),
        checkpoint: None,
        receivers: Vec::new(),
        parcels: Vec::new(),
        charge: Charge {
            day: Zone::default().day(now()).0,
            used: Used {
                cpu: Duration(5_000),
                bytes: Size(answer.len() as u64),
            },
        },
    }
}

#[test]
fn what_was_stored_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(accept(&store, "a").fresh);
    accept(&store, "b");
    let change = Change::Running {
        attempts: 2,
        at: now(),
    };
    assert!(persist(&store, "b", &change).unwrap());
    assert!(end(&store, "a", &[0x18, 0x2a]).unwrap());
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let result = store.result(&name("a")).unwrap().unwrap();
    assert_eq!(
        (result.state, result.answer),
        (TaskState::Done, Some(42.into()))
    );
    let open = store.unfinished().unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].mtw.task.id.as_str(), open[0].attempts), ("b", 2));
    let b = store.summary(&name("b")).unwrap().unwrap();
    assert_eq!(b.state, TaskState::Queued, "nothing runs any more");
    assert!(!accept(&store, "a").fresh);
}

#[test]
fn the_same_id_with_another_task_is_refused_and_names_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    let other = mtw_with("a", |t| t["task"]["name"] = "other".into());
    let refused = take(&store, newcomer(&other));
    assert!(matches!(refused, Err(StoreError::OtherTask { signer, .. }) if signer == name("city")));
}

#[test]
fn a_task_has_one_result_whatever_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "a");
    assert!(end(&store, "a", &[1]).unwrap());
    assert!(!end(&store, "a", &[2]).unwrap());
    assert!(!persist(&store, "a", &Change::Queued { attempts: 0 }).unwrap());
    let twice = [
        Write::End(Box::new(ending("b", &[3]))),
        Write::End(Box::new(ending("b", &[4]))),
    ];
    accept(&store, "b");
    assert_eq!(store.store(&twice, &[]).unwrap().applied, [true, false]);
    let answer = |id: &str| store.result(&name(id)).unwrap().unwrap().answer;
    assert_eq!((answer("a"), answer("b")), (Some(1.into()), Some(3.into())));
    assert!(!end(&store, "none", &[1]).unwrap());
    assert_eq!(store.counts().done, 2);
}

#[test]
fn a_folder_is_one_nodes_alone_and_the_other_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let pid = std::process::id().to_string();
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::InUse { pid: other, .. }) if other == pid
    ));
    // Also when somebody removed the lock file.
    std::fs::remove_file(folder.path().join("node.lock")).unwrap();
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::InUse { .. })
    ));
    drop(store);
    assert!(Store::open(folder.path()).is_ok());
}

#[test]
fn a_folder_that_is_let_go_in_a_moment_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| Store::open(folder.path()).is_ok());
        // Whichever comes first: the outcome is the same.
        drop(store);
        assert!(next.join().unwrap());
    });
}

#[test]
fn a_store_of_a_newer_version_or_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let path = folder.path().join("store.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    drop(connection);
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::TooNew {
            found: 99,
            known: 3,
            ..
        })
    ));
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA application_id = 7")
        .unwrap();
    drop(connection);
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::Foreign { .. })
    ));
    std::fs::write(
        &path,
        "no database, just a longer text than a header has, so that it is read",
    )
    .unwrap();
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::Foreign { .. })
    ));
}

#[test]
fn a_full_database_refuses_a_task_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    accept(&store, "first");
    let pages: i64 = store
        .connection()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let most = |pages: i64| format!("PRAGMA max_page_count = {pages}");
    store.connection().execute_batch(&most(pages + 2)).unwrap();
    let large = mtw_with("large", |t| {
        t["function"]["params"] = serde_json::json!({ "x": "x".repeat(60_000) });
    });
    let refused = take(&store, newcomer(&large));
    assert!(
        refused.as_ref().is_err_and(StoreError::is_full),
        "{refused:?}"
    );
    assert_eq!(store.summary(&name("large")).unwrap(), None);
    assert_eq!(store.unfinished().unwrap().len(), 1);
    store.connection().execute_batch(&most(1_000_000)).unwrap();
    assert!(take(&store, newcomer(&large)).is_ok());
}

#[test]
fn an_image_is_checked_each_time_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (function, envelope) = function();
    let publish = || store.publish(&function, &envelope, (IMAGE, Some("1000 20 main")), now());
    assert!(publish().unwrap().1);
    assert_eq!(store.images().read(digest()).unwrap(), IMAGE);
    let path = store.images().path(digest());
    std::fs::write(&path, b"\x7fELF and so off").unwrap();
    assert!(matches!(
        store.images().read(digest()),
        Err(StoreError::Image { path: named, .. }) if named == path
    ));
    assert!(
        !publish().unwrap().1,
        "the same function again heals the file"
    );
    assert_eq!(store.images().read(digest()).unwrap(), IMAGE);
    assert_eq!(store.images().symbols(digest()).unwrap(), "1000 20 main");
}

#[test]
fn an_image_without_a_row_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store
        .connection()
        .execute_batch("DROP TABLE functions; CREATE TABLE functions (digest TEXT)")
        .unwrap();
    let (function, envelope) = function();
    assert!(
        store
            .publish(&function, &envelope, (IMAGE, None), now())
            .is_err()
    );
    assert!(!store.images().path(digest()).exists());
}

#[test]
fn files_that_an_interrupted_write_left_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let part = folder.path().join("images/sha256-00.part");
    std::fs::write(&part, "half").unwrap();
    drop(Store::open(folder.path()).unwrap());
    assert!(!part.exists());
}

#[test]
fn lists_go_from_new_to_old_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for id in ["a", "b", "c"] {
        accept(&store, id);
    }
    let mut filter = Filter {
        limit: Some(2),
        ..Filter::default()
    };
    let first = store.list(&filter).unwrap();
    assert_eq!(first.tasks[0].id, name("c"));
    assert_eq!(first.next, Some(name("b")));
    filter.after = first.next;
    let second = store.list(&filter).unwrap();
    assert_eq!((second.tasks[0].id.clone(), second.next), (name("a"), None));
    assert_eq!(store.counts().queued, 3);
}

#[test]
fn earlier_answers_are_the_newest_of_one_service_as_far_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for (id, readings) in [("a", "first"), ("b", ""), ("c", "third")] {
        accept(&store, id);
        let mut commit = end_of(id, &[0x18, 0x2a]);
        commit.readings = readings.into();
        let end = Write::End(Box::new(Ending::new(&commit, &Logs::default())));
        assert!(store.store(&[end], &[]).unwrap().applied[0]);
    }
    let task = store.summary(&name("a")).unwrap().unwrap();
    let answers = |service: &fades_task::identity::Name, most| {
        store.answers(service, &task.name, most).unwrap()
    };
    assert_eq!(answers(&task.service, 10), [b"third", b"first"]);
    assert_eq!(answers(&task.service, 9), [b"third"]);
    assert!(answers(&task.service, 4).is_empty());
    assert!(answers(&name("another"), 10).is_empty());
}
