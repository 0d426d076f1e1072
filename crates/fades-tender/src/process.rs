//! A function as a process of its own, for hosts without KVM.
//!
//! The tender forks a child ahead of need, which gives up its rights and waits.
//! When it is told for which function, it maps the function's memory where the
//! layout says, unmaps everything of the tender ([`code`], [`child`]), confines
//! itself to the five system calls that the gate needs ([`filter`]), and jumps
//! to the function. What remains of the tender supervises it: every byte that
//! comes from the child is taken as hostile, and no more is made of a message
//! than that the gate was called. Faults are seen by tracing the child, where
//! the host allows it ([`trace`]). There are no namespaces: none of them could
//! keep the child from anything that its five system calls can do. Start reading
//! at [`Process::make`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use fades_abi::boot::simd;
use fades_task::shell::Class;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use zerocopy::IntoBytes;

use crate::address::{GuestAddr, LARGE_PAGE};
use crate::layout::{INPUT, Zones};
use crate::machine::{BATCH_IS_GONE, Turn};
use crate::memory::{GuestMemory, OutOfBounds};
use crate::template::{Template, TemplateError};
use crate::watch::Clocked;

mod child;
mod code;
mod filter;
mod plan;
mod signals;
mod trace;

use child::Stage;
use code::Command;
use signals::ChildSignals;
use trace::Change;

/// Why a process could not be made or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("could not {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error("the function's process could not {what}: {source}")]
    Child {
        what: &'static str,
        source: io::Error,
    },
    #[error("the function's process ended before it was ready")]
    Died,
    #[error("the filter of system calls could not be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("what the function's process needs does not fit the gate")]
    Room,
    #[error(transparent)]
    Template(#[from] Box<TemplateError>),
    #[error("the template is for another kind of shell")]
    Unfit,
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error("a batch of {0} bytes is larger than the input window, or not whole pages of 2 MiB")]
    Batch(u64),
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ProcessError {
    move |source| ProcessError::System { what, source }
}

/// What keeps the process in, besides its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layers {
    /// A landlock domain without any file.
    pub(crate) landlock: bool,
    /// Faults are reported with address and instruction.
    pub(crate) traced: bool,
}

/// A process for one function.
#[derive(Debug)]
pub(crate) struct Process {
    class: Class,
    memory: GuestMemory,
    pid: libc::pid_t,
    pidfd: OwnedFd,
    socket: OwnedFd,
    signals: ChildSignals,
    layers: Layers,
    simd: u32,
    /// The function has been let go.
    started: bool,
    /// The child waits in its gate.
    waiting: bool,
    /// How it ended, once it has.
    ended: Option<Turn>,
    /// Length of the batch in the window, bytes.
    input: u64,
}

impl Process {
    /// Makes a process that waits for its function.
    ///
    /// `simd` is the highest level of vectors to use.
    pub(crate) fn make(
        class: Class,
        simd: u32,
        landlock: Option<OwnedFd>,
    ) -> Result<Self, ProcessError> {
        let memory = GuestMemory::shared(Zones::of(class.bulk).end(class))
            .map_err(failed("get memory for the function"))?;
        let signals = ChildSignals::new().map_err(failed("listen for signals"))?;
        let kind = (
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
        );
        let (socket, childs) = socketpair(kind.0, kind.1, kind.2, None)
            .map_err(|e| failed("make a socket pair")(e.into()))?;
        let file = memory.file().ok_or(ProcessError::Room)?;
        let plan = child::Plan {
            socket: childs.as_raw_fd(),
            memory: file.as_raw_fd(),
            landlock: landlock.as_ref().map(AsRawFd::as_raw_fd),
        };
        let pid = child::fork(&plan).map_err(failed("fork"))?;
        drop(childs);
        let traced = trace::attach(pid).is_ok();
        let pidfd = Pid::from_raw(pid)
            .ok_or(io::Error::other("no process id"))
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .map_err(failed("hold on to the process"))?;
        let layers = Layers {
            landlock: landlock.is_some(),
            traced,
        };
        let made = Self {
            class,
            memory,
            pid,
            pidfd,
            socket,
            signals,
            layers,
            simd: simd.min(offered()),
            started: false,
            waiting: false,
            ended: None,
            input: 0,
        };
        made.go()?;
        made.hear_of(Stage::Waiting)?;
        Ok(made)
    }

