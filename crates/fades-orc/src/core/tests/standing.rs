//! Tasks that run again: when, how often, and what a restart changes of it.

use std::sync::Arc;

use fades_task::exit::Exit;
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::replace::Replace;
use fades_task::result::{Failure, TaskState};

use fades_task::time::Time;
use proptest::prelude::{Strategy, any, prop, proptest};
use serde_json::json;

use super::{Effect, Event, Part, Story, Task, Timer, committed, mtw_with, name, started};
use crate::core::Place;
use crate::core::standing::Spawn;

const MINUTE: Duration = Duration(60_000_000_000);

/// At the full minute, expiring an hour later.
fn story() -> Story {
    let mut story = Story::new(2);
    story.now.time = Time(1_767_225_600_000_000_000);
    let _ = story.step(Event::Up(Part::Broker));
    story
}

fn task(story: &Story, every: &str, catch_up: &str) -> Mtw {
    let expires = story.now.time.after(Duration::from_secs(3_600));
    mtw_with("air", |t| {
        t["task"]["expires"] = expires.to_string().into();
        t["schedule"] = json!({ "every": every, "catch-up": catch_up });
    })
}

fn spawns(effects: &[Effect]) -> Vec<Spawn> {
    let spawn = |effect: &Effect| match effect {
        Effect::Spawn(spawn) => Some(spawn.clone()),
        _ => None,
    };
    effects.iter().filter_map(spawn).collect()
}

/// What a driver does with a run that it has stored.
fn opens(story: &mut Story, mtw: &Mtw, spawn: &Spawn) -> Vec<Effect> {
    let mut mtw = mtw.clone();
    mtw.task.id = spawn.run.clone();
    let run = Task {
        parent: Some(spawn.task.clone()),
        due: Some(spawn.due),
        ..story.task(mtw)
    };
    story.step(Event::Accepted(run))
}

/// Lets time pass, and the clock be looked at.
fn later(story: &mut Story, span: Duration) -> Vec<Effect> {
    story.pass(span);
    story.step(Event::Timer(Timer::Schedule))
}

fn minutes(n: u64) -> Duration {
    Duration(MINUTE.0 * n)
}

#[test]
fn a_task_with_a_schedule_has_a_run_for_each_time_that_is_due() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let begin = story.now.time;
    let standing = story.task(mtw.clone());
    assert_eq!(spawns(&story.step(Event::Accepted(standing))), []);
    assert_eq!(spawns(&later(&mut story, minutes(4))), []);
    for n in 1..4 {
        let effects = later(&mut story, minutes(if n == 1 { 1 } else { 5 }));
        let due = begin.after(minutes(5 * n));
        let [spawn] = spawns(&effects).try_into().unwrap();
        assert_eq!(
            (spawn.task.clone(), spawn.due, spawn.skipped),
            (name("air"), due, 0)
        );
        let effects = opens(&mut story, &mtw, &spawn);
        let starts = effects.iter().find_map(|effect| match effect {
            Effect::StartTender { run, .. } => Some(*run),
            _ => None,
        });
        let ended = story.cancel(spawn.run.as_str());
        assert_eq!(committed(&ended).id, spawn.run);
        let _ = story.gone(starts.unwrap());
    }
}

