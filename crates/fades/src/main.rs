//! `fades`: the command of those who write functions, ask questions, operate
//! nodes and check signatures; and the node itself.
//!
//! `main` reads the environment and the arguments; everything else is in the
//! modules of the subcommands, which return an outcome or a problem in words.
//! Start reading at [`cli`].

mod ask;
mod author;
mod cli;
mod completions;
mod keys;
mod log;
mod operate;
mod problem;
mod schema;
mod session;
mod settings;

use std::process::ExitCode;

use clap::FromArgMatches;

use problem::Outcome;
use session::{Environment, Ink, Session};

fn main() -> ExitCode {
    let session = Session::new(Environment::read());
    let matches = match cli::help::command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => return usage(&e),
    };
    let ended = match cli::Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.run(&session),
        Err(e) => return usage(&e),
    };
    match ended {
        Ok(outcome) => outcome.into(),
        Err(problem) => {
            session.talk(&problem.text(|label| session.talk_ink(Ink::Bad, label)));
            problem.outcome.into()
        }
    }
}

/// Help that was asked for is no error; a wrong option is "could not run".
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody can be told that telling failed.
    let _ = error.print();
    if error.use_stderr() {
        Outcome::CouldNotRun.into()
    } else {
        Outcome::Done.into()
    }
}
