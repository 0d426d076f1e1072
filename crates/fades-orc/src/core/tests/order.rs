//! Which of the tasks that wait is started next.

use fades_task::mtw::Mtw;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::Duration;
use serde_json::{Value, json};

use super::{Story, mtw_with, started};
use crate::core::{Effect, Event, PASSED_FOR, Part, RunId, WINDOW};

fn order(policy: Policy) -> Order {
    Order {
        policy,
        ..Order::default()
    }
}

impl Story {
    fn hand_in(&mut self, id: &str, change: impl FnOnce(&mut Value)) -> Vec<Effect> {
        let task = self.task(mtw_with(id, change));
        self.step(Event::Accepted(task))
    }

    /// One slot, and it is taken until [`Self::drain`].
    fn busy(policy: Policy) -> (Self, RunId) {
        let mut story = Self::under(1, order(policy));
        let _ = story.step(Event::Up(Part::Broker));
        let run = started(&story.accept("running"));
        (story, run)
    }

    /// Ends one run after the other; which tasks were started, in order.
    fn drain(&mut self, mut run: RunId) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let mut effects = self.step(Event::Tender {
                run,
                event: crate::core::TenderEvent::Refused(fades_task::message::Refused::Image {
                    reason: "no note".to_owned(),
                }),
            });
            effects.extend(self.gone(run));
            let start = effects.iter().find_map(|e| match e {
                Effect::StartTender { run, id, .. } => Some((*run, id.to_string())),
                _ => None,
            });
            match start {
                Some((next, id)) => {
                    run = next;
                    ids.push(id);
                }
                None => return ids,
            }
        }
    }
}

#[test]
fn fifo_is_the_order_of_acceptance() {
    let (mut story, run) = Story::busy(Policy::Fifo);
    for (id, priority) in [("c", 1), ("a", 3), ("b", 2)] {
        let _ = story.hand_in(id, |t| t["task"]["priority"] = priority.into());
    }
    assert_eq!(story.drain(run), ["c", "a", "b"]);
}

#[test]
fn a_higher_priority_is_first_and_equal_ones_are_in_the_order_of_acceptance() {
    let (mut story, run) = Story::busy(Policy::Priority);
    for (id, priority) in [("low", -1), ("c", 5), ("b", 5), ("high", 6)] {
        let _ = story.hand_in(id, |t| t["task"]["priority"] = priority.into());
    }
    assert_eq!(story.drain(run), ["high", "c", "b", "low"]);
}

#[test]
fn a_task_that_has_waited_longer_than_its_levels_are_worth_is_first() {
    let (mut story, run) = Story::busy(Policy::Priority);
    let _ = story.hand_in("old", |_| ());
    story.pass(Duration::from_secs(119));
    let _ = story.hand_in("soon", |t| t["task"]["priority"] = 2.into());
    story.pass(Duration::from_secs(2));
    let _ = story.hand_in("late", |t| t["task"]["priority"] = 2.into());
    assert_eq!(story.drain(run), ["soon", "old", "late"]);
}

#[test]
fn nobody_gets_further_ahead_than_a_hundred_levels() {
    let (mut story, run) = Story::busy(Policy::Priority);
    let _ = story.hand_in("old", |_| ());
    story.pass(Duration::from_secs(100 * 60 + 1));
    let _ = story.hand_in("pushy", |t| t["task"]["priority"] = i32::MAX.into());
    let _ = story.hand_in("modest", |t| t["task"]["priority"] = i32::MIN.into());
    story.pass(Duration::from_secs(100 * 60 + 1));
    let _ = story.hand_in("new", |_| ());
    assert_eq!(story.drain(run), ["old", "pushy", "modest", "new"]);
}

#[test]
fn the_earliest_deadline_is_first_and_none_is_an_hour() {
    let (mut story, run) = Story::busy(Policy::Deadline);
    let within = |d: &'static str| move |t: &mut Value| t["task"]["finish-within"] = d.into();
    let _ = story.hand_in("none", |_| ());
    let _ = story.hand_in("long", within("2h"));
    let _ = story.hand_in("short", within("30m"));
    story.pass(Duration::from_secs(60));
    let _ = story.hand_in("shorter", within("5m"));
    let _ = story.hand_in("same", within("59m"));
    let expected = ["shorter", "short", "none", "same", "long"];
    assert_eq!(story.drain(run), expected);
}

