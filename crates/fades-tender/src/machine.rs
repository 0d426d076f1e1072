//! What runs a function: a microVM or a process. Both take the same layout and
//! the same image, and stop at the same points. A machine is made empty; a
//! microVM can be made empty again.

use std::os::fd::OwnedFd;

use fades_abi::boot::transport;
use fades_task::limits::Isolation;
use fades_task::message::Start;
use fades_task::shell::Class;

use crate::boot::{BootError, Given};
use crate::confine::{self, ConfineError};
use crate::fault::Raw;
use crate::layout::Layout;
use crate::memory::{GuestMemory, OutOfBounds};
use crate::microvm::{Microvm, MicrovmError};
use crate::process::{Process, ProcessError};
use crate::template::Template;
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
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error("the template is for another isolation")]
    Isolation,
}

/// A machine, empty or with a function in it.
#[derive(Debug)]
pub(crate) enum Machine {
    Microvm(Box<Microvm>),
    Process(Box<Process>),
}

impl Machine {
    /// Makes an empty machine; `simd` is the highest level of vectors to use.
    pub(crate) fn make(
        isolation: Isolation,
        class: Class,
        simd: u32,
    ) -> Result<Self, MachineError> {
        Ok(match isolation {
            Isolation::Microvm => {
                let kvm = Microvm::open()?;
                Self::Microvm(Box::new(Microvm::make(&kvm, class, simd)?))
            }
            Isolation::Process => {
                let landlock = confine::landlock_domain()?;
                Self::Process(Box::new(Process::make(class, simd, landlock)?))
            }
        })
    }

    /// Puts a function into the empty machine, before its first instruction,
    /// and writes what it is told about its run.
    pub(crate) fn load(
        &mut self,
        template: &Template,
        start: &Start,
        params: Vec<u8>,
    ) -> Result<(), MachineError> {
        let sheet = &template.sheet;
        if sheet.isolation != self.isolation() {
            return Err(MachineError::Isolation);
        }
        let simd = self.simd().min(start.simd);
        match self {
            Self::Microvm(m) => {
                m.load(start.template, template)?;
                tell(
                    m.memory(),
                    &sheet.layout,
                    (start, params),
                    (simd, transport::MMIO),
                )
            }
            Self::Process(p) => {
                let to_say = (simd, transport::SYSCALL);
                tell(p.memory(), &sheet.layout, (start, params), to_say)?;
                p.load(template, simd)?;
                Ok(())
            }
        }
    }

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

    /// SIMD level that works, one of `fades_abi::boot::simd`.
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

/// Writes what a function is told about its run.
fn tell(
    memory: &GuestMemory,
    layout: &Layout,
    (start, params): (&Start, Vec<u8>),
    (simd, transport): (u32, u32),
) -> Result<(), MachineError> {
    let given = Given::compose(layout, start, params, simd, transport)?;
    given.write(layout, memory)?;
    Ok(())
}

#[cfg(test)]
mod tests;