#[test]
fn a_run_that_takes_long_has_no_second_beside_it() {
    for (catch_up, due, skipped) in [("latest", 15, 1), ("all", 10, 0), ("none", 20, 2)] {
        let mut story = story();
        let begin = story.now.time;
        let mtw = task(&story, "5m", catch_up);
        let standing = story.task(mtw.clone());
        let _ = story.step(Event::Accepted(standing));
        let [first] = spawns(&later(&mut story, minutes(5))).try_into().unwrap();
        let _ = opens(&mut story, &mtw, &first);
        assert_eq!(spawns(&later(&mut story, minutes(12))), [], "{catch_up}");
        let mut effects = story.cancel(first.run.as_str());
        if catch_up == "none" {
            assert_eq!(spawns(&effects), []);
            effects = later(&mut story, minutes(3));
        }
        let [next] = spawns(&effects).try_into().unwrap();
        assert_eq!(
            (next.due, next.skipped),
            (begin.after(minutes(due)), skipped),
            "{catch_up}"
        );
    }
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let mut story = story();
    let begin = story.now.time;
    let mtw = task(&story, "5m", "latest");
    let mut standing = story.task(mtw.clone());
    standing.due = Some(begin.after(minutes(5)));
    // A run was open when the node ended: it is handed in before its task.
    let run = Spawn {
        task: name("air"),
        run: name("air.20260101T000500Z"),
        due: begin.after(minutes(5)),
        skipped: 0,
    };
    story.pass(minutes(31));
    let _ = opens(&mut story, &mtw, &run);
    assert_eq!(
        spawns(&story.step(Event::Accepted(standing))),
        [],
        "one at a time"
    );
    let [next] = spawns(&story.cancel(run.run.as_str())).try_into().unwrap();
    assert_eq!((next.due, next.skipped), (begin.after(minutes(30)), 4));
}

#[test]
fn a_clock_that_steps_repeats_nothing() {
    let mut story = story();
    let begin = story.now.time;
    let mtw = task(&story, "5m", "latest");
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    let [first] = spawns(&later(&mut story, minutes(5))).try_into().unwrap();
    let _ = opens(&mut story, &mtw, &first);
    // Back by an hour: what was run is not run again.
    story.now.time = begin.before(minutes(55));
    let _ = story.cancel(first.run.as_str());
    assert_eq!(spawns(&later(&mut story, minutes(59))), []);
    story.now.time = begin.after(minutes(12));
    let [next] = spawns(&later(&mut story, Duration(1))).try_into().unwrap();
    assert_eq!(next.due, begin.after(minutes(10)));
}

#[test]
fn the_clock_is_looked_at_each_minute_at_least() {
    let mut story = story();
    let standing = story.task(task(&story, "30m", "latest"));
    let effects = story.step(Event::Accepted(standing));
    let look = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::SetTimer {
                at,
                timer: Timer::Schedule,
            } => Some(*at),
            _ => None,
        })
    };
    assert_eq!(look(&effects), Some(story.now.tick.after(MINUTE)));
    // And not more often because of other things.
    assert_eq!(look(&story.step(Event::Timer(Timer::Retry))), None);
    let effects = later(&mut story, MINUTE);
    assert_eq!(look(&effects), Some(story.now.tick.after(MINUTE)));
}

#[test]
fn cancelling_ends_the_task_and_its_run() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    let [first] = spawns(&later(&mut story, minutes(5))).try_into().unwrap();
    let _ = opens(&mut story, &mtw, &first);
    let effects = story.cancel("air");
    let ended: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(commit) => Some((commit.result.id.clone(), commit.result.state)),
            _ => None,
        })
        .collect();
    let cancelled = TaskState::Cancelled;
    assert_eq!(ended, [(name("air"), cancelled), (first.run, cancelled)]);
    assert_eq!(spawns(&later(&mut story, minutes(60))), []);
    assert_eq!(story.core.standing(), 0);
}

#[test]
fn a_task_that_expires_is_done_and_its_last_run_goes_on() {
    let mut story = story();
    let mtw = task(&story, "50m", "latest");
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    let [first] = spawns(&later(&mut story, minutes(50))).try_into().unwrap();
    let _ = opens(&mut story, &mtw, &first);
    assert_eq!(spawns(&later(&mut story, minutes(11))), []);
    let effects = story.cancel(first.run.as_str());
    let ends: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(commit) => Some(&commit.result),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 2);
    assert!(matches!(ends[0].failure, Some(Failure::Cancelled { .. })));
    assert_eq!(
        (&ends[1].id, ends[1].state),
        (&name("air"), TaskState::Done)
    );
    assert_eq!(ends[1].failure, None);
}

