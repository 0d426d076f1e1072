use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;

use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::result::{Failure, TaskState};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::ReplyTo;
use super::{Arrival, Entrant, NotTaken, Submission, leave_out_start};
use crate::admission::Refusal;
use crate::config::QUEUE_MAX;
use crate::core::{Change, Effect, Event, Now, Part, Task};
use crate::driver::{Driver, Input};
use crate::samples::{
    IMAGE, config, envelope, function, mtw, mtw_with, name, now, trust, verified,
};
use crate::shared::Shared;
use crate::store::{Acceptance, Store, StoreError};
use crate::trust::Trust;

mod revoked;

type Answer = oneshot::Receiver<Result<Acceptance, NotTaken>>;

/// A driver that is told what happens, one turn after the other. There is no
/// program for its broker, and the one for its tenders never says anything.
struct Desk {
    driver: Driver,
    _folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let (function, text) = function();
        let publish = (IMAGE, None);
        store.publish(&function, &text, publish, now()).unwrap();
        let config = Arc::new(config(folder.path()));
        std::fs::write(&config.tender, "#!/bin/sh\nexec sleep 100\n").unwrap();
        std::fs::set_permissions(&config.tender, Permissions::from_mode(0o700)).unwrap();
        let shared = Arc::new(Shared::new(Arc::clone(&config)));
        let first = channel().0;
        std::fs::write(&config.trust, trust().to_toml()).unwrap();
        let trust = Arc::new(Trust::open(&config, &store).unwrap());
        let driver = Driver::new(config, store, shared, trust, channel(), first).unwrap();
        let mut desk = Self {
            driver,
            _folder: folder,
        };
        desk.driver.step(Event::Start);
        desk.driver.settle();
        // The broker could not be started.
        assert!(matches!(
            desk.driver.inputs.try_recv(),
            Ok(Input::BrokerLeft { .. })
        ));
        desk
    }

    /// With a broker that takes everything.
    fn up() -> Self {
        let mut desk = Self::new();
        desk.driver.step(Event::Up(Part::Broker));
        desk.driver.settle();
        desk
    }

    fn submission(mtw: &Mtw) -> (Submission, Answer) {
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            task: verified(mtw),
            envelope: envelope(mtw).to_json(),
            isolations: vec![Isolation::Process],
            inbox: None,
            reply: ReplyTo::Request(reply),
        };
        (submission, answer)
    }

    fn submit(&self, mtw: &Mtw) -> Answer {
        let (submission, answer) = Self::submission(mtw);
        self.driver.send(Input::Submit(Box::new(submission)));
        answer
    }

    fn store(&self) -> &Store {
        &self.driver.store
    }

    fn state(&self, id: &str) -> Option<TaskState> {
        let result = self.store().result(&name(id)).unwrap();
        result.map(|r| r.state)
    }

    /// Runs for which tenders were asked.
    fn begun(&self) -> usize {
        self.driver.shared.live().shells.waiting
    }

    fn writable(&self, writable: bool) {
        self.store().set_writable(writable);
    }
}

fn large(id: &str) -> Mtw {
    mtw_with(id, |t| {
        t["function"]["params"] = serde_json::json!({ "x": "x".repeat(60_000) });
    })
}

fn taken(answer: &mut Answer) -> Acceptance {
    answer.try_recv().unwrap().unwrap()
}

fn refused(answer: &mut Answer) -> NotTaken {
    answer.try_recv().unwrap().unwrap_err()
}

#[test]
fn a_task_that_can_start_at_once_is_accepted_and_started_in_one_turn() {
    let mut desk = Desk::up();
    let mut answers: Vec<_> = ["a", "b", "c"].map(|id| desk.submit(&mtw(id))).into();
    let before = desk.store().groups();
    desk.driver.turn();
    assert_eq!(desk.store().groups() - before, 1, "one sync for all three");
    let states = ["a", "b", "c"].map(|id| desk.state(id).unwrap());
    assert_eq!(
        states,
        [TaskState::Running, TaskState::Running, TaskState::Queued]
    );
    assert_eq!((desk.begun(), desk.driver.core.waiting()), (2, 1));
    for (answer, state) in answers.iter_mut().zip(states) {
        let acceptance = taken(answer);
        assert!(acceptance.fresh);
        assert_eq!(acceptance.summary.state, state);
    }
}

