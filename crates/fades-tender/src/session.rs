//! One run of one function: serves the gate until the function ends.
//!
//! The loop lets the machine run, copies the mailbox when the gate is called,
//! lets [`Phase`] judge the call, and acts on the copy. How a function ends is
//! a value; nothing that it does is an error of the tender.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use fades_abi::gate::{Event, Mailbox, TEXT_MAX, event};
use fades_task::exit::{Clock, Exit};
use fades_task::message::{Ended, Feed, Release, Start, TenderReport};
use fades_task::quantity::Size;
use fades_task::result::Breakdown;
use fades_wire::{Channel, WireError};

use crate::address::Offset;
use crate::contract::{Call, Phase, TextAt};
use crate::image::Access;
use crate::journal::{Journal, harmless};
use crate::layout::{INPUT, Layout, Part};
use crate::machine::{Machine, Turn};
use crate::symbols::Symbols;
use crate::template::Template;
use crate::watch::Watch;

mod answer;

use answer::Answer;

/// Longest list of callers that is looked at, bytes.
const CALLERS_MAX: u64 = 128;

/// A function about to run.
pub(crate) struct Session<'a> {
    start: &'a Start,
    template: &'a Template,
    control: &'a Channel,
    data: Channel,
    machine: &'a mut Machine,
    watch: &'a mut Watch,
    phase: Phase,
    journal: Journal,
    /// When the request to run it arrived.
    arrived: Instant,
    ready: bool,
    answer: Option<Answer>,
    /// With what the function goes on, until it has it.
    restore: Option<Vec<u8>>,
    /// What there is of the window that has ended.
    window: Option<Window>,
    /// It stays, and is ready for its first window.
    begun: bool,
    /// It stays, and has nothing to do: no clock runs.
    at_rest: bool,
    /// Length of the batch that is mapped, bytes.
    input: u64,
    batches: u64,
    input_bytes: u64,
    spent: Spent,
}

/// Where the time went so far.
#[derive(Debug, Default)]
struct Spent {
    boot: Duration,
    retrieve: Duration,
    transfer: Duration,
    compute: Duration,
}

/// A window that has ended, until the orchestrator has its answer.
#[derive(Debug)]
struct Window {
    id: u64,
    answer: Answer,
    checkpoint: Option<Vec<u8>>,
}

/// Ends the loop.
type End = Exit;