#[test]
fn a_run_whose_id_is_taken_is_left_out() {
    let mut story = story();
    let begin = story.now.time;
    let standing = story.task(task(&story, "5m", "latest"));
    let _ = story.step(Event::Accepted(standing));
    assert_eq!(spawns(&later(&mut story, minutes(5))).len(), 1);
    let task = name("air");
    assert_eq!(spawns(&story.step(Event::LeftOut { task })), []);
    let [next] = spawns(&later(&mut story, minutes(5))).try_into().unwrap();
    assert_eq!(next.due, begin.after(minutes(10)));
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Wait(u64),
    Step(i64),
    RunEnds,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    (0..6_u8, any::<u16>()).prop_map(|(op, n)| match op {
        0..=1 => Op::Wait(u64::from(n) % 900),
        2 => Op::Step(i64::from(n) % 600 - 300),
        3 => Op::Restart,
        _ => Op::RunEnds,
    })
}

proptest! {
    /// Whatever happens, each time that is due is run once at the most, in order, and
    /// with `all` none is left out.
    #[test]
    fn each_time_is_run_once(ops in prop::collection::vec(op(), 1..60), all in any::<bool>()) {
        let mut story = story();
        let mut mtw = task(&story, "1m", if all { "all" } else { "latest" });
        mtw.task.expires = story.now.time.after(Duration::from_secs(864_000));
        let begin = story.now.time;
        let mtw = Arc::new(mtw);
        let standing = story.task(Mtw::clone(&mtw));
        let mut effects = story.step(Event::Accepted(standing));
        let mut open: Option<Spawn> = None;
        let (mut done, mut skipped, mut runs) = (begin, 0, 0);
        for op in ops {
            match op {
                Op::Wait(seconds) => {
                    effects.extend(later(&mut story, Duration::from_secs(seconds)));
                }
                Op::Step(seconds) => {
                    story.now.time = Time(story.now.time.0 + seconds * 1_000_000_000);
                    effects.extend(story.step(Event::Timer(Timer::Schedule)));
                }
                Op::RunEnds => {
                    if let Some(run) = open.take() {
                        effects.extend(story.cancel(run.run.as_str()));
                    }
                }
                Op::Restart => {
                    let now = story.now;
                    story = self::story();
                    story.now = now;
                    if let Some(run) = &open {
                        let _ = opens(&mut story, &mtw, run);
                    }
                    let standing = Task { due: Some(done), ..story.task(Mtw::clone(&mtw)) };
                    effects.extend(story.step(Event::Accepted(standing)));
                }
            }
            for spawn in spawns(&std::mem::take(&mut effects)) {
                assert!(open.is_none(), "one run at a time");
                assert!(spawn.due > done && spawn.due <= story.now.time);
                done = spawn.due;
                skipped += spawn.skipped;
                runs += 1;
                let _ = opens(&mut story, &mtw, &spawn);
                open = Some(spawn);
            }
            let minutes = (done.0 - begin.0) as u64 / MINUTE.0;
            assert_eq!(runs + skipped, minutes, "each is run or counted");
            if all {
                assert_eq!(skipped, 0);
            }
        }
    }
}

/// A task that takes the place of `air`, and gives it back after two failures.
fn successor(story: &Story, id: &str, before: &str) -> Task {
    let mut mtw = task(story, "5m", "latest");
    mtw.task.id = name(id);
    let mut replace = Replace::of(name(before));
    replace.after_failures = 2;
    mtw.replace = Some(replace);
    let place = Place {
        replaces: Some(name(before)),
        ..Place::default()
    };
    Task {
        seq: 100,
        mtw: Arc::new(mtw),
        accepted: story.now.time,
        attempts: 0,
        isolations: Vec::new(),
        inbox: None,
        parent: None,
        due: None,
        place,
    }
}

