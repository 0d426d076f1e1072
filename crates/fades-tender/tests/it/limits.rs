//! Every limit arrives: memory, wall time, processor time, output, log.

use std::time::{Duration, Instant};

use fades_task::exit::{Clock, Exit};
use fades_task::limits::Isolation;
use fades_task::message::Feed;
use fades_task::quantity::{Duration as Span, Size};
use serde_json::json;

use crate::on_every_isolation;
use crate::tending::{Deed, PATIENCE, soon};

on_every_isolation! {
    an_allocation_that_does_not_fit_is_named,
    memory_is_bounded_and_its_use_reported,
    a_function_that_loops_is_ended_in_time,
    a_function_that_waits_for_data_is_ended_in_time,
    processor_time_is_bounded_apart_from_wall_time,
    a_limit_still_holds_after_the_answer,
    an_answer_that_is_too_long_is_an_overflow,
    a_flood_of_lines_is_cut_and_counted,
}

fn an_allocation_that_does_not_fit_is_named(on: Isolation) {
    let limit = Size(2 << 20);
    for (deed, n) in [("allocate", 0), ("allocate-huge", 64 << 20)] {
        let exit = Deed::new(on, deed)
            .with("n", n)
            .within(|l| l.memory = limit)
            .exit();
        let Exit::OutOfMemory {
            requested,
            limit: named,
            place,
        } = exit
        else {
            panic!("{deed}: {exit}");
        };
        assert_eq!(named, limit);
        assert!(requested >= n.max(64 << 10), "{requested}");
        let place = place.unwrap();
        assert!(place.starts_with("misbehave::"), "{place}");
    }
}

fn memory_is_bounded_and_its_use_reported(on: Isolation) {
    let limit = Size(8 << 20);
    let used = |n: u64| {
        let outcome = Deed::new(on, "touch")
            .with("n", n)
            .within(|l| l.memory = limit)
            .run();
        assert_eq!(outcome.ended().exit, Exit::Done);
        outcome.ended().high_water.0
    };
    let (little, much) = (used(4096), used(4 << 20));
    assert!(much >= little + (3 << 20), "{little} {much}");
    assert!(much <= limit.0 + (128 << 10), "{much}");
    let boot = Deed::new(on, "boot-info")
        .within(|l| l.memory = limit)
        .run()
        .answer();
    assert_eq!(boot["memory-limit"], limit.0);
}

fn assert_deadline(exit: &Exit, clock: Clock, limit: Span) {
    assert_eq!(*exit, Exit::Deadline { clock, limit });
}

fn a_function_that_loops_is_ended_in_time(on: Isolation) {
    let limit = Span(150_000_000);
    for deed in ["loop", "loop-with-input"] {
        let before = Instant::now();
        let exit = Deed::new(on, deed).within(|l| l.time = limit).exit();
        assert_deadline(&exit, Clock::Time, limit);
        let took = before.elapsed();
        assert!(took >= limit.as_std(), "{took:?}");
        assert!(took < PATIENCE / 3, "{took:?}");
    }
}

fn a_function_that_waits_for_data_is_ended_in_time(on: Isolation) {
    let limit = enough_to_start();
    let deed = Deed::new(on, "nothing").within(|l| l.time = limit);
    let tending = deed.begin();
    let outcome = tending.outcome();
    assert_deadline(&outcome.ended().exit, Clock::Time, limit);
    let Some((isolation, ..)) = outcome.ready else {
        panic!("it was never ready");
    };
    assert_eq!(isolation, on);
    let ended = outcome.ended();
    let all = ended.breakdown.retrieve_us + ended.breakdown.boot_us;
    // What lies between the two is counted as neither.
    let most = limit.as_std().as_micros() * 9 / 10;
    assert!(u128::from(all) >= most, "{ended:?}");
}

/// Wall time in which a function gets to its first event, on slow machines too.
fn enough_to_start() -> Span {
    let emulated = std::env::var_os("FADES_EMULATED").is_some();
    Span::from_secs(if emulated { 5 } else { 1 })
}

