//! Functions that stay: they go on where they are, give way, and lose nothing.

use std::sync::Arc;

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::result::{Failure, TaskState};
use fades_task::time::Time;
use serde_json::json;

use super::{
    Commit, Effect, Event, Part, RunId, STUCK_GRACE, Story, Task, TenderEvent, Timer, committed,
    ended, failed, mtw_with, name, no_room, queued_again, started,
};
use crate::core::standing::Spawn;

const MINUTE: Duration = Duration(60_000_000_000);
const GRACE: Duration = Duration(2_000_000_000);

/// A task whose function stays, of 6 MiB out of 8.
struct Stay {
    story: Story,
    mtw: Mtw,
}

impl Stay {
    fn new() -> Self {
        let mut story = Story::new(2);
        story.now.time = Time(1_767_225_600_000_000_000);
        let _ = story.step(Event::Up(Part::Broker));
        let expires = story.now.time.after(Duration(20 * MINUTE.0));
        let mtw = mtw_with("air", |t| {
            t["task"]["expires"] = expires.to_string().into();
            t["function"]["lifetime"] = "persistent".into();
            t["function"]["limits"] = json!({ "memory": "6MiB", "time": "10s" });
            t["window"] = json!({ "every": "1m" });
            let retrieve = t["retrieve"].as_array_mut().unwrap();
            retrieve.iter_mut().for_each(|r| {
                r.as_object_mut().unwrap().remove("last");
            });
        });
        mtw.check().unwrap();
        let standing = story.task(mtw.clone());
        assert_eq!(spawns(&story.step(Event::Accepted(standing))), []);
        story.pass(GRACE);
        Self { story, mtw }
    }

    /// Lets a minute pass; the window that is due then.
    fn due(&mut self) -> Spawn {
        self.story.pass(MINUTE);
        let effects = self.story.step(Event::Timer(Timer::Schedule));
        let [spawn] = spawns(&effects).try_into().unwrap();
        spawn
    }

    /// What a driver does with a run that it has stored.
    fn opens(&mut self, spawn: &Spawn) -> Vec<Effect> {
        let mut mtw = self.mtw.clone();
        mtw.task.id = spawn.run.clone();
        let run = Task {
            parent: Some(spawn.task.clone()),
            due: Some(spawn.due),
            mtw: Arc::new(mtw),
            ..self.story.task(self.mtw.clone())
        };
        self.story.step(Event::Accepted(run))
    }

    /// The next window, in a new machine.
    fn begins(&mut self) -> RunId {
        let spawn = self.due();
        let run = started(&self.opens(&spawn));
        let _ = self.story.ready(run);
        run
    }

    fn answers(&mut self, run: RunId) -> Vec<Effect> {
        let done = ended(Exit::Done, Isolation::Microvm, 2);
        let event = TenderEvent::Window {
            ended: Box::new(done),
            blob: vec![0x18, 0x2a, 7, 7, 7],
            checkpoint: 3,
        };
        self.story.tender(run, event)
    }

    /// The next window, answered.
    fn rests(&mut self) -> RunId {
        let run = self.begins();
        assert_eq!(self.story.retrieved(run, None), []);
        let effects = self.answers(run);
        assert_eq!(committed(&effects).state, TaskState::Done);
        assert!(!effects.contains(&Effect::KillTender { run }));
        run
    }
}

fn spawns(effects: &[Effect]) -> Vec<Spawn> {
    let spawn = |effect: &Effect| match effect {
        Effect::Spawn(spawn) => Some(spawn.clone()),
        _ => None,
    };
    effects.iter().filter_map(spawn).collect()
}

fn goes_on(effects: &[Effect]) -> Option<RunId> {
    effects.iter().find_map(|effect| match effect {
        Effect::GoOn { run, .. } => Some(*run),
        _ => None,
    })
}

fn commit(effects: &[Effect]) -> &Commit {
    let commit = effects.iter().find_map(|effect| match effect {
        Effect::Commit(commit) => Some(commit),
        _ => None,
    });
    commit.unwrap()
}

#[test]
fn a_window_is_over_once_what_is_late_has_had_time_to_arrive() {
    let mut stay = Stay::new();
    let begin = stay.story.now.time.before(GRACE);
    stay.story.pass(Duration(MINUTE.0 - 1));
    let early = stay.story.step(Event::Timer(Timer::Schedule));
    assert_eq!(spawns(&early), []);
    stay.story.pass(Duration(1));
    let due = stay.story.step(Event::Timer(Timer::Schedule));
    assert_eq!(spawns(&due)[0].due, begin.after(MINUTE));
}

#[test]
fn the_next_window_goes_on_in_the_same_machine_with_its_answer_and_checkpoint_stored() {
    let mut stay = Stay::new();
    let run = stay.begins();
    let _ = stay.story.retrieved(run, None);
    let effects = stay.answers(run);
    let stored = commit(&effects);
    assert_eq!(stored.answer, [0x18, 0x2a]);
    assert_eq!(stored.checkpoint.as_deref(), Some(&[7, 7, 7][..]));
    let spawn = stay.due();
    let effects = stay.opens(&spawn);
    assert_eq!(goes_on(&effects), Some(run));
    assert!(effects.contains(&Effect::Retrieve { run }));
    let persisted = |e: &Effect| matches!(e, Effect::Persist { id, .. } if *id == spawn.run);
    assert!(persisted(&effects[0]), "before anything is done about it");
    // The broker's word may come after the tender's.
    let early = stay.answers(run);
    assert!(!early.contains(&Effect::CancelRetrieve { run }));
    let effects = stay.story.retrieved(run, None);
    assert_eq!(committed(&effects).id, spawn.run);
}

