//! The figures, a module each. Their order here is the one in which they are
//! taken.

use std::time::Duration;

use fades_task::limits::Isolation;

use crate::bench::{Bench, wait_until};
use crate::fault::Fault;
use crate::figure::Figure;
use crate::memory::Memory;

mod aberdeen;
mod api;
mod compute;
mod density;
mod disk;
mod hello;
mod idle;
mod influx;
mod modbus;
mod mqtt;
mod parts;
mod rss;
mod scheduler;
mod small_host;
mod start;
mod steady;
mod store;
mod tasks;
mod transfer;
mod transfer_socket;
mod verify;
mod wake;

/// Declares the names, each with its word and what takes it.
macro_rules! names {
    ($($name:ident $word:literal $take:path,)*) => {
        /// What can be asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Name {
            $($name,)*
        }

        impl Name {
            /// All of them, in the order in which they are taken.
            pub(crate) const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// As it is written.
            pub(crate) const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Takes its figures. What was taken before a failure stays in `taken`.
            pub(crate) fn take(self, bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
                match self {
                    $(Self::$name => $take(bench, taken),)*
                }
            }
        }
    };
}

names! {
    Start "start" start::run,
    StartCold "start-cold" start::cold,
    Transfer "transfer" transfer::run,
    TransferSocket "transfer-socket" transfer_socket::run,
    Compute "compute" compute::run,
    Wake "wake" wake::run,
    Tasks "tasks" tasks::run,
    Density "density" density::run,
    SmallHost "small-host" small_host::run,
    Aberdeen "aberdeen" aberdeen::run,
    StoreIngest "store-ingest" store::ingest,
    StoreScan "store-scan" store::scan,
    Rss "rss" rss::run,
    Idle "idle" idle::run,
    Api "api" api::run,
    Disk "disk" disk::run,
    Hello "hello" hello::run,
    Scheduler "scheduler" scheduler::run,
    Verify "verify" verify::run,
    Influx "influx" influx::run,
    Mqtt "mqtt" mqtt::run,
    Steady "steady" steady::run,
    Modbus "modbus" modbus::run,
    Parts "parts" parts::run,
}

impl Name {
    /// The name that is written so.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }
}

/// Memory when the host has come to rest after many processes began or ended:
/// the kernel frees some of it later.
fn settled() -> Result<Memory, Fault> {
    let mut last = None;
    let read = || Memory::now().map_err(Fault::system("read /proc/meminfo"));
    wait_until(SETTLES_WITHIN, || {
        std::thread::sleep(SETTLE);
        let now = read().ok();
        let before: Option<Memory> = std::mem::replace(&mut last, now);
        match (before, now) {
            (Some(a), Some(b)) => a.available.abs_diff(b.available) < QUIET,
            _ => false,
        }
    });
    last.map_or_else(read, Ok)
}

/// Memory is looked at so often, and has settled when it changed by less.
const SETTLE: Duration = Duration::from_millis(150);
const QUIET: u64 = 1 << 20;
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

pub(crate) use density::hold;
pub(crate) use small_host::{rest, wait};

/// What a name gave.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) figures: Vec<Figure>,
    /// What was not measured, and why.
    pub(crate) skipped: Vec<String>,
    /// What a reader of the figures should know.
    pub(crate) notes: Vec<String>,
}

impl Taken {
    /// Adds a figure, if there is one.
    pub(crate) fn add(&mut self, figure: impl IntoIterator<Item = Figure>) {
        self.figures.extend(figure);
    }

    /// The isolations that this host has; the others are named as not measured.
    pub(crate) fn isolations(&mut self, bench: &Bench, what: &str) -> Vec<Isolation> {
        bench.isolations(|isolation, why| self.skip(&format!("{what}, {isolation}"), why))
    }

    /// The strongest isolation that this host has; without any, `what` is named as
    /// not measured.
    pub(crate) fn one_isolation(&mut self, bench: &Bench, what: &str) -> Option<Isolation> {
        let first = bench.isolations(|_, _| ()).first().copied();
        if first.is_none() {
            self.skip(what, "this host has no isolation: see `fades doctor`");
        }
        first
    }

    /// Says that `what` was not measured.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(format!("{what}: {why}"));
    }

    /// Says something about the figures.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}
