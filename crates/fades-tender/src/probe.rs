//! What this host offers, found out by doing it.
//!
//! A function of a few instructions is run on each isolation: it must start,
//! come through the gate, add floating-point numbers out of a batch, and fault
//! when it writes to the batch. Whether vectors work is tried by executing
//! them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fades_abi::gate::{Event, Mailbox, event, op};
use fades_task::limits::{Isolation, Limits};
use fades_task::message::Start;
use fades_task::quantity::{Duration, Size};
use fades_wire::Channel;
use rustix::fs::{MemfdFlags, OFlags};
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use crate::address::{LARGE_PAGE, Offset};
use crate::layout::{INPUT, Layout, Part};
use crate::load::{Loaded, load_image};
use crate::machine::{Machine, Turn};
use crate::microvm::Vectors;
use crate::process::Layers;
use crate::watch::Watch;

mod function;

/// What a host offers to functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// Version of the tender that was asked.
    pub version: String,
    /// MicroVMs, or why there are none and what would help.
    pub microvm: Result<MicrovmOffer, String>,
    /// Processes, or why there are none and what would help.
    pub process: Result<ProcessOffer, String>,
}

/// MicroVMs work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MicrovmOffer {
    /// The kind of KVM by its kernel module, such as `kvm_intel`.
    pub kvm: String,
    /// Highest level of vectors that was executed, one of
    /// `fades_abi::boot::simd`.
    pub simd: u32,
    /// The virtual processor has CR4.OSXSAVE set and XCR0 enables the vectors;
    /// where this is false and `simd` is not 0, vectors work all the same.
    pub osxsave: bool,
}

/// Processes work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessOffer {
    /// Highest level of vectors, one of `fades_abi::boot::simd`.
    pub simd: u32,
    /// The function gets user and process-id namespaces of its own.
    pub namespaces: bool,
    /// The function lives in a landlock domain without files.
    pub landlock: bool,
    /// Faults are reported with address and instruction.
    pub traced: bool,
}

impl Probe {
    /// Tries everything on this host; takes some milliseconds.
    #[must_use]
    pub fn of_this_host() -> Self {
        let works = |isolation| try_out(isolation).map_err(|e| e.to_string());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            microvm: works(Isolation::Microvm).and_then(|machine| match machine {
                Machine::Microvm(m) => Ok(MicrovmOffer {
                    kvm: kind_of_kvm(),
                    simd: m.simd(),
                    osxsave: matches!(m.vectors(), Vectors::Enabled(_)),
                }),
                Machine::Process(_) => Err(Surprise::Isolation.to_string()),
            }),
            process: works(Isolation::Process).and_then(|machine| match machine {
                Machine::Process(p) => {
                    let Layers {
                        namespaces,
                        landlock,
                        traced,
                    } = p.layers();
                    Ok(ProcessOffer {
                        simd: p.simd(),
                        namespaces,
                        landlock,
                        traced,
                    })
                }
                Machine::Microvm(_) => Err(Surprise::Isolation.to_string()),
            }),
        }
    }

    /// Highest level of vectors that works on an isolation; 0 where it does not
    /// work at all.
    #[must_use]
    pub fn simd(&self, isolation: Isolation) -> u32 {
        match isolation {
            Isolation::Microvm => self.microvm.as_ref().map_or(0, |m| m.simd),
            Isolation::Process => self.process.as_ref().map_or(0, |p| p.simd),
        }
    }

    /// Why an isolation does not work here; `None` where it does.
    #[must_use]
    pub fn reason_against(&self, isolation: Isolation) -> Option<&str> {
        match isolation {
            Isolation::Microvm => self.microvm.as_ref().err(),
            Isolation::Process => self.process.as_ref().err(),
        }
        .map(String::as_str)
    }
}

