//! The rules of the gate, as a function meets them: events in, answers out,
//! and what happens to a function that does not keep to them.

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::message::{Feed, Refused, Release, Resident, TenderReport};
use fades_task::quantity::Size;
use serde_json::json;

use crate::images::image;
use crate::on_every_isolation;
use crate::tending::{Deed, Tending, batch, soon, start};

on_every_isolation! {
    hello_answers_and_every_part_of_the_time_is_told,
    batches_come_one_after_the_other_and_are_given_back,
    a_batch_may_be_as_long_as_the_window_and_no_longer,
    windows_are_answered_one_by_one,
    a_checkpoint_is_handed_over_and_back,
    one_that_keeps_no_checkpoints_does_not_stay,
    calls_that_break_a_rule_end_the_function,
    answers_that_are_none_end_the_function,
    texts_outside_of_the_functions_memory_end_it,
    last_words_arrive_with_their_place,
    lines_are_made_harmless,
    a_length_that_nobody_can_mean_is_cut,
    memory_is_zero_at_the_start,
    parameters_and_zone_arrive,
    a_batch_that_is_not_what_was_announced_is_refused,
    a_batch_that_vanishes_is_not_the_functions_fault,
}

fn hello_answers_and_every_part_of_the_time_is_told(on: Isolation) {
    let tending = Tending::begin(&image("hello"), &start(on), &json!({}));
    tending.feed_batch(&batch(0, &[1.0, 2.0, 3.0]));
    tending.feed(&Feed::End { dto: 0 });
    tending.feed(&Feed::Finish);
    let outcome = tending.outcome();
    assert_eq!(
        outcome.answer(),
        json!({ "greeting": "hello, world", "rows": 3 })
    );
    let ended = outcome.ended();
    assert_eq!((ended.batches, ended.input_bytes), (1, 2 << 20));
    let (isolation, simd, boot_us) = outcome.ready.unwrap();
    assert_eq!((isolation, ended.isolation), (on, on));
    assert!(simd <= fades_abi::boot::simd::AVX512);
    assert_eq!(ended.breakdown.boot_us, boot_us);
    assert!(boot_us > 0 && ended.breakdown.compute_us > 0);
    assert_eq!(ended.breakdown.queue_us, 0);
    let touched = ended.high_water.0;
    assert!((4096..1 << 20).contains(&touched), "{touched} bytes");
}

fn batches_come_one_after_the_other_and_are_given_back(on: Isolation) {
    let deed = Deed::new(on, "nothing");
    let tending = deed.begin();
    for rows in 1..=4_u32 {
        tending.feed_batch(&batch(0, &vec![0.5; rows as usize]));
    }
    tending.feed(&Feed::End { dto: 0 });
    tending.feed(&Feed::Finish);
    let outcome = tending.outcome();
    let answer = outcome.answer();
    assert_eq!(answer["rows"], 1 + 2 + 3 + 4);
    assert_eq!(
        answer["seen"],
        json!([
            "new",
            "batch 0 1",
            "batch 0 2",
            "batch 0 3",
            "batch 0 4",
            "end 0"
        ])
    );
    assert_eq!(outcome.releases.len(), 4);
    assert!(outcome.releases.iter().all(|(r, _)| *r == Release::Batch));
    // Nothing of a longer batch is left behind a shorter one.
    let long = batch(0, &vec![7.0; 200_000]);
    let short = batch(0, &[7.0]);
    let deed = Deed::new(on, "padding")
        .with("n", 2 << 20)
        .fed(vec![short, long]);
    let first = deed.run();
    assert_eq!(first.answer()["stray"], 0);
}

fn a_batch_may_be_as_long_as_the_window_and_no_longer(on: Isolation) {
    let rows = 1_200_000;
    let fed = |window| {
        let mut deed =
            Deed::new(on, "nothing").fed(vec![batch(0, &[1.0]), batch(0, &vec![1.0; rows])]);
        deed.start.window = window;
        deed.run()
    };
    let exit = fed(18 << 20).ended().exit.clone();
    assert!(
        exit.to_string().contains("larger than the input window"),
        "{exit}"
    );
    let outcome = fed(20 << 20);
    assert_eq!(outcome.answer()["rows"], rows as u64 + 1);
    assert!(outcome.ended().input_bytes > 18 << 20);
}

fn windows_are_answered_one_by_one(on: Isolation) {
    let deed = staying(on, None);
    let tending = deed.begin();
    tending.wait_until_ready();
    for id in [7, 8] {
        tending.feed_batch(&deed.batches[0]);
        end_window(&tending, id);
        let (said, answer, checkpoint, taken) = tending.window();
        assert_eq!(said, id);
        assert_eq!(answer, json!({ "window": id, "rows": 3 * (id - 6) }));
        assert_eq!(checkpoint, None);
        assert_eq!((taken.exit, taken.batches), (Exit::Done, 1));
        assert_eq!(tending.released().0, Release::Batch);
    }
    tending.feed(&Feed::Finish);
    assert_eq!(tending.outcome().answer()["rows"], 6);
    // One that does not stay has no windows.
    let tending = Deed::new(on, "nothing").begin();
    end_window(&tending, 1);
    let exit = tending.outcome().ended().exit.clone();
    assert!(exit.to_string().contains("does not stay"), "{exit}");
}

