//! The watch: ends a function that runs too long, and the tender when nobody
//! is left to hear from it.
//!
//! A thread of its own sleeps until the earlier of the two clocks can have run
//! out. When one has, it says so and interrupts the thread that runs the
//! function, again and again until that thread has noticed: a signal that
//! arrives just before the thread goes back to the function would be lost.
#![expect(
    unsafe_code,
    reason = "signals a thread and sets KVM's flag that keeps it from entering the function"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fades_task::exit::Clock;
use fades_task::limits::Limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often an expired function is interrupted until it stops.
const AGAIN: Duration = Duration::from_millis(1);

/// The signal that interrupts the thread; its handler does nothing.
const SIGNAL: libc::c_int = libc::SIGUSR1;

/// What is timed, and how it is stopped.
#[derive(Debug)]
pub(crate) struct Clocked {
    cpu: libc::clockid_t,
    thread: libc::pthread_t,
    /// KVM's flag, when there is one.
    stop: Option<StopFlag>,
}

/// A byte that KVM shares with this process for as long as the processor
/// lives. Whoever starts a watch drops it before the machine.
#[derive(Debug)]
struct StopFlag(*mut u8);

// SAFETY: the byte is only written, atomically.
unsafe impl Send for StopFlag {}

impl Clocked {
    /// The calling thread runs the function, and its clock is the function's.
    pub(crate) fn this_thread(stop: Option<*mut u8>) -> Self {
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        // SAFETY: has no preconditions.
        let id = unsafe { libc::gettid() };
        Self {
            cpu: clock_of(id, true),
            thread,
            stop: stop.map(StopFlag),
        }
    }

    /// The calling thread waits for a process with this id, whose clock is the
    /// function's.
    pub(crate) fn process(id: i32) -> Self {
        Self {
            cpu: clock_of(id, false),
            ..Self::this_thread(None)
        }
    }

    /// Processor time so far; nothing when the process is gone.
    fn used(&self) -> Duration {
        cpu_time(self.cpu)
    }
}

/// The number of the processor-time clock of a thread or a process: the id's
/// complement, then three bits that say whose time and which.
const fn clock_of(id: libc::pid_t, thread: bool) -> libc::clockid_t {
    const SCHEDULED: libc::clockid_t = 2;
    const THREAD: libc::clockid_t = 4;
    (!id) << 3 | SCHEDULED | if thread { THREAD } else { 0 }
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written here.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const RUNNING: u8 = 0;
const TIME: u8 = 1;
const CPU: u8 = 2;

#[derive(Debug)]
struct Shared {
    expired: AtomicU8,
    over: AtomicBool,
}

/// A watch over one function.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
    deadline: Instant,
    cpu: libc::clockid_t,
    cpu_before: Duration,
    cpu_last: std::cell::Cell<Duration>,
}

impl Watch {
    /// Starts both clocks. The tender ends at once when `control` is closed by
    /// its other end.
    pub(crate) fn start(clocked: Clocked, limits: &Limits, control: OwnedFd) -> io::Result<Self> {
        install_handler()?;
        let deadline = Instant::now() + limits.time.as_std();
        let shared = Arc::new(Shared {
            expired: AtomicU8::new(RUNNING),
            over: AtomicBool::new(false),
        });
        let (sleep, wake) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (cpu, cpu_before) = (clocked.cpu, clocked.used());
        let guard = Guard {
            clocked,
            shared: Arc::clone(&shared),
            deadline,
            budget: limits.cpu.as_std(),
            cpu_before,
            control,
            sleep,
        };
        let awake = Arc::new(Barrier::new(2));
        let awakened = Arc::clone(&awake);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                awakened.wait();
                guard.watch();
            })?;
        // A thread registers itself with the kernel as it starts, by calls that
        // the tender's filter will not allow.
        awake.wait();
        Ok(Self {
            shared,
            wake,
            thread: Some(thread),
            deadline,
            cpu,
            cpu_before,
            cpu_last: std::cell::Cell::new(Duration::ZERO),
        })
    }

    /// The clock that ran out, if one did.
    pub(crate) fn expired(&self) -> Option<Clock> {
        match self.shared.expired.load(Ordering::Acquire) {
            TIME => Some(Clock::Time),
            CPU => Some(Clock::Cpu),
            _ if Instant::now() >= self.deadline => Some(Clock::Time),
            _ => None,
        }
    }

    /// When the run must be over.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Processor time of the function so far.
    pub(crate) fn cpu(&self) -> Duration {
        // The clock of a process is gone with the process.
        let now = cpu_time(self.cpu).saturating_sub(self.cpu_before);
        self.cpu_last.set(self.cpu_last.get().max(now));
        self.cpu_last.get()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // The pipe can take one byte; if it could not, the thread would be
        // awake already.
        let _ = rustix::io::write(&self.wake, &[0]);
        if let Some(thread) = self.thread.take() {
            // A panic of the watch has been reported by its thread.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Guard {
    clocked: Clocked,
    shared: Arc<Shared>,
    deadline: Instant,
    budget: Duration,
    cpu_before: Duration,
    control: OwnedFd,
    sleep: OwnedFd,
}

impl Guard {
    fn watch(self) {
        while !self.shared.over.load(Ordering::Acquire) {
            let (clock, left) = self.left();
            if left.is_zero() {
                self.shared.expired.store(clock, Ordering::Release);
                self.interrupt();
            }
            self.wait(left.max(AGAIN));
        }
    }

    /// The clock that can run out first, and the least time until then: a
    /// single thread uses processor time no faster than time passes.
    fn left(&self) -> (u8, Duration) {
        let time = self.deadline.saturating_duration_since(Instant::now());
        let used = self.clocked.used().saturating_sub(self.cpu_before);
        let cpu = self.budget.saturating_sub(used);
        if cpu < time { (CPU, cpu) } else { (TIME, time) }
    }

    fn interrupt(&self) {
        if let Some(StopFlag(flag)) = self.clocked.stop {
            // SAFETY: KVM's page outlives the watch, see `StopFlag`.
            let flag = unsafe { AtomicU8::from_ptr(flag) };
            flag.store(1, Ordering::Release);
        }
        // SAFETY: the thread waits for this one before it ends; the signal has a
        // handler.
        unsafe { libc::pthread_kill(self.clocked.thread, SIGNAL) };
    }

    fn wait(&self, at_most: Duration) {
        let timeout = Timespec {
            tv_sec: at_most.as_secs() as i64,
            tv_nsec: at_most.subsec_nanos().into(),
        };
        let mut fds = [
            PollFd::new(&self.sleep, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::RDHUP),
        ];
        // An error, such as a signal, means to look again.
        if poll(&mut fds, Some(&timeout)).is_ok() && !fds[1].revents().is_empty() {
            // Nobody is left to hear how the function ends.
            std::process::exit(crate::EXIT_ORPHANED);
        }
    }
}

/// Makes the signal interrupt system calls instead of the process.
fn install_handler() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing and may run at any moment.
    let failed = unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
