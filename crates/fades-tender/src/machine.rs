//! What runs a function: a microVM or a process. Both take the same layout and
//! the same image, and stop at the same points.

use std::os::fd::OwnedFd;

use fades_task::limits::Isolation;

use crate::fault::Raw;
use crate::memory::GuestMemory;
use crate::microvm::{Microvm, MicrovmError};
use crate::process::{Process, ProcessError};
use crate::watch::Clocked;

/// Why a function stopped running for a moment, or for good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// It called the gate; the mailbox says what for.
    Gate,
    /// It did what it may not.
    Fault(Raw),
    /// The watch interrupted it.
    Interrupted,
    /// It was ended by something outside of it.
    Gone(String),
}

/// Why a function ends whose input was taken away below it.
pub(crate) const BATCH_IS_GONE: &str = "the batch that it was reading is no longer there";

/// Why a machine could not be built or go on. Never the function's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error(transparent)]
    Microvm(#[from] MicrovmError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A function loaded and ready to run.
#[derive(Debug)]
pub(crate) enum Machine {
    Microvm(Box<Microvm>),
    Process(Box<Process>),
}

impl Machine {
    /// The isolation that this machine gives.
    pub(crate) const fn isolation(&self) -> Isolation {
        match self {
            Self::Microvm(_) => Isolation::Microvm,
            Self::Process(_) => Isolation::Process,
        }
    }

    /// The function's memory.
    pub(crate) const fn memory(&self) -> &GuestMemory {
        match self {
            Self::Microvm(m) => m.memory(),
            Self::Process(p) => p.memory(),
        }
    }

    /// SIMD level that was tried and works, one of `fades_abi::boot::simd`.
    pub(crate) const fn simd(&self) -> u32 {
        match self {
            Self::Microvm(m) => m.simd(),
            Self::Process(p) => p.simd(),
        }
    }

    /// What the watch has to know to time and interrupt this machine.
    pub(crate) fn clocked(&mut self) -> Clocked {
        match self {
            Self::Microvm(m) => m.clocked(),
            Self::Process(p) => p.clocked(),
        }
    }

    /// Runs until the function stops.
    pub(crate) fn run(&mut self) -> Result<Turn, MachineError> {
        Ok(match self {
            Self::Microvm(m) => m.run()?,
            Self::Process(p) => p.run()?,
        })
    }

    /// Shows the function a batch of `length` bytes, for reading only.
    pub(crate) fn attach(&mut self, batch: OwnedFd, length: u64) -> Result<(), MachineError> {
        match self {
            Self::Microvm(m) => m.attach(batch, length)?,
            Self::Process(p) => p.attach(batch, length)?,
        }
        Ok(())
    }

    /// Takes the batch away again.
    pub(crate) fn detach(&mut self) -> Result<(), MachineError> {
        match self {
            Self::Microvm(m) => m.detach()?,
            Self::Process(p) => p.detach()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