fn end_window(tending: &Tending, id: u64) {
    let (from, to) = (id as i64, id as i64 + 1);
    tending.feed(&Feed::WindowEnd { id, from, to });
}

/// One that stays; with checkpoints, and begun with the one that is given.
fn staying(on: Isolation, checkpoint: Option<Option<&[u8]>>) -> Deed {
    let mut deed = Deed::new(on, "nothing");
    deed.start.start.resident = Some(Resident {
        checkpoints: checkpoint.is_some(),
        restore: checkpoint.flatten().map(|c| c.len() as u64),
    });
    deed.tail = checkpoint.flatten().unwrap_or_default().to_vec();
    deed
}

fn a_checkpoint_is_handed_over_and_back(on: Isolation) {
    let deed = staying(on, Some(None));
    let tending = deed.begin();
    tending.wait_until_ready();
    tending.feed_batch(&deed.batches[0]);
    end_window(&tending, 1);
    let state = tending.window().2.unwrap();
    assert_eq!(state, 3_u64.to_le_bytes());
    drop(tending);
    let tending = staying(on, Some(Some(&state))).begin();
    tending.feed(&Feed::Finish);
    let answer = tending.outcome().answer();
    assert_eq!(
        (&answer["rows"], &answer["seen"][1]),
        (&json!(3), &json!("restore 3"))
    );
    let tending = staying(on, Some(Some(&[0; 70 << 10]))).begin();
    let exit = tending.outcome().ended().exit.clone();
    assert!(matches!(exit, Exit::Killed { .. }), "{exit}");
}