#[test]
fn a_window_that_fails_costs_the_function_its_machine() {
    let mut stay = Stay::new();
    let first = stay.rests();
    let spawn = stay.due();
    assert_eq!(goes_on(&stay.opens(&spawn)), Some(first));
    let effects = stay.story.retrieved(first, Some(no_room()));
    assert!(matches!(failed(&effects), Failure::Retrieval(_)));
    assert_eq!(commit(&effects).checkpoint, None);
    assert!(effects.contains(&Effect::KillTender { run: first }));
    let _ = stay.story.gone(first);
    let again = stay.rests();
    assert_ne!(again, first);
}

#[test]
fn a_function_that_is_lost_in_a_window_gets_that_window_again() {
    let mut stay = Stay::new();
    let first = stay.rests();
    let spawn = stay.due();
    let _ = stay.opens(&spawn);
    let effects = stay.story.gone(first);
    assert!(queued_again(&effects, spawn.run.as_str(), 1));
    stay.story.pass(Duration(100_000_000));
    let second = started(&stay.story.step(Event::Timer(Timer::Retry)));
    assert_ne!(second, first);
}

#[test]
fn what_rests_gives_way_to_what_runs() {
    let mut stay = Stay::new();
    let run = stay.rests();
    assert!(started(&stay.story.accept("small")) != run);
    let large = mtw_with("large", |t| {
        t["function"]["limits"] = json!({ "memory": "4MiB" });
    });
    let large = stay.story.task(large);
    let effects = stay.story.step(Event::Accepted(large));
    assert_eq!(effects.last(), Some(&Effect::KillTender { run }));
    let effects = stay.story.gone(run);
    let large = started(&effects);
    assert_eq!(stay.story.core.running(), 2);
    // There is no room for the function now; it begins when there is.
    let spawn = stay.due();
    assert_eq!(stay.opens(&spawn), []);
    let _ = stay.story.cancel("large");
    let _ = stay.story.cancel("small");
    assert!(started(&stay.story.gone(large)) != run);
}

#[test]
fn it_ends_with_its_task() {
    let mut stay = Stay::new();
    let run = stay.rests();
    let effects = stay.story.cancel("air");
    assert!(effects.contains(&Effect::KillTender { run }));
    let _ = stay.story.gone(run);
    assert_eq!(stay.story.core.running(), 0);

    let mut stay = Stay::new();
    let run = stay.rests();
    stay.story.pass(Duration(30 * MINUTE.0));
    let effects = stay.story.step(Event::Timer(Timer::Schedule));
    assert!(effects.contains(&Effect::KillTender { run }));
    assert_eq!(committed(&effects).id, name("air"));

    // Its end in the middle of a window.
    let mut stay = Stay::new();
    let run = stay.begins();
    let effects = stay.story.cancel("air");
    assert!(effects.contains(&Effect::KillTender { run }));
}

#[test]
fn it_ends_with_the_broker_that_has_its_channel() {
    let mut stay = Stay::new();
    let run = stay.rests();
    let (part, reason) = (Part::Broker, "signal".to_owned());
    let effects = stay.story.step(Event::Lost { part, reason });
    assert!(effects.contains(&Effect::KillTender { run }));
    let _ = stay.story.gone(run);
    stay.story.pass(Duration::from_secs(1));
    let _ = stay.story.step(Event::Timer(Timer::Restart(Part::Broker)));
    let _ = stay.story.step(Event::Up(Part::Broker));
    stay.story
        .pass(Duration(MINUTE.0 - Duration::from_secs(1).0));
    let effects = stay.story.step(Event::Timer(Timer::Schedule));
    let _ = started(&stay.opens(&spawns(&effects)[0]));
}

#[test]
fn timers_of_one_window_do_not_end_the_next() {
    let mut stay = Stay::new();
    let run = stay.rests();
    let spawn = stay.due();
    assert_eq!(goes_on(&stay.opens(&spawn)), Some(run));
    for timer in [Timer::Stuck(run), Timer::Retrieval(run), Timer::Start(run)] {
        assert_eq!(
            stay.story.step(Event::Timer(timer.clone())),
            [],
            "{timer:?}"
        );
    }
    // Its own do.
    stay.story.pass(Duration::from_secs(10));
    stay.story.pass(STUCK_GRACE);
    let effects = stay.story.step(Event::Timer(Timer::Stuck(run)));
    assert!(matches!(failed(&effects), Failure::Function { .. }));
    assert!(effects.contains(&Effect::KillTender { run }));
}

#[test]
fn it_takes_no_slot_while_it_rests_and_gives_back_all_it_had() {
    let mut stay = Stay::new();
    let run = stay.rests();
    let others = ["a", "b"].map(|id| started(&stay.story.accept(id)));
    assert_eq!(stay.story.accept("c"), [], "two run at once");
    let effects = stay.story.cancel("air");
    assert!(effects.contains(&Effect::KillTender { run }));
    for (id, run) in ["a", "b"].iter().zip(others) {
        let _ = stay.story.cancel(id);
        let _ = stay.story.gone(run);
    }
    let _ = stay.story.cancel("c");
    let _ = stay.story.gone(run);
    for run in stay.story.core.runs.keys().copied().collect::<Vec<_>>() {
        let _ = stay.story.gone(run);
    }
    assert_eq!(stay.story.core.running(), 0);
    // All 8 MiB and both slots are there again.
    let whole = |id| {
        mtw_with(id, |t| {
            t["function"]["limits"] = json!({ "memory": "8MiB" });
        })
    };
    let task = stay.story.task(whole("whole"));
    let _ = started(&stay.story.step(Event::Accepted(task)));
}