#[test]
fn nothing_is_performed_and_nobody_is_told_before_it_is_stored() {
    let begin = |writable: bool| {
        let mut desk = Desk::up();
        let mut answer = desk.submit(&mtw("a"));
        desk.driver.turn();
        taken(&mut answer);
        let queued = Desk::submission(&mtw("b")).0;
        let newcomer = desk.driver.newcomers(desk.driver.now(), vec![queued]).0;
        let accepted = desk.driver.store_one(&newcomer[0]).unwrap();
        desk.writable(writable);
        // A node that ends tries once and gives up.
        desk.driver.shared.end();
        let mut told = desk.submit(&mtw("c"));
        desk.driver.step(Event::Cancel {
            id: name("a"),
            by: "somebody".to_owned(),
        });
        desk.driver.step(Event::Accepted(Task {
            seq: accepted.seq,
            mtw: Arc::new(mtw("b")),
            accepted: now(),
            attempts: 0,
            isolations: vec![Isolation::Process],
            inbox: None,
            parent: None,
            due: None,
            place: crate::core::Place::default(),
        }));
        desk.driver.turn();
        let told = told.try_recv().unwrap().is_ok();
        let b_waits_for_a_tender = desk.begun() > 0;
        let a_is_forgotten = !desk.driver.open.contains_key(&name("a"));
        desk.writable(true);
        let ended = desk.state("a") == Some(TaskState::Cancelled);
        (told, b_waits_for_a_tender, a_is_forgotten, ended)
    };
    assert_eq!(begin(true), (true, true, true, true));
    assert_eq!(begin(false), (false, false, false, false));
}

#[test]
fn the_same_task_twice_at_once_is_one_task_with_two_equal_answers() {
    let mut desk = Desk::up();
    let (mut first, mut second) = (desk.submit(&mtw("a")), desk.submit(&mtw("a")));
    let other = mtw_with("a", |t| t["task"]["name"] = "other".into());
    let mut other = desk.submit(&other);
    desk.driver.turn();
    let (first, second) = (taken(&mut first), taken(&mut second));
    assert_eq!((first.fresh, second.fresh), (true, false));
    assert_eq!(first.summary, second.summary);
    assert!(matches!(
        refused(&mut other),
        NotTaken::Store(StoreError::OtherTask { signer, .. }) if signer == name("city")
    ));
    assert_eq!(desk.begun(), 1);
    assert_eq!(desk.store().unfinished().unwrap().len(), 1);
}

#[test]
fn a_full_queue_takes_nothing_new_and_still_knows_what_it_has() {
    let mut desk = Desk::new();
    let mut known = desk.submit(&mtw("known"));
    desk.driver.turn();
    assert!(taken(&mut known).fresh);
    let filler = Arc::new(mtw("filler"));
    for n in 2..QUEUE_MAX {
        let task = Task {
            seq: n as i64,
            mtw: Arc::clone(&filler),
            accepted: now(),
            attempts: 0,
            isolations: vec![Isolation::Process],
            inbox: None,
            parent: None,
            due: None,
            place: crate::core::Place::default(),
        };
        let _ = desk
            .driver
            .core
            .step(desk.driver.now(), Event::Accepted(task));
    }
    let mut last = desk.submit(&mtw("last"));
    let mut more = desk.submit(&mtw("more"));
    let mut again = desk.submit(&mtw("known"));
    desk.driver.turn();
    assert!(taken(&mut last).fresh);
    assert!(matches!(
        refused(&mut more),
        NotTaken::Refused(Refusal::QueueFull)
    ));
    assert!(!taken(&mut again).fresh);
    assert_eq!(desk.state("more"), None);
}

