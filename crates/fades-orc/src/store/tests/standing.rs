//! Tasks with a schedule: a run and how far the schedule has come are stored
//! together.

use fades_task::quantity::Duration;
use fades_task::result::TaskState;
use serde_json::json;

use super::{accept, end, newcomer, take};
use crate::core::standing::Spawn;
use crate::samples::{mtw_with, name, now};
use crate::store::group::{Newcomer, Write};
use crate::store::{Filter, Store, StoreError};

fn stands(store: &Store) {
    let mtw = mtw_with("air", |t| t["schedule"] = json!({ "every": "5m" }));
    let accepted = take(store, newcomer(&mtw)).unwrap();
    assert_eq!(accepted.summary.state, TaskState::Standing);
}

fn spawn(minute: u64, skipped: u64) -> Spawn {
    Spawn {
        task: name("air"),
        run: name(&format!("air.20260101T00{minute:02}00Z")),
        due: now().after(Duration::from_secs(60 * minute)),
        skipped,
    }
}

fn spawns(store: &Store, spawn: &Spawn) -> bool {
    let stored = store.store(&[Write::Spawn(spawn, now())], &[]);
    stored.unwrap().applied[0]
}

#[test]
fn a_run_and_the_place_in_the_schedule_are_stored_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    stands(&store);
    accept(&store, "other");
    let first = spawn(5, 0);
    assert!(spawns(&store, &first));
    assert_eq!((store.counts().standing, store.counts().queued), (1, 2));
    assert!(!spawns(&store, &first), "its id is taken");
    assert!(end(&store, first.run.as_str(), &[0x18, 0x2a]).unwrap());
    let second = spawn(20, 2);
    assert!(spawns(&store, &second));
    check(&store, &second);
    drop(store);
    check(&Store::open(folder.path()).unwrap(), &second);
}

fn check(store: &Store, second: &Spawn) {
    let open = store.unfinished().unwrap();
    let seen: Vec<_> = open
        .iter()
        .map(|t| (t.mtw.task.id.as_str(), t.is_run, t.due))
        .collect();
    assert_eq!(
        seen,
        [
            ("air", false, Some(second.due)),
            ("other", false, None),
            ("air.20260101T002000Z", true, Some(second.due)),
        ]
    );
    assert_eq!(open[2].mtw.schedule, open[0].mtw.schedule);
    assert_eq!((store.counts().standing, store.counts().queued), (1, 2));
    assert_eq!(store.counts().done, 1);
    let task = store.summary(&name("air")).unwrap().unwrap();
    assert_eq!(
        (task.state, task.due, task.skipped),
        (TaskState::Standing, Some(second.due), 2)
    );
    let filter = Filter {
        of: Some(name("air")),
        ..Filter::default()
    };
    let runs = store.list(&filter).unwrap().tasks;
    let runs: Vec<_> = runs.iter().map(|t| (t.id.as_str(), t.state)).collect();
    assert_eq!(
        runs,
        [
            ("air.20260101T002000Z", TaskState::Queued),
            ("air.20260101T000500Z", TaskState::Done),
        ]
    );
    let detail = store.detail(&second.run).unwrap().unwrap();
    assert_eq!(detail.task.task.id, second.run);
    assert_eq!(store.place(&second.run).unwrap().unwrap().0, open[2].seq);
}

#[test]
fn a_task_that_has_ended_has_no_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    stands(&store);
    assert!(end(&store, "air", &[]).unwrap());
    assert!(!spawns(&store, &spawn(5, 0)));
    assert_eq!(store.unfinished().unwrap(), []);
}

/// Ends a run of the task, whose function goes on with `checkpoint`.
fn answers(store: &Store, spawn: &Spawn, checkpoint: Option<&[u8]>) -> bool {
    let mut ending = super::ending(spawn.run.as_str(), &[0x18, 0x2a]);
    ending.checkpoint = checkpoint.map(<[u8]>::to_vec);
    let stored = store.store(&[Write::End(Box::new(ending))], &[]);
    stored.unwrap().applied[0]
}

#[test]
fn a_checkpoint_is_stored_with_the_answer_of_its_window_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    stands(&store);
    let checkpoint = |store: &Store| store.checkpoint(&name("air")).unwrap();
    assert_eq!(checkpoint(&store), None);
    let runs = [spawn(5, 0), spawn(10, 0), spawn(15, 0)];
    for run in &runs {
        assert!(spawns(&store, run));
    }
    assert!(answers(&store, &runs[0], Some(&[1])));
    assert_eq!(checkpoint(&store), Some(vec![1]));
    // A window that failed has none, and a second end of one that ended counts for nothing.
    assert!(answers(&store, &runs[1], None));
    assert!(!answers(&store, &runs[0], Some(&[9])));
    assert!(!answers(&store, &runs[1], Some(&[9])));
    assert_eq!(checkpoint(&store), Some(vec![1]));
    assert!(answers(&store, &runs[2], Some(&[])));
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(checkpoint(&store), Some(vec![]));
    assert!(end(&store, "air", &[0x18, 0x2a]).unwrap());
    assert_eq!(checkpoint(&store), None, "the task has ended");
}

fn successor(id: &str, of: &str) -> Newcomer {
    newcomer(&mtw_with(id, |t| {
        t["schedule"] = json!({ "every": "5m" });
        t["replace"] = json!({ "task": of });
    }))
}

#[test]
fn a_place_is_taken_and_given_back_with_what_it_goes_with() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let refused = take(&store, successor("next", "air")).unwrap_err();
    assert!(
        matches!(refused, StoreError::NothingToReplace { .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("those that do: none"),
        "{refused}"
    );
    assert_eq!(store.summary(&name("next")).unwrap(), None);
    stands(&store);
    // By its id, or by its name when that says which.
    let taken = take(&store, successor("next", "air")).unwrap();
    assert_eq!(taken.replaces, Some(name("air")));
    let again = take(&store, successor("next", "air")).unwrap();
    assert_eq!((again.fresh, again.replaces), (false, None));
    let held = |store: &Store, id: &str| store.summary(&name(id)).unwrap().unwrap().held;
    assert_eq!((held(&store, "air"), held(&store, "next")), (true, false));
    let mut run = spawn(5, 0);
    (run.task, run.run) = (name("next"), name("next.20260101T000500Z"));
    assert!(spawns(&store, &run));
    assert!(end(&store, run.run.as_str(), &[]).unwrap());
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(held(&store, "air"), "also when it is read again");
    let open = store.unfinished().unwrap();
    let place = |id: &str| {
        let task = open.iter().find(|t| t.mtw.task.id == name(id));
        task.unwrap().place.clone()
    };
    assert_eq!(place("air").held_by, Some(name("next")));
    assert_eq!(place("next").failures, 1);
    let due = now().after(Duration::from_secs(300));
    let writes = [Write::Return(&name("air"), due)];
    assert!(store.store(&writes, &[]).unwrap().applied[0]);
    let task = store.summary(&name("air")).unwrap().unwrap();
    assert_eq!((task.held, task.due), (false, Some(due)));
    let air = take(&store, successor("third", "city-air-2")).unwrap_err();
    assert!(air.to_string().contains("air (air)"), "{air}");
}
