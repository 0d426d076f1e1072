use fades_abi::batch::order;
use fades_abi::gate::{Event, event};

use crate::log::Level;
use crate::prelude::*;
use crate::testing::{Failure, Run, Series};

/// Notes what it is told.
struct Notes {
    seen: Vec<String>,
}

impl Function for Notes {
    fn new(params: &Params) -> Result<Self, Abort> {
        if params.or("fail", false)? {
            abort!("told to fail");
        }
        Ok(Self { seen: Vec::new() })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        let complete: Vec<_> = batch.series().map(|s| (s.id, s.complete)).collect();
        let (dto, sequence) = (batch.dto(), batch.sequence());
        self.seen
            .push(format!("batch {dto}.{sequence} {complete:?}"));
        log!(debug, "{} rows", batch.rows());
        Ok(())
    }

    fn end(&mut self, dto: u32) -> Result<(), Abort> {
        self.seen.push(format!("end {dto}"));
        Ok(())
    }

    fn window_end(&mut self, id: u64, from: i64, to: i64, o: &mut Output) -> Result<(), Abort> {
        if id != 9 {
            o.set("window", Value::from(vec![id as i64, from, to]));
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Abort> {
        Ok(self.seen.join("\n").into_bytes())
    }

    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort> {
        let text = String::from_utf8_lossy(checkpoint);
        self.seen = text.lines().map(ToOwned::to_owned).collect();
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        output.set("seen", core::mem::take(&mut self.seen));
        Ok(())
    }
}

/// Has only what a function must have.
struct Least;

impl Function for Least {
    fn new(_: &Params) -> Result<Self, Abort> {
        Ok(Self)
    }

    fn batch(&mut self, _: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Output) -> Result<(), Abort> {
        Ok(())
    }
}

fn rows(device: &str) -> Series {
    Series::new(device, "t", "Cel", "").row(1, 2.0)
}

fn abort_of<F: Function>(run: Run) -> String {
    match run.answer::<F>() {
        Err(Failure::Abort(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_arrive_in_order_and_the_answer_is_given_at_the_end() {
    let run = Run::new()
        .order(order::NONE)
        .dto("a")
        .batch(&[rows("x"), rows("y")]);
    let run = run.batch(&[rows("x")]).dto("b").batch(&[rows("x")]);
    let answer = run.answer::<Notes>().unwrap();
    let expected: Vec<Value> = [
        "batch 0.0 [(0, false), (1, true)]",
        "batch 0.1 [(0, true)]",
        "end 0",
        "batch 1.0 [(2, true)]",
        "end 1",
    ]
    .map(Value::from)
    .to_vec();
    assert_eq!(answer.values["seen"], Value::Array(expected));
    let (level, line) = &answer.log[0];
    assert_eq!(*level, Level::Debug);
    assert!(
        line.contains("tests.rs:") && line.ends_with(": 2 rows"),
        "{line}"
    );
}

#[test]
fn a_window_is_answered_when_there_is_something_to_say() {
    let run = Run::new()
        .window_end(1, 10, 20)
        .window_end(9, 20, 30)
        .window_end(2, 30, 40);
    let answer = run.answer::<Notes>().unwrap();
    let windows: Vec<_> = answer.windows.iter().map(|w| &w.values["window"]).collect();
    assert_eq!(
        windows,
        [&Value::from(vec![1, 10, 20]), &Value::from(vec![2, 30, 40])]
    );
}

#[test]
fn a_checkpoint_is_kept_and_continued_from() {
    let first = Run::new()
        .batch(&[rows("x")])
        .save()
        .answer::<Notes>()
        .unwrap();
    let [checkpoint] = &first.checkpoints[..] else {
        panic!("{first:?}");
    };
    let second = Run::new().restore(checkpoint).batch(&[rows("x")]);
    let second = second.answer::<Notes>().unwrap();
    assert_eq!(second.values["seen"][0], "batch 0.0 [(0, true)]");
    assert_eq!(second.values["seen"][1], "batch 0.0 [(0, true)]");
}

#[test]
fn a_checkpoint_that_does_not_fit_says_how_much_it_needs() {
    let run = Run::new().output(8).batch(&[rows("x")]).save();
    assert_eq!(run.answer::<Notes>(), Err(Failure::OutputFull(21)));
}

#[test]
fn a_function_without_checkpoints_says_so() {
    for run in [Run::new().save(), Run::new().restore(b"x")] {
        assert!(abort_of::<Least>(run).ends_with("this function keeps no checkpoints"));
    }
}

#[test]
fn an_event_of_a_later_contract_ends_the_function_with_the_version() {
    let event = Event {
        kind: 77,
        ..Event::default()
    };
    assert_eq!(
        abort_of::<Least>(Run::new().event(event)),
        "event kind 77 is unknown to version 1.0 of the contract, with which this function was built"
    );
}

#[test]
fn a_batch_that_breaks_the_layout_is_refused() {
    let event = Event {
        kind: event::BATCH,
        dto: 3,
        ..Event::default()
    };
    assert_eq!(
        abort_of::<Least>(Run::new().event(event)),
        "a batch of DTO 3 is refused: the batch is shorter than its header says"
    );
}

#[test]
fn giving_up_names_the_place() {
    let text = abort_of::<Notes>(Run::new().param("fail", true));
    assert!(
        text.contains("tests.rs:") && text.ends_with(": told to fail"),
        "{text}"
    );
    let text = abort_of::<Notes>(Run::new().param("fail", 1));
    assert!(text.contains("`fail` must be true or false"), "{text}");
    let text = abort_of::<Least>(Run::new().param("x", 1));
    assert!(text.contains("`x` is unknown"), "{text}");
}

#[test]
fn an_answer_that_does_not_fit_says_how_much_it_needs() {
    let run = Run::new().batch(&[rows("x")]);
    let Err(Failure::OutputFull(needed)) = run.clone().output(10).answer::<Notes>() else {
        panic!();
    };
    assert!(run.output(needed).answer::<Notes>().is_ok());
}
