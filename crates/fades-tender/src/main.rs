//! The tender: see the library.
#![expect(unsafe_code, reason = "takes over the descriptor that it inherits")]

use std::io::{Write, stderr, stdout};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use fades_task::message::TENDER_CONTROL_FD;
use fades_tender::probe::Probe;
use fades_tender::{EXIT_ORPHANED, Inheritance, TenderError, tend};
use fades_wire::WireError;

fn main() -> ExitCode {
    let born = Instant::now();
    if std::env::args_os().skip(1).any(|a| a == "--probe") {
        return show(&Probe::of_this_host());
    }
    let Some(control) = inherited() else {
        say("fades-tender is started by the node, with descriptor 3");
        return ExitCode::from(2);
    };
    match tend(Inheritance { control, born }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(TenderError::Control(WireError::Io(_))) => ExitCode::from(EXIT_ORPHANED as u8),
        Err(error) => {
            say(&format!("fades-tender: {error}"));
            ExitCode::from(2)
        }
    }
}

/// The descriptor that the node passes, when it is there.
fn inherited() -> Option<OwnedFd> {
    // SAFETY: asking about a descriptor changes nothing.
    let flags = unsafe { libc::fcntl(TENDER_CONTROL_FD, libc::F_GETFD) };
    if flags < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and nobody else in this program has it:
    // this is the first thing that `main` does.
    Some(unsafe { OwnedFd::from_raw_fd(TENDER_CONTROL_FD) })
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
