//! The watch: ends a function that runs too long, and the tender when nobody
//! is left to hear from it.
//!
//! A tender has one thread. A timer sends it a signal when the earlier of the
//! two clocks can have run out, and again every millisecond until it is
//! stopped: a signal that arrives just before the thread waits would otherwise
//! be lost. Under KVM the signal's handler also sets the flag that keeps the
//! thread from entering the function. The orchestrator's end of the control
//! channel is watched by a signal as well, whose handler ends the tender.
#![expect(
    unsafe_code,
    reason = "handles signals and sets KVM's flag that keeps a thread from entering the function"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use fades_task::exit::Clock;
use fades_task::limits::Limits;

/// How often an expired function is interrupted until it stops.
const AGAIN: Duration = Duration::from_millis(1);

/// The signal of the timer.
const TIMER: libc::c_int = libc::SIGUSR1;

thread_local! {
    /// KVM's flag, when there is one: a byte that it shares with this process
    /// for as long as the processor lives.
    static STOP: AtomicPtr<u8> = const { AtomicPtr::new(null_mut()) };

    /// The timer's signal has come since the clocks were looked at.
    static RANG: AtomicBool = const { AtomicBool::new(false) };

    /// The control channel; -1 when there is none.
    static CONTROL: AtomicI32 = const { AtomicI32::new(-1) };
}

/// What is timed, and how it is stopped.
#[derive(Debug)]
pub(crate) struct Clocked {
    cpu: libc::clockid_t,
    stop: *mut u8,
}

impl Clocked {
    /// The calling thread runs the function, and its clock is the function's.
    pub(crate) fn this_thread(stop: Option<*mut u8>) -> Self {
        // SAFETY: has no preconditions.
        let id = unsafe { libc::gettid() };
        Self {
            cpu: clock_of(id, true),
            stop: stop.unwrap_or(null_mut()),
        }
    }

