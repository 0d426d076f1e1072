//! Stub.
use crate::problem::{Outcome, Problem};
use crate::session::Session;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args, _: &Session) -> Result<Outcome, Problem> {
    Ok(Outcome::Done)
}
