//! Canaries: what lies next to a region is intact after the function ran past
//! it.

use std::os::fd::{AsFd, OwnedFd};

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::quantity::Size;

use crate::on_every_isolation;
use crate::tending::{Deed, batch};

on_every_isolation! {
    a_batch_is_unchanged_after_a_function_tried_to_write_it,
    a_hostile_neighbour_changes_nothing_for_others,
}

fn bytes_of(batch: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 2 << 20];
    let read = rustix::io::pread(batch.as_fd(), &mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

fn a_batch_is_unchanged_after_a_function_tried_to_write_it(on: Isolation) {
    let file = batch(0, &[1.0, 2.0, 3.0]);
    let before = bytes_of(&file);
    for deed in ["write-input", "write-input-header", "jump-input"] {
        let exit = Deed::new(on, deed)
            .fed(vec![file.try_clone().unwrap()])
            .exit();
        assert!(matches!(exit, Exit::Fault(_)), "{exit}");
    }
    assert!(bytes_of(&file) == before);
}

fn a_hostile_neighbour_changes_nothing_for_others(on: Isolation) {
    let quiet = Deed::new(on, "nothing");
    let waiting = quiet.begin();
    for deed in ["allocate", "stack-recursion", "write-text"] {
        let exit = Deed::new(on, deed)
            .within(|l| l.memory = Size(1 << 20))
            .exit();
        assert!(!matches!(exit, Exit::Done), "{exit}");
    }
    waiting.feed_batch(&quiet.batches[0]);
    waiting.feed(&fades_task::message::Feed::Finish);
    assert_eq!(waiting.outcome().answer()["rows"], 3);
}
