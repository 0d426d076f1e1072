//! Parts that die, again and again, and a node that drains.

use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, TaskState};

use super::{Story, committed, failed, mtw, mtw_with, queued_again, started};
use crate::core::outbox::Mail;
use crate::core::{
    Core, DEATHS_MAX, Effect, Event, LOOP_WITHIN, Part, RETRIEVE_GRACE, RunId, Timer,
};
use crate::samples::name;

fn lose(story: &mut Story, part: Part) -> Vec<Effect> {
    let reason = "signal: 9 (SIGKILL)".to_owned();
    story.step(Event::Lost { part, reason })
}

/// It is started again, and becomes ready.
fn again(story: &mut Story, part: Part) -> Vec<Effect> {
    story.pass(Duration::from_secs(7));
    let effects = story.step(Event::Timer(Timer::Restart(part)));
    assert_eq!(effects[0], Effect::Start(part), "{effects:?}");
    story.step(Event::Up(part))
}

fn gives_up(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::GiveUp(_)))
}

/// A broker that died as often as it may.
fn given_up() -> Story {
    let mut story = Story::up(1);
    for death in 1..=DEATHS_MAX {
        let effects = lose(&mut story, Part::Broker);
        assert_eq!(gives_up(&effects), death == DEATHS_MAX, "{death}");
        if death < DEATHS_MAX {
            let _ = again(&mut story, Part::Broker);
        }
    }
    story
}

#[test]
fn a_broker_that_dies_again_and_again_is_given_up_until_somebody_says_otherwise() {
    let mut story = given_up();
    story.pass(Duration::from_secs(3_600));
    assert_eq!(story.step(Event::Timer(Timer::Restart(Part::Broker))), []);
    let late = Event::Timer(Timer::PartReady(Part::Broker, DEATHS_MAX as u32));
    assert_eq!(story.step(late), []);
    assert_eq!(lose(&mut story, Part::Broker), []);
    assert_eq!(story.accept("a"), []);
    let effects = story.step(Event::Revive);
    assert_eq!(effects[0], Effect::Start(Part::Broker));
    // Once is enough.
    assert_eq!(story.step(Event::Revive), []);
    let _ = started(&story.step(Event::Up(Part::Broker)));
    // It begins anew: neither the earlier deaths nor the long pause are left.
    let effects = lose(&mut story, Part::Broker);
    assert!(!gives_up(&effects));
    let soon = story.now.tick.after(Duration(100_000_000));
    assert!(effects.contains(&Effect::SetTimer {
        at: soon,
        timer: Timer::Restart(Part::Broker)
    }));
}

#[test]
fn tasks_wait_for_a_broker_that_was_given_up_as_long_as_they_may() {
    let mut story = given_up();
    let hasty = mtw_with("hasty", |t| t["task"]["finish-within"] = "60s".into());
    let hasty = story.task(hasty);
    let _ = story.step(Event::Accepted(hasty));
    assert_eq!(story.accept("patient"), []);
    assert_eq!(story.accept("unwanted"), []);
    assert_eq!(story.core.waiting(), 3);
    let cancelled = story.cancel("unwanted");
    assert_eq!(committed(&cancelled).state, TaskState::Cancelled);
    story.pass(Duration::from_secs(60));
    let effects = story.step(Event::Timer(Timer::TooLate(name("hasty"))));
    assert_eq!(failed(&effects), Failure::TooLate);
    let _ = story.step(Event::Revive);
    let effects = story.step(Event::Up(Part::Broker));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::StartTender { id, .. } if *id == name("patient")))
    );
}

#[test]
fn deaths_that_are_far_between_are_forgiven() {
    let mut story = Story::up(1);
    for _ in 0..3 * DEATHS_MAX {
        story.pass(Duration(LOOP_WITHIN.0 / (DEATHS_MAX as u64 - 1)));
        assert!(!gives_up(&lose(&mut story, Part::Broker)));
        let _ = again(&mut story, Part::Broker);
    }
}

