//! Figures of FADES, each beside what it is compared with.
//!
//! Two processes: the one that is started watches over the one that measures
//! ([`supervise`]), and takes away whatever that one leaves, however it ends.
//! Start reading at [`work`]; [`figures`] has a module for each name, which says
//! exactly what is timed and against what. The baseline programs are kept here
//! too: `spawned/` (a program without libc) and `src/bin/plain-aberdeen.rs`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod arguments;
mod bench;
mod broker;
mod cgroup;
mod fault;
mod figure;
mod figures;
mod host;
mod input;
mod limits;
mod memory;
mod natively;
mod node;
mod processes;
mod record;
mod samples;
mod shells;
mod spawned;
mod sqlite;
mod supervise;
mod table;
mod tsc;
mod turns;
mod work;

use std::process::ExitCode;

use arguments::{Arguments, HELP};
use bench::Bench;

/// First word of the command line of the process that measures.
const WORKER: &str = "--worker";

/// The same of the process that has functions at rest.
const RESTING: &str = "--resting";

/// The same of a process that has many functions at rest.
const HOLDING: &str = "--holding";

/// What could not be used, found or done; a figure that misses its aim is no
/// failure.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|w| w == "--help" || w == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let role: Vec<String> = match words.first().map(String::as_str) {
        Some(WORKER | RESTING | HOLDING) if words.len() > 1 => words.drain(..2).collect(),
        _ => Vec::new(),
    };
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::from(FAILED);
        }
    };
    let data = std::env::var_os("FADES_TEST_DATA").map(Into::into);
    let done = match &role[..] {
        [role, folder] => {
            // Not before it is in its control group.
            if role == RESTING {
                figures::wait();
            }
            Bench::new(arguments, folder.into(), data).and_then(|bench| match role.as_str() {
                RESTING => figures::rest(&bench),
                HOLDING => figures::hold(&bench),
                _ => work::run(&bench),
            })
        }
        _ => supervise::run(&arguments),
    };
    done.unwrap_or_else(|fault| {
        eprintln!("error: {fault}");
        ExitCode::from(FAILED)
    })
}
