//! What services may use: runs at once, a rate, a day's processor time and
//! bytes.

use fades_task::allowance::Allowances;
use fades_task::exit::Exit;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::{Duration, Size};
use fades_task::result::TaskState;
use serde_json::Value;

use super::{Story, committed, mtw_with, started};
use crate::core::{Effect, Event, OverLimit, Part, Rules, RunId, Timer, Used};
use crate::samples::name;

const HOUR: u64 = 3_600;

fn allowances(text: &str) -> Allowances {
    serde_json::from_str(text).unwrap()
}

fn up(text: &str) -> Story {
    let mut story = Story::allowed(9, Order::default(), allowances(text));
    let _ = story.step(Event::Up(Part::Broker));
    story
}

fn ids(effects: &[Effect]) -> Vec<&str> {
    let starts = effects.iter().filter_map(|e| match e {
        Effect::StartTender { id, .. } => Some(id.as_str()),
        _ => None,
    });
    starts.collect()
}

impl Story {
    fn of(&mut self, service: &str, id: &str) -> Vec<Effect> {
        let small = |t: &mut Value| {
            t["task"]["service"] = service.into();
            t["function"]["limits"]["memory"] = "128KiB".into();
        };
        let task = self.task(mtw_with(id, small));
        self.step(Event::Accepted(task))
    }

    /// A run answers, with two bytes and five microseconds; it still holds its
    /// place.
    fn answers(&mut self, run: RunId) -> Vec<Effect> {
        let _ = self.ready(run);
        let _ = self.retrieved(run, None);
        self.ends(run, Exit::Done)
    }

    fn rules(&self, order: Order, text: &str) -> Rules {
        Rules {
            capacity: self.core.room.capacity,
            order,
            allowances: allowances(text),
            grants: crate::samples::grants(),
        }
    }

    fn admit(&mut self, service: &str) -> Result<(), OverLimit> {
        self.core.admit(self.now, &name(service))
    }
}