/// The next run of the task that stands, which ends so.
fn runs(story: &mut Story, mtw: &Mtw, exit: Exit) -> (Spawn, Vec<Effect>) {
    let effects = later(story, minutes(5));
    let [spawn] = spawns(&effects).try_into().unwrap();
    let run = started(&opens(story, mtw, &spawn));
    let _ = story.ready(run);
    let _ = story.retrieved(run, None);
    let ended = story.ends(run, exit);
    let _ = story.gone(run);
    (spawn, ended)
}

fn panicked() -> Exit {
    Exit::Panicked {
        message: "no".to_owned(),
    }
}

fn ends(effects: &[Effect]) -> Vec<(String, TaskState)> {
    let commit = |effect: &Effect| match effect {
        Effect::Commit(c) => Some((c.result.id.to_string(), c.result.state)),
        _ => None,
    };
    effects.iter().filter_map(commit).collect()
}

#[test]
fn a_task_that_was_replaced_stands_again_when_its_successor_keeps_failing() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    let next = successor(&story, "next", "air");
    let _ = story.step(Event::Accepted(next));
    // Failures count when they follow each other.
    for (exit, task) in [
        (panicked(), "next"),
        (Exit::Done, "next"),
        (panicked(), "next"),
    ] {
        let (spawn, ended) = runs(&mut story, &mtw, exit);
        assert_eq!(spawn.task, name(task));
        assert_eq!(ends(&ended).len(), 1);
    }
    let (last, ended) = runs(&mut story, &mtw, panicked());
    let [_, (id, state)] = ends(&ended).try_into().unwrap();
    assert_eq!((id.as_str(), state), ("next", TaskState::Failed));
    let (task, due) = (name("air"), last.due);
    assert!(ended.contains(&Effect::Return { task, due }));
    let (spawn, _) = runs(&mut story, &mtw, Exit::Done);
    assert_eq!(spawn.task, name("air"));
    assert_eq!(
        spawn.due,
        last.due.after(minutes(5)),
        "nothing is run twice"
    );
    assert_eq!(story.core.standing(), 1);
}

#[test]
fn only_one_is_kept_and_it_ends_with_its_successor() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let standing = story.task(mtw);
    let _ = story.step(Event::Accepted(standing));
    let second = successor(&story, "second", "air");
    assert_eq!(ends(&story.step(Event::Accepted(second))), []);
    let third = successor(&story, "third", "second");
    let effects = story.step(Event::Accepted(third));
    assert_eq!(ends(&effects), [("air".to_owned(), TaskState::Done)]);
    assert_eq!(story.core.standing(), 2);
    let effects = story.cancel("third");
    let cancelled = |id: &str| (id.to_owned(), TaskState::Cancelled);
    assert_eq!(ends(&effects), [cancelled("second"), cancelled("third")]);
    assert_eq!(story.core.standing(), 0);
}

#[test]
fn a_task_whose_successor_is_revoked_stands_again_unless_it_is_revoked_as_well() {
    let revoke = |story: &mut Story, id: &str| {
        let (id, by) = (name(id), "the revocation of a key".to_owned());
        story.step(Event::Revoke { id, by })
    };
    let cancelled = |id: &str| (id.to_owned(), TaskState::Cancelled);
    for first_as_well in [false, true] {
        let mut story = story();
        let mtw = task(&story, "5m", "latest");
        let standing = story.task(mtw.clone());
        let _ = story.step(Event::Accepted(standing));
        let next = successor(&story, "next", "air");
        let _ = story.step(Event::Accepted(next));
        let effects = later(&mut story, minutes(5));
        let [spawn] = spawns(&effects).try_into().unwrap();
        let _ = opens(&mut story, &mtw, &spawn);
        if first_as_well {
            assert_eq!(ends(&revoke(&mut story, "air")), [cancelled("air")]);
        }
        // With the run that it has.
        let effects = revoke(&mut story, "next");
        let run = spawn.run.to_string();
        assert_eq!(ends(&effects), [cancelled("next"), cancelled(&run)]);
        let (task, due) = (name("air"), spawn.due);
        let returns = effects.contains(&Effect::Return { task, due });
        assert_eq!(returns, !first_as_well);
        let next: Vec<_> = spawns(&later(&mut story, minutes(5)));
        let tasks: Vec<_> = next.iter().map(|s| s.task.as_str()).collect();
        match first_as_well {
            true => assert_eq!(tasks, [""; 0]),
            false => assert_eq!(tasks, ["air"]),
        }
    }
}