    /// Puts a function into the process, before its first instruction; `simd` is
    /// what it is told. The caller writes what else it is told before.
    pub(crate) fn load(&mut self, template: &Template, simd: u32) -> Result<(), ProcessError> {
        let sheet = &template.sheet;
        let needs = sheet.layout.needs();
        if needs.bulk != self.class.bulk || needs.heap > self.class.heap {
            return Err(ProcessError::Unfit);
        }
        let zones = sheet.layout.zones().template();
        let of_image = |s: &&crate::layout::Span| zones.contains(&s.offset.0) && !s.is_hosts();
        for span in sheet.layout.spans.iter().filter(of_image) {
            let copied = template.copy_to(&self.memory, span.offset, span.length);
            copied.map_err(Box::new)?;
        }
        plan::write(&sheet.layout, &self.memory, sheet.entry, simd)?;
        let spans = child::spans(&sheet.layout);
        let sent = rustix::net::send(&self.socket, spans.as_bytes(), SendFlags::NOSIGNAL);
        sent.map_err(|e| failed("tell the function's process where everything lies")(e.into()))?;
        self.hear_of(Stage::Ready)
    }

    /// Lets the child take its next step towards the function.
    fn go(&self) -> Result<(), ProcessError> {
        let sent = rustix::net::send(&self.socket, &[0], SendFlags::NOSIGNAL);
        sent.map_err(|e| failed("start the function's process")(e.into()))?;
        Ok(())
    }

    /// Hears that the child has come as far as `stage`.
    fn hear_of(&self, stage: Stage) -> Result<(), ProcessError> {
        let mut report = [0_u8; 8];
        loop {
            match recv(&self.socket, &mut report[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Ok((_, 8)) => break,
                _ => return Err(ProcessError::Died),
            }
        }
        let [reached, errno] = [&report[..4], &report[4..]]
            .map(|b| b.iter().rev().fold(0_u32, |n, b| n << 8 | u32::from(*b)));
        match Stage::from_number(reached) {
            Some(reached) if reached == stage => Ok(()),
            Some(reached) => Err(ProcessError::Child {
                what: reached.words(),
                source: io::Error::from_raw_os_error(errno as i32),
            }),
            None => Err(ProcessError::Died),
        }
    }

    pub(crate) const fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(crate) const fn simd(&self) -> u32 {
        self.simd
    }

    pub(crate) const fn layers(&self) -> Layers {
        self.layers
    }

    pub(crate) fn clocked(&self) -> Clocked {
        Clocked::process(self.pid)
    }

    /// Runs until the function stops.
    pub(crate) fn run(&mut self) -> Result<Turn, ProcessError> {
        if let Some(ended) = &self.ended {
            return Ok(ended.clone());
        }
        if !std::mem::replace(&mut self.started, true) {
            self.go()?;
        }
        if std::mem::take(&mut self.waiting)
            && let Some(deaf) = self.tell(code::RESUME, 0, None)?
        {
            return Ok(deaf);
        }
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => return Ok(Turn::Interrupted),
            Err(e) => return Err(failed("wait for the function")(e.into())),
            Ok(_) => {}
        }
        let [rung, signalled] = fds.map(|f| !f.revents().is_empty());
        // A child that has ended has nothing more to say.
        if signalled && let Some(turn) = self.changed(false)? {
            return Ok(turn);
        }
        if rung {
            self.heard()
        } else {
            Ok(Turn::Interrupted)
        }
    }

    /// A message is there, or the end of the connection.
    fn heard(&mut self) -> Result<Turn, ProcessError> {
        let mut message = [0_u8; 16];
        match recv(&self.socket, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((_, 1..)) => {
                self.waiting = true;
                Ok(Turn::Gate)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Turn::Interrupted),
            // The connection ends a moment before the process does, or because
            // it closed its descriptor.
            Ok(_) | Err(_) => {
                self.kill();
                match self.changed(true)? {
                    Some(Turn::Gone(_)) | None => Ok(self.over(Turn::Gone(
                        "it closed the connection to its supervisor".to_owned(),
                    ))),
                    Some(turn) => Ok(turn),
                }
            }
        }
    }

