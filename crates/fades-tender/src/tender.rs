//! The life of a tender: hears what to run, loads it, confines itself, runs it,
//! reports, ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use fades_task::message::{Refused, Start, TenderReport};
use fades_wire::{Channel, WireError};

use crate::confine;
use crate::load::{LoadError, Loaded, load};
use crate::machine::Machine;
use crate::session::Session;
use crate::watch::Watch;

/// What a tender is born with.
#[derive(Debug)]
pub struct Inheritance {
    /// The channel to the orchestrator.
    pub control: OwnedFd,
    /// The channel to the broker.
    pub data: OwnedFd,
    /// The image, opened for reading.
    pub image: OwnedFd,
    /// When the tender was started.
    pub born: Instant,
}

/// Why a tender could not do its work at all; there is nobody to tell but its
/// standard error.
#[derive(Debug, thiserror::Error)]
pub enum TenderError {
    /// The control channel failed.
    #[error("the channel to the orchestrator: {0}")]
    Control(#[from] WireError),
    /// The orchestrator went away before it said what to run.
    #[error("nobody said what to run")]
    Unwanted,
}

/// Runs one function. Its end, however it comes, has been reported when this
/// returns.
///
/// # Errors
/// When there is nobody to report to.
pub fn tend(inheritance: Inheritance) -> Result<(), TenderError> {
    let control = Channel::from(inheritance.control);
    let data = Channel::from(inheritance.data);
    let frame = control
        .receive::<Start>(None)?
        .ok_or(TenderError::Unwanted)?;
    let start = frame.message;
    let mut image = File::from(inheritance.image);
    let loaded = load(&mut image, &start, frame.blob);
    drop(image);
    let guarded = loaded.and_then(|mut loaded| {
        let watch = guard(&mut loaded.machine, &start, &control)?;
        Ok((loaded, watch))
    });
    match guarded {
        Ok((Loaded { layout, machine }, watch)) => {
            let channels = (&control, &data);
            let born = inheritance.born;
            Session::new(&start, &layout, channels, machine, watch, born).run()?;
        }
        Err(error) => {
            let refused = Refused::from(error);
            control.send(&TenderReport::Refused(refused), &[], &[])?;
        }
    }
    Ok(())
}

/// Starts the watch and gives up every right that the run does not need.
fn guard(machine: &mut Machine, start: &Start, control: &Channel) -> Result<Watch, LoadError> {
    let control = control
        .as_fd()
        .try_clone_to_owned()
        .map_err(LoadError::Guard)?;
    confine::enter()?;
    let watch =
        Watch::start(machine.clocked(), &start.limits, control).map_err(LoadError::Guard)?;
    confine::filter(start.isolation)?;
    Ok(watch)
}
