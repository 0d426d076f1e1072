//! The life of a tender: hears what it is, becomes it, and serves.
//!
//! ```text
//! Template ──▶ confine, parse the image, lay it out ──▶ Template ──▶ the end
//! Shell ──▶ make the machine, confine ──▶ Shell ──▶ Start ──▶ run ──▶ Ended ──▶ reset ──▶ Clean
//!                                                     ▲                │                   │
//!                                                     └────────────────┼───────────────────┘
//!                                                                      └──▶ the end, unless it ended well
//! ```

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use fades_task::limits::Isolation;
use fades_task::message::{Refused, Start, TemplateRequest, TenderReport, TenderRequest};
use fades_task::shell::Class;
use fades_wire::{Channel, Frame, WireError};

use crate::boot::BootError;
use crate::confine::{self, ConfineError, Role};
use crate::machine::{Machine, MachineError};
use crate::session::Session;
use crate::template::{self, Template, TemplateError};
use crate::watch::Watch;

/// What a tender is born with.
#[derive(Debug)]
pub struct Inheritance {
    /// The channel to the orchestrator.
    pub control: OwnedFd,
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
    /// The orchestrator asked for something else than what comes now.
    #[error("the orchestrator asked for {0}")]
    Unexpected(&'static str),
    /// The orchestrator went away before it said what to do.
    #[error("nobody said what to do")]
    Unwanted,
}

/// Why a tender refuses what it was asked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("the watch over the function could not be started: {0}")]
    Watch(#[source] std::io::Error),
    #[error(
        "the function keeps no checkpoints, which one that stays must: implement `save` and `restore` and say `checkpoints` in function!()"
    )]
    NoCheckpoints,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let reason = refusal.to_string();
        match refusal {
            Refusal::Template(TemplateError::Read(_) | TemplateError::Image(_))
            | Refusal::NoCheckpoints => Self::Image { reason },
            Refusal::Template(TemplateError::Layout(_))
            | Refusal::Machine(MachineError::Boot(
                BootError::Params(_) | BootError::Context(..) | BootError::Offsets,
            )) => Self::Limits { reason },
            Refusal::Template(_)
            | Refusal::Machine(_)
            | Refusal::Confine(_)
            | Refusal::Watch(_) => Self::Isolation { reason },
        }
    }
}

/// Serves the orchestrator until it, or the tender's usefulness, ends. How each
/// function ended has been reported when this returns.
///
/// # Errors
/// When there is nobody to report to.
pub fn tend(inheritance: Inheritance) -> Result<(), TenderError> {
    let control = Channel::from(inheritance.control);
    let first = control
        .receive::<TenderRequest>(None)?
        .ok_or(TenderError::Unwanted)?;
    let served = match first.message {
        TenderRequest::Template(request) => {
            make_template(&control, &request, &first.blob, first.descriptors)?
        }
        TenderRequest::Shell {
            isolation,
            class,
            simd,
        } => match Shell::make(&control, isolation, class, simd) {
            Ok(shell) => {
                let made_us = inheritance.born.elapsed().as_micros() as u64;
                let simd = shell.machine.simd();
                control.send(&TenderReport::Shell { simd, made_us }, &[], &[])?;
                shell.serve()?
            }
            Err(refusal) => Err(refusal),
        },
        TenderRequest::Start(_) => {
            return Err(TenderError::Unexpected("a run before there was a shell"));
        }
    };
    if let Err(refusal) = served {
        control.send(&TenderReport::Refused(refusal.into()), &[], &[])?;
    }
    Ok(())
}

