//! Images and limits that a tender refuses, with the reason.

use std::fs::File;
use std::io::Write;

use fades_task::limits::{Isolation, Limits};
use fades_task::message::Refused;
use fades_task::quantity::Size;

use crate::images::image;
use crate::on_every_isolation;
use crate::tending::{Run, Tending, start};

on_every_isolation! {
    an_image_that_is_none_is_refused,
    limits_that_cannot_work_are_refused,
    parameters_that_are_too_large_are_refused,
}

fn refused(bytes: &[u8], start: &Run, params: &[u8]) -> Refused {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let image = File::open(file.path()).unwrap();
    let outcome = Tending::begin_with(image, start, params).outcome();
    assert_eq!(outcome.ready, None);
    outcome.end.expect_err("it was not refused")
}

fn an_image_that_is_none_is_refused(on: Isolation) {
    let hello = std::fs::read(image("hello")).unwrap();
    let mut arm = hello.clone();
    arm[18] = 183;
    let cut = &hello[..hello.len() / 2];
    for (bytes, words) in [
        (&b""[..], "not an ELF file"),
        (&b"\x7fELF"[..], "file header"),
        (cut, "outside of the file"),
        (&arm[..], "AArch64"),
    ] {
        let Refused::Image { reason } = refused(bytes, &start(on), &[]) else {
            panic!("not for its image");
        };
        assert!(reason.contains(words), "{reason}");
    }
}

fn limits_that_cannot_work_are_refused(on: Isolation) {
    let hello = std::fs::read(image("hello")).unwrap();
    for (memory, words) in [(4096, "limits.memory"), (u64::MAX, "limits.memory")] {
        let limits = Limits {
            memory: Size(memory),
            ..Limits::default()
        };
        let mut start = start(on);
        start.start.limits = limits;
        let Refused::Limits { reason } = refused(&hello, &start, &[]) else {
            panic!("not for its limits");
        };
        assert!(reason.contains(words), "{reason}");
    }
}

fn parameters_that_are_too_large_are_refused(on: Isolation) {
    let hello = std::fs::read(image("hello")).unwrap();
    let params = vec![0; fades_abi::PARAMS_MAX + 1];
    let refused = refused(&hello, &start(on), &params);
    assert!(matches!(refused, Refused::Limits { .. }), "{refused:?}");
}