    /// What became of the child, if anything did.
    fn changed(&mut self, block: bool) -> Result<Option<Turn>, ProcessError> {
        self.signals.forget();
        loop {
            let change = trace::change(self.pid, block);
            let turn = match change.map_err(failed("wait for the function's process"))? {
                None => return Ok(None),
                Some(Change::Paused) => {
                    trace::resume(self.pid);
                    continue;
                }
                Some(Change::Stopped(signal)) if trace::is_fault(signal) => {
                    let raw = trace::fault(self.pid, signal);
                    self.kill();
                    self.reap();
                    if signal == libc::SIGBUS && self.is_input(raw.address) {
                        Turn::Gone(BATCH_IS_GONE.to_owned())
                    } else {
                        Turn::Fault(raw)
                    }
                }
                Some(Change::Stopped(signal)) => {
                    self.kill();
                    self.reap();
                    Turn::Gone(format!("its process got signal {signal}"))
                }
                Some(Change::Signalled(signal)) if trace::is_fault(signal) => {
                    Turn::Fault(trace::without_details(signal))
                }
                Some(Change::Signalled(libc::SIGKILL)) => Turn::Gone(
                    "its process was killed, possibly because the host ran out of memory"
                        .to_owned(),
                ),
                Some(Change::Signalled(signal)) => {
                    Turn::Gone(format!("its process was ended by signal {signal}"))
                }
                Some(Change::Exited(code)) => {
                    Turn::Gone(format!("its process exited with code {code}"))
                }
            };
            return Ok(Some(self.over(turn)));
        }
    }

    fn is_input(&self, address: Option<GuestAddr>) -> bool {
        let input = INPUT.0..INPUT.0 + self.input;
        address.is_some_and(|a| input.contains(&a.0))
    }

    fn over(&mut self, turn: Turn) -> Turn {
        self.ended = Some(turn.clone());
        turn
    }

    fn kill(&self) {
        // The only failure is that it is gone already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for the end of a child that was killed.
    fn reap(&self) {
        while let Ok(Some(Change::Paused | Change::Stopped(_))) = trace::change(self.pid, true) {}
    }

    /// Sends a command to the gate. A child that does not take it is not in its
    /// gate, and gets no second chance.
    fn tell(
        &mut self,
        kind: u32,
        length: u64,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Turn>, ProcessError> {
        let command = Command {
            kind,
            reserved: 0,
            length,
        };
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let bytes = [io::IoSlice::new(command.as_bytes())];
        match sendmsg(&self.socket, &bytes, &mut control, flags) {
            Ok(_) => Ok(None),
            Err(rustix::io::Errno::AGAIN) => {
                self.kill();
                self.reap();
                let turn = Turn::Gone("it rings without listening".to_owned());
                Ok(Some(self.over(turn)))
            }
            // It is gone; running it tells how.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(None),
            Err(e) => Err(failed("answer the function")(e.into())),
        }
    }

    /// Shows the function a batch, for reading only.
    pub(crate) fn attach(&mut self, batch: OwnedFd, length: u64) -> Result<(), ProcessError> {
        if length == 0 || length > self.class.window.0 || !length.is_multiple_of(LARGE_PAGE) {
            return Err(ProcessError::Batch(length));
        }
        self.input = length;
        // If it does not listen, the next run says so.
        self.tell(code::MAP, length, Some(batch.as_fd()))?;
        Ok(())
    }

    /// Takes the batch away.
    pub(crate) fn detach(&mut self) -> Result<(), ProcessError> {
        if self.input > 0 {
            let length = std::mem::take(&mut self.input);
            self.tell(code::UNMAP, length, None)?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
            self.reap();
        }
    }
}

/// The highest level of vectors that processor and kernel offer to processes.
pub(crate) fn offered() -> u32 {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => simd::AVX512,
        (true, false) => simd::AVX2,
        (false, _) => simd::SSE2,
    }
}
