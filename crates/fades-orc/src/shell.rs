//! The side of a tender's channel that asks.
//!
//! A tender is told once what it is. [`Template::make`] has one make a
//! template and end; [`Shell::make`] has one become a shell, which then takes
//! one run after the other. Every wait here is bounded. What a shell says about
//! a run is read from [`Shell::control`], by whoever started it.
//!
//! ```text
//!            make                   start            Ended           Clean
//!  (nothing) ────▶ clean, it waits ──────▶ it works ──────▶ it ends ──────▶ clean
//!                                                             └───▶ gone, in every other case
//! ```

mod template;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fades_task::limits::{Isolation, Limits};
use fades_task::message::{Refused, Start, TenderReport, TenderRequest};
use fades_task::shell::Class;
use fades_wire::spawn::{Child, NotStarted, Program};
use fades_wire::{Channel, Frame, WireError};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

pub use self::template::Template;
use crate::cgroup::Group;

/// A tender has this long to become a shell, or to make a template.
pub const MAKE_WITHIN: Duration = Duration::from_secs(10);

/// A tender that reads nothing for this long is given up.
const SEND_WITHIN: Duration = Duration::from_secs(2);

/// A process whose channel has ended has this long to end as well.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// What a tender takes besides its function's memory, bytes, with room.
const TENDER_NEEDS: u64 = 32 << 20;

/// The kernel's tables for a machine's memory are smaller than that at least
/// so many times.
const TABLES: u64 = 128;

/// Why there is no shell or no template.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The tender could not do what it was asked.
    #[error("the tender refused: {}", .0.reason())]
    Refused(Refused),
    /// It ended without a word.
    #[error("the tender ended before it was ready: {how}")]
    Died {
        /// How its process ended.
        how: String,
    },
    /// It was not done in time, and was killed.
    #[error("the tender was not ready within {} s", within.as_secs())]
    TooLate {
        /// The time that it had.
        within: Duration,
    },
    /// It said something else than what it was asked for.
    #[error("the tender answered something that it was not asked for")]
    Unexpected,
    /// Its template can still be changed, by whoever has a handle on it.
    #[error("the tender made a template that is not sealed")]
    Unsealed,
    /// It cannot be talked to.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The system has no descriptors, memory or processes left, or the program
    /// cannot be executed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl ShellError {
    /// Whether the same may well succeed once the system has descriptors,
    /// memory or processes to spare again.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        let error = match self {
            Self::System(error) | Self::Wire(WireError::Io(error)) => error,
            Self::Refused(_)
            | Self::Died { .. }
            | Self::TooLate { .. }
            | Self::Unexpected
            | Self::Unsealed
            | Self::Wire(_) => return false,
        };
        is_shortage(error)
    }
}

/// Whether a system call failed for want of something that others may return.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<NotStarted>());
    let error = inner.map_or(error, |inner| &inner.reason);
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::NOBUFS,
    ]
    .iter()
    .any(|short| error.raw_os_error() == Some(short.raw_os_error()))
}

/// A tender that was just started, before it has said anything.
struct Fresh {
    child: Child,
    control: Channel,
    deadline: Instant,
}

impl Fresh {
    fn spawn(program: &Path) -> Result<Self, ShellError> {
        let deadline = Instant::now() + MAKE_WITHIN;
        let (control, theirs) = Channel::pair()?;
        set_socket_timeout(control.as_fd(), Timeout::Send, Some(SEND_WITHIN))
            .map_err(io::Error::from)?;
        let child = Program::new(program).descriptor(theirs.as_fd()).spawn()?;
        Ok(Self {
            child,
            control,
            deadline,
        })
    }

    /// The tender's first report.
    fn hear(&mut self) -> Result<Frame<TenderReport>, ShellError> {
        match self.control.receive(Some(self.deadline)) {
            Ok(Some(frame)) => match frame.message {
                TenderReport::Refused(refused) => Err(ShellError::Refused(refused)),
                _ => Ok(frame),
            },
            Ok(None) => Err(ShellError::Died {
                how: how_it_ended(&mut self.child, String::new()),
            }),
            Err(WireError::Deadline) => Err(ShellError::TooLate {
                within: MAKE_WITHIN,
            }),
            Err(error) => {
                // A descriptor that there was no room for looks like a frame
                // that announced one too many.
                self.control.try_clone()?;
                Err(error.into())
            }
        }
    }
}