#[test]
fn a_store_that_is_full_takes_what_fits_of_a_group_and_refuses_the_rest() {
    let mut desk = Desk::up();
    let mut blocker = desk.submit(&mtw("blocker"));
    desk.driver.turn();
    taken(&mut blocker);
    desk.store().leave_room(3);
    let tasks = [mtw("a"), large("b"), mtw("c"), large("d")];
    let mut answers = tasks.map(|mtw| desk.submit(&mtw));
    // A state that has to be stored in the same group.
    desk.driver.step(Event::Cancel {
        id: name("blocker"),
        by: "somebody".to_owned(),
    });
    desk.driver.turn();
    assert_eq!(desk.state("blocker"), Some(TaskState::Cancelled));
    let fits: Vec<bool> = answers
        .iter_mut()
        .map(|answer| match answer.try_recv().unwrap() {
            Ok(acceptance) => acceptance.fresh,
            Err(NotTaken::Store(e)) => {
                assert!(e.is_full(), "{e:?}");
                false
            }
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fits, [true, false, true, false]);
    let there = ["a", "b", "c", "d"].map(|id| desk.state(id).is_some());
    assert_eq!(there, [true, false, true, false]);
    assert_eq!(desk.driver.core.waiting() + desk.driver.core.running(), 3);
    assert_eq!(desk.driver.shared.live().store_error, None);
}

#[test]
fn while_a_state_cannot_be_stored_tasks_are_answered_and_all_else_waits() {
    let mut desk = Desk::up();
    let mut blocker = desk.submit(&mtw("blocker"));
    desk.driver.turn();
    taken(&mut blocker);
    desk.writable(false);
    let cancel = |id: &str| Event::Cancel {
        id: name(id),
        by: "somebody".to_owned(),
    };
    desk.driver.step(cancel("blocker"));
    let mut refused_one = desk.submit(&mtw("a"));
    let (sender, store) = (desk.driver.sender.clone(), Arc::clone(&desk.driver.store));
    std::thread::scope(|scope| {
        let driver = &mut desk.driver;
        let settling = scope.spawn(move || driver.settle());
        // Answered, though nothing else goes on.
        loop {
            match refused_one.try_recv() {
                Ok(answer) => {
                    assert!(matches!(answer, Err(NotTaken::Store(_))));
                    break;
                }
                Err(oneshot::error::TryRecvError::Empty) => std::thread::yield_now(),
                Err(closed) => panic!("{closed}"),
            }
        }
        sender.send(Input::Event(cancel("b"))).unwrap();
        store.set_writable(true);
        settling.join().unwrap();
    });
    assert_eq!(desk.state("blocker"), Some(TaskState::Cancelled));
    assert_eq!(desk.driver.shared.live().store_error, None);
    let mut arrived = desk.driver.arrivals.drain(..);
    assert!(arrived.all(|a| matches!(a, Arrival::Input(Input::Event(_)))));
}

#[test]
fn a_task_that_was_taken_while_the_core_could_not_be_asked_is_told_to_it_later() {
    let mut desk = Desk::up();
    let (submission, mut answer) = Desk::submission(&mtw("a"));
    desk.driver.take_apart(submission);
    assert_eq!(taken(&mut answer).summary.state, TaskState::Queued);
    assert_eq!(desk.begun(), 0);
    desk.driver.turn();
    assert_eq!(desk.state("a"), Some(TaskState::Running));
    assert_eq!(desk.begun(), 1);
}

#[test]
fn a_clock_that_leaps_while_a_task_waits_to_be_told_to_the_core_does_not_end_it() {
    for hours in [-10, 10] {
        let mut desk = Desk::new();
        let hasty = mtw_with("a", |t| t["task"]["finish-within"] = "60s".into());
        let accepted = match desk.driver.now().time {
            time if hours < 0 => time.before(Duration::from_secs(36_000)),
            time => time.after(Duration::from_secs(36_000)),
        };
        let entrant = Entrant {
            now: Now {
                time: accepted,
                tick: desk.driver.now().tick,
            },
            task: Task {
                seq: 1,
                mtw: Arc::new(hasty),
                accepted,
                attempts: 0,
                isolations: vec![Isolation::Process],
                inbox: None,
                parent: None,
                due: None,
                place: crate::core::Place::default(),
            },
            started: false,
        };
        let entrant = Arrival::Entrant(Box::new(entrant));
        desk.driver.arrivals.push_back(entrant);
        desk.driver.turn();
        assert_eq!(desk.driver.core.waiting(), 1, "{hours} h");
    }
}

#[test]
fn a_task_that_the_core_ends_at_once_is_not_left_as_running() {
    let mut desk = Desk::up();
    let (mut submission, mut answer) = Desk::submission(&mtw("a"));
    submission.isolations.clear();
    desk.driver.send(Input::Submit(Box::new(submission)));
    desk.driver.turn();
    assert!(taken(&mut answer).fresh);
    let result = desk.store().result(&name("a")).unwrap().unwrap();
    assert!(matches!(result.failure, Some(Failure::Isolation { .. })));
    assert_eq!(desk.begun(), 0);
}

#[test]
fn a_start_that_is_stored_is_not_stored_twice_and_one_that_does_not_come_is_taken_back() {
    let desk = Desk::new();
    let now = desk.driver.now();
    let persist = |change| Effect::Persist {
        id: name("a"),
        change,
    };
    let start = persist(Change::Running {
        attempts: 1,
        at: now.time,
    });
    let mut effects = vec![start, Effect::Ping(Part::Broker)];
    leave_out_start(now, name("a"), &mut effects);
    assert_eq!(effects, [Effect::Ping(Part::Broker)]);
    leave_out_start(now, name("a"), &mut effects);
    let queued = persist(Change::Queued { attempts: 0 });
    assert_eq!(effects, [queued, Effect::Ping(Part::Broker)]);
}

#[test]
fn a_turn_takes_a_bounded_number_of_inputs() {
    let mut desk = Desk::new();
    for _ in 0..super::INPUTS_MAX + 1 {
        desk.driver.send(Input::Event(Event::Pong(Part::Broker)));
    }
    desk.driver.turn();
    assert!(desk.driver.inputs.try_recv().is_ok());
    assert!(desk.driver.inputs.try_recv().is_err());
}

#[test]
fn a_driver_that_is_stuck_is_silent_and_one_that_waits_for_its_store_is_not() {
    let mut desk = Desk::up();
    let path = desk._folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let short = std::time::Duration::from_millis(30);
    let long = std::time::Duration::from_secs(60);
    let heard = |within| {
        socket.set_read_timeout(Some(within)).unwrap();
        socket.recv(&mut [0; 99]).is_ok()
    };
    let notify = crate::notify::Notify::open(path.as_os_str(), Some(short)).unwrap();
    let mut config = desk.driver.config.as_ref().clone();
    config.notify = Some(notify);
    desk.driver.config = Arc::new(config);
    let (shared, inputs) = (Arc::clone(&desk.driver.shared), desk.driver.sender.clone());
    let store = Arc::clone(&desk.driver.store);
    let submission = Box::new(Desk::submission(&mtw("a")).0);
    let driver = desk.driver;
    let driver = std::thread::spawn(move || driver.run(vec![], vec![]));
    assert!(heard(long) && heard(long));
    // It wants to say how the node is, and cannot.
    let held = shared.live();
    while heard(10 * short) {}
    assert!(!heard(10 * short));
    drop(held);
    assert!(heard(long) && heard(long));
    inputs.send(Input::Submit(submission)).unwrap();
    let stored = || matches!(store.summary(&name("a")), Ok(Some(_)));
    while !stored() {
        assert!(heard(long));
    }
    store.set_writable(false);
    let cancel = Event::Cancel {
        id: name("a"),
        by: "me".to_owned(),
    };
    inputs.send(Input::Event(cancel)).unwrap();
    while shared.live().store_error.is_none() {
        assert!(heard(long));
    }
    // What it said before is no proof.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 99]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    assert!(heard(long) && heard(long));
    assert!(shared.live().store_error.is_some());
    shared.end();
    inputs.send(Input::Shutdown).unwrap();
    driver.join().unwrap();
}
