//! Hearing of children by way of a descriptor.
#![expect(
    unsafe_code,
    reason = "signal sets and signal descriptors have no safe form"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor that becomes readable when a child stops or ends.
#[derive(Debug)]
pub(super) struct ChildSignals {
    descriptor: OwnedFd,
}

impl ChildSignals {
    /// Takes `SIGCHLD` of this thread, and of threads that it starts, away from
    /// its ordinary delivery. There must be no other threads: the kernel would
    /// hand them the signal, which is ignored by default.
    pub(super) fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is written here.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: `set` was written above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
        let no_before = std::ptr::null_mut();
        // SAFETY: `set` was written above.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), no_before) } {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` was written above.
        let descriptor = unsafe { libc::signalfd(-1, set.as_ptr(), flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: the kernel made the descriptor for this caller.
            descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
        })
    }

    /// Forgets the signals so far; the state of the child says all.
    pub(super) fn forget(&self) {
        let mut signals = [0_u8; 4 * size_of::<libc::signalfd_siginfo>()];
        // That there are none is fine.
        let _ = rustix::io::read(&self.descriptor, &mut signals[..]);
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
