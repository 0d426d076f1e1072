//! The rules of the gate: which call a function may make when.
//!
//! ```text
//! Working ── NEXT ──▶ (host answers with an event) ──▶ Working | Window | Saving | Finishing
//! Window    ── ANSWER ──▶ Working          (the answer is optional)
//! Saving    ── STATE ───▶ Working          (the checkpoint is not)
//! Finishing ── ANSWER ──▶ Answered ── DONE ──▶ the end
//! ```
//! Pure: a copy of the mailbox goes in, what the host has to do comes out.

use fades_abi::gate::{Mailbox, event, op};

use crate::address::GuestAddr;

/// What a function has been asked and may therefore do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Started, or serving an event that asks for nothing.
    #[default]
    Working,
    /// A window ended: it may answer once.
    Window,
    /// A checkpoint is due.
    Saving,
    /// Everything has come: an answer is due.
    Finishing,
    /// It has answered for good.
    Answered,
}

/// A text in the function's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextAt {
    pub(crate) address: GuestAddr,
    pub(crate) length: u64,
}

/// Where an answer lies in the output window, not yet checked against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerAt {
    pub(crate) length: u64,
    pub(crate) readings: u64,
    pub(crate) readings_length: u64,
}

/// A call that the rules allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Next,
    Log { level: u32, text: TextAt },
    WindowAnswer(AnswerAt),
    Answer(AnswerAt),
    State { length: u64 },
    Done,
    Abort(TextAt),
    Panic(TextAt),
    OutOfMemory { size: u64, callers: TextAt },
    OutputFull { needed: u64 },
}

/// A rule that a function broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("it made call {0}, which does not exist")]
    UnknownCall(u32),
    #[error("it asked for the next event after the last one")]
    NextAfterFinish,
    #[error("it asked for the next event without having handed over its checkpoint")]
    NextWithoutState,
    #[error("it answered without having been asked")]
    AnswerUnasked,
    #[error("it answered a second time")]
    AnswerTwice,
    #[error("it handed over a checkpoint without having been asked")]
    StateUnasked,
    #[error("it ended before everything had come")]
    DoneEarly,
    #[error("it ended without an answer")]
    DoneUnanswered,
    #[error("it logged at level {0}, which does not exist")]
    LogLevel(u64),
}

impl Phase {
    /// Judges a call, and moves on when it is allowed.
    pub(crate) fn call(&mut self, mailbox: &Mailbox) -> Result<Call, Broken> {
        let [a, b, c, d] = mailbox.args;
        let text = |address, length| TextAt {
            address: GuestAddr(address),
            length,
        };
        match mailbox.op {
            op::NEXT => self.next(),
            op::LOG => match a {
                1..=4 => Ok(Call::Log {
                    level: a as u32,
                    text: text(b, c),
                }),
                level => Err(Broken::LogLevel(level)),
            },
            op::ANSWER => self.answer(AnswerAt {
                length: a,
                readings: b,
                readings_length: c,
            }),
            op::STATE if *self == Self::Saving => {
                *self = Self::Working;
                Ok(Call::State { length: a })
            }
            op::STATE => Err(Broken::StateUnasked),
            op::DONE => match self {
                Self::Answered => Ok(Call::Done),
                Self::Finishing => Err(Broken::DoneUnanswered),
                Self::Working | Self::Window | Self::Saving => Err(Broken::DoneEarly),
            },
            op::ABORT => Ok(Call::Abort(text(a, b))),
            op::PANIC => Ok(Call::Panic(text(a, b))),
            op::OUT_OF_MEMORY => Ok(Call::OutOfMemory {
                size: a,
                callers: text(c, d),
            }),
            op::OUTPUT_FULL => Ok(Call::OutputFull { needed: a }),
            unknown => Err(Broken::UnknownCall(unknown)),
        }
    }

    fn next(&mut self) -> Result<Call, Broken> {
        match self {
            Self::Working | Self::Window => {
                *self = Self::Working;
                Ok(Call::Next)
            }
            Self::Saving => Err(Broken::NextWithoutState),
            Self::Finishing | Self::Answered => Err(Broken::NextAfterFinish),
        }
    }