impl<'a> Session<'a> {
    pub(crate) fn new(
        start: &'a Start,
        template: &'a Template,
        channels: (&'a Channel, Channel),
        machine: &'a mut Machine,
        watch: &'a mut Watch,
        arrived: Instant,
        restore: Option<Vec<u8>>,
    ) -> Self {
        Self {
            start,
            template,
            control: channels.0,
            data: channels.1,
            machine,
            watch,
            phase: Phase::default(),
            journal: Journal::new(start.limits.log.0),
            arrived,
            ready: false,
            answer: None,
            restore,
            window: None,
            begun: false,
            at_rest: false,
            input: 0,
            batches: 0,
            input_bytes: 0,
            spent: Spent::default(),
        }
    }

    /// Runs the function to its end, and reports it; whether it ended well.
    pub(crate) fn run(mut self) -> Result<bool, WireError> {
        self.watch.begin(&self.start.limits);
        let exit = self.until_it_ends();
        self.watch.stop();
        if !self.ready {
            self.spent.boot = self.arrived.elapsed();
        }
        let well = exit == Exit::Done;
        let answer = match self.answer.take() {
            Some(answer) if well => answer,
            _ => Answer::default(),
        };
        let ended = self.taken(exit, &answer);
        let blob = [answer.values, answer.readings].concat();
        self.control
            .send(&TenderReport::Ended(Box::new(ended)), &blob, &[])?;
        Ok(well)
    }

    /// What the run took, or the window.
    fn taken(&mut self, exit: Exit, answer: &Answer) -> Ended {
        Ended {
            exit,
            isolation: self.machine.isolation(),
            answer_bytes: answer.values.len() as u64,
            readings_bytes: answer.readings.len() as u64,
            breakdown: self.spent.breakdown(),
            high_water: Size(self.high_water()),
            cpu_us: self.watch.cpu().as_micros() as u64,
            batches: self.batches,
            input_bytes: self.input_bytes,
            log_cut: self.journal.cut(),
        }
    }

    fn until_it_ends(&mut self) -> Exit {
        loop {
            let before = Instant::now();
            let turn = self.machine.run();
            if self.ready {
                self.spent.compute += before.elapsed();
            }
            if let Some(clock) = self.watch.expired() {
                return self.late(clock);
            }
            let served = match turn {
                Ok(Turn::Gate) => self.serve(),
                Ok(Turn::Interrupted) => Ok(()),
                Ok(Turn::Fault(raw)) => {
                    let symbols = self.symbols();
                    Err(Exit::Fault(raw.describe(
                        self.layout(),
                        &symbols,
                        self.input,
                    )))
                }
                Ok(Turn::Gone(reason)) => Err(Exit::Killed { reason }),
                Err(e) => Err(killed(&e)),
            };
            if let Err(exit) = served {
                return exit;
            }
        }
    }

    fn late(&self, clock: Clock) -> Exit {
        let limit = match clock {
            Clock::Time => self.start.limits.time,
            Clock::Cpu => self.start.limits.cpu,
        };
        Exit::Deadline { clock, limit }
    }

    /// Serves one call of the gate.
    fn serve(&mut self) -> Result<(), End> {
        let at = self.layout().span(Part::Mailbox).offset;
        let mailbox: Mailbox = self.machine.memory().take(at).map_err(|e| killed(&e))?;
        let call = self.phase.call(&mailbox).map_err(misuse)?;
        match call {
            Call::Next => self.next(at),
            Call::Log { level, text } => self.log(level, text),
            Call::WindowAnswer(at) => {
                let answer = self.copy_answer(at)?;
                if let Some(window) = &mut self.window {
                    window.answer = answer;
                }
                Ok(())
            }
            Call::Answer(at) => {
                self.answer = Some(self.copy_answer(at)?);
                Ok(())
            }
            Call::State { length } => {
                let state = self.copy_state(length)?;
                if let Some(window) = &mut self.window {
                    window.checkpoint = Some(state);
                }
                Ok(())
            }
            Call::Done => Err(Exit::Done),
            Call::Abort(text) => Err(Exit::Aborted {
                message: self.text(text)?,
            }),
            Call::Panic(text) => Err(Exit::Panicked {
                message: self.text(text)?,
            }),
            Call::OutOfMemory { size, callers } => Err(Exit::OutOfMemory {
                requested: size,
                limit: self.start.limits.memory,
                place: self.place(callers),
            }),
            Call::OutputFull { needed } => Err(Exit::OutputOverflow {
                needed,
                limit: self.start.limits.output,
            }),
        }
    }

    /// Hands the function its next event.
    fn next(&mut self, mailbox: Offset) -> Result<(), End> {
        if !std::mem::replace(&mut self.ready, true) {
            self.report_ready()?;
        }
        self.take_batch_away()?;
        let event = match self.of_its_own()? {
            Some(event) => event,
            None => self.of_the_broker()?,
        };
        self.phase.told(event.kind);
        let at = Offset(mailbox.0 + std::mem::offset_of!(Mailbox, event) as u64);
        self.machine
            .memory()
            .put(at, &event)
            .map_err(|e| killed(&e))
    }

    /// What a function that stays is asked besides what the broker has for it.
    fn of_its_own(&mut self) -> Result<Option<Event>, End> {
        let Some(resident) = self.start.resident else {
            return Ok(None);
        };
        if let Some(state) = self.restore.take() {
            return self.show_state(&state).map(Some);
        }
        match &self.window {
            Some(window) if window.checkpoint.is_none() && resident.checkpoints => {
                Ok(Some(Event {
                    kind: event::SAVE,
                    ..Event::default()
                }))
            }
            Some(_) => self.report_window().map(|()| None),
            None => {
                // It has just begun.
                if !std::mem::replace(&mut self.begun, true) {
                    self.rest();
                }
                Ok(None)
            }
        }
    }

    fn report_window(&mut self) -> Result<(), End> {
        let Some(window) = self.window.take() else {
            return Ok(());
        };
        self.rest();
        let ended = self.taken(Exit::Done, &window.answer);
        let report = TenderReport::Window {
            id: window.id,
            ended: Box::new(ended),
            checkpoint_bytes: window.checkpoint.as_ref().map(|c| c.len() as u64),
        };
        let Answer { values, readings } = window.answer;
        let checkpoint = window.checkpoint.unwrap_or_default();
        let blob = [values, readings, checkpoint].concat();
        self.control
            .send(&report, &blob, &[])
            .map_err(|e| killed(&e))?;
        self.journal = Journal::new(self.start.limits.log.0);
        self.spent = Spent::default();
        (self.batches, self.input_bytes) = (0, 0);
        Ok(())
    }

    /// A function at rest uses up nothing.
    fn rest(&mut self) {
        self.watch.stop();
        self.at_rest = true;
    }

    /// Waits for what the broker has for the function.
    fn of_the_broker(&mut self) -> Result<Event, End> {
        let waiting = Instant::now();
        let frame = self.data.receive::<Feed>(self.watch.deadline());
        if std::mem::take(&mut self.at_rest) {
            // How long nothing was due is nobody's time.
            self.watch.begin(&self.start.limits);
        } else {
            self.spent.retrieve += waiting.elapsed();
        }
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                return Err(Exit::Killed {
                    reason: "the broker went away before all data had come".to_owned(),
                });
            }
            Err(WireError::Deadline) => return Err(self.late(Clock::Time)),
            Err(e) => return Err(killed(&e)),
        };
        self.event(frame.message, frame.descriptors)
    }

    fn report_ready(&mut self) -> Result<(), End> {
        self.spent.boot = self.arrived.elapsed();
        let ready = TenderReport::Ready {
            isolation: self.machine.isolation(),
            simd: self.machine.simd().min(self.start.simd),
            boot_us: self.spent.boot.as_micros() as u64,
        };
        self.report(&ready)
    }

    fn report(&self, report: &TenderReport) -> Result<(), End> {
        self.control.send(report, &[], &[]).map_err(|e| killed(&e))
    }

    /// Tells the broker; one that is gone has no use for it.
    fn release(&self, release: &Release) -> Result<(), End> {
        match self.data.send(release, &[], &[]) {
            Ok(()) | Err(WireError::Io(_)) => Ok(()),
            Err(e) => Err(killed(&e)),
        }
    }

    fn take_batch_away(&mut self) -> Result<(), End> {
        if self.input == 0 {
            return Ok(());
        }
        let before = Instant::now();
        self.machine.detach().map_err(|e| killed(&e))?;
        self.spent.transfer += before.elapsed();
        self.input = 0;
        self.release(&Release::Batch)
    }

    /// Makes an event of what the broker sent.
    fn event(&mut self, feed: Feed, descriptors: Vec<OwnedFd>) -> Result<Event, End> {
        let of = |kind| Event {
            kind,
            ..Event::default()
        };
        Ok(match feed {
            Feed::Batch { dto, length } => {
                self.check_dto(dto)?;
                self.show_batch(descriptors, length)?;
                Event {
                    dto,
                    address: INPUT.0,
                    length,
                    ..of(event::BATCH)
                }
            }
            Feed::End { dto } => {
                self.check_dto(dto)?;
                Event {
                    dto,
                    ..of(event::END)
                }
            }
            Feed::WindowEnd { .. } if self.start.resident.is_none() => {
                return Err(brokers_fault(
                    "ended a window of a function that does not stay",
                ));
            }
            Feed::WindowEnd { id, from, to } => {
                self.window = Some(Window {
                    id,
                    answer: Answer::default(),
                    checkpoint: None,
                });
                Event {
                    id,
                    from,
                    to,
                    ..of(event::WINDOW_END)
                }
            }
            Feed::Finish => of(event::FINISH),
        })
    }

    fn check_dto(&self, dto: u32) -> Result<(), End> {
        if (dto as usize) < self.start.dtos.len() {
            Ok(())
        } else {
            Err(brokers_fault("named a DTO that the task does not have"))
        }
    }

    fn show_batch(&mut self, descriptors: Vec<OwnedFd>, length: u64) -> Result<(), End> {
        let Ok([batch]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err(brokers_fault("sent a batch without its file"));
        };
        let before = Instant::now();
        check_batch(&batch, length)?;
        self.machine.attach(batch, length).map_err(|e| killed(&e))?;
        self.spent.transfer += before.elapsed();
        self.input = length;
        self.batches += 1;
        self.input_bytes += length;
        Ok(())
    }

    fn show_state(&self, state: &[u8]) -> Result<Event, End> {
        let span = self.layout().span(Part::State);
        if state.len() as u64 > span.length {
            return Err(Exit::Killed {
                reason: "the checkpoint to go on with is larger than limits.output".to_owned(),
            });
        }
        self.machine
            .memory()
            .copy_in(span.offset, state)
            .map_err(|e| killed(&e))?;
        Ok(Event {
            kind: event::RESTORE,
            address: span.start.0,
            length: state.len() as u64,
            ..Event::default()
        })
    }

    fn log(&mut self, level: u32, text: TextAt) -> Result<(), End> {
        let worth = self.journal.worth(text.length);
        let copied = self.copy_text(TextAt {
            length: worth,
            ..text
        })?;
        match self.journal.take(text.length, &copied) {
            Some(text) => self.report(&TenderReport::Log { level, text }),
            None => Ok(()),
        }
    }

    fn symbols(&self) -> Symbols {
        self.template.symbols()
    }

    fn layout(&self) -> &'a Layout {
        &self.template.sheet.layout
    }

    /// The innermost code of the function itself in a list of addresses that
    /// the function gave: a hint, so that a list that cannot be read is none.
    fn place(&self, callers: TextAt) -> Option<String> {
        let length = callers.length.min(CALLERS_MAX) & !7;
        let bytes = self.copy_text(TextAt { length, ..callers }).ok()?;
        let addresses = bytes.chunks_exact(8).map(|c| {
            c.iter()
                .rev()
                .fold(0, |address, b| address << 8 | u64::from(*b))
        });
        self.symbols().of_the_author(addresses)
    }

    /// The function's last words.
    fn text(&self, text: TextAt) -> Result<String, End> {
        let length = text.length.min(TEXT_MAX);
        Ok(harmless(&self.copy_text(TextAt { length, ..text })?))
    }

    fn copy_text(&self, text: TextAt) -> Result<Vec<u8>, End> {
        if text.length == 0 {
            return Ok(Vec::new());
        }
        let at = self.layout().offset_of(text.address, text.length);
        let at = at.ok_or_else(|| {
            misuse(format_args!(
                "its text of {} bytes at {} lies outside of its memory",
                text.length, text.address
            ))
        })?;
        let mut bytes = vec![0; text.length as usize];
        self.machine
            .memory()
            .copy_out(at, &mut bytes)
            .map_err(|e| killed(&e))?;
        Ok(bytes)
    }

    /// Pages that the function can write and that are there, bytes.
    fn high_water(&self) -> u64 {
        let writable = self
            .layout()
            .spans
            .iter()
            .filter(|s| s.access == Access::Write);
        let functions = writable.filter(|s| !s.is_monitors());
        // A figure for people: where the kernel does not say, it is nothing.
        functions
            .filter_map(|s| self.machine.memory().resident(s.offset, s.length).ok())
            .sum()
    }
}

