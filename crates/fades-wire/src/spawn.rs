//! Starting another program of the node, with the descriptors that it inherits.
//!
//! A program gets standard input and output from `/dev/null`, the caller's
//! standard error or another, the given descriptors as 3, 4, … and no others, an empty
//! environment but for what the caller sets, and a process group of its own. It
//! is killed when this process dies, however that happens.
//!
//! Children are made as `posix_spawn` does, sharing memory with their parent
//! until they execute the program, so that the size of the parent does not
//! matter. The kernel binds a child's death signal to the *thread* that made
//! it: one thread that lives as long as the process makes all of them.
#![expect(
    unsafe_code,
    reason = "clone, and the system calls of a child that shares its parent's memory"
)]

use std::ffi::{CString, OsStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Number of the first descriptor that a program inherits.
pub const FIRST_DESCRIPTOR: RawFd = 3;

/// Descriptors are parked from here on while they are put into their places.
const PARKING: c_int = 128;

/// Plenty for the few frames between `clone` and `execve`.
const STACK: usize = 64 * 1024;

/// What the error of [`Program::spawn`] has inside.
#[derive(Debug, thiserror::Error)]
#[error("start {}: {reason}", program.display())]
pub struct NotStarted {
    /// The program.
    pub program: PathBuf,
    /// Why it could not be started. Part of the text, so it is no source.
    pub reason: io::Error,
}

/// A program to start.
#[derive(Debug)]
pub struct Program<'a> {
    path: &'a Path,
    arguments: Vec<&'a OsStr>,
    environment: Vec<(&'a str, &'a OsStr)>,
    descriptors: Vec<BorrowedFd<'a>>,
    error: Option<BorrowedFd<'a>>,
}