#[test]
fn a_service_has_so_many_runs_at_once_and_others_pass_its_tasks() {
    let mut story = up(r#"{"default": {"runs": 2}, "water": {"runs": 1}}"#);
    let run = started(&story.of("air", "a1"));
    assert_eq!(ids(&story.of("air", "a2")), ["a2"]);
    assert_eq!(ids(&story.of("air", "a3")), [""; 0]);
    assert_eq!(ids(&story.of("water", "w1")), ["w1"]);
    assert_eq!(ids(&story.of("water", "w2")), [""; 0]);
    // Answered, and its tender is not clean yet.
    assert_eq!(ids(&story.answers(run)), [""; 0]);
    assert_eq!(ids(&story.gone(run)), ["a3"]);
}

#[test]
fn tasks_that_would_start_at_once_are_counted_by_what_their_service_may() {
    let mut story = up(r#"{"air": {"runs": 2}}"#);
    let of = |service: &str, id: &str| mtw_with(id, |t| t["task"]["service"] = service.into());
    let tasks = [
        of("air", "a"),
        of("water", "b"),
        of("air", "c"),
        of("air", "d"),
    ];
    let count = |story: &Story| story.core.starts_at_once(story.now, tasks.iter());
    assert_eq!(count(&story), 3);
    let _ = story.of("air", "running");
    assert_eq!(count(&story), 2);
    let _ = story.of("air", "running-too");
    let _ = story.of("air", "waits");
    assert_eq!(story.core.starts_at_once(story.now, tasks[1..2].iter()), 1);
    assert_eq!(count(&story), 0);
}

#[test]
fn a_rate_lets_so_many_in_at_once_and_then_one_at_a_time() {
    let mut story = up(r#"{"air": {"rate": "3/min"}}"#);
    for _ in 0..3 {
        assert_eq!(story.admit("air"), Ok(()));
    }
    for _ in 0..2 {
        let over = story.admit("air").unwrap_err();
        assert_eq!(over.wait(), Duration::from_secs(20));
        let text = over.to_string();
        assert!(
            text.contains("3/min") && text.contains("limits.air.rate"),
            "{text}"
        );
    }
    assert_eq!(story.admit("water"), Ok(()));
    story.pass(Duration(19_500_000_000));
    assert_eq!(
        story.admit("air").unwrap_err().wait(),
        Duration::from_secs(1)
    );
    story.pass(Duration(500_000_000));
    assert_eq!(story.admit("air"), Ok(()));
    assert!(story.admit("air").is_err());
    story.pass(Duration::from_secs(HOUR));
    let admitted = (0..9).filter(|_| story.admit("air").is_ok());
    assert_eq!(admitted.count(), 3);
}

#[test]
fn a_clock_that_leaps_changes_no_rate() {
    let mut story = up(r#"{"air": {"rate": "1/h"}}"#);
    assert_eq!(story.admit("air"), Ok(()));
    story.now.time = story.now.time.after(Duration::from_secs(48 * HOUR));
    assert!(story.admit("air").is_err());
}

/// The day of these tests begins at noon, UTC.
#[test]
fn a_service_that_used_its_day_up_is_refused_and_waits_for_the_next_one() {
    for (text, used) in [
        (r#"{"air": {"cpu": "10us"}}"#, "10us of the 10us"),
        (r#"{"air": {"bytes": "4B"}}"#, "4B of the 4B"),
    ] {
        let mut story = up(text);
        for id in ["a1", "a2"] {
            assert_eq!(story.admit("air"), Ok(()));
            let run = started(&story.of("air", id));
            let effects = story.answers(run);
            assert_eq!(committed(&effects).state, TaskState::Done);
            let _ = story.gone(run);
        }
        let over = story.admit("air").unwrap_err();
        assert_eq!(over.wait(), Duration::from_secs(12 * HOUR));
        assert!(over.to_string().contains(used), "{over}");
        assert_eq!(story.admit("water"), Ok(()));

        // What was accepted before waits, and others pass it.
        let effects = story.of("air", "a3");
        let at = story.now.tick.after(Duration::from_secs(12 * HOUR));
        let timer = Timer::Day;
        assert_eq!(effects, [Effect::SetTimer { at, timer }]);
        assert_eq!(ids(&story.of("water", "w1")), ["w1"]);
        assert_eq!(ids(&story.of("air", "a4")), [""; 0]);
        story.pass(Duration(12 * HOUR * 1_000_000_000 - 1));
        assert_eq!(ids(&story.step(Event::Pong(Part::Broker))), [""; 0]);
        story.pass(Duration(1));
        assert_eq!(ids(&story.step(Event::Timer(Timer::Day))), ["a3", "a4"]);
        assert_eq!(story.admit("air"), Ok(()));
    }
}

#[test]
fn a_day_that_is_not_over_when_its_timer_fires_is_waited_for_again() {
    let mut story = up(r#"{"air": {"cpu": "1us"}}"#);
    let run = started(&story.of("air", "a1"));
    let _ = story.answers(run);
    let _ = story.gone(run);
    let _ = story.of("air", "a2");
    // The wall clock was set back by an hour meanwhile.
    story.pass(Duration::from_secs(12 * HOUR));
    story.now.time = story.now.time.before(Duration::from_secs(HOUR));
    let effects = story.step(Event::Timer(Timer::Day));
    let at = story.now.tick.after(Duration::from_secs(HOUR));
    let timer = Timer::Day;
    assert_eq!(effects, [Effect::SetTimer { at, timer }]);
}

#[test]
fn what_was_used_in_an_earlier_life_of_the_node_counts() {
    let mut story = up(r#"{"air": {"cpu": "10us"}}"#);
    let used = Used {
        cpu: Duration(10_000),
        bytes: Size(0),
    };
    story.core.recall(story.now, [(name("air"), used)]);
    assert!(matches!(story.admit("air"), Err(OverLimit::Cpu { .. })));
    assert_eq!(ids(&story.of("air", "a1")), [""; 0]);
}

#[test]
fn functions_that_fail_are_charged_as_well() {
    let mut story = up("{}");
    let run = started(&story.of("air", "a1"));
    let _ = story.ready(run);
    let _ = story.retrieved(run, None);
    let effects = story.ends(
        run,
        Exit::Panicked {
            message: "at lib.rs:3".to_owned(),
        },
    );
    assert_eq!(committed(&effects).state, TaskState::Failed);
    let used = story.core.scheduling().services[0].clone();
    assert_eq!((used.cpu, used.bytes), (Duration(5_000), Size(0)));
}

#[test]
fn rules_change_while_tasks_wait_and_run() {
    let mut story = up(r#"{"air": {"runs": 1}}"#);
    let first = started(&story.of("air", "a1"));
    for (id, priority) in [("a2", 0), ("a3", 2), ("a4", 1)] {
        let task = story.task(mtw_with(id, |t| {
            t["task"]["service"] = "air".into();
            t["task"]["priority"] = priority.into();
            t["function"]["limits"]["memory"] = "128KiB".into();
        }));
        assert_eq!(ids(&story.step(Event::Accepted(task))), [""; 0]);
    }
    let priority = Order {
        policy: Policy::Priority,
        ..Order::default()
    };
    let mut rules = story.rules(priority, r#"{"air": {"runs": 3}}"#);
    rules.capacity.parallel = 2;
    assert_eq!(ids(&story.step(Event::Rules(rules.clone()))), ["a3"]);
    rules.capacity.parallel = 1;
    assert_eq!(ids(&story.step(Event::Rules(rules.clone()))), [""; 0]);
    let _ = story.answers(first);
    assert_eq!(ids(&story.gone(first)), [""; 0]);
    rules.capacity.parallel = 9;
    assert_eq!(ids(&story.step(Event::Rules(rules))), ["a4", "a2"]);
    assert_eq!(story.core.scheduling().order, priority);
}

#[test]
fn a_task_for_which_room_was_taken_away_hinders_nobody_and_has_its_turn_later() {
    let mut story = up("{}");
    let first = started(&story.of("air", "a1"));
    let large = |t: &mut Value| t["function"]["limits"]["memory"] = "8MiB".into();
    for id in ["large", "late"] {
        let task = story.task(mtw_with(id, large));
        assert_eq!(ids(&story.step(Event::Accepted(task))), [""; 0]);
    }
    let mut rules = story.rules(Order::default(), "{}");
    rules.capacity.memory = Size(4 << 20);
    let _ = story.step(Event::Rules(rules.clone()));
    story.pass(Duration::from_secs(60));
    assert_eq!(ids(&story.of("air", "a2")), ["a2"]);
    assert_eq!(committed(&story.cancel("late")).state, TaskState::Cancelled);
    let _ = story.cancel("a1");
    let _ = story.cancel("a2");
    let _ = story.gone(first);
    let _ = story.gone(RunId(2));
    assert_eq!((story.core.waiting(), story.core.running()), (1, 0));
    rules.capacity.memory = Size(8 << 20);
    rules.order.policy = Policy::Priority;
    assert_eq!(ids(&story.step(Event::Rules(rules))), ["large"]);
}

#[test]
fn a_service_that_waits_for_tomorrow_goes_on_when_it_may_use_more() {
    let mut story = up(r#"{"air": {"cpu": "1us"}}"#);
    let run = started(&story.of("air", "a1"));
    let _ = story.answers(run);
    let _ = story.gone(run);
    assert_eq!(ids(&story.of("air", "a2")), [""; 0]);
    assert!(story.core.scheduling().services[0].spent);
    let rules = story.rules(Order::default(), r#"{"air": {"cpu": "1s"}}"#);
    assert_eq!(ids(&story.step(Event::Rules(rules))), ["a2"]);
}

#[test]
fn a_service_without_waiting_tasks_is_let_in_again_on_the_next_day() {
    let mut story = up(r#"{"air": {"cpu": "1us"}}"#);
    let run = started(&story.of("air", "a1"));
    let _ = story.answers(run);
    let _ = story.gone(run);
    story.pass(Duration::from_secs(24 * HOUR));
    assert_eq!(ids(&story.of("air", "a2")), ["a2"]);
}