fn processor_time_is_bounded_apart_from_wall_time(on: Isolation) {
    let limit = Span(100_000_000);
    let deed = Deed::new(on, "loop-with-input").within(|l| l.cpu = limit);
    let tending = deed.begin();
    tending.wait_until_ready();
    // Wall time passes without any processor time being used.
    std::thread::sleep(limit.as_std() * 2);
    tending.feed_batch(&deed.batches[0]);
    let outcome = tending.outcome();
    assert_deadline(&outcome.ended().exit, Clock::Cpu, limit);
    let used = Duration::from_micros(outcome.ended().cpu_us);
    assert!(used >= limit.as_std(), "{used:?}");
    assert!(outcome.ended().breakdown.retrieve_us >= 150_000);
}

fn a_limit_still_holds_after_the_answer(on: Isolation) {
    let limit = Span(150_000_000);
    let outcome = Deed::new(on, "answer-then-loop")
        .within(|l| l.time = limit)
        .run();
    assert_deadline(&outcome.ended().exit, Clock::Time, limit);
    assert_eq!(
        outcome.ended().answer_bytes,
        0,
        "an answer without an end is none"
    );
    let exit = Deed::new(on, "answer-then-fault").exit();
    assert!(matches!(exit, Exit::Fault(_)), "{exit}");
}

fn an_answer_that_is_too_long_is_an_overflow(on: Isolation) {
    let limit = Size(4096);
    for (deed, least) in [
        ("output-full", 5000),
        ("answer-too-long", 4097),
        ("answer-length-wraps", u64::MAX),
        ("answer-readings-outside", 8192),
    ] {
        let deed = Deed::new(on, deed)
            .with("n", 5000)
            .within(|l| l.output = limit);
        let exit = deed.exit();
        let Exit::OutputOverflow {
            needed,
            limit: named,
        } = exit
        else {
            panic!("{exit}");
        };
        assert!(needed >= least && named == limit, "{needed}");
    }
    let fits = Deed::new(on, "output-full")
        .with("n", 3000)
        .within(|l| l.output = limit);
    assert_eq!(fits.run().answer()["large"].as_str().unwrap().len(), 3000);
}

fn a_flood_of_lines_is_cut_and_counted(on: Isolation) {
    let limit = Size(1000);
    let outcome = Deed::new(on, "log-flood")
        .with("n", 500)
        .within(|l| l.log = limit)
        .run();
    assert_eq!(
        outcome.answer()["rows"],
        json!(3),
        "a flood does not end a function"
    );
    let kept: usize = outcome.logs.iter().map(|(_, line)| line.len()).sum();
    assert!(kept <= 1000 && kept > 800, "{kept}");
    let cut = outcome.ended().log_cut;
    assert!(cut > 10_000, "{cut}");
}

#[test]
fn a_tender_without_an_orchestrator_ends_process() {
    without_an_orchestrator(Isolation::Process);
}

#[test]
fn a_tender_without_an_orchestrator_ends_microvm() {
    if crate::has_kvm("a_tender_without_an_orchestrator_ends") {
        without_an_orchestrator(Isolation::Microvm);
    }
}

fn without_an_orchestrator(on: Isolation) {
    for deed in ["nothing", "loop"] {
        let mut tending = Deed::new(on, deed).begin();
        if deed == "nothing" {
            assert_eq!(tending.wait_until_ready(), on);
        }
        drop(tending.shell.control);
        let status = tending.shell.child.wait(soon()).unwrap().expect("it ends");
        assert_eq!(status.code(), Some(fades_tender::EXIT_ORPHANED), "{deed}");
    }
}

#[test]
fn without_a_broker_the_run_is_killed_not_lost() {
    for on in crate::all_isolations("without_a_broker_the_run_is_killed_not_lost") {
        let tending = Deed::new(on, "nothing").begin();
        tending.data.shut_down();
        let outcome = tending.outcome_without_broker();
        let exit = &outcome.ended().exit;
        assert!(
            matches!(exit, Exit::Killed { reason } if reason.contains("broker")),
            "{exit}"
        );
        // After the last event the broker is not needed any more.
        let deed = Deed::new(on, "nothing");
        let tending = deed.begin();
        tending.feed_batch(&deed.batches[0]);
        tending.feed(&Feed::Finish);
        let outcome = tending.outcome();
        assert_eq!(outcome.answer()["rows"], 3);
    }
}