/// What should not have happened.
#[derive(Debug, thiserror::Error)]
enum Surprise {
    #[error("the self-test could not be prepared: {0}")]
    Prepare(#[from] std::io::Error),
    #[error(transparent)]
    Load(#[from] crate::load::LoadError),
    #[error(transparent)]
    Machine(#[from] crate::machine::MachineError),
    #[error(transparent)]
    Bounds(#[from] crate::memory::OutOfBounds),
    #[error("the self-test {step}: {turn:?} came instead")]
    Turn { step: &'static str, turn: Turn },
    #[error("the self-test did not end in time")]
    Time,
    #[error("the self-test read {0} instead of {SUM} from its input")]
    Sum(f64),
    #[error("the self-test ran on another isolation")]
    Isolation,
}

const FIRST: f64 = 1.5;
const LAST: f64 = 40.25;
const SUM: f64 = FIRST + LAST;

fn try_out(isolation: Isolation) -> Result<Machine, Surprise> {
    let start = Start {
        isolation,
        simd: fades_abi::boot::simd::AVX512,
        limits: Limits {
            memory: Size(1 << 20),
            time: Duration::from_secs(5),
            ..Limits::default()
        },
        zone: "UTC".to_owned(),
        offsets: vec![(i64::MIN, 0)],
        dtos: Vec::new(),
        symbols: None,
    };
    let image = function::image();
    let Loaded { layout, machine } = load_image(&image, function::text(), &start, Vec::new())?;
    let mut trial = Trial { layout, machine };
    let (_open, control) = Channel::pair()?;
    let watch = Watch::start(trial.machine.clocked(), &start.limits, control.into())?;
    trial.run(&watch)?;
    Ok(trial.machine)
}

struct Trial {
    layout: Layout,
    machine: Machine,
}

impl Trial {
    fn run(&mut self, watch: &Watch) -> Result<(), Surprise> {
        self.expect_call(watch, "must call its gate")?;
        self.machine.attach(batch()?, LARGE_PAGE)?;
        let event = Event {
            kind: event::BATCH,
            address: INPUT.0,
            length: LARGE_PAGE,
            ..Event::default()
        };
        let at = Offset(self.mailbox().0 + std::mem::offset_of!(Mailbox, event) as u64);
        self.machine.memory().put(at, &event)?;
        let sum = f64::from_bits(self.expect_call(watch, "must read its input")?.args[0]);
        if sum != SUM {
            return Err(Surprise::Sum(sum));
        }
        match self.turn(watch)? {
            Turn::Fault(raw) if raw.address == Some(INPUT) || raw.address.is_none() => Ok(()),
            turn => Err(Surprise::Turn {
                step: "must fault when it writes to its input",
                turn,
            }),
        }
    }

    fn mailbox(&self) -> Offset {
        self.layout.span(Part::Mailbox).offset
    }

    fn expect_call(&mut self, watch: &Watch, step: &'static str) -> Result<Mailbox, Surprise> {
        let turn = self.turn(watch)?;
        let mailbox: Mailbox = self.machine.memory().take(self.mailbox())?;
        if turn == Turn::Gate && mailbox.op == op::NEXT {
            Ok(mailbox)
        } else {
            Err(Surprise::Turn { step, turn })
        }
    }

    fn turn(&mut self, watch: &Watch) -> Result<Turn, Surprise> {
        loop {
            match self.machine.run()? {
                Turn::Interrupted if watch.expired().is_some() => return Err(Surprise::Time),
                Turn::Interrupted => {}
                turn => return Ok(turn),
            }
        }
    }
}

/// A read-only file of one large page with a known first and last word.
fn batch() -> Result<OwnedFd, std::io::Error> {
    let file = rustix::fs::memfd_create("fades-probe", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, LARGE_PAGE)?;
    rustix::io::pwrite(&file, FIRST.as_bytes(), 0)?;
    rustix::io::pwrite(&file, LAST.as_bytes(), LARGE_PAGE - 8)?;
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file.as_fd())
    );
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

/// The kind of KVM, from the kernel module that provides it.
fn kind_of_kvm() -> String {
    let kinds = ["kvm_pvm", "kvm_amd", "kvm_intel"];
    let loaded = |kind: &&str| Path::new("/sys/module").join(kind).exists();
    kinds.into_iter().find(loaded).unwrap_or("kvm").to_owned()
}