    fn answer(&mut self, at: AnswerAt) -> Result<Call, Broken> {
        match self {
            Self::Window => {
                *self = Self::Working;
                Ok(Call::WindowAnswer(at))
            }
            Self::Finishing => {
                *self = Self::Answered;
                Ok(Call::Answer(at))
            }
            Self::Answered => Err(Broken::AnswerTwice),
            Self::Working | Self::Saving => Err(Broken::AnswerUnasked),
        }
    }

    /// The host answered `NEXT` with an event of this kind.
    pub(crate) const fn told(&mut self, kind: u32) {
        *self = match kind {
            event::WINDOW_END => Self::Window,
            event::SAVE => Self::Saving,
            event::FINISH => Self::Finishing,
            _ => Self::Working,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(op: u32, args: [u64; 4]) -> Mailbox {
        Mailbox {
            op,
            args,
            ..Mailbox::default()
        }
    }

    fn after(phase: Phase, op: u32) -> (Result<Call, Broken>, Phase) {
        let mut phase = phase;
        let call = phase.call(&mailbox(op, [1, 64, 3, 4]));
        (call, phase)
    }

    const ANSWER: AnswerAt = AnswerAt {
        length: 1,
        readings: 64,
        readings_length: 3,
    };

    #[test]
    fn every_call_is_judged_in_every_phase() {
        use Phase::{Answered, Finishing, Saving, Window, Working};
        let table = [
            (Working, op::NEXT, Ok(Call::Next), Working),
            (Window, op::NEXT, Ok(Call::Next), Working),
            (Saving, op::NEXT, Err(Broken::NextWithoutState), Saving),
            (Finishing, op::NEXT, Err(Broken::NextAfterFinish), Finishing),
            (Answered, op::NEXT, Err(Broken::NextAfterFinish), Answered),
            (Working, op::ANSWER, Err(Broken::AnswerUnasked), Working),
            (Window, op::ANSWER, Ok(Call::WindowAnswer(ANSWER)), Working),
            (Saving, op::ANSWER, Err(Broken::AnswerUnasked), Saving),
            (Finishing, op::ANSWER, Ok(Call::Answer(ANSWER)), Answered),
            (Answered, op::ANSWER, Err(Broken::AnswerTwice), Answered),
            (Working, op::STATE, Err(Broken::StateUnasked), Working),
            (Window, op::STATE, Err(Broken::StateUnasked), Window),
            (Saving, op::STATE, Ok(Call::State { length: 1 }), Working),
            (Finishing, op::STATE, Err(Broken::StateUnasked), Finishing),
            (Working, op::DONE, Err(Broken::DoneEarly), Working),
            (Window, op::DONE, Err(Broken::DoneEarly), Window),
            (Saving, op::DONE, Err(Broken::DoneEarly), Saving),
            (Finishing, op::DONE, Err(Broken::DoneUnanswered), Finishing),
            (Answered, op::DONE, Ok(Call::Done), Answered),
        ];
        for (phase, op, call, next) in table {
            assert_eq!(after(phase, op), (call, next), "{phase:?}, call {op}");
        }
    }

    #[test]
    fn a_function_may_give_up_or_log_at_any_time_and_nothing_else_exists() {
        for phase in [
            Phase::Working,
            Phase::Saving,
            Phase::Finishing,
            Phase::Answered,
        ] {
            for op in [
                op::LOG,
                op::ABORT,
                op::PANIC,
                op::OUT_OF_MEMORY,
                op::OUTPUT_FULL,
            ] {
                let (call, next) = after(phase, op);
                assert!(call.is_ok() && next == phase, "{phase:?}, call {op}");
            }
            for op in [0, 10, u32::MAX] {
                assert_eq!(after(phase, op).0, Err(Broken::UnknownCall(op)));
            }
        }
        let mut phase = Phase::Working;
        let loud = mailbox(op::LOG, [5, 0, 0, 0]);
        assert_eq!(phase.call(&loud), Err(Broken::LogLevel(5)));
    }

    #[test]
    fn events_say_what_is_due() {
        for (kind, phase) in [
            (event::BATCH, Phase::Working),
            (event::END, Phase::Working),
            (event::WINDOW_END, Phase::Window),
            (event::SAVE, Phase::Saving),
            (event::RESTORE, Phase::Working),
            (event::FINISH, Phase::Finishing),
        ] {
            let mut told = Phase::Window;
            told.told(kind);
            assert_eq!(told, phase);
        }
    }
}
