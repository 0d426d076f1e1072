//! When to end: whoever waits for something waits for this too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Tells all who have the other half to end, when it is dropped.
#[derive(Debug)]
pub(crate) struct Ender {
    flag: Arc<AtomicBool>,
    _open: OwnedFd,
}

/// Whether to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    flag: Arc<AtomicBool>,
    /// Hangs up when it is time.
    ended: Arc<OwnedFd>,
}

impl Stop {
    /// Both halves.
    pub(crate) fn new() -> io::Result<(Ender, Self)> {
        let (ended, open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let flag = Arc::<AtomicBool>::default();
        let ender = Ender {
            flag: Arc::clone(&flag),
            _open: open,
        };
        let ended = Arc::new(ended);
        Ok((ender, Self { flag, ended }))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// For those who look at it now and then.
    pub(crate) const fn flag(&self) -> &Arc<AtomicBool> {
        &self.flag
    }

    /// Waits for `time`, or less when it is time to end.
    pub(crate) fn wait(&self, time: Duration) {
        self.wait_with(None, time);
    }

    /// Waits until `other` can be read, `time` is over or it is time to end.
    pub(crate) fn wait_with(&self, other: Option<BorrowedFd<'_>>, time: Duration) {
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        descriptors.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // An interruption only ends it early.
        let _ = poll(&mut descriptors, Some(&time));
    }
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}