/// Waits a moment for a process whose channel has ended, then kills it; says
/// how it ended.
pub(crate) fn how_it_ended(child: &mut Child, said: String) -> String {
    let ended = match child.wait(Some(Instant::now() + GONE_WITHIN)) {
        Ok(Some(status)) => status.to_string(),
        Ok(None) => "it closed its channel and stayed, so it was killed".to_owned(),
        Err(e) => format!("how is not known: {e}"),
    };
    child.kill();
    match said.is_empty() {
        true => ended,
        false => format!("{said} ({ended})"),
    }
}

/// A tender that waits for a run, or works on one. Dropping it kills it and
/// waits for its end, which takes a machine longer than one would like.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    control: Arc<Channel>,
    isolation: Isolation,
    class: Class,
    simd: u32,
    made_us: u64,
    // Removed once the child is gone.
    group: Option<Group>,
}

impl Shell {
    /// Has the tender at `program` become a shell, and waits until it is one.
    ///
    /// # Errors
    /// [`ShellError`]; nothing of the tender is left then.
    pub fn make(
        program: &Path,
        isolation: Isolation,
        class: Class,
        simd: u32,
    ) -> Result<Self, ShellError> {
        Self::make_in(program, isolation, class, simd, None)
    }

    /// The same in a control group.
    pub(crate) fn make_in(
        program: &Path,
        isolation: Isolation,
        class: Class,
        simd: u32,
        group: Option<Group>,
    ) -> Result<Self, ShellError> {
        let mut fresh = Fresh::spawn(program)?;
        if let Some(group) = &group {
            group.enter(fresh.child.id())?;
        }
        let request = TenderRequest::Shell {
            isolation,
            class,
            simd,
        };
        fresh.control.send(&request, &[], &[])?;
        let TenderReport::Shell { simd, made_us } = fresh.hear()?.message else {
            return Err(ShellError::Unexpected);
        };
        Ok(Self {
            child: fresh.child,
            control: Arc::new(fresh.control),
            isolation,
            class,
            simd,
            made_us,
            group,
        })
    }

    /// Bounds what it may take for a run with these limits.
    pub(crate) fn bound(&mut self, limits: &Limits) -> io::Result<()> {
        let Some(group) = &mut self.group else {
            return Ok(());
        };
        let tables = (self.class.heap.0 + self.class.window.0) / TABLES;
        let answer = limits.output.0.saturating_mul(2);
        let all = [limits.memory.0, answer, tables, TENDER_NEEDS];
        group.bound(all.iter().fold(0, |sum, part| sum.saturating_add(*part)))
    }

    /// Sends it a run. It must be clean: just made, or after its report
    /// [`Clean`](TenderReport::Clean). `params` are deterministic CBOR; `data`
    /// is the tender's end of the run's data channel.
    ///
    /// # Errors
    /// When it is gone, or does not listen; it is of no use any more then.
    pub fn start(
        &self,
        start: &Start,
        params: &[u8],
        data: &Channel,
        template: &Template,
    ) -> Result<(), WireError> {
        let descriptors = [data.as_fd(), template.as_fd()];
        let request = TenderRequest::Start(Box::new(start.clone()));
        self.control.send(&request, params, &descriptors)
    }

    /// Its process.
    #[must_use]
    pub const fn child(&self) -> &Child {
        &self.child
    }

    /// What it says is read here; when this ends, the tender does.
    #[must_use]
    pub const fn control(&self) -> &Arc<Channel> {
        &self.control
    }

    /// The isolation that it was made for.
    #[must_use]
    pub const fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// What it has room for.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The SIMD level that works in it.
    #[must_use]
    pub const fn simd(&self) -> u32 {
        self.simd
    }

    /// From the start of its process until it was a shell, microseconds, as
    /// it says itself.
    #[must_use]
    pub const fn made_us(&self) -> u64 {
        self.made_us
    }

    /// Makes sure that it is gone, and says how it ended; `said` is what is
    /// known of it already.
    #[must_use]
    pub fn end(mut self, said: String) -> String {
        self.control.shut_down();
        how_it_ended(&mut self.child, said)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::{Errno, Program, ShellError, is_shortage};

    #[test]
    fn what_others_may_return_is_told_from_what_stays_away() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN] {
            assert!(
                ShellError::from(io::Error::from(errno)).is_shortage(),
                "{errno}"
            );
        }
        assert!(!is_shortage(&Errno::NOENT.into()));
        let missing = Program::new(Path::new("/nowhere/tender"))
            .spawn()
            .unwrap_err();
        assert!(!is_shortage(&missing));
        let unreadable = Program::new(Path::new("/dev/null")).spawn().unwrap_err();
        assert!(!is_shortage(&unreadable));
        assert!(!ShellError::Unexpected.is_shortage());
    }
}