impl Spent {
    fn breakdown(&self) -> Breakdown {
        Breakdown {
            queue_us: 0,
            retrieve_us: self.retrieve.as_micros() as u64,
            boot_us: self.boot.as_micros() as u64,
            transfer_us: self.transfer.as_micros() as u64,
            compute_us: self.compute.as_micros() as u64,
        }
    }
}

/// A batch must be what was announced, and must not be writable through this
/// descriptor.
fn check_batch(batch: &OwnedFd, length: u64) -> Result<(), End> {
    let size = rustix::fs::fstat(batch).map(|s| s.st_size as u64);
    if size != Ok(length) {
        return Err(brokers_fault(
            "sent a batch of another length than announced",
        ));
    }
    let flags = rustix::fs::fcntl_getfl(batch.as_fd());
    let mode = flags.map(|f| f & rustix::fs::OFlags::RWMODE);
    if mode != Ok(rustix::fs::OFlags::RDONLY) {
        return Err(brokers_fault("sent a batch that can be written"));
    }
    Ok(())
}

fn misuse(rule: impl std::fmt::Display) -> End {
    Exit::Misuse {
        message: rule.to_string(),
    }
}

/// The tender, or the host, could not go on.
fn killed(why: &dyn std::error::Error) -> End {
    Exit::Killed {
        reason: why.to_string(),
    }
}

fn brokers_fault(what: &str) -> End {
    Exit::Killed {
        reason: format!("the broker {what}"),
    }
}