    /// The calling thread waits for a process with this id, whose clock is the
    /// function's.
    pub(crate) const fn process(id: i32) -> Self {
        Self {
            cpu: clock_of(id, false),
            stop: null_mut(),
        }
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

/// A watch over the functions that one machine runs, one after the other. Its
/// signals come to the thread that made it, which can have one.
#[derive(Debug)]
pub(crate) struct Watch {
    timer: libc::timer_t,
    cpu: libc::clockid_t,
    /// Processor time of the machine when the function began.
    cpu_start: Duration,
    /// The same, when the clocks were last started.
    cpu_before: Duration,
    cpu_last: Duration,
    /// Where the two clocks stop; none while they stand still.
    until: Option<(Instant, Duration)>,
}

impl Watch {
    /// Makes the timer, and from now on ends the tender at once when `control`
    /// is closed by its other end.
    pub(crate) fn new(clocked: &Clocked, control: BorrowedFd<'_>) -> io::Result<Self> {
        STOP.with(|s| s.store(clocked.stop, Ordering::Release));
        handle(TIMER, ring)?;
        listen_for_the_end_of(control)?;
        Ok(Self {
            timer: timer()?,
            cpu: clocked.cpu,
            cpu_start: Duration::ZERO,
            cpu_before: Duration::ZERO,
            cpu_last: Duration::ZERO,
            until: None,
        })
    }

    /// A function begins: starts both clocks.
    pub(crate) fn begin(&mut self, limits: &Limits) {
        // There is no signal for what happens while somebody waits to receive.
        look(libc::SIGIO);
        self.start(limits);
        self.cpu_start = self.cpu_before;
        self.cpu_last = Duration::ZERO;
    }

    /// Starts both clocks anew, for a function that has begun.
    pub(crate) fn start(&mut self, limits: &Limits) {
        let (time, cpu) = (limits.time.as_std(), limits.cpu.as_std());
        self.cpu_before = cpu_time(self.cpu);
        self.until = Some((Instant::now() + time, cpu));
        // No time at all would be never.
        set(self.timer, time.min(cpu).max(Duration::from_nanos(1)));
    }

    /// Stops both clocks.
    pub(crate) fn stop(&mut self) {
        self.until = None;
        set(self.timer, Duration::ZERO);
        RANG.with(|r| r.store(false, Ordering::Release));
        clear_flag();
    }

    /// The clock that ran out, if one did.
    pub(crate) fn expired(&mut self) -> Option<Clock> {
        let (deadline, _) = self.until?;
        let rang = RANG.with(|r| r.swap(false, Ordering::AcqRel));
        if !rang && Instant::now() < deadline {
            return None;
        }
        let (clock, left) = self.left()?;
        if left.is_zero() {
            return Some(clock);
        }
        // The function used less processor time than time has passed.
        clear_flag();
        set(self.timer, left);
        None
    }

    /// When the run must be over, if the clocks run.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until.map(|(deadline, _)| deadline)
    }

    /// Processor time of the function so far.
    pub(crate) fn cpu(&mut self) -> Duration {
        // The clock of a process is gone with the process.
        let now = cpu_time(self.cpu).saturating_sub(self.cpu_start);
        self.cpu_last = self.cpu_last.max(now);
        self.cpu_last
    }

    /// The clock that can run out first, and the least time until then: a
    /// single thread uses processor time no faster than time passes.
    fn left(&self) -> Option<(Clock, Duration)> {
        let (deadline, budget) = self.until?;
        let time = deadline.saturating_duration_since(Instant::now());
        let used = cpu_time(self.cpu).saturating_sub(self.cpu_before);
        let cpu = budget.saturating_sub(used);
        Some(if cpu < time {
            (Clock::Cpu, cpu)
        } else {
            (Clock::Time, time)
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        STOP.with(|s| s.store(null_mut(), Ordering::Release));
        CONTROL.with(|c| c.store(-1, Ordering::Release));
        // SAFETY: the timer is this value's.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn timer() -> io::Result<libc::timer_t> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = TIMER;
    // SAFETY: has no preconditions.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer: libc::timer_t = null_mut();
    // SAFETY: both structures outlive the call.
    let failed =
        unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    if failed == 0 {
        Ok(timer)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the timer ring after `first`, then again and again; never, when that is
/// no time at all.
fn set(timer: libc::timer_t, first: Duration) {
    let spec = |time: Duration| libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    let value = libc::itimerspec {
        it_interval: spec(AGAIN),
        it_value: spec(first),
    };
    // SAFETY: the timer exists; `value` outlives the call, which cannot fail
    // with these values.
    unsafe { libc::timer_settime(timer, 0, &raw const value, null_mut()) };
}

fn set_flag(to: u8) {
    let flag = STOP.with(|s| s.load(Ordering::Acquire));
    if !flag.is_null() {
        // SAFETY: KVM's page outlives the watch, which takes the address away
        // when it goes.
        unsafe { AtomicU8::from_ptr(flag) }.store(to, Ordering::Release);
    }
}

fn clear_flag() {
    set_flag(0);
}

extern "C" fn ring(_: libc::c_int) {
    RANG.with(|r| r.store(true, Ordering::Release));
    set_flag(1);
}

/// Something happened on the control channel: a message, which is read in due
/// course, or its end, after which nobody is left to hear how the function
/// ends.
extern "C" fn look(_: libc::c_int) {
    let mut fd = libc::pollfd {
        fd: CONTROL.with(|c| c.load(Ordering::Acquire)),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: has no preconditions.
    let errno = unsafe { libc::__errno_location() };
    // What was interrupted may be about to read it.
    // SAFETY: the thread's own.
    let before = unsafe { errno.read() };
    // SAFETY: `fd` outlives the call, which may be made in a handler.
    let ready = unsafe { libc::poll(&raw mut fd, 1, 0) };
    // SAFETY: as above.
    unsafe { errno.write(before) };
    if ready > 0 {
        // SAFETY: ends the process; may be called in a handler.
        unsafe { libc::_exit(crate::EXIT_ORPHANED) };
    }
}

/// Who hears of a descriptor: the kernel's `f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

/// `F_SETOWN_EX`.
const SET_OWNER: libc::c_int = 15;

impl Owner {
    /// `F_OWNER_TID`.
    const THREAD: libc::c_int = 0;
}

fn listen_for_the_end_of(control: BorrowedFd<'_>) -> io::Result<()> {
    let fd = control.as_raw_fd();
    CONTROL.with(|c| c.store(fd, Ordering::Release));
    handle(libc::SIGIO, look)?;
    let own = Owner {
        kind: Owner::THREAD,
        // SAFETY: has no preconditions.
        id: unsafe { libc::gettid() },
    };
    // SAFETY: changes what this process hears of its own descriptor.
    let owned = unsafe { libc::fcntl(fd, SET_OWNER, &raw const own) };
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    let set = unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) };
    if owned < 0 || flags < 0 || set < 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have ended before this process listened.
    look(libc::SIGIO);
    Ok(())
}

/// Handles a signal, which then interrupts system calls instead of the process.
fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handlers only touch atomics and make calls that are allowed
    // in a handler.
    let failed = unsafe { libc::sigaction(signal, &raw const action, null_mut()) };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