impl<'a> Program<'a> {
    /// The program at `path`, without arguments, environment or descriptors.
    #[must_use]
    pub const fn new(path: &'a Path) -> Self {
        Self {
            path,
            arguments: Vec::new(),
            environment: Vec::new(),
            descriptors: Vec::new(),
            error: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: &'a (impl AsRef<OsStr> + ?Sized)) -> Self {
        self.arguments.push(argument.as_ref());
        self
    }

    /// Sets a variable of the otherwise empty environment.
    #[must_use]
    pub fn variable(mut self, name: &'a str, value: &'a (impl AsRef<OsStr> + ?Sized)) -> Self {
        self.environment.push((name, value.as_ref()));
        self
    }

    /// Adds a descriptor: the first one becomes 3, the next one 4, and so on.
    #[must_use]
    pub fn descriptor(mut self, descriptor: BorrowedFd<'a>) -> Self {
        self.descriptors.push(descriptor);
        self
    }

    /// Sets its standard error, the caller's otherwise.
    #[must_use]
    pub const fn error(mut self, error: BorrowedFd<'a>) -> Self {
        self.error = Some(error);
        self
    }

    /// Starts the program. Returns when it executes or could not.
    ///
    /// # Errors
    /// When the program cannot be executed, or the process has no descriptors
    /// or processes left; has a [`NotStarted`] inside.
    pub fn spawn(&self) -> io::Result<Child> {
        self.prepare().and_then(make).map_err(|reason| {
            let program = self.path.to_owned();
            io::Error::new(reason.kind(), NotStarted { program, reason })
        })
    }

    fn prepare(&self) -> io::Result<Prepared> {
        let path = text(self.path.as_os_str())?;
        let mut arguments = vec![path.clone()];
        for argument in &self.arguments {
            arguments.push(text(argument)?);
        }
        let mut environment = Vec::new();
        for (name, value) in &self.environment {
            let mut pair = name.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend(value.as_bytes());
            environment.push(CString::new(pair)?);
        }
        let owned = |d: &BorrowedFd<'_>| d.try_clone_to_owned();
        Ok(Prepared {
            path,
            arguments,
            environment,
            descriptors: self
                .descriptors
                .iter()
                .map(owned)
                .collect::<Result<_, _>>()?,
            error: self.error.as_ref().map(owned).transpose()?,
            null: File::options()
                .read(true)
                .write(true)
                .open("/dev/null")?
                .into(),
        })
    }
}

fn text(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// Everything that the child needs, made while it is still allowed to allocate.
struct Prepared {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    descriptors: Vec<OwnedFd>,
    error: Option<OwnedFd>,
    null: OwnedFd,
}

type Order = (Prepared, Sender<io::Result<Child>>);

/// Hands the order to the thread that makes children.
fn make(prepared: Prepared) -> io::Result<Child> {
    static MAKER: OnceLock<io::Result<Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts programs has ended");
    let maker = MAKER.get_or_init(|| {
        let (sender, orders) = channel();
        std::thread::Builder::new()
            .name("spawn".to_owned())
            .spawn(|| serve(orders))?;
        Ok(sender)
    });
    let maker = maker.as_ref().map_err(|e| io::Error::from(e.kind()))?;
    let (answer, child) = channel();
    maker.send((prepared, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

fn serve(orders: Receiver<Order>) {
    for (prepared, answer) in orders {
        // A caller that has gone away drops, and thereby kills, the child.
        let _ = answer.send(clone(&prepared));
    }
}

/// What the child reads, and the one thing that it writes.
struct Launch<'a> {
    path: &'a CString,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    descriptors: Vec<RawFd>,
    /// As it is, without.
    error: Option<RawFd>,
    null: RawFd,
    parent: libc::pid_t,
    /// `errno` of what failed; stays 0 when the program was executed.
    failed: c_int,
}

fn clone(prepared: &Prepared) -> io::Result<Child> {
    let pointers = |texts: &[CString]| {
        let null = std::iter::once(std::ptr::null());
        texts.iter().map(|t| t.as_ptr()).chain(null).collect()
    };
    let mut launch = Launch {
        path: &prepared.path,
        arguments: pointers(&prepared.arguments),
        environment: pointers(&prepared.environment),
        descriptors: prepared
            .descriptors
            .iter()
            .map(AsRawFd::as_raw_fd)
            .collect(),
        error: prepared.error.as_ref().map(AsRawFd::as_raw_fd),
        null: prepared.null.as_raw_fd(),
        // SAFETY: has no preconditions.
        parent: unsafe { libc::getpid() },
        failed: 0,
    };
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let mut pidfd: c_int = -1;
    let signals = block_signals()?;
    // SAFETY: `stack` is unused memory of this thread, which the kernel stops
    // until the child has executed or ended; `launch` and `pidfd` outlive that.
    let pid = unsafe {
        libc::clone(
            child,
            top,
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw mut launch).cast(),
            &raw mut pidfd,
        )
    };
    let error = io::Error::last_os_error();
    // SAFETY: the set is the one that was in force.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut()) };
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)?;
    let child = Child {
        pid,
        // SAFETY: the kernel made the descriptor for this caller.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        status: None,
    };
    // SAFETY: the child no longer runs in this memory; it wrote behind the
    // compiler's back.
    match unsafe { (&raw const launch.failed).read_volatile() } {
        0 => Ok(child),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Blocks all signals of this thread and returns the set that was blocked
/// before: a handler must not run in a child that shares this memory.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = std::mem::MaybeUninit::uninit();
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: `all` is written here.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was written above, `before` is written here.
    let failed =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    // SAFETY: the call above succeeded.
    Ok(unsafe { before.assume_init() })
}

/// Runs in the child. Must not allocate, panic or touch a lock.
extern "C" fn child(launch: *mut c_void) -> c_int {
    let launch = launch.cast::<Launch<'_>>();
    // SAFETY: `clone` passes a `Launch` that nobody else uses meanwhile.
    let reason = execute(unsafe { &*launch });
    // SAFETY: as above.
    let failed = unsafe { &raw mut (*launch).failed };
    // SAFETY: as above.
    unsafe { failed.write_volatile(reason) };
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Returns only when something failed, with its `errno`.
fn execute(launch: &Launch<'_>) -> c_int {
    match arrange(launch) {
        Ok(()) => {
            let (path, arguments) = (launch.path.as_ptr(), launch.arguments.as_ptr());
            // SAFETY: both lists end with a null pointer; all texts outlive the call.
            unsafe { libc::execve(path, arguments, launch.environment.as_ptr()) };
            errno()
        }
        Err(reason) => reason,
    }
}

/// Puts signals, descriptors and process group in order.
fn arrange(launch: &Launch<'_>) -> Result<(), c_int> {
    // SAFETY: prctl with these arguments changes this process alone.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: has no preconditions.
    if unsafe { libc::getppid() } != launch.parent {
        return Err(libc::ESRCH);
    }
    // SAFETY: changes this process alone.
    check(unsafe { libc::setpgid(0, 0) })?;
    for signal in 1..=64 {
        // Two of them cannot be changed, which is as well.
        // SAFETY: the child has signal dispositions of its own.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let count = launch.descriptors.len() as c_int;
    for (to, &from) in (PARKING..).zip(&launch.descriptors) {
        place(from, to)?;
    }
    place(launch.null, 0)?;
    place(launch.null, 1)?;
    if let Some(error) = launch.error {
        place(error, 2)?;
    }
    for i in 0..count {
        place(PARKING + i, FIRST_DESCRIPTOR + i)?;
    }
    // SAFETY: the child has a table of descriptors of its own.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            (FIRST_DESCRIPTOR + count) as libc::c_uint,
            libc::c_uint::MAX,
            0,
        )
    };
    check(closed as c_int)?;
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: `none` is written here.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was written above.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) })
}

fn place(from: RawFd, to: RawFd) -> Result<(), c_int> {
    // SAFETY: the child has a table of descriptors of its own.
    check(unsafe { libc::dup2(from, to) })
}

fn check(result: c_int) -> Result<(), c_int> {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// A running program. Dropping it kills the program and waits for its end.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

impl AsFd for Child {
    /// A descriptor that becomes readable when the program has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Child {
    /// Its process id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Sends it `SIGKILL`; does nothing when it has ended already.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to end by `SIGTERM`; does nothing when it has ended already.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // The only failure is that it is gone, which is what was asked for.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end until `deadline` (for ever without one); `None` when
    /// it still runs then.
    ///
    /// # Errors
    /// When the system call fails, as it does if somebody else waited for
    /// every child of the process.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() && self.has_ended_by(deadline)? {
            let ended = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)?;
            self.status = ended.map(|e| {
                let signal = e
                    .terminating_signal()
                    .map(|s| s | (0x80 * i32::from(e.dumped())));
                let code = e.exit_status().unwrap_or_default() << 8;
                ExitStatus::from_raw(signal.unwrap_or(code))
            });
        }
        Ok(self.status)
    }

    fn has_ended_by(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let timeout = deadline.map(|d| {
                let left = d.saturating_duration_since(Instant::now());
                Timespec {
                    tv_sec: left.as_secs() as i64,
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match poll(
                &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        // Nobody is left to tell; the process is dead all the same.
        let _ = self.wait(None);
    }
}

#[cfg(test)]
mod tests;
