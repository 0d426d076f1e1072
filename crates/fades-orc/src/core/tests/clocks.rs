//! Wall clocks that leap by hours, in either direction: nothing that waits or
//! runs is measured by them.

use fades_task::exit::Exit;
use fades_task::quantity::Duration;
use fades_task::result::{Failure, TaskState};
use fades_task::time::Time;

use super::{Story, committed, failed, mtw_with, started};
use crate::core::{Effect, Event, Part, TenderEvent, Tick, Timer};
use crate::samples::name;

const HOUR: u64 = 3_600;

fn leap(story: &mut Story, hours: i64) {
    let span = Duration::from_secs(hours.unsigned_abs() * HOUR);
    story.now.time = match hours {
        0.. => story.now.time.after(span),
        _ => story.now.time.before(span),
    };
}

fn hasty(id: &str) -> fades_task::mtw::Mtw {
    mtw_with(id, |t| t["task"]["finish-within"] = "60s".into())
}

fn reminder(effects: &[Effect], wanted: &Timer) -> Option<Tick> {
    effects.iter().find_map(|e| match e {
        Effect::SetTimer { at, timer } if timer == wanted => Some(*at),
        _ => None,
    })
}

#[test]
fn a_task_that_waits_is_too_late_after_the_time_that_really_passed() {
    for hours in [-10, 10] {
        let mut story = Story::new(1);
        let task = story.task(hasty("a"));
        let effects = story.step(Event::Accepted(task));
        let late = Timer::TooLate(name("a"));
        assert_eq!(reminder(&effects, &late), Some(Tick(60_000_000_000)));
        leap(&mut story, hours);
        story.pass(Duration::from_secs(59));
        assert_eq!(story.step(Event::Pong(Part::Broker)), []);
        assert_eq!(story.core.waiting(), 1);
        leap(&mut story, -2 * hours);
        story.pass(Duration::from_secs(1));
        let effects = story.step(Event::Timer(late));
        assert_eq!(failed(&effects), Failure::TooLate);
        assert_eq!(committed(&effects).breakdown.queue_us, 60_000_000);
    }
}

#[test]
fn a_task_that_runs_is_measured_by_the_time_that_really_passed() {
    for hours in [-10, 10] {
        let mut story = Story::up(1);
        let task = story.task(hasty("a"));
        let effects = story.step(Event::Accepted(task));
        let run = started(&effects);
        leap(&mut story, hours);
        story.pass(Duration::from_secs(1));
        let effects = story.tender(run, TenderEvent::Given);
        let start = reminder(&effects, &Timer::Start(run)).unwrap();
        let _ = story.ready(run);
        leap(&mut story, hours);
        story.pass(Duration::from_secs(2));
        assert!(start > story.now.tick);
        assert_eq!(story.retrieved(run, None), []);
        leap(&mut story, -3 * hours);
        let effects = story.ends(run, Exit::Done);
        let result = committed(&effects);
        assert_eq!(result.state, TaskState::Done);
        let parts = result.breakdown;
        let sum = parts.queue_us
            + parts.retrieve_us
            + parts.boot_us
            + parts.transfer_us
            + parts.compute_us;
        assert_eq!(sum, 3_000_000, "{hours} h");
    }
}

#[test]
fn a_clock_that_was_set_back_between_two_lives_gives_a_task_its_whole_time_again() {
    let mut story = Story::new(1);
    let mut task = story.task(hasty("a"));
    task.accepted = story.now.time.after(Duration::from_secs(10 * HOUR));
    let effects = story.step(Event::Accepted(task));
    let at = reminder(&effects, &Timer::TooLate(name("a")));
    assert_eq!(at, Some(Tick(60_000_000_000)));
}

#[test]
fn a_retry_waits_for_its_pause_whatever_the_clock_says() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    story.now.time = Time(0);
    let effects = story.gone(run);
    let at = reminder(&effects, &Timer::Retry).unwrap();
    leap(&mut story, 10);
    assert_eq!(story.step(Event::Pong(Part::Broker)), []);
    story.now.tick = at;
    started(&story.step(Event::Timer(Timer::Retry)));
}

#[test]
fn a_broker_is_started_again_after_its_pause_whatever_the_clock_says() {
    for hours in [-10, 10] {
        let mut story = Story::up(1);
        let lost = Event::Lost {
            part: Part::Broker,
            reason: "killed".to_owned(),
        };
        let effects = story.step(lost);
        let at = reminder(&effects, &Timer::Restart(Part::Broker)).unwrap();
        leap(&mut story, hours);
        assert!(at > story.now.tick && at <= story.now.tick.after(Duration::from_secs(1)));
        story.now.tick = at;
        let effects = story.step(Event::Timer(Timer::Restart(Part::Broker)));
        assert_eq!(effects[0], Effect::Start(Part::Broker));
    }
}
