//! What this host offers, found out by doing it.
//!
//! A function of a few instructions is run on each isolation: it must start,
//! come through the gate, add floating-point numbers out of a batch, and fault
//! when it writes to the batch. Whether vectors work is tried by executing
//! them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fades_abi::boot::simd;
use fades_abi::gate::{Event, Mailbox, event, op};
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{Start, TemplateRequest};
use fades_task::quantity::{Duration, Size};
use fades_task::shell::Class;
use fades_wire::Channel;
use rustix::fs::{MemfdFlags, OFlags};
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use crate::address::{LARGE_PAGE, Offset};
use crate::layout::{INPUT, Layout, Part};
use crate::machine::{Machine, Turn};
use crate::memory::{GuestMemory, OutOfBounds};
use crate::microvm::Vectors;
use crate::process::Layers;
use crate::template::{self, Template, TemplateError};
use crate::watch::Watch;

pub(crate) mod function;

/// What a host offers to functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Probe {
    /// Each isolation, strongest first.
    pub isolation: Vec<Offer>,
    /// Highest level of vectors that works on any of them, one of
    /// `fades_abi::boot::simd`. A tender lowers it to what works for its run.
    pub simd: u32,
}

/// An isolation on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Offer {
    /// Which.
    pub isolation: Isolation,
    /// A function ran on it.
    pub works: bool,
    /// What it is, or why it does not work and what helps.
    pub detail: String,
}

impl Probe {
    /// Tries everything on this host; takes some milliseconds.
    #[must_use]
    pub fn of_this_host() -> Self {
        let mut probe = Self {
            isolation: Vec::new(),
            simd: simd::SSE2,
        };
        for isolation in [Isolation::Microvm, Isolation::Process] {
            let tried = try_out(isolation);
            if let Ok(machine) = &tried {
                probe.simd = probe.simd.max(machine.simd());
            }
            probe.isolation.push(Offer {
                isolation,
                works: tried.is_ok(),
                detail: tried.map_or_else(|e| e.to_string(), |m| detail(&m)),
            });
        }
        probe
    }

    /// What was found out about an isolation.
    #[must_use]
    pub fn offer(&self, isolation: Isolation) -> Option<&Offer> {
        self.isolation.iter().find(|o| o.isolation == isolation)
    }
}

/// What an isolation that works is made of, in words.
fn detail(machine: &Machine) -> String {
    let vectors = match machine.simd() {
        simd::AVX512 => "AVX-512",
        simd::AVX2 => "AVX2",
        _ => "SSE2",
    };
    match machine {
        Machine::Microvm(m) => {
            let how = match m.vectors() {
                Vectors::Enabled(xcr0) => format!("OSXSAVE set, XCR0 {xcr0:#x}"),
                Vectors::Untold => "as tried; this KVM does not let a guest set OSXSAVE".to_owned(),
            };
            format!("{}, {vectors} ({how})", kind_of_kvm())
        }
        Machine::Process(p) => {
            let Layers { landlock, traced } = p.layers();
            let mut layers = vec!["seccomp"];
            layers.extend(landlock.then_some("landlock"));
            let faults = if traced {
                "faults with address and instruction"
            } else {
                "faults by signal only"
            };
            format!("{}; {vectors}; {faults}", layers.join(", "))
        }
    }
}

/// What should not have happened.
#[derive(Debug, thiserror::Error)]
enum Surprise {
    #[error("the self-test could not be prepared: {0}")]
    Prepare(#[from] std::io::Error),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Machine(#[from] crate::machine::MachineError),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error("the self-test {step}: {turn:?} came instead")]
    Turn { step: &'static str, turn: Turn },
    #[error("the self-test did not end in time")]
    Time,
    #[error("the self-test read {0} instead of {SUM} from its input")]
    Sum(f64),
}

const FIRST: f64 = 1.5;
const LAST: f64 = 40.25;
const SUM: f64 = FIRST + LAST;

fn try_out(isolation: Isolation) -> Result<Machine, Surprise> {
    let (template, start) = self_test(isolation)?;
    let mut machine = Machine::make(isolation, CLASS, simd::AVX512)?;
    let (_open, control) = Channel::pair()?;
    let mut watch = Watch::new(&machine.clocked(), control.as_fd())?;
    machine.load(&template, &start, Vec::new())?;
    let layout = template.sheet.layout;
    let mut trial = Trial { layout, machine };
    watch.begin(&start.limits);
    trial.run(&mut watch)?;
    Ok(trial.machine)
}

/// The smallest class.
pub(crate) const CLASS: Class = Class {
    bulk: false,
    heap: Class::HEAPS[0],
    window: Class::WINDOW_STEP,
};

/// A run of a function that nobody sends data.
pub(crate) fn run_without_data(limits: Limits) -> Start {
    Start {
        template: 1,
        simd: simd::AVX512,
        limits,
        resident: None,
        zone: "UTC".to_owned(),
        offsets: vec![(i64::MIN, 0)],
        dtos: Vec::new(),
    }
}

/// The self-test's function, and a run of it.
pub(crate) fn self_test(isolation: Isolation) -> Result<(Template, Start), TemplateError> {
    let start = run_without_data(Limits {
        memory: Size(1 << 20),
        time: Duration::from_secs(5),
        ..Limits::default()
    });
    let request = TemplateRequest::of(isolation, &start);
    let template = template::of_image(&function::image(), function::text(), &[], &request)?;
    Ok((template, start))
}

struct Trial {
    layout: Layout,
    machine: Machine,
}

impl Trial {
    fn run(&mut self, watch: &mut Watch) -> Result<(), Surprise> {
        self.expect_call(watch, "must call its gate")?;
        self.machine.attach(batch()?, LARGE_PAGE)?;
        announce(&self.layout, self.machine.memory(), LARGE_PAGE)?;
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

    fn expect_call(&mut self, watch: &mut Watch, step: &'static str) -> Result<Mailbox, Surprise> {
        let turn = self.turn(watch)?;
        let mailbox: Mailbox = self.machine.memory().take(self.mailbox())?;
        if turn == Turn::Gate && mailbox.op == op::NEXT {
            Ok(mailbox)
        } else {
            Err(Surprise::Turn { step, turn })
        }
    }

    fn turn(&mut self, watch: &mut Watch) -> Result<Turn, Surprise> {
        loop {
            match self.machine.run()? {
                Turn::Interrupted if watch.expired().is_some() => return Err(Surprise::Time),
                Turn::Interrupted => {}
                turn => return Ok(turn),
            }
        }
    }
}

/// Tells the function that `length` bytes of input are there.
pub(crate) fn announce(
    layout: &Layout,
    memory: &GuestMemory,
    length: u64,
) -> Result<(), OutOfBounds> {
    let event = Event {
        kind: event::BATCH,
        address: INPUT.0,
        length,
        ..Event::default()
    };
    let mailbox = layout.span(Part::Mailbox).offset;
    let at = Offset(mailbox.0 + std::mem::offset_of!(Mailbox, event) as u64);
    memory.put(at, &event)
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