#[test]
fn a_courier_that_dies_again_and_again_is_given_up_and_the_broker_is_not() {
    let mut story = Story::new(1);
    let mail = Mail {
        node: name("here"),
        at_most: Size(1 << 20),
    };
    story.core = Core::new(rules(&story), fades_task::time::Zone::default(), Some(mail));
    let effects = story.step(Event::Start);
    assert!(effects.contains(&Effect::Start(Part::Courier)));
    let _ = story.step(Event::Up(Part::Broker));
    let _ = story.step(Event::Up(Part::Courier));
    for death in 1..=DEATHS_MAX {
        let effects = lose(&mut story, Part::Courier);
        let given_up = effects.contains(&Effect::GiveUp(Part::Courier));
        assert_eq!(given_up, death == DEATHS_MAX);
        if !given_up {
            let _ = again(&mut story, Part::Courier);
        }
    }
    let run = started(&story.accept("a"));
    let effects = story.step(Event::Revive);
    assert_eq!(effects[0], Effect::Start(Part::Courier));
    assert!(!effects.contains(&Effect::Start(Part::Broker)));
    assert_eq!(story.core.unfinished(), 1, "{run:?}");
}

fn rules(story: &Story) -> crate::core::Rules {
    crate::core::Rules {
        capacity: story.core.room.capacity,
        order: fades_task::policy::Order::default(),
        allowances: fades_task::allowance::Allowances::default(),
        grants: crate::samples::grants(),
    }
}

/// Each attempt of the task takes the broker with it.
fn poison(story: &mut Story, id: &str, kill: impl Fn(&mut Story, RunId) -> Vec<Effect>) {
    let mut run = started(&story.accept(id));
    loop {
        let effects = kill(story, run);
        assert!(!gives_up(&effects), "{id}: {effects:?}");
        let _ = story.gone(run);
        let effects = again(story, Part::Broker);
        if story.core.waiting() + story.core.running() == 0 {
            return;
        }
        run = started(&effects);
    }
}

#[test]
fn a_task_that_takes_the_broker_with_it_fails_and_the_broker_stays_for_the_others() {
    let mut story = Story::up(1);
    for n in 0..DEATHS_MAX - 1 {
        poison(&mut story, &format!("bad-{n}"), |story, _| {
            lose(story, Part::Broker)
        });
    }
    let run = started(&story.accept("good"));
    assert_eq!(story.retrieved(run, None), []);
}

#[test]
fn a_task_whose_retrieval_never_ends_counts_against_itself_as_well() {
    let mut story = Story::up(1);
    for n in 0..DEATHS_MAX - 1 {
        poison(&mut story, &format!("bad-{n}"), |story, run| {
            let _ = story.ready(run);
            let effects = story.ends(run, fades_task::exit::Exit::Done);
            assert!(effects.contains(&Effect::CancelRetrieve { run }));
            story.pass(RETRIEVE_GRACE);
            let effects = story.step(Event::Timer(Timer::Retrieval(run)));
            assert_eq!(effects[0], Effect::Kill(Part::Broker));
            let mut effects = effects;
            effects.extend(lose(story, Part::Broker));
            effects
        });
    }
}

#[test]
fn a_node_that_drains_lets_what_runs_end_and_starts_nothing() {
    let mut story = Story::up(2);
    let run = started(&story.accept("runs"));
    assert_eq!(story.step(Event::Drain), []);
    assert_eq!(story.accept("waits"), []);
    let waits = mtw("waits");
    assert_eq!(
        story.core.starts_at_once(story.now, [&waits].into_iter()),
        0
    );
    assert_eq!(story.core.unfinished(), 1);
    // Also what has to be tried again waits for the next life of the node.
    let again = story.gone(run);
    assert!(queued_again(&again, "runs", 1));
    assert_eq!(story.core.unfinished(), 0);
    story.pass(Duration::from_secs(1));
    assert_eq!(story.step(Event::Timer(Timer::Retry)), []);
    let cancelled = story.cancel("waits");
    assert_eq!(committed(&cancelled).state, TaskState::Cancelled);
}

#[test]
fn an_answer_that_waits_for_its_coverage_is_waited_for() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.step(Event::Drain);
    let _ = story.ready(run);
    let _ = story.ends(run, fades_task::exit::Exit::Done);
    let _ = story.gone(run);
    assert_eq!(story.core.unfinished(), 1);
    let effects = story.retrieved(run, None);
    assert_eq!(committed(&effects).state, TaskState::Done);
    assert_eq!(story.core.unfinished(), 0);
}
