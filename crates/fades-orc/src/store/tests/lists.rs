//! Lists of tasks: what they say, and that a long history is not read for them.

use fades_task::identity::Name;
use fades_task::result::{Breakdown, Failure, TaskState};

use super::super::group::{Ending, Write};
use super::super::rows::{Filter, page};
use super::super::{Store, state_word};
use super::{accept, end_of};
use crate::api::types::{Logs, TaskSummary};
use crate::samples::{name, now};

fn ids(store: &Store, filter: &Filter) -> Vec<String> {
    let tasks = store.list(filter).unwrap().tasks;
    tasks.into_iter().map(|t| t.id.to_string()).collect()
}

#[test]
fn a_task_that_has_ended_says_where_its_time_went_and_why_it_failed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let breakdown = Breakdown {
        queue_us: 1,
        retrieve_us: 2,
        boot_us: 3,
        transfer_us: 4,
        compute_us: 5,
    };
    for (id, answer) in [("good", &[0x18, 0x2a][..]), ("bad", &[])] {
        accept(&store, id);
        let mut commit = end_of(id, answer);
        commit.result.breakdown = breakdown;
        let end = Write::End(Box::new(Ending::new(&commit, &Logs::default())));
        store.store(&[end], &[]).unwrap();
    }
    accept(&store, "open");
    let told = |store: &Store| -> Vec<TaskSummary> {
        let ids = ["good", "bad", "open"].map(name);
        let told = ids.iter().map(|id| store.summary(id).unwrap().unwrap());
        told.collect()
    };
    let fresh = told(&store);
    assert_eq!(fresh[0].breakdown, Some(breakdown));
    assert_eq!(fresh[0].failure, None);
    assert_eq!(fresh[1].failure, Some(Failure::TooLate.to_string()));
    assert_eq!((fresh[2].breakdown, &fresh[2].failure), (None, &None));
    // The same out of memory, out of the database, and in a list.
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(told(&store), fresh);
    let mut listed = store.list(&Filter::default()).unwrap().tasks;
    listed.reverse();
    assert_eq!(listed, fresh);
}

/// So many tasks are in a long history.
const MANY: u32 = 100_000;

/// A node that has been busy for years: of its tasks, each thousandth failed,
/// and each has one of three services and of fifty names.
fn long_history(store: &Store) {
    accept(store, "first");
    let words = "INSERT INTO tasks (id, payload, envelope, name, service, signer, image,
                                    accepted, state, attempts, started, finished)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT 't' || i, payload, envelope, 'name-' || (i % 50), 'service-' || (i % 3),
                signer, image, i, iif(i % 1000 = 0, 'failed', 'done'), 1, i, i
         FROM tasks, n WHERE id = 'first'";
    let connection = store.connection();
    connection.execute(words, [MANY]).unwrap();
    let words = "INSERT INTO results SELECT seq, '{\"breakdown\":null}', x'', x'', '{}'
                 FROM tasks WHERE finished IS NOT NULL";
    connection.execute(words, []).unwrap();
}

#[test]
fn no_list_reads_a_long_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    long_history(&store);
    let filter = Filter::default;
    let failed = Some(TaskState::Failed);
    let service = || Some(vec![name("service-1")]);
    let middle = Some(name("t50000"));
    let filters = [
        filter(),
        Filter {
            after: middle,
            ..filter()
        },
        Filter {
            state: failed,
            ..filter()
        },
        Filter {
            state: Some(TaskState::Queued),
            ..filter()
        },
        Filter {
            services: service(),
            ..filter()
        },
        Filter {
            name: Some(name("name-7")),
            ..filter()
        },
        Filter {
            services: service(),
            name: Some(name("name-7")),
            state: failed,
            ..filter()
        },
        Filter {
            services: Some(vec![name("nobody")]),
            ..filter()
        },
        Filter {
            of: Some(name("first")),
            ..filter()
        },
    ];
    for filter in filters {
        let (sql, values) = page(&filter, 51);
        let connection = store.connection();
        let mut statement = connection.prepare(&sql).unwrap();
        let bound: Vec<(&str, &dyn rusqlite::ToSql)> =
            values.iter().map(|(n, v)| (*n, v as _)).collect();
        let mut rows = statement.query(bound.as_slice()).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        // Instructions of the database, not time: a row that is looked at takes
        // some dozens; the entry of an index that is looked at, a few.
        let steps = statement.get_status(rusqlite::StatementStatus::VmStep);
        let sorted = statement.get_status(rusqlite::StatementStatus::Sort);
        assert!(steps < 20 * MANY as i32, "{steps} steps: {filter:?}");
        assert!(sorted <= 1, "{filter:?}");
        let scanned = statement.get_status(rusqlite::StatementStatus::FullscanStep);
        // A name alone is looked for in the index of names.
        let most = if filter.name.is_some() {
            MANY as i32 + 60
        } else {
            60
        };
        assert!(scanned <= most, "{scanned} rows: {filter:?}");
    }
}

#[test]
fn filters_hold_together_and_pages_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    long_history(&store);
    let mut filter = Filter {
        state: Some(TaskState::Failed),
        services: Some(vec![name("service-0"), name("service-1")]),
        name: Some(name("name-0")),
        limit: Some(7),
        ..Filter::default()
    };
    let expected = |n: &u32| n.is_multiple_of(1000) && n % 3 < 2 && n.is_multiple_of(50);
    let expected: Vec<String> = (1..=MANY)
        .rev()
        .filter(expected)
        .map(|n| format!("t{n}"))
        .collect();
    let mut found = Vec::new();
    loop {
        found.extend(ids(&store, &filter));
        let next: Option<Name> = store.list(&filter).unwrap().next;
        match next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, expected);
    let state = TaskState::Standing;
    assert_eq!(state_word(state), "standing");
    filter.state = Some(state);
    filter.after = None;
    assert!(ids(&store, &filter).is_empty());
    assert_eq!(
        store.summary(&name("first")).unwrap().unwrap().accepted,
        now()
    );
}
