//! The tender: see the library.
#![expect(unsafe_code, reason = "takes over the descriptors that it inherits")]

use std::io::{Write, stderr, stdout};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use fades_task::message::{TENDER_CONTROL_FD, TENDER_DATA_FD, TENDER_IMAGE_FD};
use fades_tender::probe::Probe;
use fades_tender::{Inheritance, tend};

fn main() -> ExitCode {
    let born = Instant::now();
    if std::env::args_os().skip(1).any(|a| a == "--probe") {
        return show(&Probe::of_this_host());
    }
    let Some([control, data, image]) = inherited() else {
        say("fades-tender is started by the node, with descriptors 3, 4 and 5");
        return ExitCode::from(2);
    };
    match tend(Inheritance {
        control,
        data,
        image,
        born,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("fades-tender: {error}"));
            ExitCode::from(2)
        }
    }
}

/// The descriptors that the node passes, when all of them are there.
fn inherited() -> Option<[OwnedFd; 3]> {
    let numbers = [TENDER_CONTROL_FD, TENDER_DATA_FD, TENDER_IMAGE_FD];
    for number in numbers {
        // SAFETY: asking about a descriptor changes nothing.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 {
            return None;
        }
    }
    Some(numbers.map(|number| {
        // SAFETY: the descriptor is open, and nobody else in this program has
        // it: this is the first thing that `main` does.
        unsafe { OwnedFd::from_raw_fd(number) }
    }))
}

/// One line of JSON on standard output.
fn show(probe: &Probe) -> ExitCode {
    let written = serde_json::to_string(probe).map(|json| writeln!(stdout(), "{json}"));
    match written {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn say(text: &str) {
    // Where standard error is closed, nobody listens.
    let _ = writeln!(stderr(), "{text}");
}