#[test]
fn a_task_that_was_replaced_can_be_cancelled() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    let next = successor(&story, "next", "air");
    let _ = story.step(Event::Accepted(next));
    let cancelled = ("air".to_owned(), TaskState::Cancelled);
    assert_eq!(ends(&story.cancel("air")), [cancelled]);
    for _ in 0..3 {
        let (spawn, ended) = runs(&mut story, &mtw, panicked());
        assert_eq!(spawn.task, name("next"), "there is nothing to go back to");
        assert_eq!(ends(&ended).len(), 1);
    }
}

#[test]
fn after_a_restart_places_and_failures_are_as_they_were() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let mut next = successor(&story, "next", "air");
    next.place = Place {
        failures: 1,
        ..Place::default()
    };
    let _ = story.step(Event::Accepted(next));
    let place = |by: &str| Place {
        held_by: Some(name(by)),
        ..Place::default()
    };
    let mut held = story.task(mtw.clone());
    held.place = place("next");
    assert_eq!(ends(&story.step(Event::Accepted(held))), []);
    // Who has the place of this one has lost its own before the crash.
    let mut orphan = mtw.clone();
    orphan.task.id = name("orphan");
    let mut orphan = story.task(orphan);
    orphan.place = place("gone");
    let over = ("orphan".to_owned(), TaskState::Done);
    assert_eq!(ends(&story.step(Event::Accepted(orphan))), [over]);
    let (_, ended) = runs(&mut story, &mtw, panicked());
    assert_eq!(ends(&ended).len(), 2, "it was the second failure");
}

#[test]
fn nothing_is_due_while_the_clock_is_not_set_and_it_goes_on_by_itself_then() {
    let mut story = story();
    let mtw = task(&story, "5m", "latest");
    let _ = story.step(Event::Clock { set: false });
    let standing = story.task(mtw);
    let effects = story.step(Event::Accepted(standing));
    assert_eq!(effects, []);
    for _ in 0..30 {
        assert_eq!(spawns(&later(&mut story, minutes(1))), []);
    }
    // Not even its end.
    assert_eq!(later(&mut story, minutes(40)), []);
    story.now.time = story.now.time.before(minutes(40));
    let effects = story.step(Event::Clock { set: true });
    let [spawn] = spawns(&effects).try_into().unwrap();
    assert_eq!((spawn.due, spawn.skipped), (story.now.time, 5));
}

#[test]
fn a_year_forth_and_back_runs_nothing_twice_and_ends_what_expires() {
    let year = Duration::from_secs(365 * 86_400);
    let mut story = story();
    let mut mtw = task(&story, "5m", "latest");
    mtw.task.expires = story.now.time.after(year).after(year);
    let standing = story.task(mtw.clone());
    let _ = story.step(Event::Accepted(standing));
    story.now.time = story.now.time.after(year);
    let effects = later(&mut story, minutes(1));
    let [first] = spawns(&effects).try_into().unwrap();
    assert_eq!(first.skipped, 365 * 24 * 12 - 1);
    let _ = opens(&mut story, &mtw, &first);
    let _ = story.cancel(first.run.as_str());
    // Back where it was, nothing is due that was due before.
    story.now.time = story.now.time.before(year);
    for _ in 0..10 {
        assert_eq!(spawns(&later(&mut story, minutes(1))), []);
    }
    story.now.time = story.now.time.after(year).after(year);
    let effects = later(&mut story, minutes(1));
    assert_eq!(committed(&effects).state, TaskState::Done);
    assert_eq!(spawns(&effects), []);
}