#[test]
fn ids_are_compared_as_texts() {
    let (mut story, run) = Story::busy(Policy::Id);
    for id in ["b", "a10", "c", "a9"] {
        let _ = story.hand_in(id, |t| t["task"]["priority"] = 7.into());
    }
    assert_eq!(story.drain(run), ["a10", "a9", "b", "c"]);
}

/// A task with so much memory; nodes of these tests have 8 MiB.
fn sized(id: &str, size: &str) -> Mtw {
    mtw_with(id, |t| t["function"]["limits"]["memory"] = size.into())
}

impl Story {
    fn large(&mut self, id: &str, size: &str) -> Vec<Effect> {
        let task = self.task(sized(id, size));
        self.step(Event::Accepted(task))
    }

    fn ends_and_leaves(&mut self, run: RunId) -> Vec<Effect> {
        let reason = "no note".to_owned();
        let refused = fades_task::message::Refused::Image { reason };
        let mut effects = self.tender(run, crate::core::TenderEvent::Refused(refused));
        effects.extend(self.gone(run));
        effects
    }
}

fn starts(effects: &[Effect]) -> Vec<&str> {
    let ids = effects.iter().filter_map(|e| match e {
        Effect::StartTender { id, .. } => Some(id.as_str()),
        _ => None,
    });
    ids.collect()
}

#[test]
fn a_task_that_fits_passes_one_that_waits_for_memory_but_not_for_long() {
    let mut story = Story::up(9);
    let first = started(&story.large("first", "6MiB"));
    assert_eq!(story.large("large", "4MiB"), []);
    story.pass(Duration(PASSED_FOR.0 - 1));
    let small = started(&story.large("small", "1MiB"));
    story.pass(Duration(1));
    assert_eq!(story.large("later", "1MiB"), []);
    assert_eq!(starts(&story.ends_and_leaves(small)), [""; 0]);
    let effects = story.ends_and_leaves(first);
    assert_eq!(starts(&effects), ["large", "later"]);
}

#[test]
fn only_so_many_tasks_are_looked_at_for_one_that_fits() {
    let mut story = Story::up(9);
    let _ = story.large("first", "6MiB");
    for n in 1..WINDOW {
        assert_eq!(story.large(&format!("large-{n}"), "4MiB"), []);
    }
    assert_eq!(starts(&story.large("seen", "1MiB")), ["seen"]);
    assert_eq!(story.large("one-more", "4MiB"), []);
    assert_eq!(story.large("unseen", "1MiB"), []);
}

#[test]
fn room_for_batches_bounds_runs_that_retrieve_something() {
    let mut story = Story::up(99);
    for n in 0..8 {
        let effects = story.large(&format!("t{n}"), "128KiB");
        assert_eq!(starts(&effects).len(), 1);
    }
    // Ten times two batches of 2 MiB.
    let _ = story.large("t8", "128KiB");
    let last = started(&story.large("t9", "128KiB"));
    assert_eq!(story.large("t10", "128KiB"), []);
    let without = |t: &mut Value| {
        t["retrieve"] = json!([]);
        t["function"]["limits"]["memory"] = "128KiB".into();
    };
    assert_eq!(starts(&story.hand_in("without", without)), ["without"]);
    assert_eq!(starts(&story.ends_and_leaves(last)), ["t10"]);
}

#[test]
fn tasks_that_would_start_at_once_are_counted_by_what_they_need() {
    let mut story = Story::up(9);
    let tasks = [sized("a", "4MiB"), sized("b", "3MiB"), sized("c", "2MiB")];
    let count = |story: &Story| story.core.starts_at_once(story.now, tasks.iter());
    assert_eq!(count(&story), 2);
    let run = started(&story.large("first", "4MiB"));
    assert_eq!(count(&story), 1);
    assert_eq!(story.large("waits", "8MiB"), []);
    assert_eq!(count(&story), 0);
    let _ = story.cancel("waits");
    let _ = story.ends_and_leaves(run);
    assert_eq!(count(&story), 2);
}