fn make_template(
    control: &Channel,
    request: &TemplateRequest,
    symbols: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<Result<(), Refusal>, TenderError> {
    let Ok([image]) = <[OwnedFd; 1]>::try_from(descriptors) else {
        return Err(TenderError::Unexpected("a template without an image"));
    };
    let made = confined(Role::Maker)
        .and_then(|()| Ok(template::make(&mut File::from(image), symbols, request)?));
    match made {
        Ok(template) => {
            let needs = template.sheet.layout.needs();
            let report = TenderReport::Template { needs };
            control.send(&report, &[], &[template.as_fd()])?;
            Ok(Ok(()))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn confined(role: Role) -> Result<(), Refusal> {
    confine::enter(role)?;
    confine::filter(role)?;
    Ok(())
}

/// A machine and what goes with it, without any right left.
struct Shell<'a> {
    control: &'a Channel,
    watch: Watch,
    machine: Machine,
    /// The last templates, by their numbers, the newest last.
    known: Vec<(u64, Template)>,
}

/// Templates that a shell remembers: reading one again takes longer than
/// mapping it.
const KNOWN_MAX: usize = 4;

impl<'a> Shell<'a> {
    fn make(
        control: &'a Channel,
        isolation: Isolation,
        class: Class,
        simd: u32,
    ) -> Result<Self, Refusal> {
        let mut machine = Machine::make(isolation, class, simd)?;
        let watch = Watch::new(&machine.clocked(), control.as_fd()).map_err(Refusal::Watch)?;
        confined(Role::Shell(isolation))?;
        Ok(Self {
            control,
            watch,
            machine,
            known: Vec::new(),
        })
    }

    /// Looks at a template, unless it has been looked at before.
    fn learn(&mut self, number: u64, file: OwnedFd) -> Result<(), TemplateError> {
        let at = self.known.iter().position(|(known, _)| *known == number);
        let entry = match at {
            Some(at) => self.known.remove(at),
            None => (number, Template::open(file)?),
        };
        self.known.push(entry);
        if self.known.len() > KNOWN_MAX {
            self.known.remove(0);
        }
        Ok(())
    }

    /// Runs one function after the other, for as long as they end well.
    fn serve(mut self) -> Result<Result<(), Refusal>, TenderError> {
        while let Some(frame) = self.control.receive::<TenderRequest>(None)? {
            let arrived = Instant::now();
            let Request {
                start,
                template,
                params,
                restore,
                data,
            } = run_of(frame)?;
            if let Err(e) = self.learn(start.template, template) {
                return Ok(Err(e.into()));
            }
            let Some((_, template)) = self.known.last() else {
                return Err(TenderError::Unexpected("a run without a template"));
            };
            if start.resident.is_some_and(|r| r.checkpoints) && !template.sheet.checkpoints {
                return Ok(Err(Refusal::NoCheckpoints));
            }
            if let Err(e) = self.machine.load(template, &start, params) {
                return Ok(Err(e.into()));
            }
            let channels = (self.control, data);
            let (machine, watch) = (&mut self.machine, &mut self.watch);
            let session =
                Session::new(&start, template, channels, machine, watch, arrived, restore);
            let well = session.run()?;
            let before = Instant::now();
            match (&mut self.machine, well) {
                (Machine::Microvm(microvm), true) => {
                    if let Err(e) = microvm.reset() {
                        return Ok(Err(MachineError::from(e).into()));
                    }
                }
                // What ended badly is not used again, and a process has gone with
                // its function.
                (Machine::Microvm(_), false) | (Machine::Process(_), _) => return Ok(Ok(())),
            }
            let reset_us = before.elapsed().as_micros() as u64;
            self.control
                .send(&TenderReport::Clean { reset_us }, &[], &[])?;
        }
        Ok(Ok(()))
    }
}

/// The parts of a request to run a function.
struct Request {
    start: Box<Start>,
    template: OwnedFd,
    params: Vec<u8>,
    /// With what a function that stays goes on.
    restore: Option<Vec<u8>>,
    data: Channel,
}

fn run_of(frame: Frame<TenderRequest>) -> Result<Request, TenderError> {
    let TenderRequest::Start(start) = frame.message else {
        return Err(TenderError::Unexpected("something else than a run"));
    };
    let mut params = frame.blob;
    let restore = match start.resident.and_then(|r| r.restore) {
        None => None,
        Some(length) => {
            let at = params.len().checked_sub(length as usize);
            let at = at.ok_or(TenderError::Unexpected("a run without its checkpoint"))?;
            Some(params.split_off(at))
        }
    };
    let Ok([data, template]) = <[OwnedFd; 2]>::try_from(frame.descriptors) else {
        return Err(TenderError::Unexpected("a run without its descriptors"));
    };
    Ok(Request {
        start,
        template,
        params,
        restore,
        data: Channel::from(data),
    })
}