fn one_that_keeps_no_checkpoints_does_not_stay(on: Isolation) {
    let mut run = start(on);
    run.start.resident = Some(Resident {
        checkpoints: true,
        restore: None,
    });
    let tending = Tending::begin(&image("hello"), &run, &json!({}));
    match tending.outcome().end {
        Err(Refused::Image { reason }) => assert!(reason.contains("no checkpoints"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

fn misuse(deed: Deed) -> String {
    let what = deed.params.to_string();
    match deed.exit() {
        Exit::Misuse { message } => message,
        other => panic!("{what}: {other}"),
    }
}

fn calls_that_break_a_rule_end_the_function(on: Isolation) {
    for (deed, rule) in [
        ("gate-unknown", "call 77"),
        ("gate-zero", "call 0"),
        ("gate-scribble", "call 4294967295"),
        ("gate-done-early", "before everything had come"),
        ("gate-answer-unasked", "without having been asked"),
        ("gate-state-unasked", "without having been asked"),
        ("next-after-finish", "after the last one"),
        ("done-unanswered", "without an answer"),
        ("answer-twice", "a second time"),
        ("log-level", "level 99"),
    ] {
        let message = misuse(Deed::new(on, deed));
        assert!(message.contains(rule), "{deed}: {message}");
    }
}

fn answers_that_are_none_end_the_function(on: Isolation) {
    for (deed, rule) in [
        ("answer-malformed", "CBOR"),
        ("answer-unsorted", "ascending order"),
        ("answer-cut", "ends inside"),
        ("answer-bomb", "nested"),
        ("answer-claims", "ends inside"),
        ("answer-empty", "ends inside"),
        ("answer-readings-wrap", "beyond all addresses"),
        ("answer-readings-unaligned", "64 bytes"),
        ("answer-readings-malformed", "no batch"),
    ] {
        let message = misuse(Deed::new(on, deed));
        assert!(message.contains(rule), "{deed}: {message}");
    }
}

fn texts_outside_of_the_functions_memory_end_it(on: Isolation) {
    for deed in [
        "log-unmapped",
        "log-wrap",
        "log-across-the-end",
        "abort-bad-text",
        "panic-bad-text",
        "log-of-input",
        "log-across-input",
    ] {
        let message = misuse(Deed::new(on, deed).with("n", 2 << 20));
        assert!(
            message.contains("outside of its memory"),
            "{deed}: {message}"
        );
    }
    // The doorbell, the monitor, and its stack.
    for address in [0x7000_0000, 0x6000_0000, 0x6100_0000] {
        let deed = Deed::new(on, "log-of-the-doorbell").with("address", address);
        assert!(misuse(deed).contains("outside of its memory"));
    }
}

fn last_words_arrive_with_their_place(on: Isolation) {
    for (deed, words) in [
        ("panic", "as the test wanted, 5"),
        ("index", "out of bounds"),
    ] {
        let exit = Deed::new(on, deed).with("n", 5).exit();
        let Exit::Panicked { message } = exit else {
            panic!("{deed}: {exit}");
        };
        assert!(message.contains(words), "{message}");
        assert!(message.contains("src/deeds.rs:"), "{message}");
    }
    let exit = Deed::new(on, "abort").with("n", 6).exit();
    let Exit::Aborted { message } = exit else {
        panic!("{exit}");
    };
    assert!(message.contains("as the test wanted, 6"), "{message}");
}

fn lines_are_made_harmless(on: Isolation) {
    let quiet = Deed::new(on, "log").run();
    let [(level, line)] = quiet.logs.as_slice() else {
        panic!("{:?}", quiet.logs);
    };
    assert!(*level == 3 && line.ends_with("a quiet line"), "{line}");
    let loud = Deed::new(on, "log-control").run();
    let (level, line) = &loud.logs[0];
    assert_eq!(*level, 2);
    assert!(
        !line.chars().any(|c| c.is_control() || c == '\u{202e}'),
        "{line:?}"
    );
    let binary = Deed::new(on, "log-not-utf8").run();
    assert!(binary.logs[0].1.ends_with("a"));
}

fn a_length_that_nobody_can_mean_is_cut(on: Isolation) {
    let outcome = Deed::new(on, "log-huge").run();
    assert_eq!(outcome.ended().exit, Exit::Done);
    assert_eq!(outcome.logs[0].1.chars().count(), 4096);
    assert!(outcome.ended().log_cut > 1 << 60);
}

fn memory_is_zero_at_the_start(on: Isolation) {
    let deed = Deed::new(on, "dirty-memory").within(|l| l.memory = Size(2 << 20));
    assert_eq!(deed.run().answer()["dirty"], 0);
}

fn parameters_and_zone_arrive(on: Isolation) {
    let boot = Deed::new(on, "boot-info").run().answer();
    for region in ["heap", "stack", "output", "input", "params", "context"] {
        let part = |what| boot[format!("{region}-{what}")].as_u64().unwrap();
        assert!(part("address") > 0 && part("length") > 0, "{region}");
    }
    assert_eq!(boot["output-length"], 64 << 10);
    let unknown = Tending::begin(&image("hello"), &start(on), &json!({ "nonsense": 1 }));
    let exit = unknown.outcome().ended().exit.clone();
    assert!(
        matches!(&exit, Exit::Aborted { message } if message.contains("nonsense")),
        "{exit}"
    );
}

fn a_batch_that_is_not_what_was_announced_is_refused(on: Isolation) {
    use std::os::fd::AsFd;
    let deed = Deed::new(on, "nothing");
    let good = &deed.batches[0];
    let writable = tempfile::tempfile().unwrap();
    writable.set_len(2 << 20).unwrap();
    let odd = crate::tending::read_only(&[], 4096);
    let with = |length, descriptors: &[std::os::fd::BorrowedFd<'_>], dto| {
        let tending = deed.begin();
        tending.feed_with(&Feed::Batch { dto, length }, &[], descriptors);
        match tending.outcome().ended().exit.clone() {
            Exit::Killed { reason } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(with(2 << 20, &[], 0).contains("without its file"));
    assert!(with(4 << 20, &[good.as_fd()], 0).contains("another length"));
    assert!(with(2 << 20, &[writable.as_fd()], 0).contains("can be written"));
    assert!(with(4096, &[odd.as_fd()], 0).contains("2 MiB"));
    assert!(with(2 << 20, &[good.as_fd()], 1).contains("does not have"));
}

fn a_batch_that_vanishes_is_not_the_functions_fault(on: Isolation) {
    use std::fs::File;
    // A batch in a file that is cut off as soon as the function has it: the
    // header was read, its last pages are not there any more.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes_of(&batch(0, &[1.0]))).unwrap();
    let deed = Deed::new(on, "read-after-a-word").with("n", (2 << 20) - 8);
    let tending = deed.begin();
    tending.feed_batch(&File::open(file.path()).unwrap().into());
    assert_eq!(tending.wait_until_ready(), on);
    let frame = tending.shell.control.receive(soon()).unwrap();
    let report: TenderReport = frame.expect("the tender is gone").message;
    assert!(matches!(report, TenderReport::Log { .. }), "{report:?}");
    file.as_file().set_len(4096).unwrap();
    let exit = tending.outcome().ended().exit.clone();
    assert!(
        matches!(&exit, Exit::Killed { reason } if reason.contains("no longer there")),
        "{exit}"
    );
}

fn bytes_of(batch: &std::os::fd::OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 2 << 20];
    let read = rustix::io::pread(batch, &mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}
